"""One request, asked once, and everything that its answer tells; for the checks before the store is used."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from botocore.exceptions import ClientError

from collective.s3blobstorage.objectstore.redaction import redact
from collective.s3blobstorage.objectstore.translate import Failure, failure_of


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one request.

    ``failure`` is None where the store did what was asked; ``response`` is then boto3's. ``headers`` are the answer's,
    names in lower case, empty where there was no answer. ``ahead`` says by how many seconds the store's clock is ahead
    of this machine's (None: no ``Date``), to about a second. ``trouble`` is the exception's text without secrets.
    """

    response: Mapping[str, Any] = field(default_factory=dict)
    failure: Failure | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    ahead: float | None = None
    kind: str = ""
    trouble: str = ""
    error: Mapping[str, Any] = field(default_factory=dict)  # the XML of the error

    @property
    def ok(self) -> bool:
        return self.failure is None

    @property
    def status(self) -> int:
        return 0 if self.failure is None else self.failure.status

    @property
    def code(self) -> str:
        return "" if self.failure is None else self.failure.code

    @property
    def transient(self) -> bool:
        """Whether asking again later may help."""
        return self.failure is not None and self.failure.retry

    @property
    def denied(self) -> bool:
        return self.status in (401, 403)

    @property
    def unsupported(self) -> bool:
        """The store understood who asks, and does not know what is asked (400, 405, 411, 501…)."""
        return self.status in (400, 405, 411, 415, 501) and not self.transient


def ask(request: Callable[..., Any], **parameters: Any) -> Answer:
    """Send one request, once. Never raises an error of the network; runs in the caller's thread."""
    before = time.time()
    try:
        response = request(**parameters)
    except Exception as error:
        failure = failure_of(error)
        if failure is None:
            raise
        headers = _headers(error.response) if isinstance(error, ClientError) else {}
        return Answer(
            failure=failure,
            headers=headers,
            ahead=_ahead(headers, before, time.time()),
            kind=type(error).__name__,
            trouble=redact(str(error))[:300],
            error=error.response.get("Error", {}) if isinstance(error, ClientError) else {},
        )
    headers = _headers(response)
    return Answer(response=response, headers=headers, ahead=_ahead(headers, before, time.time()))


def _headers(response: Mapping[str, Any]) -> dict[str, str]:
    named = response.get("ResponseMetadata", {}).get("HTTPHeaders") or {}
    return {name.lower(): value for name, value in named.items()}


def _ahead(headers: Mapping[str, str], before: float, after: float) -> float | None:
    """0 where ``Date`` lies between the two moments, or in the second before them, since it has no fractions."""
    try:
        date = parsedate_to_datetime(headers["date"])
    except (KeyError, ValueError):
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    stamp = (date - datetime.fromtimestamp(0, UTC)).total_seconds()
    if stamp + 1 < before:
        return stamp + 1 - before
    return max(0.0, stamp - after)
