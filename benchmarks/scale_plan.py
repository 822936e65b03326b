"""What a hundred million objects cost: requests, money, time, memory and disk, computed from measured rates::

    python3 run.py benchmark scale             # print the tables of docs/scale.md, from the rates that are kept
    python3 run.py benchmark scale --write     # and write them into the page
    python3 run.py benchmark scale --measure   # measure the rates anew before, some six minutes, and keep them
    python3 run.py benchmark scale --measure --quick   # tiny counts, kept nowhere: whether it works

The rates are kept in ``scale_rates.json``, each with how many it was measured with, and all with the load of the
machine. Every figure is taken in a process of its own. Only the standard library is imported before something is
measured.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
RATES = Path(__file__).with_name("scale_rates.json")
PAGE = REPOSITORY / "docs" / "scale.md"
MARKERS = {
    name: (f"<!-- {name}: written by run.py benchmark scale --write -->", f"<!-- end of {name} -->")
    for name in ("rates", "prices", "figures", "parts")
}

OBJECTS = 100_000_000
GARBAGE = 0.01  # of them nothing needs: candidates of gc
YOUNG = 0.001  # came after the report was begun: asked for alone by fsck
DUPLICATES = 0.1  # of the blobs are equal to another one, two of each content
PAGE_KEYS = 1000  # keys of a LIST, and of a DeleteObjects
REPORT_FILE = 1_000_000  # rows of one file of a report
ROUND_TRIP = 20.0  # ms
MB, GB, HOUR = 1 << 20, 1 << 30, 3600.0


@dataclass(frozen=True)
class Price:
    """Dollars for so many."""

    what: str
    dollars: float
    each: int

    @property
    def shown(self) -> str:
        return f"${self.dollars:g} per {self.each:,}"


# Amazon S3's list prices, S3 Standard, us-east-1 (N. Virginia). They are not asked for anywhere: look at
# https://aws.amazon.com/s3/pricing/ and change them here.
PRICES_OF = "November 2026"
PRICES = {
    "PUT": Price("PUT, COPY, POST", 0.005, 1000),
    "LIST": Price("LIST", 0.005, 1000),
    "GET": Price("GET", 0.0004, 1000),
    "HEAD": Price("HEAD", 0.0004, 1000),
    "DELETE": Price("DELETE, DeleteObjects", 0.0, 1000),
    "INVENTORY": Price("objects listed by S3 Inventory, each report", 0.0025, 1_000_000),
}


@dataclass(frozen=True)
class Rate:
    """What was measured: so many in so many seconds; ``memory`` in bytes, 0 where it was not."""

    what: str
    count: int
    seconds: float
    memory: float = 0.0

    @property
    def per_second(self) -> float:
        return self.count / self.seconds


@dataclass(frozen=True)
class Figure:
    """One row: a verb, with a listing or a report. ``steps``: how many of what, by the name of its rate."""

    verb: str
    way: str
    requests: Mapping[str, int]
    steps: tuple[tuple[int, str], ...]
    memory: str  # the name of the rate that has it; "": it was not measured
    disk: int  # bytes of TMPDIR

    @property
    def dollars(self) -> float:
        return sum(count / PRICES[kind].each * PRICES[kind].dollars for kind, count in self.requests.items())

    def seconds(self, rates: Mapping[str, Rate]) -> float:
        return sum(count / rates[name].per_second for count, name in self.steps)


def figures(objects: int = OBJECTS) -> list[Figure]:
    """All rows, of so many objects that are blobs of one revision each."""
    pages = -(-objects // PAGE_KEYS)
    dead, young = int(objects * GARBAGE), int(objects * YOUNG)
    batches = -(-dead // PAGE_KEYS)
    files = -(-objects // REPORT_FILE) + 2  # and the manifest's two
    report = {"INVENTORY": objects, "GET": files}
    listed, sorted_ = 105 * objects, 250 * objects  # lines of gc's listing; runs and what comes of them
    spooled = 200 * objects
    deleting = {"DELETE": batches, "PUT": batches}  # a log before each; of lease, ledger and plan there are a few
    gone = ((dead, "deletes"), (batches, "requests"))
    equal = int(objects * DUPLICATES)
    contents = equal // 2
    # Of each blob a look and a reference; of each content two looks for marks, reading it, the copy, three looks at
    # what is copied, and one request that deletes. tests/storage/test_scale_requests.py counts them.
    sharing = {"PUT": equal + contents, "LIST": 2 * contents, "GET": contents, "HEAD": equal + 3 * contents}
    sharing["DELETE"] = contents
    asked = sum(sharing.values())
    return [
        Figure("gc: plan", "LIST", {"LIST": pages}, ((objects, "gc-list"),), "gc-list", listed),
        Figure("gc: plan", "Inventory", report, ((objects, "gc-inventory"),), "gc-inventory", listed + sorted_),
        Figure("gc: execute", "LIST", deleting, gone, "", listed // 100),
        Figure(
            "gc: execute", "Inventory", {**deleting, "HEAD": dead}, ((dead, "heads"), *gone), "", listed // 100
        ),
        Figure("fsck", "LIST", {"LIST": pages}, ((objects, "fsck-list"),), "fsck-list", spooled),
        Figure(
            "fsck", "Inventory", {**report, "HEAD": young}, ((objects, "fsck-inventory"), (young, "requests")),
            "fsck-inventory", spooled + sorted_,
        ),
        Figure(
            "migrate: all is to be sent", "LIST", {"LIST": 1, "PUT": objects},
            ((objects, "compare-list"), (objects, "migrate")), "", 250 * objects,
        ),
        Figure(
            "migrate: all is there", "LIST", {"LIST": pages}, ((objects, "compare-list"),), "compare-list",
            200 * objects,
        ),
        Figure(
            "migrate: all is there", "Inventory", report, ((objects, "compare-inventory"),), "compare-inventory",
            200 * objects + sorted_,
        ),
        Figure("manifest", "LIST", {"LIST": pages, "PUT": 1}, ((objects, "manifest-list"),), "manifest-list", spooled),
        Figure(
            "dedup: a tenth is equal", "LIST", {**sharing, "LIST": pages + equal},
            ((objects, "fsck-list"), (asked, "requests")), "", spooled,
        ),
        Figure(
            "dedup: a tenth is equal", "Inventory", {**sharing, **report, "GET": contents + files},
            ((objects, "fsck-inventory"), (asked, "requests")), "",
            spooled + sorted_,
        ),
    ]  # fmt: skip


# The tables


def tables(kept: Mapping[str, Any]) -> dict[str, str]:
    """By the name of their markers. ``kept``: what ``scale_rates.json`` has."""
    rates = {name: Rate(**rate) for name, rate in kept["rates"].items()}
    return {
        "rates": f"{kept['head']}.\n\n{_rates_table(rates)}",
        "prices": _prices_table(),
        "figures": _figures_table(rates),
        "parts": _parts_table(rates),
    }


def _table(head: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _rates_table(rates: Mapping[str, Rate]) -> str:
    def rows() -> Iterator[tuple[str, ...]]:
        for name, rate in rates.items():
            memory = f"{rate.memory / MB:.0f} MB" if rate.memory else "–"
            shown = f"{rate.count:,} in {rate.seconds:.3g} s"
            yield name, rate.what, shown, f"{rate.per_second:,.0f} a second", memory

    return _table(("rate", "of what", "measured", "rate", "peak memory"), rows())


def _prices_table() -> str:
    rows = ((price.what, price.shown if price.dollars else "free") for price in PRICES.values())
    return _table(("request", "list price"), rows)


def _figures_table(rates: Mapping[str, Rate]) -> str:
    def rows() -> Iterator[tuple[str, ...]]:
        for figure in figures():
            requests = [f"{count:,} {kind}" for kind, count in figure.requests.items() if kind != "INVENTORY"]
            used = ", ".join(dict.fromkeys(name for _, name in figure.steps))
            memory = f"{rates[figure.memory].memory / MB:.0f} MB" if figure.memory else "–"
            yield (
                figure.verb,
                figure.way,
                ", ".join(requests),
                f"${figure.dollars:,.2f}",
                duration(figure.seconds(rates)),
                memory,
                f"{figure.disk / GB:.0f} GB" if figure.disk >= GB else f"{figure.disk / MB:.0f} MB",
                used,
            )

    return _table(("what", "with", "requests", "money", "time", "memory", "TMPDIR", "from the rates"), rows())


def _parts_table(rates: Mapping[str, Rate]) -> str:
    """By ``--oid-range``. What is listed is divided; a report is read whole by each machine."""
    machines = (1, 2, 4, 8)
    read = OBJECTS / rates["report"].per_second

    def rows() -> Iterator[tuple[str, ...]]:
        for figure in figures():
            if figure.verb in ("gc: plan", "fsck", "migrate: all is to be sent"):
                whole = figure.seconds(rates)
                fixed = min(read, whole) if figure.way == "Inventory" else 0.0
                yield figure.verb, figure.way, *(duration(fixed + (whole - fixed) / count) for count in machines)

    return _table(("what", "with", *(f"{count} machine{'s' * (count > 1)}" for count in machines)), rows())


def duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 1.5 * HOUR:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * HOUR:
        return f"{seconds / HOUR:.1f} h"
    return f"{seconds / HOUR / 24:.1f} days"


def page_with(text: str, made: Mapping[str, str]) -> str:
    """The page, with its tables written anew."""
    for name, table in made.items():
        begin, end = MARKERS[name]
        before, found, rest = text.partition(begin)
        _, closed, after = rest.partition(end)
        if not (found and closed):
            raise SystemExit(f"{PAGE} lacks the two lines between which a table goes: {begin} and {end}")
        text = f"{before}{begin}\n{table}\n{end}{after}"
    return text


# Measuring, each in a process of its own


def measured(count: int, sent: int) -> Iterator[tuple[str, Rate]]:
    """``count``: objects; ``sent``: blobs that are uploaded, and requests."""
    from benchmarks.garbage import based, in_process
    from benchmarks.listed import Listed
    from benchmarks.way import Way

    def told(work: str, what: str, number: int, *arguments: Any) -> tuple[str, Rate]:
        taken = [in_process(__file__, work, *arguments, number) for _ in range(2)]
        seconds, memory = min(each["seconds"] for each in taken), max(each.get("above_idle", 0) for each in taken)
        return work, Rate(what, number, seconds, memory)

    behind = f"behind a round trip of {ROUND_TRIP:g} ms"
    with tempfile.TemporaryDirectory(prefix="s3blobs-scale-") as path, ExitStack() as stack:
        folder = Path(path)
        section = stack.enter_context(based("FileStorage", folder / "base", count))
        content = stack.enter_context(based("FileStorage", folder / "content", count, content=True))
        garbage, all_used = stack.enter_context(Listed(count)), stack.enter_context(Listed(count, 0))
        slow, slow_used = (
            stack.enter_context(Way(each.endpoint_url, ROUND_TRIP)).endpoint_url for each in (garbage, all_used)
        )
        with_garbage, without = (_report(folder / name, count, dead) for name, dead in (("g", 100), ("u", 0)))
        yield told("gc-list", f"objects, gc's plan by a listing, {behind}", count, slow, section, "")
        yield told("gc-inventory", "objects, gc's plan by a report of CSV", count, slow, section, with_garbage)
        yield told("fsck-list", f"blobs, fsck by a listing, {behind}", count, slow_used, section, "")
        yield told("fsck-inventory", "blobs, fsck by a report", count, slow_used, section, without)
        yield told("compare-list", f"blobs, migrate's comparison by a listing, {behind}", count, slow_used, section, "")
        yield told("compare-inventory", "blobs, migrate's comparison by a report", count, slow_used, section, without)
        yield told("manifest-list", f"blobs, each of an item, manifest, {behind}", count, slow_used, content, "")
        yield told("report", "rows of CSV, read and sorted alone", count, "", "", with_garbage)
        yield told("heads", f"HEADs, 16 at a time, {behind}", sent, slow, "", "")
        yield told("requests", f"small requests, 8 at a time, {behind}", sent, slow, "", "")
    yield from _on_ministack(sent, behind)


def _report(folder: Path, count: int, dead_each: int) -> str:
    """A report of what ``benchmarks.listed`` lists, and its folder."""
    from inventory_reports import Report, Row

    from benchmarks.listed import BUCKET, key
    from collective.s3blobstorage.keys import MARKER

    old = datetime.now(UTC) - timedelta(days=30)
    rows = [Row(MARKER, 90, old)]
    rows += (Row(key(number, dead_each), 65536, old, key(number, dead_each)[-32:]) for number in range(count))
    created = datetime.now(UTC) - timedelta(hours=8)
    return str(Report(folder, created, bucket=BUCKET, files=max(count // 100_000, 1)).write(rows).config)


def _on_ministack(count: int, behind: str) -> Iterator[tuple[str, Rate]]:
    """What a real store is needed for: so many blobs of 64 KB that are sent, and deleted."""
    from servers.ministack import MiniStack

    from benchmarks.moving import MEMORY_DISK, OURS, Moving, Size
    from benchmarks.way import Way

    memory = MEMORY_DISK if MEMORY_DISK.is_dir() else None
    with (
        tempfile.TemporaryDirectory(prefix="s3blobs-scale-") as folder,
        tempfile.TemporaryDirectory(prefix="s3blobs-scale-", dir=memory) as objects,
    ):
        server = MiniStack(Path(objects)).start()
        try:
            with Way(server.endpoint_url, ROUND_TRIP) as delay:
                moving = Moving(Path(folder), server, delay)
                best = moving.moves(Size("sent", count, 65536, 2), delay, OURS)
                yield "migrate", Rate(f"blobs of 64 KB that migrate sends, 8 at a time, {behind}", count, best[OURS])
                seconds = _deleted(moving, server, delay.endpoint_url, count)
                yield "deletes", Rate(f"objects deleted by DeleteObjects, a thousand each, {behind}", count, seconds)
        finally:
            server.stop()


def _deleted(moving: Any, server: Any, endpoint: str, count: int) -> float:
    from collective.s3blobstorage.objectstore import open_store
    from collective.s3blobstorage.objectstore.interfaces import Doomed
    from collective.s3blobstorage.settings import StoreSettings

    moving.client.create_bucket(Bucket="deleted")
    for number in range(count):
        moving.client.put_object(Bucket="deleted", Key=f"blobs/{number:016x}/{number:032x}", Body=b"x")
    keys = {"access_key": server.access_key, "secret_key": server.secret_key, "region": server.region}
    with closing(open_store(StoreSettings("deleted", endpoint_url=endpoint, **keys))) as store:
        listed = [Doomed(line.key, line.etag) for line in store.list()]
        assert len(listed) == count
        started = time.perf_counter()
        for first in range(0, count, PAGE_KEYS):
            assert not store.delete_each(listed[first : first + PAGE_KEYS]).failed
        return time.perf_counter() - started


@contextmanager
def _inventory(where: str) -> Iterator[Any]:
    from benchmarks.listed import BUCKET
    from collective.s3blobstorage.objectstore.inventory import LocalFolder, open_report, read_report

    if not where:
        yield None
        return
    report = open_report(LocalFolder(Path(where)), BUCKET, datetime.now(UTC))
    with read_report(report, "") as listing:
        yield listing


def _planned(endpoint: str, section: str, where: str, count: int) -> dict[str, float]:
    import ZODB.config

    from benchmarks.garbage import opened, prepared
    from benchmarks.listed import DEAD_EACH
    from benchmarks.worker import peak
    from collective.s3blobstorage.maintenance.gc.margins import Margins
    from collective.s3blobstorage.maintenance.gc.references import view_of
    from collective.s3blobstorage.maintenance.gc.runs import Collection

    with closing(opened(endpoint)) as store, closing(ZODB.config.storageFromString(section)) as base:

        def work() -> None:
            with _inventory(where) as inventory:
                collection = Collection(store, lambda: view_of(base), Margins(), inventory=inventory)
                with collection.plan() as plan:
                    dead = count // DEAD_EACH
                    assert (plan.tally.used.blobs, plan.tally.waiting.blobs) == (count - dead, dead), plan.tally

        prepared()
        return peak(work)


class _Quiet:
    def __init__(self) -> None:
        import threading

        self.stop = threading.Event()

    def phase(self, *told: Any) -> Any:
        return lambda count, size=0: None


@contextmanager
def _compared(endpoint: str, section: str) -> Iterator[Any]:
    import ZODB.config

    from benchmarks.garbage import opened
    from collective.s3blobstorage.maintenance.comparing import Comparison
    from collective.s3blobstorage.maintenance.scope import Scope
    from collective.s3blobstorage.maintenance.spool import Spool
    from collective.s3blobstorage.storage.owner import Marker

    with closing(opened(endpoint)) as store, closing(ZODB.config.storageFromString(section)) as base, Spool() as spool:
        marker = Marker("benchmark", foreign_keys=False)
        yield Comparison(lambda: nullcontext(base), store, marker, None, Scope(), spool)


def _checked(endpoint: str, section: str, where: str, count: int) -> dict[str, float]:
    from dataclasses import replace

    from benchmarks.garbage import prepared
    from benchmarks.worker import peak
    from collective.s3blobstorage.maintenance.fsck.run import Wish, fsck
    from collective.s3blobstorage.overlay.chain import NoOverlay

    with _compared(endpoint, section) as run:

        def work() -> None:
            with _inventory(where) as inventory:
                report = fsck(
                    replace(run, inventory=inventory),
                    Wish(),
                    _Quiet(),
                    lambda base: nullcontext(NoOverlay()),
                    lambda sources: nullcontext(),
                )
                assert (report.there.blobs, report.found, report.orphaned.blobs) == (count, {}, 0), report

        prepared()
        return peak(work)


def _migrated(endpoint: str, section: str, where: str, count: int) -> dict[str, float]:
    """The comparison alone: all is there."""
    from dataclasses import replace

    from benchmarks.garbage import prepared
    from benchmarks.worker import peak
    from collective.s3blobstorage.maintenance.bringing import Wish, from_directory
    from collective.s3blobstorage.maintenance.compare import Verdict
    from collective.s3blobstorage.maintenance.migrate import Plan

    with _compared(endpoint, section) as run:

        def work() -> None:
            with _inventory(where) as inventory:
                planned = Plan(run.spool)
                from_directory(replace(run, inventory=inventory), planned, Wish(dry_run=True), _Quiet())
                assert planned.findings.by_verdict[Verdict.THERE].blobs == count

        prepared()
        return peak(work)


def _written(endpoint: str, section: str, where: str, count: int) -> dict[str, float]:
    from benchmarks.fsck import CHILDREN

    return CHILDREN["manifest"](endpoint, section, count)


def _read(endpoint: str, section: str, where: str, count: int) -> dict[str, float]:
    from benchmarks.garbage import prepared
    from benchmarks.worker import peak

    def work() -> None:
        with _inventory(where) as inventory:
            assert inventory.count == count + 1

    prepared()
    return peak(work)


def _asked(threads: int) -> Any:
    def asked(endpoint: str, section: str, where: str, count: int) -> dict[str, float]:
        from concurrent.futures import ThreadPoolExecutor

        from benchmarks.garbage import opened, prepared
        from benchmarks.listed import key

        with closing(opened(endpoint)) as store, ThreadPoolExecutor(threads) as pool:
            list(pool.map(store.stored, [key(number, 0) for number in range(2 * threads)]))  # connections are open
            prepared()
            started = time.perf_counter()
            found = list(pool.map(store.stored, (key(number, 0) for number in range(count))))
            seconds = time.perf_counter() - started
        assert len(found) == count
        return {"seconds": seconds}

    return asked


CHILDREN = {
    "gc-list": _planned,
    "gc-inventory": _planned,
    "fsck-list": _checked,
    "fsck-inventory": _checked,
    "compare-list": _migrated,
    "compare-inventory": _migrated,
    "manifest-list": _written,
    "report": _read,
    "heads": _asked(16),
    "requests": _asked(8),
}


def measure(*, quick: bool) -> dict[str, Any]:
    from benchmarks import report

    count, sent = (6_000, 200) if quick else (200_000, 2_000)
    before = report.load()
    rates = {}
    for name, rate in measured(count, sent):
        print(f"{name}: {rate.count:,} in {rate.seconds:.3g} s, {rate.per_second:,.0f} a second", flush=True)
        rates[name] = vars(rate)
    head = (
        f"{datetime.now(UTC):%d %B %Y}, Python {platform.python_version()}; {os.cpu_count()} cores, load average"
        f" {before} before, {report.load()} after; best of 2 processes, memory the most of them"
    )
    return {"head": head, "rates": rates}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="run.py benchmark scale", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--measure", action="store_true", help="measure the rates anew, and keep them")
    parser.add_argument("--quick", action="store_true", help="with --measure: tiny counts, kept nowhere")
    parser.add_argument("--write", action="store_true", help="write the tables into docs/scale.md")
    given = parser.parse_args(arguments)
    if given.quick and (given.write or not given.measure):
        parser.error("--quick goes with --measure alone: what it measures is kept nowhere")
    if given.measure:
        kept = measure(quick=given.quick)
        if not given.quick:
            RATES.write_text(json.dumps(kept, indent=1) + "\n")
    else:
        kept = json.loads(RATES.read_text())
    made = tables(kept)
    print("\n\n".join(made.values()))
    if given.write:
        PAGE.write_text(page_with(PAGE.read_text(), made))
    return 0


if __name__ == "__main__":
    os.environ.pop("PYTHONPATH", None)
    sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "tests"), str(REPOSITORY / "tests" / "storage")]
    if sys.argv[1:2] == ["--child"]:
        work, *rest = json.loads(sys.argv[2])
        print(json.dumps(CHILDREN[work](*rest)))
        sys.exit()
    sys.exit(main(sys.argv[1:]))
