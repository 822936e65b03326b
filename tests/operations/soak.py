"""Sixteen threads commit and read for minutes while faults come at random: nothing may leak.

    python tests/operations/soak.py                 # 10 minutes
    python tests/operations/soak.py --minutes 2 --seed 7

Prints a table of figures, and ends with status 1 where a promise was broken: a wrong byte, an error that is none of
ours, a missing blob, a thread, file, descriptor or multipart upload that is left, or memory that grows.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import gc
import hashlib
import logging
import os
import random
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS), str(TESTS / "storage")]

import transaction  # noqa: E402
import ZODB  # noqa: E402
from BTrees.OOBTree import OOBTree  # noqa: E402
from fixtures_servers import s3_client  # noqa: E402
from servers.faults import answer, flip, hang, reset, trickle, truncate  # noqa: E402
from servers.ministack import MiniStack  # noqa: E402
from servers.proxy import Proxy  # noqa: E402
from ZODB.blob import Blob  # noqa: E402
from ZODB.FileStorage import FileStorage  # noqa: E402
from ZODB.POSException import ConflictError, POSKeyError  # noqa: E402

from collective.s3blobstorage.errors import S3BlobStorageError  # noqa: E402
from collective.s3blobstorage.settings import StorageSettings, StoreSettings  # noqa: E402
from collective.s3blobstorage.storage import open_storage  # noqa: E402

THREADS = 16
MB = 1024 * 1024
CACHE = 64 * MB
SIZES = (0, 100, 10_000, 300_000, 2_000_000)
LARGE = 17_000_000  # goes out in parts
BLOBS = 8  # per thread, written again and again
# What Python's allocator and ZODB's caches may still take after the first third of the time.
GROWTH = 60 * MB

PASSING = [
    lambda chance: answer(503, "SlowDown"),
    lambda chance: answer(500, "InternalError"),
    lambda chance: answer(403, "AccessDenied"),
    lambda chance: reset("before"),
    lambda chance: reset("request", chance.randrange(200_000)),
    lambda chance: reset("answer"),
    lambda chance: reset("response", chance.randrange(200_000)),
    lambda chance: truncate(chance.randrange(200_000)),
    lambda chance: flip(chance.randrange(10_000), "request"),
    lambda chance: flip(chance.randrange(10_000), "response"),
    lambda chance: hang("before", seconds=5.0),
    lambda chance: trickle(50_000, "response"),
]


class Messages(logging.Handler):
    """Keeps of which keys the operator is told that a multipart upload may stay in the bucket, for gc to abort."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.uploads: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        if "unfinished multipart upload of " in record.msg:
            self.uploads.add(record.args[0])


class Counts:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.of: collections.Counter[str] = collections.Counter()
        self.broken: list[str] = []

    def add(self, what: str) -> None:
        with self._lock:
            self.of[what] += 1

    def failed(self, what: str) -> None:
        with self._lock:
            self.broken.append(what)


class Editor(threading.Thread):
    """Commits and reads blobs of its own tree; what it read is compared with what it committed."""

    def __init__(self, db: ZODB.DB, number: int, seed: int, counts: Counts, stop: threading.Event):
        super().__init__(name=f"editor-{number}", daemon=True)
        self.db, self.number, self.counts, self.stop = db, number, counts, stop
        self.random = random.Random(seed * 1000 + number)
        self.committed: dict[str, bytes] = {}

    def run(self) -> None:
        manager = transaction.TransactionManager()
        connection = self.db.open(manager)
        while not self.stop.is_set():
            work = self.commit if self.random.random() < 0.4 or not self.committed else self.read
            try:
                work(manager, connection.root()[f"tree{self.number}"])
            except ConflictError:
                self.counts.add("ConflictError")
            except S3BlobStorageError as error:
                self.counts.add(type(error).__name__)
                if isinstance(error, POSKeyError):
                    self.counts.failed(f"a fault was taken for a missing blob: {error!r}")
            except BaseException as error:
                self.counts.failed(f"not one of our errors: {error!r}")
            manager.abort()
        connection.close()

    def commit(self, manager: Any, tree: Any) -> None:
        name = f"b{self.random.randrange(BLOBS)}"
        size = LARGE if self.random.random() < 0.01 else self.random.choice(SIZES)
        data = self.random.randbytes(size)
        if name in tree:
            with tree[name].open("w") as file:
                file.write(data)
        else:
            tree[name] = Blob(data)
        if self.random.random() < 0.1:
            manager.savepoint()
        if self.random.random() < 0.1:
            self.counts.add("aborts")
            return
        manager.commit()
        self.committed[name] = hashlib.sha256(data).digest()
        self.counts.add("commits")

    def read(self, manager: Any, tree: Any) -> None:
        name = self.random.choice(sorted(self.committed))
        with tree[name].open("r") as file:
            found = hashlib.file_digest(file, "sha256").digest()
        if found != self.committed[name]:
            self.counts.failed(f"a wrong byte was read: {self.number} {name}")
        self.counts.add("reads")


