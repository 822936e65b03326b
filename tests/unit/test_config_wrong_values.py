"""Every key of ``<s3blobstorage>`` with every kind of wrong value; a new key without its rows fails here.

Where a value is allowed, the table says so. The message of each refusal is asserted whole: key, value, reason, what is
allowed, an example, file and line.
"""

from __future__ import annotations

import io

import pytest
import ZConfig
from schemas import storage_schema

from collective.s3blobstorage.config_keys import KEYS, NOT_SHOWN
from collective.s3blobstorage.errors import ConfigurationError

URL = "file:///etc/plone/zope.conf"
HUGE = "9" * 100_000

# The kinds of wrong values, as the text behind the key. ``$$`` in zope.conf is one dollar sign.
KINDS = {
    "empty": "",
    "spaces": "two words",
    "unicode": "bür\u200bo\U0001f5c4",
    "traversal": "../../no/such/file",
    "negative": "-1",
    "huge": HUGE,
    "dollar": "$${NAME}",
}

ALLOWED = None  # the value is taken
LATER = "later"  # a secret: taken as text, and checked with the other keys when the section is complete

_BOOLEAN = {
    "empty": "is empty",
    **dict.fromkeys(("spaces", "unicode", "traversal", "negative", "huge", "dollar"), "is neither on nor off"),
}
_INTERVAL = {
    "empty": "is empty",
    "negative": "is negative",
    "huge": "is too long",
    **dict.fromkeys(("spaces", "unicode", "traversal", "dollar"), "is not an interval"),
}
_INTEGER = {
    "empty": "is empty",
    "negative": "is too small",
    **dict.fromkeys(("spaces", "unicode", "traversal", "huge", "dollar"), "is not a whole number"),
}
_SCHEME = "has no scheme; write http:// or https:// before the host"
_ENDPOINT = {
    "empty": ALLOWED,
    "spaces": "holds a blank or a control character",
    **dict.fromkeys(("unicode", "traversal", "negative", "huge", "dollar"), _SCHEME),
}
_FILE = {"empty": ALLOWED, **dict.fromkeys(set(KINDS) - {"empty", "huge"}, "does not exist")}
_TOO_LONG = "cannot be read by this process's user: File name too long"
# A folder that does not exist yet may have any name that the file system takes.
_FOLDER = {**dict.fromkeys(set(KINDS) - {"empty"}, ALLOWED), "huge": "cannot be used: File name too long"}
_SECRET = {kind: LATER if kind in ("spaces", "unicode") else ALLOWED for kind in KINDS}


def same(reason: str | None, **others: str | None) -> dict[str, str | None]:
    return {kind: others.get(kind, reason) for kind in KINDS}


EXPECTED: dict[str, dict[str, str | None]] = {
    "bucket-name": same(
        "is not the name of a bucket",
        empty="is empty",
        traversal="holds a slash; give the bucket alone, a folder in it with s3-prefix, and the host with "
        "s3-endpoint-url",
    ),
    "s3-prefix": same(
        "holds a character that is not allowed",
        empty=ALLOWED,
        traversal="holds a part '.' or '..'",
        negative=ALLOWED,
        huge="is 100000 characters long",
    ),
    "s3-endpoint-url": _ENDPOINT,
    "s3-public-endpoint-url": _ENDPOINT,
    "s3-region": same("is not a region", empty=ALLOWED),
    "s3-access-key": _SECRET,
    "s3-secret-key": _SECRET,
    "s3-secret-key-file": {**_FILE, "huge": _TOO_LONG},
    "s3-session-token": _SECRET,  # empty: without a token
    "s3-profile": same(
        "is not the name of a profile", empty=ALLOWED, spaces=ALLOWED, traversal=ALLOWED, negative=ALLOWED
    ),
    "s3-use-ssl": _BOOLEAN,
    "s3-ca-bundle": {**_FILE, "huge": "cannot be read"},
    "s3-addressing-style": same("is not an addressing style", empty="is empty"),
    "s3-expected-bucket-owner": same("is not an account", empty="is empty"),
    "create-bucket": _BOOLEAN,
    "s3-provider": same("is none of the choices", empty="is empty"),
    "storage-class": same("is not a storage class", empty=ALLOWED),
    "retention": same("does not begin with governance or compliance", empty=ALLOWED),
    "s3-sse-customer-key": dict.fromkeys(KINDS, LATER),
    "require-encryption": _BOOLEAN,
    "s3-connect-timeout": _INTERVAL,
    "s3-read-timeout": _INTERVAL,
    "s3-download-connect-timeout": _INTERVAL,
    "s3-download-read-timeout": _INTERVAL,
    "s3-download-max-attempts": _INTEGER,
    "download-deadline": _INTERVAL,
    "outage-patience": _INTERVAL,
    "s3-max-pool-connections": _INTEGER,
    "upload-concurrency": _INTEGER,
    "cache-dir": {**_FOLDER, "empty": "is empty"},
    "cache-size": same("is not a size", empty="is empty", negative="is negative", huge="is too large"),
    "cache-min-free": same("is not a size", empty="is empty", negative="is negative", huge="is too large"),
    "cache-fill-on-commit": same("is neither on, off nor small", empty="is empty"),
    "cache-encrypt": _BOOLEAN,
    "part-threshold": same("is not a size", empty="is empty", negative="is negative", huge="is too large"),
    "part-size": same("is not a size", empty="is empty", negative="is negative", huge="is too large"),
    "staging-dir": {**_FOLDER, "empty": ALLOWED},
    "inline-size": same("is not a size", empty="is empty", negative="is negative", huge="is too large"),
    "owner": same("is not a name of an owner", empty="is empty"),
    "commit-within-cache-size": _BOOLEAN,
    "dedup": _BOOLEAN,
    "keep-in-base": _BOOLEAN,
    "gc-grace": _INTERVAL,
    "gc-keep": _INTERVAL,
    "key-max-age": _INTERVAL,
    "gc-on-pack": same("is none of the choices", empty="is empty"),
    "delivery-modes": same("names a mode that does not exist", empty="is empty"),
    "presign-max-expiry": _INTERVAL,
    "public-url-base": _ENDPOINT,
    "cdn-url-base": _ENDPOINT,
    "cdn-key-pair-id": same("is not the id of a key pair", empty=ALLOWED),
    "cdn-private-key-file": {**_FILE, "huge": _TOO_LONG},
    "metrics-token-file": {**_FOLDER, "empty": ALLOWED, "huge": ALLOWED},
    "x-accel-location": same("does not begin with a slash and a name", empty=ALLOWED),
    "missing-blob": same("is none of the choices", empty="is empty"),
    "preflight": _BOOLEAN,
    "preflight-deadline": _INTERVAL,
    "start-degraded": _BOOLEAN,
    "site-operations": _BOOLEAN,
    "direct-upload": _BOOLEAN,
    "direct-upload-max-size": same("is not a size", empty="is empty", negative="is negative", huge="is too large"),
    "upload-expiry": _INTERVAL,
    "direct-upload-origins": {**_ENDPOINT, "spaces": _SCHEME},
    "direct-upload-staging": same("is none of the choices", empty="is empty"),
    "read-only": _BOOLEAN,
    "note-reads": _BOOLEAN,
}

