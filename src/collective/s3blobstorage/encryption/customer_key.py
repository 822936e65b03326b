"""Server-side encryption with a customer's key (SSE-C), one key.

The key travels with every request, so the store can only be asked over TLS. The store keeps nothing but the key's
MD5, and echoes algorithm and MD5 in each answer: that echo is the only proof that it encrypted at all.
Protocol: Amazon S3 API reference, "Using server-side encryption with customer-provided keys (SSE-C)".
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from typing import Any

from zope.interface import implementer

from collective.s3blobstorage.encryption.interfaces import IServerSideEncryption
from collective.s3blobstorage.errors import ConfigurationError, EncryptionNotHonoured

ALGORITHM = "AES256"
KEY_BYTES = 32


class _Key(bytes):
    """The raw key, which shows itself nowhere: reports of errors print the local variables of each frame."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "<secret>"

    __str__ = __repr__


@implementer(IServerSideEncryption)
class CustomerKey:
    """SSE-C with one key of 32 raw bytes; boto3 encodes it and adds its MD5.

    Raises ConfigurationError where the key has another length.
    """

    name = "sse-c"
    needs_tls = True

    def __init__(self, key: bytes) -> None:
        if not isinstance(key, bytes) or len(key) != KEY_BYTES:
            length = len(key) if isinstance(key, bytes) else 0
            raise ConfigurationError(
                f"s3-sse-customer-key: a key of {length} bytes was given, allowed is one of {KEY_BYTES} bytes"
                " (in base64: 44 characters); make one with: openssl rand -base64 32"
            )
        self._key = _Key(key)
        # The store echoes the key's MD5 in base64; MD5 is the protocol's fingerprint here, no protection.
        self._fingerprint = base64.b64encode(hashlib.md5(key, usedforsecurity=False).digest()).decode()

    def __repr__(self) -> str:
        return "<CustomerKey>"

    def write_parameters(self) -> Mapping[str, Any]:
        return {"SSECustomerAlgorithm": ALGORITHM, "SSECustomerKey": self._key}

    def part_parameters(self) -> Mapping[str, Any]:
        return self.write_parameters()

    def read_parameters(self) -> Mapping[str, Any]:
        return self.write_parameters()

    def copy_source_parameters(self) -> Mapping[str, Any]:
        return {"CopySourceSSECustomerAlgorithm": ALGORITHM, "CopySourceSSECustomerKey": self._key}

    def check_echo(self, response: Mapping[str, Any]) -> None:
        """Algorithm and the key's MD5 must both come back.

        A store that leaves the MD5 out is not trusted: it could have taken another key.
        """
        if response.get("SSECustomerAlgorithm") != ALGORITHM or response.get("SSECustomerKeyMD5") != self._fingerprint:
            raise EncryptionNotHonoured(
                "The object store did not confirm that it encrypts with the customer's key (s3-sse-customer-key)."
            )
