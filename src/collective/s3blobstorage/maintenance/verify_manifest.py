"""Is everything in the bucket that a manifest names? By one listing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

from ..objectstore.interfaces import IObjectStore
from ..storage.owner import Marker
from .bucket import blob_objects
from .compare import Verdict, for_bucket, matched
from .findings import Findings, Stopped, examine
from .kept import KeptRevision
from .manifest import Manifest
from .scope import Scope
from .spool import Spool


def verify(
    manifest: Manifest,
    store: IObjectStore,
    marker: Marker,
    spool: Spool,
    findings: Findings,
    stop: threading.Event,
    advance: Callable[[int], Any],
) -> None:
    """Count in ``findings`` what is there, missing, or has another size; ``extra_objects``: what is new since.

    An object that was not needed any more and collected since is missing, too. In the thread of the caller; memory
    does not grow. ``advance(n)`` is called with increments of keys read. Raises Stopped, RecordError.
    """

    def counted(count: int) -> None:
        if stop.is_set():
            raise Stopped
        advance(count)

    objects = blob_objects(store, Scope(), spool, marker, advance=counted)
    for verdict, place in examine(matched(revisions(manifest), objects, ()), for_bucket, findings, stop):
        if verdict is Verdict.MISSING:
            revision = place.revision
            nor = ", nor one that it shares" if marker.deduplicated and not revision.object else ""
            findings.blame("missing", revision.oid, revision.tid, f"its object {place.key} is not in the bucket{nor}")


def revisions(manifest: Manifest) -> Iterator[KeptRevision]:
    """As the database had them. Raises RecordError."""
    return (entry.revision for entry in manifest.entries())