class Weather(threading.Thread):
    """Brings the faults: some for single requests, now and then an outage of up to three seconds."""

    def __init__(self, proxy: Proxy, cache: Path, seed: int, counts: Counts, stop: threading.Event):
        super().__init__(name="weather", daemon=True)
        self.proxy, self.cache, self.counts, self.stop = proxy, cache, counts, stop
        self.random = random.Random(seed)

    def run(self) -> None:
        while not self.stop.wait(self.random.uniform(0, 0.6)):
            kind = self.random.random()
            if kind < 0.05:
                self.random.choice((self.proxy.down, self.proxy.black_hole))()
                self.stop.wait(self.random.uniform(0.2, 3.0))
                self.proxy.up()
                self.counts.add("outages")
            elif kind < 0.3:
                for path in self.random.sample(files := list(self.cache.glob("*/blobs/*/*")), min(5, len(files))):
                    path.unlink(missing_ok=True)  # so that reads ask the store
            else:
                self.proxy.forgive()
                fault = self.random.choice(PASSING)(self.random)
                self.proxy.fail(fault, nth=self.random.randint(1, 5), times=self.random.randint(1, 3))
                self.counts.add("faults")
        self.proxy.forgive()


@dataclasses.dataclass(frozen=True)
class Figures:
    seconds: float
    counts: collections.Counter[str]
    threads: int
    descriptors: int
    memory: int
    uploads: int
    files: int

    def row(self) -> str:
        counted = [self.counts[name] for name in ("commits", "reads", "aborts", "Unavailable", "Refused", "Corrupt")]
        others = [self.threads, self.descriptors, f"{self.memory / MB:.0f}", self.uploads, self.files]
        cells = [f"{self.seconds:.0f}", *counted, self.counts["faults"], self.counts["outages"], *others]
        return "| " + " | ".join(str(cell) for cell in cells) + " |"


HEAD = """\
| s | commits | reads | aborts | Unavailable | Refused | Corrupt | faults | outages | threads | descriptors | MB | uploads | files |
|---|---|---|---|---|---|---|---|---|---|---|---|---|---|"""  # noqa: E501


