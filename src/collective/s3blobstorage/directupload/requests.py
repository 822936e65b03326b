"""What a browser asks and sends when it uploads, for those who let it and those who try it: CORS rules and checks."""

from __future__ import annotations

from datetime import UTC, datetime

from ..errors import ConfigurationError
from ..objectstore.presigned import Presigned
from .area import UploadArea
from .interfaces import Upload

# A key below ``uploads/`` that no upload has: nothing is ever sent to it.
_NOBODYS = Upload("0" * 32, 1, 0, "", datetime(2026, 1, 1, tzinfo=UTC), sha256=bytes(32))
_SECONDS = 60
# Which headers are the browser's own business: it sends them without asking whether it may.
_ITS_OWN = frozenset(("content-length", "host"))


def signed_requests(area: UploadArea) -> list[Presigned]:
    """One of each kind that it signs: a PUT, and a form where the store takes one. Makes no request.

    Raises ConfigurationError where nothing can be signed, and Unavailable where the credentials are about to end.
    """
    found = [area.put_request(_NOBODYS, seconds=_SECONDS)]
    try:
        found.append(area.post_request(_NOBODYS, seconds=_SECONDS))
    except ConfigurationError:
        pass  # the provider takes no forms
    return found


def asked_for(request: Presigned) -> list[str]:
    """The headers for which a browser asks the store before it sends that, by their names in lower case."""
    return sorted({name.lower() for name in request.headers} - _ITS_OWN)


def headers_of_uploads(area: UploadArea) -> list[str]:
    """All that signed requests ask for. The checksum is among them, which is signed where it was announced."""
    return sorted({name for request in signed_requests(area) for name in asked_for(request)})
