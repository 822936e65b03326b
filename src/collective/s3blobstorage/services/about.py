"""What the services about a database have in common: whose database it is, who may ask, and what errors say."""

import json
from urllib.parse import parse_qs, quote

from plone.restapi.batching import DEFAULT_BATCH_SIZE, HypermediaBatch
from plone.restapi.services import Service
from zExceptions import NotFound
from zope.component import getUtility
from zope.interface import implementer
from zope.publisher.interfaces import IPublishTraverse

from ..delivery.answer import keep
from ..errors import ConfigurationError, S3BlobStorageError, StoreError, Unavailable, UnsafeError
from ..interfaces import IBlobStorages
from ..permissions import may_operate
from .guard import guard
from .refusal import Refusal, bad_field

MOST_AT_ONCE = 1000  # items of one answer: a page of them is written in the memory of the process


def refusal_of(error):
    """The ``Refusal`` that says it, of an error of this package."""
    if isinstance(error, Unavailable):
        return Refusal(503, "ServiceUnavailable", str(error))
    if isinstance(error, StoreError):
        return Refusal(502, "BadGateway", str(error))
    if isinstance(error, (ConfigurationError, UnsafeError)):
        return Refusal(409, "Conflict", str(error))
    return Refusal(500, "InternalError", str(error))


@implementer(IPublishTraverse)
class BlobService(Service):
    """A service of a site about one database's blobs: the site's own, or that of ``?database=``.

    In the thread of the request. ``answer`` makes the body; what it raises of this package's errors becomes a status:
    409 with the reason where something is not configured, runs already, or is not safe, 503 where the store is out, 502
    where it does not do what was asked.
    """

    depth = 1  # how many names may follow the service's own

    def __init__(self, context, request):
        super().__init__(context, request)
        self.path = []

    def publishTraverse(self, request, name):
        if len(self.path) == self.depth:
            raise NotFound(self, name, request)
        self.path.append(name)
        return self

    def reply(self):
        response = self.request.response
        told = self._answer_or_error(response)
        # Good for this user only, and for now. plone.app.caching would have its own say later.
        keep(response, response.getStatus(), {"Cache-Control": "no-store", "Expires": None, "ETag": None})
        return told

    def _answer_or_error(self, response):
        try:
            return self.answer()
        except Refusal as refusal:
            told = refusal
        except S3BlobStorageError as error:
            told = refusal_of(error)
        return told.translated(self.request).answer(response)

    @property
    def query(self):
        """The parameters of the address, the last of each. Not Zope's form, in which a body may have a say."""
        found = parse_qs(self.request.get("QUERY_STRING") or "", keep_blank_values=True)
        return {name: values[-1] for name, values in found.items()}

    @property
    def blobs(self):
        storages = getUtility(IBlobStorages)
        name = self.query.get("database")
        return storages.for_context(self.context) if name is None else storages.get(name)

    def found(self, blobs):
        """Raises Refusal where zope.conf has no database of that name; only for whoever may operate all of them."""
        if not blobs.name:
            raise Refusal(404, "NotFound", blobs.reason)
        return blobs

    def operated(self):
        """The blobs, for whoever may operate them. Raises Refusal. Names that there are not are refused alike."""
        blobs = self.blobs
        if not may_operate(self.context, blobs):
            raise Refusal(
                403,
                "Forbidden",
                "this concerns a whole database, and needs the permission "
                '"collective.s3blobstorage: Operate" at the application root (site-operations in zope.conf)',
            )
        return self.found(blobs)

    def to_change(self):
        """The same for a request that changes something, which the guard has let through."""
        blobs = self.operated()
        guard(self.request, self.context)
        return blobs

    def url(self, *path):
        """Below the site, with the database that was asked for."""
        database = self.query.get("database")
        query = "" if database is None else f"?database={quote(database)}"
        return "/".join([self.context.absolute_url(), *path]) + query

    def body(self):
        """The JSON object of the request; empty where there is no body."""
        raw = self.request.get("BODY") or b""
        if not raw.strip():
            return {}
        try:
            body = json.loads(raw)
        except (ValueError, RecursionError):
            raise Refusal(400, "BadRequest", "the body is no JSON") from None
        if not isinstance(body, dict):
            raise Refusal(400, "BadRequest", "the body is no JSON object")
        return body

    def window(self):
        """(start, size) of the items that are asked for, of ``b_start`` and ``b_size``."""
        return self._count("b_start", 0, 0, None), self._count("b_size", DEFAULT_BATCH_SIZE, 1, MOST_AT_ONCE)

    def _count(self, name, default, least, most):
        text = self.query.get(name)
        if text is None:
            return default
        if not text.isdecimal() or not text.isascii() or len(text) > 18:
            raise bad_field(name, "is no whole number")
        if int(text) < least or (most is not None and int(text) > most):
            raise bad_field(name, f"is below {least}" if most is None else f"is not from {least} to {most}")
        return int(text)

    def batched(self, items, total):
        """``items`` of all ``total`` as plone.restapi batches them: @id, items_total, items, batching where needed."""
        batch = HypermediaBatch(self.request, Window(items, total))
        answer = {"@id": batch.canonical_url, "items_total": batch.items_total, "items": items}
        if batch.links:
            answer["batching"] = batch.links
        return answer


class Window(list):
    """Some of many items, in the form in which plone.batching takes a sequence that is not here as a whole."""

    def __init__(self, items, total):
        super().__init__(items)
        self.actual_result_count = total
