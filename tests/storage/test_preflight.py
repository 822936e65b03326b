"""The checks before a store is used: what they find, what they cost, what they leave behind."""

from __future__ import annotations

import dataclasses

import pytest

from collective.s3blobstorage.objectstore import open_store
from collective.s3blobstorage.objectstore.preflight import AT_OPEN, DEEPER, FOLDER, checks


def found(settings, *, writable: bool = True, thorough: bool = False, **changed) -> dict:
    """Every finding by name; they come in the order that is promised."""
    store = open_store(dataclasses.replace(settings, **changed), read_only=not writable)
    try:
        findings = list(checks(store, writable=writable, thorough=thorough))
    finally:
        store.close()
    assert [finding.name for finding in findings] == list(AT_OPEN + (DEEPER if thorough else ()))
    return {finding.name: finding for finding in findings}


def keys(s3, bucket: str) -> list[str]:
    return [line["Key"] for line in s3.list_objects_v2(Bucket=bucket).get("Contents", ())]


def test_all_is_well(settings, s3, bucket):
    findings = found(settings, thorough=True, prefix="sites/one")
    assert [finding.name for finding in findings.values() if finding.ok is False] == []
    assert [finding.name for finding in findings.values() if finding.ok is None] == ["tls", "encryption"]
    assert all(finding.mend == "" for finding in findings.values())
    assert keys(s3, bucket) == []


def test_opening_costs_four_requests_under_our_own_prefix(settings, proxy):
    found(settings, endpoint_url=proxy.endpoint_url, prefix="sites/one")
    assert [exchange.operation for exchange in proxy.exchanges] == [
        "HeadBucket",
        "PutObject",
        "PutObject",
        "DeleteObject",
    ]
    paths = {exchange.path for exchange in proxy.exchanges[1:]}
    assert len(paths) == 1
    assert paths.pop().startswith(f"/{settings.bucket}/sites/one/{FOLDER}/")


def test_opened_for_reading_nothing_is_written(settings, proxy):
    findings = found(settings, endpoint_url=proxy.endpoint_url, writable=False, thorough=True)
    assert set(proxy.methods()) <= {"HEAD", "GET"}
    assert not [finding for finding in findings.values() if finding.ok is False]
    assert "read-only" in findings["write"].detail


@pytest.mark.parametrize("writable", [True, False])
def test_whether_an_etag_proves_a_part_is_measured_and_not_assumed(settings, writable):
    store = open_store(settings)
    assert not store.connection.etags_prove
    list(checks(store, writable=writable, thorough=False))
    assert store.connection.etags_prove == (writable and settings.endpoint_url.startswith("http://"))
    store.close()


def test_whoever_stops_asking_leaves_nothing(settings, s3, bucket):
    store = open_store(settings)
    for finding in (asked := checks(store, writable=True, thorough=True)):
        if finding.name == "multipart":
            assert len(keys(s3, bucket)) == 2
            asked.close()
            break
    store.close()
    assert keys(s3, bucket) == []


@pytest.mark.parametrize(
    ("changed", "name", "detail", "mend"),
    [
        ({"secret_key": "x" * 40}, "credentials", "secret key does not belong", "s3-secret-key"),
        ({"access_key": "AKIANOBODYKNOWSTHIS0"}, "credentials", "does not know this access key", "s3-access-key"),
        ({"bucket": "nobody-has-this-bucket"}, "bucket", "there is no bucket", "bucket-name"),
        ({"endpoint_url": "http://127.0.0.1:1"}, "endpoint", "cannot be reached", "s3-endpoint-url"),
    ],
)
def test_what_is_wrong_is_named_with_its_mend(settings, s3, bucket, changed, name, detail, mend):
    findings = found(settings, thorough=True, **changed)
    assert [finding.name for finding in findings.values() if finding.ok is False] == [name]
    assert detail in findings[name].detail
    assert findings[name].mend.startswith(mend)
    assert keys(s3, bucket) == []


def test_a_bucket_that_is_to_be_created(settings, s3, bucket):
    wanted = {"bucket": bucket + "-new", "create_bucket": True}
    findings = found(settings, thorough=True, **wanted)
    assert findings["bucket"].ok is None and "the first start makes it" in findings["bucket"].detail
    assert found(settings, **wanted)["write"].ok
    assert found(settings, thorough=True, **wanted)["delete"].ok
    s3.delete_bucket(Bucket=bucket + "-new")


def test_a_thorough_run_knows_the_provider(settings):
    detail = found(settings, thorough=True, provider="hetzner")["provider"].detail
    assert detail.startswith("Hetzner Object Storage; ")
    assert "copies SSE-C objects: no" in detail and "conditional writes: yes" in detail


def test_no_secret_in_any_finding(settings):
    for changed in ({}, {"secret_key": "s3cr3t" * 7}):
        text = repr(found(settings, thorough=True, **changed))
        assert (changed.get("secret_key") or settings.secret_key) not in text
        assert "X-Amz-Signature" not in text
