"""The base storages that the suites run over, bare and wrapped."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from place import place
from relstorage.adapters.postgresql import PostgreSQLAdapter
from relstorage.adapters.sqlite.adapter import Sqlite3Adapter
from relstorage.blobhelper.interfaces import IAuthoritativeBlobHelper
from relstorage.options import Options
from relstorage.storage import RelStorage
from ZEO.ClientStorage import ClientStorage
from ZEO.tests import forker
from ZODB.blob import BlobStorage
from ZODB.FileStorage import FileStorage
from ZODB.MappingStorage import MappingStorage
from zope.interface import implementer


def link_savepoints(storage: Any, blob_dir: str) -> None:
    """The suites look for savepoints' folders in ``blob_dir/tmp``. The link goes when the storage is closed: they clear
    up with a function that takes a link to a folder for a folder.
    """
    os.makedirs(blob_dir, exist_ok=True)
    link = os.path.abspath(os.path.join(blob_dir, "tmp"))
    with contextlib.suppress(FileExistsError):
        os.symlink(storage.temporaryDirectory(), link)
    close = storage.close

    def close_and_unlink() -> None:
        close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(link)

    storage.close = close_and_unlink


@dataclass(frozen=True)
class Base:
    """One kind of base storage.

    ``open(name, read_only)`` opens the base without blobs; a second call of the same name within a test opens the same
    database again (not MappingStorage). ``open_with_blobs(name, blob_dir)`` opens it with the blob support that it
    brings itself: the reference of the blob suites. ``mvcc``: a storage object is one connection to a server, and there
    may be any number of them.
    """

    name: str
    open: Callable[..., Any]
    open_with_blobs: Callable[[str, str], Any]
    undo: bool = True
    mvcc: bool = False

    def blob_factory(self, wrapped: bool) -> Callable[..., Any]:
        """What ``storage_reusable_suite`` of ZODB and RelStorage take."""

        def factory(name: str, blob_dir: str, **ignored: Any) -> Any:
            if wrapped:
                storage = place.ours(self.open(name), name)
                link_savepoints(storage, blob_dir)
                if self in RELSTORAGES:
                    storage.blobhelper = BucketAsDirectory(name, os.path.abspath(blob_dir))
                return storage
            return place.close_later(self.open_with_blobs(name, blob_dir))

        return factory

    def storage(self, wrapped: bool, name: str = "data", read_only: bool = False) -> Any:
        """For suites without blobs: the base alone, or in ours."""
        base = self.open(name, read_only)
        return place.ours(base, name) if wrapped else place.close_later(base)


@implementer(IAuthoritativeBlobHelper)
class BucketAsDirectory:
    """What RelStorage's suite reads of a storage's ``blobhelper``: a folder with one ``.blob`` file per object."""

    def __init__(self, name: str, folder: str) -> None:
        self._name = name
        self._folder = folder

    @property
    def blob_dir(self) -> str:
        for key in place.objects(self._name):
            Path(self._folder, key.replace("/", "-") + ".blob").touch()
        return self._folder


def open_filestorage(name: str, read_only: bool = False) -> FileStorage:
    return FileStorage(str(place.folder / f"{name}.fs"), read_only=read_only)


def open_mappingstorage(name: str, read_only: bool = False) -> MappingStorage:
    return MappingStorage(name)


def relstorage(adapter: Callable[[str, Options], Any], keep_history: bool) -> tuple[Callable, Callable]:
    def opened(name: str, read_only: bool = False, **more: Any) -> RelStorage:
        options = Options(keep_history=keep_history, read_only=read_only, commit_lock_timeout=10, **more)
        return RelStorage(adapter(name, options), name=name, options=options)

    def opened_with_blobs(name: str, blob_dir: str) -> RelStorage:
        return opened(name, blob_dir=os.path.abspath(blob_dir), shared_blob_dir=False)

    return opened, opened_with_blobs


def sqlite(name: str, options: Options) -> Sqlite3Adapter:
    return Sqlite3Adapter(str(place.folder / f"sqlite-{name}"), pragmas={"synchronous": "off"}, options=options)


def postgresql(name: str, options: Options) -> PostgreSQLAdapter:
    return PostgreSQLAdapter(dsn=place.postgresql.dsn(place.database(name)), options=options)


def zeo_client(server: str, **options: Any) -> ClientStorage:
    """A client of a ZEO server, in a process of its own, whose storage is the section ``server``."""
    address, stop = forker.start_zeo_server(server, forker.ZEOConfig(("127.0.0.1", 0)))
    place.later(stop)
    return ClientStorage(address, "1", wait=1, wait_timeout=30, min_disconnect_poll=0.5, **options)


def open_zeo(name: str, read_only: bool = False) -> ClientStorage:
    return zeo_client(f"<filestorage 1>\n path {place.folder}/{name}.fs\n</filestorage>", read_only=read_only)


def open_zeo_with_blobs(name: str, blob_dir: str) -> ClientStorage:
    blobs = f"{place.folder}/{name}-server-blobs"
    section = f"<filestorage 1>\n path {place.folder}/{name}.fs\n blob-dir {blobs}\n</filestorage>"
    return zeo_client(section, blob_dir=os.path.abspath(blob_dir))


FILESTORAGE = Base("filestorage", open_filestorage, lambda name, blobs: BlobStorage(blobs, open_filestorage(name)))
MAPPINGSTORAGE = Base(
    "mappingstorage",
    open_mappingstorage,
    lambda name, blobs: BlobStorage(blobs, MappingStorage(name)),
    undo=False,
)
SQLITE_HP = Base("sqlite-hp", *relstorage(sqlite, keep_history=True), mvcc=True)
SQLITE_HF = Base("sqlite-hf", *relstorage(sqlite, keep_history=False), undo=False, mvcc=True)
POSTGRESQL_HP = Base("postgresql-hp", *relstorage(postgresql, keep_history=True), mvcc=True)
POSTGRESQL_HF = Base("postgresql-hf", *relstorage(postgresql, keep_history=False), undo=False, mvcc=True)
ZEO = Base("zeo-client", open_zeo, open_zeo_with_blobs)

RELSTORAGES = [SQLITE_HP, SQLITE_HF, POSTGRESQL_HP, POSTGRESQL_HF]
ALL = [FILESTORAGE, MAPPINGSTORAGE, *RELSTORAGES]
