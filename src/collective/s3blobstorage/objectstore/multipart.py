"""Beginning and aborting a multipart upload, and what a new object is asked to be."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from botocore.parsers import ResponseParserError

from collective.s3blobstorage.errors import StoreError
from collective.s3blobstorage.objectstore.connection import Connection
from collective.s3blobstorage.objectstore.listing import list_uploads
from collective.s3blobstorage.objectstore.patience import DELETING, Attempts
from collective.s3blobstorage.objectstore.translate import UploadGone

log = logging.getLogger(__name__)

CONTENT_TYPE, DISPOSITION = "application/octet-stream", "attachment"


def object_parameters(connection: Connection, key: str, metadata: Mapping[str, str]) -> dict[str, Any]:
    """Of PutObject, CreateMultipartUpload and CopyObject with new metadata.

    The type says nothing about the content and the disposition makes a browser save it: what a browser may do with a
    blob is decided for each signed URL, never by the object.
    """
    named = {
        **connection.object(key),
        **connection.encryption.write_parameters(),
        "ContentType": CONTENT_TYPE,
        "ContentDisposition": DISPOSITION,
        "Metadata": dict(connection.encryption.written_metadata(key, metadata)),
    }
    if connection.settings.storage_class:
        named["StorageClass"] = connection.settings.storage_class
    return named


def create_upload(connection: Connection, attempts: Attempts, key: str, metadata: Mapping[str, str]) -> dict[str, Any]:
    """Begin a multipart upload; the answer, which has an ``UploadId``."""
    parameters = object_parameters(connection, key, metadata)

    def once() -> dict[str, Any]:
        created = connection.writer.create_multipart_upload(**parameters)
        if not created.get("UploadId"):
            raise ResponseParserError("no upload id")
        return created

    return attempts.run(once)


def abort(connection: Connection, key: str, upload_id: str) -> None:
    """Abort a multipart upload as far as the store can be reached; a failure is logged, never raised."""
    try:
        abort_upload(connection, key, upload_id)
    except StoreError:
        log.warning("an unfinished multipart upload of %r is left behind in the bucket", key)


def abort_unknown(connection: Connection, key: str, lost: int, *, ours: bool) -> None:
    """After ``lost`` attempts to begin an upload whose answers were lost: there may be uploads whose ids nobody knows.

    Called when no upload of the caller's to this key goes on. ``ours``: nobody else uploads to it, so all are aborted;
    else, and where the store does not let us, it is logged, as for attempts of which nothing is seen: a request that
    was held up on the way may still be carried out, and is gc's then. Never raises for the store.
    """
    try:
        others = [upload_id for name, upload_id, _ in list_uploads(connection, key) if name == key]
    except StoreError:
        log.warning("an unfinished multipart upload of %r may be left behind in the bucket", key)
        return
    if not ours:
        if others:
            log.warning("an unfinished multipart upload of %r may be left behind in the bucket", key)
        return
    for upload_id in others:
        abort(connection, key, upload_id)
    if len(others) < lost:
        log.info("an unfinished multipart upload of %r may still begin, and is left behind then", key)


def abort_upload(connection: Connection, key: str, upload_id: str) -> None:
    """See ``IObjectStore.abort_upload``."""
    attempts = connection.attempts("AbortMultipartUpload", key, DELETING)
    try:
        attempts.run(lambda: connection.writer.abort_multipart_upload(**connection.object(key), UploadId=upload_id))
    except UploadGone:
        pass
