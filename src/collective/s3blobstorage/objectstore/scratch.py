"""Objects that exist only to try something out, all under one key prefix of our own."""

from __future__ import annotations

import base64
import hashlib
import logging
from typing import Any

from collective.s3blobstorage.keys import SCRATCH
from collective.s3blobstorage.objectstore.multipart import object_parameters
from collective.s3blobstorage.objectstore.probe import Answer, ask
from collective.s3blobstorage.objectstore.store import S3ObjectStore

log = logging.getLogger(__name__)

# Beside the blobs and the owner marker, under s3-prefix. gc deletes whatever lies here when it is as old as an
# orphan has to be.
FOLDER = SCRATCH.removesuffix("/")

BODY = b"collective.s3blobstorage tries out what this object store can do; this may be deleted.\n"
BODY_MD5 = hashlib.md5(BODY, usedforsecurity=False).digest()


class Scratch:
    """The probes of one run: keys ``.s3blobs-check/{name}`` and, with a hyphen and a word behind, more of them.

    Every request is made once and with the time-outs of downloads, so that a start never hangs on one. What was
    written, and each multipart upload that was begun, is noted; ``clear`` takes all away.
    """

    def __init__(self, store: S3ObjectStore, name: str) -> None:
        self.store = store
        self.name = name
        self._written: dict[tuple[str, str], None] = {}  # (key, version or ""), in order
        self._uploads: list[tuple[str, str]] = []

    def key(self, word: str = "") -> str:
        """Relative to the store's prefix."""
        return f"{FOLDER}/{self.name}" + (f"-{word}" if word else "")

    @property
    def client(self) -> Any:
        return self.store.connection.reader

    def put(
        self, word: str = "", *, conditional: bool = False, checksum: bool = False, encrypted: bool = True
    ) -> Answer:
        """PUT of ``BODY``; ``checksum`` adds ``x-amz-checksum-sha256``, ``conditional`` ``If-None-Match: *``."""
        connection = self.store.connection
        parameters: dict[str, Any] = object_parameters(connection, self.key(word), {})
        parameters["ContentMD5"] = base64.b64encode(BODY_MD5).decode()
        if not encrypted:
            for name in connection.encryption.write_parameters():
                del parameters[name]
        if conditional:
            parameters["IfNoneMatch"] = "*"
        if checksum:
            parameters["ChecksumSHA256"] = base64.b64encode(hashlib.sha256(BODY).digest()).decode()
        answer = ask(self.client.put_object, Body=BODY, **parameters)
        self.wrote(word, answer)
        return answer

    def wrote(self, word: str, answer: Answer) -> None:
        """Note what a request made, or, where its answer was lost, may have made."""
        if answer.ok or (answer.failure is not None and answer.failure.ambiguous):
            version = str(answer.response.get("VersionId") or "")
            self._written[self.key(word), "" if version == "null" else version] = None

    def note(self, word: str) -> None:
        """Somebody else was asked to write it."""
        self._written[self.key(word), ""] = None

    def began(self, word: str, upload_id: str) -> None:
        self._uploads.append((self.key(word), upload_id))

    def ended(self, upload_id: str) -> None:
        self._uploads = [(key, upload) for key, upload in self._uploads if upload != upload_id]

    def forget(self, word: str) -> None:
        """It is deleted already."""
        self._written = {written: None for written in self._written if written[0] != self.key(word)}

    def clear(self) -> None:
        """Delete everything; a failure is logged and left to gc, and so is the rest where the store is silent: each
        request would wait for as long again. Raises nothing of the store's."""
        connection = self.store.connection
        silent = False
        for key, upload_id in self._uploads:
            silent = silent or self._gone(
                ask(self.client.abort_multipart_upload, **connection.object(key), UploadId=upload_id), key
            )
        for key, version in self._written:
            if silent:
                break
            # In a bucket with versions a plain DELETE would leave the version and add a marker.
            exactly = {"VersionId": version} if version else {}
            answer = ask(self.client.delete_object, **connection.object(key), **exactly)
            if version and answer.denied:  # s3:DeleteObjectVersion is a right of its own
                answer = ask(self.client.delete_object, **connection.object(key))
            silent = self._gone(answer, key)
        self._uploads, self._written = [], {}

    def _gone(self, answer: Answer, key: str) -> bool:
        """Whether the store was silent for a whole time-out."""
        if answer.failure is None or answer.status == 404:
            return False
        log.info("%r stays until gc: %s", self.store.connection.full_key(key), answer.failure.detail)
        return answer.failure.silent
