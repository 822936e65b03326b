"""From a file that came in a request through Zope to content: the normal way of the uploader.

What is asked is what direct upload asks, of the same modules: places, constraints, validators, invariants and required
fields, the first bytes. The bytes go from where Zope has them, which is a temporary file, by pieces to the blob.
"""

import os
from dataclasses import dataclass
from typing import Any

from plone.namedfile.interfaces import IStorage, NotStorable
from plone.namedfile.utils import get_contenttype
from zExceptions import Unauthorized
from zope.i18nmessageid import MessageFactory
from zope.interface import implementer

from ..services.blob_upload.start import announced_of
from ..services.refusal import Refusal
from ..uploading.completing import Completed, made
from ..uploading.interfaces import UploadRefused
from ..uploading.named import DirectFile
from ..uploading.policy import check_completed, check_filename, check_start
from ..uploading.sniff import LOOKS_AT, settled, sniffed
from .chosen import uploader_for
from .settings import DIRECT, direct_policy, mode_of
from .types import page_types

_ = MessageFactory("collective.s3blobstorage")

_PIECE = 1024 * 1024  # bytes


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request wants a file to become. "" where it does not say.

    ``portal_type``: of the content; "" is the type that such a file becomes by itself. ``field``: "" is the type's
    primary one. ``replaces``: whether the context is the content whose file is replaced.
    """

    portal_type: str = ""
    title: str = ""
    field: str = ""
    replaces: bool = False


@dataclass(frozen=True, slots=True)
class Arrived:
    """A file of a request: ``upload`` is Zope's ``FileUpload``, ``size`` its bytes."""

    upload: Any
    size: int

    @classmethod
    def of(cls, upload):
        return cls(upload, upload.seek(0, os.SEEK_END))

    def beginning(self):
        self.upload.seek(0)
        return self.upload.read(LOOKS_AT)


class SentFile(DirectFile):
    """Stands for the bytes of an ``Arrived``, as a ``DirectFile`` for what is in the store already."""

    def __init__(self, arrived, content_type, filename):
        super().__init__(arrived, None, content_type, filename)


@implementer(IStorage)
class SentFileStorable:
    """By pieces, from the beginning on: an attempt before a conflict has read the file."""

    def store(self, data, blob):
        if not isinstance(data, SentFile):
            raise NotStorable("Could not store data (not a SentFile).")
        source = data.staged.upload
        source.seek(0)
        with blob.open("w") as target:
            while piece := source.read(_PIECE):
                target.write(piece)


def make_of(context, request, upload, asked):
    """Make content of a file, or replace one: a ``Completed``.

    :param context: the container, or the content whose file is replaced
    :param upload: Zope's ``FileUpload``
    :param asked: an ``Asked``

    Where direct upload takes that type, the site's bounds of direct upload and the policies of add-ons hold this way
    too: the page tells editors one size and one list of types. In the request's thread, without a request to the store.
    Refusal and UploadRefused: then give the transaction up, or go back to a savepoint.
    """
    arrived = Arrived.of(upload)
    announced = announced_of(_said(context, upload, arrived, asked), context, request)
    if not uploader_for(announced.portal_type):
        raise UploadRefused(_("The uploader is off for this type of content."), "off")
    policy = direct_policy(context)
    direct = mode_of(announced.portal_type, policy) == DIRECT
    if direct:
        check_start(context, request, announced)
    elif not arrived.size:
        raise UploadRefused(_("The file is empty."), "empty")
    check_filename(announced.filename)
    seen = sniffed(arrived.beginning())
    content_type = settled(announced.content_type, seen)
    if direct:
        check_completed(context, request, announced, upload, seen)
    value = SentFile(arrived, content_type, announced.filename)
    values = {announced.field: value}
    if asked.title or not asked.replaces:
        values["title"] = asked.title or announced.filename
    try:
        obj = made(context, request, announced, values)
    except Unauthorized as error:
        raise Refusal(403, "Forbidden", str(error)) from None
    if value.value is None:
        # plone.restapi passes over what may not be written; and an add-on may make the values of such fields itself.
        raise Refusal(403, "Forbidden", f"the field {announced.field} does not take the file", field=announced.field)
    return Completed(obj, announced.field, created=not asked.replaces)


def _said(context, upload, arrived, asked):
    """The request as the body of ``@blob-upload`` says it."""
    content_type = (upload.headers.get("Content-Type") or "").partition(";")[0].strip().lower()
    if content_type == "application/octet-stream":  # browsers' word for what they do not know; Plone may by the name
        content_type = ""
    said = {
        "filename": upload.filename,
        "size": arrived.size,
        "content-type": content_type,
        "field": asked.field,
    }
    if asked.replaces:
        return said | {"replace": True}
    portal_type = asked.portal_type
    if not portal_type:
        types = list(page_types(context))
        portal_type = default_type(types, content_type or get_contenttype(filename=upload.filename))
        if types and not portal_type:
            raise UploadRefused(_("Nothing that may be added here takes such a file."), "type")
    return said | {"@type": portal_type}


def default_type(types, content_type):
    """The type that a file of this MIME type becomes where nobody says; "" where none takes it.

    ``types``: what ``page_types`` gave. A picture becomes the first whose field takes pictures only; all else the first
    whose field takes any file, and so do pictures where no type is for them.
    """
    picture = content_type.startswith("image/")
    fitting = [name for name, field in types if field.image == picture] or [
        name for name, field in types if not field.image
    ]
    return next(iter(fitting), "")
