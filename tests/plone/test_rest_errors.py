"""The status and JSON of each of the package's errors, as a service about a database answers it."""

from __future__ import annotations

import pytest

pytest.importorskip("plone.restapi")

from collective.s3blobstorage import errors  # noqa: E402
from collective.s3blobstorage.services.about import BlobService  # noqa: E402
from collective.s3blobstorage.services.refusal import Refusal, bad_field  # noqa: E402


class View:
    """What plone.rest's directive mixes in."""

    def __init__(self, context, request):
        self.context, self.request = context, request


class Service(BlobService, View):
    pass


class Response:
    def __init__(self):
        self.status, self.headers = 200, {}

    def getStatus(self):
        return self.status

    def setStatus(self, status):
        self.status = status

    def setHeader(self, name, value):
        self.headers[name] = value


class Request(dict):
    def __init__(self, **values):
        super().__init__(values)
        self.response = Response()
        self._rest_cors_preflight = False


def answered(error):
    class Raising(Service):
        def answer(self):
            raise error

    request = Request()
    told = Raising(None, request).reply()
    assert request.response.headers["Cache-Control"] == "no-store"
    return request.response.status, told["error"]


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (errors.Unavailable("The object store is out."), 503, "ServiceUnavailable"),
        (errors.Refused("The object store refuses."), 502, "BadGateway"),
        (errors.Corrupt("Other bytes."), 502, "BadGateway"),
        (errors.ConfigurationError("owner is not set. Example: owner x"), 409, "Conflict"),
        (errors.UnsafeError("too many would go"), 409, "Conflict"),
        (errors.RecordError("of a newer release"), 500, "InternalError"),
        (Refusal(404, "NotFound", "there is no such job"), 404, "NotFound"),
    ],
)
def test_an_error_has_a_status_and_its_sentence(error, status, kind):
    assert answered(error) == (status, {"type": kind, "message": str(error)})


def test_a_field_is_named():
    assert answered(bad_field("plan", "is missing"))[1] == {
        "type": "BadRequest",
        "message": "plan is missing",
        "field": "plan",
    }


def test_what_is_a_mistake_of_ours_goes_through():
    with pytest.raises(ZeroDivisionError):
        answered(ZeroDivisionError())


@pytest.mark.parametrize(
    ("query", "window"),
    [("", (0, 25)), ("b_start=5", (5, 25)), ("b_size=1000", (0, 1000)), ("b_start=1&b_start=2&b_size=3", (2, 3))],
)
def test_the_window(query, window):
    assert Service(None, Request(QUERY_STRING=query)).window() == window


@pytest.mark.parametrize("query", ["b_start=-1", "b_start=+1", "b_start=1.0", "b_start=", "b_size=0", "b_size=1001",
                                   "b_start=%C2%B2", "b_start=%D9%A1", "b_start=" + "1" * 19])  # fmt: skip
def test_what_is_no_window(query):
    with pytest.raises(Refusal) as raised:
        Service(None, Request(QUERY_STRING=query)).window()
    assert raised.value.status == 400 and raised.value.more["field"] in ("b_start", "b_size")


def test_the_body_has_no_say_in_the_database():
    request = Request(QUERY_STRING="database=main", form={"database": "other"}, BODY=b'{"database": "other"}')
    assert Service(None, request).query == {"database": "main"}


@pytest.mark.parametrize("body", [b"[" * 100_000, b"{", b"[]", b"1", b"\xff\xfe"])
def test_a_body_that_is_no_object(body):
    with pytest.raises(Refusal) as raised:
        Service(None, Request(BODY=body)).body()
    assert raised.value.status == 400
