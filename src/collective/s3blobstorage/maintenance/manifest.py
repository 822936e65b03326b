"""A manifest: every blob revision that a database referred to at one transaction, as lines of JSON with a digest.

The first line says what it is, then comes a line for each revision, sorted by oid and tid, and the last line counts
them and ends with the SHA-256 over all bytes before ``,"sha256":"``, those counts included. So a manifest that was cut
or changed in any byte is told from a whole one; it is no signature: who can write the file can write another digest.
docs/manifest.md describes the format.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from typing import Any, BinaryIO

from ..errors import RecordError, StagingError
from ..keys import OBJECTS, is_name, is_shared_name, read_object_key, reference_key
from .content import Content
from .findings import Count, committed
from .kept import KeptRevision
from .spool import Spool, Table

FORMAT = 1
_LONGEST = 256 * 1024 * 1024  # bytes of a line: what is inline in a record is in it, by base64
_STEP = 1000  # lines between two calls of ``advance``
_JSON = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
_END = re.compile(rb'(?P<counts>\{"blobs":.*),"sha256":"(?P<sha256>[0-9a-f]{64})"\}\n')


@dataclass(frozen=True, slots=True)
class Header:
    """``tid``: the last transaction that it knows. ``database``: as zope.conf calls it. ``version``: this package's."""

    owner: str | None
    database: str
    tid: bytes
    made: datetime
    version: str

    def to_json(self) -> dict[str, Any]:
        return {
            "manifest": FORMAT,
            "owner": self.owner,
            "database": self.database,
            "tid": self.tid.hex(),
            "committed": committed(self.tid),
            "made": self.made.astimezone(UTC).isoformat(timespec="seconds"),
            "version": self.version,
        }

    @classmethod
    def from_json(cls, told: Any) -> Header:
        """Raises RecordError where it is something else or of a newer format, KeyError, TypeError, ValueError."""
        if not isinstance(told, dict) or not isinstance(told.get("manifest"), int):
            raise RecordError("its first line is not that of a manifest")
        if told["manifest"] > FORMAT:
            raise RecordError("it was written by a newer release of collective.s3blobstorage: upgrade this one")
        owner = told["owner"]
        if not (owner is None or isinstance(owner, str)):
            raise TypeError("owner")
        made = datetime.fromisoformat(told["made"])
        return cls(owner, str(told["database"]), _fixed(told["tid"], 8), made, str(told["version"]))


@dataclass(frozen=True, slots=True)
class Entry:
    """One revision. ``key``: of its object, "" where it has none or it is not known. ``key_id``: of the key that
    encrypts it, None where nobody asked, or it could not be told. ``missing``: its object was not in the bucket.
    ``data``: what its record holds itself. ``shared``: another blob has the same object, and its bytes are counted
    there; no manifest says so.
    """

    revision: KeptRevision
    key: str = ""
    key_id: str | None = None
    content: Content | None = None
    missing: bool = False
    data: bytes | None = None
    shared: bool = False

    def to_json(self) -> dict[str, Any]:
        revision, content = self.revision, self.content
        told: dict[str, Any] = {
            "oid": revision.oid.hex(),
            "tid": revision.tid.hex(),
            "name": revision.name,
            "key": self.key,
            "size": revision.size,
            "sha256": None if revision.sha256 is None else revision.sha256.hex(),
            "key_id": self.key_id,
            "path": None if content is None else content.path,
            "type": "" if content is None else content.portal_type,
            "field": "" if content is None else content.field,
        }
        if revision.object is not None:
            told["object"] = revision.object
        if content is not None and content.past:
            told["past"] = True
        if self.missing:
            told["missing"] = True
        if revision.damaged:
            told["damaged"] = revision.damaged
        if self.data is not None:
            told["inline"] = base64.b64encode(self.data).decode()
        return told

    @classmethod
    def from_json(cls, told: Any) -> Entry:
        """Raises KeyError, TypeError, ValueError, AttributeError where it is something else."""
        sha256, name, inline, shared = told["sha256"], told["name"], told.get("inline"), told.get("object")
        if name is not None and not is_name(name):
            raise ValueError("name")
        if shared is not None and not is_shared_name(shared):
            raise ValueError("object")
        revision = KeptRevision(
            _fixed(told["oid"], 8),
            _fixed(told["tid"], 8),
            name,
            None if told["size"] is None else int(told["size"]),
            None if sha256 is None else _fixed(sha256, 32),
            inline is not None,
            str(told.get("damaged", "")),
            shared,
        )
        content = None
        if told["path"] is not None or told["type"] or told.get("past"):
            content = Content(told["path"], told["type"], told["field"], bool(told.get("past")))
        data = None if inline is None else base64.b64decode(inline, validate=True)
        return cls(revision, str(told["key"]), told["key_id"], content, bool(told.get("missing")), data)


