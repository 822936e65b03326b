"""What a check asks of the store for browsers that upload: may pages of the sites send to it, may pages of others?

Nothing is sent but the questions that a browser asks before it sends something.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

from ..directupload.area import UploadArea
from ..directupload.requests import asked_for, signed_requests
from ..errors import ConfigurationError
from ..messages import mend as mend_of
from ..messages import one_line
from ..objectstore import S3ObjectStore
from ..objectstore.cors import Preflight, preflight
from ..objectstore.presigned import Presigned
from ..settings import StorageSettings
from .local_checks import Result

# A page that no site has (RFC 2606): where it may send, any may.
NOBODY = "https://s3blobs-check.invalid"

_HINT = "not tried: where browsers are to upload to the bucket, set direct-upload-origins and run s3blobs cors"


def upload_checks(
    settings: StorageSettings, store: S3ObjectStore, why_not: str = ""
) -> Iterator[tuple[str, Callable[[], Result]]]:
    """The name of each check and what makes it; run them in this order. ``why_not``: nothing can be signed or tried."""
    uploads = settings.uploads
    if not uploads.allowed:
        yield "direct upload", lambda: (None, "direct-upload is off", "")
    elif not uploads.origins:
        yield "direct upload", lambda: (None, _HINT, "")
    else:
        checks = _UploadChecks(settings, store, why_not)
        yield "direct upload", checks.origins
        yield "other pages", checks.others
        yield "hosts", checks.hosts


class _UploadChecks:
    """For one thread."""

    def __init__(self, settings: StorageSettings, store: S3ObjectStore, why_not: str) -> None:
        self._store = store
        self._uploads = settings.uploads
        self._why_not = why_not
        self._requests: list[Presigned] = []

    def origins(self) -> Result:
        """Whether pages of each origin may send, by each way."""
        if self._why_not:
            return None, self._why_not, ""
        try:
            area = UploadArea(self._store, self._uploads)
            if why := area.why_not():
                return False, f"no upload can begin: {why}", "direct-upload-staging, or set direct-upload off"
            self._requests = signed_requests(area)
        except ConfigurationError as error:
            self._why_not = f"not tried: {one_line(error)}"
            return False, one_line(error), mend_of(error) or "correct that key"
        wrong = []
        for origin in self._uploads.origins:
            for request in self._requests:
                told = self._asked(request, origin)
                if not told.status:
                    self._why_not = "not tried: the host of signed URLs cannot be reached"
                    detail = f"{self._host()}, the host of signed URLs, cannot be reached ({told.trouble})"
                    return False, detail, "s3-public-endpoint-url: correct it"
                if not told.allowed:
                    what = ", ".join(told.refused)
                    wrong.append(f"pages of {origin} may not send by {request.method}: {what} ({told.status})")
        if wrong:
            return False, "; ".join(wrong), "s3blobs cors"
        return True, f"pages of {', '.join(self._uploads.origins)} may send to {self._host()}", ""

    def others(self) -> Result:
        """Whether pages of any site may."""
        if self._why_not or not self._requests:
            return None, self._why_not or "not tried, since no upload can begin", ""
        free = [request.method for request in self._requests if self._asked(request, NOBODY).allowed]
        if free:
            detail = (
                f"pages of any site may send to the bucket by {' and '.join(free)}: a signed request works from all"
            )
            return False, detail, "take the * out of the bucket's CORS rules for PUT and POST, then s3blobs cors"
        return True, "pages of other sites may not send to it", ""

    def hosts(self) -> Result:
        """Whether a file that is opened at the store's host is far from the sites' pages."""
        if not self._requests:
            return None, self._why_not or "not tried, since no upload can begin", ""
        parts = urlsplit(self._requests[0].url)
        own, host = f"{parts.scheme}://{parts.netloc}", parts.hostname or ""
        mend = "s3-public-endpoint-url: give the store a host in a domain of its own"
        if own in self._uploads.origins:
            return False, f"{own} is the store's and a site's: what is opened there is a page of the site", mend
        near = [o for o in self._uploads.origins if domain(urlsplit(o).hostname or "") == domain(host)]
        if near:
            return None, f"{host} shares the domain {domain(host)} with {near[0]}: cookies of it reach the store", mend
        return True, f"{host} shares no domain with the sites", ""

    def _asked(self, request: Presigned, origin: str) -> Preflight:
        return preflight(self._store.settings, request.url, origin, request.method, asked_for(request))

    def _host(self) -> str:
        parts = urlsplit(self._requests[0].url)
        return f"{parts.scheme}://{parts.netloc}"


def domain(host: str) -> str:
    """The part of a host's name that somebody registered, about: its last two labels, three below co.uk and the like.

    Without the list of public suffixes, which changes every week. An address is its own.
    """
    try:
        ipaddress.ip_address(host)
        return host
    except ValueError:
        labels = host.split(".")
    short = len(labels) > 2 and len(labels[-1]) == 2 and len(labels[-2]) <= 3
    return ".".join(labels[-3 if short else -2 :])
