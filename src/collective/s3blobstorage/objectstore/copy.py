"""Copying inside the bucket."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from collective.s3blobstorage.errors import (
    Corrupt,
    EncryptionNotHonoured,
    ObjectMissing,
    PreconditionFailed,
)
from collective.s3blobstorage.objectstore import parts
from collective.s3blobstorage.objectstore.connection import Connection, unquoted
from collective.s3blobstorage.objectstore.download import get_file, head
from collective.s3blobstorage.objectstore.interfaces import ObjectInfo
from collective.s3blobstorage.objectstore.lanes import Lanes
from collective.s3blobstorage.objectstore.multipart import abort, create_upload, object_parameters
from collective.s3blobstorage.objectstore.patience import UPLOADING
from collective.s3blobstorage.objectstore.upload import delete_unwanted, put_file

log = logging.getLogger(__name__)

# Parts of a multipart copy move inside the store: large ones mean fewer requests, and 10,000 of them reach 5 TiB.
COPY_PART = 1 * parts.GB


class _CannotCopy(Exception):
    """The store has no server-side copy for this object (501)."""


def copy(
    connection: Connection,
    lanes: Lanes,
    source_key: str,
    target_key: str,
    *,
    if_match: str | None = None,
    metadata: Mapping[str, str] | None = None,
) -> ObjectInfo:
    """See ``IObjectStore.copy``.

    The source is asked for by HEAD first: its size decides how to copy, its ETag holds it in place until the copy is
    made, its metadata goes along where the store does not keep it by itself.
    """
    source = head(connection, source_key)
    if source is None:
        raise ObjectMissing("The object store has no such object.")
    if if_match is not None and source.etag != if_match:
        raise PreconditionFailed("The object was changed.")
    kept = dict(source.metadata if metadata is None else metadata)
    try:
        if connection.encryption.name == "sse-c" and connection.provider.value("copies_encrypted") is False:
            raise _CannotCopy()
        if source.size <= parts.MAX_COPY:
            return _in_one(connection, source, target_key, kept)
        return in_parts(connection, source, target_key, kept)
    except _CannotCopy:
        log.info("copy of %r: not done by the store, downloading and uploading", source_key)
        return _relayed(connection, lanes, source, target_key, kept)


def _source_parameters(connection: Connection, source: ObjectInfo) -> dict[str, Any]:
    named: dict[str, Any] = {
        "CopySource": {"Bucket": connection.settings.bucket, "Key": connection.full_key(source.key)},
        "CopySourceIfMatch": source.etag,
        **connection.encryption.copy_source_parameters(),
    }
    if connection.settings.expected_bucket_owner:
        named["ExpectedSourceBucketOwner"] = connection.settings.expected_bucket_owner
    return named


def _in_one(connection: Connection, source: ObjectInfo, target_key: str, metadata: Mapping[str, str]) -> ObjectInfo:
    parameters = {
        **object_parameters(connection, target_key, metadata),
        **_source_parameters(connection, source),
        "MetadataDirective": "REPLACE",
    }
    response = _asked(connection, "CopyObject", target_key, connection.writer.copy_object, parameters)
    try:
        connection.encryption.check_echo(response)
    except EncryptionNotHonoured:
        if source.key != target_key:  # an object rewritten in place has no other copy
            log.error("copy to %r: the encryption was not confirmed; deleting it", target_key)
            delete_unwanted(connection, target_key)
        raise
    result = response.get("CopyObjectResult") or {}
    _check_unchanged(connection, source, target_key, unquoted(result.get("ETag")))
    return ObjectInfo(target_key, source.size, unquoted(result.get("ETag")), dict(metadata), result.get("LastModified"))


def _check_unchanged(connection: Connection, source: ObjectInfo, target_key: str, etag: str) -> None:
    """Ceph ignores ``CopySourceIfMatch``. An equal ETag, or a source that still has its own, tells what was copied."""
    if source.key == target_key or etag == source.etag:
        return
    there = head(connection, source.key)
    if there is None or there.etag != source.etag:
        delete_unwanted(connection, target_key)
        raise PreconditionFailed("The object was changed while it was copied.")


def in_parts(
    connection: Connection,
    source: ObjectInfo,
    target_key: str,
    metadata: Mapping[str, str],
    each: int = COPY_PART,
) -> ObjectInfo:
    """Multipart copy in parts of ``each`` bytes, one after the other."""
    writer = connection.writer
    attempts = connection.attempts("CreateMultipartUpload", target_key, UPLOADING)
    created = create_upload(connection, attempts, target_key, metadata)
    upload_id = created["UploadId"]
    try:
        connection.encryption.check_echo(created)
        listed = []
        for part in parts.parts(source.size, each):
            parameters = {
                **connection.object(target_key),
                **connection.encryption.part_parameters(),
                **_source_parameters(connection, source),
                "UploadId": upload_id,
                "PartNumber": part.number,
                "CopySourceRange": f"bytes={part.start}-{part.start + part.size - 1}",
            }
            verb = f"UploadPartCopy {part.number}"
            copied = _asked(connection, verb, target_key, writer.upload_part_copy, parameters)
            connection.encryption.check_echo(copied)
            listed.append({"PartNumber": part.number, "ETag": copied["CopyPartResult"]["ETag"]})
        completing = {
            **connection.object(target_key),
            **connection.encryption.part_parameters(),
            "UploadId": upload_id,
            "MultipartUpload": {"Parts": listed},
        }
        _asked(connection, "CompleteMultipartUpload", target_key, writer.complete_multipart_upload, completing)
    except BaseException:
        abort(connection, target_key, upload_id)
        raise
    there = head(connection, target_key)
    if there is None or there.size != source.size:
        delete_unwanted(connection, target_key)
        raise Corrupt("The object store copied other bytes than there were; they were deleted again.")
    _check_unchanged(connection, source, target_key, there.etag)
    return there


def _asked(connection: Connection, verb: str, key: str, request: Any, parameters: dict[str, Any]) -> dict[str, Any]:
    def once() -> dict[str, Any]:
        try:
            return request(**parameters)
        except ClientError as error:
            if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") == 501:
                raise _CannotCopy() from None
            raise

    return connection.attempts(verb, key, UPLOADING).run(once)


def _relayed(
    connection: Connection, lanes: Lanes, source: ObjectInfo, target_key: str, metadata: Mapping[str, str]
) -> ObjectInfo:
    with tempfile.NamedTemporaryFile(prefix="s3blobs-copy-") as file:
        arrived = get_file(connection, source.key, file, size=source.size, if_match=source.etag)  # type: ignore[arg-type]
        file.flush()
        return put_file(connection, lanes, target_key, Path(file.name), metadata=metadata, sha256=arrived.sha256)
