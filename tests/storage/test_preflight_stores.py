"""What an operator can get wrong, and what stores do differently: each is named, with what to change."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import uuid

import pytest
from rings import sse_c
from servers.ceph import KMS_KEY
from servers.faults import answer
from servers.proxy import Proxy
from test_preflight import found, keys

from collective.s3blobstorage.encryption.configured import (
    NO_ENCRYPTION,
    ClientSideMode,
    CustomerKeysMode,
    StoreMode,
    configured,
)
from collective.s3blobstorage.encryption.key_sources import FileKey, ValueKey
from collective.s3blobstorage.encryption.managed import SSEKMS, SSES3
from collective.s3blobstorage.errors import ConfigurationError, Unavailable
from collective.s3blobstorage.objectstore import open_store
from collective.s3blobstorage.objectstore.preflight import run
from collective.s3blobstorage.settings import StoreSettings

KEY = hashlib.sha256(b"the key of these tests").digest()


def failed(findings) -> list[str]:
    return [finding.name for finding in findings.values() if finding.ok is False]


def errors(settings: StoreSettings, **changed) -> list[Exception]:
    """What forbids to open."""
    store = open_store(dataclasses.replace(settings, **changed))
    try:
        return [error for _, error in run(store, writable=True, thorough=False) if error is not None]
    finally:
        store.close()


@pytest.mark.parametrize("seconds", [-1200, 1200])
@pytest.mark.parametrize("refuses", [False, True], ids=["takes it", "refuses it"])
def test_clock_off_by_20_minutes(settings, front, seconds, refuses):
    front.strange.clock, front.strange.refuses_skew = seconds, refuses
    findings = found(settings, endpoint_url=front.endpoint_url, thorough=True)
    assert failed(findings) == ["clock"]
    side = "behind" if seconds > 0 else "ahead of"
    assert findings["clock"].detail == f"the clock of this machine is 20 minutes {side} the object store's"
    assert findings["clock"].mend == "set this machine's clock by NTP"
    [error] = errors(settings, endpoint_url=front.endpoint_url)
    assert isinstance(error, ConfigurationError) and "NTP" in str(error)


def test_clock_off_by_6_minutes_is_only_a_warning(settings, front, caplog):
    front.strange.clock = 360
    assert errors(settings, endpoint_url=front.endpoint_url) == []
    assert "6 minutes behind" in caplog.text


def test_a_region_that_the_store_tells_is_corrected(settings, front, s3, bucket):
    front.strange.region = "eu-central-1"
    findings = found(settings, endpoint_url=front.endpoint_url, region="us-west-2", thorough=True)
    assert failed(findings) == ["region"]
    assert "eu-central-1" in findings["region"].detail and findings["region"].mend == "s3-region eu-central-1"
    assert keys(s3, bucket) == []
    assert errors(settings, endpoint_url=front.endpoint_url, region="us-west-2") == []


def test_a_region_that_the_server_does_not_mind(settings, s3_server):
    if s3_server.region == "default":
        pytest.skip("Ceph does not tell a bucket's region")
    findings = found(settings, region="eu-west-1")
    assert findings["region"].mend == f"s3-region {s3_server.region}"


def test_a_store_without_conditional_writes(settings, front, s3, bucket):
    front.strange.ignores = ("if-none-match",)
    findings = found(settings, endpoint_url=front.endpoint_url, thorough=True)
    assert failed(findings) == ["conditional writes"]
    assert "ignores If-None-Match" in findings["conditional writes"].detail
    assert "s3-prefix" in findings["conditional writes"].mend
    assert keys(s3, bucket) == []


@pytest.mark.parametrize("header", ["if-none-match", "x-amz-checksum"])
def test_a_store_that_refuses_a_header(settings, front, s3, bucket, header):
    front.strange.refuses = (header,)
    store = open_store(dataclasses.replace(settings, endpoint_url=front.endpoint_url))
    findings = {finding.name: finding for finding, _ in run(store, writable=True, thorough=False)}
    assert findings["write"].ok and findings["checksums"].ok
    assert ("refused" in findings["checksums"].detail) == (header == "x-amz-checksum")
    assert store.conditional_put == (header != "if-none-match")
    assert store.provider.value("checksum_headers") == (header != "x-amz-checksum")
    store.close()
    assert keys(s3, bucket) == []


def test_a_store_that_ignores_the_customers_key(settings, tls_front, ca, s3, bucket):
    tls_front.strange.ignores = ("x-amz-server-side",)
    secure = {"endpoint_url": tls_front.endpoint_url, "ca_bundle": ca.bundle, "encryption": sse_c(KEY)}
    findings = found(settings, thorough=True, **secure)
    assert failed(findings) == ["encryption"]
    assert "ignores the customer's key" in findings["encryption"].detail
    assert findings["encryption"].mend.startswith("s3-sse-customer-key")
    assert keys(s3, bucket) == []
    [error] = errors(settings, **secure)
    assert isinstance(error, ConfigurationError)


def test_a_bucket_where_customers_keys_are_blocked(settings, tls_front, ca, s3, bucket):
    tls_front.strange.refuses = ("x-amz-server-side",)
    secure = {"endpoint_url": tls_front.endpoint_url, "ca_bundle": ca.bundle, "encryption": sse_c(KEY)}
    findings = found(settings, thorough=True, **secure)
    assert failed(findings) == ["encryption"]
    assert "SSE-C is blocked" in findings["encryption"].detail
    assert keys(s3, bucket) == []


def test_a_store_that_keeps_it(settings, s3_server, ca, s3, bucket):
    upstream = getattr(s3_server, "tls_endpoint_url", None)
    with Proxy(upstream or s3_server.endpoint_url, ca=ca, upstream_ca=ca.bundle if upstream else None) as proxy:
        secure = {"endpoint_url": proxy.endpoint_url, "ca_bundle": ca.bundle, "encryption": sse_c(KEY)}
        findings = found(settings, thorough=True, **secure)
    assert failed(findings) == []
    assert findings["encryption"].ok and findings["tls"].ok
    assert findings["presigned GET"].ok is None
    assert keys(s3, bucket) == []


def test_a_certificate_that_nobody_signed(settings, tls_front):
    findings = found(settings, endpoint_url=tls_front.endpoint_url, thorough=True)
    assert failed(findings) == ["tls"]
    assert "signed by nobody that this machine trusts" in findings["tls"].detail
    assert findings["tls"].mend.startswith("s3-ca-bundle")
    [error] = errors(settings, endpoint_url=tls_front.endpoint_url)
    assert isinstance(error, ConfigurationError) and "s3-ca-bundle" in str(error)


def test_an_authority_that_boto3_is_told_of_counts_for_signed_urls_too(settings, tls_proxy, ca, monkeypatch):
    monkeypatch.setenv("AWS_CA_BUNDLE", str(ca.bundle))
    findings = found(settings, endpoint_url=tls_proxy.endpoint_url, ca_bundle=None, thorough=True)
    assert findings["tls"].detail == f"trusted by {ca.bundle}"
    assert findings["presigned GET"].ok and findings["presigned PUT"].ok


def test_https_at_a_port_without_tls(settings, front):
    findings = found(settings, endpoint_url=front.endpoint_url.replace("http:", "https:"))
    assert failed(findings) == ["tls"] and "http://" in findings["tls"].mend


def test_nothing_listens(settings):
    findings = found(settings, endpoint_url="http://127.0.0.1:1")
    assert failed(findings) == ["endpoint"] and findings["endpoint"].mend.startswith("s3-endpoint-url")
    [error] = errors(settings, endpoint_url="http://127.0.0.1:1")
    assert isinstance(error, Unavailable) and "s3-endpoint-url" in str(error)


def test_nothing_answers(settings, proxy):
    proxy.black_hole()
    [error] = errors(settings, endpoint_url=proxy.endpoint_url, download_connect_timeout=0.3, download_read_timeout=0.3)
    assert isinstance(error, Unavailable) and "nothing answers in time" in str(error)


def test_the_bucket_is_not_part_of_any_host(settings, s3_server):
    endpoint = s3_server.endpoint_url.replace("127.0.0.1", "localhost")
    findings = found(settings, endpoint_url=endpoint, addressing_style="virtual")
    if "addressing" not in failed(findings):
        pytest.skip("this machine resolves every name below localhost")
    assert findings["addressing"].mend == "s3-addressing-style path"
    assert findings["write"].ok


def a_user(s3_server, s3, bucket: str, actions: list[str]) -> dict[str, str]:
    """Keys of a user who may do no more than that in the bucket: by a policy of the user, or (Ceph) of the bucket."""
    name = f"user-{uuid.uuid4().hex[:8]}"
    resources = [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"]
    statement = {"Effect": "Allow", "Action": actions, "Resource": resources}
    if hasattr(s3_server, "tls_endpoint_url"):
        access, secret = s3_server.create_user(name)
        if actions:
            statement["Principal"] = {"AWS": [f"arn:aws:iam:::user/{name}"]}
            s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
    else:
        denied = {"Effect": "Deny", "Action": ["s3:*"], "Resource": resources}
        policy = {"Version": "2012-10-17", "Statement": [statement if actions else denied]}
        access, secret = s3_server.create_user(name, policy)
    return {"access_key": access, "secret_key": secret}


def test_a_user_who_may_only_read(settings, s3_server, s3, bucket):
    s3.put_object(Bucket=bucket, Key="something", Body=b"bytes")
    reader = a_user(s3_server, s3, bucket, ["s3:GetObject", "s3:ListBucket"])
    findings = found(settings, thorough=True, **reader)
    assert failed(findings) == ["write"]
    assert findings["write"].mend == "s3-access-key: let its policy allow s3:PutObject, or set read-only on"
    assert findings["read"].ok and findings["range"].ok and findings["listing"].ok
    [error] = errors(settings, **reader)
    assert isinstance(error, ConfigurationError)
    assert failed(found(settings, writable=False, thorough=True, **reader)) == []


def test_a_bucket_of_somebody_else(settings, s3_server, s3, bucket):
    findings = found(settings, thorough=True, **a_user(s3_server, s3, bucket, []))
    assert failed(findings) == ["bucket"]
    assert "belongs to somebody else" in findings["bucket"].detail
    assert findings["bucket"].mend.startswith("bucket-name")


def test_a_user_who_may_not_delete(settings, s3_server, s3, bucket):
    """The site's own rights: what is left under our prefix is gc's to delete."""
    writer = a_user(s3_server, s3, bucket, ["s3:GetObject", "s3:ListBucket", "s3:PutObject"])
    assert errors(settings, **writer) == []
    assert all(key.startswith(".s3blobs-check/") for key in keys(s3, bucket))


def test_a_bucket_with_versions_keeps_none_of_ours(settings, s3, bucket):
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    # Ceph 16 keeps no condition in such a bucket: every PUT is a version of its own.
    assert failed(found(settings)) in ([], ["conditional writes"])
    listed = s3.list_object_versions(Bucket=bucket)
    assert listed.get("Versions", []) + listed.get("DeleteMarkers", []) == []


@pytest.mark.parametrize("nth", [1, 2])
def test_a_store_that_fails_just_now_has_shown_nothing(settings, proxy, s3, bucket, nth):
    """503 to the second PUT is not "ignores If-None-Match": it is tried again."""
    proxy.fail(answer(503, "SlowDown"), method="PUT", nth=nth)
    [error] = errors(settings, endpoint_url=proxy.endpoint_url)
    assert isinstance(error, Unavailable)
    assert errors(settings, endpoint_url=proxy.endpoint_url) == []
    assert keys(s3, bucket) == []


# What is said of each way in which objects may be encrypted


def value(*numbers: int) -> tuple[ValueKey, ...]:
    return tuple(ValueKey(f"k{number}", bytes([number]) * 32, "the test") for number in numbers)


KMS = {"bucket_key": False, "dsse": False}
SAID = {
    "none": ([], None, "none is configured; what the bucket does by default"),
    "back to none": (
        [NO_ENCRYPTION, ClientSideMode(value(1), "k1")],
        None,
        " stays as it is; keys that are only read with: k1",
    ),
    "sse-s3": ([StoreMode("sse-s3", lambda r: SSES3(required=r))], True, "sse-s3 is confirmed in the answer (AES256)"),
    "sse-kms": (
        [StoreMode("sse-kms", lambda r: SSEKMS(KMS_KEY, {}, **KMS, required=r))],
        True,
        f"sse-kms is confirmed in the answer (aws:kms, key {KMS_KEY})",
    ),
    "sse-c": (
        [CustomerKeysMode(value(1, 2), "k2"), ClientSideMode(value(3), "k3")],
        True,
        "sse-c is confirmed in the answer, with the key k2; keys that are only read with: k1, k3",
    ),
    "client-side": (
        [ClientSideMode(value(1), "k1")],
        True,
        "client-side: blobs are encrypted before they are sent, with the key k1",
    ),
}


@pytest.mark.parametrize("way", SAID)
@pytest.mark.parametrize("required", [False, True], ids=["", "required"])
def test_how_objects_are_encrypted_is_said(settings, tls_proxy, ca, s3, bucket, pytestconfig, way, required):
    modes, ok, said = SAID[way]
    if way == "sse-s3" and pytestconfig.getoption("--s3") != "ministack":
        pytest.skip("Ceph ignores SSE-S3")
    if required and ok is None:
        pytest.skip("nothing to require")
    secure = {"endpoint_url": tls_proxy.endpoint_url, "ca_bundle": ca.bundle}
    findings = found(settings, thorough=True, encryption=configured(modes, required=required), **secure)
    assert failed(findings) == [] and keys(s3, bucket) == []
    assert findings["encryption"].ok is ok and findings["encryption"].mend == ""
    if required:
        before, _, after = said.partition("; ")
        said = "; ".join(filter(None, [before, "blobs that are not encrypted like that are refused", after]))
        said = said.replace("refused; ", "refused (require-encryption); ")
    assert said in findings["encryption"].detail
    assert (findings["presigned GET"].ok is True) is (way in ("none", "sse-s3", "sse-kms"))


@pytest.mark.parametrize("what", ["ignores", "refuses"])
@pytest.mark.parametrize(
    ("encryption", "ignored", "refused", "mend"),
    [
        (SSES3(required=False), "does not confirm that it encrypts", "none encrypted with its own key", "<sse-s3>: "),
        (
            SSEKMS(KMS_KEY, {}, **KMS, required=False),
            "did not confirm that it encrypts with KMS",
            "none encrypted with KMS (501 NotImplemented)",
            "<sse-kms>: correct",
        ),
    ],
    ids=["sse-s3", "sse-kms"],
)
def test_a_store_that_does_not_encrypt(settings, tls_front, ca, s3, bucket, what, encryption, ignored, refused, mend):
    setattr(tls_front.strange, what, ("x-amz-server-side",))
    secure = {"endpoint_url": tls_front.endpoint_url, "ca_bundle": ca.bundle}
    secure["encryption"] = configured([StoreMode(encryption.name, lambda required: encryption)])
    findings = found(settings, thorough=True, **secure)
    assert failed(findings) == ["encryption"] and keys(s3, bucket) == []
    assert (ignored if what == "ignores" else refused) in findings["encryption"].detail
    assert findings["encryption"].mend.startswith(mend)
    [error] = errors(settings, **secure)
    assert isinstance(error, ConfigurationError)


@pytest.mark.parametrize("mode", [ClientSideMode, CustomerKeysMode])
@pytest.mark.parametrize("writable", [True, False])
def test_a_key_that_cannot_be_had(settings, tls_proxy, ca, s3, bucket, tmp_path, mode, writable):
    encryption = configured([mode((FileKey("k1", tmp_path / "none"),), "k1")])
    secure = {"endpoint_url": tls_proxy.endpoint_url, "ca_bundle": ca.bundle, "encryption": encryption}
    findings = found(settings, thorough=True, writable=writable, **secure)
    assert failed(findings) == ["encryption"] and keys(s3, bucket) == []
    assert findings["encryption"].detail == f"<key k1>: file '{tmp_path}/none' does not exist"
    assert findings["encryption"].mend.startswith("it must be 32 bytes in base64")
    assert findings["write"].detail == "not tried, since encryption failed"
