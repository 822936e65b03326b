"""The bytes of a sealed object: a header, then segments that are each encrypted by themselves. Pure.

So any range of an object can be read by itself, with memory for one segment, and neither an exchanged nor a missing
segment passes. docs/encryption.md has the format byte by byte, with test vectors. The construction is STREAM
(Hoang, Reyhanitabar, Rogaway, Vizár: "Online Authenticated-Encryption and its Nonce-Reuse Misuse-Resistance", 2015),
with the nonce as age writes it (https://age-encryption.org/v1, "Payload"): number of the segment, and whether it is the
last one.
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ..errors import Corrupt

MAGIC = b"s3blobs\0"
FORMAT = 1
SEGMENT = 64 * 1024  # bytes of plain text; what age and Tink take too: little to read for one byte, few tags
TAG = 16  # of AES-GCM, behind each segment
COMMITMENT = 32
HEADER = len(MAGIC) + 8 + COMMITMENT
KEY = 32

SEALED_SEGMENT = SEGMENT + TAG
_DIFFERENT = "An encrypted object is damaged, or is not the one that was stored here."
NEWER = (
    "An encrypted object was written by a newer release of collective.s3blobstorage: upgrade this process; or it is"
    " damaged."
)


def header(commitment: bytes) -> bytes:
    """The first ``HEADER`` bytes of an object: magic, format, segment size as a power of two, zeros, commitment."""
    return MAGIC + bytes((FORMAT, SEGMENT.bit_length() - 1)) + bytes(6) + commitment


def looks_sealed(beginning: bytes | memoryview) -> bool:
    """Whether an object that begins like this was sealed, whatever its metadata say."""
    return bytes(beginning[: len(MAGIC)]) == MAGIC


def count(size: int) -> int:
    """How many segments ``size`` bytes of plain text have: at least one, that says that it is the last."""
    return max(1, -(-size // SEGMENT))


def sealed_size(size: int) -> int:
    """Bytes of the object that holds ``size`` bytes of plain text."""
    return HEADER + size + TAG * count(size)


def plain_size(stored: int) -> int:
    """Bytes of plain text in an object of ``stored`` bytes. Raises Corrupt where none has that many."""
    full, rest = divmod(stored - HEADER, SEALED_SEGMENT)
    size = full * SEGMENT + max(0, rest - TAG)
    if stored < HEADER + TAG or sealed_size(size) != stored:
        raise Corrupt(_DIFFERENT)
    return size


def unsealed_size(stored: int) -> int | None:
    """As ``plain_size``; None where no object of ``stored`` bytes is sealed."""
    try:
        return plain_size(stored)
    except Corrupt:
        return None


@dataclass(frozen=True, slots=True)
class Span:
    """The segments that a range of plain text lies in.

    ``start`` and ``stored``: first byte and number of bytes in the object. ``skip``: bytes of plain text before the
    range. ``first``: number of the first segment.
    """

    first: int
    start: int
    stored: int
    skip: int


def span(start: int, length: int) -> Span:
    """Of the plain bytes ``start`` to ``start + length``, which may reach past the end of the object."""
    first, skip = divmod(start, SEGMENT)
    behind = -(-(start + length) // SEGMENT)
    return Span(first, HEADER + first * SEALED_SEGMENT, (behind - first) * SEALED_SEGMENT, skip)


class SegmentCipher:
    """Encrypts and decrypts the segments of one object. ``key``: 32 bytes, never used for any other object.

    The same segment may be encrypted any number of times, as long as its plain text is the same. From any thread.
    """

    __slots__ = ("_cipher",)

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def encrypt(self, number: int, last: bool, plain: bytes | memoryview) -> bytes:
        return self._cipher.encrypt(_nonce(number, last), plain, None)

    def decrypt(self, number: int, last: bool, sealed: bytes | memoryview) -> bytes:
        """Raises Corrupt where it is not just that segment of just that object."""
        try:
            return self._cipher.decrypt(_nonce(number, last), sealed, None)
        except (InvalidTag, ValueError):  # ValueError: shorter than a tag
            raise Corrupt(_DIFFERENT) from None


def _nonce(number: int, last: bool) -> bytes:
    return number.to_bytes(11, "big") + (b"\1" if last else b"\0")


def sealed(cipher: SegmentCipher, commitment: bytes, data: bytes) -> bytes:
    """A whole object, in memory."""
    last = count(len(data)) - 1
    with memoryview(data) as view:
        each = [cipher.encrypt(i, i == last, view[i * SEGMENT : (i + 1) * SEGMENT]) for i in range(last + 1)]
    return header(commitment) + b"".join(each)


class Opener:
    """Turns the bytes of an object, as they arrive block by block, into plain text. Belongs to one thread.

    ``size``: of the whole plain text. ``with_header``: the bytes are a whole object; else they are a range of it, from
    the segment ``first`` on, without the header. Memory: one segment and what ``feed`` is given.
    """

    def __init__(
        self, cipher: SegmentCipher, commitment: bytes, size: int, first: int = 0, *, with_header: bool = True
    ) -> None:
        self._cipher = cipher
        self._header = header(commitment) if with_header else b""
        self._whole = with_header
        self._left = bytearray()
        self._number = first
        self._count = count(size)
        self._last_size = size - (self._count - 1) * SEGMENT + TAG

    def feed(self, block: bytes | memoryview) -> bytes:
        """The plain text of all segments that are whole by now. Raises Corrupt."""
        if self._left:
            self._left += block
            block = self._left
        position = 0
        plain = []
        with memoryview(block) as view:
            if self._header and len(view) >= HEADER:
                if view[:HEADER] != self._header:
                    newer = view[: len(MAGIC)] == MAGIC and view[len(MAGIC)] > FORMAT
                    raise Corrupt(NEWER if newer else _DIFFERENT)
                self._header, position = b"", HEADER
            while not self._header and self._number < self._count:
                last = self._number == self._count - 1
                size = self._last_size if last else SEALED_SEGMENT
                if len(view) - position < size:
                    break
                plain.append(self._cipher.decrypt(self._number, last, view[position : position + size]))
                position += size
                self._number += 1
            self._left = bytearray(view[position:])
        if self._number == self._count and self._left:
            raise Corrupt(_DIFFERENT)
        return plain[0] if len(plain) == 1 else b"".join(plain)

    def finish(self) -> None:
        """All bytes that were asked for have been fed. Raises Corrupt where they end within the header or a segment,
        and where segments of a whole object are missing."""
        if self._header or self._left or (self._whole and self._number < self._count):
            raise Corrupt(_DIFFERENT)
