"""Files of the cache that are encrypted: written, read, and filled by parts. The format is in ``cipher.py``."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from pathlib import Path

from .cipher import HEADER, OVERHEAD, SEGMENT, Damaged, FileCipher, Geometry, MachineKey
from .downloads import DownloadFile
from .form import Body, Lost, PartWriter, StoredFile, fill, write_at, write_within
from .machinekey import MachineKeyFile


class Sealed:
    """See ``form.Form``."""

    sealed = True

    def __init__(self, keys: MachineKeyFile) -> None:
        self.keys = keys

    def settle(self) -> None:
        self.keys.settle()

    def download(self, path: str, written: Callable[[int], None], oid: bytes, tid: bytes) -> DownloadFile:
        return SealedDownload(path, written, self.keys.key, oid, tid)

    def open(self, path: str | Path, oid: bytes, tid: bytes) -> StoredFile:
        return SealedFile(path, lambda header: self._opened(header, oid, tid))

    def new_body(self, descriptor: int, size: int, part_size: int, oid: bytes, tid: bytes) -> Body:
        header, cipher = self.keys.key.new_file(oid, tid, part_size)
        geometry = Geometry(size, part_size)
        os.ftruncate(descriptor, geometry.stored)
        write_at(descriptor, header, 0)
        return _SealedBody(descriptor, geometry, cipher)

    def body(self, descriptor: int, size: int, part_size: int, oid: bytes, tid: bytes) -> Body | None:
        geometry = Geometry(size, part_size)
        if os.fstat(descriptor).st_size != geometry.stored:
            return None
        try:
            found, cipher = self._opened(os.pread(descriptor, HEADER, 0), oid, tid)
        except Damaged:
            return None
        return _SealedBody(descriptor, geometry, cipher) if found == part_size else None

    def size_of(self, stored: int) -> int:
        try:
            return Geometry.of_stored(stored, SEGMENT).size
        except Damaged:
            raise Lost from None

    def noted(self, size: int) -> int:
        return size + OVERHEAD

    def seal_note(self, note: bytes, oid: bytes, tid: bytes) -> bytes:
        return self.keys.key.seal_note(note, oid, tid)

    def open_note(self, stored: bytes, oid: bytes, tid: bytes) -> bytes:
        try:
            return self._with_key(lambda key: key.open_note(stored, oid, tid))
        except Damaged:
            return b""

    def commit(self, path: str | Path, oid: bytes, tid: bytes) -> None:
        """A staged file becomes that revision's. OSError; Lost where it is no staged file of that oid."""
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            header = os.pread(descriptor, HEADER, 0)
            write_at(descriptor, self._with_key(lambda key: key.committed(header, oid, tid)), 0)
        except Damaged:
            raise Lost from None
        finally:
            os.close(descriptor)

    def is_readable(self, path: str, oid: bytes, tid: bytes) -> bool:
        """Whether the file's header opens. OSError."""
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            self._opened(os.pread(descriptor, HEADER, 0), oid, tid)
        except Damaged:
            return False
        finally:
            os.close(descriptor)
        return True

    def _opened(self, header: bytes, oid: bytes, tid: bytes) -> tuple[int, FileCipher]:
        return self._with_key(lambda key: key.open_file(header, oid, tid))

    def _with_key(self, use):
        """``use(key)``, once more where that does not fit and another process has replaced the folder's key."""
        try:
            return use(self.keys.key)
        except Damaged:
            if not self.keys.read_again():
                raise
        return use(self.keys.key)


class SealedDownload(DownloadFile):
    """Takes plain bytes and writes them encrypted; a segment goes to the disk when the next byte comes.

    What was written can be taken back (``truncate``), and is written in order otherwise: ValueError.
    """

    def __init__(self, path: str, written: Callable[[int], None], key: MachineKey, oid: bytes, tid: bytes) -> None:
        header, self.cipher = key.new_file(oid, tid)
        super().__init__(path, written)
        self._position = 0
        self._number = 0  # of the segment that is held
        self._held = bytearray()
        try:
            write_at(self._descriptor, header, 0)
        except BaseException:
            self.close()
            os.unlink(path)
            raise

    @property
    def size(self) -> int:
        """Bytes of plain text so far."""
        return self._number * SEGMENT + len(self._held)

    def write(self, data) -> int:
        with memoryview(data) as view, view.cast("B") as octets:
            if octets and self._position != self.size:
                raise ValueError("an encrypted file is written in order")
            size, done = octets.nbytes, 0
            while done < size:
                if len(self._held) == SEGMENT:
                    self._put(last=False)
                piece = octets[done : done + SEGMENT - len(self._held)]
                self._held += piece
                done += len(piece)
        self._position += size
        self._written(size)
        return size

    def _put(self, *, last: bool) -> None:
        sealed = self.cipher.seal(self._number, last, self._held)
        with self._noting():
            write_at(self._descriptor, sealed, _place(self._number))
        if not last:
            self._number += 1
            self._held.clear()

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._check_open()
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}[whence]
        if base + offset < 0:
            raise ValueError(f"negative seek position {base + offset}")
        self._position = base + offset
        return self._position

    def truncate(self, size: int | None = None) -> int:
        self._check_open()
        size = self._position if size is None else size
        if not 0 <= size <= self.size:
            raise ValueError("an encrypted file is written in order")
        # A segment that is full now may be the last one, so it is held again.
        number = max(0, size - 1) // SEGMENT
        if number < self._number:
            with self._noting():
                self._held[:] = self._again(number) if size else b""
                os.ftruncate(self._descriptor, _place(number))
            self._number = number
        del self._held[size - number * SEGMENT :]
        return size

    def _again(self, number: int) -> bytes:
        """A segment that is on the disk already. OSError."""
        sealed = os.pread(self._descriptor, SEGMENT + OVERHEAD, _place(number))
        try:
            return self.cipher.open(number, False, memoryview(sealed))
        except Damaged:
            raise OSError("the file was changed while it was written") from None

    def end(self) -> None:
        self._put(last=True)

    def seal(self, accessed: float) -> None:
        self.end()
        super().seal(accessed)

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("write to a closed download")


