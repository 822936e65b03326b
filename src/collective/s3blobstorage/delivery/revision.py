"""The committed blob revision behind a file: where it lies, and its bytes."""

import hashlib

from persistent.TimeStamp import TimeStamp
from plone.namedfile.interfaces import IBlobby
from ZODB.blob import SAVEPOINT_SUFFIX

from ..storage.interfaces import IBlobAddresses


class Revision:
    """One revision, as the request's connection sees it. ``address`` is None where the bucket does not have it for
    certain; ``bounds`` are zope.conf's, None where it has no <s3blobstorage>."""

    def __init__(self, blob, address, bounds, holder_tid):
        self._blob = blob
        self._holder_tid = holder_tid
        self.address = address
        self.bounds = bounds
        self._tid = address.tid if address is not None else blob._p_serial

    def open(self):
        """A reader of the bytes, which the caller closes. Usable after the end of the request: mode ``c`` ties it to
        no object of a connection that another thread has by then.

        Raises BlobMissing (a POSKeyError); what is not in the cache is asked for by reading.
        """
        self._blob._p_activate()  # a ghost does not know its file
        return self._blob.open("c")

    @property
    def changed(self):
        """When, in seconds since 1970: the bytes, or what is said of them."""
        return max(TimeStamp(tid).timeTime() for tid in (self._tid, self._holder_tid))

    def etag(self, *headers):
        """Strong: of the bytes and of ``headers``, so that the same bytes under another type are something else.

        A hash: the oid is a part of the object's key.
        """
        parts = [self._blob._p_oid, self._tid, *((header or "").encode() for header in headers)]
        digest = hashlib.sha256(b"\0".join(parts)).hexdigest()
        return f'"{digest[:32]}"'


def revision_of(file):
    """None where plone.namedfile has to give it: no blob, or one that is not committed.

    Loads no blob where the storage tells its address.
    """
    if not IBlobby.providedBy(file):
        return None
    blob = file._blob
    if blob._p_jar is None or blob._p_blob_uncommitted:
        return None
    storage = blob._p_jar._storage
    address = bounds = None
    if IBlobAddresses.providedBy(storage):
        address, bounds = storage.address(blob._p_oid), storage.delivery
    if address is None:
        blob._p_activate()
        committed = blob._p_blob_committed
        if not committed or committed.endswith(SAVEPOINT_SUFFIX):
            return None
    elif address.size is not None:
        # As its own property ``size`` does, which opens the blob for that.
        vars(file).setdefault("size", address.size)
    return Revision(blob, address, bounds, file._p_serial)
