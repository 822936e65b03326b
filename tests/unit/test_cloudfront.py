"""Addresses of a CDN are signed as botocore's signer for CloudFront signs them, and its public key confirms them."""

from __future__ import annotations

import base64
import io
import json
from datetime import UTC, datetime
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit

import pytest
import ZConfig
from botocore.signers import CloudFrontSigner
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from hypothesis import given
from hypothesis import strategies as st
from schemas import storage_schema

from collective.s3blobstorage import datatypes
from collective.s3blobstorage.delivery.cdn import cdn_signed
from collective.s3blobstorage.delivery.cloudfront import CloudFront, signed_url
from collective.s3blobstorage.errors import ConfigurationError
from collective.s3blobstorage.settings import DeliverySettings

KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
UNTIL = datetime(2026, 11, 26, 12, 30, tzinfo=UTC)


def pem(key, password=None):
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption).decode()


BOUNDS = DeliverySettings(
    cdn_url_base="https://cdn.example.org/site", cdn_key_pair_id="K2JCJMDEHXQW5F", cdn_private_key=pem(KEY)
)


def by_botocore(url):
    def sign(policy):
        return KEY.sign(policy, padding.PKCS1v15(), hashes.SHA1())

    return CloudFrontSigner("K2JCJMDEHXQW5F", sign).generate_presigned_url(url, date_less_than=UNTIL)


@given(st.text(max_size=30), st.text(max_size=60))
def test_the_same_as_botocores(kind, disposition):
    answer = {"content-type": kind, "content-disposition": disposition}
    made = CloudFront().sign("https://cdn.example.org/site/blobs/1/2", UNTIL, answer, BOUNDS)
    unsigned = made.partition("&Expires=")[0]
    assert made == by_botocore(unsigned)
    assert parse_qs(urlsplit(unsigned).query, keep_blank_values=True) == {
        "response-content-type": [kind],
        "response-content-disposition": [disposition],
    }


def test_without_a_query():
    url = "https://cdn.example.org/site/a"
    assert signed_url(url, UNTIL, "K2JCJMDEHXQW5F", KEY) == by_botocore(url)


def confirmed(url):
    """As the CDN does it: the policy is made of the address, and the public key checks it."""
    unsigned, _, rest = url.partition("&Expires=")
    until, _, rest = rest.partition("&Signature=")
    signature = base64.b64decode(rest.partition("&")[0].translate(str.maketrans("-_~", "+=/")))
    condition = {"DateLessThan": {"AWS:EpochTime": int(until)}}
    policy = json.dumps({"Statement": [{"Resource": unsigned, "Condition": condition}]}, separators=(",", ":"))
    KEY.public_key().verify(signature, policy.encode(), padding.PKCS1v15(), hashes.SHA1())


@pytest.mark.parametrize("change", [("text%2Fplain", "text%2Fhtml"), ("/2?", "/3?"), ("Expires=1", "Expires=2")])
def test_what_was_changed_is_not_confirmed(change):
    answer = {"content-type": "text/plain"}
    url = CloudFront().sign("https://cdn.example.org/site/blobs/1/2", UNTIL, answer, BOUNDS)
    confirmed(url)
    assert change[0] in url
    with pytest.raises(InvalidSignature):
        confirmed(url.replace(*change))


def test_one_user_gets_one_address(monkeypatch):
    monkeypatch.setattr("collective.s3blobstorage.delivery.cdn.getUtility", lambda interface: CloudFront())
    address = SimpleNamespace(key="blobs/0000000000000001/" + "a" * 32, delivery=BOUNDS)
    begin = UNTIL.timestamp() // 150 * 150
    headers = {"content_type": "video/mp4", "disposition": "inline", "cache_control": "private, max-age=150"}
    made = [
        cdn_signed(address, 300, **headers, now=datetime.fromtimestamp(begin + seconds, UTC))
        for seconds in (0, 149, 150)
    ]
    assert made[0].url == made[1].url != made[2].url
    assert made[0].expires.timestamp() == begin + 300
    assert made[0].url.startswith(f"https://cdn.example.org/site/{address.key}?response-content-type=video%2Fmp4&")
    assert "Signature" not in repr(made[0])


def test_without_a_key_it_says_what_is_missing():
    with pytest.raises(ConfigurationError, match="cdn-key-pair-id"):
        CloudFront().sign(
            "https://cdn.example.org/a", UNTIL, {}, DeliverySettings(cdn_url_base="https://cdn.example.org")
        )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (lambda: "no key", "does not hold a private key in PEM"),
        (lambda: pem(KEY, b"secret"), "does not hold a private key in PEM without a password"),
        (lambda: pem(ec.generate_private_key(ec.SECP256R1())), "does not hold an RSA key of 2048 bits"),
        (lambda: pem(rsa.generate_private_key(public_exponent=65537, key_size=1024)), "does not hold an RSA key"),
    ],
    ids=["text", "password", "elliptic", "1024 bits"],
)
def test_a_file_that_holds_something_else(tmp_path, text, reason):
    file = tmp_path / "key.pem"
    file.write_text(text())
    file.chmod(0o600)
    with pytest.raises(ConfigurationError, match=reason):
        datatypes.private_key_file(str(file))


def test_a_file_that_holds_the_key(tmp_path):
    file = tmp_path / "key.pem"
    file.write_text(pem(KEY))
    file.chmod(0o600)
    secret = datatypes.private_key_file(str(file))
    assert secret.reveal() == pem(KEY) and "PRIVATE" not in repr(secret)
    assert "PRIVATE" not in repr(BOUNDS)


def delivery_of(*lines):
    """What a ``<s3blobstorage>`` with these lines says of delivery."""
    head = [
        "%import collective.s3blobstorage",
        "<s3blobstorage>",
        "bucket-name plone-blobs",
        "cache-dir /var/cache/blobs",
    ]
    text = "\n".join([*head, *lines, "<mappingstorage/>", "</s3blobstorage>", ""])
    config, _ = ZConfig.loadConfigFile(storage_schema(), io.StringIO(text))
    return config.storage.settings.delivery


def test_zope_conf_has_all_of_it(tmp_path):
    file = tmp_path / "key.pem"
    file.write_text(pem(KEY))
    file.chmod(0o600)
    lines = (
        "cdn-url-base https://cdn.example.org/site/",
        "cdn-key-pair-id K2JCJMDEHXQW5F",
        f"cdn-private-key-file {file}",
    )
    assert delivery_of(*lines) == BOUNDS


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (["cdn-key-pair-id K2"], "without cdn-url-base"),
        (["cdn-url-base https://cdn.example.org", "cdn-private-key-file {file}"], "without cdn-key-pair-id"),
    ],
)
def test_a_part_of_it_is_refused(tmp_path, lines, reason):
    file = tmp_path / "key.pem"
    file.write_text(pem(KEY))
    file.chmod(0o600)
    with pytest.raises(ZConfig.ConfigurationError, match=reason):
        delivery_of(*(line.format(file=file) for line in lines))
