"""CORS rules: what a browser would be refused, and a rule that lets it, without taking anything from others."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collective.s3blobstorage.directupload.cors import (
    ID,
    MOST_RULES,
    difference,
    first_match,
    others,
    overshadowed,
    refused,
)
from collective.s3blobstorage.errors import ConfigurationError

WWW, EDIT = "https://www.example.org", "https://edit.example.org"
HEADERS = ["Content-Type", "content-disposition", "x-amz-checksum-sha256"]
LOWER = sorted(name.lower() for name in HEADERS)


def rule(*origins, methods=("PUT", "POST"), headers=LOWER, expose=("ETag",), **more):
    made = {"AllowedOrigins": list(origins), "AllowedMethods": list(methods), "AllowedHeaders": list(headers)}
    return {**made, "ExposeHeaders": list(expose), **more}


OURS = {"ID": ID, **rule(WWW), "MaxAgeSeconds": 3600}


@pytest.mark.parametrize(
    ("rules", "sentences"),
    [
        ([], [f"pages of {WWW} may send nothing"]),
        ([rule(EDIT)], [f"pages of {WWW} may send nothing"]),
        ([rule(WWW)], []),
        ([rule("*")], []),
        ([rule("https://*.example.org")], []),
        ([rule("http://*.example.org"), rule("https://www.example.org:443")], [f"pages of {WWW} may send nothing"]),
        ([rule("https://WWW.example.org")], [f"pages of {WWW} may send nothing"]),
        ([rule(WWW, headers=["*"])], []),
        ([rule(WWW, headers=["Content-*", "X-AMZ-*"])], []),
        ([rule(WWW, methods=["GET"])], [f"pages of {WWW} may not send by {method}" for method in ("PUT", "POST")]),
        ([rule(WWW, methods=["PUT"])], [f"pages of {WWW} may not send by POST"]),
        (
            [rule(WWW, headers=["content-type"])],
            [f"pages of {WWW} may not send the header {n}" for n in LOWER[:1] + LOWER[2:]],
        ),
        (
            [rule(WWW, headers=LOWER[:2]), rule(WWW, headers=LOWER[1:])],
            [f"pages of {WWW} may not send the header {LOWER[2]}"],
        ),
        ([rule(WWW, expose=[])], [f"pages of {WWW} do not see the header ETag of an answer"]),
        ([rule(WWW, expose=["etag"])], []),
        # The answer to the PUT itself is by the first rule that matches it, in which no header is asked for.
        ([rule(WWW, headers=[], expose=[]), rule(WWW)], [f"pages of {WWW} do not see the header ETag of an answer"]),
        (
            [{"AllowedOrigins": [WWW], "AllowedMethods": ["PUT", "POST"]}],
            [f"pages of {WWW} may not send the header {n}" for n in LOWER]
            + [f"pages of {WWW} do not see the header ETag of an answer"],
        ),
    ],
)
def test_what_is_refused(rules, sentences):
    assert refused(rules, [WWW], HEADERS) == sentences


def test_a_dot_is_a_dot():
    assert refused([rule(WWW)], ["https://wwwxexample.org"], HEADERS) == [
        "pages of https://wwwxexample.org may send nothing"
    ]


def test_a_rule_is_added_and_mended():
    added = difference([], [WWW], HEADERS)
    assert added.is_needed and added.wanted == (OURS,) and added.present == ()
    other = rule("*", methods=["GET"], ID="theirs")
    assert difference([other], [WWW], HEADERS).wanted == (OURS, other)
    mended = difference([other, OURS], [EDIT], HEADERS)
    assert mended.wanted == ({**OURS, "AllowedOrigins": [EDIT, WWW]}, other)
    assert mended.missing == tuple(f"pages of {EDIT} may not send by {method}" for method in ("PUT", "POST"))
    assert not difference([other, OURS], [WWW], HEADERS).is_needed
    assert not difference([rule("https://*.example.org")], [WWW, EDIT], HEADERS).is_needed


def test_a_star_in_our_rule_goes():
    wide = difference([{**OURS, "AllowedOrigins": ["*", EDIT], "AllowedHeaders": ["*"]}], [WWW], HEADERS)
    assert wide.is_needed and wide.missing == ()
    assert wide.wanted == ({**OURS, "AllowedOrigins": [EDIT, WWW]},)
    assert difference([{**OURS, "AllowedOrigins": ["*"]}], [], HEADERS).wanted == ()


def test_no_room():
    full = [rule(EDIT, methods=["GET"])] * MOST_RULES
    with pytest.raises(ConfigurationError, match="has 100 CORS rules, and can have 100"):
        difference(full, [WWW], HEADERS)
    assert len(difference(full[1:], [WWW], HEADERS).wanted) == MOST_RULES
    assert len(difference([*full[1:], OURS], [EDIT], HEADERS).wanted) == MOST_RULES


def test_who_is_overshadowed():
    others = [rule("*", methods=["GET"]), rule(EDIT, methods=["GET"])]
    assert overshadowed(others, difference(others, [WWW], HEADERS).wanted) == others[:1]


origins = st.sampled_from([WWW, EDIT, "http://localhost:8080", "https://example.org"])
patterns = st.one_of(origins, st.sampled_from(["*", "https://*", "https://*.example.org", "http://*:8080"]))
methods = st.lists(st.sampled_from(["GET", "PUT", "POST", "HEAD", "DELETE"]), unique=True)
names = st.sampled_from([*LOWER, "x-other", "authorization"])
header_patterns = st.one_of(names, st.sampled_from(["*", "x-amz-*", "Content-*"]))
rules = st.lists(
    st.builds(
        lambda allowed, able, sent, seen, id: {
            **rule(*allowed, methods=able, headers=sent, expose=seen),
            **({"ID": id} if id else {}),
        },
        st.lists(patterns, min_size=1, unique=True),
        methods,
        st.lists(header_patterns, unique=True),
        st.lists(st.sampled_from(["ETag", "x-amz-version-id", "*"]), unique=True),
        st.sampled_from([ID, "theirs", ""]),
    ),
    max_size=4,
)
wanted_origins = st.lists(origins, unique=True)


@given(rules, wanted_origins, st.lists(st.sampled_from(LOWER), unique=True))
def test_afterwards_nothing_is_refused_and_nothing_is_left_to_do(present, origins, headers):
    told = difference(present, origins, headers)
    assert refused(told.wanted, origins, headers) == []
    assert told.missing == tuple(refused(present, origins, headers))
    assert not difference(told.wanted, origins, headers).is_needed
    assert not told.missing or told.is_needed
    for each in told.wanted:
        assert each.get("ID") != ID or not told.is_needed or "*" not in "".join(each["AllowedOrigins"])
    for origin in origins:
        for method in ("PUT", "POST"):
            assert first_match(told.wanted, origin, method, headers if method == "PUT" else ()) is not None


@given(rules, wanted_origins, origins, st.sampled_from(["GET", "PUT", "POST", "DELETE"]), st.lists(names, unique=True))
def test_others_keep_what_they_have(present, origins, origin, method, headers):
    told = difference(present, origins, LOWER)
    assert others(told.wanted) == others(present)
    before = first_match(others(present), origin, method, headers)
    after = first_match(told.wanted, origin, method, headers)
    if after is None or after.get("ID") != ID:
        assert after == before
    elif told.is_needed:  # where ours answers, it is a request that uploads, of an origin of ours
        assert origin in after["AllowedOrigins"] and method in ("PUT", "POST")
    assert before is None or after is not None
