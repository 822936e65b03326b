"""``GET <content>/@blob-url/<field>[/<scale>]``; without argument the fields that have a file."""

from urllib.parse import quote

from plone.restapi.services import Service
from zExceptions import NotFound
from zope.interface import implementer
from zope.publisher.interfaces import IPublishTraverse

from ...delivery.answer import keep
from ...delivery.delivering import site_policy, wanted_of
from ...delivery.direct import cache_control, signed
from ...delivery.policy import REDIRECT, STREAM, decide
from ...delivery.public import anonymous_may_view
from ...delivery.revision import revision_of
from ...objectspace.urls import url_of
from ..refusal import Refusal
from .files import fields_of, file_of, scale_of

POLICIES = ("auto", "presigned", "public")
DISPOSITIONS = ("attachment", "inline")


@implementer(IPublishTraverse)
class BlobUrl(Service):
    """In the thread of the request. Loads no blob, and makes no request to the store but the HEAD of ``Addresses.of``.

    ``policy``: ``auto``, what the site's mode of delivery would do; ``presigned``, a signed URL of the store wherever
    zope.conf allows redirects; ``public``, an address that never expires, for what Anonymous may view. ``disposition``:
    ``attachment``, or ``inline`` for types that Plone shows in a browser.

    What has no address in the bucket, as a file in its record or in a source, gets Plone's own URL. Errors: 400 for
    parameters that there are not, 401 and 404 as Plone's ``@@download``, 403 and 409 for ``public``.
    """

    def __init__(self, context, request):
        super().__init__(context, request)
        self.path = []

    def publishTraverse(self, request, name):
        if len(self.path) == 2:
            raise NotFound(self, name, request)
        self.path.append(name)
        return self

    def reply(self):
        try:
            policy = self._choice("policy", POLICIES)
            disposition = self._choice("disposition", DISPOSITIONS)
            told = self._url(policy, disposition == "inline") if self.path else self._fields()
        except Refusal as refusal:
            return refusal.answer(self.request.response)
        # What is in it may be good for this user only, and for a while.
        keep(self.request.response, 200, {"Cache-Control": "no-store", "Expires": None, "ETag": None})
        return told

    def _choice(self, name, choices):
        value = self.request.form.get(name, choices[0])
        if value not in choices:
            raise Refusal(400, "BadRequest", f"{name} is one of {', '.join(choices)}")
        return value

    @property
    def _id(self):
        return "/".join([self.context.absolute_url(), "@blob-url", *map(quote, self.path)])

    def _fields(self):
        items = [
            {
                "@id": f"{self._id}/{name}",
                "field": name,
                "filename": file.filename,
                "content_type": file.contentType,
                "size": file.getSize(),
            }
            for name, file in fields_of(self.context)
        ]
        return {"@id": self._id, "items": items}

    def _url(self, policy, inline):
        field = self.path[0]
        if len(self.path) == 2:
            wanted = scale_of(self.context, self.request, field, self.path[1])
        else:
            wanted = file_of(self.context, self.request, field, inline=inline)
        revision = revision_of(wanted.file)
        address = revision.address if revision is not None else None
        if policy == "public":
            url, expires, mode = self._public(wanted, address), None, "public"
        else:
            url, expires, mode = self._signed(wanted, revision, policy)
        return {
            "@id": self._id,
            "url": url,
            "method": "GET",
            "expires": expires and f"{expires:%Y-%m-%dT%H:%M:%SZ}",
            "filename": getattr(wanted.file, "filename", None),
            "content_type": wanted.shown["content_type"],
            "size": wanted.file.getSize(),
            "sha256": address.sha256.hex() if address is not None and address.sha256 else None,
            "mode": mode,
        }

    def _signed(self, wanted, revision, policy):
        """URL, when it expires, and the mode by which it comes."""
        if revision is None:
            return wanted.plone_url, None, STREAM
        site = site_policy()
        if policy == "presigned":
            site = site.redirecting()
        decision = decide(site, wanted_of(self.context, wanted.file, revision), revision.bounds)
        if decision.mode == REDIRECT:
            public = anonymous_may_view(self.context, wanted.field)
            found = signed(
                revision.address,
                decision.seconds,
                **wanted.shown,
                cache_control=cache_control(public, decision.seconds),
            )
            if found is not None:
                return found.url, found.expires, REDIRECT
        # nginx's redirects are its own: whoever asks here gets the address that leads to them.
        return wanted.plone_url, None, decision.mode if decision.mode != REDIRECT else "proxy"

    def _public(self, wanted, address):
        if not anonymous_may_view(self.context, wanted.field):
            raise Refusal(403, "Forbidden", "not everybody may view this file, so it has no public address")
        base = address.delivery.public_url_base if address is not None else None
        if base is None:
            raise Refusal(
                409,
                "Conflict",
                "public-url-base is not set in zope.conf"
                if address is not None
                else "this file has no address in the object store",
            )
        return url_of(f"{base}/", address.key)
