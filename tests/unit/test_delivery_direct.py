"""Redirects: what is signed, and that a store which cannot sign changes nothing in the response."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from ZPublisher.HTTPResponse import WSGIResponse

from collective.s3blobstorage.delivery import direct
from collective.s3blobstorage.delivery.answer import set_what_was_kept
from collective.s3blobstorage.delivery.conditions import Conditions
from collective.s3blobstorage.delivery.seldom import Seldom
from collective.s3blobstorage.errors import ConfigurationError, Refused, Unavailable
from collective.s3blobstorage.objectstore.presigned import Presigned
from collective.s3blobstorage.settings import DeliverySettings

NONE = Conditions()


class Signer:
    """A store that signs, or raises; ``left``: seconds after which its credentials end."""

    def __init__(self, raises=None, left=10_000):
        self.calls, self.raises, self.left = [], raises, left

    def presign_get(self, key, **arguments):
        self.calls.append({"key": key, **arguments})
        if self.raises:
            raise self.raises
        until = datetime.now(UTC) + timedelta(seconds=min(self.left, arguments["seconds"]))
        return Presigned("GET", f"https://s3.example.org/bucket/{key}?X-Amz-Signature=abc&b=%2F", until)


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """Of the log's lines, one a minute."""
    now = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(direct, "_seldom", Seldom(direct.logger, clock=lambda: now.seconds))
    return now


@pytest.fixture
def request_():
    response = WSGIResponse()
    response.setHeader("Content-Type", "video/mp4")
    response.setHeader("Content-Length", "1000")
    response.setHeader("Content-Disposition", "attachment; filename*=UTF-8''a.mp4")
    response.setHeader("Accept-Ranges", "bytes")
    return SimpleNamespace(response=response, method="GET")


class Stored:
    """A revision in a bucket."""

    changed = 1_700_000_000.0
    key = "blobs/1/2"

    def __init__(self, store):
        delivery = DeliverySettings(x_accel_location="/s3blobs")
        self.address = SimpleNamespace(store=store, key=self.key, delivery=delivery)

    def etag(self, *headers):
        return '"abc"'


def directly(mode, request, store, public=True, conditions=NONE):
    if mode == "redirect":
        return direct.redirected(request, Stored(store), 300, public)
    return direct.x_accelerated(request, Stored(store), 300, public, conditions)


@pytest.mark.parametrize("mode", ["redirect", "x-accel"])
@pytest.mark.parametrize("error", [Unavailable("out"), Refused("no"), ConfigurationError("customer key")])
def test_where_nothing_can_be_signed_the_response_is_as_it_was(request_, mode, error, caplog, clock):
    before = dict(request_.response.headers)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert directly(mode, request_, Signer(error)) is False
            clock.seconds += 20
    assert (request_.response.headers, request_.response.getStatus()) == (before, 200)
    assert len(caplog.records) == 1
    assert str(error) in caplog.text
    clock.seconds += 60
    with caplog.at_level(logging.WARNING):
        directly(mode, request_, Signer(error))
        directly(mode, request_, Signer(Refused("another reason")))
    assert len(caplog.records) == (2 if isinstance(error, Refused) else 3)


@pytest.mark.parametrize("mode", ["redirect", "x-accel"])
def test_nor_where_the_url_would_be_too_long(request_, mode, monkeypatch):
    monkeypatch.setattr(direct, "LONGEST_URL", len("https://s3.example.org/bucket/blobs/1/2?X-Amz-Signature=abc&b=%2F"))
    before = dict(request_.response.headers)
    monkeypatch.setattr(Stored, "key", "blobs/1/23")
    assert directly(mode, request_, Signer()) is False
    assert request_.response.headers == before
    monkeypatch.setattr(Stored, "key", "blobs/1/2")
    assert directly(mode, request_, Signer()) is True


def test_other_errors_are_not_hidden(request_):
    with pytest.raises(ZeroDivisionError):
        directly("redirect", request_, Signer(ZeroDivisionError()))


@pytest.mark.parametrize(("public", "kept"), [(True, "public, max-age=150"), (False, "private, max-age=150")])
def test_a_redirect(request_, public, kept):
    store = Signer()
    assert directly("redirect", request_, store, public)
    assert store.calls == [
        {
            "key": "blobs/1/2",
            "seconds": 300,
            "content_type": "video/mp4",
            "disposition": "attachment; filename*=UTF-8''a.mp4",
            "cache_control": kept,
            "steady": True,
        }
    ]
    response = request_.response
    assert response.getStatus() == 302
    assert response.headers == {
        "location": "https://s3.example.org/bucket/blobs/1/2?X-Amz-Signature=abc&b=%2F",
        "cache-control": "no-store",
        "referrer-policy": "no-referrer",
    }


def test_what_is_shown_in_the_page_says_so(request_):
    """Objects are stored as attachments."""
    del request_.response.headers["content-disposition"]
    store = Signer()
    directly("redirect", request_, store)
    assert store.calls[0]["disposition"] == "inline"


def test_where_the_credentials_end_earlier_no_browser_keeps_it(request_):
    store = Signer(left=130)
    directly("redirect", request_, store)
    assert [call["cache_control"] for call in store.calls] == ["public, max-age=150", "public, max-age=0"]


@pytest.mark.parametrize(("public", "kept"), [(True, "public, max-age=150"), (False, "private, max-age=150")])
def test_nginx_gets_path_and_query_and_no_host(request_, public, kept):
    store = Signer()
    assert directly("x-accel", request_, store, public)
    assert store.calls[0]["cache_control"] is None
    response = request_.response
    assert response.getStatus() == 200
    assert response.headers == {
        "content-type": "video/mp4",
        "x-accel-redirect": "/s3blobs/bucket/blobs/1/2?X-Amz-Signature=abc&b=%2F",
        "cache-control": kept,
        "etag": '"abc"',
        "last-modified": "Tue, 14 Nov 2023 22:13:20 GMT",
    }


@pytest.mark.parametrize(("if_range", "told"), [(None, "bytes=1-2"), ('"abc"', "bytes=1-2"), ('"old"', None)])
def test_nginx_is_told_which_range(request_, if_range, told):
    directly("x-accel", request_, Signer(), conditions=Conditions(range="bytes=1-2", if_range=if_range))
    assert request_.response.getHeader("X-S3blobs-Range") == told


def test_what_others_set_later_does_not_stay(request_):
    directly("redirect", request_, Signer())
    response = request_.response
    response.setHeader("Cache-Control", "max-age=0, s-maxage=86400")
    response.setHeader("ETag", '"x"', literal=1)
    response.setHeader("Expires", "Thu, 01 Jan 2099 00:00:00 GMT")
    response.setHeader("X-Other", "stays")
    set_what_was_kept(SimpleNamespace(request=request_))
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["x-other"] == "stays"
    assert not {name for name in response.headers if name.lower() in ("etag", "expires")}


def test_but_another_answer_does(request_):
    """As plone.protect's, which asks for a confirmation."""
    directly("redirect", request_, Signer())
    request_.response.setStatus(403)
    request_.response.setHeader("Cache-Control", "private")
    set_what_was_kept(SimpleNamespace(request=request_))
    assert request_.response.headers["cache-control"] == "private"


def test_a_response_that_is_not_ours_is_not_touched():
    response = WSGIResponse()
    response.setHeader("ETag", '"x"')
    set_what_was_kept(SimpleNamespace(request=SimpleNamespace(response=response)))
    assert response.headers == {"etag": '"x"'}
