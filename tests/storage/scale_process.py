"""What a plan of garbage collection, or an fsck, of very many blobs takes of memory, in a process of its own::

    python scale_process.py gc|gc-shared|fsck list|inventory COUNT

Prints JSON: ``memory``, the most bytes above what the process had before; ``files``, the most that were open at a time.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import tracemalloc
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from datetime import timedelta
from typing import Any

from generated import DEAD_EACH, NOW, UNREFERENCED, Base, Bucket, SharingBucket

from collective.s3blobstorage.maintenance.comparing import Comparison
from collective.s3blobstorage.maintenance.fsck.run import Wish, fsck
from collective.s3blobstorage.maintenance.gc.margins import Margins
from collective.s3blobstorage.maintenance.gc.plan import make_plan
from collective.s3blobstorage.maintenance.gc.references import View
from collective.s3blobstorage.maintenance.scope import Scope
from collective.s3blobstorage.maintenance.spool import Spool
from collective.s3blobstorage.objectstore.inventory import InventoryListing
from collective.s3blobstorage.objectstore.sortedlisting import Sorter
from collective.s3blobstorage.overlay.chain import NoOverlay
from collective.s3blobstorage.storage.owner import Marker

MARKER = Marker("simulated", foreign_keys=False)
_TRACED = 100_000  # rows up to which Python's allocations are counted; of more the kernel knows, and it takes no time


class Quiet:
    """An ``IRunning`` that counts the files which are open at each step."""

    stop = threading.Event()

    def __init__(self) -> None:
        self.files = 0

    def phase(self, *told: Any) -> Any:
        return self.counted

    def counted(self, count: int, size: int = 0) -> None:
        self.files = max(self.files, len(os.listdir("/proc/self/fd")))


def reported(bucket: Bucket, count: int, running: Quiet) -> InventoryListing:
    """The rows of a report, in no order, sorted."""
    sorter = Sorter(100 if count <= _TRACED else 5000, 8)  # short runs: more than are merged at a time, by levels
    step = next(step for step in (7919, 104729, 15485863) if (count + 1) % step)
    for number in range(count + 1):
        at = number * step % (count + 1)
        sorter.add(bucket.keys[at], 65536, f"{at:032x}", 1767225600, "STANDARD")
        if number % 1000 == 0:
            running.counted(0)
    try:
        return InventoryListing(sorter.listing(), NOW - timedelta(hours=8))
    finally:
        sorter.close()


def collected(bucket: Any, inventory: InventoryListing | None, count: int, running: Quiet) -> None:
    @contextmanager
    def views() -> Any:
        yield View(Base(count))

    stop = running.stop
    with make_plan(
        bucket,
        views,
        Margins(),
        Scope(),
        stop,
        marker=replace(MARKER, deduplicated=isinstance(bucket, SharingBucket)),
        inventory=inventory,
        listed=running.counted,
        judged=running.counted,
    ) as plan:
        dead = count // DEAD_EACH
        assert (plan.tally.used.blobs, plan.tally.waiting.blobs) == (count - dead, dead), plan.tally
        assert len(plan.ledger) == dead
        if isinstance(bucket, SharingBucket):
            shared = plan.tally.shared
            assert shared is not None
            found = shared.used.blobs, shared.marking.blobs, shared.references
            assert found == (bucket.keys.objects, UNREFERENCED, count), found


def checked(bucket: Bucket, inventory: InventoryListing | None, count: int, running: Quiet) -> None:
    with Spool() as spool:
        run = Comparison(
            lambda: nullcontext(Base(count)),
            bucket,  # type: ignore[arg-type]
            MARKER,
            None,
            Scope(),
            spool,
            inventory,
        )
        report = fsck(run, Wish(), running, lambda base: nullcontext(NoOverlay()), lambda sources: nullcontext())
        dead = count // DEAD_EACH
        found = report.there.blobs, report.found.get("missing"), report.orphaned.blobs
        assert found == (count - dead, dead or None, dead), found
    assert bucket.heads == dead  # nothing but what is lacking is asked for alone


def main(verb: str, way: str, count: int) -> None:
    bucket, running = (SharingBucket if verb == "gc-shared" else Bucket)(count), Quiet()
    if count <= _TRACED:
        tracemalloc.start()
    else:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")  # resets the peak (proc(5))
    idle = status("VmRSS")
    inventory = reported(bucket, count, running) if way == "inventory" else None
    (checked if verb == "fsck" else collected)(bucket, inventory, count, running)
    memory = tracemalloc.get_traced_memory()[1] if count <= _TRACED else status("VmHWM") - idle
    print(json.dumps({"memory": memory, "files": running.files}))


def status(field: str) -> int:
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(f"{field}:"))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
