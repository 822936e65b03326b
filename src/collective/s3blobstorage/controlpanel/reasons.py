"""Modes of delivery and what they are due to, in sentences for who owns a site."""

from __future__ import annotations

from ..delivery.policy import PROXY, REDIRECT, STREAM, X_ACCEL, Why
from .messages import _

TITLES = {
    STREAM: _("As Plone does it"),
    PROXY: _("Through Plone, piece by piece"),
    REDIRECT: _("Straight from the bucket"),
    X_ACCEL: _("Through the web server"),
}

DESCRIPTIONS = {
    STREAM: _("A file is fetched to this server whole, then sent to the visitor."),
    PROXY: _("Only what the visitor asks for is fetched, and the first of it is sent at once. Good for video."),
    REDIRECT: _(
        "The visitor’s browser fetches the file from the bucket, by an address that is good for some minutes. "
        "Plone is free meanwhile. Good for large files of public sites."
    ),
    X_ACCEL: _(
        "The nginx in front of Plone fetches the file from the bucket and sends it. Visitors see one host only, and "
        "Plone is free meanwhile."
    ),
}

REASONS = {
    Why.AS_SET: _("So it is set for this site."),
    Why.METHOD: _("The request asks for something else than the file."),
    Why.SIZE: _("The file is smaller than the smallest that the settings are for."),
    Why.PORTAL_TYPE: _("The settings are not for content of this type."),
    Why.MIME_TYPE: _("The settings are not for files of this MIME type."),
    Why.LOGGED_IN: _("The settings are for visitors who are not logged in."),
    Why.NO_BUCKET: _("The files of this site are not in a bucket."),
    Why.FORBIDDEN: _("zope.conf does not allow what is set for this site: see delivery-modes."),
    Why.HEAD: _("Only the headers are asked for, and Plone knows them."),
    Why.NO_ADDRESS: _(
        "The file has no address in the bucket: it lies in the database, in a source behind the bucket, or was not "
        "looked for yet."
    ),
    Why.CANNOT_FOLLOW: _("The request would carry a password or a script’s origin to another host."),
    Why.NO_NGINX: _("zope.conf names no nginx that could fetch it: see x-accel-location."),
}

# That our own keys encrypt it is seen only when an address is to be signed (delivery/direct.py).
OWN_KEYS = _("The files are encrypted with keys of this server, which a browser or nginx does not have.")
