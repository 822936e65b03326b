"""Kinds of values of zope.conf, by tables: what is accepted and as what, what is refused and why."""

from __future__ import annotations

import base64
import copy
import os
import pickle
import re
from pathlib import Path

import botocore
import pytest
from botocore.handlers import VALID_BUCKET
from botocore.utils import is_valid_uri, validate_region_name
from hypothesis import given
from hypothesis import strategies as st

from collective.s3blobstorage import datatypes
from collective.s3blobstorage.errors import ConfigurationError
from collective.s3blobstorage.settings import Retention

CA_BUNDLE = Path(botocore.__file__).parent / "cacert.pem"
LONG_LABEL = "a" * 64


def refusal(convert, text, **options) -> str:
    with pytest.raises(ConfigurationError) as caught:
        convert(text, **options)
    return str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "abc",
        "plone-blobs",
        "plone.blobs.example.org",
        "3-blobs",
        "a" * 63,
        "a123-bucket-ap-0123456789-s3alias",  # alias of an access point
        "Plone_Blobs",  # made before 2018 in us-east-1, or on Ceph
        "a" * 64,
        "a" * 255,
        "blobs_",
        "1.2.3",
        "256.1.1.1",
    ],
)
def test_bucket_name_accepted(text):
    assert datatypes.bucket_name(text) == text
    assert VALID_BUCKET.search(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is empty"),
        ("ab", "is not the name of a bucket"),
        ("a" * 256, "is not the name of a bucket"),
        ("my bucket", "is not the name of a bucket"),
        ("büro", "is not the name of a bucket"),
        ("-abc", "is not the name of a bucket"),
        ("abc-", "is not the name of a bucket"),
        (".abc", "is not the name of a bucket"),
        ("_abc", "is not the name of a bucket"),
        ("$BUCKET", "is not the name of a bucket"),
        ("abc\x00", "is not the name of a bucket"),
        ("abc\n", "is not the name of a bucket"),
        ("a..b", "two dots"),
        ("..", "two dots"),
        ("192.168.0.1", "IP address"),
        ("blobs/site", "holds a slash"),
        ("s3://blobs", "holds a slash"),
        ("../blobs", "holds a slash"),
        ("arn:aws:s3:eu-central-1:123456789012:accesspoint/plone", "alias"),
        ("blobs--use1-az4--x-s3", "directory bucket"),
        ("blobs--ol-s3", "Object Lambda"),
    ],
)
def test_bucket_name_refused(text, reason):
    assert reason in refusal(datatypes.bucket_name, text)


@given(st.text("abzAZ019._-/:@ \u00e4", max_size=80))
def test_every_accepted_bucket_name_is_accepted_by_botocore(text):
    try:
        name = datatypes.bucket_name(text)
    except ConfigurationError:
        return
    assert VALID_BUCKET.search(name)


@pytest.mark.parametrize(
    ("name", "dns"), [("plone-blobs", True), ("plone.blobs", True), ("Plone", False), ("a_b", False), ("a" * 64, False)]
)
def test_is_dns_bucket(name, dns):
    assert datatypes.is_dns_bucket(name) is dns


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", ""),
        ("/", ""),
        ("//", ""),
        ("site", "site"),
        ("site/", "site"),
        ("site//", "site"),
        ("Sites/in_tra-net.1/a", "Sites/in_tra-net.1/a"),
        (".hidden", ".hidden"),
        ("blobs", "blobs"),
        ("blobs/site", "blobs/site"),
        ("gc", "gc"),
        ("x" * 512, "x" * 512),
    ],
)
def test_prefix_accepted(text, value):
    assert datatypes.prefix(text) == value


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("/site", "starts with a slash"),
        ("a//b", "two slashes"),
        ("..", "'.' or '..'"),
        (".", "'.' or '..'"),
        ("../other", "'.' or '..'"),
        ("site/../other", "'.' or '..'"),
        ("site/./x", "'.' or '..'"),
        ("site/...", "'.' or '..'"),
        ("a..b", "'.' or '..'"),
        ("my site", "character"),
        ("büro", "character"),
        ("a\\b", "character"),
        ("a%2e%2e", "character"),
        ("a\x00b", "character"),
        ("a?b", "character"),
        ("$PREFIX", "character"),
        (".s3blobs.json", "own objects"),
        ("site/.s3blobs.json", "own objects"),
        ("gc/ledger", "own objects"),
        ("site/uploads/0123456789abcdef0123456789abcdef", "own objects"),
        ("blobs/00000000000000ff", "own objects"),
        ("site/blobs/00000000000000ff/x", "own objects"),
        ("x" * 513, "513 characters"),
    ],
)
def test_prefix_refused(text, reason):
    assert reason in refusal(datatypes.prefix, text)


