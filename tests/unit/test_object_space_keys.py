"""Keys, prefixes, metadata and addresses of an object space: what is allowed, and that nothing gets out of it."""

from __future__ import annotations

from urllib.parse import quote, urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from collective.s3blobstorage.errors import ConfigurationError
from collective.s3blobstorage.keys import is_addon_key
from collective.s3blobstorage.objectspace import ObjectSpace
from collective.s3blobstorage.objectspace.naming import check_beginning, check_folder, check_key, check_metadata
from collective.s3blobstorage.settings import DeliverySettings

BASE = "https://files.example.org/intranet"
NOT_PARTS = ("", ".", "..", ".s3blobs.json")

characters = st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/\ufffe\uffff")
parts = st.text(characters, min_size=1, max_size=20).filter(lambda part: part not in NOT_PARTS)
keys = st.lists(parts, min_size=1, max_size=6).map("/".join)


def space(name="collective.x", base=BASE, prefix=""):
    return ObjectSpace(None, name, prefix=prefix, delivery=DeliverySettings(public_url_base=base))


# Keys


@given(keys)
@example("a")
@example("...")
@example("..a/b../.c")
@example(" a /b\\..\\c?d#e%2e%2e%2f+&;:@ü😀\u2028")
def test_a_legal_key_is_taken_as_it_is(key):
    assert check_key(key, 1024) == key
    assert is_addon_key(f"addons/collective.x/{key}")


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/",
        "/a",
        "a/",
        "a//b",
        ".",
        "..",
        "../blobs/x",
        "a/../../../blobs/0000000000000001/x",
        "a/./b",
        "a/..",
        ".s3blobs.json",
        "a/.s3blobs.json",
        "a\0",
        "a\nb",
        "\x7f",
        "\x85",
        "\ud800",
        "\ufffe",
        "a/\uffff",
    ],
)
def test_another_one_is_refused_and_not_told(key):
    with pytest.raises(ValueError, match="example: reports/2026/november.pdf") as raised:
        check_key(key, 1024)
    assert "blobs/000" not in str(raised.value)


@pytest.mark.parametrize("key", [None, b"a", 1, ["a"]])
def test_a_key_is_text(key):
    with pytest.raises(ValueError, match="a key is text"):
        check_key(key, 1024)


