"""Secrets by value and by name, in every form that botocore prints."""

from __future__ import annotations

import base64
import logging
from urllib.parse import quote

import pytest

from collective.s3blobstorage.encryption.secret import SecretBytes
from collective.s3blobstorage.objectstore import redaction

KEY = bytes(range(3, 35))
ENCODED = base64.b64encode(KEY).decode()
SIGNATURE = "0f" * 32


@pytest.mark.parametrize(
    "text",
    [
        f"{{'x-amz-server-side-encryption-customer-key': '{ENCODED}', 'Host': 'kept'}}",
        f"x-amz-server-side-encryption-customer-key:{ENCODED}\nkept",
        f"'x-amz-copy-source-server-side-encryption-customer-key': b'{ENCODED}', kept",
        f"{{'SSECustomerKey': {KEY!r}, 'Key': 'kept'}}",
        f"{{'CopySourceSSECustomerKey': {KEY!r}}} kept",
        f"'X-Amz-Security-Token': '{ENCODED}' kept",
        f"x-amz-security-token:{ENCODED}\nkept",
        f"X-Amz-Security-Token={quote(ENCODED, safe='')}&kept=1",
        f"X-Amz-Security-Token%3D{ENCODED}&kept",
        f"https://host/kept?X-Amz-Signature={SIGNATURE}&X-Amz-Date=1",
        f"Authorization: AWS4-HMAC-SHA256 Credential=A/kept, SignedHeaders=host, Signature={SIGNATURE}",
        f"Signature:\n{SIGNATURE}\nkept",
        f"'SecretAccessKey': '{ENCODED}', kept",
        f"""b'{{"KeyId": "kept", "Plaintext": "{ENCODED}"}}'""",
        f"""b'{{"Plaintext":"{ENCODED}","KeyId":"kept"}}'""",
        f"{{'Plaintext': {KEY!r}, 'KeyId': 'kept'}}",
    ],
)
def test_recognised_by_name(text):
    clean = redaction.redact(text)
    for secret in (ENCODED, quote(ENCODED, safe=""), repr(KEY)[2:-1], SIGNATURE):
        assert secret not in clean
    assert "kept" in clean and redaction.HIDDEN in clean


def test_recognised_by_value():
    secret, key = "session-token/of+this=test", bytes(range(90, 122))
    redaction.remember([secret, key, None, "", "short"])
    for form in (secret, quote(secret, safe=""), base64.b64encode(key).decode(), key.hex(), repr(key), repr(secret)):
        assert redaction.redact(f"a {form} b").replace("'", "").replace('b"', "").split()[::2] == ["a", "b"]
        assert form not in redaction.redact(f"a {form} b")
    assert redaction.redact("a short line") == "a short line"


def test_key_material_that_hides_its_repr_is_known_in_every_form():
    key = bytes(range(91, 123))
    redaction.remember([SecretBytes(key)])
    for form in (base64.b64encode(key).decode(), key.hex(), repr(key)[2:-1]):
        assert redaction.redact(f"a {form} b") == f"a {redaction.HIDDEN} b"


@pytest.mark.parametrize(
    "text", ["Signature Version 4", "SignedHeaders=host;x-amz-date", "GET /bucket/key", "Signature:", "Event x: y"]
)
def test_the_rest_stays(text):
    assert redaction.redact(text) == text


@pytest.fixture
def records():
    """Records as a handler of a parent gets them: the filter sits on the logger, the handler above it."""
    caught: list[str] = []

    class Catching(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            caught.append(logging.Formatter().format(record))

    logger = logging.getLogger("botocore.a_test_of_redaction")
    redaction.install()
    handler = Catching()
    parent = logging.getLogger("botocore")
    parent.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield logger, caught
    parent.removeHandler(handler)


def test_the_filter_cleans_arguments_and_tracebacks(records):
    logger, caught = records
    logger.debug("params: %s and %s", {"SSECustomerKey": KEY}, [f"x-amz-security-token: {ENCODED}"])
    try:
        raise ValueError(f"SSECustomerKey={ENCODED}")
    except ValueError:
        logger.exception("failed")
    logger.debug("wrong arguments %d", "x")
    text = "\n".join(caught)
    assert "params:" in text and "Traceback" in text and "ValueError" in text and len(caught) == 3
    for secret in (ENCODED, repr(KEY)[2:-1], KEY.hex()):
        assert secret not in text


def test_installing_twice_filters_once(records):
    logger, _ = records
    redaction.install()
    redaction.install()
    assert len(logger.filters) == 1
