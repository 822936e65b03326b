"""One database on one prefix, over any base storage, that a test can open, close and open again cold."""

from __future__ import annotations

import dataclasses
import itertools
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import boto3
import transaction
import ZODB
from relstorage.adapters.postgresql import PostgreSQLAdapter
from relstorage.adapters.sqlite.adapter import Sqlite3Adapter
from relstorage.options import Options
from relstorage.storage import RelStorage
from servers.process import free_port
from ZEO.ClientStorage import ClientStorage
from ZODB.blob import Blob
from ZODB.DemoStorage import DemoStorage
from ZODB.FileStorage import FileStorage
from ZODB.MappingStorage import MappingStorage

from collective.s3blobstorage.objectstore import open_store
from collective.s3blobstorage.settings import StorageSettings, StoreSettings
from collective.s3blobstorage.storage import S3BlobStorage, open_storage

PERSISTENT = ["filestorage", "sqlite-hp", "sqlite-hf", "postgresql-hp", "postgresql-hf", "zeo-client"]
UNDOING = ["filestorage", "sqlite-hp", "postgresql-hp", "zeo-client"]
ALL = [*PERSISTENT, "mappingstorage", "demostorage"]

_numbers = itertools.count(1)


class Site:
    """One database. ``kind`` is one of ``ALL``; ``settings`` say where its blobs are."""

    def __init__(self, kind: str, folder: Path, store: StoreSettings, postgresql: Any = None, **settings: Any):
        self.kind = kind
        self.folder = folder / f"site{next(_numbers)}"
        self.folder.mkdir()
        self.settings = StorageSettings(store=store, cache_dir=self.folder / "cache", **settings)
        self._postgresql = postgresql
        self._database: str | None = None
        self._zeo: tuple[int, subprocess.Popen] | None = None
        self._opened: list[Any] = []

    # Opening

    def base(self) -> Any:
        """The base storage, opened anew on the same data (a MappingStorage or DemoStorage is empty)."""
        return getattr(self, "_" + self.kind.replace("-", "_"))()

    def another_base(self) -> Any:
        """The base once more, beside the one that is open, for reading: it shows what is committed by now."""
        if self.kind == "filestorage":
            return FileStorage(str(self.folder / "Data.fs"), read_only=True)
        return self.base()

    def open(self, **changes: Any) -> S3BlobStorage:
        return self._later(open_storage(self.base(), dataclasses.replace(self.settings, **changes)))

    def db(self, **changes: Any) -> ZODB.DB:
        return self._later(ZODB.DB(self.open(**changes)))

    def cold(self) -> None:
        """Empty the cache, as a new machine has it. Nothing may be open."""
        shutil.rmtree(self.settings.cache_dir, ignore_errors=True)

    def close_all(self) -> None:
        """Close what was opened; the database stays."""
        while self._opened:
            self._opened.pop().close()

    def close(self) -> None:
        self.close_all()
        if self._zeo is not None:
            self._zeo[1].terminate()
            self._zeo[1].wait()
            self._zeo = None
        if self._database is not None:
            self._postgresql.drop_database(self._database)
            self._database = None

    def _later(self, opened: Any) -> Any:
        self._opened.append(opened)
        return opened

    # Bases

    def _filestorage(self) -> FileStorage:
        return FileStorage(str(self.folder / "Data.fs"))

    def _mappingstorage(self) -> MappingStorage:
        return MappingStorage()

    def _demostorage(self) -> DemoStorage:
        return DemoStorage(base=FileStorage(str(self.folder / "base.fs")), changes=MappingStorage())

    def _sqlite_hp(self) -> RelStorage:
        return self._sqlite(True)

    def _sqlite_hf(self) -> RelStorage:
        return self._sqlite(False)

    def _sqlite(self, keep_history: bool) -> RelStorage:
        options = Options(keep_history=keep_history)
        adapter = Sqlite3Adapter(str(self.folder / "sqlite"), pragmas={"synchronous": "off"}, options=options)
        return RelStorage(adapter, name="sqlite", options=options)

    def _postgresql_hp(self) -> RelStorage:
        return self._postgres(True)

    def _postgresql_hf(self) -> RelStorage:
        return self._postgres(False)

    def _postgres(self, keep_history: bool) -> RelStorage:
        if self._database is None:
            self._database = self._postgresql.create_database()
        options = Options(keep_history=keep_history)
        adapter = PostgreSQLAdapter(dsn=self._postgresql.dsn(self._database), options=options)
        return RelStorage(adapter, name="postgresql", options=options)

    def _zeo_client(self) -> ClientStorage:
        if self._zeo is None:
            section = f"<filestorage main>\n  path {self.folder}/zeo.fs\n</filestorage>"
            self._zeo = run_zeo(self.folder, section)
        return ClientStorage(("127.0.0.1", self._zeo[0]), "main", wait_timeout=30)

    # Looking

    def keys(self) -> list[str]:
        """Every key of blobs under the prefix, as the bucket has it."""
        return [key for key in bucket_keys(self.settings.store) if key.startswith("blobs/")]


