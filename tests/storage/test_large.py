"""Memory does not grow with the blob; a large blob is sent in parts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from sites import bucket_keys, raw_client, store_as_json, unfinished_uploads

from collective.s3blobstorage.settings import StoreSettings

MB = 1024 * 1024
# MiniStack holds an object in memory about three times over; what is larger goes to Ceph.
MINISTACK_MB = 600


@pytest.mark.large
def test_memory_stays_flat_for_a_large_blob(request, tier, tmp_path):
    megabytes = tier["memory_blob_mb"]
    if megabytes > MINISTACK_MB:
        settings = ceph_store(request.getfixturevalue("ceph"), "large-blobs")
    else:
        settings = request.getfixturevalue("settings")
    finished = subprocess.run(
        [sys.executable, Path(__file__).with_name("large_blob.py")],
        input=json.dumps({"folder": str(tmp_path), "store": store_as_json(settings), "megabytes": megabytes}),
        capture_output=True,
        text=True,
        timeout=1800,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert finished.returncode == 0, finished.stderr
    grown = json.loads(finished.stdout)
    print(f"{megabytes} MB blob: {grown['writing'] / MB:.1f} MB to write, {grown['reading'] / MB:.1f} MB to read")
    request.node.user_properties.append(("memory", f"{megabytes} MB blob: {grown}"))
    assert grown["writing"] < 100 * MB
    assert grown["reading"] < 100 * MB
    for path in tmp_path.rglob("*"):  # gigabytes that pytest would keep
        if path.is_file() and path.stat().st_size > 100 * MB:
            path.unlink()
    assert len([key for key in bucket_keys(settings) if key.startswith("blobs/")]) == 2
    assert unfinished_uploads(settings) == []
    client = raw_client(settings)
    for key in bucket_keys(settings):
        client.delete_object(Bucket=settings.bucket, Key=key)


def ceph_store(ceph, bucket: str) -> StoreSettings:
    settings = StoreSettings(
        bucket=bucket,
        endpoint_url=ceph.endpoint_url,
        region=ceph.region,
        access_key=ceph.access_key,
        secret_key=ceph.secret_key,
    )
    raw_client(settings).create_bucket(Bucket=bucket)
    return settings
