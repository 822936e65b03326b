"""What zope.conf allows the site of a context, as its own database's storage knows it."""

from zope.component import getUtility

from ..interfaces import IBlobStorages
from ..storage.interfaces import IBlobAddresses


def bounds_of(context):
    """``DeliverySettings``; None where the site's database has no bucket. Makes no request."""
    storage = context._p_jar._storage
    return storage.delivery if IBlobAddresses.providedBy(storage) else None


def upload_bounds_of(context):
    """``UploadSettings``; None where the site's database has no bucket. Makes no request."""
    blobs = getUtility(IBlobStorages).for_context(context)
    return blobs.uploads().settings if blobs.available else None
