"""A page of ListObjectsV2, read without botocore's parser.

That one takes 100 to 200 µs for each object, most of it for the date, which it gives to a library that knows every form
of one: three minutes for a million objects. Here it is a tenth of that or less (figures:
docs/performance.md). The request, its retries and its errors stay botocore's: this is a handler of its event
``before-parse``, which leaves the parser nothing to do.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from xml.etree import ElementTree

from botocore.parsers import ResponseParserError
from botocore.utils import parse_timestamp

_ROOT = "ListBucketResult"
_BOOLEANS = {"true": True, "false": False}
_TEXTS = ("EncodingType", "NextContinuationToken", "Prefix")


def install(client: Any) -> None:
    # With an asterisk it comes before botocore's own handlers, of which one reads every answer that looks well, to see
    # whether it is an error after all.
    client.meta.events.register("before-parse.*.ListObjectsV2", _parse)


def _parse(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: Any) -> None:
    """What is put into the second is what the client returns. Errors are left to botocore."""
    if response_dict["status_code"] >= 300:
        return
    page = read_page(response_dict["body"])
    if page is not None:
        customized_response_dict.update(page)
        response_dict["body"] = b""


def read_page(body: bytes) -> dict[str, Any] | None:
    """The page as the client gives it, but members that nobody here reads. Keys are not decoded yet (EncodingType).
    None where it is S3's document of an error.

    Raises ResponseParserError for everything that is not a whole listing, which is more than botocore does: it takes
    a page of another kind, or without some member, for one that lacks it.
    """
    try:
        # As botocore: UTF-8, whatever the document says of itself.
        root = ElementTree.fromstring(body, ElementTree.XMLParser(encoding="utf-8"))
    except ElementTree.ParseError as error:
        raise ResponseParserError(f"no listing: {error}") from None
    if root.tag == "Error":
        return None
    space, bracket, name = root.tag.rpartition("}")
    if name != _ROOT:
        raise ResponseParserError("no listing")
    space += bracket
    truncated = _BOOLEANS.get((root.findtext(f"{space}IsTruncated") or "").strip())
    if truncated is None:
        raise ResponseParserError("a listing that does not say whether it goes on")
    page: dict[str, Any] = {"IsTruncated": truncated}
    for text in _TEXTS:
        found = root.findtext(space + text)
        if found is not None:
            page[text] = found
    contents = root.findall(f"{space}Contents")
    if contents:
        names = tuple(space + name for name in ("Key", "LastModified", "ETag", "Size", "StorageClass"))
        try:
            page["Contents"] = [_line(*map(each.findtext, names)) for each in contents]
        except (TypeError, ValueError, OverflowError):
            raise ResponseParserError("a listing with an object that lacks something") from None
    return page


def _line(
    key: str | None, modified: str | None, etag: str | None, size: str | None, storage: str | None
) -> dict[str, Any]:
    if not key or etag is None:
        raise ValueError
    line = {"Key": key, "LastModified": _time(modified), "ETag": etag, "Size": int(size)}  # type: ignore[arg-type]
    if storage:
        line["StorageClass"] = storage
    return line


def _time(text: Any) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            return moment
    except ValueError:
        pass
    return parse_timestamp(text)  # other forms, as botocore takes them; much slower