@dataclass
class Totals:
    """Of a manifest's entries. ``sha256``: over all bytes before ``,"sha256":"`` in the last line, in hex."""

    blobs: int = 0
    bytes: int = 0
    missing: int = 0
    damaged: int = 0
    sha256: str = ""

    def add(self, entry: Entry) -> None:
        self.blobs += 1
        self.bytes += entry.revision.size or 0
        self.missing += entry.missing
        self.damaged += bool(entry.revision.damaged)

    def counts(self) -> dict[str, int]:
        return {"blobs": self.blobs, "bytes": self.bytes, "missing": self.missing, "damaged": self.damaged}

    def to_json(self) -> dict[str, Any]:
        return {**self.counts(), "sha256": self.sha256}


def write(file: BinaryIO, header: Header, entries: Iterable[Entry]) -> Totals:
    """Write a whole manifest at the file's position. Raises StagingError where the disk does not take it."""
    digest, totals = hashlib.sha256(), Totals()

    def add(text: bytes) -> None:
        digest.update(text)
        with _disk():
            file.write(text)

    add(_text(header.to_json()) + b"\n")
    for entry in entries:
        totals.add(entry)
        add(_text(entry.to_json()) + b"\n")
    add(_text(totals.counts()).removesuffix(b"}"))
    totals.sha256 = digest.hexdigest()
    add(b',"sha256":"%s"}\n' % totals.sha256.encode())
    with _disk():
        file.flush()
    return totals


def _text(told: dict[str, Any]) -> bytes:
    return _JSON.encode(told).encode("utf-8", "surrogatepass")


class Manifest:
    """One that is whole: ``opened`` has compared its digest. ``name``: where it is, for messages."""

    def __init__(self, file: BinaryIO, name: str, header: Header, totals: Totals) -> None:
        self.name = name
        self.header = header
        self.totals = totals
        self._file = file

    @classmethod
    def opened(cls, file: BinaryIO, name: str, advance: Callable[[int], None] = lambda count: None) -> Manifest:
        """Read it once to its end. Raises RecordError where it was changed or cut, or is none.

        ``advance(n)`` is called with increments of lines.
        """
        try:
            return cls._opened(file, name, advance)
        except RecordError as error:
            raise RecordError(f"the manifest {name} cannot be used: {error}") from None
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise RecordError(
                f"the manifest {name} cannot be used: it is damaged, or no manifest ({type(error).__name__})"
            ) from None

    @classmethod
    def _opened(cls, file: BinaryIO, name: str, advance: Callable[[int], None]) -> Manifest:
        digest, header, last, count = hashlib.sha256(), None, b"", 0
        file.seek(0)
        for line in _lines(file):
            if header is None:
                header = Header.from_json(json.loads(line))
            if last:
                digest.update(last)
            last = line
            count += 1
            if count % _STEP == 0:
                advance(_STEP)
        # Byte for byte: what JSON would read otherwise in the same way, such as a blank, is a change as well.
        end = _END.fullmatch(last)
        if header is None or end is None:
            raise RecordError("its last line is missing: it was cut")
        digest.update(end["counts"])
        if digest.hexdigest().encode() != end["sha256"]:
            raise RecordError("it was changed after it was written: its digest is another one")
        totals = Totals(**json.loads(last))
        if totals.blobs != count - 2:
            raise RecordError(f"it says that it has {totals.blobs} blobs, and has {count - 2}")
        return cls(file, name, header, totals)

    def entries(self) -> Iterator[Entry]:
        """In the order of oids and tids. One reader at a time. Raises RecordError."""
        self._file.seek(0)
        lines = _lines(self._file)
        next(lines)
        for _ in range(self.totals.blobs):
            try:
                yield Entry.from_json(json.loads(next(lines)))
            except (KeyError, TypeError, ValueError, AttributeError):
                raise RecordError(f"the manifest {self.name} has a line that is not of its format") from None


