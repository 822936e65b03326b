"""``GET <site>/@blob-storage[?database=NAME]``"""

from zope.component import getUtility

from ...interfaces import IBlobStorages
from ...permissions import may_view, status_for
from ..about import BlobService
from ..refusal import Refusal


class Status(BlobService):
    """The status as ``permissions.status_for`` gives it to this user, and ``databases``: those that he may ask for.

    The keys that encrypt are batched: ``encryption`` has those of the batch, ``keys_total`` how many there are. Waits
    for the store as ``IStatus.document`` does.
    """

    depth = 0

    def answer(self):
        blobs = self.blobs
        told = status_for(self.context, blobs)
        if told is None:
            raise Refusal(403, "Forbidden", "this database has no site of yours")
        self.found(blobs)
        answer = {"@id": self.url("@blob-storage"), **told, "databases": self._databases()}
        encryption = told["encryption"]
        if encryption and encryption.get("keys") is not None:
            start, size = self.window()
            keys = encryption["keys"]
            batch = self.batched(keys[start : start + size], len(keys))
            answer["encryption"] = encryption | {"keys": batch["items"], "keys_total": batch["items_total"]}
            if "batching" in batch:
                answer["batching"] = batch["batching"]
        return answer

    def _databases(self):
        base = f"{self.context.absolute_url()}/@blob-storage?database="
        return [
            {"@id": base + name, "name": name, "available": blobs.available}
            for name, blobs in getUtility(IBlobStorages).all()
            if may_view(self.context, blobs)
        ]
