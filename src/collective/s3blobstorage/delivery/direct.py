"""``redirect`` and ``x-accel``: the browser, or the nginx in front, fetches from the store by a signed URL."""

import logging
from datetime import UTC, datetime
from urllib.parse import urlsplit

from ..errors import ConfigurationError, StoreError
from .answer import drop, keep
from .cdn import cdn_signed
from .seldom import Seldom
from .validators import validators_of, wanted_range

logger = logging.getLogger(__name__)
_seldom = Seldom(logger)

# Servers take lines of 8 kB, and a file name has up to 20 characters of a URL for each of its own.
LONGEST_URL = 7000

# Of the file, which is not in this response.
_OF_THE_FILE = ("Content-Length", "Content-Disposition", "Accept-Ranges", "Link")


def redirected(request, revision, seconds, public):
    """Set a redirect and tell whether it could be: False where nothing can be signed, and nothing was set.

    It is kept by nobody, since it is good for one user and for a time. The answer of the store may be kept.
    """
    response = request.response
    url = signed(revision.address, seconds, **shown(response), cache_control=cache_control(public, seconds))
    if url is None:
        return False
    drop(response, "Content-Type", *_OF_THE_FILE)
    response.setHeader("Location", url.url)
    keep(
        response,
        302,
        {
            "Cache-Control": "no-store",
            "Referrer-Policy": "no-referrer",  # the page's address may be as secret as the file's
            "Expires": None,
            "ETag": None,
            "Last-Modified": None,
        },
    )
    return True


def x_accelerated(request, revision, seconds, public, conditions):
    """Tell nginx where the file is, and whether that could be told, as ``redirected``.

    nginx answers with the store's headers, so type and disposition are signed here too; but the validators are Zope's,
    as for a HEAD, and which range is wanted is decided here: not every store knows ``If-Range``. A cache between nginx
    and Zope gets this response, and must not keep it for longer than the URL is good.
    """
    response, address = request.response, revision.address
    # Not the CDN's: nginx is in front, and keeps what it likes.
    url = signed(address, seconds, **shown(response), cache_control=None, cdn=False)
    if url is None:
        return False
    validators = validators_of(response, revision)
    wanted = wanted_range(request, revision, conditions)
    parts = urlsplit(url.url)
    drop(response, *_OF_THE_FILE)
    # Path and query only: the host is nginx's own to say, so that nobody makes it fetch from elsewhere.
    response.setHeader("X-Accel-Redirect", f"{address.delivery.x_accel_location}{parts.path}?{parts.query}")
    if wanted is not None:
        response.setHeader("X-S3blobs-Range", wanted)
    keep(response, 200, {**validators, "Cache-Control": cache_control(public, seconds), "Expires": None})
    return True


def cache_control(public, seconds):
    """What a cache may do with the store's answer to a URL that was signed for so long."""
    # A steady URL is good for at least half its time. It has this header in it, so it is one for all of that half.
    return f"{'public' if public else 'private'}, max-age={seconds // 2}"


def shown(response):
    """What the headers that plone.namedfile has set say of how the file is to be shown, for ``signed``."""
    return {
        "content_type": response.getHeader("Content-Type"),
        # Stored as attachments: without an override nothing is shown.
        "disposition": response.getHeader("Content-Disposition") or "inline",
    }


def signed(address, seconds, *, content_type, disposition, cache_control, cdn=True):
    """A ``Presigned`` GET; None, and a line in the log, where it cannot be signed. None too where it would be too long.

    Of the CDN where zope.conf has one, unless ``cdn`` is false. The same for everybody who asks within half of
    ``seconds``: ``presign_get``.
    """
    headers = {"content_type": content_type, "disposition": disposition}
    try:
        if cdn and address.delivery.cdn_url_base is not None:
            made = cdn_signed(address, seconds, cache_control=cache_control, **headers)
            return made if len(made.url) <= LONGEST_URL else None
        made = address.store.presign_get(
            address.key, seconds=seconds, cache_control=cache_control, steady=True, **headers
        )
        left = (made.expires - datetime.now(UTC)).total_seconds()
        if cache_control is not None and left < seconds // 2:  # the credentials end before
            never_kept = f"{cache_control.partition(',')[0]}, max-age=0"
            made = address.store.presign_get(
                address.key, seconds=seconds, cache_control=never_kept, steady=True, **headers
            )
    except (StoreError, ConfigurationError) as error:
        _seldom.warn(type(error).__name__, "no URL can be signed, blobs are proxied: %s", error)
        return None
    return made if len(made.url) <= LONGEST_URL else None
