"""What the store did not delete, and until when Object Lock keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...errors import StoreError
from ...objectstore.interfaces import Doomed, IObjectStore
from .report import LISTED, Outcome

# What stores answer of a version that is locked; they answer the same where a policy is in the way.
_MAYBE_LOCKED = frozenset(("AccessDenied", "ObjectLocked", "InvalidRequest", "InvalidObjectState"))


def note_failures(store: IObjectStore, outcome: Outcome, failed: Mapping[Doomed, str]) -> None:
    """Each is counted; of as many as are listed it is asked whether a lock is the reason."""
    for doomed, code in failed.items():
        more: dict[str, Any] = {}
        if doomed.version:
            more["version"] = doomed.version
            if code in _MAYBE_LOCKED and len(outcome.failures) < LISTED:
                more |= _locked(store, doomed)
        outcome.fail(doomed.key, code, **more)


def _locked(store: IObjectStore, doomed: Doomed) -> dict[str, Any]:
    try:
        lock = store.lock_of(doomed.key, doomed.version)
    except StoreError:
        return {}
    told: dict[str, Any] = {"legal_hold": True} if lock.legal_hold else {}
    if lock.until is not None:
        told |= {"locked_until": lock.until.isoformat(), "mode": lock.mode}
    return told
