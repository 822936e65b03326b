"""The three ways to run it: make a plan, execute one, or one round of both for ``pack()``.

Each runs in the thread of the caller. A database that is not the one whose blobs the prefix has ends each of them, and
makes every date of the ledger begin anew: what was dated while two databases wrote here proves nothing.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ...directupload.sweeping import sweep
from ...errors import S3BlobStorageError, StoreError, UnsafeError
from ...keys import UPLOADS
from ...objectstore.clock import Clock
from ...objectstore.interfaces import IObjectStore
from ...objectstore.inventory import InventoryListing
from ...status import figures
from ...storage.owner import Marker
from ..findings import Count
from ..scope import Scope
from .candidate import Candidate
from .control import Control, read_control
from .execute import Execution, refuse_ownerless, refuse_share, swept
from .lease import Lease, leased
from .ledger import Ledger, read_ledger, write_ledger
from .locked import read_locked, write_locked
from .margins import Margins
from .plan import Plan, Strange, make_plan
from .publish import publish, read_plan
from .references import Views
from .report import Outcome
from .witnesses import read_witnesses

logger = logging.getLogger(__name__)


def _nothing(*counts: int) -> None:
    pass


@dataclass
class Collection:
    """A bucket's prefix and the database that uses it. ``views`` opens looks at the base, each newer than the call.

    ``margins.share`` is what may go. ``marker``: the prefix's, where it was read already. ``clock``: pauses, and how
    long the lease is held. ``inventory``: what a plan reads in the place of the listing.
    """

    store: IObjectStore
    views: Views
    margins: Margins
    marker: Marker | None = None
    stop: threading.Event = field(default_factory=threading.Event)
    clock: Clock = field(default_factory=Clock)
    listed: Callable[[int], None] = _nothing
    judged: Callable[[int], None] = _nothing
    deleted: Callable[[int, int], None] = _nothing
    inventory: InventoryListing | None = None

    def plan(self, scope: Scope = Scope(), *, versions: bool = False) -> Plan:  # noqa: B008 - frozen
        """Make a plan, with ``versions`` also of those that no reader gets. Writes nothing; the caller closes it."""
        try:
            return make_plan(
                self.store,
                self.views,
                self.margins,
                scope,
                self.stop,
                marker=self.marker,
                versions=versions,
                inventory=self.inventory,
                listed=self.listed,
                judged=self.judged,
            )
        except Strange:
            self._forget_dates()
            raise

    def publish(self, plan: Plan) -> None:
        """Write ledger and plan into the bucket, so that it counts, and can be executed. Raises Taken.

        Nothing is written of a prefix without an owner: a copy of the site would have the same one.
        """
        if plan.owner is not None:
            publish(self.store, plan, self.clock)
            self._keep_figures(plan)
            self._sweep(plan.control)

    def execute(self, name: str) -> tuple[str, Outcome]:
        """Execute the plan of that id, or the ``last`` one. Its id, and what was done."""
        control = read_control(self.store)
        testimonies = read_witnesses(self.store, control, self.margins)
        with leased(self.store, self.margins, self.clock, control) as lease:
            plan = read_plan(self.store, control, name, self.margins)
            with plan.lines:
                refuse_ownerless(plan.owner)
                refuse_share(plan.objects, plan.judged, self.margins.share)
                refuse_share(*plan.shared, self.margins.share)
                with read_ledger(self.store) as ledger:
                    execution = self._execution(lease, control, testimonies, plan.id)
                    execution.asks_store = plan.of_inventory
                    self._run(execution, plan.candidates(), ledger, executed=plan.id)
        if plan.whole:
            self._sweep_uploads(execution.outcome)
        return plan.id, execution.outcome

    def round(self) -> tuple[Plan, Outcome]:
        """Plan, and execute what is condemned by dates of earlier rounds. The caller closes the plan.

        Where too large a share is condemned the dates are written all the same, and UnsafeError is raised. So it is
        where the prefix has no owner, or the store no atomic conditional write, and then nothing is written: with a
        claim nothing proves that no other gc has written the ledger since the plan began.
        """
        if not self.store.conditional_put:  # type: ignore[attr-defined]
            raise UnsafeError("the object store has no atomic conditional write: run `s3blobs gc`")
        plan = self.plan()
        try:
            refuse_ownerless(plan.owner)
            with leased(self.store, self.margins, self.clock, plan.control) as lease:
                outcome = self._executed(plan, lease)
            if plan.tally.abandoned.blobs or plan.tally.abandoned_uploads:
                self._sweep_uploads(outcome)
            return plan, outcome
        except BaseException:
            plan.close()
            raise

    def _keep_figures(self, plan: Plan) -> None:
        """The whole prefix was listed, so that nobody has to count it again to show how much there is."""
        if plan.figures is None:
            return
        try:
            figures.keep(self.store, plan.figures, "gc")
        except StoreError as error:
            logger.info("the figures of the bucket are not kept: %s", error)

    def _executed(self, plan: Plan, lease: Lease) -> Outcome:
        refused: UnsafeError | None = None
        try:
            refuse_share(plan.tally.condemned.blobs, plan.tally.judged, self.margins.share)
            refuse_share(*plan.tally.shared_shares, self.margins.share)
        except UnsafeError as error:
            refused = error
        if refused is not None or not len(plan.candidates):
            if len(plan.ledger) or plan.control.ledger is not None:
                lease.hold()
                write_ledger(self.store, plan.ledger)
            self._sweep(plan.control)
            if refused is not None:
                raise refused
            return Outcome()
        execution = self._execution(lease, plan.control, plan.testimonies, plan.id)
        execution.asks_store = plan.inventory is not None
        candidates = (Candidate.from_line(line) for line in plan.candidates)
        self._run(execution, candidates, plan.ledger)
        return execution.outcome

    def _execution(self, lease: Lease, control: Control, testimonies: list[Any], name: str) -> Execution:
        return Execution(
            self.store, self.views, self.margins, lease, control, testimonies, name, self.stop, self.deleted
        )

    def _run(self, execution: Execution, candidates: Any, ledger: Ledger, executed: str = "") -> None:
        try:
            with execution.met, execution.run(candidates, ledger) as remaining:
                execution.lease.hold()
                write_ledger(self.store, remaining)
                self._remember(execution)
        except Strange:
            with Ledger(ledger.at) as empty:
                write_ledger(self.store, empty)
            raise
        self._sweep(execution.control, executed if not execution.outcome.stopped else "")

    def _remember(self, execution: Execution) -> None:
        """What turned out to be locked, so that the next plan leaves it alone."""
        if not len(execution.met):
            return
        control = execution.control
        with read_locked(self.store, exists=control.locked is not None) as earlier:
            execution.lease.hold()
            write_locked(self.store, earlier, execution.met, int(control.now.timestamp()))

    def _sweep(self, control: Control, executed: str = "") -> None:
        """Delete what gc kept and does not need any more; credentials that may not delete leave it."""
        leftovers = swept(control, self.margins, executed)
        try:
            if leftovers:
                self.store.delete(leftovers)
        except StoreError as error:
            logger.info("what gc does not need any more stays below gc/: %s", error)

    def _sweep_uploads(self, outcome: Outcome) -> None:
        """Delete what browsers sent and never completed. Without the lease: two may do it at once."""
        if outcome.stopped:
            return
        try:
            swept = sweep(self.store, self.margins.upload_expiry, stop=self.stop)
        except StoreError as error:
            # All else is done and stays so.
            logger.warning("abandoned uploads below %s were not swept: %s", UPLOADS, error)
            outcome.fail(UPLOADS, type(error).__name__)
            return
        outcome.swept = Count(swept.objects, swept.size)
        outcome.swept_uploads = swept.uploads
        if swept.failed:
            outcome.fail(UPLOADS, "NotSwept", swept.failed)

    def _forget_dates(self) -> None:
        """As far as the store lets us: whoever refuses has said why already."""
        try:
            control = read_control(self.store)
            if control.ledger is None:
                return
            with leased(self.store, self.margins, self.clock, control), Ledger(int(control.now.timestamp())) as empty:
                write_ledger(self.store, empty)
        except S3BlobStorageError as error:
            logger.warning("the dates of the ledger stay: %s", error)
