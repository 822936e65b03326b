"""``<container or content>/@blob-upload/companion/s3/…``: the protocol of Uppy's ``@uppy/aws-s3`` with a Companion.

Source: ``packages/@uppy/companion/src/server/controllers/s3.js`` and ``@uppy/aws-s3/src/s3-client/CompanionS3.ts`` of
Uppy 6.3; that of Uppy 5 is the same. Uppy's ``uploadId`` is our token; its ``key`` is the upload's id, which says
nothing, and is compared.

The rules are those of the other verbs; three things are Uppy's:

- Uppy tells the size only where a page puts it into the metadata of the file. Every URL is signed for an exact length,
  so without it nothing begins.
- Uppy cuts files by itself, and is not told how: the parts are what it will send.
- Uppy sends neither header nor body with GET and DELETE. A GET about an upload signs URLs and changes nothing; DELETE
  is sent by no foreign page without CORS. Both are refused where the browser says that the page is another origin's.

An upload in one request begins by a GET (``s3/params``), for which a browser has to say that it is a script of the site
that asks (``guard_get_of_script``). It ends in this protocol without a word to the server: the page completes it by its
id, the last segment of the ``key`` that Uppy tells it, as ``POST …/@blob-upload/<id>``.
"""

from ...objectstore.parts import MAX_PARTS
from ...settings import GB, MB
from ...uploading.interfaces import UploadRefused
from ...uploading.places import current_user
from ...uploading.tickets import NOT_HERE
from ..guard import guard_get_of_script, guard_without_body, refuse_foreign
from ..refusal import Refusal, bad_field
from .complete import Post
from .requests import MOST_PARTS, part_requests, single_request
from .start import Start, announced_of, sha256_of
from .upload import UploadService

SMALLEST_PART, LARGEST_PART = 5 * MB, 5 * GB  # what S3 takes; Uppy sends no smaller ones either
NO_SIZE = (
    "is missing: each request is signed for its size. uppy.on('file-added', (file) => uppy.setFileMeta(file.id,"
    " { size: file.size })), with size among allowedMetaFields"
)
NO_TYPE = "is missing: uppy.setMeta({ '@type': 'File' }), with @type among allowedMetaFields"


class Companion(UploadService):
    """What the verbs have in common. ``path`` begins behind ``companion``."""

    depth = 4

    def named(self, *names):
        """The names of the path that stand where ``names`` has None; None where it is another path."""
        if len(self.path) != len(names):
            return None
        if any(name is not None and name != given for name, given in zip(names, self.path, strict=True)):
            return None
        return [given for name, given in zip(names, self.path, strict=True) if name is None]

    def ticket_of(self, token, **options):
        """The ticket, for whoever names the key that belongs to it; that of an upload in parts."""
        ticket = self.ticket(token, **options)
        if self.query.get("key") != ticket.upload.id or not ticket.upload.multipart:
            raise UploadRefused(NOT_HERE, "token")
        return ticket

    def not_found(self):
        return Refusal(404, "NotFound", "the protocol of Companion has no such address")


class CompanionGet(Companion, Start):
    """The parts that the store has, and URLs for others: one listing of the store, or no request. And the form of an
    upload in one request, which it begins."""

    def answer(self):
        user = current_user()
        if self.named("s3", "params") is not None:
            guard_get_of_script(self.request, self.context)
            return self.form(user)
        refuse_foreign(self.request, self.context)
        if found := self.named("s3", "multipart", None):
            return self.parts(*found)
        if found := self.named("s3", "multipart", None, "batch"):
            return self.batch(*found)
        if found := self.named("s3", "multipart", None, None):
            return self.part(*found)
        raise self.not_found()

    def form(self, user):
        asked = self.query
        # All of it is text; "null" is what Uppy makes of a value that the page took away again.
        metadata = {
            name[len("metadata[") : -1]: value
            for name, value in asked.items()
            if name.startswith("metadata[") and name.endswith("]") and value not in ("null", "undefined")
        }
        ours = _announced(asked, metadata)
        announced = announced_of(ours, self.context, self.request)
        ticket, _token = self.begun(user, announced, "post", sha256_of(ours), by_id=True)
        request = single_request(self.context, self.area, ticket, "post")
        return {name: request[name] for name in ("method", "url", "fields")}

    def parts(self, token):
        ticket = self.ticket_of(token)
        self.check_place(ticket.announced)
        # Uppy sends a part again that has no ETag, as those of a file that was put together; nothing asks for ours.
        return [
            {"PartNumber": part.number, "Size": part.size, "ETag": part.etag or ticket.upload.id}
            for part in self.area.arrived(ticket.upload)
        ]

    def part(self, token, number):
        return {"url": self.urls(token, [number])[number]}

    def batch(self, token):
        return {"presignedUrls": self.urls(token, (self.query.get("partNumbers") or "").split(","))}

    def urls(self, token, numbers):
        """URLs by their part's number. The exact length of each part is signed; a browser sets that header itself."""
        ticket = self.ticket_of(token)
        self.check_place(ticket.announced)
        parts = ticket.upload.parts
        if len(numbers) > MOST_PARTS or not all(_is_number(number, parts) for number in numbers):
            raise bad_field("partNumber", f"is no number from 1 to {parts}, or these are more than {MOST_PARTS}")
        requests = part_requests(self.context, self.area, ticket, [int(number) for number in numbers])
        return dict(zip(numbers, (request["url"] for request in requests), strict=True))


