"""What the bucket was seen to lack, so that it need not say so for each blob before a source is asked.

A first read through a source costs a request more, which the bucket answers by 404. After some of these a page of the
bucket's listing is read in the background; it tells of a range of keys which are there. In a copy that has just been
made one page tells it of all. What a page lacks is asked for at the sources first, and then in the bucket.

Why nobody gets wrong bytes by that: a revision is the same wherever it lies, since keys are written once, and a
source's bytes are checked in the same way behind a 404. What somebody else has mirrored since the page was read comes
from the source once more. Only a revision that was committed long before is looked up in a page: so what the site
writes is never asked for elsewhere, whatever a source has under the same oid and tid.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice

from persistent.TimeStamp import TimeStamp

from ..errors import StoreError
from ..keys import BLOBS, blob_key, read_reference_key
from ..objectstore.interfaces import IObjectStore

logger = logging.getLogger(__name__)

# A page costs a request; three that say "missing" in a row are a hint that it will save some.
MISSES = 3

# A listing costs ten times as much as a request that it spares, and of a large bucket it tells little: after so many
# pages that spared none the next one waits for eight misses, then for twice as many, up to the most.
_TRIED = 3
_MOST_MISSES = 1024

# Seconds for which a page is believed: a machine reads from a source what another one mirrored in this time.
BELIEVED = 30.0

# Seconds between a revision's transaction and a page that it is looked up in. Clocks of a cluster differ by seconds.
SETTLED = 3600.0

_PAGE = 1000  # keys: the most that one request brings
_CLOSING = 5.0  # seconds; the thread is a daemon, and what it does is lost on nobody
_PAGES = 8  # with a hundred bytes a key it is 800 KB


@dataclass
class _Page:
    """Keys above ``after``, up to ``last`` (None: all that follow): those that are there."""

    after: str
    last: str | None
    there: set[str]
    read: float  # by the monotonic clock
    tids_before: float  # seconds since 1970

    def covers(self, key: str) -> bool:
        return self.after < key and (self.last is None or key <= self.last)


@dataclass
class Lacking:
    """``store``: the bucket's. Any thread; raises nothing, and waits for nothing but in ``close``."""

    store: IObjectStore
    monotonic: Callable[[], float] = time.monotonic
    now: Callable[[], float] = time.time
    _lock: threading.Lock = field(default_factory=threading.Lock)  # guards all below
    _pages: deque[_Page] = field(default_factory=lambda: deque(maxlen=_PAGES))
    _misses: int = 0
    _idle: int = 0  # pages since one spared a request
    _since: int = 0  # misses since the last page
    _is_small: bool = True  # the last page from the beginning on had all keys, or there was none yet
    _again: float = 0.0  # no page is read before, by the monotonic clock
    _reading: threading.Thread | None = None
    _closed: bool = False
    _process: int = field(default_factory=os.getpid)

    def _check_process(self) -> None:
        """A forked child has no thread that reads, and nobody releases there what a thread of its parent held."""
        if self._process != os.getpid():
            self._lock, self._reading, self._process = threading.Lock(), None, os.getpid()

    def lacks(self, keys: Sequence[str], tid: bytes) -> bool:
        """Whether a revision that may have these keys was in no page, and would have been."""
        if not keys or not self._pages:
            return False
        self._check_process()
        lacks = self._told(keys, tid) is False
        if lacks:
            self._idle = 0
        return lacks

    def _told(self, keys: Sequence[str], tid: bytes) -> bool | None:
        """Whether one of them is there, as far as pages tell."""
        now = self.monotonic()
        with self._lock:
            pages = [page for page in self._pages if now - page.read < BELIEVED]
        for key in keys:
            if not key.startswith(BLOBS):  # a shared object, of which no page tells
                return None
            page = next((page for page in pages if page.covers(key)), None)
            if page is None or TimeStamp(tid).timeTime() > page.tids_before:
                return None
            if key in page.there:
                return True
        return False

    def missed(self, keys: Sequence[str], tid: bytes) -> None:
        """The bucket was asked, and had none of them."""
        if not keys or any(not key.startswith(BLOBS) for key in keys):  # of shared objects no page tells
            return
        self._check_process()
        with self._lock:
            self._misses += 1
            self._since += 1
            wanted = self._misses >= MISSES and self._reading is None and not self._closed
            if not wanted or self._since < self._pause() or self.monotonic() < self._again:
                return
        if TimeStamp(tid).timeTime() > self.now() - SETTLED:
            return  # committed lately: no page would tell of it
        if self._told(keys, tid) is not None:
            return  # it is nowhere, or gone since
        with self._lock:
            if self._reading is not None or self._closed:
                return
            # From the beginning, as long as such a page reaches the end: then it tells of all keys.
            after = "" if self._is_small else self._folder_before(keys[0])
            self._since, self._idle = 0, self._idle + 1
            self._reading = threading.Thread(target=self._read, args=(after,), name="s3blobs-lacking", daemon=True)
            try:
                self._reading.start()
            except RuntimeError:  # no thread can be started, or the interpreter ends
                self._reading = None

    def _pause(self) -> int:
        """Misses between the last page and the next one."""
        return 1 if self._idle < _TRIED else min(2**self._idle, _MOST_MISSES)

    def found(self) -> None:
        """The bucket had what it was asked for: what is read now lies there, not in sources."""
        self._check_process()
        with self._lock:
            self._misses = 0

    def came(self, key: str) -> None:
        """It is in the bucket now."""
        self._check_process()
        with self._lock:
            for page in self._pages:
                if page.covers(key):
                    page.there.add(key)

    def close(self) -> None:
        """Idempotent. Waits for a page that is being read, but not for a store that does not answer."""
        self._check_process()
        with self._lock:
            self._closed, reading = True, self._reading
        if reading is not None and reading.is_alive():
            reading.join(_CLOSING)

    @staticmethod
    def _folder_before(key: str) -> str:
        return key.rpartition("/")[0]

    def _read(self, after: str) -> None:
        started, settled = self.monotonic(), self.now() - SETTLED
        try:
            there = [line.key for line in islice(self.store.list(BLOBS, start_after=after), _PAGE)]
            # A revision with a reference is there, too.
            referring = [blob_key(*found[:2]) for key in there if (found := read_reference_key(key)) is not None]
        except Exception as error:
            level = logging.DEBUG if self._closed or isinstance(error, StoreError) else logging.ERROR
            logger.log(level, "what the bucket lacks is not known: %r", error)
            with self._lock:
                self._reading, self._again = None, started + BELIEVED
            return
        last = there[-1] if len(there) == _PAGE else None
        with self._lock:
            self._is_small = last is None if not after else self._is_small
            self._pages.append(_Page(after, last, {*there, *referring}, started, settled))
            self._reading = None


class NoLacking:
    """Nothing is known of the bucket: it is asked for each blob."""

    def lacks(self, keys: Sequence[str], tid: bytes) -> bool:
        return False

    def missed(self, keys: Sequence[str], tid: bytes) -> None:
        pass

    def found(self) -> None:
        pass

    def came(self, key: str) -> None:
        pass

    def close(self) -> None:
        pass
