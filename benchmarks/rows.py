"""The rows of the benchmark: who does which work, and what must come out. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarks.scale import MB, Scale

OURS = "ours"
SEALED = "ours, encrypted"  # client-side encryption
PEER = "zodb-s3blobs"
DIRECTORY = "blob directory"  # ZODB's own
BASE = "bare base"  # FileStorage without blobs
BOTO3 = "boto3"
BARE = "bare requests"  # http.client on presigned URLs: no S3 library, no storage

COUNTED = ("requests", "bytes")  # what a way that counts knows (way.py)

# What one process of one contestant measured: ``seconds`` and what the work adds, or what was COUNTED.
Sample = Mapping[str, float]
Samples = Mapping[str, Sequence[Sample]]


@dataclass(frozen=True)
class Ratio:
    """Ours in relation to another contestant's figure."""

    to: str
    target: float | None  # None: shown, no target


@dataclass(frozen=True)
class Limit:
    """A figure of ours that is no ratio."""

    figure: str
    target: float
    sense: Literal["at most", "at least", "exactly"] = "at most"
    unit: str = ""


@dataclass(frozen=True)
class Row:
    """``work`` is a function of worker.py (for BARE and BOTO3 of bare.py); ``needs`` is what is prepared for it, unless
    an earlier row ``leaves`` it. ``weight`` says how often it is repeated.

    Of several repetitions the best counts, since what disturbs a process only ever makes it slower; ``median`` for a
    figure that is itself the worst of many, and for one that has fast moments too: the disk's, and that of a loop in
    memory, of which one process in twenty takes two thirds of the others' time.
    """

    name: str
    title: str
    work: str
    contestants: tuple[str, ...]
    checks: tuple[Ratio | Limit, ...]
    needs: str = ""
    leaves: str = ""
    delayed: bool = False
    threads: int = 1
    weight: Literal["tiny", "short", "light", "heavy", "huge"] = "light"
    pick: Literal["best", "median"] = "best"
    subject: str = OURS  # whose figures the checks judge

    @property
    def timed(self) -> bool:
        return any(isinstance(check, Ratio) for check in self.checks)

    @property
    def counted(self) -> bool:
        return any(isinstance(check, Limit) and check.figure in COUNTED for check in self.checks)


@dataclass(frozen=True)
class Line:
    """One line of the table: one check of one row."""

    row: str
    title: str
    ours: str
    other: str
    figure: str  # the ratio, or the count
    target: str
    value: float | None = None  # None: not measured
    share: float | None = None  # of the target: up to 1 it is met
    met: bool | None = None


@dataclass(frozen=True)
class Figure:
    """Seconds: what counts, and between what the repetitions were."""

    value: float
    least: float
    most: float

    def __str__(self) -> str:
        if self.value > self.least:
            return f"{seconds(self.value)} ({seconds(self.least)} to {seconds(self.most)})"
        return f"{seconds(self.value)} (to {seconds(self.most)})"


