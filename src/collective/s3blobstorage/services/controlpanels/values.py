"""What zope.conf says of the settings that a program sends. Pure."""

from ...controlpanel.chosen import EXPIRIES, longest, why_not
from ...controlpanel.messages import _


def trouble(values, bounds):
    """Messages by the names of ``IDeliverySettings``, for the values that zope.conf rules out; each names the key.

    ``values`` are right by the schema. ``bounds`` are zope.conf's, None where there is no bucket.
    """
    found = {}
    mode = values.get("delivery_mode")
    if mode is not None and (why := why_not(mode, bounds)):
        found["delivery_mode"] = why
    most = longest(bounds)
    for name in EXPIRIES:
        if values.get(name, 0) > most:
            found[name] = _("zope.conf allows ${most} at most (presign-max-expiry).", mapping={"most": most})
    return found
