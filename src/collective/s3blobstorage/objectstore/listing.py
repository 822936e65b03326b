"""What lies in the bucket, page by page."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

from botocore.parsers import ResponseParserError

from collective.s3blobstorage.errors import StoreError
from collective.s3blobstorage.objectstore.connection import Connection, unquoted
from collective.s3blobstorage.objectstore.interfaces import Listed, Version


def list_objects(connection: Connection, prefix: str, start_after: str, page_size: int) -> Iterator[Listed]:
    """See ``IObjectStore.list``. A page is fetched when the first of its lines is asked for."""
    parameters: dict[str, Any] = {
        **connection.bucket(),
        "Prefix": connection.full_key(prefix),
        "MaxKeys": max(1, min(page_size, 1000)),
    }
    if start_after:
        parameters["StartAfter"] = connection.full_key(start_after)
    last = b""
    while True:
        page = page_of(connection, "ListObjectsV2", prefix, connection.reader.list_objects_v2, parameters)
        for line in page.get("Contents", ()):
            full_key = line["Key"]
            encoded = _encoded(full_key)
            if encoded <= last:
                # Comparing two sorted streams is how gc and migrate judge; out of order they would judge wrongly.
                raise StoreError("The object store lists keys out of order or twice.")
            last = encoded
            key = connection.relative_key(full_key)
            etag, storage = unquoted(line["ETag"]), line.get("StorageClass", "")
            yield Listed(key, int(line["Size"]), etag, line["LastModified"], storage)
        if not page.get("IsTruncated"):
            return
        parameters.pop("ContinuationToken", None)
        parameters.pop("StartAfter", None)
        if page.get("NextContinuationToken"):
            parameters["ContinuationToken"] = page["NextContinuationToken"]
        elif not page.get("Contents"):
            raise StoreError("The object store lists nothing, and says that more follows.")
        else:
            parameters["StartAfter"] = last.decode("utf-8", "surrogatepass")


def page_of(
    connection: Connection, verb: str, prefix: str, request: Callable[..., dict[str, Any]], parameters: dict[str, Any]
) -> dict[str, Any]:
    """One page of a listing."""

    def once() -> dict[str, Any]:
        page = request(**parameters)
        if "IsTruncated" not in page:
            # Every listing says so. An answer without is something else, and must not look like an empty bucket.
            raise ResponseParserError("no listing")
        connection.time.note(page)
        return page

    return connection.attempts(verb, prefix, connection.reading).run(once)


def list_versions(connection: Connection, prefix: str, start_after: str) -> Iterator[Version]:
    """See ``IObjectStore.list_versions``."""
    parameters: dict[str, Any] = {**connection.bucket(), "Prefix": connection.full_key(prefix)}
    if start_after:
        parameters["KeyMarker"] = connection.full_key(start_after)
    last = b""
    while True:
        page = page_of(connection, "ListObjectVersions", prefix, connection.reader.list_object_versions, parameters)
        found = [(line, False) for line in page.get("Versions", ())]
        found += [(line, True) for line in page.get("DeleteMarkers", ())]
        # A page tells the two apart, each sorted. The latest of a key is first; the rest as the store dated them.
        found.sort(
            key=lambda each: (_encoded(each[0]["Key"]), not each[0]["IsLatest"], -each[0]["LastModified"].timestamp())
        )
        for line, is_marker in found:
            encoded = _encoded(line["Key"])
            if encoded < last:
                raise StoreError("The object store lists keys out of order or twice.")
            last = encoded
            yield Version(
                connection.relative_key(line["Key"]),
                line["VersionId"],
                int(line.get("Size") or 0),
                line["LastModified"],
                bool(line["IsLatest"]),
                is_marker,
            )
        if not page.get("IsTruncated") or not page.get("NextKeyMarker"):
            return
        parameters["KeyMarker"] = page["NextKeyMarker"]
        parameters["VersionIdMarker"] = page.get("NextVersionIdMarker") or ""


def _encoded(key: str) -> bytes:
    return key.encode("utf-8", "surrogatepass")


def list_uploads(connection: Connection, prefix: str) -> Iterator[tuple[str, str, datetime]]:
    """See ``IObjectStore.list_uploads``."""
    parameters: dict[str, Any] = {**connection.bucket(), "Prefix": connection.full_key(prefix)}
    while True:
        page = page_of(connection, "ListMultipartUploads", prefix, connection.reader.list_multipart_uploads, parameters)
        for upload in page.get("Uploads", ()):
            yield connection.relative_key(upload["Key"]), upload["UploadId"], upload["Initiated"]
        if not page.get("IsTruncated") or not page.get("NextKeyMarker"):
            return
        parameters["KeyMarker"] = page["NextKeyMarker"]
        parameters["UploadIdMarker"] = page.get("NextUploadIdMarker") or ""
