"""The sources' sections in ``<s3blobstorage>``: values, every key with every kind of wrong value, what must agree."""

from __future__ import annotations

import io
import subprocess
import sys

import pytest
import ZConfig
from persistent.TimeStamp import TimeStamp
from schemas import storage_schema
from test_config_wrong_values import ALLOWED, COMPANIONS, EXPECTED, KINDS, LATER, NOT_SHOWN, same

from collective.s3blobstorage.config_keys import KEYS as KEYS_OF_THE_STORAGE
from collective.s3blobstorage.errors import ConfigurationError
from collective.s3blobstorage.overlay.interfaces import ISourceSettings, SourceOptions
from collective.s3blobstorage.overlay.settings import BaseSettings, BlobDirSettings, S3Settings
from collective.s3blobstorage.settings import StoreSettings
from collective.s3blobstorage.source_keys import KEYS

URL = "file:///etc/plone/zope.conf"
REQUIRED = {"s3source": {"bucket-name": "production"}, "blobdirsource": {"path": "/srv/blobs"}, "basesource": {}}

_INTERVAL = EXPECTED["s3-connect-timeout"]
OWN: dict[str, dict[str, str | None]] = {
    "name": same("is not a name of a source", empty=ALLOWED),
    "mirror": same("is neither on, off nor background", empty="is empty"),
    "fork-tid": same("is not a transaction id", empty=ALLOWED),
    "fork-time": same("is not a moment in UTC", empty=ALLOWED),
    "negative-cache": _INTERVAL,
    "max-size": same("is not a size", empty=ALLOWED, negative="is negative", huge="is too large"),
    "layout": same("is none of the choices", empty="is empty"),
    "timeout": _INTERVAL,
    "path": EXPECTED["cache-dir"],
}
CASES = [(section, name) for section, keys in KEYS.items() for name in keys]


@pytest.fixture(autouse=True)
def environment_without_aws(monkeypatch):
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_S3_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)


def parsed(*sections: str, base: str = "<mappingstorage/>"):
    lines = ["%import collective.s3blobstorage", "<s3blobstorage>", *sections]
    lines += ["bucket-name plone-blobs", "cache-dir /var/cache/plone-blobs", base, "</s3blobstorage>", ""]
    config, _ = ZConfig.loadConfigFile(storage_schema(), io.StringIO("\n".join(lines)), url=URL)
    return config.storage.settings.sources


def source(section: str, *lines: str, name: str = "") -> str:
    """The first line is line 4 of the file."""
    given = {line.split()[0] for line in lines}
    needed = [f"{key} {value}" for key, value in REQUIRED[section].items() if key not in given]
    return "\n".join([f"<{section} {name}>", *lines, *needed, f"</{section}>"])


def failure(*sections: str, **options) -> str:
    with pytest.raises(ZConfig.ConfigurationError) as caught:
        parsed(*sections, **options)
    return str(caught.value)


# Values


def test_shortest_sections_give_the_defaults():
    found = parsed(*(source(section) for section in KEYS))
    assert [type(settings) for settings in found] == [S3Settings, BlobDirSettings, BaseSettings]
    assert found[0] == S3Settings(SourceOptions("s3source"), StoreSettings("production", outage_patience=30.0), "ours")
    assert str(found[1].path) == "/srv/blobs"
    assert all(ISourceSettings.providedBy(settings) for settings in found)
    assert parsed() == ()


@pytest.mark.parametrize("section", KEYS)
def test_options_of_every_source(section):
    lines = ["fork-time 2026-11-01T12:00:00Z", "negative-cache 10m", "max-size 2MB", "mirror ON"]
    [found] = parsed(source(section, *lines, name="production"))
    fork_tid = TimeStamp(2026, 11, 1, 12, 0, 0).raw()
    assert found.options == SourceOptions("production", fork_tid, 600.0, 2 * 1024 * 1024, "on")
    [found] = parsed(source(section, "fork-tid 0x040A1b2c3d4e5f60", "name other", name="production"))
    assert (found.options.name, found.options.fork_tid) == ("other", bytes.fromhex("040a1b2c3d4e5f60"))


