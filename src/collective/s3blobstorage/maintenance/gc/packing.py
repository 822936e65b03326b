"""One round of garbage collection behind ``pack()``: ``gc-on-pack``."""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime

from ...errors import UnsafeError
from .lease import Taken
from .plan import Plan
from .report import Outcome
from .runs import Collection

logger = logging.getLogger(__name__)


def after_pack(collection: Collection, *, execute: bool) -> None:
    """Plan, and delete what earlier rounds dated long enough ago. In the thread of the pack, which has ended well.

    Raises nothing: the pack is done, and what gc did not do the next one does. One line of the log says what came of
    it.
    """
    started = time.monotonic()
    outcome = Outcome()
    try:
        # Without one a claim would have to wait, and pack may be somebody's web request.
        if execute or not collection.store.conditional_put:  # type: ignore[attr-defined]
            plan, outcome = collection.round()
        else:
            plan = collection.plan()
            with plan:
                collection.publish(plan)
    except Taken as error:
        logger.info("gc after the pack: not done: %s", error)
    except UnsafeError as error:
        logger.warning("gc after the pack: %s", error)
    except Exception as error:
        logger.warning("gc after the pack failed, the pack did not: %s", error, exc_info=True)
    else:
        plan.close()
        logger.info("gc after the pack, %.1f s: %s", time.monotonic() - started, _told(plan, outcome))


def _told(plan: Plan, outcome: Outcome) -> str:
    tally = plan.tally
    parts = [f"{outcome.deleted.blobs} objects deleted ({outcome.deleted.bytes} bytes)"]
    if outcome.marked_shared.blobs:
        parts.append(f"{outcome.marked_shared.blobs} shared objects marked")
    if outcome.deleted_shared.blobs:
        parts.append(f"{outcome.deleted_shared.blobs} shared objects deleted ({outcome.deleted_shared.bytes} bytes)")
    if outcome.swept.blobs or outcome.swept_uploads:
        parts.append(f"{outcome.swept.blobs + outcome.swept_uploads} abandoned uploads deleted")
    if outcome.failed:
        parts.append(f"{sum(outcome.failed.values())} could not be ({', '.join(sorted(outcome.failed))})")
    waiting = tally.waiting.blobs + tally.young.blobs
    if tally.next_due is not None:
        parts.append(
            f"{waiting} wait, the first until {datetime.fromtimestamp(tally.next_due, UTC):%Y-%m-%d %H:%M} UTC"
        )
    else:
        parts.append(f"{waiting} wait")
    if tally.condemned.blobs > outcome.deleted.blobs + sum(outcome.failed.values()) + outcome.spared:
        parts.append(f"{tally.condemned.blobs} may go: run `s3blobs gc`")
    if tally.foreign.blobs:
        parts.append(f"{tally.foreign.blobs} foreign keys under the prefix are left alone")
    return "; ".join(parts)
