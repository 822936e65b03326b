"""What the benchmark prints, and what it writes into docs/."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import plot
from benchmarks.rows import Line
from benchmarks.scale import MB, Scale

TABLE_HEAD = "| row | work | ours | compared with | ratio or count | target | met |\n" + "|---" * 7 + "|"
# What is between these lines of docs/performance.md is written anew.
BEGIN, END = "<!-- begin: written by run.py benchmark --write -->", "<!-- end -->"
PLOT = "images/performance.svg"


def head(scale: Scale, *, in_memory: bool) -> str:
    """What the figures depend on, in one paragraph."""
    versions = ", ".join(f"{name} {_version(name)}" for name in ("ZODB", "boto3", "zodb-s3blobs"))
    return (
        f"{datetime.now(UTC):%d %B %Y}, Python {platform.python_version()}, {versions}; {os.cpu_count()} cores, load "
        f"average {load()} before; best of {scale.light_repetitions} "
        f"processes ({scale.heavy_repetitions} for {scale.large // MB} MB, {scale.short_repetitions} or "
        f"{scale.tiny_repetitions} for what takes a tenth of a second), seed {scale.seed}; "
        f"the store's objects are {'in memory' if in_memory else 'on the disk that is measured'}"
    )


def foot() -> str:
    return f"; load average {load()} after"


def load() -> str:
    return " ".join(f"{average:.1f}" for average in os.getloadavg())


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"


def table_line(line: Line) -> str:
    met = {True: "yes", False: "**no**", None: ""}[line.met]
    return f"| {line.row} | {line.title} | {line.ours} | {line.other} | {line.figure} | {line.target} | {met} |"


def write(
    docs: Path, head: str, lines: Sequence[Line], *, begin: str = BEGIN, end: str = END, picture: str = PLOT
) -> None:
    """Replace the table between the two lines of performance.md, and its plot."""
    page = docs / "performance.md"
    text = page.read_text()
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise SystemExit(f"{page} lacks the two lines between which the table goes: {begin} and {end}")
    table = "\n".join([TABLE_HEAD, *map(table_line, lines)])
    page.write_text(
        f"{before}{begin}\n{head}.\n\n{table}\n\n![Each figure in relation to its target]({picture})\n{end}{after}"
    )
    (docs / picture).parent.mkdir(exist_ok=True)
    (docs / picture).write_text(plot.svg(lines))
