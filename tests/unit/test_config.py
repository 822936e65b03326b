"""``<s3blobstorage>`` as ZConfig parses it: values, messages with file and line, secrets."""

from __future__ import annotations

import base64
import io
import logging
import traceback
from pathlib import Path

import botocore
import pytest
import ZConfig
from schemas import storage_schema
from ZODB.config import getDbSchema

from collective.s3blobstorage import config as configuration
from collective.s3blobstorage.config_keys import KEYS
from collective.s3blobstorage.errors import ConfigurationError
from collective.s3blobstorage.settings import GB, MinFree, Retention, StorageSettings, StoreSettings, UploadSettings

CA_BUNDLE = Path(botocore.__file__).parent / "cacert.pem"
URL = "file:///etc/plone/zope.conf"
SSE_KEY = base64.b64encode(bytes(range(32))).decode()
AWS_VARIABLES = [
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_PROFILE",
    "AWS_DEFAULT_REGION",
    "AWS_REGION",
    "AWS_CONFIG_FILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_CA_BUNDLE",
]
ENDPOINT_VARIABLES = [
    "AWS_ENDPOINT_URL_S3",
    "AWS_ENDPOINT_URL",
    "AWS_S3_ENDPOINT_URL",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
]


@pytest.fixture(autouse=True)
def environment_without_aws(monkeypatch):
    for name in AWS_VARIABLES + ENDPOINT_VARIABLES:
        monkeypatch.delenv(name, raising=False)


def section(*lines: str, base: str = "<mappingstorage/>", bucket: bool = True, cache: bool = True) -> str:
    """A section as text; the given lines begin at line 3, or 5 behind bucket and cache."""
    head = ["%import collective.s3blobstorage", "<s3blobstorage>"]
    if bucket:
        head.append("bucket-name plone-blobs")
    if cache:
        head.append("cache-dir /var/cache/plone-blobs")
    return "\n".join([*head, *lines, base, "</s3blobstorage>", ""])


def parse(text: str) -> configuration.S3BlobStorageFactory:
    config, _ = ZConfig.loadConfigFile(storage_schema(), io.StringIO(text), url=URL)
    return config.storage


def settings(*lines: str, **options) -> StorageSettings:
    return parse(section(*lines, **options)).settings


def failure(*lines: str, **options) -> ZConfig.ConfigurationError:
    with pytest.raises(ZConfig.ConfigurationError) as caught:
        parse(section(*lines, **options))
    return caught.value


# Values


def test_shortest_section_gives_the_defaults_of_the_settings():
    cache_dir = Path("/var/cache/plone-blobs")
    assert settings() == StorageSettings(store=StoreSettings(bucket="plone-blobs"), cache_dir=cache_dir)


def test_defaults_of_zodb_s3blobs():
    """Figures of zodb-s3blobs 1.2.1's component.xml."""
    parsed = settings()
    store = parsed.store
    assert (store.prefix, store.use_ssl, store.addressing_style) == ("", True, "auto")
    assert (store.connect_timeout, store.read_timeout) == (60, 300)
    assert (store.download_connect_timeout, store.download_read_timeout) == (5, 10)
    assert store.download_max_attempts == 2
    assert parsed.cache_size == 1 * GB
    assert parsed.cache_min_free == MinFree(share=0.05)
    assert parsed.cache_fill_on_commit == "small"
    assert (parsed.part_threshold, parsed.part_size) == (8 * 1024 * 1024, 4 * 1024 * 1024)