class CompanionPost(Companion, Post):
    """Begins an upload in parts, and completes it into content."""

    part_size = None  # bytes, as Uppy is set to send them
    values = None  # of other fields of the content: Uppy's body has none

    def answer(self):
        if self.named("s3", "multipart") is not None:
            return self.begin()
        if found := self.named("s3", "multipart", None, "complete"):
            return self.finish(*found)
        raise self.not_found()

    def begin(self):
        user, body = self.admitted(), self.body()
        metadata = body.get("metadata") or {}
        if not isinstance(metadata, dict):
            raise bad_field("metadata", "is no object")
        self.part_size = _number(metadata, "part-size") if "part-size" in metadata else None
        ours = _announced(body, metadata)
        announced = announced_of(ours, self.context, self.request)
        ticket, token = self.begun(user, announced, "multipart", sha256_of(ours))
        return {"key": ticket.upload.id, "uploadId": token}

    def part_size_of(self, size):
        each = self.part_size or max(SMALLEST_PART, -(-size // MAX_PARTS))  # S3Uploader.ts, #getChunkSize
        if not SMALLEST_PART <= each <= LARGEST_PART or -(-size // each) > MAX_PARTS:
            raise bad_field("part-size", f"is not from {SMALLEST_PART} to {LARGEST_PART}, or makes over {MAX_PARTS}")
        return each

    def finish(self, token):
        """The parts that Uppy names are not asked for: the store's own list counts."""
        self.admitted()
        ticket = self.ticket_of(token, finished=True)
        self.path, self.values = [token], {}
        told = self.complete()
        self.request.response.setStatus(200)
        return {"location": told["@id"], "key": ticket.upload.id}

    def body(self):
        return super().body() if self.values is None else self.values


class CompanionDelete(Companion):
    """As ``Abort``, with an answer that Uppy takes."""

    def answer(self):
        current_user()
        guard_without_body(self.request, self.context)
        found = self.named("s3", "multipart", None)
        if not found:
            raise self.not_found()
        ticket = self.ticket_of(*found, off=True)
        self.area.drop(ticket.upload)
        self.uploads.end(ticket.upload.id)
        return {}


def _announced(body, metadata):
    """What Uppy says, as our own ``POST`` takes it."""
    if metadata.get("size") is None:
        raise bad_field("metadata.size", NO_SIZE)
    if not metadata.get("@type") and not metadata.get("replace"):
        raise bad_field("metadata.@type", NO_TYPE)
    sent = {name: metadata[name] for name in ("@type", "field", "replace", "sha256") if metadata.get(name) is not None}
    if sent.get("replace") in ("true", "false"):  # Uppy 5 makes text of all metadata
        sent["replace"] = sent["replace"] == "true"
    sent |= {"filename": body.get("filename"), "size": _number(metadata, "size")}
    # For files that a browser does not know Uppy says this one; Plone may know them by their names.
    if body.get("type") and body["type"] != "application/octet-stream":
        sent["content-type"] = body["type"]
    return sent


def _number(metadata, name):
    value = metadata[name]
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= 18:
        return int(value)
    if type(value) is not int:
        raise bad_field(f"metadata.{name}", "is no number of bytes")
    return value


def _is_number(text, most):
    return text.isascii() and text.isdecimal() and len(text) <= 5 and 1 <= int(text) <= most