def rows(scale: Scale) -> list[Row]:
    size = f"{scale.small // 1024} KB"
    large = f"{scale.large // MB} MB"
    cold = f"cold read of {scale.cold} × {size}"
    return [
        Row(
            "warm-read", f"warm read of {scale.warm} × {size}", "read_warm", (OURS, DIRECTORY, PEER),
            (Ratio(DIRECTORY, 1.0), Ratio(PEER, None)), "small",
        ),
        Row(
            "cold-read", f"{cold}, {scale.threads} threads, 20 ms", "read_cold", (OURS, PEER, BARE),
            (Ratio(PEER, 0.38), Ratio(BARE, None), Limit("requests", scale.cold, "exactly", "requests")), "small",
            delayed=True, threads=scale.threads,
        ),
        Row(
            "cold-read-1", f"{cold}, one thread, 20 ms", "read_cold", (OURS, BARE, PEER),
            (Ratio(BARE, 1.1), Ratio(PEER, None)), "small", delayed=True,
        ),
        Row(
            "cold-read-0", f"{cold}, {scale.threads} threads, no delay", "read_cold", (OURS, PEER, BARE),
            (Ratio(PEER, 0.15), Ratio(BARE, None)), "small", threads=scale.threads, weight="tiny",
        ),
        Row(
            "commit-small", f"commit of {scale.committed} × {size} in one transaction, 20 ms", "commit_small",
            (OURS, PEER, BARE, BOTO3), (Ratio(PEER, 0.06), Ratio(BARE, 1.1), Ratio(BOTO3, None)), delayed=True,
            weight="short",
        ),
        Row(
            "commit-large", f"commit of 1 × {large}", "commit_large", (OURS, BOTO3, PEER),
            (Ratio(BOTO3, 1.05), Ratio(PEER, None)), weight="heavy",
        ),
        Row(
            "read-large", f"full cold read of 1 × {large}", "read_large", (OURS, BOTO3, PEER),
            (Ratio(BOTO3, 1.0), Ratio(PEER, None)), "large", weight="heavy",
        ),
        Row(
            "tail", f"last {scale.tail // MB} MB of a cold {large} blob, 20 ms", "read_tail", (OURS, BARE, PEER),
            (
                Ratio(BARE, 1.0),
                Limit("requests", 2, unit="requests"),
                Limit("bytes", scale.part, unit="bytes"),
                Ratio(PEER, None),
            ),
            "large", delayed=True, weight="heavy",
        ),
        Row(
            "size", f"size of a cold {large} blob", "read_size", (OURS, PEER),
            (Limit("requests", 0, unit="requests"),), "large", delayed=True,
        ),
        Row(
            "other-writer", f"worst commit of another writer during a {large} commit", "commit_beside",
            (OURS, PEER), (Ratio(PEER, 0.01), Limit("through", 100, "at least", "commits")), "objects",
            weight="heavy", pick="median",
        ),
        Row("commits", f"{scale.commits} commits without blobs", "commit_objects", (OURS, BASE), (Ratio(BASE, 1.03),),
            "objects", weight="tiny", pick="median"),
        Row("loads", f"{scale.loads} loads without blobs", "load_objects", (OURS, BASE), (Ratio(BASE, 1.03),),
            "objects", weight="tiny", pick="median"),
        Row(
            "memory-write", f"peak memory while writing a {scale.huge // MB} MB blob", "write_huge", (OURS,),
            (Limit("above_idle", 64 * MB, unit="bytes"),), leaves="huge", weight="huge",
        ),
        Row(
            "memory-read", f"peak memory while reading a cold {scale.huge // MB} MB blob", "read_huge", (OURS,),
            (Limit("above_idle", 64 * MB, unit="bytes"),), "huge", weight="huge",
        ),
        Row(
            "sealed-commit-large", f"commit of 1 × {large}, encrypted here", "commit_large", (SEALED, OURS),
            (Ratio(OURS, 1.15),), weight="heavy", subject=SEALED,
        ),
        Row(
            "sealed-read-large", f"full cold read of 1 × {large}, encrypted here", "read_large", (SEALED, OURS),
            (Ratio(OURS, 1.15),), "large", weight="heavy", subject=SEALED,
        ),
        Row(
            "sealed-commit-small", f"commit of {scale.committed} × {size}, encrypted here, no delay", "commit_small",
            (SEALED, OURS), (Ratio(OURS, 1.1),), subject=SEALED,
        ),
        Row(
            "sealed-read-small", f"{cold}, one thread, encrypted here, no delay", "read_cold", (SEALED, OURS),
            (Ratio(OURS, 1.1),), "small", subject=SEALED,
        ),
    ]  # fmt: skip


def lines(row: Row, samples: Samples, *, judge_speed: bool = True) -> list[Line]:
    """What the samples of a row say, one line per check. Without ``judge_speed`` only counts are held to targets."""
    made = []
    for check in row.checks:
        if isinstance(check, Limit):
            made.append(_limit(row, check, samples))
        elif check.to not in samples:
            made.append(
                Line(row.name, row.title, str(picked(row, samples[row.subject])), f"{check.to}: not installed", "", "")
            )
        else:
            made.append(_ratio(row, check, samples, judge_speed))
    return made


def _ratio(row: Row, check: Ratio, samples: Samples, judge: bool) -> Line:
    ours, other = picked(row, samples[row.subject]), picked(row, samples[check.to])
    ratio = ours.value / other.value
    shown = (str(ours), f"{check.to}: {other}", f"{ratio:.3g} ×")
    if check.target is None:
        return Line(row.name, row.title, *shown, "", ratio)
    target = f"≤ {check.target:g}"
    if not judge:
        return Line(row.name, row.title, *shown, target, ratio)
    return Line(row.name, row.title, *shown, target, ratio, ratio / check.target, ratio <= check.target)


def _limit(row: Row, check: Limit, samples: Samples) -> Line:
    # The least favourable repetition: these are promises, not speeds.
    least_favourable = min if check.sense == "at least" else max
    value = least_favourable(_values(samples[row.subject], check.figure))
    other = ""
    if PEER in samples:
        theirs = least_favourable(_values(samples[PEER], check.figure))
        other = f"{PEER}: {count(theirs, check.unit)}"
    if check.sense == "at least":
        share = check.target / value if value else float("inf")
    else:
        share = value / check.target if check.target else value
    met = {"at most": value <= check.target, "at least": value >= check.target, "exactly": value == check.target}
    sign = {"at most": "≤", "at least": "≥", "exactly": "="}[check.sense]
    shown = count(value, check.unit)
    target = f"{sign} {count(check.target, check.unit)}"
    return Line(row.name, row.title, shown, other, shown, target, value, share, met[check.sense])


def _values(samples: Sequence[Sample], figure: str) -> list[float]:
    """Of those that have it: what is timed is not counted."""
    return [sample[figure] for sample in samples if figure in sample]


def picked(row: Row, samples: Sequence[Sample]) -> Figure:
    values = _values(samples, "seconds")
    least, most = min(values), max(values)
    return Figure(statistics.median(values) if row.pick == "median" else least, least, most)


def seconds(value: float) -> str:
    return f"{value * 1000:.3g} ms" if value < 0.9995 else f"{value:.3g} s"


def count(value: float, unit: str) -> str:
    return f"{value / MB:.3g} MB" if unit == "bytes" else f"{value:g} {unit}"