def test_every_key_arrives(tmp_path):
    parsed = settings(
        "s3-prefix sites/intranet/",
        "s3-endpoint-url https://s3.example.org:9000/",
        "s3-public-endpoint-url https://files.example.org",
        "s3-region eu-central-1",
        "s3-access-key AKIAEXAMPLE",
        "s3-secret-key topsecret",
        "s3-session-token token",
        "s3-profile plone",
        "s3-use-ssl on",
        f"s3-ca-bundle {CA_BUNDLE}",
        "s3-addressing-style path",
        "s3-expected-bucket-owner 123456789012",
        "create-bucket on",
        "storage-class STANDARD_IA",
        "retention compliance 7y",
        "s3-connect-timeout 30s",
        "s3-read-timeout 2m",
        "s3-download-connect-timeout 1.5",
        "s3-download-read-timeout 15",
        "s3-download-max-attempts 3",
        "download-deadline 10m",
        "s3-max-pool-connections 100",
        "upload-concurrency 12",
        "cache-size 1.5GB",
        "cache-min-free 10GB",
        "cache-fill-on-commit on",
        "part-threshold 32MB",
        "part-size 512KB",
        f"staging-dir {tmp_path}/staging",
        "inline-size 4KB",
        "dedup off",  # not beside retention; on: test_config_encryption.py
        "commit-within-cache-size on",
        "missing-blob Placeholder",
        "preflight off",
        "preflight-deadline 5m",
        "start-degraded on",
        "site-operations on",
        "metrics-token-file /run/secrets/metrics-token",
        "outage-patience 1m",
        "s3-provider aws",
        "owner www.example.org",
        "gc-grace 48h",
        "gc-keep 30d",
        "gc-on-pack plan",
        "key-max-age 90d",
        "direct-upload off",
        "direct-upload-max-size 20GB",
        "upload-expiry 6h",
        "direct-upload-origins https://www.example.org https://Edit.example.org:443/ http://localhost:8080",
        "direct-upload-staging None",
        "read-only on",
    )
    assert parsed == StorageSettings(
        store=StoreSettings(
            bucket="plone-blobs",
            prefix="sites/intranet",
            endpoint_url="https://s3.example.org:9000",
            public_endpoint_url="https://files.example.org",
            region="eu-central-1",
            access_key="AKIAEXAMPLE",
            secret_key="topsecret",
            session_token="token",
            profile="plone",
            ca_bundle=CA_BUNDLE,
            use_ssl=True,
            addressing_style="path",
            connect_timeout=30.0,
            read_timeout=120.0,
            download_connect_timeout=1.5,
            download_read_timeout=15.0,
            download_max_attempts=3,
            download_deadline=600.0,
            max_pool_connections=100,
            upload_concurrency=12,
            storage_class="STANDARD_IA",
            retention=Retention("compliance", 7 * 365 * 86400.0),
            expected_bucket_owner="123456789012",
            create_bucket=True,
            provider="aws",
            outage_patience=60.0,
        ),
        cache_dir=Path("/var/cache/plone-blobs"),
        cache_size=3 * GB // 2,
        cache_min_free=MinFree(size=10 * GB),
        cache_fill_on_commit="on",
        part_threshold=32 * 1024 * 1024,
        part_size=512 * 1024,
        staging_dir=tmp_path / "staging",
        inline_size=4096,
        dedup=False,
        commit_within_cache_size=True,
        missing_blob="placeholder",
        preflight=False,
        preflight_deadline=300.0,
        start_degraded=True,
        site_operations=True,
        metrics_token_file=Path("/run/secrets/metrics-token"),
        owner="www.example.org",
        gc_grace=2 * 86400.0,
        gc_keep=30 * 86400.0,
        gc_on_pack="plan",
        key_max_age=90 * 86400.0,
        uploads=UploadSettings(
            allowed=False,
            most_size=20 * GB,
            expiry=6 * 3600.0,
            origins=("https://www.example.org", "https://edit.example.org", "http://localhost:8080"),
            staging="none",
        ),
        read_only=True,
    )


def test_name_of_the_section_is_the_name_of_the_factory():
    text = section().replace("<s3blobstorage>", "<s3blobstorage Main>")
    assert parse(text).name == "main"
    assert parse(section()).name is None


@pytest.mark.parametrize(
    "key",
    [
        "s3-endpoint-url",
        "s3-public-endpoint-url",
        "s3-region",
        "s3-access-key",
        "s3-secret-key",
        "s3-secret-key-file",
        "s3-session-token",
        "s3-profile",
        "s3-ca-bundle",
        "storage-class",
        "retention",
        "staging-dir",
        "s3-prefix",
        "direct-upload-origins",
    ],
)
def test_empty_is_as_if_not_given(key, monkeypatch):
    monkeypatch.setenv("EMPTY", "")
    assert settings(f"{key} $(EMPTY)") == settings()
    assert settings(key) == settings()


def test_credentials_from_the_environment_by_name(monkeypatch):
    monkeypatch.setenv("MY_KEY", "AKIAEXAMPLE")
    monkeypatch.setenv("MY_SECRET", "top$secret")  # not replaced a second time
    store = settings("s3-access-key $(MY_KEY)", "s3-secret-key $(MY_SECRET)").store
    assert (store.access_key, store.secret_key) == ("AKIAEXAMPLE", "top$secret")


