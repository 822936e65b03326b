"""Files of a store that must not stay when its cache is encrypted: those in clear, and those whose key is lost."""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from .bound import files_of
from .layout import BLOB_SUFFIX, MAP_SUFFIX, PART_SUFFIX, Layout, StoreFolder, lock_key
from .locks import FileLock
from .processes import living
from .sealedform import Sealed

logger = logging.getLogger(__name__)


def sweep(
    layout: StoreFolder, in_clear: Layout, form: Sealed, staging_dir: Path | None, stopped: Callable[[], bool]
) -> None:
    """In the cleaner's thread. ``in_clear``: the same store's cache without ``cache-encrypt``. Never raises."""
    count = remove_clear(in_clear, stopped)
    if count:
        logger.warning("cache-encrypt is on: %d files in clear are removed from %s", count, in_clear.folder)
    for parent in (staging_dir, Path(tempfile.gettempdir())):
        if parent is not None:
            for _ in living(parent, f"s3blobs-{in_clear.store}-"):
                pass
    if form.keys.replaced:
        form.keys.replaced = False
        count = remove_unreadable(layout, form, stopped)
        if count:
            logger.warning("%d files that no key opens any more are removed from %s", count, layout.folder)


def remove_clear(store: StoreFolder, stopped: Callable[[], bool]) -> int:
    """Remove the files that the same store's cache had, or has, without ``cache-encrypt``; how many. Never raises.

    A process that still runs without it finds them evicted.
    """
    count = 0
    for path, _, _ in files_of(store):
        if stopped():
            break
        with contextlib.suppress(OSError):
            os.unlink(path)
            count += 1
    return count


def remove_unreadable(store: StoreFolder, form: Sealed, stopped: Callable[[], bool]) -> int:
    """Remove what another machine key encrypted; how many blobs. Never raises."""
    count = 0
    for path, revision, suffix in files_of(store):
        if stopped():
            break
        with contextlib.suppress(OSError):
            if suffix == BLOB_SUFFIX:
                count += _removed(path, revision, form)
            elif suffix == PART_SUFFIX:
                # Whoever makes the two files holds this, until the first one has its header.
                lock = FileLock.take(store.downloads_lock, key=lock_key(revision, "map"))
                if lock is None:
                    continue
                try:
                    if _removed(path, revision, form):
                        count += 1
                        os.unlink(path.removesuffix(PART_SUFFIX) + MAP_SUFFIX)
                finally:
                    lock.release(remove=True)
    return count


def _removed(path: str, revision: str, form: Sealed) -> bool:
    oid, tid = map(bytes.fromhex, revision.split("-"))
    if form.is_readable(path, oid, tid):
        return False
    os.unlink(path)
    return True
