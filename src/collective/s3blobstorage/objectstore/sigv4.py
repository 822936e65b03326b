"""The signature of a request, as botocore's signer makes it, in a quarter of its time.

Source: AWS Signature Version 4, "Create a signed AWS API request", for Amazon S3: the path is encoded once, not twice.
No query: none of the requests that are signed here has one.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from functools import lru_cache

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
    lower = sorted((name.lower(), " ".join(value.split())) for name, value in headers.items())
    values = dict(lower)
    names = ";".join(values)
    request = "\n".join(
        (
            method,
            path,
            "",  # the query
            *(f"{name}:{value}" for name, value in lower),
            "",
            names,
            values["x-amz-content-sha256"],
        )
    )
    moment = values["x-amz-date"]
    scope = f"{moment[:8]}/{region}/{service}/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    signature = hmac.digest(_key(secret_key, moment[:8], region, service), text.encode(), "sha256").hex()
    return f"AWS4-HMAC-SHA256 Credential={access_key}/{scope}, SignedHeaders={names}, Signature={signature}"


# It changes once a day, and with the credentials: a few for the clients of one process.
@lru_cache(maxsize=8)
def _key(secret_key: str, day: str, region: str, service: str) -> bytes:
    key = ("AWS4" + secret_key).encode()
    for part in (day, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key
