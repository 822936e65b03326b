"""The settings form: what it takes, what it refuses and why; and a sentence for every mode and reason."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collective.s3blobstorage.controlpanel import chosen_uploads
from collective.s3blobstorage.controlpanel.chosen import longest, no_addresses, read, why_not
from collective.s3blobstorage.controlpanel.reasons import DESCRIPTIONS, REASONS, TITLES
from collective.s3blobstorage.delivery.interfaces import IDeliverySettings
from collective.s3blobstorage.delivery.policy import Why
from collective.s3blobstorage.settings import MODES, DeliverySettings, UploadSettings
from collective.s3blobstorage.uploading.interfaces import IUploadSettings

ALL = DeliverySettings(x_accel_location="/s3blobs")
NO_REDIRECT = DeliverySettings(frozenset({"stream", "proxy"}))
TYPES = ("File", "Image")
FORM = {
    "delivery_mode": "redirect",
    "delivery_minimum_size": "1000",
    "delivery_portal_types": ["File", "Image"],
    "delivery_mime_types": "video/mp4\r\nVideo/*\r\n",
    "delivery_anonymous_only": "on",
    "delivery_expiry": "60",
    "delivery_media_expiry": "3600",
}


def test_what_is_chosen_is_read():
    assert read(FORM, ALL, TYPES) == (
        {
            "delivery_mode": "redirect",
            "delivery_minimum_size": 1000,
            "delivery_portal_types": ("File", "Image"),
            "delivery_mime_types": ("video/mp4", "video/*"),
            "delivery_anonymous_only": True,
            "delivery_expiry": 60,
            "delivery_media_expiry": 3600,
        },
        {},
    )


def test_an_empty_list_and_a_box_that_is_not_ticked_are_choices_too():
    form = {name: FORM[name] for name in FORM if name.endswith(("_mode", "_size", "_expiry"))}
    values, wrong = read(form, ALL, TYPES)
    assert not wrong
    assert (values["delivery_portal_types"], values["delivery_mime_types"]) == ((), ())
    assert values["delivery_anonymous_only"] is False


def test_one_type_arrives_as_text():
    assert read(FORM | {"delivery_portal_types": "File"}, ALL, TYPES)[0]["delivery_portal_types"] == ("File",)


@pytest.mark.parametrize(
    ("name", "value", "word"),
    [
        ("delivery_mode", None, "Choose"),
        ("delivery_mode", "teleport", "Choose"),
        ("delivery_minimum_size", "", "whole number"),
        ("delivery_minimum_size", "1.5", "whole number"),
        ("delivery_minimum_size", "-1", "At least"),
        ("delivery_expiry", "59", "At least"),
        ("delivery_expiry", "3601", "presign-max-expiry"),
        ("delivery_media_expiry", "700000", "At most"),
        ("delivery_portal_types", ["File", "Video"], "no content type"),
        ("delivery_mime_types", "video", "no MIME type"),
        ("delivery_mime_types", "*/*", "no MIME type"),
        ("delivery_mime_types", "<b>/x", "no MIME type"),
    ],
)
def test_what_is_wrong_is_said_and_has_no_value(name, value, word):
    values, wrong = read(FORM | {name: value}, ALL, TYPES)
    assert list(wrong) == [name] and name not in values
    assert word in wrong[name]


@pytest.mark.parametrize(
    ("mode", "bounds", "word"),
    [
        ("proxy", None, "not in a bucket"),
        ("redirect", NO_REDIRECT, "delivery-modes"),
        ("x-accel", NO_REDIRECT, "delivery-modes"),
        ("x-accel", DeliverySettings(), "x-accel-location"),
    ],
)
def test_what_zope_conf_forbids_cannot_be_chosen(mode, bounds, word):
    assert word in why_not(mode, bounds)
    values, wrong = read(FORM | {"delivery_mode": mode}, bounds, TYPES)
    assert word in wrong["delivery_mode"] and "delivery_mode" not in values


@pytest.mark.parametrize("mode", MODES)
def test_what_zope_conf_allows_can_be_chosen(mode):
    assert why_not(mode, ALL) == ""
    assert read(FORM | {"delivery_mode": mode}, ALL, TYPES)[0]["delivery_mode"] == mode


def test_expiries_that_say_nothing_are_left_as_they_are():
    assert no_addresses(NO_REDIRECT) and no_addresses(None) and not no_addresses(DeliverySettings())
    values, wrong = read(FORM | {"delivery_mode": "proxy", "delivery_expiry": "rubbish"}, NO_REDIRECT, TYPES)
    assert not wrong and not {"delivery_expiry", "delivery_media_expiry"} & set(values)


def test_the_longest_expiry_is_the_narrower_bound():
    assert longest(DeliverySettings(presign_max_expiry=900.0)) == 900
    assert longest(DeliverySettings(presign_max_expiry=10.0**9)) == longest(None) == 604800


rubbish = st.none() | st.text(max_size=20) | st.integers() | st.lists(st.text(max_size=5), max_size=3)


@given(st.fixed_dictionaries({}, optional={name: rubbish for name in FORM}), st.sampled_from([None, ALL, NO_REDIRECT]))
def test_whatever_is_sent_only_what_the_schema_allows_is_taken(form, bounds):
    values, wrong = read(form, bounds, TYPES)
    assert not set(values) & set(wrong)
    for name, value in values.items():
        IDeliverySettings[name].validate(value)
    if "delivery_mode" in values:
        assert not why_not(values["delivery_mode"], bounds)


UPLOADS = UploadSettings(most_size=1536 * 1024 * 1024 + 1)
UPLOAD_FORM = {
    "upload_enabled": "on",
    "upload_maximum_size": "1536",
    "upload_user_count": "1",
    "upload_user_size": "1",
    "upload_site_size": "1",
    "upload_portal_types": "File",
    "upload_mime_types": "video/*",
}


def test_what_is_chosen_of_direct_upload_is_read():
    assert chosen_uploads.read(UPLOAD_FORM, UPLOADS, TYPES) == (
        {
            "upload_enabled": True,
            "upload_maximum_size": 1536,
            "upload_user_count": 1,
            "upload_user_size": 1,
            "upload_site_size": 1,
            "upload_portal_types": ("File",),
            "upload_mime_types": ("video/*",),
        },
        {},
    )


@pytest.mark.parametrize(
    ("bounds", "word"), [(None, "not in a bucket"), (UploadSettings(allowed=False), "direct-upload on")]
)
def test_direct_upload_that_cannot_be_is_not_read(bounds, word):
    assert word in chosen_uploads.why_not(bounds)
    assert chosen_uploads.read(UPLOAD_FORM, bounds, TYPES) == ({}, {})


def test_a_file_is_no_larger_than_zope_conf_has_it():
    values, wrong = chosen_uploads.read(UPLOAD_FORM | {"upload_maximum_size": "1537"}, UPLOADS, TYPES)
    assert list(wrong) == ["upload_maximum_size"] and "upload_maximum_size" not in values
    assert wrong["upload_maximum_size"].mapping == {"most": 1536}


@given(
    st.fixed_dictionaries({}, optional={name: rubbish for name in UPLOAD_FORM}),
    st.sampled_from([None, UploadSettings(), UPLOADS, UploadSettings(most_size=1)]),
)
def test_whatever_is_sent_of_direct_upload_only_what_the_schema_allows_is_taken(form, bounds):
    values, wrong = chosen_uploads.read(form, bounds, TYPES)
    assert not set(values) & set(wrong)
    for name, value in values.items():
        IUploadSettings[name].validate(value)
    assert values.get("upload_maximum_size", 0) * 1024 * 1024 <= (bounds.most_size if bounds else 0)


def test_every_mode_and_every_reason_has_a_sentence():
    assert set(TITLES) == set(DESCRIPTIONS) == set(MODES)
    assert set(REASONS) == set(Why)