@pytest.mark.parametrize("prefix", ["", "sites/ümlaut"])
def test_the_whole_key_has_at_most_1024_bytes(prefix):
    full = f"{prefix}/addons/collective.x/".removeprefix("/")
    longest = 1024 - len(full.encode())
    assert space(prefix=prefix).durable_url("a" * longest)
    assert space(prefix=prefix).durable_url("ü" * (longest // 2))
    for key in ("a" * (longest + 1), "ü" * (longest // 2 + 1)):
        with pytest.raises(ValueError, match=f"at most {longest} bytes"):
            space(prefix=prefix).durable_url(key)


@pytest.mark.parametrize("beginning", ["", "a", "a/", "a/b", ".", "..", "a/.s3blobs.jso"])
def test_what_a_key_may_begin_with(beginning):
    assert check_beginning(beginning, 1024) == beginning


@pytest.mark.parametrize(
    "beginning", ["/", "/a", "a//", "../", "a/../b", "./", ".s3blobs.json/", "\0", None, "a" * 1025]
)
def test_what_no_key_begins_with(beginning):
    with pytest.raises(ValueError):
        check_beginning(beginning, 1024)


def test_what_is_deleted_by_its_prefix_is_whole_folders():
    assert check_folder("", 1024) == "" and check_folder("a/b/", 1024) == "a/b/"
    for folder in ("a", "a/b", "../", "/"):
        with pytest.raises(ValueError):
            check_folder(folder, 1024)


# Metadata


def test_metadata():
    assert check_metadata(None) == {}
    assert check_metadata({"report-year": "2026", "a": "", "x1": "a b"}) == {
        "report-year": "2026",
        "a": "",
        "x1": "a b",
    }


@pytest.mark.parametrize(
    "metadata",
    [
        {"Name": "x"},
        {"a_b": "x"},
        {"": "x"},
        {"-a": "x"},
        {"a\n": "x"},
        {1: "x"},
        {"size": "1"},
        {"sha256": "0" * 64},
        {"a": "ü"},
        {"a": "x\r\nx-amz-acl: public-read"},
        {"a": " x"},
        {"a": None},
        {"a": 1},
        {"a": "x" * 2048},
    ],
)
def test_metadata_that_no_header_carries(metadata):
    with pytest.raises(ValueError, match="metadata|a value"):
        check_metadata(metadata)


# Addresses


@given(keys)
def test_every_key_comes_back_from_its_address(key):
    url = space().durable_url(key)
    assert url.isascii() and url.startswith(f"{BASE}/addons/collective.x/")
    assert not urlsplit(url).query and not urlsplit(url).fragment
    assert space().key_from_url(url) == key
    assert space("collective.y").key_from_url(url) is None


@given(st.text(max_size=60), st.sampled_from([f"{BASE}/addons/collective.x/", BASE, "https://", ""]))
def test_no_other_text_is_an_address(tail, begin):
    """Whatever is an address is the one that its key has."""
    key = space().key_from_url(begin + tail)
    assert key is None or space().durable_url(key) == begin + tail


URL = f"{BASE}/addons/collective.x/a/b%20c"


@pytest.mark.parametrize(
    "url",
    [
        URL.replace("https:", "http:"),
        URL.replace("https://", "//"),
        URL.replace("files.", "evil."),
        URL.replace("files.example.org", "files.example.org.evil.org"),
        URL.replace("files.example.org", "files.example.org@evil.org"),
        URL.replace("https://", "https://user@"),
        URL.replace("https://", "https://user:password@"),
        URL.replace("example.org", "example.org:443"),
        URL.replace("example.org", "example.org:8443"),
        URL.replace("example.org", "EXAMPLE.org"),
        URL.replace("/intranet", "/intranet2"),
        URL.replace("/intranet", ""),
        URL.replace("collective.x", "collective.x2"),
        URL.replace("collective.x", "collective.y"),
        URL.replace("addons", "blobs"),
        URL.replace("/a/", "/a/../"),
        URL.replace("/a/", "/a/%2e%2e/"),
        URL.replace("/a/", "/a/%2E%2E/"),
        URL.replace("/a/", "/../collective.y/"),
        URL.replace("/a/", "//"),
        URL.replace("/a/", "%2Fa%2F"),
        URL.replace("%20", " "),
        URL.replace("%20", "+"),
        URL.replace("%20", "%00"),
        URL.replace("%20", "%ff"),
        URL.replace("%20", "%2"),
        URL.replace("a/b", "%61/b"),
        f"{URL}?",
        f"{URL}?versionId=1",
        f"{URL}#a",
        f"{URL}/",
        f"{URL}\n",
        f" {URL}",
        f"{BASE}/addons/collective.x/",
        f"{BASE}/addons/collective.x",
        BASE,
        "",
        None,
        URL.encode(),
    ],
)
def test_another_address_is_none_of_ours(url):
    assert space().key_from_url(URL) == "a/b c"
    assert space().key_from_url(url) is None


def test_without_a_base_there_are_no_addresses():
    with pytest.raises(ConfigurationError, match="public-url-base is not set"):
        space(base=None).durable_url("a")
    assert space(base=None).key_from_url(URL) is None


def test_an_address_of_a_key_that_is_none_is_not_ours():
    for key in ("a/.s3blobs.json", "a//b", "../x", "x/"):
        assert space().key_from_url(f"{BASE}/addons/collective.x/{quote(key)}") is None
    for key in ("../x", ""):
        with pytest.raises(ValueError):
            space().durable_url(key)
