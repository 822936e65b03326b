"""``s3blobs report``: which blobs, which months and which types of content take the room."""

from __future__ import annotations

import csv
import io
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..messages import byte_count
from . import output
from .appearing import appear, hidden
from .as_job import shown_until_interrupted
from .comparing import looked, opened_store
from .configuration import Database
from .drawing import bars
from .interrupt import INTERRUPTED
from .request import Request, pass_request

if TYPE_CHECKING:
    from ..maintenance.reporting import Report
    from .shown import Shown

_TITLES = {"largest": "The largest blobs", "growth": "Blobs by month", "types": "Blobs by type of content"}


@dataclass(frozen=True)
class _Report:
    """``rows`` as JSON has them; ``table``: as people have them, its columns; ``bars`` for a drawing."""

    rows: list[dict[str, Any]]
    columns: list[str]
    table: list[list[str]]
    bars: list[tuple[str, float, str]]


@click.command()
@click.argument("kind", type=click.Choice(list(_TITLES)))
@click.option("--top", type=click.IntRange(1, 10_000), default=20, show_default=True, help="largest: how many.")
@click.option("--csv", "as_csv", is_flag=True, help="Print comma-separated values, sizes in bytes.")
@click.option("--svg", type=click.Path(path_type=Path), metavar="FILE", help="Draw it, too.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")
@pass_request
def report(request: Request, kind: str, top: int, as_csv: bool, svg: Path | None, as_json: bool) -> int:
    """Say what takes the room: the largest blobs with their content, the growth by month, or the types of content.

    Of all kept revisions, at the database's last transaction: reads the database once and lists the bucket once, beside
    a running site. History is what only undo and earlier versions need: of FileStorage a pack removes it. Exit status:
    0; 2 where nothing could be done; 130 after Ctrl-C.
    """
    request.json = as_json
    if as_csv and as_json:
        raise click.UsageError("--csv and --json are two forms: give one.")
    database = request.database()
    found = _made(database, kind, top)
    if found is None:
        return INTERRUPTED
    tid, made = found
    if svg is not None:
        _draw(svg, f"{_TITLES[kind]}: {database.name}", made)
    if as_json:
        output.print_json({"database": database.name, "report": kind, "tid": tid.hex(), "rows": made.rows})
    elif as_csv:
        sys.stdout.write(_csv(made.rows, made.columns))
    else:
        _print(made)
    return 0


def _made(database: Database, kind: str, top: int) -> tuple[bytes, _Report] | None:
    from ..maintenance.findings import Stopped
    from ..maintenance.reporting import LARGEST
    from ..maintenance.reporting import report as made
    from ..maintenance.spool import Spool

    with ExitStack() as stack:
        spool = stack.enter_context(Spool())
        store, marker = opened_store(stack, database, writable=False, concurrency=1)

        def work(running: Shown) -> tuple[bytes, _Report] | None:
            try:
                found = made(looked(database), store, marker, spool, kind, top, running)
            except Stopped:
                return None
            return found.tid, _of_entries(found) if kind == LARGEST else _of_rows(found)

        return shown_until_interrupted(work, "requests")


def _of_entries(found: Report) -> _Report:
    rows, table, drawn = found.as_json(), [], []
    for row, (entry, past) in zip(rows, found.entries, strict=True):
        size, where = byte_count(row["bytes"]), "not found" if entry.content is None else str(entry.content)
        marked = f"{where} (an earlier revision)" if past else where
        oid = f"0x{int(row['oid'], 16):02x}"
        table.append([size, (row["committed"] or "")[:10], row["type"] or "-", oid, marked])
        drawn.append((where, float(row["bytes"]), size))
    columns = ["bytes", "oid", "tid", "committed", "type", "field", "path", "history"]
    return _Report(rows, columns, [["size", "committed", "type", "oid", "content"], *table], drawn)


def _of_rows(found: Report) -> _Report:
    from ..maintenance.reporting import GROWTH

    rows, table, drawn = found.as_json(), [], []
    sums = found.kind == GROWTH
    name = "month" if sums else "type"
    for row in rows:
        line = [row[name], f"{row['blobs']:,}", byte_count(row["bytes"]), byte_count(row["history_bytes"])]
        if sums:
            line.append(byte_count(row["total_bytes"]))
        table.append(line)
        drawn.append((row[name], float(row["bytes"]), f"{byte_count(row['bytes'])}, {row['blobs']:,} blobs"))
    columns = [name, "blobs", "bytes", "history_blobs", "history_bytes", "shared_blobs", "shared_bytes"]
    head = [name, "blobs", "size", "of it history", *(["in all"] if sums else [])]
    return _Report(rows, [*columns, *(["total_bytes"] if sums else [])], [head, *table], drawn)


def _csv(rows: list[dict[str, Any]], columns: list[str]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _print(made: _Report) -> None:
    shown = output.console()
    if len(made.table) == 1:
        shown.print("no blobs")
        return
    last = len(made.table[0]) - 1
    widths = [max(len(line[place]) for line in made.table) for place in range(last + 1)]
    for line in made.table:
        text = "  ".join(value.ljust(width) for value, width in zip(line, widths, strict=True))
        shown.print(text.rstrip(), soft_wrap=True)
    blobs, saved = (sum(row.get(f"shared_{what}", 0) for row in made.rows) for what in ("blobs", "bytes"))
    if blobs:
        shown.print(f"sharing saves {byte_count(saved)}: {blobs:,} blobs have the bytes of another one", soft_wrap=True)


def _draw(path: Path, title: str, made: _Report) -> None:
    with hidden(path, "--svg", "w") as file:
        file.write(bars(title, made.bars))
        appear(file, path)
