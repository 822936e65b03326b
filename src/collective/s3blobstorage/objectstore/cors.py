"""The bucket's CORS rules, and the question that a browser asks before it sends something to the store from a page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from collective.s3blobstorage.errors import Refused, StoreError
from collective.s3blobstorage.objectstore.connection import Connection
from collective.s3blobstorage.objectstore.translate import Failure
from collective.s3blobstorage.objectstore.versions import answered
from collective.s3blobstorage.objectstore.visitor import asked
from collective.s3blobstorage.settings import StoreSettings

_NONE = frozenset(("NoSuchCORSConfiguration", "NoSuchCORSConfigurationError"))

# Fetch Standard: a page may use these methods and headers without being told so by the store.
_ALWAYS = frozenset(("GET", "HEAD", "POST"))


def cors(connection: Connection) -> tuple[dict[str, Any], ...]:
    """See ``IObjectStore.cors``."""
    request = connection.reader.get_bucket_cors
    answer = answered(connection, "GetBucketCors", "", lambda: request(**connection.bucket()))
    if not isinstance(answer, Failure):
        return tuple(dict(rule) for rule in answer.get("CORSRules", ()))
    if answer.code in _NONE:
        return ()
    raise _error(answer, "read", "s3:GetBucketCORS")


def set_cors(connection: Connection, rules: Sequence[Mapping[str, Any]]) -> None:
    """See ``IObjectStore.set_cors``."""
    writer, bucket = connection.writer, connection.bucket()
    if rules:
        wanted = {"CORSRules": [dict(rule) for rule in rules]}
        answer = answered(
            connection, "PutBucketCors", "", lambda: writer.put_bucket_cors(**bucket, CORSConfiguration=wanted)
        )
    else:
        answer = answered(connection, "DeleteBucketCors", "", lambda: writer.delete_bucket_cors(**bucket))
    if isinstance(answer, Failure):
        raise _error(answer, "change", "s3:PutBucketCORS")


def _error(failure: Failure, what: str, action: str) -> StoreError:
    if failure.is_unknown:
        return StoreError(
            "The object store does not know the requests for CORS rules (GetBucketCors, PutBucketCors): whether"
            " browsers may send to it is set where the store, or the proxy before it, is administered."
        )
    if failure.status in (401, 403):
        return Refused(
            f"The object store refuses to {what} the bucket's CORS rules: let the policy of the credentials"
            f" (s3-access-key) allow {action} on the bucket."
        )
    return failure.error


@dataclass(frozen=True, slots=True)
class Preflight:
    """What a browser makes of the answer to its question. ``status``: 0 where there was none; ``trouble`` says why.

    ``refused``: words for what it would not send: the origin, the method, headers. Empty: it sends.
    """

    status: int
    refused: tuple[str, ...] = ()
    trouble: str = ""

    @property
    def allowed(self) -> bool:
        return bool(self.status) and not self.refused


def preflight(settings: StoreSettings, url: str, origin: str, method: str, headers: Iterable[str]) -> Preflight:
    """Ask as a browser does for a page of ``origin`` that is about to send ``method`` with these headers to the URL.

    Source: Fetch Standard, "CORS-preflight fetch". No credentials are sent, and redirects are an error. Raises nothing
    of the network. In the caller's thread.
    """
    names = sorted(name.lower() for name in headers)
    question = {"Origin": origin, "Access-Control-Request-Method": method}
    if names:
        question["Access-Control-Request-Headers"] = ",".join(names)
    status, answer, trouble = asked(settings, "OPTIONS", url, question)
    if not status:
        return Preflight(0, (), trouble)
    return Preflight(status, judged(status, answer, origin, method, names))


def judged(status: int, answer: Mapping[str, str], origin: str, method: str, headers: Sequence[str]) -> tuple[str, ...]:
    """What a browser refuses after that answer, whose headers are named in lower case. Pure."""
    if not 200 <= status < 300 or answer.get("access-control-allow-origin") not in ("*", origin):
        return ("the origin",)
    found = []
    methods = _listed(answer, "access-control-allow-methods")
    if method not in _ALWAYS and method not in methods and "*" not in methods:
        found.append(f"the method {method}")
    allowed = {name.lower() for name in _listed(answer, "access-control-allow-headers")}
    if "*" not in allowed:
        found += [f"the header {name}" for name in headers if name not in allowed]
    return tuple(found)


def _listed(answer: Mapping[str, str], name: str) -> list[str]:
    return [word.strip() for word in answer.get(name, "").split(",")]