@given(st.text("ab./-_\\ \x00\u00e4", max_size=20))
def test_every_accepted_prefix_is_plain_segments(text):
    try:
        value = datatypes.prefix(text)
    except ConfigurationError:
        return
    assert value == text.rstrip("/")
    assert not value or all(set(part) <= set("ab.-_") and part.strip(".") for part in value.split("/"))
    assert ".." not in value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("https://s3.example.org", "https://s3.example.org"),
        ("https://S3.Example.org/", "https://s3.example.org"),
        ("HTTP://localhost:9000", "http://localhost:9000"),
        ("http://127.0.0.1:4566", "http://127.0.0.1:4566"),
        ("http://[::1]:9000", "http://[::1]:9000"),
        ("http://minio", "http://minio"),
        ("https://xn--bro-hoa.example", "https://xn--bro-hoa.example"),
    ],
)
def test_endpoint_url_accepted(text, value):
    assert datatypes.endpoint_url(text) == value
    assert is_valid_uri(value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is empty"),
        ("s3.example.org", "no scheme"),
        ("minio:9000", "no scheme"),
        ("ftp://s3.example.org", "other than http or https"),
        ("s3://bucket", "other than http or https"),
        ("https://", "no host"),
        ("https://:9000", "no host"),
        ("https://user:password@s3.example.org", "s3-access-key"),
        ("https://user@s3.example.org", "s3-access-key"),
        ("https://@s3.example.org", "s3-access-key"),
        ("https://s3.example.org/bucket", "bucket-name"),
        ("https://s3.example.org//", "holds a path"),
        ("https://s3.example.org/../x", "holds a path"),
        ("https://s3.example.org?x=1", "query"),
        ("https://s3.example.org?", "query"),
        ("https://s3.example.org#x", "fragment"),
        ("https://s3.example.org:port", "brackets or port"),
        ("https://s3.example.org:70000", "brackets or port"),
        ("https://s3.example.org:-1", "brackets or port"),
        ("https://s3.example.org:0", "port outside"),
        ("https://[::1", "brackets or port"),
        ("https://my_minio:9000", "underscore"),
        ("https://-a.example", "is not one"),
        ("https://büro.example", "is not one"),
        (f"https://{LONG_LABEL}.example", "is not one"),
        ("https://" + "a." * 130 + "b", "is not one"),
        ("https://s3 .example.org", "blank"),
        ("https://s3.example.org\n", "blank or a control"),
        ("https://s3.\x00example.org", "control"),
        ("https://$(HOST)", "is not one"),
    ],
)
def test_endpoint_url_refused(text, reason):
    assert reason in refusal(datatypes.endpoint_url, text)


@given(st.text("ab09.-_:/[]@?# \u00e4", max_size=24))
def test_every_accepted_endpoint_is_accepted_by_botocore(rest):
    try:
        value = datatypes.endpoint_url("https://" + rest)
    except ConfigurationError:
        return
    assert is_valid_uri(value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", ()),
        ("https://WWW.example.org/", ("https://www.example.org",)),
        ("https://a.example:443,http://a.example:80 https://a.example", ("https://a.example", "http://a.example")),
        ("http://a.example:443 https://[::1]:8443", ("http://a.example:443", "https://[::1]:8443")),
    ],
)
def test_origins_accepted(text, value):
    assert datatypes.origins(text) == value


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("*", "holds a *"),
        ("https://*.example.org", "holds a *"),
        ("null", "no scheme"),
        ("www.example.org", "no scheme"),
        ("ftp://example.org", "other than http or https"),
        ("chrome-extension://abcdef", "other than http or https"),
        ("https://me:pw@example.org", "user or password, which an origin"),
        ("https://example.org/Plone", "holds a path; an origin"),
        ("https://example.org?x", "query"),
        ("https://example.org#x", "fragment"),
        ("https://my_site", "underscore"),
        ("https://a.example https://b.example/x", "holds a path"),
        ("https://", "no host"),
        ("https://example.org:0", "port outside"),
    ],
)
def test_origins_refused(text, reason):
    assert reason in refusal(datatypes.origins, text)


