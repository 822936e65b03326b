"""Copying inside the bucket, and from another bucket of the same store."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from collective.s3blobstorage.errors import (
    Corrupt,
    EncryptionNotHonoured,
    ObjectMissing,
    PreconditionFailed,
    Refused,
    RetentionNotHonoured,
    Unavailable,
)
from collective.s3blobstorage.keys import OBJECTS
from collective.s3blobstorage.objectstore import parts, retention, versions
from collective.s3blobstorage.objectstore.connection import Connection, unquoted
from collective.s3blobstorage.objectstore.download import head
from collective.s3blobstorage.objectstore.interfaces import Lock, ObjectInfo
from collective.s3blobstorage.objectstore.lanes import CLOSED, Lanes
from collective.s3blobstorage.objectstore.multipart import abort, create_upload, object_parameters
from collective.s3blobstorage.objectstore.patience import UPLOADING, Attempts
from collective.s3blobstorage.objectstore.streamed import StreamedContent
from collective.s3blobstorage.objectstore.translate import UploadGone
from collective.s3blobstorage.objectstore.upload import check_lock, delete_unwanted, put_content

log = logging.getLogger(__name__)

# What a store is asked to copy at a time, in one request, or in parts that together are as much: a store that copies
# 18 MB a second answers within a minute.
IN_ONE = 1 * parts.GB
AT_ONCE = 4
COPY_PART = IN_ONE // AT_ONCE

_ANYWAY: Mapping[str, str] = {}


class _CannotCopy(Exception):
    """The store has no server-side copy for this object (501)."""


@dataclass(frozen=True)
class _Origin:
    """What is copied: an object that ``connection`` reaches, in its own bucket."""

    connection: Connection
    info: ObjectInfo

    def parameters(self) -> dict[str, Any]:
        settings = self.connection.settings
        named: dict[str, Any] = {
            "CopySource": {"Bucket": settings.bucket, "Key": self.connection.full_key(self.info.key)},
            "CopySourceIfMatch": self.info.etag,
            **self.connection.encryption.copy_source_parameters(),
        }
        if settings.expected_bucket_owner:
            named["ExpectedSourceBucketOwner"] = settings.expected_bucket_owner
        return named

    def is_unchanged(self) -> bool:
        there = head(self.connection, self.info.key)
        return there is not None and there.etag == self.info.etag


def copy(
    connection: Connection,
    lanes: Lanes,
    source: ObjectInfo,
    target_key: str,
    *,
    reading: Connection,
    metadata: Mapping[str, str] | None = None,
    progress: Callable[[int], None] | None = None,
) -> ObjectInfo:
    """See ``IObjectStore.copy``. ``reading``: the same store with what the source is encrypted with.

    ``source`` is what HEAD told of it: its size decides how to copy, its ETag holds it in place until the copy is made,
    its metadata goes along where the store does not keep it by itself.
    """
    kept = dict(source.metadata if metadata is None else metadata)
    origin = _Origin(reading, source)
    in_place = _in_place(connection, origin, target_key)
    encrypted = "sse-c" in (connection.encryption.name, reading.encryption.name)
    before = versions.lock_before(reading, source) if in_place else None
    try:
        able = connection.provider.value("copies_encrypted")
        # The only object of its kind is risked on a store that is known to do it: Ceph would leave it in clear.
        if encrypted and (able is False or (in_place and able is not True)):
            raise _CannotCopy()
        if source.size <= IN_ONE:
            return _in_one(connection, origin, target_key, kept, progress=progress, before=before)
        return _in_parts(connection, lanes, origin, target_key, kept, progress=progress, before=before)
    except EncryptionNotHonoured:
        # Ceph encrypts what is put, and not what is copied from an object in clear. Of a copy nothing is left; what was
        # copied onto itself is still in clear, and may have another ETag.
        there = head(reading, source.key) if in_place else source
        if there is None or there.size != source.size:
            raise
        origin = _Origin(reading, there)
    except Refused:
        # It refuses parts of encrypted objects. What a policy refuses is refused once more.
        if not encrypted:
            raise
    except _CannotCopy:
        pass
    log.info("copy of %r: not done by the store, downloading and uploading", source.key)
    return _relayed(connection, lanes, origin, target_key, kept, progress, before)


def copy_from(
    connection: Connection,
    lanes: Lanes,
    other: Connection,
    source: ObjectInfo,
    target_key: str,
    metadata: Mapping[str, str],
    *,
    if_absent: bool,
) -> ObjectInfo | None:
    """See ``IObjectStore.copy_from``. ``source`` is what ``head`` just told of the object, which ``other`` reaches.

    ``if_absent``: whether the store is asked to overwrite nothing.
    """
    if not _one_store(connection, other):
        return None
    origin = _Origin(other, source)
    condition = {"IfNoneMatch": "*"} if if_absent else {}
    try:
        if source.size <= IN_ONE:
            return _in_one(connection, origin, target_key, metadata, condition)
        return _in_parts(connection, lanes, origin, target_key, metadata, condition)
    except (_CannotCopy, Refused, ObjectMissing, PreconditionFailed) as error:
        log.info("copy to %r from bucket %r is left to this machine: %s", target_key, other.settings.bucket, error)
        return None


def _one_store(connection: Connection, other: Connection) -> bool:
    """Whether both are reached at one address, so that the one can be told to copy from the other."""
    if "sse-c" in (connection.encryption.name, other.encryption.name):
        return False  # one client's copy would carry two keys; nobody gains much by that
    ours, theirs = (each.writer.meta for each in (connection, other))
    return (ours.endpoint_url, ours.region_name) == (theirs.endpoint_url, theirs.region_name)


def _in_one(
    connection: Connection,
    origin: _Origin,
    target_key: str,
    metadata: Mapping[str, str],
    condition: Mapping[str, str] = _ANYWAY,
    progress: Callable[[int], None] | None = None,
    before: Lock | None = None,
) -> ObjectInfo:
    source = origin.info
    parameters = {
        **condition,
        **object_parameters(connection, target_key, metadata, before),
        **origin.parameters(),
        "MetadataDirective": "REPLACE",
    }
    attempts = connection.attempts("CopyObject", target_key, UPLOADING)
    with retention.explained(retention.asked(parameters)):
        response = _asked(attempts, connection.writer.copy_object, parameters)
    try:
        connection.encryption.check_echo(response)
    except EncryptionNotHonoured:
        log.error("copy to %r: the encryption was not confirmed", target_key)
        _discard(connection, origin, target_key)
        raise
    result = response.get("CopyObjectResult") or {}
    _check_unchanged(connection, origin, target_key, unquoted(result.get("ETag")))
    _check_lock(connection, _way(connection, origin, target_key), origin, target_key, retention.asked(parameters))
    if progress is not None and source.size:
        progress(source.size)
    return ObjectInfo(target_key, source.size, unquoted(result.get("ETag")), dict(metadata), result.get("LastModified"))


def _way(connection: Connection, origin: _Origin, target_key: str) -> str:
    """See ``retention.Honoured``. A store that copies what keeps the source instead looks right as long as that is the
    same: so of a copy of what is kept each is looked at."""
    if _in_place(connection, origin, target_key):
        return "copy onto itself"
    return "copy" if origin.info.lock == Lock() else ""


def _check_lock(connection: Connection, way: str, origin: _Origin, target_key: str, lock: Lock) -> None:
    try:
        check_lock(connection, way, target_key, lock)
    except (RetentionNotHonoured, Refused):
        _discard(connection, origin, target_key)
        raise


def _discard(connection: Connection, origin: _Origin, target_key: str) -> None:
    """Delete a copy that must not stay. Never one in place, which has no other, nor a shared object: a commit may have
    found it there meanwhile, or have stored it before the copy took its place."""
    if not (_in_place(connection, origin, target_key) or target_key.startswith(OBJECTS)):
        delete_unwanted(connection, target_key)


def _in_place(connection: Connection, origin: _Origin, target_key: str) -> bool:
    theirs = origin.connection
    same_bucket = theirs.settings.bucket == connection.settings.bucket  # both are reached at one address
    return same_bucket and theirs.full_key(origin.info.key) == connection.full_key(target_key)


def _check_unchanged(connection: Connection, origin: _Origin, target_key: str, etag: str) -> None:
    """Ceph ignores ``CopySourceIfMatch``. An equal ETag, or a source that still has its own, tells what was copied."""
    if _in_place(connection, origin, target_key) or etag == origin.info.etag:
        return
    if not origin.is_unchanged():
        _discard(connection, origin, target_key)
        raise PreconditionFailed("The object was changed while it was copied.")


def _in_parts(
    connection: Connection,
    lanes: Lanes,
    origin: _Origin,
    target_key: str,
    metadata: Mapping[str, str],
    condition: Mapping[str, str] = _ANYWAY,
    progress: Callable[[int], None] | None = None,
    before: Lock | None = None,
) -> ObjectInfo:
    """``progress`` is called in this thread, which waits for those of ``lanes``."""
    source = origin.info
    attempts = connection.attempts("CreateMultipartUpload", target_key, UPLOADING)
    lock = retention.lock_for(connection, target_key, before)
    with retention.explained(lock):
        created = create_upload(connection, attempts, target_key, metadata, before)
    upload_id = created["UploadId"]
    try:
        connection.encryption.check_echo(created)
        listed = _copied_parts(connection, lanes, origin, target_key, upload_id, progress)
        _put_together(connection, origin, target_key, upload_id, listed, condition)
    except BaseException:
        abort(connection, target_key, upload_id)
        raise
    there = head(connection, target_key)
    if there is None or there.size != source.size:
        _discard(connection, origin, target_key)
        raise Corrupt("The object store copied other bytes than there were.")
    _check_unchanged(connection, origin, target_key, there.etag)
    _check_lock(connection, "multipart", origin, target_key, lock)
    return there


def _copied_parts(
    connection: Connection,
    lanes: Lanes,
    origin: _Origin,
    target_key: str,
    upload_id: str,
    progress: Callable[[int], None] | None,
) -> list[dict[str, Any]]:
    """Number and ETag of each. When it returns or raises, no part is being copied any more."""
    failed = threading.Event()

    def stop() -> bool:
        return failed.is_set() or lanes.closing.is_set()

    def copied(part: parts.Part) -> tuple[parts.Part, str]:
        """In a thread of the pool."""
        encrypted = connection.encryption.part_parameters()
        parameters = {
            **connection.object(target_key),
            **encrypted,
            **origin.parameters(),
            "UploadId": upload_id,
            "PartNumber": part.number,
            "CopySourceRange": f"bytes={part.start}-{part.start + part.size - 1}",
        }
        attempts = connection.attempts(f"UploadPartCopy {part.number}", target_key, UPLOADING, cancelled=stop)
        told = _asked(attempts, connection.writer.upload_part_copy, parameters)
        if encrypted:
            connection.encryption.check_echo(told)
        return part, told["CopyPartResult"]["ETag"]

    most = connection.provider.value("most_parts") or parts.MAX_PARTS
    todo = parts.parts(origin.info.size, max(COPY_PART, -(-origin.info.size // most)))
    pending: set[Future] = set()
    etags: dict[int, str] = {}
    try:
        while True:
            while len(pending) < min(AT_ONCE, lanes.count) and (part := next(todo, None)) is not None:
                pending.add(lanes.submit(copied, part))
            if not pending:
                return [{"PartNumber": number, "ETag": etag} for number, etag in sorted(etags.items())]
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                part, etags[part.number] = future.result()
                if progress is not None:
                    progress(part.size)
    except CancelledError:
        raise Unavailable(CLOSED) from None
    finally:
        failed.set()
        wait(pending)


def _put_together(
    connection: Connection,
    origin: _Origin,
    target_key: str,
    upload_id: str,
    listed: list[dict[str, Any]],
    condition: Mapping[str, str],
) -> None:
    parameters = {
        **connection.object(target_key),
        **connection.encryption.part_parameters(),
        "UploadId": upload_id,
        "MultipartUpload": {"Parts": listed},
        **condition,
    }
    attempts = connection.attempts("CompleteMultipartUpload", target_key, UPLOADING)
    try:
        _asked(attempts, connection.writer.complete_multipart_upload, parameters)
    except (UploadGone, PreconditionFailed):
        # An earlier attempt may have done it, whose answer was lost. Nobody else writes this key in so many parts.
        there = head(connection, target_key) if attempts.ambiguous else None
        if there is None or there.size != origin.info.size or not there.etag.endswith(f"-{len(listed)}"):
            raise
        if _in_place(connection, origin, target_key) and there.etag == origin.info.etag:
            raise


def _asked(attempts: Attempts, request: Any, parameters: dict[str, Any]) -> dict[str, Any]:
    def once() -> dict[str, Any]:
        try:
            return request(**parameters)
        except ClientError as error:
            if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") == 501:
                raise _CannotCopy() from None
            raise

    return attempts.run(once)


def _relayed(
    connection: Connection,
    lanes: Lanes,
    origin: _Origin,
    target_key: str,
    metadata: Mapping[str, str],
    progress: Callable[[int], None] | None,
    before: Lock | None,
) -> ObjectInfo:
    content = StreamedContent(origin.connection, origin.info, begin=_as_stored)
    return put_content(
        connection,
        lanes,
        target_key,
        content,
        metadata=metadata,
        sha256=content.expected,
        # It is read while it is sent. That is safe: what is replaced is there until all of it has arrived.
        replaces=_in_place(connection, origin, target_key) or target_key.startswith(OBJECTS),
        before=before,
        progress=progress,
    )


def _as_stored(info: ObjectInfo) -> None:
    """Whatever it is, it is copied byte by byte."""
