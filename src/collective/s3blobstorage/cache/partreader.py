"""A file open for reading whose bytes come when they are needed."""

from __future__ import annotations

import contextlib
import io
import os
import time
from typing import TYPE_CHECKING, Any

from ..errors import PreconditionFailed, Unavailable
from .downloads import DiskFailure
from .form import Lost, StoredFile
from .interfaces import IBlobSource
from .parts import BlobParts
from .partstore import ATTEMPTS, REWRITTEN, PartStore, Wish, check_rewritten
from .prefetch import Window
from .runs import read_range

if TYPE_CHECKING:
    from .blobcache import BlobCache

# What is read at a time for small reads; larger ones go past this buffer. Python's own 8 KB costs eight times the
# calls.
_BUFFER = 64 * 1024

# A file that was not there is not looked for again within this time: a reader does so when it is opened, then to read.
_LOOKED = 0.05  # seconds

# A use of parts is noted at most this often by one reader: as for complete files.
_NOTING = 60.0  # seconds

# After a failure of the disk, parts that are not here are read through memory this long before it is tried again.
_REFUSED = 60.0  # seconds


class PartReader(io.BufferedReader):
    """See ``IBlobCache.open_lazily``. ``io.BufferedReader`` over the bytes that ``_Bytes`` brings."""

    def __init__(
        self,
        cache: BlobCache,
        store: PartStore,
        oid: bytes,
        tid: bytes,
        source: IBlobSource,
        name: os.PathLike[str],
        blob: Any,
        looked: bool,
    ) -> None:
        self.blob = blob  # as of a ``ZODB.blob.BlobFile``
        super().__init__(_Bytes(cache, store, oid, tid, source, name, looked), _BUFFER)

    @property
    def mode(self) -> str:
        return "rb"

    def fileno(self) -> int:
        """A descriptor of the complete file, at this position, usable until the reader is closed.

        Read on through the one or the other, not through both: neither moves the other's position.
        """
        position = self.tell()
        descriptor = super().fileno()
        os.lseek(descriptor, position, os.SEEK_SET)
        return descriptor

    def close(self) -> None:
        if self.closed:
            return
        try:
            super().close()
        finally:
            if self.blob is not None:
                self.blob.closed(self)