@given(
    st.lists(st.sampled_from([" https://", "a", "B.c", "0", ".", "-", "_", ":443", ":8", "[::1]", "/", "@", "?", "*"]))
)
def test_every_accepted_origin_has_scheme_host_and_port_alone(rest):
    try:
        value = datatypes.origins("https://a" + "".join(rest))
    except ConfigurationError:
        return
    assert datatypes.origins(" ".join(value)) == value and len(set(value)) == len(value)
    for one in value:
        assert re.fullmatch(r"https://(\[[0-9a-f:.]+\]|[a-z0-9.-]+)(:[0-9]+)?", one) and not one.endswith(":443")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("https://Files.example.org", "https://files.example.org"),
        ("https://files.example.org/", "https://files.example.org"),
        ("http://files.example.org:8080/Intranet/a-b_c.d/", "http://files.example.org:8080/Intranet/a-b_c.d"),
    ],
)
def test_url_base_accepted(text, value):
    assert datatypes.url_base(text) == value


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is empty"),
        ("https://files.example.org/a//b", "has a part in its path"),
        ("https://files.example.org/a/../b", "has a part in its path"),
        ("https://files.example.org/a%2fb", "has a part in its path"),
        ("https://files.example.org/a?b", "a query or a fragment"),
        ("https://files.example.org/a#b", "a query or a fragment"),
        ("https://files.example.org\\@evil.example.org", ""),
        ("https://me:pw@files.example.org/a", "holds a user or password"),
        ("javascript://files.example.org/a", "has a scheme other than http or https"),
    ],
)
def test_url_base_refused(text, reason):
    assert reason in refusal(datatypes.url_base, text)


@pytest.mark.parametrize("text", ["/s3blobs", "/a/b-c_d.e", "/s3blobs/"])
def test_location_accepted(text):
    assert datatypes.location(text) == text.rstrip("/")


@pytest.mark.parametrize("text", ["", "/", "s3blobs", "/a/../b", "/./a", "/a b", "/a%2fb", "//a", "/a?b", "/a;b"])
def test_location_refused(text):
    refusal(datatypes.location, text)


@pytest.mark.parametrize(
    ("text", "modes"),
    [
        ("stream", {"stream"}),
        ("proxy", {"stream", "proxy"}),
        ("Proxy, REDIRECT", {"stream", "proxy", "redirect"}),
        ("x-accel  stream", {"stream", "x-accel"}),
    ],
)
def test_delivery_modes_accepted(text, modes):
    assert datatypes.delivery_modes(text) == modes


@pytest.mark.parametrize("text", ["", "none", "stream;proxy", "redirect all"])
def test_delivery_modes_refused(text):
    refusal(datatypes.delivery_modes, text)


@pytest.mark.parametrize("text", ["us-east-1", "eu-central-1", "default", "RegionOne", "auto", "a", "nl-ams", "a" * 63])
def test_region_accepted(text):
    assert datatypes.region(text) == text
    validate_region_name(text)


@pytest.mark.parametrize("text", ["123", "-a", "a-", "eu central", "eu_central", "a" * 64, "büro", "eu.central", "a\n"])
def test_region_refused(text):
    assert refusal(datatypes.region, text) == "is not a region"


@pytest.mark.parametrize("text", ["default", "plone", "my profile", "team/site.a+b", "user@example.org"])
def test_profile_accepted(text):
    assert datatypes.profile(text) == text