def run_zeo(folder: Path, section: str, option: str = "") -> tuple[int, subprocess.Popen]:
    """A ZEO server as a process of its own, serving ``section``, whose storage is called ``main``."""
    port = free_port()
    configuration = folder / "zeo.conf"
    configuration.write_text(f"<zeo>\n  address 127.0.0.1:{port}\n  {option}\n</zeo>\n{section}\n")
    with (folder / "zeo.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "ZEO.runzeo", "-C", str(configuration)], stdout=log, stderr=log, cwd=folder
        )
    return port, process


def store_as_json(store: StoreSettings) -> dict[str, Any]:
    """``store`` for a child process, which makes it again by ``rings.store_from_json``."""
    given = {field.name: getattr(store, field.name) for field in dataclasses.fields(store)}
    given["encryption"] = store.encryption and store.encryption.name
    plain = {name: str(value) if isinstance(value, Path) else value for name, value in given.items()}
    return {name: value for name, value in plain.items() if value is not None}


def raw_client(store: StoreSettings) -> Any:
    """boto3 itself, around everything under test."""
    return boto3.client(
        "s3",
        endpoint_url=store.endpoint_url,
        region_name=store.region,
        aws_access_key_id=store.access_key,
        aws_secret_access_key=store.secret_key,
        verify=str(store.ca_bundle) if store.ca_bundle else None,
        config=boto3.session.Config(
            signature_version="s3v4",
            request_checksum_calculation="when_required",  # Ceph wants no trailing checksum over https
            s3={"addressing_style": "path"},
        ),
    )


@contextmanager
def as_ours(store: StoreSettings) -> Iterator[Any]:
    """The bucket as the storage reads it: blobs may be encrypted."""
    with closing(open_store(store)) as opened:
        yield opened


def bucket_keys(store: StoreSettings) -> list[str]:
    prefix = f"{store.prefix}/" if store.prefix else ""
    pages = raw_client(store).get_paginator("list_objects_v2").paginate(Bucket=store.bucket, Prefix=prefix)
    return [found["Key"][len(prefix) :] for page in pages for found in page.get("Contents", ())]


def unfinished_uploads(store: StoreSettings) -> list[str]:
    return [u["Key"] for u in raw_client(store).list_multipart_uploads(Bucket=store.bucket).get("Uploads", ())]


@contextmanager
def connected(db: ZODB.DB) -> Iterator[Any]:
    """A connection with a transaction manager of its own; aborted and closed at the end."""
    manager = transaction.TransactionManager()
    connection = db.open(manager)
    try:
        yield connection
    finally:
        manager.abort()
        connection.close()


def commit_blobs(db: ZODB.DB, **blobs: bytes) -> bytes:
    """Set ``root[name]`` to blobs with those bytes in one transaction; one that exists is changed. Returns the tid."""
    with connected(db) as connection:
        root = connection.root()
        for name, data in blobs.items():
            if name in root:
                with root[name].open("w") as file:
                    file.write(data)
            else:
                root[name] = Blob(data)
        connection.transaction_manager.commit()
        # the tid is that of the last transaction this connection committed
        connection.transaction_manager.begin()
        blob = root[next(iter(blobs))]
        blob._p_activate()
        return blob._p_serial


def read_blob(db: ZODB.DB, name: str) -> bytes:
    with connected(db) as connection, connection.root()[name].open("r") as file:
        return file.read()


class Against:
    """A resource manager that votes last, and against."""

    def sortKey(self):
        return "~~~~"

    def tpc_begin(self, transaction):
        pass

    abort = commit = tpc_finish = tpc_abort = tpc_begin

    def tpc_vote(self, transaction):
        raise ValueError("no")


def in_two_threads(work: Callable[[int], None]) -> None:
    """``work(0)`` and ``work(1)`` at the same time: both end, and neither raises."""
    failures: list[BaseException] = []

    def run(number: int) -> None:
        try:
            work(number)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "deadlock"
    assert failures == []


def wait_until(condition: Any, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)