@pytest.mark.parametrize(
    ("text", "value"), [("on", "on"), ("yes", "on"), ("off", "off"), ("Background", "background"), (None, "background")]
)
def test_mirror(text, value):
    [found] = parsed(source("basesource", *([f"mirror {text}"] if text else [])))
    assert found.options.mirror == value


def test_a_bucket_of_its_own_with_credentials_of_its_own():
    lines = [
        "s3-prefix a/site",
        "s3-endpoint-url https://s3.example.org",
        "s3-access-key AKIAEXAMPLE",
        "s3-secret-key topsecret",
        "s3-session-token token",
        "s3-region eu-central-1",
        "s3-addressing-style path",
        "layout zodb-s3blobs",
        "timeout 4s",
        "s3-download-connect-timeout 3s",
    ]
    [found] = parsed(source("s3source", *lines))
    assert found.layout == "zodb-s3blobs"
    assert found.store == StoreSettings(
        "production",
        prefix="a/site",
        endpoint_url="https://s3.example.org",
        access_key="AKIAEXAMPLE",
        secret_key="topsecret",
        session_token="token",
        region="eu-central-1",
        addressing_style="path",
        outage_patience=4.0,
        download_connect_timeout=3.0,
        download_read_timeout=4.0,
    )
    assert "topsecret" not in repr(found) and "'token'" not in repr(found)


def test_in_order_and_any_number():
    found = parsed(*(source("blobdirsource", f"path /srv/{name}", name=name) for name in ("c", "a", "b")))
    assert [settings.options.name for settings in found] == ["c", "a", "b"]


# Wrong values


def test_every_key_has_its_rows():
    for section, name in CASES:
        assert (name in OWN) != (name in EXPECTED), (section, name)
    assert set(OWN) == {name for _, name in CASES} - set(KEYS_OF_THE_STORAGE)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("section", "name"), CASES)
def test_wrong_value(section, name, kind):
    key, value = KEYS[section][name], KINDS[kind]
    reason = (OWN.get(name) or EXPECTED[name])[kind]
    lines = [f"{name} {value}".strip(), *COMPANIONS.get(name, ())]
    alone = kind == "empty" and name in ("s3-access-key", "s3-secret-key")  # its companion has no use without it
    if reason is ALLOWED and not alone:
        parsed(source(section, *lines))
        return
    message = failure(source(section, *lines))
    assert len(message) < 1000, "a huge value must not fill the log"
    if name in COMPANIONS or reason == LATER:
        assert message.startswith(f"<s3blobstorage>: <{section}>: {COMPANIONS[name][0].split()[0] if alone else name} ")
        assert alone or NOT_SHOWN in message
        assert not value or value not in message
        return
    written = value.replace("$$", "$")
    assert message.startswith(f"{name} {key.show(written)} {reason}")
    assert key.advice in message
    assert message.endswith(f"(line 4, in {URL})")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("2026-11-01", "is not a moment in UTC"),
        ("2026-11-01T12:00:00", "is not a moment in UTC"),
        ("2026-11-01T12:00:00+01:00", "is not a moment in UTC"),
        ("2026-02-30T12:00:00Z", "is no date and time of the calendar"),
        ("1970-01-01T00:00:00Z", "is before any transaction"),
    ],
)
def test_moments(value, reason):
    assert failure(source("basesource", f"fork-time {value}")).startswith(f"fork-time {value!r} {reason}")


@pytest.mark.parametrize(("section", "name"), CASES)
def test_misspelt_key(section, name):
    message = failure(source(section, f"{name}x topsecret"))
    assert message.startswith(f"no such key in <{section}>; did you mean {name}? {KEYS[section][name].advice}")
    assert "topsecret" not in message