@pytest.mark.parametrize("text", ["a]b", "[a]", "a\tb", "a  b", "büro", "p" * 129])
def test_profile_refused(text):
    assert refusal(datatypes.profile, text) == "is not the name of a profile"


@pytest.mark.parametrize("text", ["www.example.org", "a", "Site_1-b", "1", "a" * 64])
def test_owner_accepted(text):
    assert datatypes.owner(text) == text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is empty"),
        ("my site", "is not a name"),
        ("../x", "is not a name"),
        (".x", "is not a name"),
        ("a/b", "is not a name"),
        ("büro", "is not a name"),
        ("a" * 65, "is not a name"),
        ("a\n", "is not a name"),
    ],
)
def test_owner_refused(text, reason):
    assert reason in refusal(datatypes.owner, text)


@pytest.mark.parametrize(("text", "aws"), [("123456789012", True), ("plone", False), ("tenant$plone", False)])
def test_bucket_owner_accepted(text, aws):
    assert datatypes.bucket_owner(text) == text
    assert datatypes.is_aws_account(text) is aws


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is empty"),
        ("1234-5678-9012", "dashes"),
        ("12345678901", "is not an account"),
        ("1234567890123", "is not an account"),
        ("my account", "is not an account"),
        ("\u0661" * 12, "is not an account"),
        ("a" * 129, "is not an account"),
    ],
)
def test_bucket_owner_refused(text, reason):
    assert reason in refusal(datatypes.bucket_owner, text)


@pytest.mark.parametrize(
    ("text", "mode", "days"),
    [
        ("governance 30d", "governance", 30),
        ("COMPLIANCE 7y", "compliance", 7 * 365),
        ("governance  24 h", "governance", 1),
        ("compliance 100Y", "compliance", 36500),
        ("governance 60", "governance", 60 / 86400),
    ],
)
def test_retention_accepted(text, mode, days):
    assert datatypes.retention(text) == Retention(mode, days * 86400.0)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("30d", "does not begin with governance or compliance"),
        ("legal 30d", "does not begin with governance or compliance"),
        ("governance", "is empty"),
        ("governance 7w", "is not an interval"),
        ("governance 59s", "is too short"),
        ("compliance 101y", "is too long"),
        ("compliance 1.5y", "is not an interval"),
    ],
)
def test_retention_refused(text, reason):
    assert reason in refusal(datatypes.retention, text)


@pytest.mark.parametrize("text", ["STANDARD", "STANDARD_IA", "INTELLIGENT_TIERING", "GLACIER_IR", "COLD-1"])
def test_storage_class_accepted(text):
    assert datatypes.storage_class(text) == text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("standard", "is not a storage class"),
        ("STANDARD IA", "is not a storage class"),
        ("KÜHL", "is not a storage class"),
        ("A" * 65, "is not a storage class"),
        ("GLACIER", "archive"),
        ("DEEP_ARCHIVE", "archive"),
        ("EXPRESS_ONEZONE", "directory buckets"),
    ],
)
def test_storage_class_refused(text, reason):
    assert reason in refusal(datatypes.storage_class, text)


@pytest.mark.parametrize("text", ["on", "true", "yes", "ON", "True", "YES"])
def test_boolean_on(text):
    assert datatypes.boolean(text) is True


@pytest.mark.parametrize("text", ["off", "false", "no", "OFF", "False", "No"])
def test_boolean_off(text):
    assert datatypes.boolean(text) is False


@pytest.mark.parametrize("text", ["", "1", "0", "enabled", "y", "on off", "öff"])
def test_boolean_refused(text):
    assert ("is empty" if not text else "neither on nor off") in refusal(datatypes.boolean, text)


@pytest.mark.parametrize(("text", "value"), [("auto", "auto"), ("Path", "path"), ("VIRTUAL", "virtual")])
def test_addressing_style_accepted(text, value):
    assert datatypes.addressing_style(text) == value


