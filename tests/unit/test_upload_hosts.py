"""Whether two hosts are somebody's together, and what a browser makes of the answer to its question."""

from __future__ import annotations

import pytest

from collective.s3blobstorage.objectstore.cors import judged
from collective.s3blobstorage.status.upload_checks import domain


@pytest.mark.parametrize(
    ("host", "found"),
    [
        ("www.example.org", "example.org"),
        ("example.org", "example.org"),
        ("a.b.example.org", "example.org"),
        ("www.example.co.uk", "example.co.uk"),
        ("www.example.de", "example.de"),
        ("example.de", "example.de"),
        ("localhost", "localhost"),
        ("127.0.0.1", "127.0.0.1"),
        ("10.0.0.1", "10.0.0.1"),
        ("::1", "::1"),
    ],
)
def test_domain(host, found):
    assert domain(host) == found


WWW = "https://www.example.org"
ALLOW, METHODS, HEADERS = (f"access-control-allow-{name}" for name in ("origin", "methods", "headers"))


@pytest.mark.parametrize(
    ("status", "answer", "method", "refused"),
    [
        (200, {ALLOW: WWW, METHODS: "PUT, POST", HEADERS: "Content-Type,x-a"}, "PUT", ()),
        (204, {ALLOW: "*", METHODS: "*", HEADERS: "*"}, "PUT", ()),
        (200, {ALLOW: WWW, METHODS: "PUT"}, "POST", ("the header content-type", "the header x-a")),
        (200, {ALLOW: WWW, METHODS: "GET", HEADERS: "content-type"}, "PUT", ("the method PUT", "the header x-a")),
        (200, {ALLOW: "https://example.org", METHODS: "PUT", HEADERS: "*"}, "PUT", ("the origin",)),
        (200, {}, "PUT", ("the origin",)),
        (301, {ALLOW: WWW, METHODS: "PUT", HEADERS: "*"}, "PUT", ("the origin",)),
        (403, {ALLOW: WWW, METHODS: "PUT", HEADERS: "*"}, "PUT", ("the origin",)),
    ],
)
def test_what_a_browser_makes_of_the_answer(status, answer, method, refused):
    assert judged(status, answer, WWW, method, ["content-type", "x-a"]) == refused
