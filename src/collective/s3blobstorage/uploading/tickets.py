"""Whose upload it is, and whether it is still open: asked by the services, and by forms that complete an upload."""

from zope.component import getUtility
from zope.i18nmessageid import MessageFactory

from ..interfaces import IBlobStorages
from .interfaces import UploadRefused
from .open_uploads import OpenUploads
from .places import container_id, current_site, current_user, site_id
from .policy import site_policy

_ = MessageFactory("collective.s3blobstorage")

NOT_HERE = _("There is no such upload here.")


def check_ticket(ticket, context, *, finished=False, off=False):
    """Raise UploadRefused where that ticket is of no use for this user, at this place, now.

    :param context: the container, or the content whose file is replaced
    :param finished: whether an upload that has become content is good too
    :param off: whether it is good where direct upload is off by now

    Of kind ``token`` for somebody else's, as for what is none; ``off``, and ``ended``. Refusal for nobody; and
    ConfigurationError where there is no bucket. In the request's thread; no request to the store.
    """
    blobs = getUtility(IBlobStorages).for_context(context)  # of the context's database, whatever an address says
    here = (current_user(), blobs.name, site_id(current_site()), container_id(context))
    if (ticket.user, ticket.database, ticket.site, ticket.container) != here:
        raise UploadRefused(NOT_HERE, "token")
    if not off:
        if not site_policy(blobs.uploads().settings).enabled:
            raise UploadRefused(_("Files are not uploaded directly to the store in this site."), "off")
    uploads = OpenUploads(current_site())
    if not (finished and uploads.result(ticket.upload.id)):
        uploads.check_open(ticket.upload.id)
