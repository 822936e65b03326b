"""A report of what takes the room, from a database and its bucket: for the command, and for a job of a site."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from typing import Any

from ..storage.owner import Marker
from . import reports
from .findings import Stopped, committed
from .inventory import Inventory
from .manifest import Entry
from .spool import Spool

LARGEST, GROWTH, TYPES = "largest", "growth", "types"
REPORTS = (LARGEST, GROWTH, TYPES)


@dataclass(frozen=True)
class Report:
    """As of the transaction ``tid``. ``entries``: of LARGEST, and whether each is history; ``rows``: of the others."""

    kind: str
    tid: bytes
    entries: list[tuple[Entry, bool]] = field(default_factory=list)
    rows: list[reports.Row] = field(default_factory=list)

    def as_json(self) -> list[dict[str, Any]]:
        """Its lines, plain values; sizes in bytes."""
        if self.kind == LARGEST:
            return [_entry(entry, past) for entry, past in self.entries]
        lines, total = [], 0
        for row in self.rows:
            total += row.all.bytes
            line = {"month" if self.kind == GROWTH else "type": row.name, **asdict(row.all)}
            line |= {"history_blobs": row.history.blobs, "history_bytes": row.history.bytes}
            line |= {"shared_blobs": row.shared.blobs, "shared_bytes": row.shared.bytes}
            lines.append(line | {"total_bytes": total} if self.kind == GROWTH else line)
        return lines


def report(
    look: Callable[[], AbstractContextManager[Any]],
    store: Any,
    marker: Marker,
    spool: Spool,
    kind: str,
    top: int,
    running: Any,
) -> Report:
    """Make one of ``REPORTS``, in the thread of the caller: reads the database once and lists the bucket once.

    ``look`` opens the database; ``top``: of LARGEST, how many; ``running``: ``jobs/interfaces.py``. Raises Stopped
    after ``running.stop``, and what reading raises.
    """
    found = Inventory(look, store, marker, spool, running.stop, with_content=kind != GROWTH, stored_sizes=True)
    found.look(running.phase("reading the database"))
    advance = running.phase("counting", found.count)

    def entries() -> Iterator[Entry]:
        for entry in found.entries():
            if running.stop.is_set():
                raise Stopped
            advance(1)
            yield entry

    if kind == LARGEST:
        return Report(kind, found.tid, entries=reports.largest(entries(), top))
    rows = reports.growth(entries()) if kind == GROWTH else reports.by_type(entries())
    return Report(kind, found.tid, rows=rows)


def _entry(entry: Entry, past: bool) -> dict[str, Any]:
    revision, content = entry.revision, entry.content
    return {
        "bytes": revision.size or 0,
        "oid": revision.oid.hex(),
        "tid": revision.tid.hex(),
        "committed": committed(revision.tid),
        "type": "" if content is None else content.portal_type,
        "field": "" if content is None else content.field,
        "path": None if content is None else content.path,
        "history": past or (content is not None and content.past),
    }
