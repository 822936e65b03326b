"""Beginning and aborting a multipart upload, what a new object is asked to be, and uploads whose parts others send."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from botocore.exceptions import ClientError
from botocore.parsers import ResponseParserError

from collective.s3blobstorage.errors import EncryptionNotHonoured, ObjectMissing, PreconditionFailed, StoreError
from collective.s3blobstorage.objectstore import retention
from collective.s3blobstorage.objectstore.connection import Connection, unquoted
from collective.s3blobstorage.objectstore.interfaces import Lock
from collective.s3blobstorage.objectstore.listing import list_uploads, page_of
from collective.s3blobstorage.objectstore.patience import DELETING, UPLOADING, Attempts
from collective.s3blobstorage.objectstore.translate import UploadGone

log = logging.getLogger(__name__)

CONTENT_TYPE, DISPOSITION = "application/octet-stream", "attachment"


def object_parameters(
    connection: Connection, key: str, metadata: Mapping[str, str], before: Lock | None = None
) -> dict[str, Any]:
    """Of PutObject, CreateMultipartUpload and CopyObject with new metadata. ``before``: see ``retention.wanted``.

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
    return {**named, **retention.parameters(retention.lock_for(connection, key, before))}


def create_upload(
    connection: Connection, attempts: Attempts, key: str, metadata: Mapping[str, str], before: Lock | None = None
) -> dict[str, Any]:
    """Begin a multipart upload; the answer, which has an ``UploadId``. ``before``: see ``retention.wanted``."""
    parameters = object_parameters(connection, key, metadata, before)

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


def abort_unknown(connection: Connection, key: str, lost: int, *, ours: bool, known: str = "") -> None:
    """After ``lost`` attempts to begin an upload whose answers were lost: there may be uploads whose ids nobody knows.

    Called when no upload of the caller's to this key goes on but ``known``. ``ours``: nobody else uploads to it, so all
    others are aborted; else, and where the store does not let us, it is logged, as for attempts of which nothing is
    seen: a request that was held up on the way may still be carried out, and is gc's then. Never raises for the store.
    """
    try:
        there = [upload_id for name, upload_id, _ in list_uploads(connection, key) if name == key]
    except StoreError:
        log.warning("an unfinished multipart upload of %r may be left behind in the bucket", key)
        return
    others = [upload_id for upload_id in there if upload_id != known]
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


# Whose parts others send, by signed requests. Nothing here knows what these are to be.

_GONE = "There is no such multipart upload: it was put together, aborted or never begun."


def begin_for_others(connection: Connection, key: str) -> str:
    """See ``IObjectStore.begin_upload``."""
    attempts = connection.attempts("CreateMultipartUpload", key, UPLOADING)
    created: dict[str, Any] = {}
    try:
        created = create_upload(connection, attempts, key, {})
        connection.time.note(created)
        connection.encryption.check_echo(created)
    except EncryptionNotHonoured:
        abort(connection, key, created["UploadId"])
        raise
    finally:
        if attempts.lost:
            abort_unknown(connection, key, attempts.lost, ours=True, known=created.get("UploadId", ""))
    return created["UploadId"]


def list_parts(connection: Connection, key: str, upload_id: str) -> Iterator[tuple[int, int, str]]:
    """See ``IObjectStore.list_parts``."""
    parameters = {**connection.object(key), "UploadId": upload_id}
    while True:
        try:
            page = page_of(connection, "ListParts", key, connection.reader.list_parts, parameters)
        except UploadGone:
            raise ObjectMissing(_GONE) from None
        for part in page.get("Parts", ()):
            yield part["PartNumber"], part["Size"], unquoted(part["ETag"])
        if not page.get("IsTruncated") or not page.get("NextPartNumberMarker"):
            return
        parameters["PartNumberMarker"] = page["NextPartNumberMarker"]


def finish_for_others(connection: Connection, key: str, upload_id: str, listed: Sequence[tuple[int, str]]) -> None:
    """See ``IObjectStore.finish_upload``."""
    parameters = {
        **connection.object(key),
        "UploadId": upload_id,
        "MultipartUpload": {"Parts": [{"PartNumber": number, "ETag": etag} for number, etag in listed]},
    }
    attempts = connection.attempts("CompleteMultipartUpload", key, UPLOADING)

    def is_done() -> bool:
        try:
            connection.writer.complete_multipart_upload(**parameters)
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") == "InvalidPart":
                return False
            raise
        return True

    try:
        done = attempts.run(is_done)
    except UploadGone:
        raise ObjectMissing(_GONE) from None
    if not done:
        raise PreconditionFailed("A part was sent again.")
