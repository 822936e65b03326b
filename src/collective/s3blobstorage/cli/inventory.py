"""``--inventory`` of several verbs: an S3 Inventory report in the place of the bucket's listing."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .. import datatypes
from ..datatypes import DAY
from ..keys import BLOBS
from ..settings import StoreSettings
from .parameters import Parsed

if TYPE_CHECKING:
    from ..maintenance.scope import Scope
    from ..objectstore import S3ObjectStore
    from ..objectstore.inventory import InventoryListing, Report
    from ..storage.owner import Marker

_AGE = Parsed("time", partial(datatypes.interval, minimum=60.0, maximum=400 * DAY))
_OPTIONS = [
    click.option(
        "--inventory",
        "where",
        metavar="WHERE",
        help="Read an S3 Inventory report in place of listing: s3://BUCKET/PREFIX/SOURCE/CONFIG/, or a local copy.",
    ),
    click.option(
        "--inventory-max-age", type=_AGE, default="48h", show_default=True, help="An older report is refused."
    ),
]


def inventory_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@dataclass(frozen=True)
class FoundReport:
    """A report whose manifest is right, to be read when the work begins. ``elsewhere``: what belongs to a range of oids
    does not lie together: keys of zodb-s3blobs, and shared objects."""

    report: Report
    prefix: str
    scope: Scope
    elsewhere: bool

    @property
    def created(self) -> str:
        """ISO 8601, UTC."""
        return self.report.created.isoformat()

    def listing(self, stack: ExitStack, running: Any) -> InventoryListing:
        """The rows, read and sorted on the local disk, until the stack ends. Raises Stopped, InventoryError."""
        from ..maintenance.findings import Stopped
        from ..objectstore.inventory import read_report

        advance = running.phase("reading the inventory")

        def counted(count: int) -> None:
            if running.stop.is_set():
                raise Stopped
            advance(count)

        whole = self.scope.whole or self.elsewhere
        first, last = self.scope.first.hex(), self.scope.last.hex()
        between = None if whole else (f"{BLOBS}{first}/", f"{BLOBS}{last}/~")
        return stack.enter_context(read_report(self.report, self.prefix, counted, between=between))


def found_report(
    stack: ExitStack, store: S3ObjectStore, marker: Marker | None, where: str | None, max_age: float, scope: Scope
) -> FoundReport | None:
    """What ``--inventory`` names, looked at; None where it was not given. Another bucket is reached with the endpoint,
    region and credentials of zope.conf. Raises InventoryError, and what the store raises."""
    from ..objectstore.inventory import BucketFolder, LocalFolder, location, open_report

    if where is None:
        return None
    found = location(where)
    if isinstance(found, Path):
        place: Any = LocalFolder(found)
    else:
        bucket, folder = found
        place = BucketFolder(_opened(stack, store.settings, bucket), bucket, folder)
    settings = store.settings
    report = open_report(place, settings.bucket, store.now(), max_age)
    elsewhere = marker is not None and (marker.foreign_keys or marker.deduplicated)
    return FoundReport(report, settings.prefix, scope, elsewhere)


def _opened(stack: ExitStack, settings: StoreSettings, bucket: str) -> S3ObjectStore:
    from ..objectstore import open_store

    # What is in another bucket is encrypted as that one is, never with a key of ours.
    wanted = replace(settings, bucket=bucket, prefix="", encryption=None, expected_bucket_owner=None)
    opened = stack.enter_context(closing(open_store(wanted, read_only=True)))
    opened.open_bucket(writable=False)
    return opened
