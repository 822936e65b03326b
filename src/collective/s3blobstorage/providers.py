"""What stores do differently, as data: a row for each provider, a source for each fact.

A column that is None is not known: no source was found, and what the checks at open measure counts. What they measure
counts anyway; the row is what is assumed until then, and where ``preflight`` is off. docs/providers.md is made from
here. Not in ``objectstore/``, since reading a configuration must not import boto3.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

MB = 1024 * 1024
WEEK = 7 * 86400


@dataclass(frozen=True, slots=True)
class Fact:
    """A value and where it is from: a URL that said so when it was opened (November 2026), or "measured" with the
    server's version. What only others say that a source says is no fact."""

    value: Any
    source: str


@dataclass(frozen=True, slots=True)
class Provider:
    """One row. ``hosts`` are patterns of an endpoint's host; a group ``region`` in one is the region."""

    name: str  # as s3-provider names it
    title: str
    hosts: Fact | None = None  # tuple of regular expressions
    region: Fact | None = None  # where it is always the same
    addressing: Fact | None = None  # "path" or "virtual": the only one; "either"
    conditional_writes: Fact | None = None  # If-None-Match: * of PutObject is kept
    conditional_deletes: Fact | None = None  # DeleteObjects looks at the ETag that it is given
    checksum_headers: Fact | None = None  # x-amz-checksum-* is known
    copies_encrypted: Fact | None = None  # CopyObject of SSE-C objects inside the store
    most_parts: Fact | None = None  # of one multipart upload
    smallest_part: Fact | None = None  # bytes, but for the last part
    equal_parts: Fact | None = None  # all but the last must be of one size
    post_policies: Fact | None = None  # uploads by an HTML form (PostObject)
    delete_checksum: Fact | None = None  # what DeleteObjects must carry: "Content-MD5", "either"
    longest_expiry: Fact | None = None  # seconds, of a presigned URL
    key_variables: Fact | None = None  # pairs of (access key, secret key) in the environment

    def value(self, column: str) -> Any:
        """The column's value; None where it is not known."""
        fact = getattr(self, column)
        return fact.value if isinstance(fact, Fact) else None

    def region_of(self, endpoint_url: str | None) -> str | None:
        """The region that the endpoint's host names, or the provider's only one."""
        host = _host(endpoint_url)
        for pattern in self.value("hosts") or ():
            found = re.fullmatch(pattern, host)
            if found and found.groupdict().get("region"):
                return found["region"]
        return self.value("region")


_AWS = "https://docs.aws.amazon.com/AmazonS3/latest/"
# Amazon's own description of the API, with the texts of its reference.
_MODEL = "https://github.com/boto/botocore/blob/develop/botocore/data/s3/2006-03-01/service-2.json"
_B2 = "https://www.backblaze.com/docs/cloud-storage-call-the-s3-compatible-api"
_R2 = "https://developers.cloudflare.com/r2/"
_RCLONE = "https://github.com/rclone/rclone/blob/master/backend/s3/provider/"
_GARAGE = "https://garagehq.deuxfleurs.fr/documentation/reference-manual/s3-compatibility/"
_CEPH = "measured on Ceph 16.2.15"
_SCALEWAY = "https://www.scaleway.com/en/docs/object-storage/api-cli/"
_TIGRIS = "https://www.tigrisdata.com/docs/"

