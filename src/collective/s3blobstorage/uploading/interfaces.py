"""The contract between the parts of direct upload in Plone: services, forms, policies of add-ons."""

from dataclasses import dataclass
from datetime import datetime

from zope import schema
from zope.i18nmessageid import MessageFactory
from zope.interface import Interface

from ..directupload.interfaces import Upload

_ = MessageFactory("collective.s3blobstorage")


class IUploadSettings(Interface):
    """What a site's owner decides about direct upload, in the registry; clamped to zope.conf's bounds at each use.

    A MB is 1024 * 1024 bytes, as in zope.conf.
    """

    upload_enabled = schema.Bool(
        title=_("Send files straight to the bucket"),
        description=_("The browser sends large files to the bucket itself, and goes on where a connection was lost."),
        default=False,
        required=False,
    )
    upload_maximum_size = schema.Int(
        title=_("Largest file, in MB"),
        description=_("0: as large as zope.conf allows."),
        default=0,
        min=0,
    )
    upload_portal_types = schema.Tuple(
        title=_("Content types that take uploads"),
        description=_("Empty: all types with a file or an image."),
        value_type=schema.ASCIILine(),
        default=(),
        missing_value=(),
        required=False,
    )
    upload_mime_types = schema.Tuple(
        title=_("Kinds of files that may be sent"),
        description=_("MIME types, as video/mp4 or image/*. Empty: all."),
        value_type=schema.ASCIILine(),
        default=(),
        missing_value=(),
        required=False,
    )
    upload_user_count = schema.Int(
        title=_("Unfinished uploads of one person"),
        description=_("How many at the same time."),
        default=50,
        min=1,
    )
    upload_user_size = schema.Int(
        title=_("Size of one person’s unfinished uploads, in MB"),
        description=_("Of all of them together. 102400 MB are 100 GB."),
        default=100 * 1024,
        min=1,
    )
    upload_site_size = schema.Int(
        title=_("Size of all unfinished uploads of the site, in MB"),
        description=_("Nobody begins another one beyond it."),
        default=1024 * 1024,
        min=1,
    )


class UploadRefused(Exception):
    """This file may not be uploaded; the message is for the editor. ``kind`` is a word for programs.

    Of the file: ``too-large``, ``empty``, ``type``, ``portal-type``, ``filename``, ``quota``, ``policy``, ``sha256``.
    Of the upload: ``token`` where there is none here, ``expired``, ``ended``, and ``off`` where this site takes none.
    """

    def __init__(self, message, kind="policy"):
        super().__init__(message)
        self.message = message
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Announced:
    """What a client says of a file. Nothing of it is believed, but what is uploaded has to be like it.

    :param size: bytes
    :param content_type: in lower case, without parameters
    :param portal_type: of the content that is to be added; of the content itself where its file is replaced
    :param field: name of the field, without its schema; "" where the type's primary field is meant
    :param replaces: UID of the content whose file is replaced; "" where content is added
    """

    filename: str
    size: int
    content_type: str
    portal_type: str
    field: str = ""
    replaces: str = ""


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a token binds together: the upload, who may go on with it, where, and until when.

    :param site: UID of the site, or its path
    :param container: UID of the container, or of the content whose file is replaced; "" of the site root
    """

    upload: Upload
    announced: Announced
    user: str
    database: str
    site: str
    container: str
    expires: datetime
