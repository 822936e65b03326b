"""The two files of a blob of which only parts are here: its bytes, sparse, and the map of the parts that are there.

::

    {oid}-{tid}.part    the blob's bytes, as long as the whole blob from the beginning, with holes; mode 0600
    {oid}-{tid}.map     a header of 512 bytes, then eight bytes per part: the CRC-32 of its bytes, and its complement

With ``cache-encrypt`` the bytes are encrypted, and so is the header, which is 28 bytes longer then; the CRC-32 is of
what lies on the disk. The header says size, part size, SHA-256 and version of the blob, and carries a checksum of its
own. An entry is written after the part's bytes were, and one that is half written, zero or foreign is not its own
complement: then the part is not there. Nothing is synced, since a part is not believed because of its entry: a process
that did not download it compares the CRC-32 before it uses it. So a machine that crashed, or a file that something else
cut or wrote to, costs a download and never a wrong byte.

The file of bytes is never made longer: where it is shorter than the blob something cut it, and the bytes behind the cut
would come back as zeros. Both files are then given up.

No threads and no waiting here. Whoever calls ``open``, ``settle`` or ``discard`` holds the revision's map lock.
"""

from __future__ import annotations

import contextlib
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .downloads import disk, seal
from .form import Body, Form, Lost, PartWriter, fill, write_at
from .layout import MAP_SUFFIX, PART_SUFFIX

_MAGIC = b"s3bparts"
_FORMAT = 1
# magic, format, part size, size, whether there is a SHA-256, the SHA-256, length of the validator, the validator
_HEADER = struct.Struct("<8sIIQB32sH449s")
_CHECKSUM = struct.Struct("<I")
_HEADER_SIZE = _HEADER.size + _CHECKSUM.size  # 512: one sector
_LONGEST_VALIDATOR = 449
_ENTRY = struct.Struct("<II")
_ALL_BITS = 0xFFFFFFFF

# Bytes that are read at a time to compute a checksum.
_BLOCK = 256 * 1024


@dataclass(frozen=True, slots=True)
class Header:
    """What a map says of the blob. ``validator``: of the version that the parts are of; None before there is one."""

    size: int
    part_size: int
    sha256: bytes | None
    validator: str | None = None

    def encode(self) -> bytes:
        """OSError for a validator that is too long for a map: then the blob is read without one."""
        validator = b"" if self.validator is None else self.validator.encode()
        if len(validator) > _LONGEST_VALIDATOR:
            raise OSError(f"the store's ETag has more than {_LONGEST_VALIDATOR} bytes")
        known = self.sha256 is not None
        digest = self.sha256 or bytes(32)
        fields = (_MAGIC, _FORMAT, self.part_size, self.size, known, digest, len(validator), validator)
        header = _HEADER.pack(*fields)
        return header + _CHECKSUM.pack(zlib.crc32(header))

    @classmethod
    def decode(cls, data: bytes) -> Header | None:
        if len(data) < _HEADER_SIZE:
            return None
        header = data[: _HEADER.size]
        magic, number, part_size, size, known, sha256, length, validator = _HEADER.unpack(header)
        if magic != _MAGIC or number != _FORMAT or _CHECKSUM.pack(zlib.crc32(header)) != data[_HEADER.size : 512]:
            return None
        return cls(size, part_size, sha256 if known else None, validator[:length].decode() if length else None)


@dataclass(frozen=True, slots=True)
class Place:
    """Where the two files of a revision are (``base``: without their suffixes), and in which form."""

    base: str
    form: Form
    oid: bytes
    tid: bytes

    def read_header(self, map_: int) -> Header | None:
        """OSError."""
        stored = os.pread(map_, self.header_size, 0)
        return Header.decode(self.form.open_note(stored, self.oid, self.tid))

    def write_header(self, map_: int, header: Header, behind: bytes = b"") -> None:
        """OSError."""
        write_at(map_, self.form.seal_note(header.encode(), self.oid, self.tid) + behind, 0)

    @property
    def header_size(self) -> int:
        return self.form.noted(_HEADER_SIZE)


