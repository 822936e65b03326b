"""A finished upload, held by its ETag. See ``IStagedObject``."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import BinaryIO

from zope.interface import implementer

from ..errors import ObjectMissing, PreconditionFailed, StoreError
from ..objectstore.download import write_whole
from ..objectstore.interfaces import IObjectStore, ObjectInfo
from ..objectstore.rangedfile import ranged
from .interfaces import IStagedObject, UploadWrong

_OTHER_BYTES = "what was uploaded is not what was announced: its SHA-256 differs"


@implementer(IStagedObject)
class StagedObject:
    """``blobs``: where it is copied to (``store``); ``area``: the same bucket, as what is uploaded is encrypted there.

    ``again``: somebody may still store another object there, perhaps with the same ETag: then its date is compared too.
    """

    def __init__(self, blobs: IObjectStore, area: IObjectStore, info: ObjectInfo, *, again: bool = False) -> None:
        self.store = blobs
        self._area = area
        self._key = info.key
        self._again = again
        self._stored = info.last_modified if again else None
        self._beginning = b""
        self._announced: bytes | None = None  # what is still to be compared, when its bytes pass through here
        self.size = info.size
        self.etag = info.etag
        self.sha256: bytes | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.size} bytes>"

    def compare(self, announced: bytes, *, provable: bool) -> None:
        """Compare its SHA-256 with the announced one, now or when it is copied. UploadWrong where it differs.

        ``provable``: whether the store may have compared it, since it came in one request.
        """
        self.sha256 = self._area.proven_sha256(self._key, self.etag) if provable else None
        if self.sha256 is None and self.store.encryption.seals:
            self._announced = announced
            return
        if self.sha256 is None:
            digest = hashlib.sha256()
            self._read(digest.update)
            self.sha256 = digest.digest()
        if self.sha256 != announced:
            raise self._other_bytes()

    def _other_bytes(self) -> UploadWrong:
        return UploadWrong(_OTHER_BYTES, final=not self._again)

    def _read(self, write: Callable[[bytes | memoryview], None]) -> None:
        self._area.get_range(self._key, 0, self.size, write, size=self.size, if_match=self.etag)

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
        described = {**metadata, "size": str(self.size)}
        if self.sha256 is not None:
            described["sha256"] = self.sha256.hex()
        try:
            copied = self.store.copy(
                self._key, key, if_match=self.etag, metadata=described, source_store=self._area, progress=progress
            )
            if self._announced is not None and copied.sha256 != self._announced:
                raise self._other_bytes()
            self._check_still()
        except ObjectMissing:
            raise  # nothing was made of it
        except BaseException:
            # An answer may have been lost, and the copy be there. What cannot be deleted now is left to gc.
            with suppress(StoreError):
                self.store.delete([key])
            raise
        return copied if self.sha256 is None else replace(copied, sha256=self.sha256)

    def download(self, target: BinaryIO) -> None:
        digest = hashlib.sha256()

        def write(block: bytes | memoryview) -> None:
            digest.update(block)
            write_whole(target, bytes(block))

        self._read(write)
        if self._announced is not None and digest.digest() != self._announced:
            raise self._other_bytes()
        self._check_still()

    def _check_still(self) -> None:
        """Raise PreconditionFailed where what was read and copied may have been another object than was looked at."""
        if self._stored is None:
            return
        there = self._area.head(self._key)
        if there is None or (there.etag, there.last_modified) != (self.etag, self._stored):
            raise PreconditionFailed("The object was changed.")
