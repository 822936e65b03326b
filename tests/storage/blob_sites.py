"""Sites of stock ZODB, with a blob directory and without this package, before and after a migration."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import transaction
import ZODB
from command_line import section
from relstorage.adapters.sqlite.adapter import Sqlite3Adapter
from relstorage.options import Options
from relstorage.storage import RelStorage
from sites import commit_blobs, connected, run_zeo
from ZEO.ClientStorage import ClientStorage
from ZODB.blob import Blob, BlobStorage, FilesystemHelper
from ZODB.FileStorage import FileStorage
from ZODB.utils import load_current

from collective.s3blobstorage.settings import StoreSettings
from collective.s3blobstorage.storage.record import is_blob

KINDS = ["filestorage", "sqlite-hp", "sqlite-hf", "zeo-client"]


class OldSite:
    """One database with its blobs in ``folder/blobs``. ``kind`` is one of ``KINDS``."""

    def __init__(self, kind: str, folder: Path, layout: str = "bushy") -> None:
        self.kind = kind
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.blobs = folder / "blobs"
        FilesystemHelper(str(self.blobs), layout).create()
        self._zeo: tuple[int, subprocess.Popen] | None = None

    # Opening

    def storage(self, *, read_only: bool = False) -> Any:
        """As its zope.conf opened it until now."""
        if self.kind == "filestorage":
            return FileStorage(str(self.folder / "Data.fs"), blob_dir=str(self.blobs), read_only=read_only)
        if self.kind == "zeo-client":
            self.serve()
            assert self._zeo is not None
            address = ("127.0.0.1", self._zeo[0])
            return ClientStorage(address, "main", wait_timeout=30, blob_dir=str(self.blobs), shared_blob_dir=True)
        options = Options(keep_history=self.kind == "sqlite-hp", blob_dir=str(self.blobs), shared_blob_dir=True)
        adapter = Sqlite3Adapter(str(self.folder / "sqlite"), pragmas={"synchronous": "off"}, options=options)
        return RelStorage(adapter, name="sqlite", options=options)

    def db(self) -> ZODB.DB:
        return ZODB.DB(self.storage())

    def serve(self) -> None:
        if self._zeo is None:
            inner = f"<filestorage main>\n  path {self.folder}/Data.fs\n  blob-dir {self.blobs}\n</filestorage>"
            self._zeo = run_zeo(self.folder, inner)

    def close(self) -> None:
        if self._zeo is not None:
            self._zeo[1].terminate()
            self._zeo[1].wait()
            self._zeo = None

    # Configuration

    def conf(self, store: StoreSettings, *more: str) -> Path:
        """A file with ``<s3blobstorage>`` around the base, whose blobs it shall get."""
        path = self.folder / "storage.conf"
        imports = "%import collective.s3blobstorage\n" + ("%import relstorage\n" if "sqlite" in self.kind else "")
        path.write_text(imports + section(store, self.folder / "cache", self.base_section(), *more))
        return path

    def base_section(self) -> str:
        if self.kind == "filestorage":
            return f"<filestorage>\n  path {self.folder}/Data.fs\n</filestorage>"
        if self.kind == "zeo-client":
            self.serve()
            assert self._zeo is not None
            return f"<zeoclient>\n  server 127.0.0.1:{self._zeo[0]}\n  storage main\n</zeoclient>"
        history = "on" if self.kind == "sqlite-hp" else "off"
        folder = self.folder / "sqlite"
        return (
            f"<relstorage>\n  keep-history {history}\n  <sqlite3>\n    data-dir {folder}\n  </sqlite3>\n</relstorage>"
        )

    # Looking

    def files(self) -> dict[tuple[bytes, bytes], bytes]:
        """The bytes of every file of the blob directory, by oid and tid."""
        return files_of(self.blobs)

    def kept(self) -> set[tuple[bytes, bytes]]:
        """Kept revisions of blobs, asked for each file; for revisions that have one."""
        storage = self.storage()
        try:
            return {revision for revision in self.files() if _has(storage, *revision)}
        finally:
            storage.close()


def _has(storage: Any, oid: bytes, tid: bytes) -> bool:
    try:
        return is_blob(storage.loadSerial(oid, tid))
    except KeyError:
        return False


def files_of(folder: Path) -> dict[tuple[bytes, bytes], bytes]:
    helper = FilesystemHelper(str(folder))
    found = {}
    for _, path in helper.listOIDs():
        for name in os.listdir(path):
            full = os.path.join(path, name)
            oid, tid = helper.splitBlobFilename(full)
            if oid is not None:
                found[oid, tid] = Path(full).read_bytes()
    return found


def undo_last(db: ZODB.DB) -> None:
    manager = transaction.TransactionManager()
    db.undo(db.undoLog(0, 1)[0]["id"], manager.get())
    manager.commit()


def fill(db: ZODB.DB, *, large: int = 0) -> None:
    """Several revisions, an undone change, a creation that was undone, one that was undone and redone, a blob that
    nobody refers to any more, an empty one; and objects that are no blobs."""
    commit_blobs(db, a=b"first of a", b=os.urandom(70_000), empty=b"")
    commit_blobs(db, a=b"second of a")
    undoes = db.supportsUndo()
    if undoes:
        undo_last(db)
        commit_blobs(db, never=b"was never there")
        undo_last(db)
        commit_blobs(db, again=b"is there again")
        undo_last(db)
        undo_last(db)
    commit_blobs(db, deleted=b"nobody refers to it")
    with connected(db) as connection:
        del connection.root()["deleted"]
        connection.root()["plain"] = ["no", "blob"]
        connection.transaction_manager.commit()
    commit_blobs(db, a=b"last of a", c=os.urandom(1000))
    if large:
        commit_blobs(db, large=os.urandom(large))


def stock(site: OldSite, blobs: Path, copy: Path) -> Iterator[tuple[bytes, bytes, bytes]]:
    """(oid, tid, bytes) of every revision that stock ZODB's BlobStorage reads over a copy of the Data.fs."""
    copy.write_bytes((site.folder / "Data.fs").read_bytes())
    storage = BlobStorage(str(blobs), FileStorage(str(copy)))
    try:
        for record in (record for entry in storage.iterator() for record in entry):
            if record.data and is_blob(record.data):
                path = storage.loadBlob(record.oid, record.tid)
                yield record.oid, record.tid, Path(path).read_bytes()
    finally:
        storage.close()


def names(db: ZODB.DB) -> dict[str, bytes]:
    """The bytes of every blob of the root."""
    with connected(db) as connection:
        blobs = {name: value for name, value in connection.root().items() if isinstance(value, Blob)}
        return {name: blob.open("r").read() for name, blob in blobs.items()}


def current_tid(storage: Any, oid: bytes) -> bytes:
    return load_current(storage, oid)[1]
