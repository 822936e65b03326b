"""Compares our storage with ZODB's blob directory, zodb-s3blobs, boto3 and bare requests, in one run::

    python3 run.py benchmark                        # all rows, some minutes
    python3 run.py benchmark --only warm-read       # one of them; may be repeated
    python3 run.py benchmark --quick                # tiny counts: whether it works, not how fast it is
    python3 run.py benchmark --write                # and write table and plot into docs/

Every figure is taken in a process of its own with the storage opened anew. The repetitions of the contestants take
turns, so that what else the machine does meets all of them, and each begins when the disk has nothing left to write.
The store is MiniStack, directly or behind a delay of 20 ms per round trip, with its objects in memory where there is
enough: a site does not share its disk with its store. Requests are counted in processes of their own. Ends with status
1 where a target is missed.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "tests")]

from servers.ministack import MiniStack  # noqa: E402

from benchmarks import report  # noqa: E402
from benchmarks.bare import client  # noqa: E402
from benchmarks.rows import BARE, BASE, BOTO3, DIRECTORY, OURS, PEER, SEALED, Line, Row, Sample, lines, rows  # noqa: E402
from benchmarks.scale import MB, QUICK, Scale  # noqa: E402
from benchmarks.timing import settle_disk  # noqa: E402
from benchmarks.way import CountingWay, Way  # noqa: E402
from benchmarks.worker import Task  # noqa: E402

ROUND_TRIP = 20.0  # ms
MEMORY_DISK = Path("/dev/shm")  # tmpfs(5)
FOLDERS = {
    OURS: "ours",
    SEALED: "sealed",
    PEER: "peer",
    DIRECTORY: "directory",
    BASE: "base",
    BOTO3: "boto3",
    BARE: "bare",
}


class WorkFailed(RuntimeError):
    """A contestant's process ended with an error; the message is what it wrote."""


def drop_large(cache: Path) -> None:
    """Free the space of a cache that has done its work. Its small files stay until all is done.

    For minutes after many files were deleted, ext4 without a journal takes up to a quarter of a millisecond to make
    one: it passes over each inode that was free lately (Linux, fs/ext4/ialloc.c, ``recently_deleted``). With the files
    of each repetition deleted after it, the next one would measure that.
    """
    for folder, _, names in os.walk(cache):
        for path in (Path(folder, name) for name in names):
            if path.stat().st_size > MB:
                path.unlink()


class Benchmark:
    """The contestants on one store, each with a folder and a bucket of its own."""

    def __init__(self, scale: Scale, folder: Path, server: MiniStack, delay: Way, counting: CountingWay):
        self.scale, self.folder, self.server, self.delay, self.counting = scale, folder, server, delay, counting
        self.absent = [] if importlib.util.find_spec("zodb_s3blobs") else [PEER]
        self._prepared: set[tuple[str, str]] = set()
        self._numbers = itertools.count()
        for contestant in FOLDERS:
            task = self._task(contestant, "", server)
            Path(task.folder).mkdir()
            client(task).create_bucket(Bucket=task.bucket)

    def samples(self, row: Row) -> dict[str, list[Sample]]:
        """What every contestant that is installed measures, {contestant: a sample per repetition}."""
        contestants = [name for name in row.contestants if name not in self.absent]
        if row.needs:
            for contestant in contestants:
                self._prepare(contestant, row.needs)
        taken: dict[str, list[Sample]] = {name: [] for name in contestants}
        for number, way in enumerate(self._ways(row)):
            for contestant in contestants if number % 2 == 0 else reversed(contestants):
                taken[contestant].append(self._sample(contestant, row, way))
        self._prepared.update((contestant, row.leaves) for contestant in contestants)
        return taken

    def _ways(self, row: Row) -> list[MiniStack | Way]:
        """The way to the store of each repetition. Counting takes time: of what is timed it has one of its own."""
        repetitions = self.scale.repetitions(row.weight)
        if not row.delayed:
            return [self.server] * repetitions
        if not row.timed:
            return [self.counting] * repetitions
        return [self.delay] * repetitions + [self.counting] * row.counted

    def _prepare(self, contestant: str, what: str) -> None:
        if (contestant, what) not in self._prepared:
            self._work(self._task(contestant, f"prepare_{what}", self.server))
            self._prepared.add((contestant, what))

    def _sample(self, contestant: str, row: Row, way: MiniStack | Way) -> Sample:
        task = self._task(contestant, row.work, way, row.threads)
        if way is not self.counting:
            return self._work(task)
        self.counting.passed()
        self._work(task)
        return self.counting.passed()

    def _task(self, contestant: str, work: str, way: MiniStack | Way, threads: int = 1) -> Task:
        own = FOLDERS[contestant]
        return Task(
            contestant=contestant,
            work=work,
            scale=self.scale,
            threads=threads,
            folder=str(self.folder / own),
            cache=str(self.folder / own / f"cache{next(self._numbers)}"),
            endpoint=way.endpoint_url,
            bucket=f"bench-{own}",
            region=self.server.region,
            access_key=self.server.access_key,
            secret_key=self.server.secret_key,
        )

    def _work(self, task: Task) -> Sample:
        command = [sys.executable, "-m", "benchmarks.worker"]
        text = json.dumps(dataclasses.asdict(task))
        settle_disk()  # what the one before has written and removed is not this one's to wait for
        done = subprocess.run(command, input=text, capture_output=True, text=True, cwd=REPOSITORY)
        drop_large(Path(task.cache))
        if done.returncode:
            raise WorkFailed(f"{task.contestant} failed at {task.work}:\n{done.stderr}")
        return json.loads(done.stdout.splitlines()[-1])


