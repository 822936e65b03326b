"""Measures garbage collection: a plan against the listing alone, over several bases, and a round's requests::

    python3 run.py benchmark garbage              # all of it, some ten minutes
    python3 run.py benchmark garbage --quick      # tiny counts: whether it works, not how fast it is
    python3 run.py benchmark garbage --write      # and write table and plot into docs/

Plans are made of a prefix that does not exist (``listed.py``), since a million objects would take hours to upload:
directly, where a page of the listing takes the store 6 ms, and behind a round trip of 20 ms. Every figure is taken in
a process of its own, and the contestants take turns. Deleting is done on MiniStack behind the tests' proxy, which
counts requests, with the same round trip; zodb-s3blobs packs the same blobs there. Ends with status 1 where a target is
missed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "tests"), str(REPOSITORY / "tests" / "storage")]

import boto3  # noqa: E402
import ZODB.config  # noqa: E402
from servers.ministack import MiniStack  # noqa: E402
from servers.process import free_port  # noqa: E402
from servers.proxy import Proxy  # noqa: E402
from ZODB.blob import Blob  # noqa: E402

from benchmarks import report  # noqa: E402
from benchmarks.listed import BUCKET, DEAD_EACH, Listed  # noqa: E402
from benchmarks.rows import OURS, PEER, Line  # noqa: E402
from benchmarks.scale import MB, QUICK, Scale, small_blob  # noqa: E402
from benchmarks.way import Way  # noqa: E402
from benchmarks.worker import connected, peak  # noqa: E402

ROUND_TRIP = 20.0  # ms
BEGIN, END = "<!-- begin: written by run.py benchmark garbage --write -->", "<!-- end of garbage -->"
PLOT = "images/garbage.svg"
MOST_REQUESTS, MOST_MEMORY, MOST_RATIO = 10, 64 * MB, 2.0
EACH = 50  # blobs in a transaction

BASES = {
    "FileStorage": "<filestorage>\n  path {folder}/Data.fs\n</filestorage>",
    "RelStorage": "%import relstorage\n<relstorage>\n<sqlite3>\ndata-dir {folder}/sqlite\n</sqlite3>\n</relstorage>",
    "ZEO": "<zeoclient>\n  server 127.0.0.1:{port}\n  storage 1\n</zeoclient>",
}
SECTION = """
%import {package}
<zodb>
  <s3blobstorage>
    bucket-name {bucket}
    s3-endpoint-url {endpoint}
    s3-region {region}
    s3-access-key {access_key}
    s3-secret-key {secret_key}
    cache-dir {folder}/cache
    cache-size 1GB
    {more}
    <filestorage>
      path {folder}/Data.fs
    </filestorage>
  </s3blobstorage>
