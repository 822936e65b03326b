"""``GET <container or content>/@blob-upload[/<upload>]``: what is allowed here, or what of an upload has arrived.

It signs nothing and changes nothing, so that it asks for no header, as any GET; what it says no foreign page can read.
"""

from ...errors import ConfigurationError
from ...settings import UploadSettings
from ...uploading.existing import existing
from ...uploading.places import current_user, replaceable_fields, uploadable_types
from ...uploading.policy import site_policy
from ..refusal import Refusal
from .requests import upload_told
from .upload import UploadService


class Get(UploadService):
    """Of an upload: its parts that the store has, with their sizes, batched. One listing of the store."""

    def answer(self):
        user = current_user()
        return self.one() if self.path else self.allowed(user)

    def one(self):
        ticket = self.ticket()
        self.check_place(ticket.announced)
        start, size = self.window()
        arrived = self.area.arrived(ticket.upload)
        items = [{"part": part.number, "size": part.size} for part in arrived[start : start + size]]
        batched = self.batched(items, len(arrived))
        return upload_told(self, self.path[0], ticket) | {
            name: batched[name] for name in ("items_total", "items", "batching") if name in batched
        }

    def allowed(self, user):
        """For whoever may add something here, or replace a file; 403 for others."""
        types, fields = uploadable_types(self.context), replaceable_fields(self.context, self.request)
        if not types and not fields:
            raise Refusal(403, "Forbidden", "you may neither add content here nor change this one's files")
        bounds, why_not = self._bounds()
        policy = site_policy(bounds)
        if not why_not and not policy.enabled:
            why_not = "direct upload is off in the settings of this site"
        count, taken, _all = self.uploads.usage(user)
        filename = self.query.get("filename")
        found = {} if filename is None else {"existing": existing(self.context, self.request, filename)}
        return found | {
            "@id": self.url(self.name),
            "enabled": not why_not,
            "why_not": why_not or None,
            "maximum-size": policy.maximum_size,
            "portal-types": [name for name in types if not policy.portal_types or name in policy.portal_types],
            "fields": fields,
            "mime-types": sorted(policy.mime_types),
            "expiry": int(bounds.expiry),
            "unfinished": {
                "count": count,
                "size": taken,
                "maximum-count": policy.user_count,
                "maximum-size": policy.user_size,
            },
        }

    def _bounds(self):
        """zope.conf's, and why nothing can be uploaded whatever the site says; "" where it can."""
        try:
            area = self.area
        except ConfigurationError as error:
            return UploadSettings(allowed=False), str(error)
        return area.settings, area.why_not()
