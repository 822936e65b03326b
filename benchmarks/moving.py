"""Compares ``s3blobs migrate`` with boto3 and rclone, and the first read through a source with a direct one::

    python3 run.py benchmark moving              # all of it, some minutes
    python3 run.py benchmark moving --quick      # tiny counts: whether it works, not how fast it is
    python3 run.py benchmark moving --write      # and write table and plot into docs/

Every figure is taken in a process of its own, its start included where it is a command; the contestants take turns, and
the best of their runs counts. All send as many requests at a time. The store is MiniStack, directly or behind a delay
of 20 ms per round trip, with its objects in memory where there is enough. Each run of a move begins with an empty
bucket. Ends with status 1 where a target is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "tests")]

import boto3  # noqa: E402
import transaction  # noqa: E402
import ZODB.BaseStorage  # noqa: E402
import ZODB.config  # noqa: E402
from s3transfer.manager import TransferConfig, TransferManager  # noqa: E402
from servers.ministack import MiniStack  # noqa: E402
from ZODB.blob import Blob  # noqa: E402

from benchmarks import report  # noqa: E402
from benchmarks.rows import Line  # noqa: E402
from benchmarks.scale import KB, MB, QUICK, Scale, blocks  # noqa: E402
from benchmarks.way import Way  # noqa: E402
from collective.s3blobstorage.keys import is_bookkeeping  # noqa: E402

ROUND_TRIP = 20.0  # ms
CONCURRENCY = 8
MEMORY_DISK = Path("/dev/shm")  # tmpfs(5)
OURS, BOTO3, RCLONE, DIRECT = "ours", "boto3", "rclone", "direct"
BEGIN, END = "<!-- begin: written by run.py benchmark moving --write -->", "<!-- end of moving -->"
PLOT = "images/moving.svg"

SECTION = """
%import collective.s3blobstorage
<s3blobstorage>
  bucket-name {bucket}
  s3-prefix {prefix}
  s3-endpoint-url {endpoint}
  s3-region {region}
  s3-access-key {access_key}
  s3-secret-key {secret_key}
  cache-dir {cache}
  cache-size 8GB
  cache-fill-on-commit off
  {source}
  <filestorage>
    path {folder}/Data.fs
  </filestorage>
</s3blobstorage>
"""
SOURCE = """
  <s3source production>
    bucket-name {bucket}
    s3-prefix production
    s3-endpoint-url {endpoint}
    s3-region {region}
    s3-access-key {access_key}
    s3-secret-key {secret_key}
    mirror {mirror}
  </s3source>