@pytest.mark.parametrize("name", ["cache-dir", "s3-read-timeout", "upload-concurrency", "owner"])
def test_a_key_that_has_no_use_there_is_refused(name):
    message = failure(source("s3source", f"{name} x"))
    assert message.startswith(("no such key in <s3source>; did you mean", f"{name!r} is not a key of <s3source>"))


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        (["<s3source>\n</s3source>"], "<s3source>: bucket-name is missing. Allowed: 3 to 63 "),
        (["<blobdirsource old>\n</blobdirsource>"], "<blobdirsource old>: path is missing. Allowed: a blob directory"),
        (
            ["<basesource>\nfork-tid 040a1b2c3d4e5f60\nfork-time 2026-11-01T12:00:00Z\n</basesource>"],
            "<basesource>: fork-tid and fork-time are both given; keep one of them",
        ),
        (
            ["<blobdirsource>\npath /a\n</blobdirsource>", "<blobdirsource>\npath /b\n</blobdirsource>"],
            "two sources are called 'blobdirsource'; give each a name. Allowed: 1 to 64 letters",
        ),
        (
            ["<s3source>\nbucket-name production\ns3-access-key x\n</s3source>"],
            "<s3source>: s3-access-key is given without a secret key",
        ),
        (
            ["<s3source two-words_and/slash>\nbucket-name production\n</s3source>"],
            "<s3source two-words_and/slash>: name 'two-words_and/slash' is not a name of a source",
        ),
    ],
)
def test_what_must_agree(sections, message):
    assert failure(*sections).startswith(f"<s3blobstorage>: {message}")


def test_a_basesource_around_a_filestorage_is_refused(tmp_path):
    base = f"<filestorage>\npath {tmp_path}/Data.fs\n</filestorage>"
    assert failure(source("basesource"), base=base).startswith(
        "<s3blobstorage>: <basesource> cannot be used around a <filestorage>: add a <blobdirsource>"
    )
    assert not list(tmp_path.iterdir())


def test_a_source_stands_only_in_our_section():
    with pytest.raises(ZConfig.ConfigurationError):
        text = "%import collective.s3blobstorage\n<blobdirsource>\npath /a\n</blobdirsource>\n"
        ZConfig.loadConfigFile(storage_schema(), io.StringIO(text))


def test_parsing_does_not_import_boto3(tmp_path):
    path = tmp_path / "storage.conf"
    path.write_text(
        f"%import collective.s3blobstorage\n<s3blobstorage>\n{source('s3source')}\nbucket-name plone-blobs\n"
        "cache-dir /var/cache/x\n<mappingstorage/>\n</s3blobstorage>\n"
    )
    program = (
        "import sys, ZConfig\nfrom ZODB.config import getStorageSchema\n"
        f"ZConfig.loadConfig(getStorageSchema(), {str(path)!r})\n"
        "assert not {'boto3', 'botocore'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_the_environment_counts_again_when_the_storage_is_opened(monkeypatch):
    """zope.conf's ``<environment>`` is set between parsing and opening."""
    from collective.s3blobstorage.config import storage_settings

    text = "\n".join(
        ["%import collective.s3blobstorage", "<s3blobstorage>", source("s3source"), "bucket-name plone-blobs"]
        + ["cache-dir /var/cache/plone-blobs", "<mappingstorage/>", "</s3blobstorage>", ""]
    )
    config, _ = ZConfig.loadConfigFile(storage_schema(), io.StringIO(text), url=URL)
    [found] = storage_settings(config.storage.config, {"AWS_S3_ENDPOINT_URL": "https://other.example.org"}).sources
    assert found.store.endpoint_url == "https://other.example.org"
    with pytest.raises(ConfigurationError, match="AWS_S3_ENDPOINT_URL"):
        storage_settings(config.storage.config, {"AWS_S3_ENDPOINT_URL": "other"})
