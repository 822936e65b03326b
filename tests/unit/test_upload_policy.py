"""What a site allows to be uploaded: its records, zope.conf's bounds, and names of files."""

from __future__ import annotations

import pytest

pytest.importorskip("plone.registry")

from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from zope.i18n import interpolate  # noqa: E402

from collective.s3blobstorage.settings import UploadSettings  # noqa: E402
from collective.s3blobstorage.uploading.interfaces import Announced, UploadRefused  # noqa: E402
from collective.s3blobstorage.uploading.policy import SitePolicy, check_filename  # noqa: E402

MB = 2**20
BOUNDS = UploadSettings(most_size=50 * MB)


def policy(bounds=BOUNDS, **records):
    return SitePolicy.of_records({"enabled": True} | records).within(bounds)


def refusal(policy, **announced):
    file = {"filename": "a.mp4", "size": 3 * MB, "content_type": "video/mp4", "portal_type": "File"} | announced
    try:
        policy.check(Announced(**file))
    except UploadRefused as refused:
        return refused.kind, interpolate(refused.message, refused.message.mapping)
    return None


def test_off_as_long_as_nobody_says_so():
    for records in ({}, {"enabled": None}, {"enabled": False}, {"enabled": "yes"}, {"enabled": 1}):
        assert refusal(SitePolicy.of_records(records).within(BOUNDS))[0] == "off"
    assert refusal(policy()) is None


def test_zope_conf_has_the_last_word():
    assert refusal(policy(UploadSettings(allowed=False)))[0] == "off"
    assert policy(maximum_size=51).maximum_size == 50 * MB
    assert policy(maximum_size=49).maximum_size == 49 * MB
    assert policy(maximum_size=0).maximum_size == policy().maximum_size == 50 * MB


def test_sizes():
    few = policy(maximum_size=2)
    assert refusal(few, size=2 * MB) is None
    assert refusal(few, size=2 * MB + 1) == ("too-large", "The file is 2.0 MB; this site takes up to 2.0 MB.")
    assert refusal(few, size=5 * 2**30)[1] == "The file is 5.0 GB; this site takes up to 2.0 MB."
    assert refusal(few, size=0)[0] == refusal(few, size=-1)[0] == "empty"


def test_types_of_content_and_of_files():
    some = policy(portal_types=("File", "Video"), mime_types=("video/*", " Image/PNG "))
    assert refusal(some) is None
    assert refusal(some, portal_type="Image")[0] == "portal-type"
    assert refusal(some, content_type="image/png") is None
    for content_type in ("image/jpeg", "videos/mp4", "video", "application/pdf", "image/pngx", ""):
        assert refusal(some, content_type=content_type)[0] == "type"
    assert refusal(policy(mime_types=("*/*",)), content_type="x/y") is None


@pytest.mark.parametrize("junk", [None, "", "File", -1, 3.5, True, (None, 3), object(), {"File": 1}, ()])
def test_junk_in_a_record_is_as_if_it_were_not_set(junk):
    names = ("maximum_size", "portal_types", "mime_types", "user_count", "user_size", "site_size")
    assert policy(**dict.fromkeys(names, junk)) == policy()


def test_limits_are_megabytes():
    some = policy(user_count=7, user_size=10, site_size=20)
    assert (some.user_count, some.user_size, some.site_size) == (7, 10 * MB, 20 * MB)


@pytest.mark.parametrize(
    "name",
    ["a.mp4", "Übersicht 2026.pdf", "映画.mkv", "👩‍🚀.png", ".htaccess", "a..b", "x" * 255, "a;b'\"%?.txt", "ملف.pdf"],
)
def test_names(name):
    check_filename(name)


@pytest.mark.parametrize(
    "name",
    ["", " ", ".", "..", "...", "a/b", "/etc/passwd", "C:\\a", "..\\a", "a\0.jpg", "a\r\nX: y", "a\tb", "a\x7f",
     "a\x85b", "a\u2028b", "a\u202egpj.exe", "a\u2066b", "\ud800", "a\udcffb", "x" * 256, "ü" * 128],
)  # fmt: skip
def test_names_that_are_refused(name):
    assert refusal(policy(), filename=name)[0] == "filename"


@given(st.text(st.characters(), max_size=300))
def test_a_name_that_is_taken_can_be_written_anywhere(name):
    try:
        check_filename(name)
    except UploadRefused:
        return
    raw = name.encode()
    assert 0 < len(raw) <= 255 and not set(raw) & {0, 10, 13, 47, 92}
