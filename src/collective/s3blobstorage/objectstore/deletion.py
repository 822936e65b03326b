"""Deleting, a thousand keys per request."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import islice

from collective.s3blobstorage.errors import ObjectMissing, Refused, StoreError, Unavailable
from collective.s3blobstorage.objectstore.connection import Connection
from collective.s3blobstorage.objectstore.interfaces import Deleted, Doomed
from collective.s3blobstorage.objectstore.patience import DELETING
from collective.s3blobstorage.objectstore.translate import Failure

log = logging.getLogger(__name__)

BATCH = 1000  # limit of the protocol

_GONE = frozenset(("NoSuchKey", "NoSuchVersion"))
_REFUSED = frozenset(("AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch"))
# Repeating the request does not change these.
_LASTING = _REFUSED | {"PreconditionFailed", "InvalidRequest", "MethodNotAllowed", "ObjectLocked"}


def delete(connection: Connection, keys: Iterable[str]) -> None:
    """See ``IObjectStore.delete``.

    A batch of which some keys are refused does not stop the later ones; the error at the end says how many are left.
    Refusals are logged at DEBUG: a site's policy need not allow deleting, and the caller knows whether it should.
    """
    refused = deleted = 0
    for batch in _batches(keys):
        left = _delete_batch(connection, batch)
        refused += left
        deleted += len(batch) - left
    if refused:
        raise Refused(f"The object store refused to delete {refused} of {refused + deleted} objects.")


def _batches(keys: Iterable[str]) -> Iterator[list[str]]:
    remaining = iter(keys)
    while batch := list(islice(remaining, BATCH)):
        yield batch


def _delete_batch(connection: Connection, batch: list[str]) -> int:
    """Delete up to a thousand keys; how many were refused. Keys that failed for another reason are tried again."""
    if len(batch) == 1:
        one = batch[0]
        attempts = connection.attempts("DELETE", one, DELETING)
        attempts.refusal_expected = True
        try:
            attempts.run(lambda: connection.writer.delete_object(**connection.object(one)))
        except ObjectMissing:
            pass  # some stores answer 404 instead of 204
        except Refused:
            return 1
        return 0
    refused = 0
    attempts = connection.attempts(f"DeleteObjects ({len(batch)})", batch[0], DELETING)
    attempts.refusal_expected = True
    while True:
        wanted = [{"Key": connection.full_key(key)} for key in batch]
        parameters = {**connection.bucket(), "Delete": {"Objects": wanted, "Quiet": True}}
        response = attempts.run(partial(connection.writer.delete_objects, **parameters))
        errors = [error for error in response.get("Errors", ()) if error.get("Code") not in _GONE]
        for error in errors:
            level = logging.DEBUG if error.get("Code") in _REFUSED else logging.WARNING
            log.log(level, "%r was not deleted: %s", error.get("Key"), error.get("Code"))
        refused += sum(error.get("Code") in _REFUSED for error in errors)
        batch = [connection.relative_key(error["Key"]) for error in errors if error.get("Code") not in _REFUSED]
        if not batch:
            return refused
        attempts.failed(_partial(len(batch), len(wanted)))


def _partial(left: int, wanted: int) -> Failure:
    error: StoreError = Unavailable(f"The object store did not delete {left} of {wanted} objects.")
    return Failure(error, retry=True, detail=f"{left} of {wanted} keys failed")


def delete_each(connection: Connection, doomed: Sequence[Doomed]) -> Deleted:
    """See ``IObjectStore.delete_each``."""
    if len(doomed) > BATCH:
        raise ValueError(f"at most {BATCH} in one request")
    if not doomed:
        return Deleted()
    conditional = bool(connection.provider.value("conditional_deletes"))
    left = list(doomed)
    failed: dict[Doomed, str] = {}
    markers = 0
    attempts = connection.attempts(f"DeleteObjects ({len(doomed)})", doomed[0].key, DELETING)
    while left:
        by_name = {(connection.full_key(each.key), each.version): each for each in left}
        wanted = [_named(connection, each, conditional=conditional) for each in left]
        # Not quiet: only then the answer tells of delete markers.
        parameters = {**connection.bucket(), "Delete": {"Objects": wanted}}
        response = attempts.run(partial(connection.writer.delete_objects, **parameters))
        markers += sum(
            bool(told.get("DeleteMarker")) for told in response.get("Deleted", ()) if not told.get("VersionId")
        )
        again: dict[Doomed, str] = {}
        for error in response.get("Errors", ()):
            code = str(error.get("Code") or "unknown")
            one = by_name.get((error.get("Key", ""), error.get("VersionId") or ""))
            if one is None or code in _GONE:
                continue
            (failed if code in _LASTING else again)[one] = code
        left = list(again)
        if not left:
            break
        try:
            attempts.failed(_partial(len(left), len(wanted)))
        except Unavailable:
            failed.update(again)
            break
    return Deleted(failed, markers)


def _named(connection: Connection, doomed: Doomed, *, conditional: bool) -> dict[str, str]:
    named = {"Key": connection.full_key(doomed.key)}
    if doomed.version:
        named["VersionId"] = doomed.version
    elif doomed.etag and conditional:
        named["ETag"] = doomed.etag
    return named
