"""Fixtures: an S3 server, a bucket on it, the settings to reach it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import boto3
import botocore.config
import pytest
from servers.ministack import MiniStack

from collective.s3blobstorage.settings import StoreSettings


def s3_client(server, endpoint_url: str | None = None, **arguments):
    """A plain boto3 client of ``server``, one attempt per request; for a test's own look at the bucket."""
    configuration = botocore.config.Config(
        signature_version="s3v4",
        retries={"total_max_attempts": 1},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"addressing_style": "path"},
    )
    keys = {"aws_access_key_id": server.access_key, "aws_secret_access_key": server.secret_key}
    return boto3.client(
        "s3",
        endpoint_url=endpoint_url or server.endpoint_url,
        region_name=server.region,
        **({"config": configuration} | keys | arguments),
    )


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory) -> Iterator:
    """The S3 server of the session: ``endpoint_url``, ``access_key``, ``secret_key``, ``region``."""
    server = MiniStack(tmp_path_factory.mktemp("ministack")).start()
    yield server
    server.stop()


@pytest.fixture
def s3(s3_server) -> Iterator:
    """A boto3 client of ``s3_server`` that goes around everything under test."""
    client = s3_client(s3_server)
    yield client
    client.close()


@pytest.fixture
def bucket(s3) -> Iterator[str]:
    """The name of a new bucket; emptied and deleted after the test."""
    name = f"test-{uuid.uuid4().hex[:20]}"
    s3.create_bucket(Bucket=name)
    yield name
    for page in s3.get_paginator("list_multipart_uploads").paginate(Bucket=name):
        for upload in page.get("Uploads", ()):
            s3.abort_multipart_upload(Bucket=name, Key=upload["Key"], UploadId=upload["UploadId"])
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=name):
        for found in page.get("Versions", []) + page.get("DeleteMarkers", []):
            s3.delete_object(Bucket=name, Key=found["Key"], VersionId=found["VersionId"])
    s3.delete_bucket(Bucket=name)


@pytest.fixture
def settings(s3_server, bucket) -> StoreSettings:
    """How to reach ``bucket``."""
    return StoreSettings(
        bucket=bucket,
        endpoint_url=s3_server.endpoint_url,
        region=s3_server.region,
        access_key=s3_server.access_key,
        secret_key=s3_server.secret_key,
    )
