"""Databases whose blobs are somewhere else than in our bucket, and the sources that read them there."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import transaction
import ZODB
from relstorage.adapters.sqlite.adapter import Sqlite3Adapter
from relstorage.options import Options
from relstorage.storage import RelStorage
from sites import bucket_keys, commit_blobs, connected, raw_client, run_zeo
from ZEO.ClientStorage import ClientStorage
from ZODB.blob import Blob
from ZODB.FileStorage import FileStorage

from collective.s3blobstorage.overlay.interfaces import ISourceSettings, SourceOptions
from collective.s3blobstorage.overlay.settings import BaseSettings, BlobDirSettings, S3Settings
from collective.s3blobstorage.settings import StorageSettings, StoreSettings
from collective.s3blobstorage.storage import open_storage
from collective.s3blobstorage.storage.record import is_blob

KINDS = ["ours", "ours-nameless", "zodb-s3blobs", "zodb-s3blobs-all-digits", "bushy", "lawn", "relstorage", "zeo"]
IN_A_BUCKET = KINDS[:4]

KB = 1024
LARGE = bytes(range(256)) * 4 * 300 + b"the end"  # above PARTS["part_threshold"], in five parts
PARTS = {"part_threshold": 128 * KB, "part_size": 64 * KB}
CONTENTS = {"small": b"small", "empty": b"", "large": LARGE, "changed": b"second"}

# A source that is out is known to be so in a moment.
QUICK = {
    "outage_patience": 0.3,
    "download_connect_timeout": 0.5,
    "download_read_timeout": 0.5,
    "download_max_attempts": 1,
    "download_deadline": 5.0,
}


@dataclass
class Origin:
    """``base()`` opens a copy of the database; ``source`` reads its blobs; ``revisions`` are all of them."""

    base: Callable[[], Any]
    source: ISourceSettings
    revisions: dict[tuple[bytes, bytes], bytes]
    close: Callable[[], None] = lambda: None

    def with_options(self, **changes: Any) -> ISourceSettings:
        return dataclasses.replace(self.source, options=dataclasses.replace(self.source.options, **changes))

    def through(self, endpoint_url: str, **changes: Any) -> S3Settings:
        """The source reached at another address."""
        assert isinstance(self.source, S3Settings)
        store = dataclasses.replace(self.source.store, endpoint_url=endpoint_url, **changes)
        return dataclasses.replace(self.source, store=store)


def make_origin(kind: str, folder: Path, store: StoreSettings) -> Origin:
    """``store`` is the bucket of those whose blobs are in one, under the prefix ``production``."""
    folder.mkdir()
    production = dataclasses.replace(store, prefix="production")
    options = SourceOptions("production", mirror="off")
    if kind == "ours":
        return _ours(_file(folder), folder, production, options)
    if kind == "ours-relstorage":  # whose undo does not tell its tid
        return _ours(lambda: _sqlite(folder, Options(keep_history=True)), folder, production, options)
    if kind == "relstorage":
        return _relstorage(folder, options)
    if kind == "zeo":
        return _zeo(folder, options)
    return _directory(kind, folder, production, options)


def fill(db: ZODB.DB) -> None:
    """Two transactions: CONTENTS with a first revision of ``changed``, then its second one."""
    commit_blobs(db, **{**CONTENTS, "changed": b"first"})
    commit_blobs(db, changed=b"second")


def _revisions(storage: Any) -> dict[tuple[bytes, bytes], bytes]:
    found = {}
    for recorded in storage.iterator():
        for record in recorded:
            if record.data and is_blob(record.data):
                found[record.oid, record.tid] = Path(str(storage.loadBlob(record.oid, record.tid))).read_bytes()
    assert len(found) == len(CONTENTS) + 1
    return found


def _file(folder: Path) -> Callable[[], FileStorage]:
    return lambda: FileStorage(str(folder / "Data.fs"))


def _ours(base: Callable[[], Any], folder: Path, production: StoreSettings, options: SourceOptions) -> Origin:
    """A production site of ours: every record has a name."""
    settings = StorageSettings(store=production, cache_dir=folder / "cache", owner="production")
    db = ZODB.DB(open_storage(base(), settings))
    fill(db)
    revisions = _revisions(db.storage)
    db.close()
    shutil.rmtree(folder / "cache")
    return Origin(base, S3Settings(options, production), revisions)


def _sqlite(folder: Path, options: Options) -> RelStorage:
    adapter = Sqlite3Adapter(str(folder / "sqlite"), pragmas={"synchronous": "off"}, options=options)
    return RelStorage(adapter, name="sqlite", options=options)


def _directory(kind: str, folder: Path, production: StoreSettings, options: SourceOptions) -> Origin:
    """A stock site with a blob directory; or what is left of it when its files are in a bucket."""
    blobs = folder / "blobs"
    blobs.mkdir()
    (blobs / ".layout").write_text("lawn" if kind == "lawn" else "bushy")
    db = ZODB.DB(FileStorage(str(folder / "Data.fs"), blob_dir=str(blobs)))
    fill(db)
    revisions = _revisions(db.storage)
    db.close()
    if kind in ("bushy", "lawn"):
        return Origin(_file(folder), BlobDirSettings(options, blobs), revisions)
    shutil.rmtree(blobs)
    client = raw_client(production)
    for (oid, tid), data in revisions.items():
        key = {
            "ours-nameless": f"{oid.hex()}/{tid.hex()}",
            "zodb-s3blobs": f"{int(oid.hex(), 16):x}/{int(tid.hex(), 16):x}.blob",
            "zodb-s3blobs-all-digits": f"{oid.hex()}/{tid.hex()}.blob",
        }[kind]
        client.put_object(Bucket=production.bucket, Key=f"production/blobs/{key}", Body=data)
    layout = "zodb-s3blobs" if kind.startswith("zodb") else "ours"
    return Origin(_file(folder), S3Settings(options, production, layout), revisions)


def _relstorage(folder: Path, options: SourceOptions) -> Origin:
    def base() -> RelStorage:
        return _sqlite(folder, Options(keep_history=True, blob_dir=str(folder / "relblobs"), shared_blob_dir=False))

    db = ZODB.DB(base())
    fill(db)
    revisions = _revisions(db.storage)
    db.close()
    shutil.rmtree(folder / "relblobs")  # a cache; the database has them
    return Origin(base, BaseSettings(options), revisions)


def _zeo(folder: Path, options: SourceOptions) -> Origin:
    section = f"<filestorage main>\n  path {folder}/zeo.fs\n  blob-dir {folder}/served\n</filestorage>"
    port, process = run_zeo(folder, section)

    def base() -> ClientStorage:
        return ClientStorage(("127.0.0.1", port), "main", wait_timeout=30, blob_dir=str(folder / "zeoblobs"))

    def close() -> None:
        process.terminate()
        process.wait()

    try:
        db = ZODB.DB(base())
        fill(db)
        revisions = _revisions(db.storage)
        db.close()
    except BaseException:
        close()
        raise
    shutil.rmtree(folder / "zeoblobs")
    return Origin(base, BaseSettings(options), revisions, close)


def undo_last(db: ZODB.DB) -> None:
    """Undo the newest transaction of ``db``."""
    manager = transaction.TransactionManager()
    db.undo(db.undoLog(0, 1)[0]["id"], manager.get())
    manager.commit()


def add_blob(db: ZODB.DB, name: str, data: bytes) -> None:
    manager = transaction.TransactionManager()
    connection = db.open(manager)
    connection.root()[name] = Blob(data)
    manager.commit()
    connection.close()


class Staging:
    """A copy of an origin's database on a bucket prefix of its own, with sources behind it."""

    def __init__(self, origin: Origin, settings: StorageSettings) -> None:
        self.origin = origin
        self.settings = settings
        self._opened: list[ZODB.DB] = []

    def db(self, **changes: Any) -> ZODB.DB:
        storage = open_storage(self.origin.base(), dataclasses.replace(self.settings, **changes))
        db = ZODB.DB(storage)
        self._opened.append(db)
        return db

    def cold(self) -> None:
        self.close()
        shutil.rmtree(self.settings.cache_dir, ignore_errors=True)

    def close(self) -> None:
        while self._opened:
            self._opened.pop().close()

    def keys(self) -> list[str]:
        return [key for key in bucket_keys(self.settings.store) if key.startswith("blobs/")]


@contextlib.contextmanager
def large_reader(db: ZODB.DB) -> Iterator[Any]:
    with connected(db) as connection, connection.root()["large"].open("r") as file:
        yield file


def snapshot(settings, prefix: str = "production/") -> dict[str, tuple]:
    listed = raw_client(settings).list_objects_v2(Bucket=settings.bucket, Prefix=prefix).get("Contents", ())
    return {found["Key"]: (found["ETag"], found["LastModified"], found["Size"]) for found in listed}
