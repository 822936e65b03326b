"""``GET <content>/@blob-legal-hold``: which of the item's files are held."""

from zope.component import getUtility

from ...interfaces import IBlobStorages
from ...legalhold.files import blobs_of, is_wanted
from ..about import BlobService


class GetHold(BlobService):
    """Asks the store two requests for each file, in the thread of the request.

    The permission is asked for on the item: nothing of another one is told or changed.
    """

    depth = 0

    def answer(self):
        return self.told(self.holds().of)

    def holds(self):
        return getUtility(IBlobStorages).for_context(self.context).holds()

    def told(self, ask):
        """``hold``: whether there is a file and each is held. ``behavior``: whether the item's own field wants it; null
        where its type has none."""
        items = []
        for name, oid in blobs_of(self.context):
            hold = ask(oid)
            items.append({"field": name, "hold": hold.held, "where": hold.where})
        return {
            "@id": f"{self.context.absolute_url()}/@blob-legal-hold",
            "hold": bool(items) and all(item["hold"] for item in items),
            "behavior": is_wanted(self.context),
            "items": items,
        }
