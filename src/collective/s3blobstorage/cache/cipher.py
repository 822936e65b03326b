"""How the cache encrypts what it keeps (``cache-encrypt on``): keys, nonces, and the format of a file. Pure.

**Keys.** Each store's folder in ``cache-dir`` has a machine key, 32 random bytes, in the file ``machine.key``, wrapped
by a key of the ring (``machinekey.py``). All processes that share the folder have the same. From it follow, by HKDF,
one key per file, out of 32 random bytes in the file's header; one that proves the header; and one for the maps of
parts.

**Nonces.** AES-256-GCM is broken by two different plain texts under one pair of key and nonce. Here each encryption
draws a new nonce, 96 random bits that are kept beside what they encrypted. So nothing that is done twice can repeat a
pair: not a part that is downloaded again after a crash, or in another version; not a download that begins anew in the
same file; not two processes that write one part, or a file that is put in the place of another one, which has a key of
its own besides. What is left is chance: a file of 5 TB whose every part was downloaded a thousand times has used 2^37
nonces of 2^96, and has two alike with a probability of 2^-23; for an ordinary file it is less than 2^-60. The one key
that all maps of a folder share encrypts a few headers per large blob: after 2^32 of them, the limit of NIST SP 800-38D,
section 8.3, it would be 2^-33. A nonce made of the segment's number, as in the bucket (``encryption/segments.py``),
would need that a segment always has the same plain text.

**A file**, the same for one that was downloaded whole and for one that was made of parts::

    magic 8 | format 4 | part size 8 | salt 32 | proof 32        numbers little-endian
    segments: nonce 12 | cipher text | tag 16                    64 KiB of plain text each, less where a part ends

A part begins with a segment of its own, so that each can be written by another process; a file that was downloaded
whole has parts of one segment. The size follows from the file's. Bound to each segment are its number and whether it is
the last one: exchanged, repeated or missing ones do not decrypt. The proof is an HMAC-SHA256 over what is before it,
oid and tid: another revision's file is not opened here, and neither is one that another machine key encrypted. That is
noticed before a byte is decrypted. Whatever does not fit is no error of the blob: the file is removed and fetched
again.

What is not hidden: oids and tids (names of files), sizes, times, and which parts of a blob were read.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import struct
from dataclasses import dataclass
from functools import cached_property

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ..encryption.ring import KEY, derived
from ..encryption.secret import SecretBytes

SEGMENT = 64 * 1024  # bytes of plain text; as in the bucket: little to decrypt for one byte, few tags
NONCE = 12
OVERHEAD = NONCE + 16

_MAGIC = b"s3bcache"
_FORMAT = 1
_HEAD = struct.Struct("<8sIQ32s")
_SALT = 32
_PROOF = 32
HEADER = _HEAD.size + _PROOF

STAGED = b"\xff" * 8  # in the place of a tid, for a file that is not committed yet


class Damaged(Exception):
    """What is read is not what was written there, or was encrypted under another machine key. Never leaves the
    cache."""


@dataclass(frozen=True)
class Geometry:
    """Where the segments of a file lie. ``size``: bytes of plain text. ``part_size``: of plain text too."""

    size: int
    part_size: int = SEGMENT

    @classmethod
    def of_stored(cls, stored: int, part_size: int) -> Geometry:
        """Of a file of ``stored`` bytes. Damaged where none has that many."""
        if part_size < 1:
            raise Damaged
        parts, rest = divmod(stored - HEADER, cls(0, part_size)._sealed_part)
        size = parts * part_size + max(0, rest - OVERHEAD * -(-rest // (SEGMENT + OVERHEAD)))
        found = cls(size, part_size)
        if stored < HEADER or found.stored != stored:
            raise Damaged
        return found

    @cached_property
    def _per_part(self) -> int:
        return -(-self.part_size // SEGMENT)

    @cached_property
    def _sealed_part(self) -> int:
        return self.part_size + OVERHEAD * self._per_part

    @cached_property
    def count(self) -> int:
        """How many segments there are: at least one, that says that it is the last."""
        parts, rest = divmod(self.size, self.part_size)
        return max(1, parts * self._per_part + -(-rest // SEGMENT))

    @cached_property
    def stored(self) -> int:
        """Bytes of the file."""
        return HEADER + self.size + OVERHEAD * self.count

    def segment(self, number: int) -> tuple[int, int, int]:
        """First byte of plain text, the byte behind its last one, and where it lies in the file."""
        part, within = divmod(number, self._per_part)
        start = part * self.part_size + within * SEGMENT
        end = min(start + SEGMENT, (part + 1) * self.part_size, self.size)
        return start, end, HEADER + part * self._sealed_part + within * (SEGMENT + OVERHEAD)

    def at(self, offset: int) -> int:
        """The number of the segment that has that byte of plain text."""
        part, within = divmod(offset, self.part_size)
        return part * self._per_part + within // SEGMENT

    def part_span(self, part: int) -> tuple[int, int]:
        """Where a part begins in the file, and where it ends."""
        start = HEADER + part * self._sealed_part
        return start, min(start + self._sealed_part, self.stored)


class FileCipher:
    """Encrypts and decrypts the segments of one file. From any thread."""

    __slots__ = ("_cipher",)

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def seal(self, number: int, last: bool, plain: bytes | bytearray | memoryview) -> bytes:
        nonce = os.urandom(NONCE)
        return nonce + self._cipher.encrypt(nonce, plain, _place(number, last))

    def open(self, number: int, last: bool, sealed: memoryview) -> bytes:
        """Damaged where it is not just that segment of just that file."""
        return _opened(self._cipher, sealed, _place(number, last))


def _place(number: int, last: bool) -> bytes:
    return number.to_bytes(8, "little") + (b"\1" if last else b"\0")


def _opened(cipher: AESGCM, sealed: bytes | memoryview, bound: bytes) -> bytes:
    try:
        return cipher.decrypt(bytes(sealed[:NONCE]), sealed[NONCE:], bound)
    except (InvalidTag, ValueError):  # ValueError: shorter than nonce or tag
        raise Damaged from None


class MachineKey:
    """What all files of a folder are encrypted under. Constant, from any thread."""

    def __init__(self, key: bytes) -> None:
        self.key = key = SecretBytes(key)  # reports of errors print local variables
        self._proving = derived(key, "cache/header")
        self._notes = AESGCM(derived(key, "cache/map"))

    def __repr__(self) -> str:
        return "<MachineKey>"

    @classmethod
    def draw(cls) -> MachineKey:
        return cls(SecretBytes(os.urandom(KEY)))

    # Files

    def new_file(self, oid: bytes, tid: bytes, part_size: int = SEGMENT) -> tuple[bytes, FileCipher]:
        """Header and cipher of a new file."""
        salt = os.urandom(_SALT)
        head = _HEAD.pack(_MAGIC, _FORMAT, part_size, salt)
        return head + self._proof(head, oid, tid), self._of_file(salt)

    def open_file(self, header: bytes, oid: bytes, tid: bytes) -> tuple[int, FileCipher]:
        """Part size and cipher of the file with that header. Damaged where it is not that revision's, or not ours."""
        head = header[: _HEAD.size]
        if not hmac.compare_digest(header[_HEAD.size :], self._proof(head, oid, tid)):
            raise Damaged
        magic, number, part_size, salt = _HEAD.unpack(head)
        if magic != _MAGIC or number != _FORMAT:  # a newer release's: its files are fetched again
            raise Damaged
        return part_size, self._of_file(salt)

    def committed(self, header: bytes, oid: bytes, tid: bytes) -> bytes:
        """The header of a staged file once its transaction has that tid. Damaged where it is not one."""
        self.open_file(header, oid, STAGED)
        head = header[: _HEAD.size]
        return head + self._proof(head, oid, tid)

    def _proof(self, head: bytes, oid: bytes, tid: bytes) -> bytes:
        return hmac.digest(self._proving, head + oid + tid, hashlib.sha256)

    def _of_file(self, salt: bytes) -> FileCipher:
        return FileCipher(derived(self.key, f"cache/file/{salt.hex()}"))

    # Headers of maps

    def seal_note(self, note: bytes, oid: bytes, tid: bytes) -> bytes:
        """``OVERHEAD`` bytes longer."""
        nonce = os.urandom(NONCE)
        return nonce + self._notes.encrypt(nonce, note, oid + tid)

    def open_note(self, sealed: bytes, oid: bytes, tid: bytes) -> bytes:
        """Damaged."""
        return _opened(self._notes, sealed, oid + tid)
