"""Measures an fsck against listing the bucket and iterating the database, each alone, and its memory::

    python3 run.py benchmark fsck              # all of it, some ten minutes
    python3 run.py benchmark fsck --inventory  # manifests and reports in place of an fsck, some ten minutes
    python3 run.py benchmark fsck --quick      # tiny counts: whether it works, not how fast it is
    python3 run.py benchmark fsck --write      # and write table and plot into docs/

The prefix does not exist (``listed.py``), and everything in it is right: what looks wrong would be asked for alone.
Every figure is taken in a process of its own, and the works take turns. Ends with status 1 where a target is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "tests"), str(REPOSITORY / "tests" / "storage")]

import ZODB.config  # noqa: E402

from benchmarks import report  # noqa: E402
from benchmarks.garbage import based, in_process, most, opened, prepared  # noqa: E402
from benchmarks.listed import Listed  # noqa: E402
from benchmarks.rows import Line  # noqa: E402
from benchmarks.scale import MB, QUICK  # noqa: E402
from benchmarks.way import Way  # noqa: E402
from benchmarks.worker import peak  # noqa: E402

ROUND_TRIP = 20.0  # ms
BEGIN, END = "<!-- begin: written by run.py benchmark fsck --write -->", "<!-- end of fsck -->"
INVENTORY_BEGIN = "<!-- begin: written by run.py benchmark fsck --inventory --write -->"
INVENTORY_END = "<!-- end of inventory -->"
PLOT, INVENTORY_PLOT = "images/fsck.svg", "images/inventory.svg"
TITLES = {
    "fsck": "fsck",
    "manifest": "`manifest --to`",
    "verify": "`manifest --verify`",
    "types": "`report types`",
    "growth": "`report growth`",
}
INVENTORY = ("growth", "verify", "types", "manifest")
# Whose time is held to the target; the others also look for the content of each blob, which takes a look more for each.
HELD = ("fsck", "growth", "verify")
MOST_MEMORY, MOST_RATIO = 64 * MB, 2.0
ALONE = ("list", "iterate")


def taken(
    section: str, endpoint: str, count: int, repetitions: int, works: tuple[str, ...]
) -> tuple[dict[str, float], dict[str, float]]:
    """Seconds of each of the works and of ``ALONE``, and the most memory of each of the works."""
    seconds: dict[str, list[float]] = {work: [] for work in (*ALONE, *works)}
    memory: dict[str, list[float]] = {work: [] for work in works}
    for number in range(repetitions):
        for work in list(seconds)[:: 1 if number % 2 == 0 else -1]:
            told = in_process(__file__, work, endpoint, section, count)
            seconds[work].append(told["seconds"])
            if work in memory:
                memory[work].append(told["above_idle"])
    return {work: min(each) for work, each in seconds.items()}, {work: max(each) for work, each in memory.items()}


def lines(
    row: str, work: str, title: str, count: int, found: tuple[dict[str, float], dict[str, float]], *, held: bool
) -> Iterator[Line]:
    """``held``: to a target."""
    seconds, memory = found
    alone = seconds["list"] + seconds["iterate"]
    ratio = seconds[work] / alone
    shown = (
        f"{seconds[work]:.3g} s ({count / seconds[work]:,.0f} a second)",
        f"listing {seconds['list']:.3g} s + iterating {seconds['iterate']:.3g} s",
        f"{ratio:.3g} ×",
    )
    title = f"{TITLES[work]} of {count:,} blobs, {title}"
    if not held:
        yield Line(row, title, *shown, "", ratio)
        return
    if work in HELD:
        yield Line(row, title, *shown, f"≤ {MOST_RATIO:g}", ratio, ratio / MOST_RATIO, ratio <= MOST_RATIO)
    else:
        yield Line(row, title, *shown, "", ratio)
    yield most(row, f"peak memory of that {title}", memory[work] / MB, MOST_MEMORY / MB, "MB")


# In processes of their own


def _listed(endpoint: str, section: str, count: int) -> dict[str, float]:
    with closing(opened(endpoint)) as store:
        prepared()
        started = time.perf_counter()
        assert sum(1 for _ in store.list()) == count
        return {"seconds": time.perf_counter() - started}


def _iterated(endpoint: str, section: str, count: int) -> dict[str, float]:
    with closing(ZODB.config.storageFromString(section)) as base:
        prepared()
        started = time.perf_counter()
        # Not all transactions at a time: RelStorage has them in memory. Of these, each is read as a record is used.
        found = sum(1 for transaction in base.iterator() for record in transaction if record.data)
        seconds = time.perf_counter() - started
    assert found >= count
    return {"seconds": seconds}


def _checked(endpoint: str, section: str, count: int) -> dict[str, float]:
    from collective.s3blobstorage.maintenance.comparing import Comparison
    from collective.s3blobstorage.maintenance.fsck.run import Wish, fsck
    from collective.s3blobstorage.maintenance.scope import Scope
    from collective.s3blobstorage.maintenance.spool import Spool
    from collective.s3blobstorage.overlay.chain import NoOverlay
    from collective.s3blobstorage.storage.owner import Marker

    class Quiet:
        stop = threading.Event()

        def phase(self, *told: Any) -> Any:
            return lambda count, size=0: None

    with closing(opened(endpoint)) as store, closing(ZODB.config.storageFromString(section)) as base, Spool() as spool:
        marker = Marker("benchmark", foreign_keys=False)
        run = Comparison(lambda: nullcontext(base), store, marker, None, Scope(), spool)
        made: list[Any] = []

        def work() -> None:
            made.append(
                fsck(run, Wish(), Quiet(), lambda base: nullcontext(NoOverlay()), lambda sources: nullcontext())
            )

        prepared()
        told = peak(work)
        assert (made[0].there.blobs, made[0].found, made[0].orphaned.blobs) == (count, {}, 0), made[0]
    return told


@contextmanager
def _inventory(endpoint: str, section: str, **options: Any) -> Iterator[tuple[Any, Any]]:
    """A store, and what ``s3blobs manifest`` and ``report`` look with."""
    from collective.s3blobstorage.maintenance.inventory import Inventory
    from collective.s3blobstorage.maintenance.spool import Spool
    from collective.s3blobstorage.storage.owner import Marker

    with closing(opened(endpoint)) as store, closing(ZODB.config.storageFromString(section)) as base, Spool() as spool:
        marker = Marker("benchmark", foreign_keys=False)
        yield store, Inventory(lambda: nullcontext(base), store, marker, spool, threading.Event(), **options)


def _written(endpoint: str, section: str, count: int) -> dict[str, float]:
    from collective.s3blobstorage.maintenance.manifest import Header, write

    with _inventory(endpoint, section) as (store, found), tempfile.TemporaryFile() as file:
        made: list[Any] = []

        def work() -> None:
            found.look(lambda count: None)
            made.append(write(file, Header("benchmark", "main", found.tid, store.now(), "1"), found.entries()))

        prepared()
        told = peak(work)
        assert (made[0].blobs, made[0].missing) == (count, 0), made
        file.seek(0)
        assert sum(b'"path":"/files/' in line for line in file) == count
    return told


def _verified(endpoint: str, section: str, count: int) -> dict[str, float]:
    from collective.s3blobstorage.maintenance.compare import Verdict
    from collective.s3blobstorage.maintenance.findings import Findings
    from collective.s3blobstorage.maintenance.manifest import Header, Manifest, write
    from collective.s3blobstorage.maintenance.spool import Spool
    from collective.s3blobstorage.maintenance.verify_manifest import verify
    from collective.s3blobstorage.storage.owner import Marker

    with _inventory(endpoint, section) as (store, found), tempfile.TemporaryFile() as file, Spool() as spool:
        found.look(lambda count: None)
        write(file, Header("benchmark", "main", found.tid, store.now(), "1"), found.entries())
        findings, marker = Findings(), Marker("benchmark", foreign_keys=False)

        def work() -> None:
            whole = Manifest.opened(file, "m")
            verify(whole, store, marker, spool, findings, threading.Event(), lambda count: None)

        prepared()
        told = peak(work)
        assert (findings.by_verdict[Verdict.THERE].blobs, findings.bad) == (count, {}), findings
    return told


def _reported(kind: str) -> Callable[[str, str, int], dict[str, float]]:
    def reported(endpoint: str, section: str, count: int) -> dict[str, float]:
        from collective.s3blobstorage.maintenance import reports

        with _inventory(endpoint, section, with_content=kind != "growth", stored_sizes=True) as (_, found):
            made: list[Any] = []

            def work() -> None:
                found.look(lambda count: None)
                made.append((reports.growth if kind == "growth" else reports.by_type)(found.entries()))

            prepared()
            told = peak(work)
            assert sum(row.all.blobs for row in made[0]) == count and len(made[0]) == 1, made
        return told

    return reported


CHILDREN: dict[str, Callable[[str, str, int], dict[str, float]]] = {
    "list": _listed,
    "iterate": _iterated,
    "fsck": _checked,
    "manifest": _written,
    "verify": _verified,
    "types": _reported("types"),
    "growth": _reported("growth"),
}


def _child(text: str) -> None:
    work, *arguments = json.loads(text)
    print(json.dumps(CHILDREN[work](*arguments)))


# The report


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="run.py benchmark fsck", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--inventory", action="store_true", help="manifests and reports in place of an fsck")
    parser.add_argument("--quick", action="store_true", help="tiny counts: whether it works, not how fast it is")
    parser.add_argument("--write", action="store_true", help="write table and plot into docs/")
    given = parser.parse_args(arguments)
    if given.write and given.quick:
        parser.error("--write needs all counts in full")
    return given


def measured(folder: Path, *, quick: bool) -> Iterator[Line]:
    many, some = (12_000, 1_000) if quick else (1_000_000, 100_000)
    repetitions = 1 if quick else 2
    with based("FileStorage", folder / "many", many) as section, Listed(many, 0) as store:
        found = taken(section, store.endpoint_url, many, repetitions, ("fsck",))
        yield from lines("fsck", "fsck", "FileStorage, no delay", many, found, held=not quick)
    for name in ("FileStorage", "RelStorage"):
        with (
            based(name, folder / name, some) as section,
            Listed(some, 0) as store,
            Way(store.endpoint_url, ROUND_TRIP) as delay,
        ):
            found = taken(section, delay.endpoint_url, some, repetitions, ("fsck",))
            yield from lines(f"fsck-{name}", "fsck", f"{name}, 20 ms", some, found, held=False)


def inventory(folder: Path, *, quick: bool) -> Iterator[Line]:
    """A million records: of so many blobs, and of the item that each belongs to."""
    count, repetitions = (6_000, 1) if quick else (500_000, 2)
    with based("FileStorage", folder / "content", count, content=True) as section, Listed(count, 0) as store:
        found = taken(section, store.endpoint_url, count, repetitions, INVENTORY)
        for work in INVENTORY:
            yield from lines(work, work, "each of an item, FileStorage, no delay", count, found, held=not quick)


def main(arguments: list[str]) -> int:
    given = parse(arguments)
    head = report.head(QUICK, in_memory=False).partition("; best of")[0] + "; best of 2 processes"
    print(head + "\n\n" + report.TABLE_HEAD, flush=True)
    made = []
    with tempfile.TemporaryDirectory(prefix="s3blobs-benchmark-") as folder:
        for line in (inventory if given.inventory else measured)(Path(folder), quick=given.quick):
            made.append(line)
            print(report.table_line(line), flush=True)
    head += report.foot()
    print(report.foot())
    if given.write:
        begin, end, picture = (
            (INVENTORY_BEGIN, INVENTORY_END, INVENTORY_PLOT) if given.inventory else (BEGIN, END, PLOT)
        )
        report.write(REPOSITORY / "docs", head, made, begin=begin, end=end, picture=picture)
    return 1 if any(line.met is False for line in made) and not given.quick else 0


if __name__ == "__main__":
    os.environ.pop("PYTHONPATH", None)
    if sys.argv[1:2] == ["--child"]:
        _child(sys.argv[2])
        sys.exit()
    sys.exit(main(sys.argv[1:]))
