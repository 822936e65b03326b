"""What the base needs and what bucket and directory have, side by side: for ``migrate``, ``mirror`` and ``export``."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from ..objectstore.interfaces import IObjectStore
from ..overlay.chain import NoOverlay
from ..overlay.interfaces import IOverlay
from ..storage.owner import Marker
from ..storage.reading import BlobReader
from .blobdir import BlobDirectory, BlobFile
from .bucket import blob_objects
from .compare import Extra, Place, matched
from .findings import Findings, Stopped, settle
from .kept import is_kept, kept_revisions
from .scope import Scope
from .spool import Spool

# The base, opened for reading, or looked at anew where it is in use: what was committed until now; closed at the end.
Looked = Callable[[], AbstractContextManager[Any]]


@dataclass(frozen=True)
class Comparison:
    """The three streams of a run, opened when they are needed, in the thread that reads them.

    ``base`` looks at the database. ``directory``: the blob directory, or None where the run has none.
    """

    base: Looked
    store: IObjectStore
    marker: Marker
    directory: BlobDirectory | None
    scope: Scope
    spool: Spool

    def streams(self, base: Any, advance: Callable[[int], Any], stop: threading.Event) -> Iterator[Place | Extra]:
        """What ``compare.matched`` brings. Raises Stopped, also while the base is read."""

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
                with_foreign_keys=self.marker.foreign_keys,
                advance=lambda count: counted(0),
            ),
            self.directory.files(self.scope, self.spool) if self.directory is not None else (),
        )
        if not any(self.scope.since):
            return found
        # A drawn name does not tell when: an object that no revision of that time needs may be an older one's.
        return (item for item in found if not isinstance(item, Extra) or isinstance(item.found, BlobFile))

    def settle(self, doubtful: Any, findings: Findings, detail: str) -> None:
        """Tell missing revisions from those that a pack removed meanwhile."""
        if len(doubtful) and not findings.stopped:
            with self.base() as base:
                rows: Iterable[tuple[bytes, bytes]] = doubtful.rows("oid", "tid")
                settle(rows, lambda oid, tid: is_kept(base, oid, tid), findings, detail)


def reader_of(store: IObjectStore, marker: Marker, overlay: IOverlay | None = None) -> BlobReader:
    """The ordinary reader, which a tool asks for sources only: it reads each blob once, so no cache takes them.

    ``overlay``: what is behind the bucket; None: only the bucket is read.
    """
    behind = NoOverlay() if overlay is None else overlay
    return BlobReader(store, None, behind, with_foreign_keys=marker.foreign_keys)  # type: ignore[arg-type]