def parse(arguments: list[str], names: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="run.py benchmark", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", metavar="ROW", choices=names, action="append", help="one of: " + ", ".join(names))
    parser.add_argument("--quick", action="store_true", help="tiny counts: whether it works, not how fast it is")
    parser.add_argument("--seed", type=int, default=1, help="of the blobs' bytes (default: 1)")
    parser.add_argument("--folder", type=Path, help="on the disk to measure on (default: the temporary folder)")
    parser.add_argument("--store-folder", type=Path, help="of the S3 server (default: memory, where there is room)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the lines of the table here, too")
    parser.add_argument("--write", action="store_true", help="write table and plot into docs/")
    given = parser.parse_args(arguments)
    if given.write and (given.only or given.quick):
        parser.error("--write needs all rows, in full")
    return given


def store_folder(given: argparse.Namespace, scale: Scale) -> Path | None:
    """Where the S3 server keeps its objects; None: the temporary folder."""
    # Each repetition of the two rows that commit the large blob leaves an object, of us and of zodb-s3blobs.
    needed = 4 * scale.heavy_repetitions * scale.large + 4 * scale.large + scale.huge + 512 * MB
    if given.store_folder is None and MEMORY_DISK.is_dir() and shutil.disk_usage(MEMORY_DISK).free >= needed:
        return MEMORY_DISK
    return given.store_folder or given.folder


def main(arguments: list[str]) -> int:
    given = parse(arguments, [row.name for row in rows(Scale())])
    scale = dataclasses.replace(QUICK if given.quick else Scale(), seed=given.seed)
    chosen = [row for row in rows(scale) if not given.only or row.name in given.only]
    made: list[Line] = []
    with (
        tempfile.TemporaryDirectory(prefix="s3blobs-benchmark-", dir=given.folder) as folder,
        tempfile.TemporaryDirectory(prefix="s3blobs-benchmark-store-", dir=store_folder(given, scale)) as objects,
    ):
        server = MiniStack(Path(objects)).start()
        try:
            upstream = server.endpoint_url
            with Way(upstream, ROUND_TRIP) as delay, CountingWay(upstream, ROUND_TRIP) as counting:
                benchmark = Benchmark(scale, Path(folder), server, delay, counting)
                head = report.head(scale, in_memory=Path(objects).parent == MEMORY_DISK)
                print(head + "\n\n" + report.TABLE_HEAD, flush=True)
                for row in chosen:
                    for line in lines(row, benchmark.samples(row), judge_speed=not given.quick):
                        made.append(line)
                        print(report.table_line(line), flush=True)
        finally:
            server.stop()
    head += report.foot()
    print(report.foot())
    if given.json:
        given.json.write_text(json.dumps([dataclasses.asdict(line) for line in made], indent=1))
    if given.write:
        report.write(REPOSITORY / "docs", head, made)
    return 1 if any(line.met is False for line in made) and not given.quick else 0


if __name__ == "__main__":
    os.environ.pop("PYTHONPATH", None)  # the contestants are what is installed
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a kill leaves no folder behind, as Ctrl-C
    sys.exit(main(sys.argv[1:]))
