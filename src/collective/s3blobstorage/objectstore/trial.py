"""One small object on its whole way: uploaded, read, signed for, fetched as a visitor would, deleted; each step timed.

For people who want to see it work. What the store can do beyond that, and what to mend, is ``preflight``'s to say.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from collective.s3blobstorage.errors import ConfigurationError, ObjectMissing, S3BlobStorageError, Unavailable
from collective.s3blobstorage.objectstore.probe import Answer
from collective.s3blobstorage.objectstore.scratch import BODY, Scratch
from collective.s3blobstorage.objectstore.store import S3ObjectStore
from collective.s3blobstorage.objectstore.visitor import fetch

UPLOAD, READ, SIGN, FETCH, DELETE = STEPS = ("upload", "read", "sign", "fetch", "delete")

URL_SECONDS = 60  # for how long the URL is good; nobody else gets it


@dataclass(frozen=True, slots=True)
class Step:
    """``ok`` None: it was not tried, or does not apply; ``detail`` says why, or what went wrong. Never a URL, a key."""

    name: str
    ok: bool | None
    seconds: float
    detail: str = ""


class _NotTried(Exception):
    """The step does not apply here. Internal."""


def trial(store: S3ObjectStore, *, writable: bool = True) -> list[Step]:
    """Go that way once, and tell of each of ``STEPS``, in their order.

    In the caller's thread; makes five requests or so, and takes as long as the downloads' time-outs allow where the
    store is away. Raises nothing of the store's. The object lies below ``.s3blobs-check/``, and is deleted also where a
    step before failed; what a killed process leaves there is gc's. Not ``writable``: nothing is tried.
    """
    if not writable or store.read_only:
        return [Step(name, None, 0.0, "this process may not write to the bucket (read-only)") for name in STEPS]
    scratch = Scratch(store, uuid.uuid4().hex)
    try:
        return _Trial(store, scratch).steps()
    finally:
        scratch.clear()


class _Trial:
    def __init__(self, store: S3ObjectStore, scratch: Scratch) -> None:
        self._store = store
        self._scratch = scratch
        self._url = ""

    def steps(self) -> list[Step]:
        told: list[Step] = []
        works = {UPLOAD: self._upload, READ: self._read, SIGN: self._sign, FETCH: self._fetch, DELETE: self._delete}
        for name, work in works.items():
            failed = [step.name for step in told if step.ok is False]
            if UPLOAD in failed or (name == FETCH and told[-1].ok is not True):
                # Without the object, or without a URL, there is nothing to try.
                told.append(Step(name, None, 0.0, f"not tried, since {failed[0]} failed" if failed else "not tried"))
            else:
                told.append(_timed(name, work))
        return told

    def _upload(self) -> str:
        _done(self._scratch.put())
        return f"{len(BODY)} bytes"

    def _read(self) -> str:
        if self._store.get_bytes(self._scratch.key()) != BODY:
            raise Unavailable("other bytes came back than were written")
        return f"{len(BODY)} bytes as they were written"

    def _sign(self) -> str:
        try:
            self._url = self._store.presign_get(self._scratch.key(), seconds=URL_SECONDS).url
        except ConfigurationError as error:
            # Whatever our own keys encrypt has no URL, and that is as it shall be.
            raise (_NotTried(str(error)) if self._store.own_keys else error) from None
        return f"good for {URL_SECONDS} seconds"

    def _fetch(self) -> str:
        settings = self._store.settings
        status, data, trouble = fetch(settings, "GET", self._url)
        if status == 200 and data == BODY:
            return "a browser gets the object by the signed URL"
        where = "s3-public-endpoint-url" if settings.public_endpoint_url else "s3-endpoint-url"
        came = trouble or (f"status {status}" if status != 200 else "other bytes")
        raise Unavailable(f"{came}: {where} must lead browsers to the same store")

    def _delete(self) -> str:
        self._store.delete([self._scratch.key()])
        try:
            self._store.get_bytes(self._scratch.key())
        except ObjectMissing:
            return "it is gone"
        raise Unavailable("it can still be read")


def _done(answer: Answer) -> None:
    if answer.failure is not None:
        raise Unavailable(f"{answer.failure.error}" if answer.transient else f"refused: {answer.status} {answer.code}")


def _timed(name: str, work: Callable[[], str]) -> Step:
    begun = time.monotonic()
    ok: bool | None = True
    try:
        detail = work()
    except _NotTried as reason:
        ok, detail = None, str(reason)
    except S3BlobStorageError as error:
        ok, detail = False, " ".join(str(error).split())
    return Step(name, ok, time.monotonic() - begun, detail)
