"""Server-side encryption with a customer's key (SSE-C): one key of a ring.

The key travels with every request, so the store can only be asked over TLS. The store keeps nothing but the key's
MD5, and echoes algorithm and MD5 in each answer: that echo is the only proof that it encrypted at all.
Protocol: Amazon S3 API reference, "Using server-side encryption with customer-provided keys (SSE-C)".

An object's metadata are not encrypted by the store: the SHA-256 of the content is hidden there under a key of its own.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from zope.interface import implementer

from ..errors import EncryptionNotHonoured
from . import hidden
from .interfaces import IServerSideEncryption
from .key_sources import ValueKey
from .ring import KeyRing, RingKey
from .secret import SecretBytes

ALGORITHM = "AES256"

_ALONE = "customer-key"

SHA256 = "sha256"
HIDDEN_SHA256 = "hidden-sha256"


@implementer(IServerSideEncryption)
class CustomerKey:
    """SSE-C with the key ``id`` of the ring, which is read when it is first needed; boto3 encodes it and adds its MD5.

    Every method raises what reading the key raises (``IKeyProvider.material``).
    """

    name = "sse-c"
    needs_tls = True
    own_key = True

    def __init__(self, ring: KeyRing, id: str) -> None:
        self.id = id
        self._ring = ring

    @classmethod
    def of(cls, key: bytes) -> CustomerKey:
        """With a key of its own that is in no ring. Raises ConfigurationError where it does not have 32 bytes."""
        ring = KeyRing([ValueKey(_ALONE, key, "the caller")], _ALONE)
        ring.load()
        return cls(ring, _ALONE)

    def __repr__(self) -> str:
        return f"<CustomerKey {self.id}>"

    @property
    def key(self) -> RingKey:
        return self._ring.key(self.id)

    @cached_property
    def _fingerprint(self) -> str:
        # The store echoes the key's MD5 in base64; MD5 is the protocol's fingerprint here, no protection.
        return base64.b64encode(hashlib.md5(self.key.material, usedforsecurity=False).digest()).decode()

    @cached_property
    def _hiding(self) -> SecretBytes:
        return self.key.derived("hidden metadata")

    def write_parameters(self) -> Mapping[str, Any]:
        return {"SSECustomerAlgorithm": ALGORITHM, "SSECustomerKey": self.key.material}

    def part_parameters(self) -> Mapping[str, Any]:
        return self.write_parameters()

    def read_parameters(self) -> Mapping[str, Any]:
        return self.write_parameters()

    def copy_source_parameters(self) -> Mapping[str, Any]:
        return {"CopySourceSSECustomerAlgorithm": ALGORITHM, "CopySourceSSECustomerKey": self.key.material}

    def written_metadata(self, key: str, metadata: Mapping[str, str]) -> Mapping[str, str]:
        written = dict(metadata)
        sha256 = written.pop(SHA256, None)
        if sha256 is not None:
            written[HIDDEN_SHA256] = hidden.hide(self._hiding, bytes.fromhex(sha256), key)
        return written

    def read_metadata(self, key: str, metadata: Mapping[str, str]) -> Mapping[str, str]:
        text = metadata.get(HIDDEN_SHA256)
        if text is None:
            return metadata
        read = {name: value for name, value in metadata.items() if name != HIDDEN_SHA256}
        read[SHA256] = hidden.find(self._hiding, text, key).hex()
        return read

    def check_echo(self, response: Mapping[str, Any]) -> None:
        """Algorithm and the key's MD5 must both come back.

        A store that leaves the MD5 out is not trusted: it could have taken another key.
        """
        if response.get("SSECustomerAlgorithm") != ALGORITHM or response.get("SSECustomerKeyMD5") != self._fingerprint:
            raise EncryptionNotHonoured(
                "The object store did not confirm that it encrypts with the customer's key"
                " (<sse-c>, s3-sse-customer-key)."
            )

    def check_read(self, key: str, response: Mapping[str, Any]) -> None:
        self.check_echo(response)
