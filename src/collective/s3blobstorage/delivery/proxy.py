"""``proxy``: the blob through Zope, but only the bytes that are asked for (RFC 9110, section 14)."""

import secrets

from .answer import drop, keep
from .body import Pieces, Slice, multipart, size_of, whole_file
from .ranges import NotSatisfiable, ranges_of
from .validators import OF_A_BODY, validators_of, wanted_range


def proxied(request, revision, conditions):
    """The body of the response; its headers are completed from those that plone.namedfile has set.

    Raises what opening and the first bytes raise: BlobMissing, Unavailable, Refused, Corrupt.
    """
    reader = revision.open()
    try:
        return _read(request, reader, revision, conditions)
    except BaseException:
        reader.close()
        raise


def _read(request, reader, revision, conditions):
    response, size = request.response, size_of(reader)
    content_type = response.getHeader("Content-Type")
    validators = validators_of(response, revision)
    wanted = wanted_range(request, revision, conditions)
    try:
        ranges = ranges_of(wanted, size) if wanted else None
    except NotSatisfiable:
        reader.close()
        drop(response, *OF_A_BODY)
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
