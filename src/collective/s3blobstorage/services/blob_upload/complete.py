"""``POST <container or content>/@blob-upload/<upload>``: what was uploaded becomes content."""

from plone.uuid.interfaces import IUUID

from ...errors import BlobMissing, ObjectMissing, PreconditionFailed
from ...uploading.completing import UploadEnded, complete
from ..refusal import Refusal
from .committing import mark
from .start import Start


class Post(Start):
    """Without the id of an upload it begins one.

    201 and Location of the content that was made; 200 where a file was replaced, and where this upload was completed
    before, with what it became. The body has values of the content's other fields, as plone.restapi takes them, and
    may be empty. Takes as long as the store needs to copy the bytes. Errors besides those of ``UploadService``:
    400 for values that are refused, in words, 403 and 404 as of content, and 409 where other bytes were sent after the
    check, or what was sent went meanwhile, which can be completed again.
    """

    def answer(self):
        return self.complete() if self.path else self.start()

    def complete(self):
        self.admitted()
        ticket = self.ticket(finished=True)
        mark(self.request)
        try:
            completed = complete(self.context, self.request, ticket, self.body())
        except UploadEnded:
            self.keeps = True
            raise
        except PreconditionFailed:
            raise Refusal(409, "Conflict", "the file was changed after it was checked") from None
        except BlobMissing:  # of what else was read of the database
            raise
        except ObjectMissing:
            why = "what was uploaded went while it was completed: another request completes it or cancels it; ask again"
            raise Refusal(409, "Conflict", why) from None
        obj, file = completed.obj, completed.file
        if completed.created:
            self.request.response.setStatus(201)
            self.request.response.setHeader("Location", obj.absolute_url())
        return {
            "@id": obj.absolute_url(),
            "UID": IUUID(obj),
            "@type": obj.portal_type,
            "title": obj.Title(),
            "field": completed.field,
            "filename": getattr(file, "filename", None),
            "size": None if file is None else file.getSize(),
            "content-type": getattr(file, "contentType", None),
        }
