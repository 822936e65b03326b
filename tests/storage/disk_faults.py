"""One operation of a storage whose disk fails, in a process of its own: prints how it ended.

    python tests/storage/disk_faults.py < JSON

Run by ``test_disk_faults.py``. In a process of its own, since the limit of open files counts for a process, and so does
the machine's temporary folder.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import random
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ZODB
from rings import store_from_json
from sites import connected
from ZODB.blob import Blob
from ZODB.FileStorage import FileStorage
from ZODB.POSException import POSKeyError

from collective.s3blobstorage.errors import S3BlobStorageError
from collective.s3blobstorage.settings import StorageSettings
from collective.s3blobstorage.storage import open_storage

SMALL, LARGE = 1000, 20_000_000


def content(size: int, seed: int) -> bytes:
    return random.Random(size + seed).randbytes(size)


class Disk:
    """What is done to the disk: ``before`` while nothing is open, ``strikes`` around the operation."""

    def __init__(self, given: dict[str, Any]):
        self.disk = Path(given["disk"]) if given["disk"] else None  # a small file system
        self.cache_dir = (self.disk or Path(given["folder"])) / "cache"
        self.temporary = Path(tempfile.gettempdir())

    @contextlib.contextmanager
    def full(self) -> Iterator[None]:
        """The file system of cache and staging has no room left."""
        assert self.disk is not None
        filler = self.disk / "filler"
        for size in (65536, 1):
            with filler.open("ab", buffering=0) as file, contextlib.suppress(OSError):
                while True:
                    file.write(b"x" * size)
        try:
            yield
        finally:
            filler.unlink()

    full_with_temporary = full

    @contextlib.contextmanager
    def full_everywhere(self) -> Iterator[None]:
        """No file may grow beyond 8 kB: as a disk that is full, of which cache, staging and TMPDIR are part."""
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    @contextlib.contextmanager
    def read_only(self) -> Iterator[None]:
        assert self.disk is not None
        subprocess.run(["mount", "-o", "remount,ro", str(self.disk)], check=True)
        try:
            yield
        finally:
            subprocess.run(["mount", "-o", "remount,rw", str(self.disk)], check=True)

    @contextlib.contextmanager
    def truncated(self) -> Iterator[None]:
        self._change(lambda path, size: os.truncate(path, size // 2))
        yield

    @contextlib.contextmanager
    def flipped(self) -> Iterator[None]:
        def flip(path: Path, size: int) -> None:
            with path.open("r+b") as file:
                file.seek(size // 2)
                byte = file.read(1)
                file.seek(size // 2)
                file.write(bytes([byte[0] ^ 0xFF]))

        self._change(flip)
        yield

    def _change(self, change: Callable[[Path, int], None]) -> None:
        files = list(self.cache_dir.glob("*/blobs/*/*.blob"))
        assert files, "nothing is cached"
        for path in files:
            path.chmod(0o600)
            change(path, path.stat().st_size)
            path.chmod(0o400)

    @contextlib.contextmanager
    def no_descriptors(self) -> Iterator[None]:
        """EMFILE at every open of a file, a folder or a socket."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Case:
    def __init__(self, given: dict[str, Any]):
        self.disk = Disk(given)
        self.settings = StorageSettings(
            store=store_from_json(given["store"]),
            cache_dir=self.disk.cache_dir,
            cache_fill_on_commit="on",  # so that a large file is in the cache, too, for a fault to happen to it
        )
        self.folder = Path(given["folder"])
        self.size = {"small": SMALL, "large": LARGE}[given["size"]]
        self.blobs: dict[str, bytes] = {}
        self.open()

    def open(self) -> None:
        self.db = ZODB.DB(open_storage(FileStorage(str(self.folder / "Data.fs")), self.settings))

    def put(self, name: str, data: bytes) -> None:
        with connected(self.db) as connection:
            connection.root()[name] = blob = Blob()
            # As Plone's upload does: a file that is there already is handed over.
            handle, path = tempfile.mkstemp(dir=self.folder)
            with open(handle, "wb") as file:
                file.write(data)
            blob.consumeFile(path)
            connection.transaction_manager.commit()
        self.blobs[name] = data

    def get(self, name: str) -> bytes:
        with connected(self.db) as connection, connection.root()[name].open("r") as file:
            return file.read()

    def drop_cached(self) -> None:
        for path in self.disk.cache_dir.glob("*/blobs/*/*"):
            path.unlink()

    def commit(self) -> str:
        """ZODB has the file already, in the temporary folder; what fails is what the storage does with it."""
        data = content(self.size, 1)
        handle, path = tempfile.mkstemp(dir=self.folder)
        with open(handle, "wb") as file:
            file.write(data)
        with self.struck(), connected(self.db) as connection:
            connection.root()["new"] = blob = Blob()
            blob.consumeFile(path)
            with self.strikes():
                try:
                    connection.transaction_manager.commit()
                    self.blobs["new"] = data
                    return "commits"
                finally:
                    connection.transaction_manager.abort()

    def read(self) -> str:
        with self.struck(), connected(self.db) as connection:
            blob = connection.root()["read"]
            with self.strikes(), blob.open("r") as file:
                data = file.read()
        assert data == self.blobs["read"], "a wrong byte was read"
        return "reads"

    @contextlib.contextmanager
    def reopened(self) -> Iterator[None]:
        """A file system is made read-only only while nothing on it is open for writing."""
        self.db.close()
        try:
            with self.disk.read_only():
                self.open()
                try:
                    yield
                finally:
                    self.db.close()
        finally:
            self.open()

    def run(self, fault: str, operation: str) -> str:
        # Around the operation, and around the opening before it.
        self.strikes, self.struck = getattr(self.disk, fault, None), contextlib.nullcontext
        if fault == "read_only":
            self.strikes, self.struck = contextlib.nullcontext, self.reopened
        self.put("before", content(SMALL, 0))
        if operation == "read":
            self.put("read", content(self.size, 1))
            if fault not in ("truncated", "flipped"):
                self.drop_cached()
        self.db.storage.cache.clean()  # so that the cleaner does not open files meanwhile
        try:
            what = getattr(self, operation)()
        except S3BlobStorageError as error:
            assert not isinstance(error, POSKeyError), f"a fault of the disk was taken for a missing blob: {error!r}"
            what = type(error).__name__
        except OSError as error:
            what = f"OSError: {error.strerror}"
            logging.exception("not one of our errors")
        self.check()
        return what

    def check(self) -> None:
        """The disk is well again: the next commit and every read work, nothing is left."""
        self.db.storage.uploads.settle()
        self.put("next", content(SMALL, 2))
        self.drop_cached()
        with connected(self.db) as connection:
            assert set(connection.root()) == set(self.blobs)
        for name, data in self.blobs.items():
            assert self.get(name) == data, f"a wrong byte in {name}"
        self.db.storage.uploads.settle()
        self.db.close()
        left = [path for path in self.disk.cache_dir.glob("*/processes/**/*") if path.is_file()]
        assert left == [], "something is left in staging"
        assert list(self.disk.temporary.glob("s3blobs-*")) == []


def main() -> None:
    logging.basicConfig(stream=sys.stderr)
    given = json.load(sys.stdin)
    print(Case(given).run(given["fault"], given["operation"]))


if __name__ == "__main__":
    main()