</zodb>
"""
PACKAGES = {
    OURS: {"package": "collective.s3blobstorage", "more": "owner www.example.org\n    gc-on-pack off"},
    PEER: {"package": "zodb_s3blobs", "more": ""},
}


# Plans


@contextmanager
def based(name: str, folder: Path, count: int, *, content: bool = False) -> Iterator[str]:
    """The ZConfig section of a base that has so many blobs; ``content``: each in its item."""
    from benchmarks.blob_records import fill, fill_content

    folder.mkdir()
    port = free_port()
    section = BASES[name].format(folder=folder, port=port)
    stored = BASES["FileStorage" if name == "ZEO" else name].format(folder=folder)
    with closing(ZODB.config.storageFromString(stored)) as base:
        (fill_content if content else fill)(base, count)
    server = None
    if name == "ZEO":
        configuration = folder / "zeo.conf"
        configuration.write_text(
            f"<zeo>\n  address 127.0.0.1:{port}\n</zeo>\n{stored.replace('<filestorage>', '<filestorage 1>')}\n"
        )
        command = [sys.executable, "-m", "ZEO.runzeo", "-C", str(configuration)]
        server = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield section
    finally:
        if server is not None:
            server.terminate()
            server.wait()
        shutil.rmtree(folder)


def planned(section: str, endpoint: str, count: int, repetitions: int) -> tuple[float, float, float]:
    """Seconds of listing alone, those of a plan, and the most memory of one."""
    listing, plan, memory = [], [], []
    for number in range(repetitions):
        for work in ("list", "plan")[:: 1 if number % 2 == 0 else -1]:
            told = _in_process(work, endpoint, section, count)
            (listing if work == "list" else plan).append(told["seconds"])
            if work == "plan":
                memory.append(told["above_idle"])
    return min(listing), min(plan), max(memory)


def plan_lines(row: str, title: str, count: int, taken: tuple[float, float, float], *, held: bool) -> Iterator[Line]:
    """``held``: to a target. So are plans of many objects: of few the requests besides the listing count, too."""
    listing, plan, most = taken
    ratio = plan / listing
    shown = (f"{plan:.3g} s ({count / plan:,.0f} a second)", f"listing alone: {listing:.3g} s", f"{ratio:.3g} ×")
    title = f"plan of {count:,} objects, {title}"
    if not held:
        yield Line(row, title, *shown, "", ratio)
        return
    yield Line(row, title, *shown, f"≤ {MOST_RATIO:g}", ratio, ratio / MOST_RATIO, ratio <= MOST_RATIO)
    yield most(row, f"peak memory of that {title}", most / MB, MOST_MEMORY / MB, "MB")


def most(row: str, title: str, value: float, most: float, unit: str, other: str = "") -> Line:
    shown = f"{value:.3g} {unit}"
    return Line(row, title, shown, other, shown, f"≤ {most:g} {unit}", value, value / most, value <= most)


# Rounds


def rounds(folder: Path, server: MiniStack, proxy: Proxy, dead: int, repetitions: int) -> Iterator[Line]:
    """The second round of garbage collection against zodb-s3blobs' pack, each of as many blobs that are used."""
    contestants = [OURS, PEER] if importlib.util.find_spec("zodb_s3blobs") else [OURS]
    requests: dict[str, list[int]] = {contestant: [] for contestant in contestants}
    seconds: dict[str, list[float]] = {contestant: [] for contestant in contestants}
    keys = {"aws_access_key_id": server.access_key, "aws_secret_access_key": server.secret_key}
    client = boto3.client("s3", endpoint_url=server.endpoint_url, region_name=server.region, **keys)
    values = {"region": server.region, "access_key": server.access_key, "secret_key": server.secret_key}
    for number in range(repetitions):
        for contestant in contestants[:: 1 if number % 2 == 0 else -1]:
            bucket = f"garbage-{PACKAGES[contestant]['package'].split('.')[0].replace('_', '-')}-{number}"
            client.create_bucket(Bucket=bucket)
            place = folder / bucket
            place.mkdir()
            section = {**values, **PACKAGES[contestant], "bucket": bucket, "folder": str(place)}
            _in_process("fill", contestant, SECTION.format(endpoint=server.endpoint_url, **section), dead)
            through = SECTION.format(endpoint=proxy.endpoint_url, **section)
            told = _in_process("collect", contestant, through, dead, ready=proxy.reset)
            requests[contestant].append(len(proxy.exchanges))
            seconds[contestant].append(told["seconds"])
            left = client.list_objects_v2(Bucket=bucket, Prefix="blobs/")["KeyCount"]
            if left != dead:
                raise SystemExit(f"{contestant} left {left} objects of {2 * dead}, {dead} of which are dead")
    title = f"deleting {dead} of {2 * dead} objects, 20 ms"
    other = f"{PEER}: {max(requests[PEER])} requests" if PEER in requests else f"{PEER}: not installed"
    yield most("round", title, max(requests[OURS]), MOST_REQUESTS, "requests", other)
    if PEER not in seconds:
        return
    ours, theirs = min(seconds[OURS]), min(seconds[PEER])
    yield Line("round", title, f"{ours:.3g} s", f"{PEER}: {theirs:.3g} s", f"{ours / theirs:.3g} ×", "", ours / theirs)


# In processes of their own


def _in_process(work: str, *arguments: Any, ready: Any = None) -> dict[str, float]:
    return in_process(__file__, work, *arguments, ready=ready)


