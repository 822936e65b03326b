"""Sealed objects as the bucket has them, and a reader of them as ``objectstore/sealed.py`` puts its parts together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from collective.s3blobstorage.encryption import segments
from collective.s3blobstorage.encryption.envelope import DataKey, unwrap
from collective.s3blobstorage.encryption.ring import KeyRing, RingKey
from collective.s3blobstorage.encryption.segments import HEADER, SEALED_SEGMENT, Opener, plain_size, span


@dataclass(frozen=True)
class SealedObject:
    """``key``: under the prefix. ``envelope`` and ``hidden``: its metadata ``sealed`` and ``sealed-sha256``."""

    key: str
    envelope: str
    hidden: str
    stored: bytes

    @property
    def parts(self) -> list[bytes]:
        """Header and segments, each with its tag."""
        return [self.stored[:HEADER], *self.segments]

    @property
    def segments(self) -> list[bytes]:
        body = self.stored[HEADER:]
        return [body[at : at + SEALED_SEGMENT] for at in range(0, len(body), SEALED_SEGMENT)]


def seal(by: RingKey, key: str, plain: bytes, sha256: bytes) -> SealedObject:
    data_key = DataKey.draw()
    stored = segments.sealed(data_key.cipher, data_key.commitment, plain)
    return SealedObject(key, data_key.wrapped(by, key), data_key.hide(sha256), stored)


def blocks(data: bytes, size: int) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


def read_whole(ring: KeyRing, found: SealedObject, block: int = 1 << 20) -> tuple[bytes, bytes]:
    """Plain text and SHA-256, as the metadata have it."""
    data_key = unwrap(ring, found.envelope, found.key)
    sha256 = data_key.unhide(found.hidden)
    opener = Opener(data_key.cipher, data_key.commitment, plain_size(len(found.stored)))
    plain = b"".join(map(opener.feed, blocks(found.stored, block)))
    opener.finish()
    return plain, sha256


def read_range(ring: KeyRing, found: SealedObject, start: int, length: int, block: int = 1 << 20) -> bytes:
    """Of the plain text, what lies within the object."""
    data_key = unwrap(ring, found.envelope, found.key)
    size = plain_size(len(found.stored))
    if start >= size:
        return b""
    where = span(start, length)
    opener = Opener(data_key.cipher, data_key.commitment, size, where.first, with_header=False)
    asked = found.stored[where.start : where.start + where.stored]
    plain = b"".join(map(opener.feed, blocks(asked, block)))
    opener.finish()
    return plain[where.skip : where.skip + length]
