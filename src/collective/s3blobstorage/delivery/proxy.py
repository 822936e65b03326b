"""``proxy``: the blob through Zope, but only the bytes that are asked for (RFC 9110, sections 13 and 14)."""

import secrets
import time

from . import conditions as rules
from .answer import drop, keep
from .body import Pieces, Slice, multipart, size_of, whole_file
from .ranges import NotSatisfiable, ranges_of


def proxied(request, revision, conditions):
    """The body of the response; its headers are completed from those that plone.namedfile has set.

    Raises what opening and the first bytes raise: BlobMissing, Unavailable, Refused, Corrupt.
    """
    response = request.response
    content_type = response.getHeader("Content-Type")
    etag = revision.etag(content_type, response.getHeader("Content-Disposition"))
    validators = {"ETag": etag, "Last-Modified": rules.http_date(revision.changed)}
    status = rules.status(conditions, etag, revision.changed)
    if status != 200:
        drop(response, "Content-Length", "Content-Type", "Content-Disposition")
        keep(response, status, validators)
        return ""
    reader = revision.open()
    try:
        return _read(request, reader, content_type, conditions, validators, revision.changed)
    except BaseException:
        reader.close()
        raise


def _read(request, reader, content_type, conditions, validators, changed):
    response, size = request.response, size_of(reader)
    wanted = rules.range_wanted(conditions, validators["ETag"], changed, time.time())
    try:
        # A range is of a GET only.
        ranges = ranges_of(wanted, size) if wanted and request.method == "GET" else None
    except NotSatisfiable:
        reader.close()
        drop(response, "Content-Length", "Content-Type", "Content-Disposition")
        keep(response, 416, {**validators, "Content-Range": f"bytes */{size}"})
        return ""
    if ranges is None:
        keep(response, 200, {**validators, "Content-Length": str(size)})
        if request.method == "HEAD":
            reader.close()
            return ""
        return _body(reader, [(0, size)])
    if len(ranges) == 1:
        [(start, end)] = ranges
        content_range = f"bytes {start}-{end - 1}/{size}"
        keep(response, 206, {**validators, "Content-Length": str(end - start), "Content-Range": content_range})
        return _body(reader, ranges)
    boundary = secrets.token_hex(16)
    body = Pieces(reader, multipart(size, ranges, content_type, boundary))
    of_many = {"Content-Length": str(len(body)), "Content-Type": f"multipart/byteranges; boundary={boundary}"}
    keep(response, 206, {**validators, **of_many})
    return body


def _body(reader, ranges):
    if whole_file(reader):
        return Slice(reader, *ranges[0])
    body = Pieces(reader, ranges)
    body.prepare()
    return body
