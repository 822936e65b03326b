"""What zope.conf says of the settings that a program sends. Pure."""

from ...controlpanel import chosen_uploads
from ...controlpanel.chosen import EXPIRIES, longest, why_not
from ...controlpanel.messages import _


def trouble(values, bounds, uploads):
    """Messages by the names of ``ISiteSettings``, for the values that zope.conf rules out; each names the key.

    ``values`` are right by the schema. ``bounds`` and ``uploads`` are zope.conf's ``DeliverySettings`` and
    ``UploadSettings``, None where there is no bucket.
    """
    found = {}
    mode = values.get("delivery_mode")
    if mode is not None and (why := why_not(mode, bounds)):
        found["delivery_mode"] = why
    most = longest(bounds)
    for name in EXPIRIES:
        if values.get(name, 0) > most:
            found[name] = _("zope.conf allows ${most} at most (presign-max-expiry).", mapping={"most": most})
    if values.get("upload_enabled") and (why := chosen_uploads.why_not(uploads)):
        found["upload_enabled"] = why
    if why := chosen_uploads.too_large(values.get(chosen_uploads.LARGEST, 0), uploads):
        found[chosen_uploads.LARGEST] = why
    return found