"""


@dataclass(frozen=True)
class Size:
    """So many blobs of so many bytes, and how often they are moved or read."""

    name: str
    count: int
    bytes: int
    repetitions: int

    @property
    def title(self) -> str:
        unit = f"{self.bytes // MB} MB" if self.bytes >= MB else f"{self.bytes // KB} KB"
        return f"{self.count:,} × {unit}"


MOVED = [Size("small", 5000, 64 * KB, 3), Size("large", 20, 100 * MB, 3)]
READ = [
    Size("64KB", 64, 64 * KB, 5),
    Size("1MB", 32, MB, 5),
    Size("16MB", 8, 16 * MB, 5),
    Size("100MB", 2, 100 * MB, 3),
]


def tiny(sizes: Sequence[Size]) -> list[Size]:
    """Every code path: some blobs below and above what goes out in one PUT."""
    return [Size(size.name, 3, min(size.bytes, 17 * MB), 1) for size in sizes]


class Moving:
    """The contestants on one store, in one folder."""

    def __init__(self, folder: Path, server: MiniStack, delay: Way) -> None:
        self.folder, self.server, self.delay = folder, server, delay
        self.client = boto3.client("s3", **_credentials(server))
        self.rclone = shutil.which("rclone", path=os.path.dirname(sys.executable)) or shutil.which("rclone")
        self._count = 0

    # Moving

    def moves(self, size: Size, way: Any, only: str = "") -> dict[str, float]:
        """The best seconds of each contestant, or of that one, moving a blob directory into an empty bucket."""
        site = self.folder / f"site-{size.name}"
        if not site.exists():
            _fill(site, size)
        contestants: dict[str, Callable[[Path, str, Any], list[str]]] = {OURS: self._migrate, BOTO3: self._sync}
        if self.rclone:
            contestants[RCLONE] = self._copy
        if only:
            contestants = {only: contestants[only]}
        best: dict[str, float] = {}
        for number in range(size.repetitions):
            for name in list(contestants)[:: 1 if number % 2 == 0 else -1]:
                bucket = self._bucket()
                command = contestants[name](site, bucket, way)
                os.sync()
                started = time.perf_counter()
                done = subprocess.run(
                    command, capture_output=True, text=True, cwd=REPOSITORY, env=_environment(self.server)
                )
                seconds = time.perf_counter() - started
                if done.returncode or self._objects(bucket) != size.count:
                    raise SystemExit(f"{name} failed at {size.title}:\n{done.stdout}{done.stderr}")
                best[name] = min(seconds, best.get(name, seconds))
                self._drop(bucket)
        return best

    def _migrate(self, site: Path, bucket: str, way: Any) -> list[str]:
        conf = site / "zope.conf"
        conf.write_text(self._section(site, bucket, "", way, self.folder / f"cache-{bucket}"))
        program = str(Path(sys.executable).with_name("s3blobs"))
        blobs = str(site / "blobs")
        return [program, "--config", str(conf), "migrate", "--from", blobs, "--concurrency", str(CONCURRENCY)]

    def _sync(self, site: Path, bucket: str, way: Any) -> list[str]:
        return [
            sys.executable,
            __file__,
            "--child",
            json.dumps(["sync", str(site / "blobs"), bucket, way.endpoint_url]),
        ]

    def _copy(self, site: Path, bucket: str, way: Any) -> list[str]:
        options = {
            "s3-provider": "Other",
            "s3-endpoint": way.endpoint_url,
            "s3-region": self.server.region,
            "s3-env-auth": "true",
            "s3-force-path-style": "true",
            "s3-no-check-bucket": "true",
            # So many requests at a time, as the others: files, each by one part after the other.
            "transfers": str(CONCURRENCY),
            "checkers": str(CONCURRENCY),
            "s3-upload-concurrency": "1",
            "s3-upload-cutoff": "16Mi",
            "s3-chunk-size": "8Mi",
        }
        named = [f"--{name}={value}" for name, value in options.items()]
        return [
            str(self.rclone),
            "copy",
            "--config=/dev/null",
            "--include=*.blob",
            *named,
            str(site / "blobs"),
            f":s3:{bucket}",
        ]

    # Reading

    def reads(self, size: Size, way: Any) -> dict[str, float]:
        """The best seconds of reading all blobs once, one after the other, by a process with an empty cache."""
        site, bucket = self.folder / f"read-{size.name}", f"read-{size.name.lower()}"
        if not site.exists():
            self.client.create_bucket(Bucket=bucket)
            production = self._section(site, bucket, "production", self.server, self.folder / "filling")
            with _committed_long_ago():
                _fill(site, size, production)
        best: dict[str, float] = {}
        contestants = {DIRECT: "", "off": SOURCE, "background": SOURCE}
        for number in range(size.repetitions):
            for name in list(contestants)[:: 1 if number % 2 == 0 else -1]:
                self._count += 1
                cache = self.folder / f"cache-read{self._count}"
                source = contestants[name].format(bucket=bucket, mirror=name, **self._way(way))
                prefix = f"staging{self._count}" if source else "production"
                section = self._section(site, bucket, prefix, way, cache, source)
                child = json.dumps(["read", section, size.count])
                done = subprocess.run(
                    [sys.executable, __file__, "--child", child], capture_output=True, text=True, cwd=REPOSITORY
                )
                if done.returncode:
                    raise SystemExit(f"{name} failed at {size.title}:\n{done.stderr}")
                shutil.rmtree(cache)
                seconds = float(done.stdout.splitlines()[-1])
                best[name] = min(seconds, best.get(name, seconds))
        return best

    # The store

    def _way(self, way: Any) -> dict[str, str]:
        server = self.server
        return {
            "endpoint": way.endpoint_url,
            "region": server.region,
            "access_key": server.access_key,
            "secret_key": server.secret_key,
        }

    def _section(self, site: Path, bucket: str, prefix: str, way: Any, cache: Path, source: str = "") -> str:
        return SECTION.format(bucket=bucket, prefix=prefix, cache=cache, source=source, folder=site, **self._way(way))

    def _bucket(self) -> str:
        self._count += 1
        bucket = f"moved-{self._count}"
        self.client.create_bucket(Bucket=bucket)
        return bucket

    def _pages(self, bucket: str) -> Iterator[list[dict[str, str]]]:
        for page in self.client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
            yield [{"Key": line["Key"]} for line in page.get("Contents", ())]

    def _objects(self, bucket: str) -> int:
        return sum(not is_bookkeeping(line["Key"]) for page in self._pages(bucket) for line in page)

    def _drop(self, bucket: str) -> None:
        for page in self._pages(bucket):
            if page:
                self.client.delete_objects(Bucket=bucket, Delete={"Objects": page, "Quiet": True})
        self.client.delete_bucket(Bucket=bucket)


def _credentials(server: Any) -> dict[str, Any]:
    return {
        "endpoint_url": server.endpoint_url,
        "region_name": server.region,
        "aws_access_key_id": server.access_key,
        "aws_secret_access_key": server.secret_key,
    }


def _environment(server: Any) -> dict[str, str]:
    return {
        **os.environ,
        "AWS_ACCESS_KEY_ID": server.access_key,
        "AWS_SECRET_ACCESS_KEY": server.secret_key,
        "AWS_DEFAULT_REGION": server.region,
    }


@contextmanager
def _committed_long_ago() -> Iterator[None]:
    """Tids of two hours ago: of a copy of a site that has been there for a while. What was committed in the last hour
    is asked for in the bucket first, whatever a listing says (``overlay/lacking.py``)."""
    real = ZODB.BaseStorage.time
    ZODB.BaseStorage.time = SimpleNamespace(time=lambda: real.time() - 7200, gmtime=real.gmtime)
    try:
        yield
    finally:
        ZODB.BaseStorage.time = real


def _fill(site: Path, size: Size, configuration: str = "") -> None:
    """A database of that many blobs: in a blob directory, or as the configuration says."""
    site.mkdir()
    stock = f"<filestorage>\n  path {site}/Data.fs\n  blob-dir {site}/blobs\n</filestorage>\n"
    if not configuration:
        (site / "blobs").mkdir()
    db = ZODB.DB(ZODB.config.storageFromString(configuration or stock))
    for first in range(0, size.count, 100):
        manager = transaction.TransactionManager()
        connection = db.open(manager)
        for number in range(first, min(first + 100, size.count)):
            blob = connection.root()[number] = Blob()
            with blob.open("w") as file:
                for block in blocks(Scale(seed=number), size.bytes):
                    file.write(block)
        manager.commit()
        connection.close()
    db.close()


# In processes of their own


def _child(text: str) -> None:
    work, *arguments = json.loads(text)
    {"sync": _synced, "read": _read}[work](*arguments)


def _synced(folder: str, bucket: str, endpoint: str) -> None:
    """What ``aws s3 sync`` does: list, compare, and hand what is missing to s3transfer's manager."""
    client = boto3.client("s3", endpoint_url=endpoint)
    there = {
        line["Key"]: line["Size"]
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        for line in page.get("Contents", ())
    }
    config = TransferConfig(max_request_concurrency=CONCURRENCY, multipart_threshold=8 * MB, multipart_chunksize=8 * MB)
    with TransferManager(client, config) as manager:
        futures = []
        for path in sorted(Path(folder).rglob("*.blob")):
            key = str(path.relative_to(folder))
            if there.get(key) != path.stat().st_size:
                futures.append(manager.upload(str(path), bucket, key))
        for future in futures:
            future.result()


