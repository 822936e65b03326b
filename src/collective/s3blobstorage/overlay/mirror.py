"""What was read from a source comes into the bucket, once, and whole.

The cache says when a file is complete; whether its bytes came from a source is noted while they come. A large blob of
which only a part was read is copied by the store itself, where it can. A failing bucket is never the reader's trouble:
what could not be stored is tried again when it comes from the source again.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ZODB.utils import oid_repr, tid_repr

from ..errors import Corrupt, StoreError
from ..keys import blob_key
from ..objectstore.content import Openable
from ..objectstore.interfaces import Cancelled, IObjectStore
from .bringing import store_file
from .interfaces import Revision, Share

logger = logging.getLogger(__name__)

# Beside the uploads of commits, which somebody waits for.
_THREADS = 2

# Uploads that wait for a thread. What comes above that is left out: the file may be evicted long before its turn.
_WAITING = 500

# Seconds. Who reads goes first: copying takes the processor, the line and the store that a reader waits for, so that
# with ``background`` it begins when nothing came from a source for the pause, which is longer than a round trip to a
# store on the same continent. But each waits only for so long, and none once half the places are taken: else a site
# that is always read would mirror nothing.
_PAUSE = 0.2
_PATIENCE = 2.0
_CROWD = _WAITING // 2

# Blobs of which some bytes came from a source and which are not complete yet.
_BEGUN = 10_000


# Bytes from which on the store is asked to copy before the file is complete; smaller ones are, a moment later.
_COPIED_FROM = 8 * 1024 * 1024

# Has the store copy a revision under a key; its size, or None where it cannot: ``IOverlay.copy_into``.
Copy = Callable[[Revision, IObjectStore, str], "int | None"]


def never_shared(revision: Revision, send: Callable[[str], object]) -> bool:
    return False


class _NotCopied(Exception):
    """The store cannot copy it. Never leaves this module."""


class NoMirror:
    """Nothing is stored: the storage is read-only, or no source is mirrored."""

    def note(self, revision: Revision, mode: str) -> None:
        pass

    def completed(self, oid: bytes, tid: bytes, file: str | Openable) -> None:
        pass

    def counts(self) -> dict[str, int]:
        return dict.fromkeys(_COUNTS, 0)

    def close(self) -> None:
        pass


_COUNTS = ("mirrored", "present", "failed", "skipped")


class Mirror:
    """``store`` is the bucket's, open for writing; ``copy`` has it copy; ``came`` is told the key of what came into it;
    ``share`` stores what is a shared object (``IOverlay.mirror_into``). Any thread; raises nothing.

    Counts since the opening: mirrored; present: another process was first; failed: the bucket did not take it; skipped:
    too many were waiting, or the file was evicted before its turn.
    """

    def __init__(
        self,
        store: IObjectStore,
        copy: Copy | None = None,
        came: Callable[[str], None] = lambda key: None,
        share: Share = never_shared,
    ) -> None:
        self._store = store
        self._copy_into = copy
        self._came = came
        self._share = share
        self._closing = threading.Event()
        self._own()

    def _own(self) -> None:
        """Everything that belongs to one process and must not be shared with a forked child."""
        self._process = os.getpid()
        self._lock = threading.Lock()  # guards all below; nothing waits while it is held
        self._begun: OrderedDict[tuple[bytes, bytes], tuple[Revision, str]] = OrderedDict()
        self._copied: OrderedDict[tuple[bytes, bytes], None] = OrderedDict()  # by the store; as many as of _begun
        self._pool: ThreadPoolExecutor | None = None
        self._waiting = 0
        self._read = 0.0  # time.monotonic() of the last bytes that are to be mirrored
        self._counts = dict.fromkeys(_COUNTS, 0)
        self._failing = False

    def note(self, revision: Revision, mode: str) -> None:
        """Bytes of the revision come from a source. ``mode``: its option ``mirror``; ``off``: none of it is stored."""
        key = revision.oid, revision.tid
        if mode == "off" and key not in self._begun:
            return
        self._check_process()
        with self._lock:
            if mode == "off":
                self._begun.pop(key, None)
                return
            self._read = time.monotonic()
            if key in self._copied:  # who began to read it from the source goes on there
                return
            first = key not in self._begun
            self._begun[key] = revision, mode
            self._begun.move_to_end(key)
            while len(self._begun) > _BEGUN:
                self._begun.popitem(last=False)
        if first and self._copy_into is not None and (revision.state.size or 0) >= _COPIED_FROM:
            self._submit(mode == "background", self._copy, revision, self._copy_into)

    def completed(self, oid: bytes, tid: bytes, file: str | Openable) -> None:
        """The whole, checked, is in ``file``. Called by the cache in the thread that completed it, before anybody
        is given the file. With ``mirror on`` it returns when the object is in the bucket, or could not be stored."""
        if not self._begun:  # nearly always: nothing came from a source
            return
        self._check_process()
        with self._lock:
            revision, mode = self._begun.pop((oid, tid), (None, ""))
            at_once = mode == "on" and not self._failing  # nobody waits for a bucket that takes nothing
        if revision is None or self._closing.is_set():
            return
        if at_once:
            self._mirror(revision, file)
        else:
            self._submit(True, self._mirror, revision, file)

    def counts(self) -> dict[str, int]:
        with self._lock:
            return dict(self._counts)

    def close(self) -> None:
        """Give up what waits and what is being sent; join the threads. Idempotent."""
        self._closing.set()
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None and self._process == os.getpid():
            pool.shutdown(cancel_futures=True)

    def _check_process(self) -> None:
        if self._process != os.getpid():
            self._own()

    def _submit(self, patient: bool, work: Callable[..., None], *arguments: Any) -> None:
        with self._lock:
            if self._waiting < _WAITING and not self._closing.is_set():
                if self._pool is None:
                    self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="s3blobs-mirror")
                self._waiting += 1
                try:
                    self._pool.submit(self._from_pool, patient, work, *arguments)
                    return
                except RuntimeError:  # no thread can be started, or the interpreter ends
                    self._waiting -= 1
            self._counts["skipped"] += 1

    def _from_pool(self, patient: bool, work: Callable[..., None], *arguments: Any) -> None:
        try:
            if patient:
                self._let_readers_go_first()
            if not self._closing.is_set():
                work(*arguments)
        finally:
            with self._lock:
                self._waiting -= 1

    def _let_readers_go_first(self) -> None:
        now = time.monotonic()
        latest = now + _PATIENCE
        # Both numbers are read without the lock: an old one costs a moment.
        while self._waiting < _CROWD and not self._closing.wait(max(0.0, min(self._read + _PAUSE, latest) - now)):
            now = time.monotonic()
            if now >= min(self._read + _PAUSE, latest):
                return

    def _copy(self, revision: Revision, copy_into: Copy) -> None:
        """Have the store copy it. Where that does not work it is stored when it is complete."""
        key = blob_key(revision.oid, revision.state.name_at(revision.tid))
        present = False

        def copied(target: str) -> None:
            if copy_into(revision, self._store, target) is None:
                raise _NotCopied

        try:
            if not self._share(revision, copied):
                present = self._store.head(key) is not None
                if not present:
                    copied(key)
        except _NotCopied:
            return
        except StoreError as error:
            logger.debug("blob %s is not copied by the store: %s", oid_repr(revision.oid), error)
            return
        except Exception:
            logger.exception("blob %s is not copied by the store", oid_repr(revision.oid))
            return
        with self._lock:
            self._begun.pop((revision.oid, revision.tid), None)
            self._copied[revision.oid, revision.tid] = None
            while len(self._copied) > _BEGUN:
                self._copied.popitem(last=False)
        self._came(key)
        self._count("present" if present else "mirrored")

    def _mirror(self, revision: Revision, file: str | Openable) -> None:
        where = f"blob {oid_repr(revision.oid)} at {tid_repr(revision.tid)}"
        key = blob_key(revision.oid, revision.state.name_at(revision.tid))
        content = Path(file) if isinstance(file, str) else file
        cancelled = self._closing.is_set

        def send(target: str) -> object:
            return self._store.put_file(
                target,
                content,  # type: ignore[arg-type]
                metadata={},
                sha256=revision.state.sha256,
                if_absent=True,
                shared=True,
                cancelled=cancelled,
            )

        try:
            stored = self._share(revision, send) or store_file(
                self._store,
                key,
                content,
                revision.oid,
                revision.tid,
                sha256=revision.state.sha256,
                cancelled=cancelled,
            )
        except Cancelled:
            return
        except OSError:  # evicted before its turn
            self._count("skipped")
            logger.debug("%s was evicted before it was mirrored", where)
        except Corrupt as error:
            self._count("failed")
            logger.error("%s is not mirrored: %s", where, error)
        except StoreError as error:
            self._tell(where, error)
        except Exception:
            self._count("failed")
            logger.exception("%s is not mirrored", where)
        else:
            self._came(key)
            self._count("mirrored" if stored else "present")
            self._recovered()

    def _count(self, name: str) -> None:
        with self._lock:
            self._counts[name] += 1

    def _tell(self, where: str, error: Any) -> None:
        """Once per outage."""
        with self._lock:
            self._counts["failed"] += 1
            told, self._failing = self._failing, True
        level = logging.DEBUG if told else logging.WARNING
        logger.log(level, "%s is not mirrored, as the bucket does not take it (said once): %s", where, error)

    def _recovered(self) -> None:
        with self._lock:
            told, self._failing = self._failing, False
        if told:
            logger.warning("the bucket takes what is mirrored again")
