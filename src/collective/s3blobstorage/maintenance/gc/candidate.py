"""One thing that a plan condemned, as a line of the plan has it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ...keys import BLOBS
from .ledger import UPLOAD
from .references import OLD

# What is to become of a shared object, see ``sharing``.
MARK = "mark"
DELETE = "delete"

# And what stands for a hidden version, where it is not a shared object: the revision's own one.
OWN = "own"


@dataclass(frozen=True, slots=True)
class Candidate:
    """One that is condemned: an object; with ``upload`` an unfinished multipart upload; with ``version`` a version;
    with ``shared`` a shared object, and MARK or DELETE. Of a version that is hidden ``shared`` says what has the bytes
    of its revision by now: the name of a shared object, or OWN; "" where nothing has.

    Times since 1970. A version that is ``hidden`` lies below a delete marker and not below an object; ``last``: it is
    that marker, which goes after what it hides. ``since``: of a shared object that is to be deleted when its mark was
    written; of one that is to be marked when the plan was made.
    """

    key: str
    size: int
    etag: str
    modified: int
    since: int
    seen: bool
    upload: str = ""
    version: str = ""
    hidden: bool = False
    last: bool = False
    shared: str = ""

    def to_line(self) -> str:
        told: dict[str, Any] = {"key": self.key, "size": self.size, "etag": self.etag, "modified": self.modified}
        told |= {"since": self.since, "seen": self.seen}
        if self.upload:
            told["upload"] = self.upload
        if self.version:
            told |= {"kind": "version", "version": self.version, "hidden": self.hidden, "last": self.last}
        elif self.shared:
            told["kind"] = "shared"
        if self.shared:
            told["shared"] = self.shared
        return json.dumps(told, separators=(",", ":"))

    @classmethod
    def from_line(cls, line: str) -> Candidate:
        told = json.loads(line)
        return cls(
            str(told["key"]),
            int(told["size"]),
            str(told["etag"]),
            int(told["modified"]),
            int(told["since"]),
            bool(told["seen"]),
            str(told.get("upload", "")),
            str(told.get("version", "")),
            bool(told.get("hidden")),
            bool(told.get("last")),
            str(told.get("shared", "")),
        )

    def document(self) -> dict[str, Any]:
        """For JSON: what it is, and since when nothing refers to it."""
        oid = None if self.upload else oid_of(self.key)
        return {
            "key": self.key,
            "oid": None if oid is None else oid.hex(),
            "size": self.size,
            "modified": date(self.modified),
            "since": date(self.since),
            "upload": bool(self.upload),
            "version": self.version or None,
            "shared": self.shared or None,
        }

    @property
    def is_dated(self) -> bool:
        """Whether the ledger says since when."""
        return not (self.version or self.shared)

    @property
    def is_asked(self) -> bool:
        """Whether the database decides about it."""
        return not (self.upload or self.shared) and (self.hidden or not self.version)

    @property
    def entry_key(self) -> str:
        """Its key in the ledger, and the order of a plan. The ledger has no versions; theirs sort behind all others."""
        if self.version:
            return f"version {self.key} {self.version}"
        return upload_entry(self.key, self.upload) if self.upload else self.key


def date(seconds: int | None) -> str | None:
    """For JSON, of seconds since 1970; None of None."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat()


def upload_entry(key: str, upload_id: str) -> str:
    return f"{UPLOAD}{key} {upload_id}"


def oid_of(key: str) -> bytes | None:
    """Of a key that is judged; None of what checks of the store left."""
    return oid_of_folder(key[: key.rfind("/")])


def oid_of_folder(folder: str) -> bytes | None:
    """Of such a key without its last part."""
    if not folder.startswith(BLOBS):
        return None
    digits = folder[len(BLOBS) :]
    return bytes.fromhex(digits if len(digits) == 16 else digits.rjust(16, "0"))


def shared_in(key: str) -> str:
    """Of a reference the name of the shared object; "" of any other key that is judged."""
    name = key[key.rfind("/") + 1 :]
    return "" if name.endswith(OLD) else name.partition(".")[2]


def name_of(key: str) -> str:
    """As ``View.used`` knows it. Of a reference: of the revision that refers."""
    name = key[key.rfind("/") + 1 :]
    if name.endswith(OLD):
        return name[: -len(OLD)].rjust(16, "0") + OLD
    return name.partition(".")[0]