def _lines(file: BinaryIO) -> Iterator[bytes]:
    while line := file.readline(_LONGEST):
        if not line.endswith(b"\n"):
            raise RecordError("its last line is missing: it was cut")
        yield line


def _fixed(text: str, size: int) -> bytes:
    value = bytes.fromhex(text)
    if len(value) != size:
        raise ValueError("length")
    return value


@contextmanager
def _disk() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StagingError(f"the manifest cannot be written: {error.strerror}") from None


# Two manifests


def added(later: Iterable[Entry], earlier: Iterable[Entry], count: Count) -> Iterator[tuple[str, int | None]]:
    """Key and size of each object that ``later`` has and ``earlier`` has not, each once, in the order of oids; counted
    in ``count``. What was missing then and is there now is new. Of a blob whose bytes are shared it is its reference;
    the shared objects come last. Memory: one blob's revisions, and what the disk has of shared ones."""
    with Spool() as spool:
        now, then = spool.table("key TEXT", "size INTEGER"), spool.table("key TEXT")
        before = _by_oid(_noted(earlier, lambda entry: then.add(entry.key)))
        known = next(before, None)
        for oid, entries in _by_oid(_noted(later, lambda entry: now.add(entry.key, entry.revision.size))):
            while known is not None and known[0] < oid:
                known = next(before, None)
            of_then = known[1] if known is not None and known[0] == oid else []
            had = {_own_key(entry) for entry in of_then if not entry.missing}
            for entry in entries:
                key = _own_key(entry)
                if key and not entry.missing and key not in had:
                    had.add(key)
                    size = entry.revision.size if key == entry.key else 0
                    count.add(size)
                    yield key, size
        for _ in before:
            pass  # what shares is noted
        yield from _new(now, then, count)


def _noted(entries: Iterable[Entry], note: Callable[[Entry], None]) -> Iterator[Entry]:
    """And note what shares its bytes."""
    for entry in entries:
        if entry.key.startswith(OBJECTS) and not entry.missing:
            note(entry)
        yield entry


def _own_key(entry: Entry) -> str:
    """What the bucket has for this revision alone."""
    shared = read_object_key(entry.key)
    return entry.key if shared is None else reference_key(entry.revision.oid, entry.revision.object_name, shared)


def _new(now: Table, then: Table, count: Count) -> Iterator[tuple[str, int | None]]:
    had = (row[0] for row in then.rows("key"))
    known = next(had, None)
    for key, rows in groupby(now.rows("key"), key=lambda row: row[0]):
        while known is not None and known < key:
            known = next(had, None)
        if known != key:
            size = next(rows)[1]
            count.add(size)
            yield key, size


def _by_oid(entries: Iterable[Entry]) -> Iterator[tuple[bytes, list[Entry]]]:
    oid, group = b"", []
    for entry in entries:
        if entry.revision.oid != oid:
            if group:
                yield oid, group
            oid, group = entry.revision.oid, []
        group.append(entry)
    if group:
        yield oid, group
