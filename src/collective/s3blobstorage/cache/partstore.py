"""The parts of large blobs in one cache: which are open, who downloads them, how they become ordinary files."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ..errors import PreconditionFailed, StoreError, Unavailable
from . import partfile
from .downloads import DiskFailure, disk
from .flights import Flights
from .form import Form, Lost
from .interfaces import IBlobSource
from .layout import BLOB_SUFFIX, Layout
from .locks import FileLock
from .partfile import PartFile, Place
from .parts import BlobParts
from .prefetch import PARALLEL, split
from .processes import ProcessFolder

logger = logging.getLogger(__name__)

# Threads for runs and hashing in this process, beside the readers' own: a whole file's requests, one thread to hash
# what arrives, and one that publishes another blob. boto3's download_file has as many.
_THREADS = PARALLEL + 2

# How often a thread that waits for another process's part looks whether the cache was closed.
_CLOSED_CHECK = 0.5  # seconds

# How often files that are lost again and again (something cuts them, or evicts them at once) are opened anew before the
# blob is read without the disk.
ATTEMPTS = 3

REWRITTEN = "The blob was rewritten while it was read."


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the parts need of their cache; each is a method of BlobCache."""

    find: Callable[[bytes, bytes], Path | None]  # the complete file
    here: Callable[[], ProcessFolder]  # this process's folder, all folders made; OSError, Unavailable after close
    publish: Callable[[str, bytes, bytes], str]  # a sealed file goes to its place; OSError
    published: Callable[[str], None]  # a file was given its name
    completed: Callable[[bytes, bytes, str], None]  # a file was made of parts: oid, tid, path
    count: Callable[[str], None]  # a counter
    written: Callable[[int], None]  # bytes
    failed: Callable[[BaseException], None]  # a failure of the disk, for the log
    clock: Callable[[], float]


class Wish:
    """What a reader would like to be fetched, until it drops it."""

    __slots__ = ("dropped",)

    def __init__(self) -> None:
        self.dropped = False


