"""Deleting what was sent to the staging area and never became a blob, or was never finished.

No record of a database refers to an object below ``uploads/``, so age alone decides, by the store's clock: who began an
upload may complete it for ``upload-expiry``, and for no longer.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from itertools import islice

from ..errors import Refused, StoreError
from ..keys import UPLOADS, is_upload_key
from ..objectstore.interfaces import Doomed, IObjectStore, Listed
from .interfaces import Swept

logger = logging.getLogger(__name__)

# Seconds after the expiry. A completion that began at the last moment copies for minutes, and what was sent by a
# request that was signed at the last moment is as old as that request's beginning.
LATE = 3600.0

BATCH = 1000  # what one DeleteObjects takes

# Seconds between two sweeps of one process. What nobody completes costs its room for a day anyway.
EVERY = 3600.0
# Seconds that closing waits for a store that does not answer.
GRACE = 2.0


def abandoned_before(now: datetime, expiry: float) -> datetime:
    """What was stored or begun before is given up. ``now``: by the store's clock; ``expiry`` in seconds."""
    return now - timedelta(seconds=expiry + LATE)


def sweep(store: IObjectStore, expiry: float, *, dry_run: bool = False, stop: threading.Event | None = None) -> Swept:
    """Delete what was abandoned: what was stored or begun more than ``expiry`` and an hour ago, by the store's clock.

    ``expiry``: ``upload-expiry``, in seconds. ``dry_run``: only tell. ``stop`` ends it before the next request; what is
    left the next sweep finds. In the thread of the caller, who has made sure that the prefix is this site's.

    Keys below ``uploads/`` that are none of an upload are left alone. One listing of objects and one of multipart
    uploads, a page at a time; a request for each thousand objects and for each multipart upload that goes. Raises what
    the store raises for a listing, and Unavailable.
    """
    stop = stop or threading.Event()
    before = abandoned_before(store.now(), expiry)
    objects = size = uploads = failed = 0
    lines = _abandoned(store, before, stop)
    while batch := list(islice(lines, BATCH)):
        if stop.is_set():
            break
        # With the ETag, where the store looks at it: what somebody stored there since the listing stays.
        sizes = {Doomed(line.key, line.etag): line.size for line in batch}
        left = {} if dry_run else store.delete_each(list(sizes)).failed
        failed += sum(code != "PreconditionFailed" for code in left.values())
        gone = [bytes_ for doomed, bytes_ in sizes.items() if doomed not in left]
        objects += len(gone)
        size += sum(gone)
    for key, upload_id, initiated in store.list_uploads(UPLOADS):
        if stop.is_set():
            break
        if not is_upload_key(key) or initiated >= before:
            continue
        try:
            if not dry_run:
                store.abort_upload(key, upload_id)
            uploads += 1
        except Refused:
            failed += 1
    return Swept(objects, uploads, size, failed)


def _abandoned(store: IObjectStore, before: datetime, stop: threading.Event) -> Iterator[Listed]:
    for line in store.list(UPLOADS):
        if stop.is_set():
            return
        if is_upload_key(line.key) and line.last_modified < before:
            yield line


class Sweeper:
    """Sweeps for one root storage, in a thread of its own, when somebody uploads. Its owner calls ``finish``, closes
    the store, and calls ``join``.

    ``may``: whether this process may delete there at all, asked each time: the storage is not read-only, and the prefix
    has an owner, since a copy of the site would have the same prefix. ``monotonic``: measures the hour.
    """

    def __init__(
        self,
        store: IObjectStore,
        expiry: float,
        may: Callable[[], bool],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._expiry = expiry
        self._may = may
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._last: float | None = None
        self._refusal_told = False

    def soon(self) -> None:
        """Begin to sweep, unless that was within the last hour. Any thread; waits for nothing, and raises nothing."""
        with self._lock:
            now = self._monotonic()
            if self._stop.is_set() or (self._last is not None and now - self._last < EVERY) or not self._may():
                return
            if self._thread is not None and self._thread.is_alive():
                return  # a store that is slow, or very much to delete
            self._last = now
            # A daemon's, so that nobody waits for a request that hangs (see ``join``).
            self._thread = threading.Thread(target=self._run, name="s3blobs-sweep", daemon=True)
            self._thread.start()

    def finish(self) -> None:
        """No more sweeps; the one that runs ends after its request."""
        with self._lock:
            self._stop.set()
        self.join()

    def join(self) -> None:
        """After the store was closed, which ends what the thread still tries, but for a request that hangs."""
        if self._thread is not None:
            self._thread.join(GRACE)

    def _run(self) -> None:
        try:
            swept = sweep(self._store, self._expiry, stop=self._stop)
        except Refused as error:
            level = logging.DEBUG if self._refusal_told else logging.WARNING
            self._refusal_told = True
            logger.log(
                level,
                "abandoned uploads below %s are left to `s3blobs gc`, since the store refuses to list or delete them"
                " (s3:ListBucket, s3:ListBucketMultipartUploads, s3:DeleteObject): %s; said once per process and"
                " storage",
                UPLOADS,
                error,
            )
        except StoreError as error:
            logger.info("abandoned uploads below %s were not swept: %s", UPLOADS, error)
        except Exception as error:
            level = logging.DEBUG if self._stop.is_set() else logging.WARNING  # closing pulls the store from under it
            logger.log(level, "abandoned uploads below %s were not swept: %s", UPLOADS, error, exc_info=True)
        else:
            _log(swept)


def _log(swept: Swept) -> None:
    if swept.objects or swept.uploads:
        logger.info(
            "abandoned uploads: %d objects (%d bytes) and %d unfinished ones deleted",
            swept.objects,
            swept.size,
            swept.uploads,
        )
    if swept.failed:
        logger.warning("%d abandoned uploads below %s could not be deleted", swept.failed, UPLOADS)
