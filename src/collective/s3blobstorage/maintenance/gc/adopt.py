"""Saying that the configured database is the one whose blobs the prefix has: ``s3blobs adopt``.

Two things keep garbage collection from judging, and only a person knows that they do not matter: objects under keys of
zodb-s3blobs, which may be those of another site that has no owner marker; and witnesses that contradict the database,
which may be another site's or tell of what a restored backup does not have.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime

from ...errors import UnsafeError
from ...keys import BLOBS, MARKER, WITNESS, read_foreign_key
from ...objectstore.clock import Clock
from ...objectstore.interfaces import IObjectStore, Listed
from ...storage.owner import Marker
from ...storage.witness import DamagedWitness, Witness
from ..findings import Count, Stopped
from .control import Control, read_control
from .lease import leased
from .ledger import Ledger, write_ledger
from .margins import Margins
from .references import Views
from .witnesses import Testimony, contradictions, lines_that_count, read_witness

logger = logging.getLogger(__name__)

_STEP = 1000  # lines of the listing between two calls of ``advance``
_LARGE = 1 << 16  # bytes; a witness has a few hundred


@dataclass(frozen=True)
class Strange:
    """A witness that does not fit. ``at``: when its process wrote it, by the store's clock."""

    key: str
    at: datetime
    why: str


@dataclass
class Adoption:
    """What is in the way of garbage collection. ``old``: objects under keys of zodb-s3blobs; ``judged``: already."""

    control: Control
    judged: bool
    old: Count = field(default_factory=Count)
    witnesses: list[Strange] = field(default_factory=list)

    @property
    def adopts_old(self) -> bool:
        return bool(self.old.blobs) and not self.judged

    @property
    def is_needed(self) -> bool:
        return self.adopts_old or bool(self.witnesses)


def look(
    store: IObjectStore,
    views: Views,
    marker: Marker | None,
    margins: Margins,
    stop: threading.Event,
    advance: Callable[[int], None] = lambda count: None,
) -> Adoption:
    """Read all of it; nothing is written. Raises Stopped, and UnsafeError where the database is empty."""
    control = read_control(store)
    found = Adoption(control, marker is not None and marker.adopted)
    for number, line in enumerate(store.list(BLOBS), 1):
        if number % _STEP == 0:
            advance(_STEP)
            if stop.is_set():
                raise Stopped
        if read_foreign_key(line.key) is not None:
            found.old.add(line.size)
    # Read before the base is looked at: else it may lack what they know.
    testimonies, found.witnesses = _witnesses(store, control, margins)
    with views() as view:
        if view.is_empty():
            raise UnsafeError(
                "the database is empty: no blob of the prefix would be in use. Look at the storage inside"
                " <s3blobstorage>"
            )
        for each in testimonies:
            for why in contradictions(view, [each], margins):
                found.witnesses.append(Strange(control.witnesses[each.name].key, each.at, why))
    found.witnesses.sort(key=lambda witness: witness.at)
    return found


def _witnesses(store: IObjectStore, control: Control, margins: Margins) -> tuple[list[Testimony], list[Strange]]:
    """What garbage collection would read, and those that it cannot read."""
    testimonies, damaged = [], []
    for line in lines_that_count(control, margins):
        try:
            witness = _read(store, line)
        except DamagedWitness:
            damaged.append(
                Strange(line.key, line.last_modified, "it is damaged: no process of this package wrote it so")
            )
            continue
        if witness is not None and not witness.void:
            testimonies.append(Testimony(line.key.removeprefix(WITNESS), line.last_modified, witness))
    return testimonies, damaged


def _read(store: IObjectStore, line: Listed) -> Witness | None:
    if line.size > _LARGE:
        raise DamagedWitness(f"{line.key} is too large")
    return read_witness(store, line)


def adopt(store: IObjectStore, marker: Marker, found: Adoption, margins: Margins, clock: Clock) -> None:
    """Do it, under the lease. ``marker``: as the prefix has it now. Raises Taken where a gc runs.

    The dates of the ledger go before the witnesses do: what was dated while another database, or a later state of this
    one, wrote here proves nothing. So do plans. Marks of shared objects stay: references are what keeps these, and are
    dated as all that is of a revision. A kill in between is mended by running it again.
    """
    with leased(store, margins, clock, found.control) as lease:
        if found.witnesses:
            with Ledger(int(found.control.now.timestamp())) as empty:
                write_ledger(store, empty)
            lease.hold()
            store.delete(line.key for line in found.control.plans.values())
            store.delete(witness.key for witness in found.witnesses)
            logger.info("%d witnesses were deleted, and every date of the ledger begins anew", len(found.witnesses))
        if found.adopts_old:
            lease.hold()
            store.put_bytes(MARKER, replace(marker, adopted=True).to_json())
            logger.info("garbage collection may judge the objects under keys of zodb-s3blobs")