def test_secret_key_from_a_file(tmp_path):
    path = tmp_path / "secret"
    path.write_text("topsecret\n")
    path.chmod(0o600)
    store = settings("s3-access-key AKIAEXAMPLE", f"s3-secret-key-file {path}").store
    assert (store.access_key, store.secret_key) == ("AKIAEXAMPLE", "topsecret")


@pytest.mark.parametrize(
    ("endpoint", "key", "use_ssl"),
    [
        (None, None, True),
        (None, "off", False),
        (None, "on", True),
        ("https://s3.example.org", "off", True),
        ("http://s3.example.org", "on", False),
        ("http://s3.example.org", None, False),
    ],
)
def test_scheme_of_the_endpoint_decides_over_use_ssl(endpoint, key, use_ssl):
    lines = [f"s3-endpoint-url {endpoint}"] if endpoint else []
    lines += [f"s3-use-ssl {key}"] if key else []
    assert settings(*lines).store.use_ssl is use_ssl


# The environment of boto3


def test_variables_of_boto3_are_left_to_boto3(monkeypatch):
    for name in AWS_VARIABLES:
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "https://s3.example.org")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://all.example.org")
    store = settings().store
    for value in (
        store.endpoint_url,
        store.region,
        store.access_key,
        store.secret_key,
        store.session_token,
        store.profile,
        store.ca_bundle,
    ):
        assert value is None


