"""Buckets with Object Lock, for tests: what they keep is left behind where nothing may delete it yet."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from botocore.exceptions import ClientError


@contextmanager
def lockable(s3) -> Iterator[str]:
    """The name of a new bucket. Each version of it goes in the end, and so does the bucket, unless compliance keeps
    something: that goes with the server."""
    name = f"test-{uuid.uuid4().hex[:20]}"
    s3.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    yield name
    empty(s3, name)


def empty(s3, name: str) -> None:
    for version in versions(s3, name):
        named = {"Bucket": name, "Key": version["Key"], "VersionId": version["VersionId"]}
        try:
            s3.put_object_legal_hold(**named, LegalHold={"Status": "OFF"})
        except ClientError:
            pass  # a delete marker
        try:
            s3.delete_object(**named, BypassGovernanceRetention=True)
        except ClientError:
            return
    s3.delete_bucket(Bucket=name)


def sharing(s3_server) -> None:
    """Skip where ``dedup on`` is refused: Ceph overwrites under ``If-None-Match: *`` where a bucket keeps versions."""
    if "ministack" not in type(s3_server).__name__.lower():
        pytest.skip("in a bucket with Object Lock this store does not keep If-None-Match, which dedup needs")


def versions(s3, name: str, prefix: str = "") -> list:
    """Every version and delete marker."""
    pages = s3.get_paginator("list_object_versions").paginate(Bucket=name, Prefix=prefix)
    return [found for page in pages for found in page.get("Versions", []) + page.get("DeleteMarkers", [])]


def objects(s3, name: str, prefix: str = "") -> dict:
    """What HEAD says of each version that is no marker, by key; of several the newest."""
    pages = s3.get_paginator("list_object_versions").paginate(Bucket=name, Prefix=prefix)
    found = [version for page in pages for version in page.get("Versions", [])]
    return {
        version["Key"]: s3.head_object(Bucket=name, Key=version["Key"], VersionId=version["VersionId"])
        for version in reversed(found)
    }
