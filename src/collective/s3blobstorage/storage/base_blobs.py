"""The blobs that the base storage keeps itself: refused, or kept there beside the bucket (``keep-in-base``)."""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ZODB.interfaces as zodb
from ZODB.blob import rename_or_copy_blob

from ..cache.staged import PlainStaged, Staged
from ..errors import ConfigurationError, StagingError
from .interfaces import IBlobObjects

if TYPE_CHECKING:
    from .upload import StagedBlob

logger = logging.getLogger(__name__)


def check_base(base: Any, *, keep: bool, used: bool) -> None:
    """Raise ConfigurationError where the base cannot be the storage inside, because of its own blobs.

    ``keep``: ``keep-in-base`` is on, so it must have some. ``used``: a ``<basesource>`` reads them; with neither they
    would never be asked for.
    """
    if keep:
        if not _has_blobs(base):
            raise ConfigurationError(
                "keep-in-base is on, and the storage inside <s3blobstorage> has no blobs of its own: give it the"
                " blob-dir that it had, or set keep-in-base off"
            )
        if used and _is_directory(base):
            raise ConfigurationError(
                "<basesource>: the storage inside has its blobs in a directory: put a <blobdirsource> with the path of"
                " its blob-dir in its place"
            )
    elif _folder(base, used=used):
        raise ConfigurationError(
            "the storage inside <s3blobstorage> has a blob-dir of its own, and nothing there would be read: remove its"
            " blob-dir (and shared-blob-dir) line; for blobs that are not in the bucket yet, add a <blobdirsource> with"
            " that path to <s3blobstorage>, or, where a RelStorage or a ZEO server keeps them, leave blob-dir and add a"
            " <basesource>. Where processes with the old configuration are to read what this one commits, set"
            " keep-in-base on"
        )
    for nested in ("base", "changes"):  # a <demostorage>, a compressing storage
        if hasattr(base, nested) and not (keep and _has_blobs(getattr(base, nested))):
            check_base(getattr(base, nested), keep=False, used=False)
    if IBlobObjects.providedBy(base):
        raise ConfigurationError("a <s3blobstorage> is nested in another <s3blobstorage>: keep one of them")


def _has_blobs(base: Any) -> bool:
    if not zodb.IBlobStorage.providedBy(base):
        return False
    try:
        return bool(base.temporaryDirectory())
    except AttributeError:  # a ZEO client says that it has blobs; without a blob-dir it has none
        return False


def _is_directory(base: Any) -> bool:
    """Whether it is a FileStorage or ``<blobstorage>``; a shared directory is refused by the source itself."""
    return not hasattr(base, "blobhelper") and not hasattr(base, "shared_blob_dir") and bool(_folder(base, used=True))


def _folder(base: Any, *, used: bool) -> Any:
    """What is true where the base has blobs that nobody would ask for."""
    if hasattr(base, "blobhelper"):  # RelStorage, which deprecates fshelper
        return zodb.IBlobStorage.providedBy(base) and not used
    if used and hasattr(base, "shared_blob_dir"):  # a ZEO client
        return None
    return getattr(getattr(base, "fshelper", None), "base_dir", None) or getattr(base, "blob_dir", None)


class BaseBlobs:
    """Gives the base its own file of each blob that is committed.

    A copy, never a link: the cache stamps the times of its files, and whoever backs up or compares the base's directory
    goes by them. Where the cache does not take the staged file, as by default that of a large blob, that file itself
    goes to the base once its upload has read it. It lies in the base's temporary folder before ``tpc_vote`` begins the
    base, which then only renames: no other writer waits for a copy.

    A process that is killed leaves its copies in that folder, as ZODB leaves its own there.
    """

    def __init__(self, base: Any) -> None:
        self._base = base

    def give(self, blob: StagedBlob) -> None:
        """Put the file where the base takes it from: ``blob.for_base``. In the thread of the upload.

        Raises StagingError where the base's disk does not take it.
        """
        blob.for_base = self._put(_copy if blob.cached or blob.inline else _move, blob.file)

    @contextmanager
    def copied(self, file: Staged) -> Iterator[str]:
        """A copy of the file for a base that takes it over at once. Raises StagingError."""
        copy = self._put(_copy, file)
        try:
            yield os.fspath(copy)
        finally:
            copy.unlink(missing_ok=True)

    def _put(self, take: Callable[[Staged, Path], object], file: Staged) -> Path:
        target = Path(self._base.temporaryDirectory(), f"{file.path.name}.{secrets.token_hex(4)}.s3blobs")
        try:
            take(file, target)
        except OSError as error:
            target.unlink(missing_ok=True)
            logger.warning("keep-in-base: %s cannot be written: %s", target, error)
            raise StagingError(
                f"keep-in-base: the storage inside does not take the file of a blob: {error.strerror}"
            ) from None
        return target


def _copy(file: Staged, target: Path) -> None:
    file.copy_to(target)


def _move(file: Staged, target: Path) -> None:
    if isinstance(file, PlainStaged):
        rename_or_copy_blob(os.fspath(file.path), os.fspath(target), chmod=False)
    else:
        file.copy_to(target)