@pytest.mark.parametrize(
    ("environ", "line", "endpoint"),
    [
        ({"AWS_S3_ENDPOINT_URL": "https://alias.example.org/"}, None, "https://alias.example.org"),
        ({"AWS_S3_ENDPOINT_URL": ""}, None, None),
        ({"AWS_S3_ENDPOINT_URL": "https://alias.example.org"}, "https://key.example.org", "https://key.example.org"),
        ({"AWS_S3_ENDPOINT_URL": "no url"}, "https://key.example.org", "https://key.example.org"),
        ({"AWS_S3_ENDPOINT_URL": "https://a.example.org", "AWS_ENDPOINT_URL_S3": "https://b.example.org"}, None, None),
        ({"AWS_S3_ENDPOINT_URL": "https://a.example.org", "AWS_ENDPOINT_URL": "https://b.example.org"}, None, None),
        (
            {"AWS_S3_ENDPOINT_URL": "https://a.example.org", "AWS_ENDPOINT_URL": ""},
            None,
            "https://a.example.org",
        ),
        (
            {"AWS_S3_ENDPOINT_URL": "https://a.example.org", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"},
            None,
            None,
        ),
    ],
)
def test_alias_of_the_endpoint(environ, line, endpoint, monkeypatch):
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert settings(*([f"s3-endpoint-url {line}"] if line else [])).store.endpoint_url == endpoint


def test_alias_of_the_endpoint_is_checked_like_the_key(monkeypatch):
    monkeypatch.setenv("AWS_S3_ENDPOINT_URL", "minio:9000")
    message = str(failure())
    assert message.startswith("<s3blobstorage>: AWS_S3_ENDPOINT_URL 'minio:9000' has no scheme; ")
    assert "Example: AWS_S3_ENDPOINT_URL https://s3.example.org:9000" in message


def test_endpoint_variables_of_boto3_decide_on_tls(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://s3.example.org")
    assert settings().store.use_ssl is False
    assert "needs TLS" in str(failure(f"s3-sse-customer-key {SSE_KEY}"))
    monkeypatch.setenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")
    assert settings(f"s3-sse-customer-key {SSE_KEY}").store.use_ssl is True


# Messages: one wrong value


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("s3-prefix", "../other", "s3-prefix '../other' holds a part '.' or '..'."),
        ("s3-prefix", "mit Leerzeichen", "s3-prefix 'mit Leerzeichen' holds a character that is not allowed."),
        ("s3-endpoint-url", "minio:9000", "s3-endpoint-url 'minio:9000' has no scheme;"),
        ("s3-public-endpoint-url", "files", "s3-public-endpoint-url 'files' has no scheme;"),
        ("s3-region", "eu central", "s3-region 'eu central' is not a region."),
        ("s3-profile", "[plone]", "s3-profile '[plone]' is not the name of a profile."),
        ("s3-use-ssl", "", "s3-use-ssl '' is empty."),
        ("s3-use-ssl", "maybe", "s3-use-ssl 'maybe' is neither on nor off."),
        ("create-bucket", "1", "create-bucket '1' is neither on nor off."),
        ("read-only", "ja", "read-only 'ja' is neither on nor off."),
        ("s3-ca-bundle", "/no/such/file", "s3-ca-bundle '/no/such/file' does not exist."),
        ("s3-secret-key-file", "/no/such/file", "s3-secret-key-file '/no/such/file' does not exist."),
        ("s3-addressing-style", "dns", "s3-addressing-style 'dns' is not an addressing style."),
        ("s3-expected-bucket-owner", "", "s3-expected-bucket-owner '' is empty."),
        ("s3-expected-bucket-owner", "12345", "s3-expected-bucket-owner '12345' is not an account."),
        ("owner", "", "owner '' is empty."),
        ("owner", "my site", "owner 'my site' is not a name of an owner."),
        ("storage-class", "GLACIER", "storage-class 'GLACIER' is an archive;"),
        ("s3-connect-timeout", "-1", "s3-connect-timeout '-1' is negative."),
        ("s3-read-timeout", "inf", "s3-read-timeout 'inf' is not an interval."),
        ("s3-download-connect-timeout", "0", "s3-download-connect-timeout '0' is too short."),
        ("s3-download-read-timeout", "2d", "s3-download-read-timeout '2d' is too long."),
        ("s3-download-max-attempts", "0", "s3-download-max-attempts '0' is too small."),
        ("s3-download-max-attempts", "1.5", "s3-download-max-attempts '1.5' is not a whole number."),
        ("download-deadline", "0.5", "download-deadline '0.5' is too short."),
        ("s3-max-pool-connections", "1001", "s3-max-pool-connections '1001' is too large."),
        ("upload-concurrency", "0", "upload-concurrency '0' is too small."),
        ("cache-size", "viel", "cache-size 'viel' is not a size."),
        ("cache-size", "-1GB", "cache-size '-1GB' is negative."),
        ("part-threshold", "0", "part-threshold '0' is too small."),
        ("part-size", "1KB", "part-size '1KB' is too small."),
        ("part-size", "2GB", "part-size '2GB' is too large."),
        ("direct-upload-max-size", "6TB", "direct-upload-max-size '6TB' is too large."),
        ("direct-upload-max-size", "0", "direct-upload-max-size '0' is too small."),
        ("upload-expiry", "9m", "upload-expiry '9m' is too short."),
        ("upload-expiry", "8d", "upload-expiry '8d' is too long."),
        ("direct-upload-origins", "*", "direct-upload-origins '*' holds a *, which would admit the pages of other"),
        (
            "direct-upload-origins",
            "https://www.example.org https://me:topsecret@example.org",
            "direct-upload-origins (value not shown) holds a user or password, which an origin has not.",
        ),
        ("direct-upload-origins", "https://example.org/Plone", "direct-upload-origins 'https://example.org/Plone' hol"),
        ("direct-upload-staging", "sse-c", "direct-upload-staging 'sse-c' is none of the choices."),
        ("staging-dir", "/", "staging-dir '/' is the root of the file system;"),
    ],
)
def test_wrong_value_names_key_value_allowed_example_file_and_line(key, value, reason):
    error = failure(f"{key} {value}".strip())
    message = str(error)
    assert message.startswith(reason)
    assert f"Allowed: {KEYS[key].allowed}. Example: {key} {KEYS[key].example}" in message
    assert message.endswith(f"(line 5, in {URL})")
    assert isinstance(error, ZConfig.DataConversionError)
    assert isinstance(error.exception, ConfigurationError)


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("bucket-name", "", "bucket-name '' is empty."),
        ("bucket-name", "my bucket", "bucket-name 'my bucket' is not the name of a bucket."),
        ("bucket-name", "bürο", "bucket-name 'bürο' is not the name of a bucket."),
        ("cache-dir", "", "cache-dir '' is empty."),
        ("cache-dir", "/dev/null", "cache-dir '/dev/null' is there, but is not a folder."),
    ],
)
def test_wrong_value_of_a_required_key(key, value, reason):
    error = failure(f"{key} {value}".strip(), bucket=key != "bucket-name", cache=key != "cache-dir")
    assert str(error).startswith(reason)
    assert f"Example: {key} {KEYS[key].example}" in str(error)
    assert str(error).endswith(f"(line 4, in {URL})")