def _place(number: int) -> int:
    return HEADER + number * (SEGMENT + OVERHEAD)


class SegmentReader:
    """Reads a complete encrypted file. For one thread."""

    def __init__(self, descriptor: int, geometry: Geometry, cipher: FileCipher) -> None:
        self._descriptor = descriptor
        self._geometry = geometry
        self._cipher = cipher
        # The segment that was decrypted last: reads that do not begin with one come back to it.
        self._last: tuple[int, bytes] = (-1, b"")

    def check_end(self) -> None:
        """Lost where the file was cut: its last segment says that it is the last."""
        number = self._geometry.count - 1
        self._last = number, _segment(self._descriptor, self._geometry, self._cipher, number)

    def read_into(self, view: memoryview, offset: int) -> None:
        """Lost; DiskFailure."""
        if offset + len(view) > self._geometry.size:
            raise Lost
        number, plain = self._last
        if len(view) and number == self._geometry.at(offset):
            start, end, _ = self._geometry.segment(number)
            size = min(end - offset, len(view))
            view[:size] = plain[offset - start : offset - start + size]
            view, offset = view[size:], offset + size
        if len(view):
            self._last = _read(self._descriptor, self._geometry, self._cipher, view, offset)


class SealedFile(StoredFile):
    """A complete file that is decrypted segment by segment, as it is read."""

    def __init__(self, path: str | Path, opened: Callable[[bytes], tuple[int, FileCipher]]) -> None:
        super().__init__(path)
        try:
            part_size, self.cipher = opened(os.pread(self.descriptor, HEADER, 0))
            self.geometry = Geometry.of_stored(self.size, part_size)
        except Damaged:
            raise Lost from None
        self.size = self.geometry.size
        self._reader = self.another_reader()
        self._reader.check_end()  # so the size is right

    def another_reader(self) -> SegmentReader:
        """For another thread, while somebody has this object."""
        return SegmentReader(self.descriptor, self.geometry, self.cipher)

    def read_into(self, view: memoryview, offset: int) -> None:
        self._reader.read_into(view, offset)


class _SealedBody:
    def __init__(self, descriptor: int, geometry: Geometry, cipher: FileCipher) -> None:
        self.descriptor = descriptor
        self.geometry = geometry
        self.cipher = cipher
        self.stored = geometry.stored

    def read_into(self, view: memoryview, offset: int) -> None:
        if len(view):
            _read(self.descriptor, self.geometry, self.cipher, view, offset)

    def span(self, part: int) -> tuple[int, int]:
        return self.geometry.part_span(part)

    def writer(self, part: int) -> PartWriter:
        return _SealedWriter(self, part)


class _SealedWriter:
    """Encrypts a segment as soon as it is there. What is held of one that is not is given up with the writer."""

    def __init__(self, body: _SealedBody, part: int) -> None:
        self._body = body
        self._number = body.geometry.at(part * body.geometry.part_size)
        self._held = bytearray()
        self.crc = 0

    def write(self, octets: memoryview) -> None:
        geometry = self._body.geometry
        while octets:
            start, end, place = geometry.segment(self._number)
            wanted = end - start - len(self._held)
            plain: memoryview | bytearray = octets[:wanted]
            if self._held or len(plain) < wanted:
                self._held += plain
                if len(self._held) < end - start:
                    return
                plain = self._held
            last = self._number == geometry.count - 1
            sealed = self._body.cipher.seal(self._number, last, plain)
            write_within(self._body, self._body.descriptor, sealed, place)
            self.crc = zlib.crc32(sealed, self.crc)
            self._held = bytearray()
            self._number += 1
            octets = octets[wanted:]


def _read(descriptor: int, geometry: Geometry, cipher: FileCipher, view: memoryview, offset: int) -> tuple[int, bytes]:
    """Fill the buffer; the last segment that was decrypted for it, and its number. Lost; DiskFailure."""
    number = geometry.at(offset)
    done = 0
    while True:
        start, _, _ = geometry.segment(number)
        plain = _segment(descriptor, geometry, cipher, number)
        skip = offset + done - start
        size = min(len(plain) - skip, len(view) - done)
        view[done : done + size] = memoryview(plain)[skip : skip + size]
        done += size
        if done == len(view):
            return number, plain
        number += 1


def _segment(descriptor: int, geometry: Geometry, cipher: FileCipher, number: int) -> bytes:
    start, end, place = geometry.segment(number)
    with memoryview(bytearray(end - start + OVERHEAD)) as sealed:
        fill(sealed, descriptor, place)
        try:
            return cipher.open(number, number == geometry.count - 1, sealed)
        except Damaged:
            raise Lost from None
