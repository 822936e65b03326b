"""``migrate --from FILE``: where the storage that a configuration describes keeps its blobs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ZODB.config

from ..config import S3BlobStorageFactory
from ..errors import ConfigurationError
from ..overlay.interfaces import ISourceSettings, SourceOptions
from ..overlay.settings import BaseSettings, BlobDirSettings, S3Settings
from .configuration import Database, as_now, choose_named, opened_read_only, read_storages


@dataclass(frozen=True)
class Elsewhere:
    """The sources that have a storage's blobs. ``base``: opens the storage that a ``<basesource>`` reads; None: the
    database's own."""

    sources: tuple[ISourceSettings, ...]
    base: Any = None

    @property
    def directory(self) -> Path | None:
        """The blob directory that is all there is, or None."""
        only = self.sources[0] if len(self.sources) == 1 else None
        return only.path if isinstance(only, BlobDirSettings) else None

    @contextmanager
    def opened(self, own: Any) -> Iterator[Any]:
        """The storage to be given to the sources, opened for reading. ``own``: the database's, which is open."""
        if self.base is None:
            yield own
            return
        with opened_read_only(self.base) as base:
            yield base


def opening(elsewhere: Elsewhere, database: Database, store: Any) -> tuple[Any, Any]:
    """How to open its sources, given the database's base, and the cache that their blobs come through."""
    from ..overlay.chain import open_overlay
    from ..storage.opening import open_cache

    @contextmanager
    def overlay(base: Any) -> Iterator[Any]:
        with elsewhere.opened(base) as read, closing(open_overlay(elsewhere.sources, read, check=False)) as sources:
            yield sources

    return overlay, lambda sources: closing(open_cache(database.settings, store, sources))


def elsewhere(path: Path, name: str | None) -> Elsewhere:
    """What the configuration in the file describes: a site with the old configuration, or with another bucket.

    ``name``: of the database, where the file has several; that of the command line's ``--database``. Raises
    ConfigurationError with one sentence. Makes no request but where it describes a bucket: one or two, for its marker.
    """
    storages = read_storages(path)
    if not storages:
        raise ConfigurationError(f"--from {path} has no storage: give a zope.conf, a zeo.conf or a file with a storage")
    if len(storages) == 1:
        return _of(storages[0][1], path)
    return _of(choose_named(storages, name, f"--from {path} has several databases", path), path)


def _of(factory: Any, path: Path) -> Elsewhere:
    config = factory.config
    if isinstance(factory, S3BlobStorageFactory):
        return _bucket(Database("", factory))
    options = SourceOptions(f"--from {path}", negative_cache=0.0, mirror="off")
    folder = getattr(config, "blob_dir", None)
    if folder and (_is_directory(factory) or getattr(config, "shared_blob_dir", False)):
        return Elsewhere((BlobDirSettings(options, Path(folder)),))
    if folder:  # a RelStorage, or a ZEO client: the folder is for what it fetches
        return Elsewhere((BaseSettings(options),), factory)
    if getattr(config, "base", None) is not None:
        return _of(config.base, path)
    raise ConfigurationError(
        f"--from {path}: the <{config.getSectionType()}> there has no blob-dir, so it keeps no blobs; give the blob"
        " directory itself, or a configuration with its blob-dir"
    )


def _is_directory(factory: Any) -> bool:
    return isinstance(factory, ZODB.config.FileStorage | ZODB.config.BlobStorage)


def _bucket(database: Database) -> Elsewhere:
    """Another bucket, and what is behind it."""
    from ..objectstore import open_store
    from ..storage.owner import open_prefix

    settings = as_now(database).settings
    with closing(open_store(settings.store, read_only=True)) as store:
        store.open_bucket(writable=False)
        marker = open_prefix(store, settings.owner, read_only=True)
    layout = "zodb-s3blobs" if marker.foreign_keys else "ours"
    options = SourceOptions(f"bucket {settings.store.bucket}", negative_cache=0.0, mirror="off")
    return Elsewhere((S3Settings(options, settings.store, layout), *settings.sources), database.factory.config.base)
