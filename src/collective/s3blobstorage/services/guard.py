"""What a request has to be, so that a service may change something for it.

Jobs and checks write no object of the database, so plone.protect, which looks at what a transaction writes, never sees
them; and plone.restapi reads a body of any type as JSON. A foreign page could therefore have a browser that is logged
in send such a request: as a form, as ``text/plain``, or by a script that cannot read the answer.
"""

from urllib.parse import urlsplit

from plone.protect.interfaces import IDisableCSRFProtection
from zope.interface import alsoProvides

from .refusal import Refusal

_PORTS = {"http": 80, "https": 443}


def guard(request, site):
    """Let the request through, or raise Refusal. To be called after permissions were asked for, in its thread.

    Its body is declared as ``application/json``, which no page of another origin can send without being allowed to by
    CORS. What a browser says of the page that it comes from is no other origin than the site's, as the visitor sees it.
    Programs that are no browser say nothing of it. Only then plone.protect is told to leave the transaction alone.
    """
    declared = (request.getHeader("Content-Type") or "").partition(";")[0].strip().lower()
    if declared != "application/json":
        raise Refusal(415, "UnsupportedMediaType", "the request needs the header Content-Type: application/json")
    refuse_foreign(request, site)
    alsoProvides(request, IDisableCSRFProtection)


def guard_without_body(request, site):
    """The same for a DELETE of programs that declare no type, since they send no body.

    Without being allowed to by CORS no page of another origin can send a DELETE, and no form can.
    """
    refuse_foreign(request, site)
    alsoProvides(request, IDisableCSRFProtection)


def guard_get_of_script(request, site):
    """The same for a GET that changes something, as another program's protocol wants it: only a script of the site.

    Any page can have a browser send a GET, as a link or a picture; so can what somebody wrote into a page of this very
    site. So it has to be said that a script of the site sends it: ``same-origin`` with a mode that scripts alone have;
    or, by browsers that say nothing of that (over http), an ``Origin`` or a ``Referer`` of the site.
    """
    refuse_foreign(request, site)
    fetch_site = (request.getHeader("Sec-Fetch-Site") or "").strip().lower()
    if fetch_site:
        mode = (request.getHeader("Sec-Fetch-Mode") or "").strip().lower()
        own = fetch_site == "same-origin" and mode in ("cors", "same-origin")
    else:
        page = request.getHeader("Origin") or request.getHeader("Referer") or ""
        own = _origin(page) is not None and _origin(page) == _origin(site.absolute_url())
    if not own:
        raise Refusal(403, "Forbidden", "only a script of this site's own pages may send this request (Sec-Fetch-Site)")
    alsoProvides(request, IDisableCSRFProtection)


def refuse_foreign(request, site):
    """Raise Refusal where a browser says that the request comes from a page of another origin."""
    # "none": the user typed the address. "same-site" is a neighbour's page below the same domain.
    if (request.getHeader("Sec-Fetch-Site") or "none").strip().lower() not in ("same-origin", "none"):
        raise Refusal(403, "Forbidden", "the request comes from a page of another origin (Sec-Fetch-Site)")
    origin = request.getHeader("Origin")
    if origin is not None and (_origin(origin) is None or _origin(origin) != _origin(site.absolute_url())):
        raise Refusal(403, "Forbidden", "the request comes from a page of another origin (Origin)")


def _origin(url):
    """(scheme, host, port) of an address; None for what is none, as the ``null`` of a page in a sandbox."""
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError:
        return None
    if not parts.scheme or not parts.hostname or parts.username is not None:
        return None
    return parts.scheme, parts.hostname, port or _PORTS.get(parts.scheme)
