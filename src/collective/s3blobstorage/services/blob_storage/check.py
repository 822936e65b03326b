"""``POST <site>/@blob-storage/check``"""

from zExceptions import NotFound

from ..about import BlobService


class Check(BlobService):
    """Looks whether the store can be used as zope.conf says, now, and answers with what was found.

    Writes and deletes a few small objects. Takes seconds, in the thread of the request.
    """

    def answer(self):
        if self.path != ["check"]:
            raise NotFound(self, "/".join(self.path), self.request)
        return {"@id": self.url("@blob-storage"), "check": self.to_change().status().check()}