def failure_of_missing(key: str) -> str:
    return str(failure(bucket=key != "bucket-name", cache=key != "cache-dir"))


@pytest.mark.parametrize("key", ["bucket-name", "cache-dir"])
def test_missing_key(key):
    advice = f"Allowed: {KEYS[key].allowed}. Example: {key} {KEYS[key].example}"
    assert failure_of_missing(key) == f"<s3blobstorage>: {key} is missing. {advice}"


@pytest.mark.parametrize("key", sorted(name for name, key in KEYS.items() if key.show("x") != "(value not shown)"))
def test_huge_value_does_not_fill_the_log(key):
    huge = "~~" + "x" * 100_000  # no value of any key: not even a path, for want of such a user
    with pytest.raises(ConfigurationError) as caught:
        KEYS[key](huge)
    assert len(str(caught.value)) < 800
    assert f"({len(huge)} characters)" in str(caught.value)


def test_unset_variable_is_an_error_that_names_it_and_the_line(monkeypatch):
    """ZConfig's own message: it comes before any conversion."""
    monkeypatch.delenv("NO_SUCH_VARIABLE", raising=False)
    for written in ("$(NO_SUCH_VARIABLE)", "$NO_SUCH_VARIABLE", "${NO_SUCH_VARIABLE}"):
        error = failure(f"s3-region {written}")
        assert str(error) == f"no replacement for 'NO_SUCH_VARIABLE'\n(line 5 in {URL})"


def test_dollar_that_was_kept_is_explained():
    message = str(failure("s3-region $${S3_REGION}"))
    assert message.startswith(
        "s3-region '${S3_REGION}' is not a region. The environment variable NAME is read by $(NAME). Allowed: "
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("bucket_name plone-blobs", "no such key in <s3blobstorage>; did you mean bucket-name? Allowed: "),
        ("s3-secret-kye topsecret", "no such key in <s3blobstorage>; did you mean s3-secret-key? Allowed: "),
        ("s3-secret-key=topsecret", "s3-secret-key must be followed by a blank, not by '=' or ':'. Allowed: "),
        ("S3-Region:eu-central-1", "s3-region must be followed by a blank, not by '=' or ':'. Allowed: "),
        ("snapshot-every 1d", "'snapshot-every' is not a key of <s3blobstorage>. Its keys: bucket-name, s3-prefix, "),
        ("wJalrXUtnFEMI/K7MDENG", "(not shown) is not a key of <s3blobstorage>. Its keys: bucket-name, s3-prefix, "),
    ],
)
def test_unknown_key(line, message):
    error = failure(line)
    assert str(error).startswith(message)
    assert str(error).endswith(f"(line 5, in {URL})")
    assert "topsecret" not in str(error)
    assert_no_secret(str(error))


def test_case_of_a_key_does_not_matter():
    assert settings("S3-Region eu-central-1").store.region == "eu-central-1"


def test_key_given_twice():
    error = failure("s3-region a", "s3-region b")
    assert "'s3-region' does not support multiple values" in str(error)
    assert error.lineno == 6


def test_user_in_an_endpoint_is_not_shown():
    for url in ("https://me:topsecret@s3.example.org", "https://s3.example.org?X-Amz-Signature=topsecret"):
        message = str(failure(f"s3-endpoint-url {url}"))
        assert message.startswith("s3-endpoint-url (value not shown) holds a ")
        assert "topsecret" not in message


# Messages: keys that contradict each other


