"""What ``mirror`` and ``migrate --from FILE`` share: blobs of sources into the bucket."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import output
from .comparing import Comparison, reader_of
from .elsewhere import Elsewhere

if TYPE_CHECKING:
    from ..maintenance.migrate import Plan
    from ..overlay.interfaces import IOverlay


@dataclass(frozen=True)
class Bringing:
    """What was asked for. ``elsewhere``: the sources, and the storage that they may read.

    ``comparing``: nothing is copied, and what the bucket lacks is missing.
    """

    elsewhere: Elsewhere
    comparing: bool
    dry_run: bool
    verify: bool
    concurrency: int
    limit_rate: int | None

    @property
    def copying(self) -> bool:
        return not (self.comparing or self.dry_run)

    def work(self, run: Comparison, planned: Plan, stop: threading.Event) -> bytes:
        """Compare, copy, verify; the tid of the last transaction that was seen. In a thread of its own."""
        from ..maintenance import migrate, mirror
        from ..maintenance.findings import Stopped
        from ..maintenance.pace import Pace
        from ..storage.opening import open_cache

        findings = planned.findings
        pace = Pace(self.limit_rate)
        # Open until the end: a <basesource> may read in it.
        with run.base() as base, self._overlay(base) as overlay:
            seen = base.lastTransaction()
            try:
                with output.counting("reading the database") as advance:
                    streams = run.streams(base, advance, stop)
                    mirror.plan(planned, streams, stop, comparing=self.comparing, keep_there=self.verify)
            except Stopped:
                findings.stopped = True
                return seen
            wanted = findings.wanted
            if self.copying:
                with (
                    closing(open_cache(run.database.settings, run.store, overlay)) as cache,
                    output.transferring("copying", wanted.blobs, wanted.bytes) as moved,
                ):
                    transfer = migrate.Transfer(self.concurrency, stop, pace, moved)
                    mirror.execute(planned, overlay, run.store, cache, transfer, keep_there=self.verify)
        if self.dry_run:
            return seen
        if self.verify and not findings.stopped:
            size = sum(row[6] or 0 for row in planned.there.rows())
            with output.transferring("verifying", len(planned.there), size) as moved:
                transfer = migrate.Transfer(self.concurrency, stop, pace, moved)
                migrate.verify(planned, reader_of(run.store, run.marker), None, transfer)
        run.settle(planned.doubtful, findings, "it is neither in the bucket nor in a source")
        return seen

    @contextmanager
    def _overlay(self, base: Any) -> Iterator[IOverlay]:
        from ..overlay.chain import open_overlay

        with (
            self.elsewhere.opened(base) as read,
            closing(open_overlay(self.elsewhere.sources, read, check=False)) as overlay,
        ):
            yield overlay
