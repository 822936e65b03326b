"""Which way a blob goes: tables, and what holds for every policy, bound and request."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collective.s3blobstorage.delivery.policy import Decision, Policy, Wanted, Why, decide
from collective.s3blobstorage.settings import MODES, DeliverySettings

NGINX = DeliverySettings(x_accel_location="/s3blobs")
VIDEO = Wanted("GET", "video/mp4", 1000, portal_type="File")
HEAD = Wanted("HEAD", "video/mp4", 1000)


@pytest.mark.parametrize("mode", MODES)
def test_a_site_gets_the_mode_that_it_is_set_to(mode):
    assert decide(Policy(mode), VIDEO, NGINX).mode == mode


@pytest.mark.parametrize(
    ("policy", "streamed"),
    [
        ({"minimum_size": 1000}, False),
        ({"minimum_size": 1001}, True),
        ({"portal_types": frozenset({"File", "Image"})}, False),
        ({"portal_types": frozenset({"Image"})}, True),
        ({"mime_types": frozenset({"video/mp4"})}, False),
        ({"mime_types": frozenset({"video/*"})}, False),
        ({"mime_types": frozenset({"video/webm", "image/*"})}, True),
        ({"mime_types": frozenset({"video"})}, True),
        ({"anonymous_only": True}, False),
    ],
)
@pytest.mark.parametrize("mode", MODES[1:])
def test_what_the_mode_is_not_for_is_streamed(mode, policy, streamed):
    assert decide(Policy(mode, **policy), VIDEO, NGINX).mode == ("stream" if streamed else mode)


def test_anonymous_only_streams_to_who_is_logged_in():
    wanted = Wanted("GET", "video/mp4", 1000, logged_in=True)
    assert decide(Policy("redirect", anonymous_only=True), wanted, NGINX).mode == "stream"
    assert decide(Policy("redirect"), wanted, NGINX).mode == "redirect"


@pytest.mark.parametrize(
    ("policy", "wanted", "bounds", "expected"),
    [
        ("redirect", HEAD, NGINX, "proxy"),
        ("x-accel", HEAD, NGINX, "proxy"),
        ("redirect", Wanted("GET", "video/mp4", 1, can_follow=False), NGINX, "proxy"),
        ("x-accel", Wanted("GET", "video/mp4", 1, can_follow=False), NGINX, "x-accel"),
        ("redirect", Wanted("POST", "video/mp4", 1), NGINX, "stream"),
        ("proxy", Wanted("PROPFIND", "video/mp4", 1), NGINX, "stream"),
        ("x-accel", VIDEO, DeliverySettings(), "proxy"),
        ("redirect", Wanted("GET", "video/mp4", 1, has_address=False), NGINX, "proxy"),
        ("x-accel", Wanted("GET", "video/mp4", 1, has_address=False), NGINX, "proxy"),
        (
            "redirect",
            Wanted("GET", "video/mp4", 1, has_address=False),
            DeliverySettings(frozenset({"stream", "redirect"})),
            "stream",
        ),
        ("redirect", VIDEO, None, "proxy"),
        ("x-accel", VIDEO, None, "proxy"),
        ("redirect", VIDEO, DeliverySettings(frozenset({"stream", "proxy"})), "stream"),
        ("redirect", HEAD, DeliverySettings(frozenset({"stream", "redirect"})), "stream"),
        ("proxy", VIDEO, DeliverySettings(frozenset({"stream", "redirect"})), "stream"),
    ],
)
def test_what_cannot_go_that_way(policy, wanted, bounds, expected):
    assert decide(Policy(policy), wanted, bounds) == Decision(
        expected, 3600 if expected == policy and policy != "proxy" else 0
    )


@pytest.mark.parametrize(
    ("policy", "wanted", "bounds", "why"),
    [
        (Policy(), VIDEO, NGINX, Why.AS_SET),
        (Policy("proxy"), VIDEO, NGINX, Why.AS_SET),
        (Policy("redirect"), VIDEO, NGINX, Why.AS_SET),
        (Policy("redirect"), Wanted("POST", "video/mp4", 1), NGINX, Why.METHOD),
        (Policy("redirect", minimum_size=1001), VIDEO, NGINX, Why.SIZE),
        (Policy("redirect", portal_types=frozenset({"Image"})), VIDEO, NGINX, Why.PORTAL_TYPE),
        (Policy("redirect", mime_types=frozenset({"image/*"})), VIDEO, NGINX, Why.MIME_TYPE),
        (Policy("redirect", anonymous_only=True), Wanted("GET", "", 1, logged_in=True), NGINX, Why.LOGGED_IN),
        (Policy("redirect"), VIDEO, None, Why.NO_BUCKET),
        (Policy("redirect"), VIDEO, DeliverySettings(frozenset({"stream", "proxy"})), Why.FORBIDDEN),
        (Policy("redirect"), HEAD, NGINX, Why.HEAD),
        (Policy("redirect"), Wanted("GET", "video/mp4", 1, has_address=False), NGINX, Why.NO_ADDRESS),
        (Policy("redirect"), Wanted("GET", "video/mp4", 1, can_follow=False), NGINX, Why.CANNOT_FOLLOW),
        (Policy("x-accel"), VIDEO, DeliverySettings(), Why.NO_NGINX),
    ],
)
def test_every_decision_says_why(policy, wanted, bounds, why):
    assert decide(policy, wanted, bounds).why is why


@pytest.mark.parametrize(
    ("mime_type", "policy", "bound", "seconds"),
    [
        ("video/mp4", Policy("redirect"), 3600.0, 3600),
        ("audio/ogg", Policy("redirect"), 3600.0, 3600),
        ("image/jpeg", Policy("redirect"), 3600.0, 300),
        ("application/pdf", Policy("redirect", expiry=90), 3600.0, 90),
        ("video/mp4", Policy("redirect"), 900.0, 900),
        ("image/jpeg", Policy("redirect", expiry=10**9), 3600.0, 3600),
        ("image/jpeg", Policy("redirect", expiry=0), 3600.0, 60),
        ("image/jpeg", Policy("redirect", expiry=0), 60.0, 60),
    ],
)
def test_for_how_long(mime_type, policy, bound, seconds):
    bounds = DeliverySettings(presign_max_expiry=bound)
    assert decide(policy, Wanted("GET", mime_type, 1), bounds) == Decision("redirect", seconds)


names = st.sampled_from(["File", "Image", "video/mp4", "video/*", "image/jpeg", "image/*"])
policies = st.builds(
    Policy,
    mode=st.sampled_from(MODES),
    minimum_size=st.integers(0, 20),
    portal_types=st.frozensets(names, max_size=2),
    mime_types=st.frozensets(names, max_size=2),
    anonymous_only=st.booleans(),
    expiry=st.integers(0, 10**10),
    media_expiry=st.integers(0, 10**10),
)
wishes = st.builds(
    Wanted,
    method=st.sampled_from(["GET", "HEAD", "POST", "PUT", "OPTIONS", "PROPFIND"]),
    mime_type=st.sampled_from(["video/mp4", "audio/ogg", "image/jpeg", "text/html", ""]),
    size=st.integers(0, 30),
    portal_type=st.sampled_from([None, "File", "Image"]),
    logged_in=st.booleans(),
    has_address=st.booleans(),
    can_follow=st.booleans(),
)
bounds_of_zope_conf = st.none() | st.builds(
    DeliverySettings,
    modes=st.frozensets(st.sampled_from(MODES)).map(lambda modes: modes | {"stream"}),
    presign_max_expiry=st.floats(60, 604800),
    x_accel_location=st.sampled_from([None, "/s3blobs"]),
)


def check(policy, wanted, bounds):
    """What holds for every decision."""
    decision = decide(policy, wanted, bounds)
    direct = decision.mode in ("redirect", "x-accel")
    assert decision.mode in ("stream", "proxy", policy.mode)
    assert (decision.why is Why.AS_SET) <= (decision.mode == policy.mode)
    assert (decision.seconds > 0) == direct
    if direct:
        assert bounds is not None and decision.mode in bounds.modes
        assert 60 <= decision.seconds <= bounds.presign_max_expiry
        assert wanted.method == "GET" and wanted.has_address
        assert wanted.size >= policy.minimum_size
        assert not (policy.anonymous_only and wanted.logged_in)
        assert not policy.portal_types or wanted.portal_type in policy.portal_types
    if decision.mode == "redirect":
        assert wanted.can_follow
    if decision.mode == "x-accel":
        assert bounds.x_accel_location
    if decision.mode == "proxy":
        assert wanted.method in ("GET", "HEAD")
        assert bounds is None or "proxy" in bounds.modes
        assert policy.mode != "stream"


@given(policies, wishes, bounds_of_zope_conf)
def test_no_policy_passes_the_bounds(policy, wanted, bounds):
    check(policy, wanted, bounds)


rubbish = st.none() | st.booleans() | st.integers() | st.text() | st.floats()


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "delivery_mode": rubbish | st.sampled_from(MODES),
            "delivery_minimum_size": rubbish,
            "delivery_portal_types": st.none() | st.tuples(st.text()),
            "delivery_mime_types": st.none() | st.tuples(st.text()),
            "delivery_anonymous_only": rubbish,
            "delivery_expiry": rubbish,
            "delivery_media_expiry": rubbish,
        },
    ),
    wishes,
    bounds_of_zope_conf,
)
def test_whatever_the_records_say_the_bounds_hold(records, wanted, bounds):
    policy = Policy.of_records(records)
    assert policy.mode == records.get("delivery_mode") or policy.mode == "stream"
    check(policy, wanted, bounds)


def test_without_records_a_site_streams():
    assert Policy.of_records({}) == Policy() and Policy().mode == "stream"


def test_records_are_read():
    records = {
        "delivery_mode": "redirect",
        "delivery_minimum_size": 5,
        "delivery_portal_types": ("File",),
        "delivery_mime_types": (" Video/* ",),
        "delivery_anonymous_only": True,
        "delivery_expiry": 61,
        "delivery_media_expiry": 62,
    }
    types = frozenset({"File"}), frozenset({"video/*"})
    assert Policy.of_records(records) == Policy("redirect", 5, *types, True, 61, 62)