PROVIDERS: tuple[Provider, ...] = (
    Provider(
        "aws",
        "Amazon S3",
        hosts=Fact(
            (
                r"s3(?:-fips)?[.-](?:dualstack\.)?(?P<region>[a-z]{2}(?:-[a-z]+)+-\d)\.amazonaws\.com(?:\.cn)?",
                r"s3\.amazonaws\.com",
            ),
            "https://docs.aws.amazon.com/general/latest/gr/s3.html",
        ),
        addressing=Fact("either", "https://docs.aws.amazon.com/general/latest/gr/s3.html"),
        conditional_writes=Fact(True, _AWS + "userguide/conditional-writes.html"),
        conditional_deletes=Fact(True, _AWS + "userguide/conditional-deletes.html"),
        checksum_headers=Fact(True, _MODEL),
        copies_encrypted=Fact(
            True,
            "https://docs.aws.amazon.com/sdk-for-kotlin/api/latest/s3/aws.sdk.kotlin.services.s3.model/"
            "-copy-object-request/copy-source-sse-customer-key.html",
        ),
        most_parts=Fact(10_000, _AWS + "userguide/qfacts.html"),
        smallest_part=Fact(5 * MB, _AWS + "userguide/qfacts.html"),
        post_policies=Fact(True, _AWS + "API/sigv4-UsingHTTPPOST.html"),
        delete_checksum=Fact("Content-MD5", _MODEL),  # of general purpose buckets
        longest_expiry=Fact(WEEK, "https://docs.aws.amazon.com/cli/latest/reference/s3/presign.html"),
    ),
    Provider(
        "b2",
        "Backblaze B2",
        hosts=Fact((r"s3\.(?P<region>[a-z0-9-]+)\.backblazeb2\.com",), _B2),
        addressing=Fact("either", _B2),
        checksum_headers=Fact(False, "https://github.com/home-assistant/core/issues/143995"),
        post_policies=Fact(False, _B2),  # not among its supported calls
        key_variables=Fact(
            (("B2_KEY_ID", "B2_APP_KEY"), ("B2_APPLICATION_KEY_ID", "B2_APPLICATION_KEY")),
            # the second pair; the first is what containers' configurations commonly set
            "https://www.backblaze.com/docs/cloud-storage-account-authorize-command",
        ),
    ),
    Provider(
        "r2",
        "Cloudflare R2",
        hosts=Fact((r"[0-9a-z]+(?:\.[a-z]+)?\.r2\.cloudflarestorage\.com",), _R2 + "api/s3/api/"),
        region=Fact("auto", _R2 + "api/s3/api/"),
        conditional_writes=Fact(True, _R2 + "api/s3/conditional-operations/"),
        checksum_headers=Fact(True, _R2 + "api/s3/api/"),
        # listed there among what is not documented
        equal_parts=Fact(True, "https://gist.github.com/johnspurlock-skymethod/6027c81953f81aa535d889d86a1061ba"),
        post_policies=Fact(False, "https://github.com/outline/outline/discussions/4480"),
        longest_expiry=Fact(WEEK, _R2 + "api/s3/presigned-urls/"),
    ),
    Provider(
        "hetzner",
        "Hetzner Object Storage",
        hosts=Fact((r"(?P<region>[a-z0-9]+)\.your-objectstorage\.com",), _RCLONE + "Hetzner.yaml"),
        copies_encrypted=Fact(False, "https://docs.hetzner.com/storage/object-storage/supported-actions/"),
    ),
    Provider(
        "ovh",
        "OVHcloud Object Storage",
        hosts=Fact((r"s3\.(?P<region>[a-z0-9-]+)\.io\.cloud\.ovh\.(?:net|us)",), _RCLONE + "OVHcloud.yaml"),
    ),
    Provider(
        "scaleway",
        "Scaleway Object Storage",
        hosts=Fact((r"s3\.(?P<region>[a-z]{2}-[a-z]{3})\.scw\.cloud",), _RCLONE + "Scaleway.yaml"),
        conditional_writes=Fact(True, _SCALEWAY + "using-conditional-writes/"),
        most_parts=Fact(1000, _RCLONE + "Scaleway.yaml"),
        post_policies=Fact(True, _SCALEWAY + "post-object/"),
        key_variables=Fact(
            (("SCW_ACCESS_KEY", "SCW_SECRET_KEY"),),
            "https://www.scaleway.com/en/docs/scaleway-cli/reference-content/environment-variables/",
        ),
    ),
    Provider(
        "digitalocean",
        "DigitalOcean Spaces",
        hosts=Fact(
            (r"(?P<region>[a-z]{3}\d)\.digitaloceanspaces\.com",),
            "https://docs.digitalocean.com/products/spaces/reference/aws-sdks/",
        ),
        key_variables=Fact(
            (("SPACES_ACCESS_KEY_ID", "SPACES_SECRET_ACCESS_KEY"),),
            "https://docs.digitalocean.com/reference/terraform/reference/",
        ),
    ),
    Provider(
        "wasabi",
        "Wasabi",
        hosts=Fact(
            (r"s3\.(?P<region>[a-z]{2}-[a-z]+-\d)\.wasabisys\.com", r"s3\.wasabisys\.com"), _RCLONE + "Wasabi.yaml"
        ),
        checksum_headers=Fact(False, "https://github.com/EnterpriseDB/barman/issues/1064"),
    ),
    Provider(
        "tigris",
        "Tigris",
        hosts=Fact(
            (r"fly\.storage\.tigris\.dev", r"t3\.storage\.dev"),
            "https://fly.io/docs/js/the-basics/object-storage",  # the other is in llms.txt, below,
        ),
        region=Fact("auto", "https://www.tigrisdata.com/llms.txt"),
        addressing=Fact("virtual", "https://www.tigrisdata.com/blog/virtual-hosted-urls/"),
        conditional_writes=Fact(True, _TIGRIS + "objects/conditionals/"),
    ),
    Provider(
        "ceph",
        "Ceph Object Gateway",
        addressing=Fact("path", "https://docs.ceph.com/en/tentacle/radosgw/s3/commons/"),
        conditional_writes=Fact(True, _CEPH),
        checksum_headers=Fact(False, _CEPH),
        copies_encrypted=Fact(False, _CEPH),
        smallest_part=Fact(5 * MB, _CEPH),
        delete_checksum=Fact("either", _CEPH),
    ),
    Provider(
        "swift",
        "OpenStack Swift (s3api)",
        addressing=Fact("path", _GARAGE),
    ),
    Provider(
        "garage",
        "Garage",
        region=Fact(
            "garage",
            "https://garagehq.deuxfleurs.fr/cookbook/clients.html",
        ),
        addressing=Fact("either", _GARAGE),
        post_policies=Fact(True, "https://docs.rs/crate/garage_api_s3/2.3.0/source/post_object.rs"),
    ),
    Provider(
        "seaweedfs",
        "SeaweedFS",
        addressing=Fact("path", _RCLONE + "SeaweedFS.yaml"),
        # from 3.97 on; up to 4.16 two PUTs at one moment could both succeed (issue 8800 there)
        conditional_writes=Fact(True, "https://github.com/seaweedfs/seaweedfs/pull/7154"),
    ),
)