def in_process(program: str, work: str, *arguments: Any, ready: Any = None) -> dict[str, float]:
    """What ``program --child`` tells of that work. ``ready`` is called when it has prepared what it measures."""
    command = [sys.executable, program, "--child", json.dumps([work, *arguments])]
    with subprocess.Popen(
        command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        first = process.stdout.readline()
        if ready is not None:
            ready()
        said, errors = process.communicate("\n" if not process.poll() else None)
        if process.returncode:
            raise SystemExit(f"{work} failed:\n{errors}")
        return json.loads((first + said).splitlines()[-1])


def prepared() -> None:
    print("prepared", flush=True)
    sys.stdin.readline()


def opened(endpoint: str) -> Any:
    from collective.s3blobstorage.objectstore import open_store
    from collective.s3blobstorage.settings import StoreSettings

    store = open_store(
        StoreSettings(bucket=BUCKET, endpoint_url=endpoint, region="us-east-1", access_key="any", secret_key="any")
    )
    list(store.list("gc/"))  # a connection is open
    return store


def _listed(endpoint: str, section: str, count: int) -> dict[str, float]:
    with closing(opened(endpoint)) as store:
        prepared()
        started = time.perf_counter()
        found = sum(1 for _ in store.list())
        seconds = time.perf_counter() - started
    assert found == count
    return {"seconds": seconds}


def _planned(endpoint: str, section: str, count: int) -> dict[str, float]:
    from collective.s3blobstorage.maintenance.gc.margins import Margins
    from collective.s3blobstorage.maintenance.gc.references import view_of
    from collective.s3blobstorage.maintenance.gc.runs import Collection

    with closing(opened(endpoint)) as store, closing(ZODB.config.storageFromString(section)) as base:
        collection = Collection(store, lambda: view_of(base), Margins())
        made: list[Any] = []
        prepared()
        told = peak(lambda: made.append(collection.plan()))
        with made[0] as plan:
            dead = count // DEAD_EACH
            assert (plan.tally.used.blobs, plan.tally.waiting.blobs) == (count - dead, dead)
    return told


def _filled(contestant: str, section: str, dead: int) -> dict[str, float]:
    scale = Scale(small=2048)
    with closing(ZODB.config.databaseFromString(section)) as db:
        with connected(db) as connection:
            for seed in range(2):
                for first in range(0, dead, EACH):
                    for number in range(first, min(first + EACH, dead)):
                        blob = connection.root().setdefault(number, Blob())
                        with blob.open("w") as file:
                            file.write(small_blob(scale, 2 * number + seed))
                    connection.transaction_manager.commit()
        if contestant == OURS:
            db.pack(time.time() + 1)
            with _collection(db, days=2) as collection:
                plan, _ = collection.round()
                with plan:
                    assert plan.tally.waiting.blobs == dead
    prepared()
    return {}


def _collected(contestant: str, section: str, dead: int) -> dict[str, float]:
    with closing(ZODB.config.databaseFromString(section)) as db:
        if contestant == PEER:
            prepared()
            started = time.perf_counter()
            db.pack(time.time() + 1)
            return {"seconds": time.perf_counter() - started}
        with _collection(db, days=10) as collection:
            prepared()
            started = time.perf_counter()
            plan, outcome = collection.round()
            seconds = time.perf_counter() - started
            with plan:
                assert outcome.deleted.blobs == dead
            return {"seconds": seconds}


@contextmanager
def _collection(db: Any, days: int) -> Iterator[Any]:
    """So many days after what is in the bucket was written."""
    from store_time import DAY, ShiftedStore

    from collective.s3blobstorage.maintenance.gc.margins import Margins
    from collective.s3blobstorage.maintenance.gc.references import view_of
    from collective.s3blobstorage.maintenance.gc.runs import Collection

    store = ShiftedStore(db.storage.store_)
    store.advance(days * DAY)
    yield Collection(store, lambda: view_of(db.storage._base), Margins(share=1.0))


def _child(text: str) -> None:
    work, *arguments = json.loads(text)
    works = {"list": _listed, "plan": _planned, "fill": _filled, "collect": _collected}
    print(json.dumps(works[work](*arguments)))


# The report


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="run.py benchmark garbage", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny counts: whether it works, not how fast it is")
    parser.add_argument("--write", action="store_true", help="write table and plot into docs/")
    given = parser.parse_args(arguments)
    if given.write and given.quick:
        parser.error("--write needs all counts in full")
    return given


def measured(folder: Path, *, quick: bool) -> Iterator[Line]:
    many, some, dead = (12_000, 1_000, 5) if quick else (1_000_000, 100_000, 250)
    repetitions = 1 if quick else 2
    with based("FileStorage", folder / "many", many) as section, Listed(many) as store:
        taken = planned(section, store.endpoint_url, many, repetitions)
        yield from plan_lines("plan", "FileStorage, no delay", many, taken, held=not quick)
        with Way(store.endpoint_url, ROUND_TRIP) as delay:
            taken = planned(section, delay.endpoint_url, many, repetitions)
            yield from plan_lines("plan-20ms", "FileStorage, 20 ms", many, taken, held=not quick)
    for name in BASES:
        with (
            based(name, folder / name, some) as section,
            Listed(some) as store,
            Way(store.endpoint_url, ROUND_TRIP) as delay,
        ):
            taken = planned(section, delay.endpoint_url, some, repetitions)
            yield from plan_lines(f"plan-{name}", f"{name}, 20 ms", some, taken, held=False)
    server = MiniStack(folder / "store").start()
    try:
        with Proxy(server.endpoint_url) as proxy:
            proxy.round_trip(ROUND_TRIP)
            yield from rounds(folder, server, proxy, dead, repetitions)
    finally:
        server.stop()


def main(arguments: list[str]) -> int:
    given = parse(arguments)
    head = report.head(QUICK, in_memory=False).partition("; best of")[0] + "; best of 2 processes"
    print(head + "\n\n" + report.TABLE_HEAD, flush=True)
    made = []
    with tempfile.TemporaryDirectory(prefix="s3blobs-benchmark-") as folder:
        for line in measured(Path(folder), quick=given.quick):
            made.append(line)
            print(report.table_line(line), flush=True)
    head += report.foot()
    print(report.foot())
    if given.write:
        report.write(REPOSITORY / "docs", head, made, begin=BEGIN, end=END, picture=PLOT)
    return 1 if any(line.met is False for line in made) and not given.quick else 0


if __name__ == "__main__":
    os.environ.pop("PYTHONPATH", None)
    if sys.argv[1:2] == ["--child"]:
        _child(sys.argv[2])
        sys.exit()
    sys.exit(main(sys.argv[1:]))
