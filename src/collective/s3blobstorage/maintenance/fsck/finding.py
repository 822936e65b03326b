"""What came of it: one structure for terminal, JSON, jobs and tests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any

from ZODB.utils import oid_repr, tid_repr

from ..content import Content
from ..findings import REST, REVISION, Count, committed, revision_of, revision_row
from ..kept import KeptRevision
from ..spool import Spool, Table

# Kinds of findings, as they are shown. Of each revision one: the first that holds.
DAMAGED = "damaged-record"  # the record cannot be read, so nobody knows which object it needs
MISSING = "missing"  # neither the bucket nor a source has it
NO_REFERENCE = "missing-reference"  # it shares an object, and nothing keeps gc from deleting that
TRUNCATED = "truncated"  # the object has less bytes than the record says
WRONG_SIZE = "wrong-size"  # it has more
WRONG_ENCRYPTION = "wrong-encryption"  # it cannot be read with what zope.conf says
WRONG_METADATA = "wrong-metadata"  # its metadata contradict the record, or its own bytes
WRONG_BYTES = "wrong-bytes"  # it has other bytes
KINDS = (DAMAGED, MISSING, NO_REFERENCE, TRUNCATED, WRONG_SIZE, WRONG_ENCRYPTION, WRONG_METADATA, WRONG_BYTES)

# Of findings and keys so many are in a document; of more only the number is. ``Report.each`` gives all.
LISTED = 1000


@dataclass(frozen=True, slots=True)
class Finding:
    """One kept revision that cannot be read as it was stored.

    ``key``: of its object, relative to the prefix; "" where its record is damaged. ``object_size``: bytes of the blob
    that the object has, as far as that can be told, else those of the store. ``etag``: of the object that was looked
    at; "" where there is none. ``detail``: for people.
    """

    kind: str
    revision: KeptRevision
    key: str
    object_size: int | None = None
    etag: str = ""
    detail: str = ""

    @property
    def row(self) -> tuple[Any, ...]:
        return (*revision_row(self.revision), self.kind, self.key, self.object_size, self.etag, self.detail)

    @classmethod
    def from_row(cls, row: tuple[Any, ...]) -> Finding:
        kind, key, size, etag, detail = row[REST : REST + 5]
        return cls(kind, revision_of(row), key, size, etag, detail)


def finding_table(spool: Spool) -> Table:
    return spool.table(*REVISION, "kind TEXT", "key TEXT", "object_size INTEGER", "etag TEXT", "detail TEXT")


def as_json(finding: Finding, content: Content | None = None, mended: Any = None) -> dict[str, Any]:
    """One line of ``--ndjson``. ``content``: what it belongs to, ``mended``: what became of it; None: not known, and
    nothing was tried."""
    revision = finding.revision
    return {
        "kind": finding.kind,
        "oid": oid_repr(revision.oid),
        "tid": tid_repr(revision.tid),
        "date": committed(revision.tid),
        "key": finding.key or None,
        "record_size": revision.size,
        "object_size": finding.object_size,
        "content": None if content is None else asdict(content),
        "detail": finding.detail,
        "repair": None if mended is None else asdict(mended),
    }


@dataclass
class Reading:
    """What ``deep`` read. ``objects``: all, wrong ones too; the next three: those that are right, by what proved it:
    the SHA-256 of the record, that of the object's metadata, or nothing but the size. ``sample``: the share in percent.
    ``begun_after``: the key behind which it began, "" at the first one.
    """

    objects: Count = field(default_factory=Count)
    by_record: int = 0
    by_metadata: int = 0
    by_size: int = 0
    sample: float = 100.0
    begun_after: str = ""


@dataclass
class Shared:
    """Shared objects of the prefix, their bytes, how many references name them, and how many name what is not there.
    Of an ``--oid-range`` the references are those of its blobs."""

    objects: int = 0
    bytes: int = 0
    references: int = 0
    broken: int = 0


@dataclass
class Report:
    """``revisions``: kept ones; ``inline``: in their records; ``there``: whose object has the right size; ``old``: only
    under a key of zodb-s3blobs; ``elsewhere``: only in a source; ``gone``: that a pack removed meanwhile.

    ``unknown``: of which could not be told whether they are right; ``unknown_of``: the first of them, with the reason.
    ``waiting``: objects that are not encrypted as they would be now, which ``keys rotate`` changes; of those that were
    read, where any were.

    ``shared``: None where blobs share nothing.

    ``orphaned``: objects that no kept revision needs, references of such, and shared objects that nothing refers to
    (gc's business); ``foreign``: what this package did not write;
    ``not_adopted``: under keys of zodb-s3blobs, which nobody reads. ``uploads``: unfinished multipart uploads, None
    where they cannot be listed.

    ``found``: findings by kind. ``repaired``: what became of them, by ``Mended.what``; None where nothing was to be
    repaired. ``after``: behind which key a stopped ``deep`` goes on, "" where it came to its end. ``outage``: why it
    ended early, where the store was out.
    """

    revisions: int = 0
    inline: int = 0
    there: Count = field(default_factory=Count)
    old: Count = field(default_factory=Count)
    elsewhere: Count = field(default_factory=Count)
    gone: int = 0
    unknown: int = 0
    unknown_of: list[dict[str, str]] = field(default_factory=list)
    waiting: Count = field(default_factory=Count)
    shared: Shared | None = None
    orphaned: Count = field(default_factory=Count)
    foreign: Count = field(default_factory=Count)
    foreign_keys: list[str] = field(default_factory=list)
    not_adopted: Count = field(default_factory=Count)
    uploads: int | None = None
    found: dict[str, int] = field(default_factory=dict)
    reading: Reading | None = None
    repaired: dict[str, int] | None = None
    after: str = ""
    outage: str = ""
    stopped: bool = False
    told: Table | None = field(default=None, repr=False)  # (oid, tid, JSON) of each finding
    orphan_rows: Table | None = field(default=None, repr=False)  # (oid, key, bytes)

    @property
    def wrong(self) -> int:
        """Findings that are still there."""
        left = sum(self.found.values())
        return left - (self.repaired or {}).get("repaired", 0)

    def each(self) -> Iterator[str]:
        """Every finding as a JSON document in one line, by oid and tid. While the run's spool is open."""
        if self.told is not None:
            for _, _, text in self.told.rows("oid", "tid"):
                yield text

    def orphans(self) -> Iterator[tuple[str, int]]:
        """Key and bytes of every orphaned object, by key."""
        if self.orphan_rows is not None:
            for _, key, size in self.orphan_rows.rows("key"):
                yield key, size

    def cannot_tell(self, revision: KeptRevision, reason: str) -> None:
        self.unknown += 1
        if len(self.unknown_of) < LISTED:
            self.unknown_of.append({"oid": oid_repr(revision.oid), "tid": tid_repr(revision.tid), "reason": reason})


def document(report: Report, *, listed: int = LISTED, orphans: bool = False) -> dict[str, Any]:
    """The report as every surface has it. ``listed``: so many findings at most; ``orphans``: name them too."""
    reading = report.reading
    told: dict[str, Any] = {
        "kept_revisions": report.revisions,
        "inline": report.inline,
        "there": asdict(report.there),
        "zodb_s3blobs": asdict(report.old),
        "elsewhere": asdict(report.elsewhere),
        "gone": report.gone,
        "found": {kind: report.found.get(kind, 0) for kind in KINDS},
        "findings": [json.loads(text) for text in islice(report.each(), listed)],
        "unknown": report.unknown,
        "unknown_of": report.unknown_of[:listed],
        "read": None
        if reading is None
        else {
            **asdict(reading.objects),
            "sample": reading.sample,
            "begun_after": reading.begun_after or None,
            "proven": {"record": reading.by_record, "metadata": reading.by_metadata, "size_only": reading.by_size},
        },
        "waiting_for_rotate": asdict(report.waiting),
        "orphaned": asdict(report.orphaned),
        "foreign": asdict(report.foreign),
        "foreign_keys": report.foreign_keys[:listed],
        "not_adopted": asdict(report.not_adopted),
        "unfinished_uploads": report.uploads,
        "repaired": report.repaired,
        "after": report.after or None,
        "outage": report.outage or None,
        "stopped": report.stopped,
    }
    if report.shared is not None:
        told["shared"] = asdict(report.shared)
    if orphans:
        told["orphans"] = [{"key": key, "bytes": size} for key, size in report.orphans()]
    return told