# What a secret's late refusal says, and what must be there for the check to be reached.
COMPANIONS = {
    "s3-access-key": ["s3-secret-key topsecret"],
    "s3-secret-key": ["s3-access-key AKIAEXAMPLE"],
    "s3-session-token": ["s3-access-key AKIAEXAMPLE", "s3-secret-key topsecret"],
}


@pytest.fixture(autouse=True)
def environment_without_aws(monkeypatch):
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_S3_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)


def parse(lines: list[str], key: str) -> None:
    required = {"bucket-name": "plone-blobs", "cache-dir": "/var/cache/plone-blobs"}
    head = [f"{name} {value}" for name, value in required.items() if name != key]
    text = ["%import collective.s3blobstorage", "<s3blobstorage>", *lines, *head]
    text += ["<mappingstorage/>", "</s3blobstorage>", ""]
    ZConfig.loadConfigFile(storage_schema(), io.StringIO("\n".join(text)), url=URL)


def test_every_key_has_its_rows():
    assert set(EXPECTED) == set(KEYS)
    for name, rows in EXPECTED.items():
        assert set(rows) == set(KINDS), name


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", KEYS)
def test_wrong_value(name, kind):
    key, value, reason = KEYS[name], KINDS[kind], EXPECTED[name][kind]
    lines = [f"{name} {value}".strip(), *COMPANIONS.get(name, ())]
    alone = kind == "empty" and name in ("s3-access-key", "s3-secret-key")  # its companion has no use without it
    if reason is ALLOWED and not alone:
        parse(lines, name)
        return
    with pytest.raises(ZConfig.ConfigurationError) as caught:
        parse(lines, name)
    message = str(caught.value)
    assert len(message) < 1000, "a huge value must not fill the log"
    if name in COMPANIONS or reason == LATER:
        expected = f"is given without {'s3-access-key' if name == 's3-access-key' else 'a secret key'}"
        start = f"<s3blobstorage>: {COMPANIONS[name][0].split()[0] if alone else name} "
        assert message.startswith(start)
        assert (expected if alone else NOT_SHOWN) in message
        assert not value or value not in message
        return
    assert isinstance(caught.value.exception, ConfigurationError)
    written = value.replace("$$", "$")
    assert message.startswith(f"{name} {key.show(written)} {reason}")
    assert key.advice in message
    assert (" The environment variable NAME is read by $(NAME)." in message) is (kind == "dollar")
    assert message.endswith(f"(line 3, in {URL})")


@pytest.mark.parametrize("name", KEYS)
def test_unset_variable(name, monkeypatch):
    monkeypatch.delenv("NO_SUCH_VARIABLE", raising=False)
    with pytest.raises(ZConfig.ConfigurationError) as caught:
        parse([f"{name} $(NO_SUCH_VARIABLE)"], name)
    assert str(caught.value) == f"no replacement for 'NO_SUCH_VARIABLE'\n(line 3 in {URL})"


@pytest.mark.parametrize("name", KEYS)
def test_misspelt_key(name):
    """The key that was meant is named; the value, which may be a secret, is not."""
    with pytest.raises(ZConfig.ConfigurationError) as caught:
        parse([f"{name}x topsecret"], "")
    message = str(caught.value)
    assert message.startswith(f"no such key in <s3blobstorage>; did you mean {name}? {KEYS[name].advice}")
    assert "topsecret" not in message
    assert message.endswith(f"(line 3, in {URL})")