CONTRADICTIONS = [
    (["s3-access-key AKIAEXAMPLE"], "s3-access-key is given without a secret key; add s3-secret-key or"),
    (["s3-secret-key topsecret"], "s3-secret-key is given without s3-access-key; add it,"),
    (["s3-access-key AKIAEXAMPLE", "s3-secret-key"], "s3-access-key is given without a secret key;"),
    (["s3-session-token topsecret"], "s3-session-token is given without s3-access-key and s3-secret-key;"),
    (
        ["s3-addressing-style virtual", "bucket-name Plone_Blobs"],
        "bucket-name 'Plone_Blobs' cannot be part of a host name, as s3-addressing-style virtual needs it.",
    ),
    (["s3-expected-bucket-owner plone"], "s3-expected-bucket-owner 'plone' is not an AWS account, and no"),
    (["upload-concurrency 60"], "upload-concurrency 60 is above s3-max-pool-connections 50:"),
    (["staging-dir /var/cache/../cache/plone-blobs/"], "staging-dir and cache-dir are both '/var/cache/plone-blobs';"),
    (
        [f"s3-sse-customer-key {SSE_KEY}", "s3-use-ssl off"],
        "s3-sse-customer-key sends the key with each request and so needs TLS, but s3-use-ssl is off.",
    ),
    (
        [f"s3-sse-customer-key {SSE_KEY}", "s3-use-ssl off", "s3-endpoint-url https://s3.example.org"],
        "s3-sse-customer-key sends the key with each request and so needs TLS, but s3-use-ssl is off.",
    ),
    (
        [f"s3-sse-customer-key {SSE_KEY}", "s3-endpoint-url http://s3.example.org"],
        "s3-sse-customer-key sends the key with each request and so needs TLS, but the endpoint is "
        "'http://s3.example.org'.",
    ),
    (["s3-sse-customer-key"], "s3-sse-customer-key (value not shown) is empty."),
    (["s3-sse-customer-key topsecret"], "s3-sse-customer-key (value not shown) is not base64."),
    (["s3-access-key AKIA EXAMPLE", "s3-secret-key x"], "s3-access-key (value not shown) holds a blank,"),
    (["s3-access-key AKIAEXAMPLE", "s3-secret-key top secret"], "s3-secret-key (value not shown) holds a blank,"),
]


@pytest.mark.parametrize(("lines", "message"), CONTRADICTIONS)
def test_contradiction(lines, message):
    bucket = not any(line.startswith("bucket-name") for line in lines)
    error = failure(*lines, bucket=bucket)
    assert str(error).startswith(f"<s3blobstorage>: {message}")
    assert "line" not in str(error)  # not nested in a section: ZConfig knows no line, and does not say -1
    for secret in ("AKIA", "topsecret", "top secret", SSE_KEY):
        assert secret not in str(error)


@pytest.mark.parametrize(("lines", "message"), CONTRADICTIONS)
def test_contradiction_in_a_database_has_file_and_line(lines, message):
    bucket = not any(line.startswith("bucket-name") for line in lines)
    text = "<zodb main>\n" + section(*lines, bucket=bucket) + "</zodb>\n"
    with pytest.raises(ZConfig.ConfigurationSyntaxError) as caught:
        ZConfig.loadConfigFile(getDbSchema(), io.StringIO(text), url=URL)
    assert str(caught.value).startswith(f"<s3blobstorage>: {message}")
    assert str(caught.value).endswith(f"(line {text.count(chr(10))} in {URL})")


def test_secret_key_and_file(tmp_path):
    path = tmp_path / "secret"
    path.write_text("topsecret")
    path.chmod(0o600)
    lines = ["s3-access-key AKIAEXAMPLE", f"s3-secret-key-file {path}"]
    assert "s3-secret-key and s3-secret-key-file are both given" in str(failure(*lines, "s3-secret-key other"))
    assert "s3-secret-key-file is given without s3-access-key" in str(failure(lines[1]))


def test_owner_of_the_bucket_on_another_store():
    lines = ["s3-expected-bucket-owner plone", "s3-endpoint-url https://s3.example.org"]
    assert settings(*lines).store.expected_bucket_owner == "plone"


# The storage inside


def test_missing_base():
    error = failure(base="")
    assert str(error) == (
        "<s3blobstorage>: the storage inside is missing: put the storage that keeps the objects, such as "
        "<filestorage>, <relstorage> or <zeoclient>, between <s3blobstorage> and </s3blobstorage>"
    )


def test_two_bases():
    one = "<mappingstorage>\n</mappingstorage>"
    error = failure(base=f"{one}\n{one}")
    assert "too many instances of" in str(error)
    assert error.lineno == 8


