"""From a file that plone.namedfile has let through to its response, by the way that ``policy.decide`` says."""

from Acquisition import aq_base
from plone.namedfile.utils import extract_media_type, get_contenttype
from plone.registry.interfaces import IRegistry
from zope.component import queryUtility

from .asked import can_follow, logged_in
from .direct import redirected, x_accelerated
from .interfaces import PREFIX, IDeliverySettings
from .policy import REDIRECT, STREAM, X_ACCEL, Policy, Wanted, decide
from .proxy import proxied
from .public import anonymous_may_view
from .revision import revision_of
from .validators import answered


def _site_streams():
    """Whether the site of this request leaves files to plone.namedfile. As most do: so one record is read, no more."""
    registry = queryUtility(IRegistry)
    name = "delivery_mode"
    return registry is None or Policy.of_records({name: registry.get(f"{PREFIX}.{name}")}).mode == STREAM


def site_policy():
    """The policy of the site of this request, read anew each time."""
    registry = queryUtility(IRegistry)
    if registry is None:
        return Policy()
    return Policy.of_records({name: registry.get(f"{PREFIX}.{name}") for name in IDeliverySettings.names()})


def wanted_of(context, file, revision, *, method="GET", can_follow=True):
    """What is asked for, as the policy judges it."""
    return Wanted(
        method=method,
        mime_type=extract_media_type(get_contenttype(file)) or "",
        size=file.getSize(),
        portal_type=getattr(aq_base(context), "portal_type", None),
        logged_in=logged_in(),
        has_address=revision.address is not None,
        can_follow=can_follow,
    )


def deliver(view, conditions, checked, set_headers, stream):
    """The body of the response, in the thread of the request.

    ``stream()`` is plone.namedfile's own whole answer, its check of access included. ``checked()`` is that check alone:
    it gives the file and the name of its field, and raises where this user may not have it. ``set_headers(file)`` sets
    plone.namedfile's headers, which are then those of every way. Raises what these raise, and in ``proxy`` what
    ``proxied`` does.
    """
    if _site_streams():
        return stream()
    file, fieldname = checked()
    revision = revision_of(file)
    if revision is None:
        return stream()
    request = view.request
    wanted = wanted_of(
        view.context,
        file,
        revision,
        method=request.method,
        # Not every store knows If-Range, and one that does not would give a part of another file than the client has.
        can_follow=can_follow(request) and conditions.if_range is None,
    )
    decision = decide(site_policy(), wanted, revision.bounds)
    if decision.mode == STREAM:
        return stream()
    set_headers(file)
    direct = decision.mode in (REDIRECT, X_ACCEL)
    public = direct and anonymous_may_view(view.context, fieldname)
    if decision.mode == REDIRECT and redirected(request, revision, decision.seconds, public):
        return ""
    _ask_again_each_time(request.response)
    if answered(request, revision, conditions):
        return ""
    if decision.mode == X_ACCEL and x_accelerated(request, revision, decision.seconds, public, conditions):
        return ""
    return proxied(request, revision, conditions)


def _ask_again_each_time(response):
    """Before rules of the site's own, which come later: with a date and without a rule a browser would keep a file for
    a tenth of its age, and some caches for all visitors."""
    if response.getHeader("Cache-Control") is None:
        response.setHeader("Cache-Control", "max-age=0, must-revalidate, private")
