"""Deleting, a thousand keys per request."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import islice

from collective.s3blobstorage.errors import ObjectMissing, Refused, StoreError, Unavailable
from collective.s3blobstorage.objectstore.connection import Connection
from collective.s3blobstorage.objectstore.patience import DELETING
from collective.s3blobstorage.objectstore.translate import Failure

log = logging.getLogger(__name__)

BATCH = 1000  # limit of the protocol

_GONE = frozenset(("NoSuchKey", "NoSuchVersion"))
_REFUSED = frozenset(("AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch"))


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
