"""What the base needs and what bucket and directory have, side by side: for ``migrate``, ``mirror`` and ``export``."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any

from ..objectstore.interfaces import IListing, IObjectStore, Listed
from ..overlay.chain import NoOverlay
from ..overlay.interfaces import IOverlay
from ..storage.owner import Marker
from ..storage.reading import BlobReader
from .blobdir import BlobDirectory, BlobFile
from .bucket import Sharing, blob_objects
from .compare import Extra, Place, matched
from .findings import Findings, Stopped, settle
from .kept import is_kept, kept_revision, kept_revisions, record_of
from .scope import Scope
from .sought import sought
from .spool import Spool

# The base, opened for reading, or looked at anew where it is in use: what was committed until now; closed at the end.
Looked = Callable[[], AbstractContextManager[Any]]


@dataclass(frozen=True)
class Comparison:
    """The three streams of a run, opened when they are needed, in the thread that reads them.

    ``base`` looks at the database. ``directory``: the blob directory, or None where the run has none. ``inventory``: a
    report in the place of the bucket's listing. What it lacks may have come since, so it is asked for alone; what it
    has may have gone since, which nobody notices until it is read.
    """

    base: Looked
    store: IObjectStore
    marker: Marker
    directory: BlobDirectory | None
    scope: Scope
    spool: Spool
    inventory: IListing | None = None

    @property
    def listing(self) -> IListing:
        """Of the bucket."""
        return self.store if self.inventory is None else self.inventory

    def streams(
        self,
        base: Any,
        advance: Callable[[int], Any],
        stop: threading.Event,
        passed: Callable[[Listed], None] = lambda line: None,
        sharing: Sharing | None = None,
    ) -> Iterator[Place | Extra]:
        """What ``compare.matched`` brings. Raises Stopped, also while the base is read. ``passed`` and ``sharing``: see
        ``blob_objects``."""

        def counted(count: int) -> None:
            if stop.is_set():
                raise Stopped
            advance(count)

        found = matched(
            kept_revisions(base, self.scope, self.spool, counted),
            blob_objects(
                self.store,
                self.scope,
                self.spool,
                self.marker,
                advance=lambda count: counted(0),
                passed=passed,
                listing=self.inventory,
                sharing=sharing,
            ),
            self.directory.files(self.scope, self.spool) if self.directory is not None else (),
        )
        if not any(self.scope.since):
            return found
        # A drawn name does not tell when: an object that no revision of that time needs may be an older one's.
        return (item for item in found if not isinstance(item, Extra) or isinstance(item.found, BlobFile))

    def settle(self, doubtful: Any, findings: Findings, detail: str, *, in_bucket: bool = True) -> None:
        """Tell missing revisions from those that a pack removed meanwhile, and, with ``in_bucket``, from those that
        came into the bucket after it was listed: of a database in use a record may be newer than the page of the
        listing beside it."""
        if not len(doubtful) or findings.stopped:
            return
        with self.base() as base:

            def is_there(oid: bytes, tid: bytes) -> bool:
                record = record_of(base, oid, tid)
                if not record:
                    return False
                keys = sought(self.store, kept_revision(oid, tid, record), deduplicated=self.marker.deduplicated)
                return any(self.store.head(key) is not None for key in keys)

            rows = doubtful.rows("oid", "tid")
            kept = partial(is_kept, base)
            if in_bucket:
                settle(rows, kept, findings, detail, is_there)
            else:
                settle(rows, kept, findings, detail)


def reader_of(store: IObjectStore, marker: Marker, overlay: IOverlay | None = None) -> BlobReader:
    """The ordinary reader, which a tool asks for sources only: it reads each blob once, so no cache takes them.

    ``overlay``: what is behind the bucket; None: only the bucket is read.
    """
    behind = NoOverlay() if overlay is None else overlay
    return BlobReader(
        store,
        None,  # type: ignore[arg-type]
        behind,
        with_foreign_keys=marker.foreign_keys,
        deduplicated=marker.deduplicated,
    )
