"""The base storage's own blobs as a source: RelStorage's, or those that a ZEO server keeps."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from ZODB.interfaces import IBlobStorage, IMVCCStorage
from ZODB.POSException import POSKeyError
from zope.interface import implementer

from ..cache.interfaces import IBlobSource
from ..errors import BlobMissing, ConfigurationError, Unavailable
from .files import FileBytes
from .interfaces import ISource, Revision, Trouble

logger = logging.getLogger(__name__)

_ATTEMPTS = 3  # its cache may evict a file before it is opened


def check_keeps_blobs(base: Any) -> None:
    """Raise ConfigurationError where the storage inside has no blobs of its own, or has them in a plain directory."""
    helper = getattr(base, "blobhelper", None)  # RelStorage; a ZEO client has all of it itself
    if helper is None:
        shared = getattr(base, "shared_blob_dir", False)
    else:
        from relstorage.blobhelper.shared import SharedBlobHelper

        shared = isinstance(helper, SharedBlobHelper)
    if shared and IBlobStorage.providedBy(base):
        folder = getattr(getattr(helper or base, "fshelper", None), "base_dir", None)
        raise ConfigurationError(
            "<basesource>: the storage inside keeps its blobs in a directory that is shared: put a <blobdirsource> with"
            f" path {folder or 'of that directory'} in its place, and take blob-dir and shared-blob-dir out of the"
            " storage inside"
        )
    if not IBlobStorage.providedBy(base):
        raise ConfigurationError(
            "<basesource>: the storage inside has no blobs of its own: give the <relstorage> or <zeoclient> a blob-dir,"
            " the folder for the files that it fetches, or take <basesource> out"
        )


@implementer(ISource)
class BaseSource:
    """``base`` belongs to the storage, which closes it. Its ``loadBlob`` fetches a blob whole into its own folder.

    An MVCC base (RelStorage) has a load connection for one thread at a time: each call takes an instance of its own,
    which is kept for the next.
    """

    follows_undo = True

    def __init__(self, base: Any) -> None:
        self._base = base
        self._lock = threading.Lock()
        self._closed = False
        self._idle: list[Any] = []

    def __repr__(self) -> str:
        return f"<BaseSource {self._base!r}>"

    def blob(self, revision: Revision) -> IBlobSource:
        return FileBytes(revision, partial(self._opened, revision.oid, revision.tid), versioned=False)

    def _opened(self, oid: bytes, tid: bytes) -> int:
        for _ in range(_ATTEMPTS):
            try:
                with self._view() as view:
                    return os.open(view.loadBlob(oid, tid), os.O_RDONLY | os.O_CLOEXEC)
            except POSKeyError:
                raise BlobMissing(oid, tid) from None
            except FileNotFoundError:
                continue
            except Exception as error:  # a disconnected server, a database that is away, a full disk
                logger.warning("the storage inside did not give a blob: %s: %s", type(error).__name__, error)
                raise Unavailable("The storage inside cannot give its blob now.") from error
        raise Unavailable("The storage inside evicts its blob before it can be read.")

    @contextmanager
    def _view(self) -> Iterator[Any]:
        if not IMVCCStorage.providedBy(self._base):
            yield self._base
            return
        with self._lock:
            view = self._idle.pop() if self._idle else None
        if view is None:
            view = self._base.new_instance()
        usable = False
        try:
            view.poll_invalidations()
            yield view
            usable = True
        except (POSKeyError, FileNotFoundError):
            usable = True
            raise
        finally:
            # An open snapshot would hold back the database's vacuum.
            getattr(view, "afterCompletion", lambda: None)()
            with self._lock:
                if usable and not self._closed:
                    self._idle.append(view)
                    view = None
            if view is not None:
                view.release()

    def check(self) -> Trouble | None:
        return None  # the base is open, or the storage would not be

    def close(self) -> None:
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for view in idle:
            view.release()