def _read(configuration: str, count: int) -> None:
    db = ZODB.DB(ZODB.config.storageFromString(configuration))
    connection = db.open()
    root = connection.root()
    started = time.perf_counter()
    for number in range(count):
        with root[number].open("r") as file:
            while file.read(MB):
                pass
    print(time.perf_counter() - started)
    connection.close()
    db.close()


# The report


def moved_lines(size: Size, best: dict[str, float], way: str) -> Iterator[Line]:
    for other in best:
        if other != OURS:
            yield _line(f"migrate-{size.name}", f"moving {size.title}, {way}", best[OURS], other, best[other], 1.0)


def read_lines(size: Size, best: dict[str, float], way: str) -> Iterator[Line]:
    for mirror in ("off", "background"):
        title = f"first read of {size.title} through a source, mirror {mirror}, {way}"
        yield _line(f"overlay-{size.name}", title, best[mirror], DIRECT, best[DIRECT], 1.3)


def _line(row: str, title: str, ours: float, other: str, theirs: float, target: float) -> Line:
    ratio = ours / theirs
    return Line(
        row=row,
        title=title,
        ours=f"{ours:.3g} s",
        other=f"{other}: {theirs:.3g} s",
        figure=f"{ratio:.3g} ×",
        target=f"≤ {target:g}",
        met=ratio <= target,
        share=ratio / target,
    )


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="run.py benchmark moving", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny counts: whether it works, not how fast it is")
    parser.add_argument("--only", choices=("moves", "reads"), help="some rows only")
    parser.add_argument("--write", action="store_true", help="write table and plot into docs/")
    given = parser.parse_args(arguments)
    if given.write and (given.quick or given.only):
        parser.error("--write needs all rows and counts in full")
    return given


