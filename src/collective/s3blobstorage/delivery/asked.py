"""What a request says that matters to delivery. No header is believed that could open a way."""

from AccessControl import getSecurityManager

from .conditions import Conditions

# A script's request that is sent to another host gets nothing there unless the bucket allows the site by CORS.
_OF_SCRIPTS = frozenset({"cors", "same-origin", "websocket"})


def conditions_of(request):
    """Call it where the request is traversed: plone.app.caching then removes ``If-Range``, and ``Range`` where it does
    not know the ETag. Views are also made for their tags and sizes, with whatever for a request, as None."""
    header = getattr(request, "getHeader", lambda name, default: default)
    return Conditions(
        range=header("Range", None),
        if_range=header("If-Range", None),
        if_match=header("If-Match", None),
        if_none_match=header("If-None-Match", None),
        if_modified_since=header("If-Modified-Since", None),
        if_unmodified_since=header("If-Unmodified-Since", None),
    )


def can_follow(request):
    """Whether a redirect to the store does no harm: a REST client would repeat its credentials there."""
    # Zope keeps the header here, and out of the environment.
    if getattr(request, "_auth", None) or request.getHeader("Authorization", None):
        return False
    if "application/json" in (request.getHeader("Accept", None) or "").lower():
        return False
    return (request.getHeader("Sec-Fetch-Mode", None) or "").lower() not in _OF_SCRIPTS


def logged_in():
    user = getSecurityManager().getUser()
    return user is not None and user.getUserName() != "Anonymous User"