@pytest.mark.parametrize("text", ["", "dns", "virtual-hosted", "path virtual"])
def test_addressing_style_refused(text):
    assert ("is empty" if not text else "is not an addressing style") in refusal(datatypes.addressing_style, text)


@pytest.mark.parametrize(
    ("text", "free_of_a_terabyte"),
    [
        ("5%", 50_000_000_000),
        ("2.5 %", 25_000_000_000),
        ("0%", 0),
        ("90%", 900_000_000_000),
        ("0", 0),
        ("10GB", 10 * 1024**3),
        ("1", 1),
    ],
)
def test_min_free_accepted(text, free_of_a_terabyte):
    assert datatypes.min_free(text).of(10**12) == free_of_a_terabyte


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is empty"),
        ("%", "is not a percentage"),
        ("-5%", "is negative"),
        ("5,5%", "is not a percentage"),
        ("91%", "is too large"),
        ("1000%", "is not a percentage"),
        ("five", "is not a size"),
        ("-1", "is negative"),
        ("1025PB", "is too large"),
    ],
)
def test_min_free_refused(text, reason):
    assert reason in refusal(datatypes.min_free, text)


@pytest.mark.parametrize(
    ("text", "value"),
    [("on", "on"), ("Yes", "on"), ("off", "off"), ("false", "off"), ("small", "small"), ("SMALL", "small")],
)
def test_fill_on_commit_accepted(text, value):
    assert datatypes.fill_on_commit(text) == value


@pytest.mark.parametrize("text", ["", "large", "0", "small "])
def test_fill_on_commit_refused(text):
    assert ("is empty" if not text else "is neither") in refusal(datatypes.fill_on_commit, text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("1073741824", 1024**3),
        ("10B", 10),
        ("64KB", 64 * 1024),
        ("500 MB", 500 * 1024**2),
        ("1.5GB", 1536 * 1024**2),
        ("1gb", 1024**3),
        ("1GiB", 1024**3),
        ("1G", 1024**3),
        ("2TB", 2 * 1024**4),
        ("1PB", 1024**5),
        ("0.5kb", 512),
        ("1024PB", 1024**6),
        (str(2**60 - 1), 2**60 - 1),  # exact, where a float would round
    ],
)
def test_size_accepted(text, value):
    assert datatypes.size(text) == value


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is empty"),
        ("0", "too small"),
        ("0GB", "too small"),
        ("0.0001KB", "too small"),
        ("-1", "negative"),
        ("-5GB", "negative"),
        ("1.5", "fraction"),
        ("1025PB", "too large"),
        ("9" * 31, "too large"),
        ("9" * 5000 + "GB", "too large"),
        ("1,5GB", "is not a size"),
        ("GB", "is not a size"),
        ("1GBB", "is not a size"),
        ("1EB", "is not a size"),
        ("1 G B", "is not a size"),
        ("1e9", "is not a size"),
        ("1_000", "is not a size"),
        ("\u0661GB", "is not a size"),
        ("one", "is not a size"),
        ("50%", "is not a size"),
        ("1GB\n", "is not a size"),
    ],
)
def test_size_refused(text, reason):
    assert reason in refusal(datatypes.size, text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("30", 30.0),
        ("0.5", 0.5),
        (".5", 0.5),
        ("10.", 10.0),
        ("30s", 30.0),
        ("30 S", 30.0),
        ("5m", 300.0),
        ("1.5h", 5400.0),
        ("2h", 7200.0),
        ("7d", 604800.0),
    ],
)
def test_interval_accepted(text, value):
    assert datatypes.interval(text, minimum=0.1, maximum=604800.0) == value


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is empty"),
        ("0", "too short"),
        ("0.01", "too short"),
        ("8d", "too long"),
        ("9" * 400, "too long"),
        ("-1", "negative"),
        ("-5m", "negative"),
        ("nan", "is not an interval"),
        ("inf", "is not an interval"),
        ("1e3", "is not an interval"),
        ("5 min", "is not an interval"),
        ("1h30m", "is not an interval"),
        ("1,5", "is not an interval"),
        ("m", "is not an interval"),
        ("\u0661", "is not an interval"),
        ("30\n", "is not an interval"),
    ],
)
def test_interval_refused(text, reason):
    assert reason in refusal(datatypes.interval, text, minimum=0.1, maximum=604800.0)


