"""``POST <container or content>/@blob-upload``: begins an upload."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from plone.namedfile.utils import get_contenttype
from zope.i18nmessageid import MessageFactory

from ...errors import ConfigurationError
from ...uploading.dropping import drop_after_abort
from ...uploading.interfaces import Announced, Ticket, UploadRefused
from ...uploading.places import container_id, current_site, field_for, site_id
from ...uploading.policy import check_start, site_policy
from ...uploading.token import sign
from ..refusal import Refusal, bad_field
from .requests import FIRST_PARTS, SINGLE, only_known, part_requests, single_request, upload_told
from .upload import UploadService

_ = MessageFactory("collective.s3blobstorage")

NAMES = ("filename", "size", "content-type", "@type", "replace", "field", "sha256", "method")
METHODS = (*SINGLE, "multipart")
_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,126}/[a-z0-9][a-z0-9!#$&^_.+-]{0,126}")


class Start(UploadService):
    """201, the upload, and the first signed requests. Nothing is begun before everything that can be asked was."""

    def start(self):
        user = self.admitted()
        body = self.body()
        only_known(body, NAMES)
        announced = announced_of(body, self.context, self.request)
        method, sha256 = _method_of(body), sha256_of(body)
        ticket, token = self.begun(user, announced, method, sha256)
        told = upload_told(self, token, ticket)
        if ticket.upload.multipart:
            numbers = range(1, min(ticket.upload.parts, FIRST_PARTS) + 1)
            told |= {"method": "multipart", "requests": part_requests(self.context, self.area, ticket, numbers)}
        else:
            method = method or "put"
            told |= {"method": method, "request": single_request(self.context, self.area, ticket, method)}
        self.request.response.setStatus(201)
        self.request.response.setHeader("Location", told["@id"])
        return told

    def begun(self, user, announced, method=None, sha256=None, *, by_id=False):
        """Begin an upload in the store and in the register: its ticket and its token.

        At most one request to the store, after everything that can be asked without it: policies, and how much the user
        has open. What was begun is dropped where the transaction is aborted.

        :param by_id: whether the client is not told the token, and names the upload by its id
        """
        check_start(self.context, self.request, announced)
        area, uploads = self.area, self.uploads
        limits = site_policy(area.settings)
        uploads.check(user, announced.size, limits)
        each = self.part_size_of(announced.size)
        try:
            upload = area.begin(announced.size, single=None if method is None else method in SINGLE, sha256=sha256)
        except ConfigurationError:  # a ValueError too, of which no field of the body is the cause
            raise
        except ValueError as error:  # more than one request can take: the policy has seen to all else
            raise bad_field("method" if method in SINGLE else "size", f"does not fit: {error}") from None
        if upload.multipart:
            drop_after_abort(area, upload)
        if each and upload.multipart:
            upload = replace(upload, part_size=each)
        ticket = Ticket(
            upload,
            announced,
            user,
            self.blobs.name,
            site_id(current_site()),
            container_id(self.context),
            datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=area.settings.expiry),
        )
        try:
            token = sign(ticket)
        except ValueError as error:
            raise Refusal(400, "BadRequest", str(error)) from None
        uploads.begin(ticket, limits, token=token if by_id else None)
        return ticket, token

    def part_size_of(self, size):
        """Bytes of each part where the client cuts such a file by itself; None where it is told how. Raises Refusal."""
        return None


def announced_of(body, context, request):
    """What a body says of a file, for a place where this user may have it. Raises Refusal and UploadRefused."""
    filename, size = _text_of(body, "filename"), body.get("size")
    if type(size) is not int:
        raise bad_field("size", "is no number of bytes")
    name = _text_of(body, "field", "")
    replaces = body.get("replace", False)
    if type(replaces) is not bool:
        raise bad_field("replace", "is neither true nor false")
    if replaces and "@type" in body:
        raise bad_field("@type", "is that of the content whose file is replaced: leave it out")
    portal_type = context.portal_type if replaces else _text_of(body, "@type")
    field = field_for(context, request, portal_type, name, replaces=replaces)
    content_type = _content_type_of(body, filename)
    if field.image and not content_type.startswith("image/"):
        raise UploadRefused(_("Only pictures can be uploaded here."), "type")
    return Announced(filename, size, content_type, portal_type, field.name, container_id(context) if replaces else "")


def _content_type_of(body, filename):
    """As browsers say it; where they do not know it, what Plone takes the name of the file for."""
    said = _text_of(body, "content-type", "").partition(";")[0].strip().lower()
    content_type = said or get_contenttype(filename=filename)
    if not _TYPE.fullmatch(content_type):
        raise bad_field("content-type", "is no MIME type, such as video/mp4")
    return content_type


def _method_of(body):
    method = body.get("method")
    if method is not None and method not in METHODS:
        raise bad_field("method", f"is none of {', '.join(METHODS)}")
    return method


def sha256_of(body):
    if "sha256" not in body:
        return None
    text = _text_of(body, "sha256")
    if not re.fullmatch("[0-9a-fA-F]{64}", text):
        raise bad_field("sha256", "is not of 64 hex digits")
    return bytes.fromhex(text)


def _text_of(body, name, default=None):
    value = body.get(name, default)
    if not isinstance(value, str):
        raise bad_field(name, "is missing" if value is None else "is no text")
    return value
