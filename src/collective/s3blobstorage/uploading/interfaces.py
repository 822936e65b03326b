"""The contract between the parts of direct upload in Plone: services, forms, policies of add-ons."""

from dataclasses import dataclass
from datetime import datetime

from ..directupload.interfaces import Upload


class UploadRefused(Exception):
    """This file may not be uploaded; the message is for the editor. ``kind``: a word for programs: ``too-large``,
    ``type``, ``quota``, ``filename``, ``policy``, …"""

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