@pytest.mark.parametrize(("text", "value"), [("1", 1), ("+7", 7), ("20", 20), ("007", 7)])
def test_integer_accepted(text, value):
    assert datatypes.integer(text, minimum=1, maximum=20) == value


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is empty"),
        ("0", "too small"),
        ("-3", "too small"),
        ("21", "too large"),
        ("9" * 30, "too large"),
        ("9" * 31, "not a whole number"),
        ("2.0", "not a whole number"),
        ("two", "not a whole number"),
        ("1 0", "not a whole number"),
        ("1_0", "not a whole number"),
        ("\u0661", "not a whole number"),
    ],
)
def test_integer_refused(text, reason):
    assert reason in refusal(datatypes.integer, text, minimum=1, maximum=20)


def test_path_is_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/site")
    assert datatypes.path("var/cache") == tmp_path / "var/cache"
    assert datatypes.path("var/../x//y/") == tmp_path / "x/y"
    assert datatypes.path("~/cache") == Path("/home/site/cache")
    assert datatypes.path("/mit Leerzeichen/ä") == Path("/mit Leerzeichen/ä")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is empty"),
        ("a\x00b", "control"),
        ("a\tb", "control"),
        ("~no-such-user-here/x", "user that does not exist"),
    ],
)
def test_path_refused(text, reason):
    assert reason in refusal(datatypes.path, text)


def test_directory(tmp_path):
    (tmp_path / "file").write_text("x")
    assert datatypes.directory(str(tmp_path)) == tmp_path
    assert datatypes.directory(str(tmp_path / "new")) == tmp_path / "new"
    assert not (tmp_path / "new").exists()
    assert "not a folder" in refusal(datatypes.directory, str(tmp_path / "file"))
    assert "root of the file system" in refusal(datatypes.directory, "/")
    assert "root of the file system" in refusal(datatypes.directory, "/var/..")


def test_ca_bundle(tmp_path):
    empty = tmp_path / "empty.pem"
    empty.write_text("")
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("-----BEGIN CERTIFICATE-----\nbm9uZQ==\n-----END CERTIFICATE-----\n")
    assert datatypes.ca_bundle(str(CA_BUNDLE)) == CA_BUNDLE
    assert refusal(datatypes.ca_bundle, str(tmp_path / "gone.pem")) == "does not exist"
    assert "folder" in refusal(datatypes.ca_bundle, str(tmp_path))
    assert "PEM" in refusal(datatypes.ca_bundle, str(empty))
    assert "PEM" in refusal(datatypes.ca_bundle, str(wrong))


def test_optional_takes_empty_as_not_given():
    convert = datatypes.optional(datatypes.region)
    assert convert("") is None
    assert convert("us-east-1") == "us-east-1"
    assert refusal(convert, "eu central") == "is not a region"


# Secrets

TEXT = "wJalr/K7MDENG+bPxRfiCY"


def test_secret_shows_itself_nowhere():
    value = datatypes.Secret(TEXT)
    assert value.reveal() == TEXT
    for shown in (repr(value), str(value), f"{value}", f"{value!s:>40}", repr([value]), repr({"a": value})):
        assert TEXT not in shown
    for dump in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError) as caught:
            dump(value)
        assert TEXT not in str(caught.value)


def test_secret_conversions_never_fail():
    assert datatypes.secret("") is None
    assert datatypes.secret("a b\x00ä").reveal() == "a b\x00ä"
    assert datatypes.secret_or_empty("").reveal() == ""


@pytest.mark.parametrize("text", ["AKIAIOSFODNN7EXAMPLE", TEXT, "a$b!~"])
def test_check_credential_accepts(text):
    datatypes.check_credential(text)


@pytest.mark.parametrize("text", ["", "geheim nis", "token\n", "token\x7f", "schlüssel"])
def test_check_credential_refuses(text):
    reason = refusal(datatypes.check_credential, text)
    assert "blank" in reason
    assert not text or text not in reason


