"""The signature of a request, as botocore's signer makes it, in a quarter of its time.

Source: AWS Signature Version 4, "Create a signed AWS API request", for Amazon S3: the path is encoded once, not twice.
What is signed by headers has no query; what is signed by its query is made by others later.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from functools import lru_cache

ALGORITHM = "AWS4-HMAC-SHA256"
UNSIGNED = "UNSIGNED-PAYLOAD"


def authorization(
    method: str,
    path: str,
    headers: Mapping[str, str],
    *,
    access_key: str,
    secret_key: str,
    region: str,
    service: str,
) -> str:
    """The value of ``Authorization``. Pure.

    path: percent-encoded, as it is sent. headers: all that are signed, among them ``Host``, ``X-Amz-Date`` and
    ``X-Amz-Content-SHA256``, under names of any case that differ also in lower case.
    """
    lower = _lower(headers)
    values = dict(lower)
    names = ";".join(values)
    moment = values["x-amz-date"]
    request = _canonical(method, path, "", lower, values["x-amz-content-sha256"])
    made = signature(_to_sign(moment, region, service, request), moment, secret_key, region, service)
    return (
        f"{ALGORITHM} Credential={access_key}/{scope(moment, region, service)}, SignedHeaders={names}, Signature={made}"
    )


def query_signature(
    method: str,
    path: str,
    query: str,
    headers: Mapping[str, str],
    *,
    moment: str,
    secret_key: str,
    region: str,
    service: str,
) -> str:
    """The value of ``X-Amz-Signature``. Pure.

    query: percent-encoded and sorted, with all of it but the signature. headers: those that are signed, among them
    ``Host``. The body is not signed: nobody knows it yet. moment: as in ``X-Amz-Date``.
    """
    request = _canonical(method, path, query, _lower(headers), UNSIGNED)
    return signature(_to_sign(moment, region, service, request), moment, secret_key, region, service)


def signed_names(headers: Mapping[str, str]) -> str:
    """The value of ``X-Amz-SignedHeaders``."""
    return ";".join(sorted(map(str.lower, headers)))


def scope(moment: str, region: str, service: str) -> str:
    return f"{moment[:8]}/{region}/{service}/aws4_request"


def signature(text: str, moment: str, secret_key: str, region: str, service: str) -> str:
    """Of any text, as of the policy of a form."""
    return hmac.digest(_key(secret_key, moment[:8], region, service), text.encode(), "sha256").hex()


def _lower(headers: Mapping[str, str]) -> list[tuple[str, str]]:
    return sorted((name.lower(), " ".join(value.split())) for name, value in headers.items())


def _canonical(method: str, path: str, query: str, lower: list[tuple[str, str]], digest: str) -> str:
    names = ";".join([name for name, _ in lower])
    return "\n".join((method, path, query, *(f"{name}:{value}" for name, value in lower), "", names, digest))


def _to_sign(moment: str, region: str, service: str, request: str) -> str:
    digest = hashlib.sha256(request.encode()).hexdigest()
    return f"{ALGORITHM}\n{moment}\n{scope(moment, region, service)}\n{digest}"


# It changes once a day, and with the credentials: a few for the clients of one process.
@lru_cache(maxsize=8)
def _key(secret_key: str, day: str, region: str, service: str) -> bytes:
    key = ("AWS4" + secret_key).encode()
    for part in (day, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key
