"""ETag and Last-Modified of a response, and what a request's conditions make of it, where Zope answers for the file."""

import time

from . import conditions as rules
from .answer import drop, keep

OF_A_BODY = ("Content-Length", "Content-Type", "Content-Disposition")


def validators_of(response, revision):
    """The headers; plone.namedfile's own are set already, and are part of what the ETag stands for."""
    etag = revision.etag(response.getHeader("Content-Type"), response.getHeader("Content-Disposition"))
    return {"ETag": etag, "Last-Modified": rules.http_date(revision.changed)}


def answered(request, revision, conditions):
    """Whether no body is needed: 304 and 412, which are then set."""
    response = request.response
    validators = validators_of(response, revision)
    status = rules.status(conditions, validators["ETag"], revision.changed)
    if status == 200:
        return False
    drop(response, *OF_A_BODY)
    keep(response, status, validators)
    return True


def wanted_range(request, revision, conditions):
    """The ``Range`` that is to be answered, or None. It is of a GET only."""
    if request.method != "GET":
        return None
    etag = validators_of(request.response, revision)["ETag"]
    return rules.range_wanted(conditions, etag, revision.changed, time.time())