class PartStore:
    """Owned by one cache, which closes it. Any thread may call anything.

    Raises what a source raises; DiskFailure where the disk does not do what was asked.
    """

    def __init__(
        self, layout: Layout, form: Form, surroundings: Surroundings, *, threshold: int, part_size: int, patience: float
    ) -> None:
        self._layout = layout
        self._form = form
        self._around = surroundings
        self._threshold = threshold
        self._part_size = part_size
        self._patience = patience
        self.own()

    def own(self) -> None:
        """Everything that belongs to one process and must not be shared with a forked child."""
        self._lock = threading.Lock()
        self._closed = False
        self._pool: ThreadPoolExecutor | None = None
        self._works = 0  # works that the pool has, under way or not
        self._attaching: Flights[BlobParts | None] = Flights()
        self._open: weakref.WeakValueDictionary[tuple[bytes, bytes], BlobParts] = weakref.WeakValueDictionary()

    def describe(self, oid: bytes, tid: bytes, source: IBlobSource) -> tuple[int, bytes | None]:
        """Size and SHA-256; a request is made only where neither the record nor a map says them."""
        return source.described or partfile.describe(self._place(oid, tid)) or source.describe()

    def is_large(self, size: int) -> bool:
        return size > self._threshold

    @property
    def part_size(self) -> int:
        return self._part_size

    def attach(self, oid: bytes, tid: bytes, described: tuple[int, bytes | None]) -> BlobParts | None:
        """The parts of that revision, opened where they are not open; None where the complete file is there now."""
        return self._attaching.run((oid, tid), lambda: self._attach(oid, tid, *described), lambda: None)

    def _attach(self, oid: bytes, tid: bytes, size: int, sha256: bytes | None) -> BlobParts | None:
        with self._lock:
            parts = self._open.get((oid, tid))
        if parts is not None and parts.is_usable():
            return parts
        with self.lock(oid, tid, "map"):
            # Under the lock that publishing takes too: else a process that looked for the complete file just before it
            # was there would begin anew beside it.
            if self._around.find(oid, tid) is not None:
                return None
            file = PartFile.open(self._place(oid, tid), size, sha256, self._part_size)
        parts = BlobParts(self, oid, tid, file)
        with self._lock:
            self._open[oid, tid] = parts
        return parts

    def complete(self, oid: bytes, tid: bytes, described: tuple[int, bytes | None], source: IBlobSource) -> Path:
        """The complete file, made of parts."""
        restarted = False
        for _ in range(ATTEMPTS):
            parts = self.attach(oid, tid, described)
            if parts is None:
                path = self._around.find(oid, tid)
                if path is None:
                    continue  # evicted just now
                return path
            wish = Wish()
            try:
                self._bring_all(parts, source, wish)
                return parts.publish(source)
            except Lost:
                self.discard(parts)
            except PreconditionFailed as error:
                with contextlib.suppress(DiskFailure):
                    self.discard(parts)
                check_rewritten(described, source, error, again=restarted)
                restarted = True
            finally:
                wish.dropped = True
        raise DiskFailure("the files of parts are lost again and again")

    def _bring_all(self, parts: BlobParts, source: IBlobSource, wish: Wish) -> None:
        missing = parts.file.missing()
        if missing and not parts.file.knows_version:
            parts.bring(missing.pop(0), source)  # alone: see Run
        runs = split(missing, parts.file.part_size)
        number = {part: index for index, run in enumerate(runs) for part in run}
        asked = 0
        for part in range(parts.file.count):
            # Not all at once, so that hashing what arrived does not wait behind all.
            until = min(number.get(part, 0) + PARALLEL, len(runs))
            for run in runs[asked:until]:
                self.prefetch(parts, run, source, wish)
            asked = max(asked, until)
            parts.bring(part, source)

    def discard(self, parts: BlobParts) -> None:
        """Remove the files where they still bear their names; those who have them open notice by themselves."""
        with self.lock(parts.oid, parts.tid, "map"):
            parts.file.discard()
        with self._lock:
            if self._open.get((parts.oid, parts.tid)) is parts:
                del self._open[parts.oid, parts.tid]

    def publish(self, parts: BlobParts) -> Path:
        """The verified file under its name, where no other process put one there meanwhile."""
        oid, tid = parts.oid, parts.tid
        taken = False
        path = self._layout.blob(oid, tid)
        with self.lock(oid, tid, "map"):
            found = self._around.find(oid, tid)
            if found is not None:
                return found
            if parts.file.is_named():
                parts.file.seal(self._around.clock())
                taken = parts.file.take(path)
                if taken:
                    self._around.published(path)
        made = Path(path) if taken else self._copy(parts)
        self._around.completed(oid, tid, os.fspath(made))
        return made

    def _copy(self, parts: BlobParts) -> Path:
        """Evicted while it was filled: a file without a name cannot get one, so it is copied."""
        with disk():
            temporary = self._around.here().new_name()
            file = self._form.download(temporary, self._around.written, parts.oid, parts.tid)
        try:
            with file:
                for part in range(parts.file.count):
                    for block in parts.file.blocks(part):
                        file.write(block)
                file.seal(self._around.clock())
            with disk():
                return Path(self._around.publish(temporary, parts.oid, parts.tid))
        finally:
            with contextlib.suppress(OSError):
                os.unlink(temporary)  # where it was not published

    # Fetching ahead

    def prefetch(self, parts: BlobParts, run: Sequence[int], source: IBlobSource, wish: Wish) -> None:
        """Bring the parts of the run that are missing in the background, unless the wish is dropped before.

        Nobody waits for this: who needs a part finds it on its way, or brings it itself.
        """
        # Where a thread is free the parts are claimed at once: the reader, who needs the first of them now, would
        # otherwise be quicker than that thread and ask for it alone. Where none is, they are claimed when one is: who
        # needs a part does not wait for a thread.
        claimed = parts.claim(run) if self._works < _THREADS else None
        # Whoever takes it ends what is claimed: a pool that could start no thread keeps the work, and may do it later.
        begun = threading.Lock()

        def work() -> None:
            if begun.acquire(blocking=False):
                flights = parts.claim(run) if claimed is None else claimed
                parts.bring_all(flights, source, lambda: not (wish.dropped or self._closed))

        submitted = False
        try:
            submitted = self.submit(work)
        finally:
            if not submitted and begun.acquire(blocking=False) and claimed is not None:
                parts.free(claimed)

    def submit(self, work: Callable[[], object]) -> bool:
        """``work()`` in a thread of the pool. What it raises is raised again where somebody needs the bytes.

        False where no thread can be had: then readers do it all themselves.
        """
        with self._lock:
            if self._closed:
                return False
            if self._pool is None:
                self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="s3blobs-parts")
            self._works += 1
            try:
                self._pool.submit(self._quietly, work)
            except RuntimeError:  # no thread can be started, or the interpreter ends
                return False
            return True

    def _quietly(self, work: Callable[[], object]) -> None:
        try:
            work()
        except DiskFailure as failure:
            self.failed(failure)
        except (Lost, StoreError) as error:
            logger.debug("fetching a part ahead: %s", error)
        except Exception:
            logger.exception("fetching a part ahead failed")
        finally:
            with self._lock:
                self._works -= 1

    def failed(self, failure: BaseException) -> None:
        self._around.failed(failure)

    def count(self, name: str) -> None:
        self._around.count(name)

    def written(self, size: int) -> None:
        self._around.written(size)

    def find(self, oid: bytes, tid: bytes) -> Path | None:
        return self._around.find(oid, tid)

    def now(self) -> float:
        return self._around.clock()

    @property
    def closed(self) -> bool:
        return self._closed

    def check_open(self) -> None:
        """Unavailable after close: what is being downloaded then is given up."""
        if self._closed:
            raise Unavailable("The blob storage is closed.")

    @contextlib.contextmanager
    def lock(self, oid: bytes, tid: bytes, what: str) -> Iterator[None]:
        """A lock among the threads and processes of the machine: of the map, for example."""
        lock = self._take(oid, tid, what)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                lock.release(remove=True)

    def take_part(self, oid: bytes, tid: bytes, part: int, *, wait: bool = True) -> FileLock | None:
        """The lock of a part, to be released; None where somebody else has it and the caller does not wait."""
        if wait:
            return self._take(oid, tid, str(part))
        with disk():
            self._around.here()  # makes the folder where somebody deleted it
            return self._layout.lock(oid, tid, str(part))

    def _take(self, oid: bytes, tid: bytes, what: str) -> FileLock:
        until = time.monotonic() + self._patience
        with disk():
            self._around.here()
            while True:
                left = until - time.monotonic()
                lock = self._layout.lock(oid, tid, what, wait=max(0.0, min(left, _CLOSED_CHECK)))
                if lock is not None:
                    return lock
                self.check_open()
                if left <= 0:
                    raise TimeoutError(
                        errno.ETIMEDOUT, f"another process downloads one part for over {self._patience:.0f} s"
                    )

    def _place(self, oid: bytes, tid: bytes) -> Place:
        return Place(self._layout.blob(oid, tid).removesuffix(BLOB_SUFFIX), self._form, oid, tid)

    def close(self) -> None:
        """Give up the downloads that are under way, finish what is being published, join the threads. Idempotent."""
        with self._lock:
            self._closed = True
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown()


def check_rewritten(
    known: tuple[int, bytes | None], source: IBlobSource, error: PreconditionFailed, *, again: bool
) -> None:
    """The object in the store is not the one that was read so far, and its parts were given up.

    Returns where the new one is known to have the same bytes (keys were rotated, for example): then the caller begins
    anew, once. Else Unavailable.
    """
    if again or known[1] is None or source.describe() != known:
        raise Unavailable(REWRITTEN) from error
