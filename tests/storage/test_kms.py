"""Keys that AWS KMS wraps, against the embedded server's KMS. Not run on Ceph: it has none."""

from __future__ import annotations

import base64
import json
import logging
import math
import re
from contextlib import closing
from pathlib import Path

import boto3
import pytest
from servers.faults import answer, reset
from zope.interface.verify import verifyObject

from collective.s3blobstorage.encryption.interfaces import IKeyProvider
from collective.s3blobstorage.encryption.register import open_ring, read
from collective.s3blobstorage.encryption.ring import KeyRing
from collective.s3blobstorage.errors import ConfigurationError, Unavailable
from collective.s3blobstorage.objectstore import open_store
from collective.s3blobstorage.objectstore.kms import KMSProvider
from collective.s3blobstorage.objectstore.redaction import HIDDEN, redact

DENIED = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Action": "kms:GenerateDataKey", "Resource": "*"},
        {"Effect": "Deny", "Action": "kms:Decrypt", "Resource": "*"},
    ],
}


@pytest.fixture
def server(s3_server, pytestconfig, monkeypatch, tmp_path):
    if pytestconfig.getoption("--s3") != "ministack":
        pytest.skip("Ceph has no KMS of AWS: run with --s3 ministack")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_server.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_server.secret_key)
    return s3_server


@pytest.fixture
def kms(server):
    client = boto3.client("kms", endpoint_url=server.endpoint_url, region_name=server.region)
    yield client
    client.close()


@pytest.fixture
def kms_key(kms) -> str:
    return kms.create_key()["KeyMetadata"]["Arn"]


@pytest.fixture
def provider(server, kms_key):
    """``provider(id, key=…, **settings)``: of the server's KMS, or of what the settings say."""

    def make(id: str = "2026-11", key: str = kms_key, **settings) -> KMSProvider:
        return KMSProvider(id, key, **({"region": server.region, "endpoint_url": server.endpoint_url} | settings))

    return make


def test_a_key_is_made_once_and_opened_by_each_process(provider):
    first, second = provider(), provider()
    assert verifyObject(IKeyProvider, first) and first.keeps and first.source.startswith("AWS KMS arn:")
    kept = first.make()
    material = first.material(kept)
    assert len(material) == 32 and material == second.material(kept) and material not in kept
    assert first.material(first.make()) != material


def test_in_a_ring(provider, kms, settings):
    """The bucket keeps what KMS wrapped; another process, and one with another key active, get the same bytes."""
    with closing(open_store(settings)) as store:
        rings = [KeyRing([provider("2026-11")], "2026-11") for _ in range(2)]
        for ring in rings:
            open_ring(store, ring, "client-side", writable=True)
        assert rings[0].active.name == rings[1].active.name and read(store, "2026-11").kept
        other = kms.create_key()["KeyMetadata"]["Arn"]
        both = KeyRing([provider("2026-11"), provider("2027-01", key=other)], "2027-01")
        states = {entry.id: entry.state for entry in open_ring(store, both, "client-side", writable=True)}
        assert states == {"2026-11": "superseded", "2027-01": "active"}
        assert both.key("2026-11").name == rings[0].active.name != both.active.name
        wrong = KeyRing([provider("2026-11", key=other)], "2026-11")
        # AWS refuses that itself (IncorrectKeyException); this KMS gives out other bytes, and the canary finds it.
        with pytest.raises(ConfigurationError, match="the key 2026-11 .* is not the one that the bucket knows"):
            open_ring(store, wrong, "client-side", writable=False)


def test_the_region_is_that_of_the_arn(provider):
    found = provider(region=None)
    assert found.region == "us-east-1" and len(found.material(found.make())) == 32
    assert KMSProvider("a", "alias/plone").region is None


def test_by_alias_and_after_the_alias_was_given_away(kms, provider, kms_key):
    kms.create_alias(AliasName="alias/blobs-of-these-tests", TargetKeyId=kms_key)
    try:
        by_alias = provider(key="alias/blobs-of-these-tests")
        kept = by_alias.make()
        assert by_alias.material(kept) == provider().material(kept)
    finally:
        kms.delete_alias(AliasName="alias/blobs-of-these-tests")


def test_a_wrapped_key_is_bound_to_the_id_of_the_ring(provider):
    kept = provider("2026-11").make()
    refused(lambda: provider("2026-12").material(kept), "of another id", "2026-12")


def refused(ask, *said: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        ask()
    message = str(raised.value)
    assert all(part in message for part in ("kms-key-id", *said)), message
    assert "\n" not in message and (raised.value.__context__ is None or raised.value.__suppress_context__)


def test_a_key_that_was_never_made(provider):
    with pytest.raises(ConfigurationError, match="s3blobs keys add 2026-11"):
        provider().material(None)


@pytest.mark.parametrize("key", ["alias/no-such-key", "00000000-0000-0000-0000-000000000000"])
def test_no_such_key(provider, key):
    refused(provider(key=key).make, key, "no such key", "example: kms-key-id alias/")


def test_a_disabled_key_and_one_that_is_being_deleted(kms, provider, kms_key):
    kept = provider().make()
    kms.disable_key(KeyId=kms_key)
    refused(lambda: provider().material(kept), "enable it in AWS KMS")
    refused(provider().make, "enable it in AWS KMS")
    kms.enable_key(KeyId=kms_key)
    assert len(provider().material(kept)) == 32
    kms.schedule_key_deletion(KeyId=kms_key, PendingWindowInDays=7)
    refused(lambda: provider().material(kept), "enable it in AWS KMS")


def test_a_key_of_another_kind(kms, provider):
    of_macs = kms.create_key(KeyUsage="GENERATE_VERIFY_MAC", KeySpec="HMAC_256")["KeyMetadata"]["KeyId"]
    refused(provider(key=of_macs).make, "SYMMETRIC_DEFAULT")


def test_credentials_that_may_make_but_not_open(server, provider, monkeypatch):
    user = server.create_user("may-not-decrypt", DENIED)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", user[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", user[1])
    kept = provider().make()
    refused(lambda: provider().material(kept), "kms:Decrypt")


