"""The last check of a storage, kept in the bucket: whether it was well, when, and every finding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ..objectstore.interfaces import IObjectStore
from ..objectstore.preflight import Finding
from ..storage.owner import read_marker
from . import kept
from .interfaces import CHECK


def as_json(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    return [asdict(finding) | {"seconds": round(finding.seconds, 4)} for finding in findings]


def document(findings: Sequence[Finding], seconds: float) -> dict[str, Any]:
    """As the status document has it, but for ``at``. Never a secret: messages of findings have none."""
    return {
        "ok": all(finding.ok is not False for finding in findings),
        "seconds": round(seconds, 3),
        "findings": as_json(findings),
    }


def keep(store: IObjectStore, told: Mapping[str, Any], owner: str | None) -> None:
    """Where the prefix is that owner's already: a check makes no prefix anybody's. Raises what the store raises."""
    marker = read_marker(store)
    if marker is not None and marker.owner == owner:
        kept.write(store, CHECK, told)


def read(store: IObjectStore) -> dict[str, Any] | None:
    """None where nobody kept one. One request."""
    return kept.read(store, CHECK, _checked)


def _checked(told: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "ok": bool(told["ok"]),
        "seconds": float(told["seconds"]),
        "findings": [
            {
                "name": str(each["name"]),
                "ok": None if each["ok"] is None else bool(each["ok"]),
                "seconds": float(each["seconds"]),
                "detail": str(each["detail"]),
                "mend": str(each["mend"]),
            }
            for each in told["findings"]
        ],
    }
