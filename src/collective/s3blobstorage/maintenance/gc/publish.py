"""A finished plan in the bucket: its ledger, and ``gc/plan/{id}`` for a later execution, on any machine.

The plan is a text file: a line of JSON that says what it is, then a line of JSON for each candidate.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ...errors import ObjectMissing, RecordError, UnsafeError
from ...keys import PLAN
from ...objectstore.clock import Clock
from ...objectstore.interfaces import IObjectStore
from ..scope import Scope
from .candidate import Candidate
from .control import Control, read_control
from .lease import Lease, Taken, leased
from .ledger import Ledger, read_ledger, spliced, write_ledger
from .lines import Lines
from .margins import MINUTE, Margins
from .plan import FORMAT, Plan

# A plan waits so long for another one that is being published, or for an execution: after an hour of listing it would
# be a pity to have nothing. Seconds.
_PATIENCE = 5 * MINUTE
_PAUSE = 2.0


LAST = "last"  # in place of an id: the newest plan
_EVERYTHING = [Scope().first.hex(), Scope().last.hex()]


class NoPlan(UnsafeError):
    """There is no ``last`` plan to execute: nothing is condemned, or nobody has looked."""


def publish(store: IObjectStore, plan: Plan, clock: Clock) -> None:
    """Write the ledger and the plan, under the lease. Raises Taken where another gc holds it for minutes."""
    until = clock.monotonic() + _PATIENCE
    control = plan.control
    while True:
        try:
            with leased(store, plan.margins, clock, control) as lease:
                _write(store, plan, lease)
                return
        except Taken:
            if clock.monotonic() > until:
                raise
            clock.sleep(_PAUSE)
            control = read_control(store)


def _write(store: IObjectStore, plan: Plan, lease: Lease) -> None:
    with current_ledger(store, plan) as ledger:
        lease.hold()
        write_ledger(store, ledger)
    if plan.executable is None:
        return
    lease.hold()
    with Lines() as whole:
        whole.add(json.dumps(_header(plan)))
        for line in plan.candidates:
            whole.add(line)
        store.put_file(PLAN + plan.id, whole.path, metadata={})


@contextmanager
def current_ledger(store: IObjectStore, plan: Plan) -> Iterator[Ledger]:
    """The plan's ledger; where another gc wrote one since the plan began, its part in that one. Under the lease."""
    control = read_control(store)
    etag = control.ledger.etag if control.ledger else ""
    if etag == plan.ledger.etag:
        yield plan.ledger
        return
    with read_ledger(store, exists=bool(etag)) as newest, spliced(newest, plan.ledger, plan.judges) as ledger:
        yield ledger


def _header(plan: Plan) -> dict[str, Any]:
    tally = plan.tally
    return {
        "format": FORMAT,
        "plan": plan.id,
        "at": plan.at,
        "owner": plan.owner,
        "inventory": None if plan.inventory is None else int(plan.inventory.timestamp()),
        "oids": [plan.scope.first.hex(), plan.scope.last.hex()],
        "candidates": len(plan.candidates),
        "objects": tally.going,
        "judged": tally.judged,
        "shared": tally.shared_shares,
    }


@dataclass(frozen=True)
class PublishedPlan:
    """What the first line says. ``shared``: see ``Tally.shared_shares``. ``whole``: whether it is of the whole prefix.
    ``lines``: the candidates, on the local disk. ``of_inventory``: whether these are what a report of the store's had,
    hours before."""

    id: str
    at: int
    owner: str | None
    objects: int
    judged: int
    shared: tuple[int, int]
    whole: bool
    lines: Lines
    of_inventory: bool = False

    def candidates(self) -> Iterator[Candidate]:
        for line in self.lines:
            try:
                yield Candidate.from_line(line)
            except (ValueError, KeyError, TypeError):
                raise _damaged(self.id) from None


def read_plan(store: IObjectStore, control: Control, name: str, margins: Margins) -> PublishedPlan:
    """The plan of that id; ``LAST``: the newest. Raises UnsafeError where it is not there or too old, NoPlan where
    there is no last one."""
    young = {
        key: line
        for key, line in control.plans.items()
        if (control.now - line.last_modified).total_seconds() < margins.plan_life
    }
    if name == LAST:
        if not young:
            raise NoPlan("no plan of the last 24 h has anything to delete: run `s3blobs gc`, and look at what it says")
        name = max(young)
    if name not in young:
        state = (
            "is older than 24 h" if name in control.plans else "is not there, had nothing to delete, or was executed"
        )
        raise UnsafeError(f"the plan {name!r} {state}: make a new one by `s3blobs gc`")
    lines = Lines()
    with Lines() as whole:
        try:
            store.get_file(PLAN + name, whole.file)
        except ObjectMissing:
            raise UnsafeError(f"the plan {name!r} was executed meanwhile: make a new one by `s3blobs gc`") from None
        rows = iter(whole)
        try:
            told = json.loads(next(rows))
            if told["format"] > FORMAT:
                raise RecordError(
                    f"the plan {name!r} was written by a newer release of collective.s3blobstorage: upgrade this one"
                )
            whole = told["oids"] == _EVERYTHING
            figures = int(told["objects"]), int(told["judged"])
            going, among = map(int, told.get("shared", (0, 0)))
            more = (going, among), whole, lines, told.get("inventory") is not None
            plan = PublishedPlan(name, int(told["at"]), told["owner"], *figures, *more)
            count = int(told["candidates"])
        except (StopIteration, ValueError, KeyError, TypeError):
            raise _damaged(name) from None
        for line in rows:
            lines.add(line)
    if count != len(lines):
        raise _damaged(name)
    return plan


def _damaged(name: str) -> RecordError:
    return RecordError(f"the plan {name!r} is damaged: make a new one by `s3blobs gc`")
