"""What the element of an uploader is told: the ``UploaderSettings`` of ``interfaces.py``, as a dict for JSON.

In the request's thread. No request to a store: a page is shown whatever the store does.
"""

import hmac

from plone.keyring.interfaces import IKeyManager
from plone.protect.authenticator import createToken
from zope.component import getMultiAdapter, getUtility
from zope.i18n import translate
from ZPublisher import HTTPRequest

from ..errors import ConfigurationError
from ..interfaces import IBlobStorages
from ..services.refusal import Refusal
from ..settings import MOST_UPLOADED
from ..uploading.places import current_site, current_user, site_id
from ..uploading.policy import site_policy
from .types import folder_type, page_types
from .words import words

PAGE, SEND = "@@upload-files", "@@upload-file"
DIRECT, NORMAL = "direct", "normal"
_LABEL = b"collective.s3blobstorage uploader "


def page_settings(context, request):
    """Those of the page of a container. ``types`` may be empty: then there is nothing that this user may upload."""
    policy, types = direct_policy(context), list(page_types(context))
    return common(context, request, policy) | {
        "kind": "page",
        "types": [told_type(request, name, field, policy) for name, field in types],
        "folders": folder_type(context, [name for name, _field in types]),
    }


def common(context, request, policy):
    """What page and field have in common.

    :param context: the container, or the content whose file is replaced
    :param policy: what ``direct_policy`` gave for it
    """
    state = getMultiAdapter((context, request), name="plone_portal_state")
    site_url, url = state.portal_url(), context.absolute_url()
    return {
        "place": f"{site_url}/++api++{url.removeprefix(site_url)}",
        "send": f"{url}/{SEND}",
        "authenticator": createToken(),
        # The store's own bound is none that anybody set, and no page has to say it.
        "maximum-size": None if policy is None or policy.maximum_size >= MOST_UPLOADED else policy.maximum_size,
        "normal-maximum-size": HTTPRequest.FORM_DISK_LIMIT,
        "mime-types": [] if policy is None else sorted(policy.mime_types),
        "language": state.language(),
        "rtl": bool(state.is_rtl()),
        "user": _user_text(),
        "login": f"{site_url}/login",
        "words": words(request),
    }


def told_type(request, portal_type, field, policy):
    """A type of content as the element is told of it. ``field``: a ``FileField`` of the type."""
    info = current_site().portal_types.getTypeInfo(portal_type)
    return {
        "name": portal_type,
        "title": translate(info.Title(), context=request),
        "field": field.name,
        "image": field.image,
        "mode": mode_of(portal_type, policy),
    }


def direct_policy(context):
    """The ``SitePolicy`` of direct upload, where this user can use it here; None where everything goes through Zope.

    That is so without a bucket, where zope.conf or the site has it off, where the store is known not to do what is
    needed, and for whoever is not logged in: what Anonymous begins would be everybody's.
    """
    try:
        current_user()
        area = getUtility(IBlobStorages).for_context(context).uploads()
    except (Refusal, ConfigurationError):
        return None
    policy = site_policy(area.settings)
    return policy if policy.enabled and not area.why_not(ask=False) else None


def mode_of(portal_type, policy):
    """``direct`` or ``normal``, for content of this type. ``policy``: what ``direct_policy`` gave for the place."""
    if policy is None or (policy.portal_types and portal_type not in policy.portal_types):
        return NORMAL
    return DIRECT


def _user_text():
    """Differs between users and sites, and tells nothing of them. When the site's key ring is rotated it changes, and
    browsers do not find what they remember of unfinished uploads, which expires soon."""
    try:
        user = current_user()
    except Refusal:
        user = ""
    said = f"{site_id(current_site())}\0{user}".encode()
    return hmac.digest(getUtility(IKeyManager).secret().encode(), _LABEL + said, "sha256").hex()[:32]