def test_the_documents_policy_is_enough(server, provider, kms_key, monkeypatch):
    document = (Path(__file__).resolve().parents[2] / "docs" / "encryption.md").read_text()
    policy = json.loads(re.search(r"```json\n(.*?)```", document, re.DOTALL)[1])
    (statement,) = policy["Statement"]
    statement["Resource"] = kms_key
    user = server.create_user("as-the-document-says", policy)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", user[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", user[1])
    kept = provider().make()
    assert len(provider().material(kept)) == 32
    statement["Action"].remove("kms:Decrypt")
    user = server.create_user("with-less-than-that", policy)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", user[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", user[1])
    refused(lambda: provider().material(kept), "kms:Decrypt")


def test_credentials_that_are_none(provider, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another-secret-than-the-right-one")
    refused(provider().make, "credentials are not accepted", "profile")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    refused(provider().make, "credentials are not accepted", "profile")


def test_a_profile(server, provider, monkeypatch, tmp_path):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    (tmp_path / "credentials").write_text(
        f"[blobs]\naws_access_key_id = {server.access_key}\naws_secret_access_key = {server.secret_key}\n"
    )
    assert provider(profile="blobs").make()
    refused(provider(profile="nobody").make, "profile", "'nobody'")


def test_no_region_at_all(provider, monkeypatch):
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    monkeypatch.delenv("AWS_REGION", raising=False)
    refused(provider(key="alias/plone", region=None).make, "region eu-central-1")


def test_http_is_for_this_machine_only(provider, monkeypatch):
    # A name that is looked up nowhere: it is refused before that.
    refused(provider(endpoint_url="http://kms.invalid").make, "clear text", "endpoint-url")
    monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", "http://kms.invalid")
    refused(provider(endpoint_url=None).make, "clear text", "AWS_ENDPOINT_URL_KMS")


def test_https_with_a_private_authority(tls_proxy, provider, ca, monkeypatch):
    refused(provider(endpoint_url=tls_proxy.endpoint_url).make, "AWS_CA_BUNDLE")
    monkeypatch.setenv("AWS_CA_BUNDLE", str(ca.bundle))
    assert provider(endpoint_url=tls_proxy.endpoint_url).make()


def test_one_that_is_out_for_a_moment_is_asked_again(proxy, provider):
    asked = provider(endpoint_url=proxy.endpoint_url)
    proxy.fail(reset("before"))
    assert len(asked.material(asked.make())) == 32
    assert len(proxy.exchanges) == 3


@pytest.mark.parametrize("fault", [reset("before"), reset("answer"), answer(503), answer(500, "InternalError")])
def test_one_that_stays_out_is_not_a_wrong_setting(proxy, provider, fault):
    proxy.fail(fault, times=math.inf)
    with pytest.raises(Unavailable, match=r"kms-key-id"):
        provider(endpoint_url=proxy.endpoint_url).make()
    assert len(proxy.exchanges) == 3


def test_nobody_there(proxy, provider):
    proxy.down()
    with pytest.raises(Unavailable, match=r"kms-key-id"):
        provider(endpoint_url=proxy.endpoint_url).make()


def test_something_else_answers(proxy, provider):
    proxy.fail(answer(404, "NoSuchKey"), times=math.inf)
    refused(provider(endpoint_url=proxy.endpoint_url).make, "endpoint-url")
    proxy.forgive()
    proxy.fail(answer(200, "OK"), times=math.inf)
    refused(provider(endpoint_url=proxy.endpoint_url).make, "not KMS", "endpoint-url")


def test_no_byte_of_the_key_is_told(provider, caplog):
    caplog.set_level(logging.DEBUG)
    asked = provider()
    kept = asked.make()
    ring = KeyRing([asked], asked.id)
    ring.kept_of = lambda id: kept
    material = bytes(ring.active.material)
    asked.material(kept)
    shown = "\n".join(map(caplog.handler.format, caplog.records)) + repr(asked) + repr(ring) + repr(ring.active)
    shown += repr(asked.material(kept)) + str(vars(asked))
    assert "Plaintext" in shown and "[hidden]" in shown  # what would have told it was logged
    for form in (base64.b64encode(material).decode(), material.hex(), repr(material)[2:-1], material.decode("latin-1")):
        assert form not in shown
    for form in (base64.b64encode(material).decode(), material.hex(), repr(material)[2:-1]):  # wherever it may turn up
        assert redact(f"a line with {form} in it") == f"a line with {HIDDEN} in it"
    # the one that was only made is as secret: nothing that looks like a key of 32 bytes in base64 follows its name
    assert '"Plaintext": [hidden]' in shown or '"Plaintext":[hidden]' in shown