def main(arguments: list[str]) -> int:
    given = parse(arguments)
    moved, read = (tiny(MOVED), tiny([READ[0], READ[-1]])) if given.quick else (MOVED, READ)
    if given.only:
        moved, read = (moved, []) if given.only == "moves" else ([], read)
    made: list[Line] = []
    head = report.head(QUICK, in_memory=MEMORY_DISK.is_dir()).partition("; best of")[0]
    head += (
        f"; {CONCURRENCY} requests at a time; best of {MOVED[0].repetitions} runs, of {READ[0].repetitions} for reads"
    )
    with (
        tempfile.TemporaryDirectory(prefix="s3blobs-benchmark-") as folder,
        tempfile.TemporaryDirectory(
            prefix="s3blobs-benchmark-store-", dir=MEMORY_DISK if MEMORY_DISK.is_dir() else None
        ) as objects,
    ):
        server = MiniStack(Path(objects)).start()
        try:
            with Way(server.endpoint_url, ROUND_TRIP) as delay:
                moving = Moving(Path(folder), server, delay)
                print(head + "\n\n" + report.TABLE_HEAD, flush=True)
                for taken in _taken(moving, moved, read, delayed=not given.quick):
                    for line in taken:
                        made.append(line)
                        print(report.table_line(line), flush=True)
        finally:
            server.stop()
    head += report.foot()
    print(report.foot())
    if given.write:
        report.write(REPOSITORY / "docs", head, made, begin=BEGIN, end=END, picture=PLOT)
    return 1 if any(line.met is False for line in made) and not given.quick else 0


def _taken(moving: Moving, moved: Sequence[Size], read: Sequence[Size], *, delayed: bool) -> Iterator[Iterator[Line]]:
    for size in moved:
        yield moved_lines(size, moving.moves(size, moving.server), "no delay")
    for size in read:
        yield read_lines(size, moving.reads(size, moving.server), "no delay")
    if delayed:
        for size in moved[:1]:
            yield moved_lines(size, moving.moves(size, moving.delay), "20 ms")
        for size in read:
            yield read_lines(size, moving.reads(size, moving.delay), "20 ms")


if __name__ == "__main__":
    os.environ.pop("PYTHONPATH", None)
    if sys.argv[1:2] == ["--child"]:
        _child(sys.argv[2])
        sys.exit()
    sys.exit(main(sys.argv[1:]))
