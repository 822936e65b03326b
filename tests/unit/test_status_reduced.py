"""What of a status whoever manages one site of several may see: nothing that names or tells of the others."""

from __future__ import annotations

import json
import re

from hypothesis import given
from hypothesis import strategies as st

from collective.s3blobstorage.status.interfaces import IStatus
from collective.s3blobstorage.status.reduced import PARTS, UNKNOWN, reduced

LEFT = {
    "database": "main",
    "at": "2026-11-26T12:00:00Z",
    "reachable": True,
    "read": "2026-11-26T11:59:55Z",
    "encryption": {"mode": "client-side", "required": True},
    "check": {"at": "2026-11-26T10:00:00Z", "ok": False},
}


def test_the_parts_are_those_of_the_contract():
    text = IStatus["document"].__doc__.partition("::")[2].strip().removeprefix("{").removesuffix("}")
    while "{" in text:  # of parts inside parts
        text = re.sub(r"\{[^{}]*\}", "", text)
    assert set(PARTS) == set(re.findall(r'"(\w+)":', text))
    assert list(UNKNOWN) == list(PARTS) and not any(UNKNOWN.values())


def test_what_stays():
    document = UNKNOWN | {
        **LEFT,
        "encryption": LEFT["encryption"] | {"active_key": "K1", "keys": [{"id": "K1"}], "error": "bucket plone-blobs"},
        "check": LEFT["check"] | {"seconds": 1.0, "findings": [{"name": "put", "detail": "bucket plone-blobs"}]},
        "store": {"bucket": "plone-blobs", "endpoint": "https://s3.example.org"},
        "cache": {"folder": "/srv/cache", "hour": {"hits": 1, "misses": 1, "rate": 0.5}},
        "covers": {"host": "web1", "processes": 4},
        "base": "filestorage",
    }
    assert reduced(document) == UNKNOWN | LEFT


def test_nothing_known():
    assert reduced(UNKNOWN) == UNKNOWN == reduced({})


SECRET = "told-of-others"
_told = st.recursive(
    st.just(SECRET), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner)
)


@given(st.dictionaries(st.sampled_from([*sorted(set(PARTS) - set(LEFT)), "new"]), _told), _told)
def test_whatever_other_parts_have(others, more):
    """Also parts that a later release adds, and what is added to a part that stays."""
    parts = {name: value | {"more": more} if isinstance(value, dict) else value for name, value in LEFT.items()}
    told = reduced(parts | others)
    assert SECRET not in json.dumps(told) and set(told) == set(PARTS)
