"""Which part of a database a run is about. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from ZODB.utils import maxtid, z64

LAST_OID = b"\xff" * 8


@dataclass(frozen=True, slots=True)
class Scope:
    """The oids from ``first`` to ``last``, both included, and revisions committed at the tid ``since`` or later."""

    first: bytes = z64
    last: bytes = LAST_OID
    since: bytes = z64

    @property
    def whole(self) -> bool:
        return (self.first, self.last, self.since) == (z64, LAST_OID, z64)

    def has(self, oid: bytes, tid: bytes = maxtid) -> bool:
        return self.first <= oid <= self.last and tid >= self.since

    def meets(self, prefix: bytes) -> bool:
        """Whether an oid that begins with these bytes may be in it."""
        length = len(prefix)
        return self.first[:length] <= prefix <= self.last[:length]
