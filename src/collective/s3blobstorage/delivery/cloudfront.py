"""Signs addresses as Amazon CloudFront checks them: with a key pair of its own, whose public half the CDN has.

Source: Amazon CloudFront Developer Guide, "Create a signed URL using a canned policy". The signature is over the whole
address with its query, so what the store is to answer (``response-content-type`` and the like) is signed too; the
distribution has to pass these parameters on to the bucket, and must sign its own requests there (origin access
control).
"""

from __future__ import annotations

import base64
import json
from datetime import datetime
from urllib.parse import quote, urlencode

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from zope.interface import implementer

from ..errors import ConfigurationError
from ..interfaces import IURLSigner
from ..signing_key import signing_key

# What CloudFront's base64 has in place of what a query cannot have.
_FOR_QUERIES = str.maketrans("+=/", "-_~")


@implementer(IURLSigner)
class CloudFront:
    """The signer that is used where nobody registers another one. Its keys are zope.conf's."""

    def sign(self, url, expires, answer, delivery):
        if delivery.cdn_key_pair_id is None or delivery.cdn_private_key is None:
            raise ConfigurationError(
                "cdn-url-base is set, but neither cdn-key-pair-id with cdn-private-key-file nor an add-on's IURLSigner"
            )
        asked = {f"response-{name}": value for name, value in answer.items()}
        return signed_url(
            f"{url}?{urlencode(asked, quote_via=quote)}" if asked else url,
            expires,
            delivery.cdn_key_pair_id,
            signing_key(delivery.cdn_private_key),
        )


def signed_url(url: str, expires: datetime, key_pair_id: str, key: RSAPrivateKey) -> str:
    """Pure. ``expires`` with a zone; ``url`` with its query, if it has one."""
    until = int(expires.timestamp())
    condition = {"DateLessThan": {"AWS:EpochTime": until}}
    policy = json.dumps({"Statement": [{"Resource": url, "Condition": condition}]}, separators=(",", ":"))
    # SHA-1 is CloudFront's choice.
    signature = key.sign(policy.encode(), padding.PKCS1v15(), hashes.SHA1())  # noqa: S303
    text = base64.b64encode(signature).decode().translate(_FOR_QUERIES)
    return f"{url}{'&' if '?' in url else '?'}Expires={until}&Signature={text}&Key-Pair-Id={key_pair_id}"