@pytest.mark.parametrize(
    ("base", "message"),
    [
        (
            "<filestorage>\npath {0}/Data.fs\nblob-dir {0}/blobs\n</filestorage>",
            "blob-dir '{0}/blobs' of the <filestorage> inside would keep blobs beside the bucket: remove that line",
        ),
        (
            "<blobstorage>\nblob-dir {0}/blobs\n<filestorage>\npath {0}/Data.fs\n</filestorage>\n</blobstorage>",
            "the <blobstorage> inside would keep the blobs itself: leave it out and keep the storage that it holds",
        ),
    ],
)
def test_base_with_blobs_of_its_own_is_refused_before_it_makes_files(base, message, tmp_path):
    error = failure(base=base.format(tmp_path))
    assert str(error).startswith("<s3blobstorage>: " + message.format(tmp_path))
    assert f"add a <blobdirsource> with path {tmp_path}/blobs to <s3blobstorage>" in str(error)
    assert list(tmp_path.iterdir()) == []


# Secrets

SECRETS = {
    "s3-access-key": "AKIAIOSFODNN7EXAMPLE",
    "s3-secret-key": "wJalrXUtnFEMI/K7MDENG",
    "s3-session-token": "FwoGZXIvYXdzEXAMPLE",
    "s3-sse-customer-key": SSE_KEY,
}
# What an error report may show of an SSE-C key besides its text.
FORMS = [*SECRETS.values(), repr(bytes(range(32)))[2:-1], bytes(range(32)).hex()]


def assert_no_secret(text: str) -> None:
    for form in FORMS:
        assert form not in text


def test_secrets_in_no_repr_of_what_parsing_leaves_behind(caplog):
    caplog.set_level(logging.DEBUG)
    factory = parse(section(*(f"{key} {value}" for key, value in SECRETS.items())))
    assert factory.settings.store.secret_key == SECRETS["s3-secret-key"]
    assert factory.settings.store.encryption.ring.key("customer-key").material == bytes(range(32))
    values = vars(factory.config)
    assert values["s3_secret_key"].reveal() == SECRETS["s3-secret-key"]
    for shown in (factory, factory.config, factory.settings, vars(factory), values, factory.config.getSectionMatcher()):
        assert_no_secret(repr(shown))
        assert_no_secret(str(shown))
    assert_no_secret(repr(vars(factory.config.getSectionMatcher())))
    assert_no_secret(caplog.text)


@pytest.mark.parametrize("wrong", ["s3-region eu central", "s3-use-ssl off", "no-such-key x", "upload-concurrency 60"])
def test_secrets_in_no_error_of_another_key(wrong):
    error = failure(*(f"{key} {value}" for key, value in SECRETS.items()), wrong)
    assert_no_secret(shown_with_locals(error))


@pytest.mark.parametrize("key", sorted(SECRETS))
def test_secret_of_a_wrong_form_is_not_shown(key):
    """With a blank in it every secret is wrong."""
    text = "geheim " + SECRETS[key]
    others = [f"{other} {value}" for other, value in SECRETS.items() if other != key]
    error = failure(*others, f"{key} {text}")
    assert str(error).startswith(f"<s3blobstorage>: {key} (value not shown) ")
    shown = shown_with_locals(error)
    assert_no_secret(shown)
    assert "geheim" not in shown


def shown_with_locals(error: BaseException) -> str:
    """What a report of errors may gather: message, attributes, traceback with the variables of every frame.

    But for the frames of this module, whose variables are the text of the configuration.
    """
    gathered = traceback.TracebackException.from_exception(error, capture_locals=True)
    gathered.stack = traceback.StackSummary(frame for frame in gathered.stack if frame.filename != __file__)
    assert any(frame.filename == configuration.__file__ or "ZConfig" in frame.filename for frame in gathered.stack)
    report = "".join(gathered.format())
    return "\n".join([report, str(error), repr(error), repr(vars(error)), str(getattr(error, "value", ""))])


# Opening


def test_variables_of_zope_confs_environment_section_count_at_opening(monkeypatch, tmp_path):
    """Zope sets them between parsing and opening."""
    factory = parse(section(base=f"<filestorage>\npath {tmp_path}/Data.fs\nread-only on\n</filestorage>"))
    assert factory.settings.store.endpoint_url is None
    monkeypatch.setenv("AWS_S3_ENDPOINT_URL", "https://alias.example.org")
    with pytest.raises(FileNotFoundError):  # of the base: no such Data.fs
        factory.open()
    assert factory.settings.store.endpoint_url == "https://alias.example.org"