class Soak:
    def __init__(self, folder: Path, server: MiniStack, seed: int) -> None:
        self.folder, self.seed = folder, seed
        self.client = s3_client(server)
        self.client.create_bucket(Bucket="soak")
        self.proxy = Proxy(server.endpoint_url)
        store = StoreSettings(
            bucket="soak",
            endpoint_url=self.proxy.endpoint_url,
            region=server.region,
            access_key=server.access_key,
            secret_key=server.secret_key,
            connect_timeout=2.0,
            read_timeout=3.0,
            download_connect_timeout=2.0,
            download_read_timeout=3.0,
            download_deadline=20.0,
        )
        self.settings = StorageSettings(store=store, cache_dir=folder / "cache", cache_size=CACHE)
        self.counts = Counts()
        self.started = time.monotonic()

    def open(self) -> ZODB.DB:
        return ZODB.DB(open_storage(FileStorage(str(self.folder / "Data.fs")), self.settings), pool_size=THREADS + 4)

    def figures(self) -> Figures:
        gc.collect()
        names = [thread.name for thread in threading.enumerate()]
        staged = [path for path in self.folder.glob("cache/*/processes/*/**/*") if path.is_file()]
        return Figures(
            seconds=time.monotonic() - self.started,
            counts=collections.Counter(self.counts.of),
            threads=sum(not name.startswith(("proxy", "editor", "weather", "MainThread", "server")) for name in names),
            descriptors=len(os.listdir("/proc/self/fd")),
            memory=int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"),
            uploads=len(self.client.list_multipart_uploads(Bucket="soak").get("Uploads", ())),
            files=sum(path.name not in ("lock", "counters.json") for path in staged),
        )

    def run(self, seconds: float, every: float) -> list[str]:
        """What was broken."""
        before = self.figures()
        said = Messages()
        logger = logging.getLogger("collective.s3blobstorage")
        logger.setLevel(logging.INFO)
        logger.propagate = False  # the table is what is printed
        logger.addHandler(said)
        with self.proxy:
            samples = self.storm(seconds, every)
        after = self.figures()
        left = {upload["Key"] for upload in self.client.list_multipart_uploads(Bucket="soak").get("Uploads", ())}
        self.client.close()
        print("after closing:\n" + after.row(), flush=True)
        broken = list(self.counts.broken)
        if after.threads > before.threads:
            broken.append(f"threads are left: {[thread.name for thread in threading.enumerate()]}")
        # Two: the launcher of servers and the client of this program may have made one each.
        if after.descriptors > before.descriptors + 2:
            broken.append(f"descriptors are left: {before.descriptors} before, {after.descriptors} after")
        if after.files:
            broken.append(f"{after.files} files are left")
        if left - said.uploads:
            broken.append(f"multipart uploads are left without a word: {sorted(left - said.uploads)}")
        middle = samples[len(samples) // 3]
        if samples[-1].memory > middle.memory + GROWTH:
            broken.append(f"memory grew from {middle.memory / MB:.0f} to {samples[-1].memory / MB:.0f} MB")
        return broken

    def storm(self, seconds: float, every: float) -> list[Figures]:
        db = self.open()
        manager = transaction.TransactionManager()
        connection = db.open(manager)
        for number in range(THREADS):
            connection.root()[f"tree{number}"] = OOBTree()
        manager.commit()
        stop = threading.Event()
        editors = [Editor(db, number, self.seed, self.counts, stop) for number in range(THREADS)]
        weather = Weather(self.proxy, self.folder / "cache", self.seed, self.counts, stop)
        for thread in (*editors, weather):
            thread.start()
        samples = []
        print(HEAD)
        while time.monotonic() - self.started < seconds:
            time.sleep(every)
            self.proxy.reset()  # its record of requests is no leak of ours
            samples.append(self.figures())
            print(samples[-1].row(), flush=True)
        stop.set()
        weather.join()
        self.proxy.up()
        for editor in editors:
            editor.join(120)
            if editor.is_alive():
                self.counts.failed(f"{editor.name} hangs")
        db.storage.uploads.settle()
        db.storage.cache.clean()
        manager.begin()
        for editor in editors:
            tree = connection.root()[f"tree{editor.number}"]
            for name, digest in editor.committed.items():
                with tree[name].open("r") as file:
                    if hashlib.file_digest(file, "sha256").digest() != digest:
                        self.counts.failed(f"a wrong byte in the end: {editor.number} {name}")
        connection.close()
        db.close()
        return samples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="how long; default: 10")
    parser.add_argument("--seed", type=int, default=1, help="of the random faults; default: 1")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="s3blobs-soak-") as folder:
        server = MiniStack(Path(folder) / "ministack").start()
        try:
            seconds = arguments.minutes * 60
            broken = Soak(Path(folder), server, arguments.seed).run(seconds, max(5.0, seconds / 10))
        finally:
            server.stop()
    for line in broken:
        print("BROKEN:", line)
    sys.exit(1 if broken else 0)


if __name__ == "__main__":
    main()
