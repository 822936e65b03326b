"""Files on the local disk, one per blob revision, shared by all processes of the machine."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import shutil
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from zope.interface import implementer

from ..encryption.ring import KeyRing
from ..errors import ConfigurationError, S3BlobStorageError, StagingError, Unavailable
from ..settings import MinFree
from . import bound, leftovers, room
from .cleaner import Cleaner
from .clear import ATTEMPTS, LOST, ClearFiles, ClearPath
from .counters import Counters, add_to_total
from .disk_warnings import DiskWarnings
from .downloads import DiskFailure, disk, run, seal_named
from .durable import Unsynced
from .flights import Flights
from .form import Form, Lost, Plain, StoredFile
from .found import Found
from .history import History
from .interfaces import IBlobCache, IBlobSource
from .layout import Layout, is_whole, sealed_identity, stores
from .machinekey import MachineKeyFile
from .partreader import PartReader
from .partstore import PartStore, Surroundings
from .private import PrivateFiles
from .processes import STAGING, ProcessFolder, living
from .sealedform import Sealed
from .staged import Staged, StoredContent, received, taken_over

logger = logging.getLogger(__name__)

# How long to wait for another process's download before making one of our own: as long as the default of
# download-deadline. Without an end, a process that was stopped in the middle would stop the readers of all others.
PATIENCE = 3600.0  # seconds

# A use is noted at most this often per file: a system call less for all reads in between.
_NOTING = 60.0  # seconds

# The default of cache-min-free.
MIN_FREE = MinFree(share=0.05)

_caches: weakref.WeakSet[BlobCache] = weakref.WeakSet()


def _open_unbuffered(path: str) -> BinaryIO:
    return open(path, "rb", buffering=0)


@implementer(IBlobCache)
class BlobCache:
    """See ``interfaces.IBlobCache``.

    root: ``cache-dir``. identity: the store whose blobs these are; caches with other identities keep to other folders.
    size: the bound in bytes, over complete, temporary and staged files and parts of all stores in ``root``; above it is
    only what was handed out in the last ``protect`` seconds, or is being written. min_free: what stays free of the disk
    of ``root``. fill_on_commit: which files ``adopt`` takes: ``on``, ``off``, or ``small``, those up to part_threshold
    bytes. staging_dir: a folder on the same file system makes ``adopt`` a rename; None: inside the store's folder.
    limit_commits: whether ``size`` also limits what is being committed and downloaded at one time (``make_room``).
    part_threshold: a larger blob is read by parts of ``part_size`` bytes. patience: seconds to wait for another
    process's download. clock: seconds since 1970. completed: called with oid, tid and path when a complete file was
    made of what a source delivered, in the thread that made it and before it is handed out; it raises nothing. ring:
    what the files are encrypted with (``cache-encrypt``, see ``cipher.py``); None: they lie there as they are.
    ring_later: its keys cannot be read before ``ring_opened`` is called; until then Unavailable is raised.

    Raises ConfigurationError where ``root`` is not a cache of ours. A disk that does not work is no reason to raise.

    A forked child may go on using the object: it gets a folder, a cleaner and private files of its own at
    first use, and leaves those of its parent alone. What the parent's threads were doing does not go on there.
    """

    def __init__(
        self,
        root: Path,
        identity: str,
        *,
        size: int,
        min_free: MinFree = MIN_FREE,
        fill_on_commit: str = "small",
        staging_dir: Path | None = None,
        limit_commits: bool = False,
        part_threshold: int = 8 * 1024 * 1024,
        part_size: int = 4 * 1024 * 1024,
        protect: float = 300.0,
        patience: float = PATIENCE,
        clock: Callable[[], float] = time.time,
        completed: Callable[[bytes, bytes, str | StoredContent], None] = lambda oid, tid, file: None,
        ring: KeyRing | None = None,
        ring_later: bool = False,
    ) -> None:
        self.counters = Counters()
        self.seals = ring is not None
        self._layout = Layout(Path(root), sealed_identity(identity) if self.seals else identity)
        self._form: Form = Plain()
        self._keys: MachineKeyFile | None = None
        if ring is not None:
            self._in_clear = Layout(Path(root), identity)  # the same store's, without cache-encrypt
            self._keys = MachineKeyFile(self._layout.folder, self._layout.store, ring, waiting=ring_later)
            self._form = Sealed(self._keys)
        self._min_free = min_free
        self._adopted_size = {"on": None, "off": -1, "small": part_threshold}[fill_on_commit]  # None: any
        self._staging_dir = staging_dir
        self._limit_commits = limit_commits
        self._protect = protect
        self._noting = min(_NOTING, protect / 5)
        # Added, since the last note of a file handed out now may be that old.
        self._margins = bound.Margins(size=size, protect=protect + self._noting)
        self._patience = patience
        self._clock = clock
        self._tell_completed = completed
        self._warnings = DiskWarnings(logger, f"cache-dir {self._layout.root}")
        self._closed = False
        surroundings = Surroundings(
            find=self._find,
            here=self._here,
            publish=self._publish,
            published=lambda path: self._unsynced.add(path),
            completed=self._completed,
            count=self._count,
            written=self._note_written,
            failed=self.failed,
            clock=clock,
        )
        self.found = Found(self._layout.found)
        self._parts = PartStore(
            self._layout, self._form, surroundings, threshold=part_threshold, part_size=part_size, patience=patience
        )
        # tempfile finds it out once, under a lock. Where the cleaner's thread held it while another thread forked, the
        # child would wait for it for ever (seen once).
        tempfile.gettempdir()
        self._own()
        with self._degrading():
            self._layout.check_foreign()
            if self.seals:
                self._layout.prepare()
                self._form.settle()  # here, so that what is wrong with the key is told
            self._here()
        self._cleaner.start()
        _caches.add(self)

    def ring_opened(self) -> None:
        """The ring's keys can be read from now on. In any thread; the log has what is wrong with them."""
        if self._keys is not None and self._keys.waiting:
            self._keys.waiting = False
            try:
                with self._degrading(), self._lock:
                    self._layout.prepare()
                    self._form.settle()
            except S3BlobStorageError as error:
                self._keys.waiting = True
                logger.error("cache-encrypt: %s", error)

    def _own(self) -> None:
        """Everything that belongs to one process and must not be shared with a forked child."""
        self._flights: Flights[str] = Flights()
        self._parts.own()
        self._lock = threading.Lock()
        self._folder: ProcessFolder | None = None
        self._staging: ProcessFolder | None = None
        self._device_of: tuple[Path | None, int] = None, 0
        self._staging_known: tuple[int, Path | None] = 0, None  # the process, and the folder it was given last
        self._private = PrivateFiles(self._layout.store, self._form, self._protect)
        self._unsynced = Unsynced()
        self._history = History(self._layout, lambda: self.counters, self._clock)
        self._cleaner = Cleaner(
            self._layout, self._margins, self._min_free, self.counters, self._clock, self._sweep, self._tick
        )
        self._clear = ClearFiles(self, (self._here, self._private.folder), self._cleaner.written, self._protect)

    # Reading

    def expected(self, oid: bytes, tid: bytes) -> str:
        return self._layout.blob(oid, tid)

    def get(self, oid: bytes, tid: bytes) -> Path | None:
        path = self.get_text(oid, tid)
        return None if path is None else Path(path)

    def get_text(self, oid: bytes, tid: bytes) -> str | None:
        path = self._find_text(oid, tid)
        if path is not None:
            self.counters.add("hits")
        return path

    def _find(self, oid: bytes, tid: bytes) -> Path | None:
        path = self._find_text(oid, tid)
        return None if path is None else Path(path)

    def _find_text(self, oid: bytes, tid: bytes) -> str | None:
        path = self._layout.blob(oid, tid)
        try:
            status = os.stat(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            self.failed(error)
            return None
        if not is_whole(status):
            self._discard(path, oid, tid)
            return None
        now = self._clock()
        # Noted by ourselves: file systems are mounted noatime or relatime. A use in the future is from before the clock
        # was set back.
        if not 0 <= now - status.st_atime < self._noting:
            try:
                os.utime(path, ns=(int(now * 1e9), status.st_mtime_ns))
            except FileNotFoundError:
                return None  # evicted just now
            except OSError:
                pass  # a read-only disk: nobody evicts from it
        return path

    def _discard(self, path: str, oid: bytes, tid: bytes) -> None:
        try:
            os.unlink(path)
        except FileNotFoundError:
            return
        except OSError as error:
            self.failed(error)
            return
        logger.warning(
            "cache file of oid 0x%s tid 0x%s in cache-dir %s was changed by something else, it is removed",
            oid.hex(),
            tid.hex(),
            self._layout.root,
        )

    def fetch(self, oid: bytes, tid: bytes, download: Callable[[BinaryIO], Any]) -> Path:
        return Path(self._fetch_text(oid, tid, download))

    def _fetch_text(self, oid: bytes, tid: bytes, download: Callable[[BinaryIO], Any]) -> str:
        path = self.get_text(oid, tid)
        return self._fetch_missing(oid, tid, download) if path is None else path

    def _fetch_missing(self, oid: bytes, tid: bytes, download: Callable[[BinaryIO], Any]) -> str:
        """The file, which was not there a moment ago."""
        self.counters.add("misses")
        try:
            return self._flights.run(
                (oid, tid), lambda: self._bring(oid, tid, download), lambda: self.counters.add("waits")
            )
        finally:
            self.counters.save_now_and_then()

    def open(
        self,
        oid: bytes,
        tid: bytes,
        download: Callable[[BinaryIO], Any],
        opener: Callable[[str], Any] = _open_unbuffered,
        *,
        looked: bool = False,
    ) -> Any:
        fetch = self._fetch_missing if looked else self._fetch_text
        for _ in range(3):
            path = fetch(oid, tid, download)
            try:
                return opener(path)
            except FileNotFoundError:
                continue  # evicted, or deleted by somebody, between the two lines
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE):
                    raise  # no file would open now
                self.failed(error)
                break
        # A file of our own, which no other process touches.
        return opener(self.fetch_private(oid, tid, download))

    def fetch_private(self, oid: bytes, tid: bytes, download: Callable[[BinaryIO], Any]) -> str:
        return self._flights.run(
            (oid, tid, "private"), lambda: self._bring_private((oid, tid), download), lambda: self.counters.add("waits")
        )

    def open_whole(self, oid: bytes, tid: bytes, download: Callable[[BinaryIO], Any]) -> StoredFile:
        """The complete file, which was not there just now, opened. Raises what ``fetch`` raises, and DiskFailure."""
        return self.open(oid, tid, download, lambda path: self.open_stored(path, oid, tid), looked=True)

    def open_stored(self, path: str | Path, oid: bytes, tid: bytes) -> StoredFile:
        """A complete file that was handed out. FileNotFoundError where it was evicted, or is damaged, and then removed;
        other OSErrors, and DiskFailure."""
        try:
            return self._form.open(path, oid, tid)
        except Lost:
            self._discard(os.fspath(path), oid, tid)
            raise FileNotFoundError(errno.ENOENT, "a cache file was damaged", os.fspath(path)) from None

    def discard(self, file: StoredFile, oid: bytes, tid: bytes) -> None:
        """Remove a complete file that turned out to be damaged, where it still bears its name."""
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(file.descriptor), os.stat(file.path, follow_symlinks=False)):
                self._discard(os.fspath(file.path), oid, tid)

    # As it is

    def path(self, oid: bytes, tid: bytes, source: Callable[[], IBlobSource]) -> str:
        if self.seals:
            return self._clear.path(oid, tid, source)
        cached = self.get_text(oid, tid)
        return os.fspath(self.complete(oid, tid, source())) if cached is None else cached

    def keep(self, path: str) -> None:
        if isinstance(path, ClearPath):
            self._clear.keep(path)

    def open_plain(self, oid: bytes, tid: bytes, source: IBlobSource) -> StoredFile:
        """A file whose descriptor has the blob's bytes as they are. Raises what ``path`` raises, and OSError."""
        for _ in range(ATTEMPTS):
            path = self.path(oid, tid, lambda: source)
            with contextlib.suppress(FileNotFoundError):  # evicted between the two lines
                return StoredFile(path)
        if self.seals:
            raise Unavailable(LOST)
        return self.open(oid, tid, source.download, StoredFile)

    def _completed(self, oid: bytes, tid: bytes, path: str) -> None:
        if self.seals:
            self._tell_completed(oid, tid, StoredContent(lambda: self.open_stored(path, oid, tid)))
        else:
            self._tell_completed(oid, tid, path)

    def _bring(self, oid: bytes, tid: bytes, download: Callable[[BinaryIO], Any]) -> str:
        path = self._private.find((oid, tid))
        if path is not None:
            return os.fspath(path)
        if self._is_crowded():
            try:
                return self._bring_private((oid, tid), download)
            except Unavailable as error:
                if not isinstance(error.__cause__, DiskFailure):
                    raise
                # Elsewhere the disk is full; here it is not yet.
        try:
            return self._bring_here(oid, tid, download)
        except DiskFailure as failure:
            self.failed(failure)
        return self._bring_private((oid, tid), download)

    def _is_crowded(self) -> bool:
        """Whether the cache's disk has to be left alone, with a line in the log.

        Not where the temporary folder is on the same disk: there a file would take as much, once per process, and go no
        sooner than one in the cache, which the cleaner evicts as soon as it is protected no more.
        """
        if not self._cleaner.crowded():
            return False
        with contextlib.suppress(OSError):
            if os.stat(tempfile.gettempdir()).st_dev == os.stat(self._layout.root).st_dev:
                return False
        self._warnings.warn("its disk has less free space than cache-min-free, and no file may be evicted for it")
        return True

    def _bring_here(self, oid: bytes, tid: bytes, download: Callable[[BinaryIO], Any]) -> str:
        """Download into the cache's folder and publish; DiskFailure where the disk does not take it."""
        with disk():
            folder = self._here()
            lock = self._layout.lock(oid, tid, wait=self._patience)
            if lock is None:
                raise TimeoutError(
                    errno.ETIMEDOUT, f"another process downloads one blob for over {self._patience:.0f} s"
                )
        try:
            # Another process may have published it while we waited, another thread before we began.
            path = self._find_text(oid, tid)
            if path is not None:
                return path
            temporary = folder.new_name()
            try:
                with disk():
                    file = self._form.download(temporary, self._note_written, oid, tid)
                with file:
                    self.counters.add("downloads")
                    run(download, file)
                    file.seal(self._clock())
                with disk():
                    path = self._publish(temporary, oid, tid)
                    temporary = ""
                self._completed(oid, tid, path)
                return path
            finally:
                if temporary:
                    with contextlib.suppress(OSError):
                        os.unlink(temporary)
        finally:
            with contextlib.suppress(OSError):
                lock.release(remove=True)

    def _bring_private(self, key: tuple[bytes, bytes], download: Callable[[BinaryIO], Any]) -> str:
        path = self._private.find(key)
        if path is not None:
            return os.fspath(path)
        self.counters.add("downloads")
        made = os.fspath(self._private.download(key, download))
        self._completed(*key, made)
        return made

    def _publish(self, sealed: str, oid: bytes, tid: bytes) -> str:
        path = self._layout.blob(oid, tid)
        try:
            os.rename(sealed, path)
        except FileNotFoundError:
            with contextlib.suppress(FileExistsError):
                os.mkdir(os.path.dirname(path), 0o700)
            os.rename(sealed, path)
        self._unsynced.add(path)
        return path

    # Reading by parts

    def complete(self, oid: bytes, tid: bytes, source: IBlobSource) -> Path:
        path = self.get(oid, tid)
        if path is not None:
            return path
        described = self._parts.describe(oid, tid, source)
        if not self._parts.is_large(described[0]):
            return Path(self._fetch_missing(oid, tid, source.download))
        self._count("misses")
        return Path(
            self._flights.run(
                (oid, tid), lambda: self._bring_parts(oid, tid, described, source), lambda: self._count("waits")
            )
        )

    def _bring_parts(self, oid: bytes, tid: bytes, described: tuple[int, bytes | None], source: IBlobSource) -> str:
        path = self._private.find((oid, tid))
        if path is not None:
            return os.fspath(path)
        try:
            return os.fspath(self._parts.complete(oid, tid, described, source))
        except DiskFailure as failure:
            self.failed(failure)
        return self._bring_private((oid, tid), source.download)

    def open_lazily(
        self,
        oid: bytes,
        tid: bytes,
        source: IBlobSource,
        *,
        name: os.PathLike[str],
        blob: Any = None,
        looked: bool = False,
    ) -> PartReader:
        return PartReader(self, self._parts, oid, tid, source, name, blob, looked)

    def _count(self, name: str) -> None:
        self.counters.add(name)

    # Committing

    def adopts(self, size: int) -> bool:
        return self._adopted_size is None or size <= self._adopted_size

    def prepare(self, staged: str | Path, size: int) -> bool:
        if self.seals:
            return False  # ``adopt`` writes to it
        try:
            self._seal(staged, size)
        except OSError as error:
            self.failed(error)
            return False
        return True

    def _seal(self, path: str | Path, size: int | None = None) -> None:
        # Not handed out to anybody yet, so it may go: a copy of gigabytes must not be protected as a whole.
        seal_named(path, self._clock() - self._margins.protect - 1, size)

    def adopt(self, oid: bytes, tid: bytes, staged: str | Path, *, prepared: bool = False) -> bool:
        try:
            size = os.stat(staged).st_size
            if self._closed or not self.adopts(self._form.size_of(size)):
                return False
            if isinstance(self._form, Sealed):
                self._form.commit(staged, oid, tid)
            if not prepared:
                self._seal(staged)
            try:
                self._publish(os.fspath(staged), oid, tid)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                self._publish_copy(staged, oid, tid)
        except (OSError, Lost) as error:
            self.failed(error)
            return False
        except Unavailable:
            return False  # closed
        self._note_written(size)
        return True

    def _publish_copy(self, staged: str | Path, oid: bytes, tid: bytes) -> None:
        """From another file system."""
        temporary = self._here().new_name()
        try:
            shutil.copyfile(staged, temporary)
            self._seal(temporary)
            self._publish(temporary, oid, tid)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
        with contextlib.suppress(OSError):
            os.unlink(staged)

    def staging(self, *, elsewhere: bool = False, known: bool = False) -> Path:
        if not elsewhere:
            process, folder = self._staging_known
            if known and folder is not None and process == os.getpid() and not self._closed:
                return folder
            try:
                folder = self._staging_here()
                self._staging_known = os.getpid(), folder  # one assignment: a thread sees both or neither
                return folder
            except OSError as error:
                self.failed(error)
        try:
            return _subfolder(self._private.folder())
        except OSError as error:
            raise Unavailable(
                "Nothing can be committed: neither staging-dir nor the temporary folder (TMPDIR) takes a file."
            ) from error

    def uncommitted(self) -> Path:
        here = self.staging()
        try:
            if room.roomier(here, Path(tempfile.gettempdir()), self._min_free):
                return self.staging(elsewhere=True)
        except (OSError, Unavailable):
            pass  # nobody can tell, or the other takes no file: whoever writes sees what this one does
        return here

    def _staging_here(self) -> Path:
        if self._staging_dir is None:
            return _subfolder(self._here())
        with self._lock:
            if self._closed:
                raise Unavailable("The blob storage is closed.")
            if self._staging is None or not self._staging.usable:
                if self._staging is not None:
                    self._staging.remove()
                    self._staging = None
                self._staging_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._staging = ProcessFolder.make(self._staging_dir, self._staging_prefix)
            return self._staging.path

    def stage(self, source: Path, target: Path, oid: bytes) -> Staged:
        return taken_over(self._form, source, target, oid)

    def receive(
        self,
        target: Path,
        oid: bytes,
        download: Callable[[BinaryIO], Any],
        written: Callable[[int], None] = lambda size: None,
    ) -> Staged:
        return received(self._form, target, oid, download, written)

    def make_room(self, path: str | Path, folder: Path, *, staged: bool = False) -> int:
        status = os.stat(path)
        size = status.st_size
        if self._limit_commits:
            self._check_bound(0 if Path(path).is_relative_to(folder) else size)
        # A file that is encrypted is written once more before the first one goes.
        renamed = not self.seals and status.st_dev == self._device(folder)
        more = 0 if staged or renamed else size
        lacking = room.missing(folder, more, self._min_free)
        if lacking and os.stat(folder).st_dev == os.stat(self._layout.root).st_dev:
            self._cleaner.free(lacking)
            lacking = room.missing(folder, more, self._min_free)
        if lacking:
            raise OSError(errno.ENOSPC, f"its disk has {lacking} bytes less than a commit leaves free")
        self._cleaner.written(size)
        return size

    def _device(self, folder: Path) -> int:
        """The disk of a staging folder. Asked once: a process makes each under a name of its own, and what is mounted
        over it hides it, so that the next one has another name."""
        known, device = self._device_of
        if known != folder:
            device = os.stat(folder).st_dev
            self._device_of = folder, device  # one assignment: a thread sees both or neither
        return device

    def _check_bound(self, more: int) -> None:
        """Raise StagingError where ``more`` bytes are too many.

        Two limits, so that a volume of three times the bound is never full: what is under way takes at most the bound,
        and at most twice the bound is taken altogether, files included that were handed out lately and cannot be
        evicted. The third is for what several processes and threads begin at the same moment.
        """
        size = self._margins.size
        folders = [store.processes for store in stores(self._layout.root)]
        if self._staging_dir is not None:
            folders.extend(self._staging_dir.glob(f"{self._staging_prefix}*"))
        taken, allowed = room.in_flight(folders) + more, size
        if taken <= allowed:
            taken, allowed = self._cleaner.estimate() + more, 2 * size
            if taken > allowed:
                self._cleaner.clean()
                taken = self._cleaner.estimate() + more
        if taken > allowed:
            logger.warning("a commit is refused: %d bytes are taken, %d with cache-size %d", taken, allowed, size)
            raise StagingError(
                "The upload does not fit beside the files that are in use: try again later, or raise cache-size"
                " (commit-within-cache-size is on)."
            )

    @property
    def layout(self) -> Layout:
        """Where this store's files are on the disk."""
        return self._layout

    def processes(self) -> int:
        """How many processes of this machine use this store's folder, by their folders; 0 where it cannot be read."""
        try:
            return len(os.listdir(self._layout.processes))
        except OSError:
            return 0

    def estimate(self) -> int:
        """About how many bytes lie in ``cache-dir``, of all stores, as the last cleaning found and by what this process
        wrote since. Makes no system call."""
        return self._cleaner.estimate()

    @property
    def _staging_prefix(self) -> str:
        return f"s3blobs-{self._layout.store}-"

    # Cleaning

    def clean(self) -> None:
        """What the cleaner's thread does, now and in the calling thread: sweep, and enforce the bound."""
        self._cleaner.clean()

    def _tick(self) -> None:
        self._unsynced.sync()
        self._clear.drop()
        self._history.tick()

    def _sweep(self) -> None:
        if self._keys is not None and not self._keys.waiting:
            leftovers.sweep(self._layout, self._in_clear, self._form, self._staging_dir, self._is_closed)
        if self._staging_dir is not None:
            for _ in living(self._staging_dir, self._staging_prefix):
                pass
        self._private.drop(self._protect)
        self._private.sweep()

    def _is_closed(self) -> bool:
        return self._closed

    # The disk and the process

    def _here(self) -> ProcessFolder:
        """This process's folder in the store's folder, made where it is not there. OSError; Unavailable after close."""
        with self._lock:
            if self._closed:
                raise Unavailable("The blob storage is closed.")
            if self._folder is None or not self._folder.usable:
                if self._folder is not None:
                    self._folder.remove()  # somebody deleted it; its lock is still held
                    self._folder = None
                try:
                    self._layout.prepare()
                    self._form.settle()
                except ConfigurationError as error:
                    # Refused at the start; exchanged while running it is a disk that cannot be used.
                    raise OSError(errno.EINVAL, str(error)) from error
                self._folder = ProcessFolder.make(self._layout.processes)
                self.counters.keep_in(self._folder.path)
            folder = self._folder
        self._cleaner.start()  # in a forked child it is not running yet
        return folder

    @contextlib.contextmanager
    def _degrading(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.failed(error)

    def failed(self, error: BaseException) -> None:
        """The disk failed: for the log and the counters."""
        self.counters.add("errors")
        self._warnings.warn(error)

    def _note_written(self, size: int) -> None:
        self.counters.add("bytes", size)
        self._cleaner.written(size)

    def _become_child(self) -> None:
        self.counters = self.counters.for_child()
        self._warnings = DiskWarnings(logger, f"cache-dir {self._layout.root}")
        self._own()

    def close(self) -> None:
        self._parts.close()  # first: what it publishes needs the folder
        with self._lock:
            self._closed = True
            here, staging = self._folder, self._staging
            self._folder = self._staging = None
        self._cleaner.close()
        self._clear.close()
        self._unsynced.sync()
        self.counters.end()
        if here is not None:
            add_to_total(self._layout, here.path)
            here.remove()
        if staging is not None:
            staging.remove()
        self._private.close()
        _caches.discard(self)


def _subfolder(folder: ProcessFolder) -> Path:
    path = folder.path / STAGING
    if not os.path.isdir(path):  # cheaper than to be told that it is there
        path.mkdir(mode=0o700, exist_ok=True)
    return path


def _become_children() -> None:
    for cache in list(_caches):
        cache._become_child()


os.register_at_fork(after_in_child=_become_children)