def describe(place: Place) -> tuple[int, bytes | None] | None:
    """Size and SHA-256 by the map that is there, or None. Makes nothing and never raises for the disk."""
    try:
        descriptor = os.open(place.base + MAP_SUFFIX, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        header = place.read_header(descriptor)
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return None if header is None else (header.size, header.sha256)


class PartFile:
    """Both files, open. Any thread may call anything; one part is written by one thread of the machine at a time.

    The descriptors are closed when nobody refers to the object any more, and not before: closed under a thread
    that reads, a descriptor's number could be another file's. They stay usable where the files were evicted.

    Every method raises DiskFailure where the disk does not do what was asked.
    """

    def __init__(self, place: Place, header: Header, data: int, map_: int, body: Body) -> None:
        self._place = place
        self._body = body
        self._data = data
        self._map = map_
        self.header = header
        self.size = header.size
        self.part_size = header.part_size
        self.sha256 = header.sha256
        self.count = -(-header.size // header.part_size)

    def __del__(self) -> None:
        for descriptor in (self._data, self._map):
            with contextlib.suppress(OSError):
                os.close(descriptor)

    @classmethod
    def open(cls, place: Place, size: int, sha256: bytes | None, part_size: int) -> PartFile:
        """The files that are there, where they are whole and of this blob; else they are made anew."""
        header = Header(size, part_size, sha256)
        with disk():
            found = cls._open(place, header)
            if found is not None:
                return found
            for suffix in (MAP_SUFFIX, PART_SUFFIX):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(place.base + suffix)
            return cls._make(place, header)

    @classmethod
    def _open(cls, place: Place, wanted: Header) -> PartFile | None:
        opened: list[int] = []
        found = None
        try:
            for suffix in (PART_SUFFIX, MAP_SUFFIX):
                opened.append(os.open(place.base + suffix, os.O_RDWR | os.O_NOFOLLOW))
            data, map_ = opened
            header = place.read_header(map_)
            if header is None or wanted != Header(header.size, header.part_size, header.sha256):
                return None
            body = place.form.body(data, header.size, header.part_size, place.oid, place.tid)
            if body is None:
                return None
            file = cls(place, header, data, map_, body)
            opened.clear()  # the file closes them from here on
            if os.fstat(map_).st_size == place.header_size + _ENTRY.size * file.count:
                found = file
            return found
        except (FileNotFoundError, PermissionError):
            # One alone is of no use. Read-only is one that a process sealed, and then died before it renamed it.
            return None
        finally:
            for descriptor in opened:
                os.close(descriptor)

    @classmethod
    def _make(cls, place: Place, header: Header) -> PartFile:
        os.makedirs(os.path.dirname(place.base), mode=0o700, exist_ok=True)
        opened: list[int] = []
        try:
            for suffix in (PART_SUFFIX, MAP_SUFFIX):
                opened.append(os.open(place.base + suffix, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))
            data, map_ = opened
            body = place.form.new_body(data, header.size, header.part_size, place.oid, place.tid)
            file = cls(place, header, data, map_, body)
            opened.clear()
            # A process that dies in between leaves a map that does not parse, or is too short.
            place.write_header(map_, header, bytes(_ENTRY.size * file.count))
            return file
        except BaseException:
            for suffix in (MAP_SUFFIX, PART_SUFFIX):
                with contextlib.suppress(OSError):
                    os.unlink(place.base + suffix)
            raise
        finally:
            for descriptor in opened:
                os.close(descriptor)

    @property
    def validator(self) -> str | None:
        """Of the version that the parts are of; None where nobody knows one yet, or the store has none."""
        if self.header.validator is None:
            with disk():
                # Without the lock: a header that is being written does not parse, and then there is none yet.
                self.header = self._place.read_header(self._map) or self.header
        return self.header.validator or None

    @property
    def knows_version(self) -> bool:
        """Whether ``validator`` says all that there is to know: the version, or that the store has none."""
        return self.header.validator is not None or self.validator is not None

    # Parts

    def span(self, part: int) -> tuple[int, int]:
        """Where the part begins, and where it ends."""
        start = part * self.part_size
        return start, min(start + self.part_size, self.size)

    def missing(self) -> list[int]:
        """The parts without an entry."""
        with disk():
            entries = os.pread(self._map, _ENTRY.size * self.count, self._place.header_size)
        if len(entries) < _ENTRY.size * self.count:
            raise Lost
        pairs = enumerate(_ENTRY.iter_unpack(entries))
        return [part for part, (crc, complement) in pairs if crc ^ complement != _ALL_BITS]

    def is_full(self) -> bool:
        """Whether each part has its entry."""
        return not self.missing()

    def check(self, part: int) -> bool:
        """Whether the part is there and its bytes, as they lie on the disk, are those that were written."""
        with disk():
            entry = os.pread(self._map, _ENTRY.size, self._entry(part))
        if len(entry) < _ENTRY.size:
            raise Lost
        expected, complement = _ENTRY.unpack(entry)
        if expected ^ complement != _ALL_BITS:
            return False
        crc = 0
        for block in _blocks(*self._body.span(part), lambda view, offset: fill(view, self._data, offset)):
            crc = zlib.crc32(block, crc)
        return crc == expected

    def blocks(self, part: int) -> Iterator[memoryview]:
        """The part's bytes, a block at a time, each valid until the next one."""
        return _blocks(*self.span(part), self.read_into)

    def read_into(self, view: memoryview, offset: int) -> None:
        """Fill the buffer. Lost where the file is too short for it, or does not hold what was written."""
        self._body.read_into(view, offset)

    def writer(self, part: int) -> PartWriter:
        """For the bytes of a part that is being downloaded, from its first one on."""
        return self._body.writer(part)

    def enter(self, part: int, crc: int) -> None:
        """Note that the part is there: in one call, after its bytes were written."""
        with disk():
            write_at(self._map, _ENTRY.pack(crc, crc ^ _ALL_BITS), self._entry(part))

    def _entry(self, part: int) -> int:
        return self._place.header_size + _ENTRY.size * part

    # The whole

    def settle(self, validator: str) -> bool:
        """Note which version the parts are of, where nobody did yet; whether it is this one."""
        with disk():
            header = self._place.read_header(self._map)
            if header is None:
                raise Lost
            if header.validator is None:
                header = Header(self.size, self.part_size, self.sha256, validator)
                self._place.write_header(self._map, header)
        self.header = header
        return header.validator == validator

    def is_named(self) -> bool:
        """Whether both files still bear their names: not where they were evicted, given up or published."""
        with disk():
            try:
                return all(
                    os.path.samestat(os.fstat(descriptor), os.stat(self._place.base + suffix, follow_symlinks=False))
                    for descriptor, suffix in ((self._data, PART_SUFFIX), (self._map, MAP_SUFFIX))
                )
            except FileNotFoundError:
                return False

    def is_sealed(self) -> bool:
        """Whether some process found the whole to be right, and made it read-only: see ``publish`` in parts.py."""
        with disk():
            return os.fstat(self._data).st_mode & 0o777 == 0o400

    def discard(self) -> None:
        """Remove the files, where they still bear their names."""
        with disk():
            if self.is_named():
                os.unlink(self._place.base + MAP_SUFFIX)
                os.unlink(self._place.base + PART_SUFFIX)

    def note_use(self, now: float) -> None:
        """The map's access time is when the parts were used last: by it they are evicted. Never raises."""
        with contextlib.suppress(OSError):
            os.utime(self._map, ns=(int(now * 1e9), os.fstat(self._map).st_mtime_ns))

    def seal(self, now: float) -> None:
        """Make the file of bytes what a published one is (``downloads.seal``). Lost where something cut it."""
        with disk():
            seal(self._data, now)
            # Sealed first: what cuts it from here on changes its time, and is noticed by that.
            if os.fstat(self._data).st_size != self._body.stored:
                raise Lost

    def take(self, path: str) -> bool:
        """Rename the sealed file of bytes, which bore its name just now, to ``path``; False where it does not any more.

        Who deletes or exchanges files without the map lock is no process of ours. So what was renamed is looked at
        again: a file that is not ours is removed. Until then it cannot be taken for a published one, since only ours
        has the stamp.
        """
        with disk():
            try:
                os.rename(self._place.base + PART_SUFFIX, path)
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self._place.base + MAP_SUFFIX)
                if os.path.samestat(os.fstat(self._data), os.stat(path, follow_symlinks=False)):
                    return True
                os.unlink(path)
            except FileNotFoundError:
                pass
            return False


def _blocks(start: int, end: int, read_into: Callable[[memoryview, int], None]) -> Iterator[memoryview]:
    with memoryview(bytearray(min(_BLOCK, end - start))) as buffer:
        while start < end:
            block = buffer[: min(len(buffer), end - start)]
            read_into(block, start)
            yield block
            start += len(block)
