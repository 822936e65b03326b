"""What somebody chose about direct upload: read, and judged by the schema and by what zope.conf allows. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..settings import MB, UploadSettings
from ..uploading.interfaces import IUploadSettings
from .chosen import read_lists, read_number
from .messages import _

LARGEST = "upload_maximum_size"
NUMBERS = (LARGEST, "upload_user_count", "upload_user_size", "upload_site_size")


def why_not(bounds: UploadSettings | None) -> Any:
    """Why direct upload cannot be switched on, as a message; "" where it can.

    ``bounds``: None where there is no bucket.
    """
    if bounds is None:
        return _("The files of this site are not in a bucket.")
    if not bounds.allowed:
        return _("zope.conf forbids it: set direct-upload on.")
    return ""


def largest(bounds: UploadSettings | None) -> int | None:
    """MB that zope.conf allows for one file, rounded down; None where there is no bucket."""
    return None if bounds is None else bounds.most_size // MB


def too_large(number: int, bounds: UploadSettings | None) -> Any:
    """What is wrong with a largest file of so many MB, by zope.conf; "" where nothing is."""
    most = largest(bounds)
    if most is None or number <= most:
        return ""
    return _("zope.conf allows ${most} at most (direct-upload-max-size).", mapping={"most": most})


def read(
    form: Mapping[str, Any], bounds: UploadSettings | None, types: Iterable[str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """(values by the names of ``IUploadSettings``, messages by the same names), as ``chosen.read``.

    Nothing is read where direct upload cannot be switched on: browsers do not send what is disabled.
    """
    values: dict[str, Any] = {}
    wrong: dict[str, Any] = {}
    if why_not(bounds):
        return values, wrong
    for name in NUMBERS:
        number, trouble = read_number(IUploadSettings[name], form.get(name))
        if not trouble and name == LARGEST:
            trouble = too_large(number, bounds)
        if trouble:
            wrong[name] = trouble
        else:
            values[name] = number
    read_lists(form, "upload", types, values, wrong)
    values["upload_enabled"] = bool(form.get("upload_enabled"))
    return values, wrong
