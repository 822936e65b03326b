"""``s3blobs report``: which blobs, which months and which types of content take the room."""

from __future__ import annotations

import csv
import io
import sys
from contextlib import ExitStack
from dataclasses import asdict, dataclass
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
    from ..maintenance.manifest import Entry
    from ..maintenance.reports import Row
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
    from ..maintenance import reports
    from ..maintenance.findings import Stopped
    from ..maintenance.inventory import Inventory
    from ..maintenance.spool import Spool

    with ExitStack() as stack:
        spool = stack.enter_context(Spool())
        store, marker = opened_store(stack, database, writable=False, concurrency=1)

        def work(running: Shown) -> tuple[bytes, _Report] | None:
            found = Inventory(
                looked(database), store, marker, spool, running.stop, with_content=kind != "growth", stored_sizes=True
            )
            try:
                found.look(running.phase("reading the database"))
            except Stopped:
                return None
            advance = running.phase("counting", found.count)

            def entries() -> Any:
                for entry in found.entries():
                    if running.stop.is_set():
                        raise Stopped
                    advance(1)
                    yield entry

            try:
                if kind == "largest":
                    return found.tid, _of_entries(reports.largest(entries(), top))
                rows = reports.growth(entries()) if kind == "growth" else reports.by_type(entries())
            except Stopped:
                return None
            return found.tid, _of_rows(rows, "month" if kind == "growth" else "type", running_sum=kind == "growth")

        return shown_until_interrupted(work, "requests")


def _of_entries(found: list[tuple[Entry, bool]]) -> _Report:
    from ..maintenance.findings import committed

    rows, table, drawn = [], [], []
    for entry, past in found:
        revision, content = entry.revision, entry.content
        size = revision.size or 0
        where = "not found" if content is None else str(content)
        day = (committed(revision.tid) or "")[:10]
        rows.append(
            {
                "bytes": size,
                "oid": revision.oid.hex(),
                "tid": revision.tid.hex(),
                "committed": committed(revision.tid),
                "type": "" if content is None else content.portal_type,
                "field": "" if content is None else content.field,
                "path": None if content is None else content.path,
                "history": past or (content is not None and content.past),
            }
        )
        marked = f"{where} (an earlier revision)" if past else where
        table.append([byte_count(size), day, rows[-1]["type"] or "-", f"0x{int(revision.oid.hex(), 16):02x}", marked])
        drawn.append((where, float(size), byte_count(size)))
    columns = ["bytes", "oid", "tid", "committed", "type", "field", "path", "history"]
    return _Report(rows, columns, [["size", "committed", "type", "oid", "content"], *table], drawn)


def _of_rows(found: list[Row], name: str, *, running_sum: bool) -> _Report:
    rows, table, drawn, total = [], [], [], 0
    for row in found:
        total += row.all.bytes
        told = {name: row.name, **asdict(row.all)}
        told |= {"history_blobs": row.history.blobs, "history_bytes": row.history.bytes}
        line = [row.name, f"{row.all.blobs:,}", byte_count(row.all.bytes), byte_count(row.history.bytes)]
        if running_sum:
            told["total_bytes"] = total
            line.append(byte_count(total))
        rows.append(told)
        table.append(line)
        drawn.append((row.name, float(row.all.bytes), f"{byte_count(row.all.bytes)}, {row.all.blobs:,} blobs"))
    columns = [name, "blobs", "bytes", "history_blobs", "history_bytes", *(["total_bytes"] if running_sum else [])]
    head = [name, "blobs", "size", "of it history", *(["in all"] if running_sum else [])]
    return _Report(rows, columns, [head, *table], drawn)


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


def _draw(path: Path, title: str, made: _Report) -> None:
    with hidden(path, "--svg", "w") as file:
        file.write(bars(title, made.bars))
        appear(file, path)