@pytest.mark.parametrize("form", ["{}", " {}\n", "{}\r\n"])
def test_key_bytes(form):
    key = bytes(range(32))
    text = base64.b64encode(key).decode()
    for written in (text, text.rstrip("=")):
        found = datatypes.key_bytes(form.format(written))
        assert (found, repr(found)) == (key, "<secret>")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is empty"),
        ("not base64!", "is not base64"),
        ("AAAAA", "is not base64"),
        (base64.b64encode(bytes(range(32))).decode().replace("A", "A\n"), "is not base64"),
        (base64.urlsafe_b64encode(b"\xff" * 32).decode(), "is not base64"),
        ("schlüssel", "is not base64"),
        (base64.b64encode(bytes(31)).decode(), "31 bytes"),
        (base64.b64encode(bytes(33)).decode(), "33 bytes"),
        ("0aF" * 21 + "0", "64 hex digits"),
    ],
)
def test_key_bytes_refused(text, reason):
    said = refusal(datatypes.key_bytes, text)
    assert reason in said
    assert not text or text not in said


@pytest.fixture
def secret_path(tmp_path):
    path = tmp_path / "secret"
    path.write_text(TEXT + "\n")
    path.chmod(0o600)
    return path


@pytest.mark.parametrize("content", [TEXT, TEXT + "\n", TEXT + "\r\n"])
@pytest.mark.parametrize("mode", [0o400, 0o600, 0o440])
def test_secret_file(secret_path, content, mode, caplog):
    secret_path.write_text(content)
    secret_path.chmod(mode)
    assert datatypes.secret_file(str(secret_path)).reveal() == TEXT
    assert not caplog.records


@pytest.mark.parametrize("mode", [0o444, 0o644])
def test_secret_file_that_others_may_read_is_logged(secret_path, mode, caplog):
    """Modes of Docker's and Kubernetes' secrets: taken, but said."""
    secret_path.chmod(mode)
    assert datatypes.secret_file(str(secret_path)).reveal() == TEXT
    [record] = caplog.records
    assert record.levelname == "WARNING"
    assert str(secret_path) in record.getMessage()
    assert TEXT not in record.getMessage()


def test_secret_file_by_symlink(secret_path, tmp_path):
    """Kubernetes mounts secrets as links."""
    link = tmp_path / "link"
    link.symlink_to(secret_path)
    assert datatypes.secret_file(str(link)).reveal() == TEXT


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_secret_file_that_others_may_write_is_refused(secret_path, mode):
    secret_path.chmod(mode)
    assert "may be written by others" in refusal(datatypes.secret_file, str(secret_path))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty file"),
        (b"\n", "empty file"),
        (b"one\ntwo\n", "several lines"),
        (b"key = abc\n", "blanks"),
        ("schlüssel".encode(), "outside ASCII"),
        (b"\xff\xfe\x00", "outside ASCII"),
        (b"x" * 5000, "more than 4096 bytes"),
    ],
)
def test_secret_file_with_other_content_is_refused(secret_path, content, reason):
    secret_path.write_bytes(content)
    assert reason in refusal(datatypes.secret_file, str(secret_path))


def test_secret_file_that_is_none_is_refused(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    assert refusal(datatypes.secret_file, str(tmp_path / "gone")) == "does not exist"
    assert refusal(datatypes.secret_file, str(tmp_path)) == "is a folder"
    assert refusal(datatypes.secret_file, str(tmp_path / "fifo")) == "is not a file"
    (tmp_path / "file").write_text("x")
    assert "cannot be read by this process's user" in refusal(datatypes.secret_file, str(tmp_path / "file" / "x"))
    assert "is empty" in refusal(datatypes.secret_file, "")


def test_secret_file_that_cannot_be_read_is_refused(secret_path):
    secret_path.chmod(0)
    if os.access(secret_path, os.R_OK):
        pytest.skip("this user reads every file (root with CAP_DAC_OVERRIDE)")
    assert "cannot be read by this process's user" in refusal(datatypes.secret_file, str(secret_path))
