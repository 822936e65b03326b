"""What two lines, a record's and a listing's, tell of a kept revision. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from ...encryption.interfaces import IEncryption
from ...encryption.segments import sealed_size
from ..compare import Place
from .finding import DAMAGED, MISSING, TRUNCATED, WRONG_ENCRYPTION, WRONG_SIZE

RIGHT = ""


@dataclass(frozen=True, slots=True)
class Wanted:
    """How blobs are written now, as far as sizes tell. ``opens``: there is a ring, so that sealed ones can be read."""

    opens: bool
    seals: bool
    required: bool

    @classmethod
    def of(cls, encryption: IEncryption) -> Wanted:
        return cls(encryption.ring is not None, encryption.seals, encryption.required)

    def judge(self, place: Place) -> str:
        """A kind of findings, or ``RIGHT``."""
        revision = place.revision
        if revision.damaged:
            return DAMAGED
        if revision.inline:
            return RIGHT
        size, found = revision.size, place.object_size
        if found is None:
            return MISSING if place.old_size is None else RIGHT
        if size is None:
            return RIGHT  # nobody but the object itself knows its size
        if found != size:
            return self.of_size(size, place.stored or 0)
        return WRONG_ENCRYPTION if self.seals and self.required and self.in_clear(place) else RIGHT

    def of_size(self, size: int, stored: int) -> str:
        """Of an object of ``stored`` bytes that is not one of a blob of ``size`` bytes."""
        if not self.opens and stored == sealed_size(size):
            return WRONG_ENCRYPTION
        return TRUNCATED if stored < (sealed_size(size) if self.seals else size) else WRONG_SIZE

    def in_clear(self, place: Place) -> bool:
        """Whether an object of the right size was not encrypted before it was sent."""
        return place.stored == place.revision.size