class _Bytes(io.RawIOBase):
    """The bytes of one revision, for one thread at a time."""

    def __init__(
        self,
        cache: BlobCache,
        store: PartStore,
        oid: bytes,
        tid: bytes,
        source: IBlobSource,
        name: os.PathLike[str],
        looked: bool,
    ) -> None:
        super().__init__()
        self.name = name
        self._cache = cache
        self._store = store
        self._oid = oid
        self._tid = tid
        self._source = source
        self._position = 0
        self._described: tuple[int, bytes | None] | None = None
        self._process = os.getpid()
        # The first of these that is not None is read from; before the first byte and after a fork none is.
        self._whole: StoredFile | None = None
        self._parts: BlobParts | None = None
        self._window: Window | None = None
        self._numbered: StoredFile | None = None  # whose descriptor was given away
        # When the complete file was looked for last, and was not there.
        self._absent = time.monotonic() if looked else float("-inf")
        self._wish = Wish()
        self._noted = float("-inf")
        self._restarted = self._rewritten = False
        self._validator: str | None = None  # of the version that was read so far
        # Without the disk: since when, and the part that was read last.
        self._refused = float("-inf")
        self._memory: tuple[int, bytearray] = (-1, bytearray())

    # The file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        self._check_open()
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._check_open()
        if whence == os.SEEK_CUR:
            offset += self._position
        elif whence == os.SEEK_END:
            offset += self._length()
        elif whence != os.SEEK_SET:
            raise ValueError(f"unsupported whence value: {whence}")
        if offset < 0:
            raise ValueError(f"negative seek position {offset}")
        self._position = offset
        return offset

    def readinto(self, buffer: Any) -> int:
        self._check_open()
        with memoryview(buffer) as given, given.cast("B") as octets:
            size = min(len(octets), self._length() - self._position)
            if size <= 0:
                return 0
            with octets[:size] as view:
                self._fill(view)
        self._position += size
        return size

    def readall(self) -> bytes:
        # The default reads 8 KB at a time. BytesIO hands out its buffer without copying it: half the memory.
        buffer = io.BytesIO(bytes(max(0, self._length() - self._position)))
        with buffer.getbuffer() as view:
            self.readinto(view)
        return buffer.getvalue()

    def fileno(self) -> int:
        self._check_open()
        if self._numbered is None:
            self._numbered = self._cache.open_plain(self._oid, self._tid, self._source)
        return self._numbered.descriptor

    def close(self) -> None:
        self._wish.dropped = True
        self._whole = self._parts = self._numbered = None
        self._memory = (-1, bytearray())
        super().close()

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file.")

    def _length(self) -> int:
        if self._whole is None and self._described is None and self._source.described is None:
            with contextlib.suppress(DiskFailure):
                self._open_cached()
        return self._whole.size if self._whole is not None else self._describe()[0]

    def _describe(self) -> tuple[int, bytes | None]:
        if self._described is None:
            self._described = self._store.describe(self._oid, self._tid, self._source)
        return self._described

    def _open_cached(self) -> None:
        path = self._cache.get_text(self._oid, self._tid)
        if path is None:
            self._absent = time.monotonic()
        else:
            try:
                self._whole = self._cache.open_stored(path, self._oid, self._tid)
            except FileNotFoundError:
                pass  # evicted just now, or damaged and removed
            except OSError as error:
                raise DiskFailure(str(error)) from error

    # Where the bytes come from

    def _fill(self, view: memoryview) -> None:
        """The bytes from this position. The loop ends: each round after the first is counted."""
        if self._rewritten:
            raise Unavailable(REWRITTEN)
        lost = 0
        while True:
            if self._process != os.getpid():
                self._become_child()
            try:
                if self._whole is None and self._parts is None and not self._is_refused():
                    self._attach()
                if self._whole is not None:
                    self._whole.read_into(view, self._position)
                else:
                    self._fill_by_parts(view)
                return
            except Lost:
                # Somebody cut or exchanged the file.
                lost += 1
                if self._whole is not None:
                    self._cache.discard(self._whole, self._oid, self._tid)
                elif self._parts is not None:
                    with contextlib.suppress(DiskFailure):
                        self._store.discard(self._parts)
                self._whole = self._parts = None
                if lost >= ATTEMPTS:
                    self._refuse(DiskFailure("the files of a blob are lost again and again"))
            except PreconditionFailed as error:
                self._start_anew(error)
            except DiskFailure as failure:
                self._whole = self._parts = None
                self._refuse(failure)

    def _become_child(self) -> None:
        """The threads that brought parts are the parent's, and so are its locks."""
        self._process = os.getpid()
        self._parts = None
        self._wish = Wish()

    def _attach(self) -> None:
        """Open the complete file, or the parts. DiskFailure."""
        for _ in range(ATTEMPTS):
            # Whoever brings it looks once more, under the lock of its download.
            if time.monotonic() - self._absent > _LOOKED:
                self._open_cached()
                if self._whole is not None:
                    return
            if not self._store.is_large(self._describe()[0]):
                self._whole = self._open_whole()
                return
            self._parts = self._store.attach(self._oid, self._tid, self._describe())
            if self._parts is not None:
                self._cache.counters.add("misses")
                self._window = Window(self._parts.file.size, self._parts.file.part_size)
                return
            self._absent = float("-inf")  # it is there by now
        raise DiskFailure("a complete file is evicted again and again")

    def _open_whole(self) -> StoredFile:
        try:
            return self._cache.open_whole(self._oid, self._tid, self._source.download)
        except Unavailable as error:
            if isinstance(error.__cause__, DiskFailure):
                raise error.__cause__ from error  # no disk takes the file, but the store answers
            raise

    def _fill_by_parts(self, view: memoryview) -> None:
        parts = self._parts
        part_size = self._store.part_size
        position, end = self._position, self._position + len(view)
        if parts is not None:
            now = time.monotonic()
            if now - self._noted > _NOTING:
                self._noted = now
                parts.file.note_use(self._store.now())
            if not self._window.read(position, end):
                self._wish.dropped = True
                self._wish = Wish()
        for part in range(position // part_size, (end - 1) // part_size + 1):
            start = part * part_size
            first, last = max(position, start), min(end, start + part_size)
            with view[first - position : last - position] as piece:
                if parts is None or not self._from_disk(parts, part, piece, first):
                    self._from_memory(part, piece, first - start)
        if parts is not None and self._window.read_all and not self._is_refused():
            # Whoever read all of it, in order, read the right bytes: the last ones are not given before that is known.
            try:
                parts.verify(self._source)
                self._store.submit(lambda: parts.publish(self._source))
            except DiskFailure as failure:
                self._refuse(failure)

    def _from_disk(self, parts: BlobParts, part: int, piece: memoryview, offset: int) -> bool:
        """False where the disk does not do what is asked."""
        try:
            if not self._is_refused():
                runs = self._window.ahead(part)
                if any(len(run) > 1 for run in runs) and not parts.file.knows_version:
                    parts.bring(part, self._source)  # alone: see Run
                for run in runs:
                    self._store.prefetch(parts, run, self._source, self._wish)
                parts.bring(part, self._source)
            elif not parts.is_here(part):
                return False
            self._check_version(parts.file.validator)
            parts.file.read_into(piece, offset)
            return True
        except DiskFailure as failure:
            self._refuse(failure)
            return False

    def _from_memory(self, part: int, piece: memoryview, offset: int) -> None:
        number, data = self._memory
        if number != part:
            # Let go of before the next one comes: one part at a time is in memory.
            self._memory = (-1, bytearray())
            data = bytearray()
            start = part * self._store.part_size
            end = min(start + self._store.part_size, self._length())
            found = read_range(self._source, start, end, lambda octets, _: data.extend(octets), self._validator)
            self._check_version(found)
            self._memory = (part, data)
        piece[:] = data[offset : offset + len(piece)]

    def _check_version(self, validator: str | None) -> None:
        """All bytes of one reader are of one version, whether they come from the disk or not."""
        if validator:
            if self._validator is not None and validator != self._validator:
                raise PreconditionFailed(REWRITTEN)
            self._validator = validator

    def _is_refused(self) -> bool:
        return time.monotonic() - self._refused < _REFUSED

    def _refuse(self, failure: BaseException) -> None:
        """Read through memory for a while: the disk failed."""
        self._store.failed(failure)
        self._refused = time.monotonic()

    def _start_anew(self, error: PreconditionFailed) -> None:
        parts, self._parts = self._parts, None
        if parts is not None:
            with contextlib.suppress(DiskFailure):
                self._store.discard(parts)
        self._validator = None
        self._memory = (-1, bytearray())
        again, self._restarted = self._restarted, True
        self._rewritten = True  # from here on every read is refused, unless the new object has the same bytes
        check_rewritten(self._describe(), self._source, error, again=again)
        self._rewritten = False