# A store of which nothing is known.
OTHER = Provider("other", "another store")

BY_NAME = {provider.name: provider for provider in PROVIDERS}
NAMES = tuple(BY_NAME)

# The columns of facts, with what they say, in the order in which they are shown.
COLUMNS = {
    "addressing": "bucket in the URL's",
    "region": "region",
    "conditional_writes": "conditional writes",
    "conditional_deletes": "conditional deletes",
    "checksum_headers": "checksum headers",
    "copies_encrypted": "copies SSE-C objects",
    "most_parts": "most parts",
    "smallest_part": "smallest part (bytes)",
    "equal_parts": "parts of equal size",
    "post_policies": "uploads by form (POST)",
    "delete_checksum": "DeleteObjects needs",
    "longest_expiry": "longest expiry (s)",
    "hosts": "host of the endpoint",
    "key_variables": "variables of keys",
}


def choose(name: str, endpoint_url: str | None) -> Provider:
    """The row of ``s3-provider``; with ``auto`` the one whose host pattern fits, AWS where there is no endpoint."""
    if name != "auto":
        return BY_NAME[name]
    if endpoint_url is None:
        return BY_NAME["aws"]
    host = _host(endpoint_url)
    for provider in PROVIDERS:
        if any(re.fullmatch(pattern, host) for pattern in provider.value("hosts") or ()):
            return provider
    return OTHER


def shown(value: Any) -> str:
    """A column's value for people."""
    if value is None:
        return "not known"
    if value is True or value is False:
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(" and ".join(item) if isinstance(item, tuple) else item for item in value)
    return str(value)


def _host(endpoint_url: str | None) -> str:
    return (urlsplit(endpoint_url or "").hostname or "").lower()
