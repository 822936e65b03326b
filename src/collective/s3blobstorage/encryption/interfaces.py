"""The contract between a way of encrypting and the object store.

An encryption adds parameters to the store's requests and checks the store's answers. Only the echo in the response
counts: some stores ignore a header they do not know and keep the object in clear.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zope.interface import Attribute, Interface


class IServerSideEncryption(Interface):
    """Server-side encryption, asked for by request parameters (names as boto3's S3 client spells them)."""

    name = Attribute("str: 'none', 'sse-c', …: for logs and status pages")
    needs_tls = Attribute("bool: the key travels with the request, plain http is refused at start")

    def write_parameters() -> Mapping[str, Any]:
        """For PutObject, CreateMultipartUpload and as target of CopyObject."""

    def part_parameters() -> Mapping[str, Any]:
        """For UploadPart and UploadPartCopy."""

    def read_parameters() -> Mapping[str, Any]:
        """For GetObject and HeadObject."""

    def copy_source_parameters() -> Mapping[str, Any]:
        """For the source of CopyObject and UploadPartCopy."""

    def check_echo(response: Mapping[str, Any]) -> None:
        """Raise EncryptionNotHonoured where the response of a write or read lacks the echo of what was asked."""
