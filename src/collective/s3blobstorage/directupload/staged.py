"""A finished upload, held by its ETag. See ``IStagedObject``."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import BinaryIO

from zope.interface import implementer

from ..errors import PreconditionFailed
from ..objectstore.interfaces import IObjectStore, ObjectInfo
from ..objectstore.rangedfile import LARGEST, ranged
from .interfaces import IStagedObject, UploadWrong

_OTHER_BYTES = "what was uploaded is not what was announced: its SHA-256 differs"


@implementer(IStagedObject)
class StagedObject:
    """``blobs``: where it is copied to; ``area``: the same bucket, as what is uploaded is encrypted there.

    ``announced``: the SHA-256 that its bytes must have, where the copy is to compare it.
    """

    def __init__(self, blobs: IObjectStore, area: IObjectStore, info: ObjectInfo) -> None:
        self._blobs = blobs
        self._area = area
        self._key = info.key
        self._beginning = b""
        self.size = info.size
        self.etag = info.etag
        self.sha256 = info.sha256
        self.announced: bytes | None = None

    @property
    def hashed_while_copied(self) -> bool:
        """Whether its bytes come through this process when it is copied."""
        return self._blobs.encryption.seals

    def check(self, announced: bytes) -> None:
        """Compare its SHA-256: as the store computed it, else by reading it once. UploadWrong where it differs."""
        if self.sha256 is None:
            digest = hashlib.sha256()
            with self.open() as file:
                while block := file.read(LARGEST):
                    digest.update(block)
            self.sha256 = digest.digest()
        if self.sha256 != announced:
            raise UploadWrong(_OTHER_BYTES)

    def beginning(self, length: int = 4096) -> bytes:
        length = min(length, self.size)
        if len(self._beginning) < length:
            block = bytearray()
            self._area.get_range(self._key, 0, length, block.extend, size=self.size, if_match=self.etag)
            self._beginning = bytes(block)
        return self._beginning[:length]

    def open(self) -> BinaryIO:
        return ranged(self._area, self._key, self.size, self.etag)

    def copy_to(self, key: str, metadata: dict[str, str], progress: Callable[[int], None] | None = None) -> ObjectInfo:
        copied = self._blobs.copy(
            self._key, key, if_match=self.etag, metadata=metadata, source_store=self._area, progress=progress
        )
        if self.announced is not None and copied.sha256 not in (None, self.announced):
            self._blobs.delete([key])
            raise UploadWrong(_OTHER_BYTES)
        return copied

    def download(self, target: BinaryIO) -> None:
        info = self._area.get_file(self._key, target, size=self.size, sha256=self.sha256)
        if info.etag != self.etag:
            raise PreconditionFailed("The object was changed.")
