"""Small documents that tell what was found, kept in the bucket below ``status/``."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from ..errors import ObjectMissing, RecordError
from ..keys import STATUS
from ..objectstore.interfaces import IObjectStore

logger = logging.getLogger(__name__)

FORMAT = 1
_LIMIT = 1 << 22  # bytes


def write(store: IObjectStore, key: str, told: Mapping[str, Any]) -> None:
    """One PUT, dated by the store's clock. Raises what the store raises."""
    at = store.now().astimezone(UTC).isoformat(timespec="seconds")
    store.put_bytes(key, json.dumps({"format": FORMAT, "at": at, **told}).encode())


def read(
    store: IObjectStore, key: str, checked: Callable[[Mapping[str, Any]], dict[str, Any]]
) -> dict[str, Any] | None:
    """What was kept, with ``at``; None where nothing is there, or nothing of ours: it is written anew one day.

    ``checked`` makes of it what may be shown, and raises ValueError, KeyError or TypeError where it is damaged. Raises
    RecordError where a newer release wrote it, and what the store raises. One request.
    """
    try:
        told = json.loads(store.get_bytes(key, limit=_LIMIT))
        version = int(told["format"])
        if version > FORMAT:
            raise RecordError(
                f"{STATUS} in the bucket was written by a newer release of collective.s3blobstorage: upgrade this one"
            )
        return {"at": datetime.fromisoformat(told["at"]).isoformat(), **checked(told)}
    except ObjectMissing:
        return None
    except (ValueError, KeyError, TypeError, AttributeError):
        logger.warning("%s in the bucket is damaged, and taken for not there", key)
        return None
