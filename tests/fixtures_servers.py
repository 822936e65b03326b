"""Fixtures: an S3 server, a bucket on it, the settings to reach it.

``--s3 ceph`` runs the same tests over a Ceph gateway, ``--s3 ceph-https`` over its https endpoint, whose certificate is
of a private authority. With ``--s3-share`` the session is one of the passes of run.py (``server_pass.py``).
"""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import botocore.config
import pytest
from rings import encrypted
from servers import ceph as ceph_gateway
from servers.ca import CertificateAuthority
from servers.ministack import MiniStack
from servers.proxy import Proxy

from collective.s3blobstorage.settings import StoreSettings


def pytest_addoption(parser):
    parser.addoption(
        "--s3",
        choices=("ministack", "ceph", "ceph-https"),
        default=os.environ.get("S3BLOBS_S3", "ministack"),
        help="the S3 server behind the fixture `s3_server`; default: ministack, or $S3BLOBS_S3",
    )
    parser.addoption(
        "--encrypt",
        choices=("client-side", "sse-c"),
        default=os.environ.get("S3BLOBS_ENCRYPT"),
        help="what the fixture `settings` encrypts blobs with; default: nothing, or $S3BLOBS_ENCRYPT",
    )


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
    if endpoint_url is None and server.endpoint_url.startswith("https:"):
        keys["verify"] = str(server.ca_bundle)
    return boto3.client(
        "s3",
        endpoint_url=endpoint_url or server.endpoint_url,
        region_name=server.region,
        **({"config": configuration} | keys | arguments),
    )


@pytest.fixture(scope="session")
def ca(tmp_path_factory) -> CertificateAuthority:
    """A certificate authority that only this session knows; ``ca.bundle`` is what a client trusts."""
    return CertificateAuthority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="session")
def ceph(ca) -> Iterator[ceph_gateway.Ceph]:
    """A Ceph gateway over http and https; skips where there is none. Tests that use it carry the marker ``ceph``."""
    ceph_gateway.install()
    reason = ceph_gateway.available()
    if reason:
        pytest.skip(reason)
    # Not pytest's folder: the last three of those are kept, and an OSD is large.
    folder = Path(tempfile.mkdtemp(prefix="s3blobs-ceph-"))
    server = ceph_gateway.Ceph(folder, ca)
    try:
        yield server.start()
    finally:
        server.stop()
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def s3_server(pytestconfig, request, tmp_path_factory) -> Iterator[Any]:
    """The S3 server of the session: MiniStack, or what ``--s3`` names."""
    if pytestconfig.getoption("--s3") != "ministack":
        server = request.getfixturevalue("ceph")
        yield ceph_gateway.CephOverTls(server) if pytestconfig.getoption("--s3") == "ceph-https" else server
        return
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
def settings(s3_front, s3_server, bucket, ca, pytestconfig) -> StoreSettings:
    """How to reach ``bucket``."""
    mode = pytestconfig.getoption("--encrypt")
    return StoreSettings(
        bucket=bucket,
        endpoint_url=s3_front,
        region=s3_server.region,
        access_key=s3_server.access_key,
        secret_key=s3_server.secret_key,
        ca_bundle=ca.bundle if s3_front.startswith("https:") else None,
        encryption=encrypted(mode) if mode else None,
    )


@pytest.fixture(scope="session")
def s3_front(s3_server, ca, pytestconfig) -> Iterator[str]:
    """The address of ``s3_server``; where customers' keys are sent to one that has no https, that of a TLS front."""
    if s3_server.endpoint_url.startswith("https:") or pytestconfig.getoption("--encrypt") != "sse-c":
        yield s3_server.endpoint_url
        return
    with Proxy(s3_server.endpoint_url, ca=ca) as front:
        yield front.endpoint_url


@pytest.fixture
def proxy(s3_front, s3_server, ca) -> Iterator[Proxy]:
    """A proxy in front of ``s3_server``; ``dataclasses.replace(settings, endpoint_url=proxy.endpoint_url)`` uses it.

    It speaks https where the settings do, and to a server that does.
    """
    upstream_ca = ca.bundle if s3_server.endpoint_url.startswith("https:") else None
    authority = ca if s3_front.startswith("https:") else None
    with Proxy(s3_server.endpoint_url, ca=authority, upstream_ca=upstream_ca) as between:
        yield between


@pytest.fixture
def tls_proxy(s3_server, ca) -> Iterator[Proxy]:
    """The same with https on its own side in any case, by a certificate of ``ca``, and to a server that has it: Ceph
    takes customers' keys, and KMS, over nothing else."""
    upstream = getattr(s3_server, "tls_endpoint_url", s3_server.endpoint_url)
    with Proxy(upstream, ca=ca, upstream_ca=ca.bundle if upstream.startswith("https:") else None) as between:
        yield between
