"""What the store did not delete, and until when Object Lock keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ...errors import StoreError
from ...objectstore.interfaces import Doomed, IObjectStore, Lock
from .report import LISTED, Outcome

# What stores answer of a version that is locked; they answer the same where a policy is in the way.
_MAYBE_LOCKED = frozenset(("AccessDenied", "ObjectLocked", "InvalidRequest", "InvalidObjectState"))
# Where none of the first so many of a request is locked, it is a policy, and the others are not asked about.
_FIRST = 20
_AT_ONCE = 8  # requests


def note_failures(
    store: IObjectStore, outcome: Outcome, failed: Mapping[Doomed, str], *, every: bool = False
) -> dict[Doomed, Lock]:
    """Each is counted; of as many as are listed, or of ``every`` one, it is asked whether a lock is the reason. Those
    that are locked."""
    maybe = [doomed for doomed, code in failed.items() if doomed.version and code in _MAYBE_LOCKED]
    if not every:
        maybe = maybe[: max(0, LISTED - len(outcome.failures))]
    locks = _locks(store, maybe[:_FIRST])
    if locks:
        locks |= _locks(store, maybe[_FIRST:])
    for doomed, code in failed.items():
        more: dict[str, Any] = {}
        if doomed.version:
            more = {"version": doomed.version, **_told(locks.get(doomed, Lock()))}
        outcome.fail(doomed.key, code, **more)
    return locks


def _locks(store: IObjectStore, asked: list[Doomed]) -> dict[Doomed, Lock]:
    def ask(doomed: Doomed) -> Lock:
        try:
            return store.lock_of(doomed.key, doomed.version)
        except StoreError:
            return Lock()

    if not asked:
        return {}
    with ThreadPoolExecutor(min(_AT_ONCE, len(asked)), thread_name_prefix="s3blobs-locks") as pool:
        told = dict(zip(asked, pool.map(ask, asked), strict=True))
    return {doomed: lock for doomed, lock in told.items() if lock.until is not None or lock.legal_hold}


def _told(lock: Lock) -> dict[str, Any]:
    told: dict[str, Any] = {"legal_hold": True} if lock.legal_hold else {}
    if lock.until is not None:
        told |= {"locked_until": lock.until.isoformat(), "mode": lock.mode}
    return told
