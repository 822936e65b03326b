"""What a site's owner sets about delivery, kept in plone.registry.

No secret, host or bucket is here: these are zope.conf's, and so are the bounds that hold whatever a record says.
"""

from zope import schema
from zope.i18nmessageid import MessageFactory
from zope.interface import Interface

from ..settings import MODES

_ = MessageFactory("collective.s3blobstorage")

PREFIX = "collective.s3blobstorage"  # of the records' names


class IDeliverySettings(Interface):
    """Read anew for each request, in its thread (``policy.site_policy``)."""

    delivery_mode = schema.Choice(
        title=_("Delivery of files and images"),
        description=_(
            "stream: as Plone does it. proxy: through Plone, but only what is asked for is fetched. "
            "redirect: browsers fetch from the object store themselves. "
            "x-accel: the nginx in front of Plone fetches from the object store."
        ),
        values=MODES,
        default="stream",
    )
    delivery_minimum_size = schema.Int(
        title=_("Smallest file"),
        description=_("In bytes. Smaller files are streamed."),
        min=0,
        default=0,
    )
    delivery_portal_types = schema.Tuple(
        title=_("Content types"),
        description=_("Files of content of other types are streamed. Empty: all types."),
        value_type=schema.TextLine(),
        required=False,
        default=(),
        missing_value=(),
    )
    delivery_mime_types = schema.Tuple(
        title=_("MIME types"),
        description=_("As video/mp4 or video/*. Other files are streamed. Empty: all."),
        value_type=schema.TextLine(),
        required=False,
        default=(),
        missing_value=(),
    )
    delivery_anonymous_only = schema.Bool(
        title=_("Visitors only"),
        description=_("Whether files are streamed to everybody who is logged in."),
        required=False,
        default=False,
    )
    delivery_expiry = schema.Int(
        title=_("Expiry"),
        description=_("In seconds: for how long an address in the object store is good at most."),
        min=60,
        max=604800,
        default=300,
    )
    delivery_media_expiry = schema.Int(
        title=_("Expiry for audio and video"),
        description=_("In seconds: a player asks for the next piece under the same address."),
        min=60,
        max=604800,
        default=3600,
    )
