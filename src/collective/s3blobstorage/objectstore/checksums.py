"""What a store proves of an object that somebody else sent: the SHA-256 that the sender named, and it compared.

Protocol: Amazon S3 User Guide, "Checking object integrity"; HeadObject's ``x-amz-checksum-mode``. A store that does not
know these headers ignores them, and one may keep what it was told without comparing it. So it is tried out.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets

from collective.s3blobstorage.keys import SCRATCH
from collective.s3blobstorage.objectstore.connection import Connection, unquoted
from collective.s3blobstorage.objectstore.multipart import object_parameters
from collective.s3blobstorage.objectstore.probe import ask
from collective.s3blobstorage.objectstore.upload import delete_unwanted

# Codes for a body that is not the one of its checksum. Sources: Amazon S3 "Error responses"; rgw_http_errors.h.
_DIFFER = ("BadDigest", "XAmzContentChecksumMismatch", "InvalidDigest")

_BODY = b"of other bytes than the SHA-256 that is sent with them"
_OTHER = base64.b64encode(hashlib.sha256(b"").digest()).decode()


def compares(connection: Connection) -> bool | None:
    """Whether the store refuses an object whose SHA-256 is another one than its sender says, as far as one PUT to
    ``.s3blobs-check/`` tells it; None where it tells nothing, since the store cannot take an object now."""
    key = f"{SCRATCH}sha256-{secrets.token_hex(8)}"
    answer = ask(
        connection.clients.writer.put_object,  # not counted: that it fails is what is hoped for
        **object_parameters(connection, key, {}),
        Body=_BODY,
        ChecksumSHA256=_OTHER,
    )
    if answer.ok:
        delete_unwanted(connection, key)
        return False
    if answer.code in _DIFFER:
        return True
    return False if answer.unsupported else None


def told_sha256(connection: Connection, key: str, etag: str) -> bytes | None:
    """What the store tells of the whole object with that ETag: None where it tells none, or of parts, or the object is
    another one, gone, or cannot be asked: one request, made once."""
    parameters = {**connection.object(key), **connection.encryption.read_parameters(), "ChecksumMode": "ENABLED"}
    answer = ask(connection.reader.head_object, **parameters)
    if not answer.ok or unquoted(answer.response.get("ETag")) != etag:
        return None  # whoever asked reads the object then
    text = str(answer.response.get("ChecksumSHA256") or "")
    if answer.response.get("ChecksumType", "FULL_OBJECT") != "FULL_OBJECT" or "-" in text:
        return None
    try:
        digest = base64.b64decode(text, validate=True)
    except binascii.Error:
        return None
    return digest if len(digest) == 32 else None
