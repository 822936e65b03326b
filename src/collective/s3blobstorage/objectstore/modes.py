"""What the checks say of each mode of encryption: pure, by the names of the server-side encryptions and sections."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from collective.s3blobstorage.encryption.interfaces import IEncryption
from collective.s3blobstorage.objectstore.diagnosis import Trouble

# What is said where the store took an object that was to be encrypted, and did not say that it is.
_IGNORED = {
    "sse-c": (
        "the object store ignores the customer's key: it keeps objects in clear",
        "s3-sse-customer-key, <sse-c>: remove it, or take a store that has SSE-C",
    ),
    "sse-s3": (
        "the object store does not confirm that it encrypts",
        "<sse-s3>: remove it, or take a store that has SSE-S3",
    ),
}
# Where it takes objects, but none that is to be encrypted.
_REFUSED = {
    "sse-c": (
        "the object store takes objects, but none encrypted with the customer's key: SSE-C is blocked on this bucket,"
        " or not known",
        "s3-sse-customer-key, <sse-c>: remove it, or allow SSE-C on the bucket (AWS blocks it on new ones)",
    ),
    "sse-s3": (
        "the object store takes objects, but none encrypted with its own key",
        "<sse-s3>: remove it, or let the bucket's policy allow it",
    ),
    "sse-kms": (
        "the object store takes objects, but none encrypted with KMS",
        "<sse-kms>: correct kms-key-id, let the policy of that key allow kms:GenerateDataKey and kms:Decrypt, and set"
        " an s3-endpoint-url with https, since AWS and Ceph take KMS over nothing else",
    ),
}


def ignored(name: str, reason: str) -> Trouble:
    """``reason``: what the encryption's own check of the answer said."""
    detail, mend = _IGNORED.get(name) or (
        reason[:1].lower() + reason[1:].rstrip("."),
        f"<{name}>: correct it, or take a store that has it",
    )
    return Trouble("encryption", detail, mend)


def refused(name: str, answer: str) -> Trouble:
    """``answer``: status and code."""
    detail, mend = _REFUSED.get(name) or (
        f"the object store takes objects, but none as <{name}> asks for",
        f"<{name}>: correct or remove it",
    )
    return Trouble("encryption", f"{detail} ({answer})", mend)


def said(encryption: IEncryption, answer: Mapping[str, Any]) -> str:
    """How new objects are encrypted, by the answer to one, and what else is read."""
    words = [_written(encryption, answer)]
    if encryption.required:
        words.append("blobs that are not encrypted like that are refused (require-encryption)")
    if encryption.ring is not None:
        writes = encryption.seals or encryption.server_side.own_key
        others = encryption.ring.ids[1:] if writes else encryption.ring.ids
        if others:
            words.append(f"keys that are only read with: {', '.join(others)}")
    return "; ".join(words)


def _written(encryption: IEncryption, answer: Mapping[str, Any]) -> str:
    algorithm = str(answer.get("ServerSideEncryption") or "")
    if encryption.seals:
        return f"{encryption.name}: blobs are encrypted before they are sent, with the key {encryption.ring.active_id}"
    if encryption.name == "none":
        default = f" ({algorithm})" if algorithm else ""
        return f"none is configured; what the bucket does by default{default} stays as it is"
    confirmed = f"{encryption.name} is confirmed in the answer"
    if encryption.server_side.own_key:
        return f"{confirmed}, with the key {encryption.ring.active_id}"
    key = str(answer.get("SSEKMSKeyId") or "")
    told = f"{algorithm}, key {key}" if key else algorithm
    return f"{confirmed} ({told})" if told else confirmed
