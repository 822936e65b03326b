"""Addresses below ``cdn-url-base``, in place of the store's own: the CDN fetches from the bucket and keeps copies."""

from datetime import UTC, datetime, timedelta

from zope.component import getUtility

from ..interfaces import IURLSigner
from ..objectspace.urls import url_of
from ..objectstore.presigned import Presigned, steady_time


def cdn_signed(address, seconds, *, content_type, disposition, cache_control, now=None):
    """A ``Presigned`` GET. Raises ConfigurationError where the signer cannot sign, and what a signer of others raises.

    The same for everybody who asks within half of ``seconds``, as ``IObjectStore.presign_get`` has it with ``steady``.
    """
    expires = steady_time(now or datetime.now(UTC), seconds) + timedelta(seconds=seconds)
    answer = {"content-type": content_type, "content-disposition": disposition}
    if cache_control is not None:
        answer["cache-control"] = cache_control
    url = url_of(f"{address.delivery.cdn_url_base}/", address.key)
    return Presigned("GET", getUtility(IURLSigner).sign(url, expires, answer, address.delivery), expires)
