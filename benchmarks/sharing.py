"""Measures what ``dedup on`` costs a commit: time and requests, against ``dedup off``, without and with a round trip::

    python3 run.py benchmark sharing              # some three minutes
    python3 run.py benchmark sharing --quick      # tiny counts: whether it works, not how fast it is
    python3 run.py benchmark sharing --write      # and write the table into docs/dedup.md

MiniStack is the store; all runs on this machine, in turns, each repetition with new bytes: without ``dedup``, with it,
and once more the same bytes, which are there then. The best of the repetitions counts.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "tests"), str(REPOSITORY / "tests" / "storage")]

import boto3  # noqa: E402
import transaction  # noqa: E402
import ZODB  # noqa: E402
from servers.ministack import MiniStack  # noqa: E402
from servers.proxy import Proxy  # noqa: E402
from ZODB.blob import Blob  # noqa: E402
from ZODB.FileStorage import FileStorage  # noqa: E402

from benchmarks.way import Way  # noqa: E402
from collective.s3blobstorage.settings import StorageSettings, StoreSettings  # noqa: E402
from collective.s3blobstorage.storage import open_storage  # noqa: E402

KB, MB = 1024, 1024 * 1024
ROUND_TRIP = 20.0  # ms
PAGE, BEGIN, END = REPOSITORY / "docs" / "dedup.md", "<!-- measured: begin -->", "<!-- measured: end -->"


def rows(quick: bool) -> list[tuple[str, int, int, int]]:
    """What is committed: its name, blobs in a transaction, transactions, bytes of each blob."""
    if quick:
        return [("2 blobs of 100 KB, one after the other", 1, 2, 100 * KB)]
    return [
        ("40 blobs of 100 KB, one after the other", 1, 40, 100 * KB),
        ("200 blobs of 100 KB in one transaction", 200, 1, 100 * KB),
        ("2 blobs of 100 MB, one after the other", 1, 2, 100 * MB),
    ]


class Database:
    def __init__(self, folder: Path, store: StoreSettings, dedup: bool) -> None:
        self.folder = folder
        folder.mkdir()
        settings = StorageSettings(store=store, cache_dir=folder / "cache", owner="benchmark", dedup=dedup)
        self.db = ZODB.DB(open_storage(FileStorage(str(folder / "Data.fs")), settings))

    def commit(self, contents: list[list[bytes]]) -> float:
        """Seconds for these transactions, one after the other."""
        manager = transaction.TransactionManager()
        connection = self.db.open(manager)
        blobs = [[Blob(data) for data in each] for each in contents]
        os.sync()
        begun = time.perf_counter()
        for each in blobs:
            for blob in each:
                connection.root()[uuid.uuid4().hex] = blob
            manager.commit()
        took = time.perf_counter() - begun
        connection.close()
        return took

    def close(self) -> None:
        self.db.close()
        shutil.rmtree(self.folder)


def contents_of(each: int, count: int, size: int) -> list[list[bytes]]:
    """New bytes."""
    return [[os.urandom(size) for _ in range(each)] for _ in range(count)]


def timed(folder: Path, store: StoreSettings, each: int, count: int, size: int, repetitions: int) -> list[float]:
    """Seconds without it, with it, and with it for bytes that are there: the best of so many."""
    best = [float("inf")] * 3
    for _ in range(repetitions):
        contents = contents_of(each, count, size)
        with closing(Database(folder / uuid.uuid4().hex, store, dedup=False)) as database:
            took = [database.commit(contents)]
        with closing(Database(folder / uuid.uuid4().hex, store, dedup=True)) as database:
            took += [database.commit(contents), database.commit(contents)]
        best = list(map(min, best, took))
    return best


def requests(folder: Path, store: StoreSettings, proxy: Proxy) -> list[float]:
    """How many there are for one blob, as ``timed``."""
    found, contents = [], contents_of(10, 1, 100 * KB)

    def counted(database: Database) -> float:
        proxy.reset()
        database.commit(contents)
        return len([one for one in proxy.exchanges if "gc/witness" not in one.path]) / 10

    for dedup in (False, True):
        with closing(Database(folder / uuid.uuid4().hex, store, dedup)) as database:
            found.append(counted(database))
            if dedup:
                found.append(counted(database))
    return found


def store_at(server: MiniStack, endpoint: str) -> StoreSettings:
    """In a bucket of its own."""
    keys = {"aws_access_key_id": server.access_key, "aws_secret_access_key": server.secret_key}
    bucket = f"sharing-{uuid.uuid4().hex[:12]}"
    boto3.client("s3", endpoint_url=server.endpoint_url, region_name=server.region, **keys).create_bucket(Bucket=bucket)
    return StoreSettings(
        bucket=bucket,
        endpoint_url=endpoint,
        region=server.region,
        access_key=server.access_key,
        secret_key=server.secret_key,
    )


def lines(folder: Path, quick: bool) -> Iterator[str]:
    server = MiniStack(folder / "store").start()
    try:
        with Proxy(server.endpoint_url) as proxy:
            counts = requests(folder, store_at(server, proxy.endpoint_url), proxy)
        yield "| what is committed | round trip | `dedup off` | on, new bytes | on, bytes that are there |"
        yield "|---|---|---|---|---|"
        yield f"| requests for one blob | | {counts[0]:g} | {counts[1]:g} | {counts[2]:g} |"
        for delay in (0.0, ROUND_TRIP):
            for name, each, count, size in rows(quick):
                with Way(server.endpoint_url, delay) as way:
                    store = store_at(server, way.endpoint_url if delay else server.endpoint_url)
                    off, new, there = timed(folder, store, each, count, size, 1 if quick else 3)
                yield f"| {name} | {delay:.0f} ms | {off:.2f} s | {new:.2f} s | {there:.2f} s |"
    finally:
        server.stop()


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="run.py benchmark sharing", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny counts: whether it works, not how fast it is")
    parser.add_argument("--write", action="store_true", help="write the table into docs/dedup.md")
    given = parser.parse_args(arguments)
    if given.write and given.quick:
        parser.error("--write needs all counts in full")
    load = os.getloadavg()[0]
    made = []
    with tempfile.TemporaryDirectory(prefix="s3blobs-benchmark-") as folder:
        for line in lines(Path(folder), given.quick):
            made.append(line)
            print(line, flush=True)
    said = (
        f"`python3 run.py benchmark sharing`, best of 3, MiniStack on the same machine of {os.cpu_count()} cores, whose"
        f" load was {load:.1f} at the start and {os.getloadavg()[0]:.1f} at the end:"
    )
    print(said)
    if given.write:
        text = PAGE.read_text()
        before, after = text.partition(BEGIN)[0], text.partition(END)[2]
        PAGE.write_text("\n".join([f"{before}{BEGIN}", said, "", *made, f"{END}{after}"]))
    return 0


if __name__ == "__main__":
    os.environ.pop("PYTHONPATH", None)
    sys.exit(main(sys.argv[1:]))
