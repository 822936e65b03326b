"""Writing: one PUT, or a multipart upload whose parts go out in parallel."""

from __future__ import annotations

import base64
import hashlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from collective.s3blobstorage.errors import (
    Corrupt,
    EncryptionNotHonoured,
    PreconditionFailed,
    Refused,
    RetentionNotHonoured,
    StoreError,
    Unavailable,
)
from collective.s3blobstorage.objectstore import parts, retention, versions
from collective.s3blobstorage.objectstore.body import FileWindow, Stopped
from collective.s3blobstorage.objectstore.connection import Connection, plain_md5, recorded_sha256, unquoted
from collective.s3blobstorage.objectstore.content import (
    BLOCK,
    Content,
    DecryptedContent,
    FileContent,
    Openable,
    OpenedFile,
    Reader,
    read_all,
)
from collective.s3blobstorage.objectstore.counted import Comparing
from collective.s3blobstorage.objectstore.download import head
from collective.s3blobstorage.objectstore.interfaces import Cancelled, Lock, ObjectInfo
from collective.s3blobstorage.objectstore.lanes import CLOSED, Lanes
from collective.s3blobstorage.objectstore.multipart import abort, abort_unknown, create_upload, object_parameters
from collective.s3blobstorage.objectstore.patience import DELETING, UPLOADING, Attempts
from collective.s3blobstorage.objectstore.proof import DIFFERENT, Proof
from collective.s3blobstorage.objectstore.translate import UploadGone

log = logging.getLogger(__name__)

# Parts of one file that are sent at a time: two for each processor, 4 to 8. On two of them a file of 256 MB takes as
# long with 4 as with 8, and the worst commit of another writer meanwhile is 20 ms instead of 35; with 16 the file took
# a tenth longer. Where there are more, 8 make use of a line that gives each connection only so much.
PARTS_AT_ONCE = max(4, min(8, 2 * len(os.sched_getaffinity(0)))) if hasattr(os, "sched_getaffinity") else 4

# Up to this size a file is read once, into memory, and hashed and sent from there.
IN_MEMORY = 1024 * 1024

# Bytes of parts that are held in memory, of what can be read once only: four parts of an object of up to 160 GB, fewer
# of a larger one. A part of an object over 640 GB is itself larger than this, and they go out one by one.
HELD = 64 * 1024 * 1024


def _never() -> bool:
    return False


def opened(path: str | Path | Openable) -> AbstractContextManager[FileContent]:
    """Raises OSError."""
    return OpenedFile(path) if isinstance(path, (str, os.PathLike)) else _opened(path)


@contextmanager
def _opened(path: Openable) -> Iterator[FileContent]:
    with path.opened() as file:
        yield file if isinstance(file, FileContent) else DecryptedContent(file)


def put_content(
    connection: Connection,
    lanes: Lanes,
    key: str,
    content: Content,
    *,
    metadata: Mapping[str, str],
    sha256: bytes | None = None,
    if_absent: bool = False,
    shared: bool = False,
    replaces: bool = False,
    if_match: str = "",
    check_replaced: Callable[[], object] | None = None,
    before: Lock | None = None,
    cancelled: Callable[[], bool] | None = None,
    progress: Callable[[int], None] | None = None,
) -> ObjectInfo:
    """As ``IObjectStore.put_file``. ``sha256``, and that of the result: of the caller's bytes, where the content seals
    them; then the metadata have none of it. ``replaces``: the key is the only one of these bytes, and is not deleted
    where something is wrong with what the store says of it. ``if_match``: "" is none; ``check_replaced`` raises where
    the object is not the one any more that is to be replaced. ``before``: see ``retention.wanted``."""
    stopped = cancelled or _never
    size = content.size
    upload = _Upload(
        connection,
        lanes,
        key,
        content,
        size,
        metadata,
        sha256,
        if_absent,
        replaces or shared,
        stopped,
        progress,
        if_match=if_match,
        check_replaced=check_replaced,
        sends_first=shared,
        before=before,
    )
    try:
        if parts.is_single(size):
            return upload.whole()
        try:
            cut = parts.least_part_size if content.once else parts.part_size
            each = cut(
                size,
                connection.provider.value("most_parts") or parts.MAX_PARTS,
                connection.provider.value("smallest_part") or parts.SMALLEST_PART,
            )
        except ValueError:
            raise StoreError("A file over 5 TiB cannot be kept in an object store.") from None
        return upload.in_parts(each)
    except (Cancelled, Stopped) as error:
        cause = error.cause if isinstance(error, Stopped) else error
        if isinstance(cause, Cancelled) and lanes.closing.is_set() and not stopped():
            raise Unavailable(CLOSED) from None
        raise cause from None


def put_bytes(
    connection: Connection, lanes: Lanes, key: str, data: bytes, metadata: Mapping[str, str], if_absent: bool
) -> ObjectInfo:
    """See ``IObjectStore.put_bytes``."""
    sender = _Put(
        connection,
        key,
        size=len(data),
        sha256=hashlib.sha256(data).digest(),
        md5=hashlib.md5(data, usedforsecurity=False).digest(),
        metadata=metadata,
        if_absent=if_absent,
    )
    closing = lanes.closing.is_set
    try:
        with lanes.lane(closing):
            return sender.run(
                lambda given: connection.signed_writer.put_object(Body=data, sha256=sender.sha256, **given), closing
            )
    except (Cancelled, Stopped):
        raise Unavailable(CLOSED) from None


@dataclass
class _Put:
    """One PUT, with what must come back. Belongs to one thread."""

    connection: Connection
    key: str
    size: int
    sha256: bytes
    md5: bytes
    metadata: Mapping[str, str]
    if_absent: bool
    by_etag: bool = False  # whether the ETag may be the proof instead of Content-MD5 (see ``Proof``)
    replaces: bool = False
    if_match: str = ""
    before: Lock | None = None
    shared: bool = False

    def run(self, send: Callable[[dict[str, Any]], dict[str, Any]], cancelled: Callable[[], bool]) -> ObjectInfo:
        metadata = {**self.metadata, "size": str(self.size), "sha256": self.sha256.hex()}
        parameters = object_parameters(self.connection, self.key, metadata, self.before)
        lock = retention.asked(parameters)
        if self.if_absent:
            parameters["IfNoneMatch"] = "*"
        if self.if_match:
            parameters["IfMatch"] = self.if_match
        bare = not self.if_absent and not self.if_match and lock == Lock()
        proof = Proof(self.md5, by_etag=self.by_etag and bare and self.connection.etags_prove)

        def put() -> dict[str, Any]:
            with proof:
                response = send({**parameters, **proof.parameters()})
            if proof.by_etag:
                with Comparing(self.connection.traffic, "put"):
                    proof.check(response)
            return response

        attempts = self.connection.attempts("PUT", self.key, UPLOADING, cancelled=cancelled)
        try:
            with retention.explained(lock):
                response = attempts.run(put)
        except PreconditionFailed:
            if not attempts.ambiguous:
                raise
            settled = self._settled(metadata)
            # It is ours, or equal: kept it has to be in either case, and deleted it is in none.
            check_lock(self.connection, "PUT", self.key, lock)
            return settled
        with Comparing(self.connection.traffic, "put"):
            try:
                self._check(response)
            except Corrupt:
                if not self.shared:
                    raise
                # It stays, since somebody may have found it there, and with its metadata it looks right. So the right
                # bytes take its place.
                parameters.pop("IfNoneMatch", None)
                response = attempts.run(put)
                self._check(response)
        try:
            check_lock(self.connection, "PUT", self.key, lock)
        except (RetentionNotHonoured, Refused):
            self._unwanted()
            raise
        return ObjectInfo(self.key, self.size, unquoted(response.get("ETag")), metadata, None, self.sha256)

    def _settled(self, metadata: Mapping[str, str]) -> ObjectInfo:
        """A 412 after an attempt without answer: the object that is in the way may be our own."""
        there = head(self.connection, self.key)
        if there is None or there.size != self.size or recorded_sha256(there.metadata) != self.sha256:
            raise PreconditionFailed("The object is there already.") from None
        return ObjectInfo(self.key, self.size, there.etag, metadata, there.last_modified, self.sha256)

    def _check(self, response: Mapping[str, Any]) -> None:
        try:
            self.connection.encryption.check_echo(response)
        except EncryptionNotHonoured:
            log.error("PUT of %r: the encryption was not confirmed", self.key)
            self._unwanted()
            raise
        etag = plain_md5(response)
        if etag is not None:
            right = etag == self.md5.hex()
        else:
            there = head(self.connection, self.key)
            right = there is not None and there.size == self.size
        reported = response.get("ChecksumSHA256")
        if reported and "-" not in reported:
            right = right and reported == base64.b64encode(self.sha256).decode()
        if not right:
            log.error("PUT of %r: the store's answer does not fit what was sent", self.key)
            self._unwanted()
            raise Corrupt(DIFFERENT)

    def _unwanted(self) -> None:
        if not self.replaces:
            delete_unwanted(self.connection, self.key)


def check_lock(connection: Connection, way: str, key: str, lock: Lock) -> None:
    """Of what was just written. See ``retention.Honoured``."""
    connection.honoured.check(
        way, key, lock, lambda: head(connection, key), lambda: versions.keep(connection, key, lock)
    )


def delete_unwanted(connection: Connection, key: str) -> None:
    """Delete an object that must not stay; that it could not be deleted is logged, the first error counts."""
    try:
        attempts = connection.attempts("DELETE", key, DELETING)
        attempts.run(lambda: connection.writer.delete_object(**connection.object(key)))
    except StoreError:
        log.error("%r in bucket %r could not be deleted: delete it", key, connection.settings.bucket)


@dataclass
class _Upload:
    """One file on its way. Its methods run in the caller's thread, but ``_send_part``."""

    connection: Connection
    lanes: Lanes
    key: str
    content: Content
    size: int
    metadata: Mapping[str, str]
    sha256: bytes | None  # of the caller's bytes
    if_absent: bool
    replaces: bool
    cancelled: Callable[[], bool]
    progress: Callable[[int], None] | None
    failed: bool = False  # set once, by whichever thread
    if_match: str = ""
    check_replaced: Callable[[], object] | None = None
    before: Lock | None = None
    # It is shared: the bytes are sent before it is asked whether they are there, and compared with ``sha256``.
    sends_first: bool = False

    def whole(self) -> ObjectInfo:
        """One PUT. The file is read for its hashes first: metadata goes ahead of the body."""
        held = self.size <= IN_MEMORY or self.content.once
        data = self._all() if held else None
        md5 = hashlib.md5(usedforsecurity=False)
        known = self.sha256 if self.content.plain else None
        sha256 = hashlib.sha256()
        for block in [data] if data is not None else self._blocks(self.content.reader(), 0, self.size):
            md5.update(block)
            if known is None or self.sends_first:
                sha256.update(block)
        if self.sends_first and known is not None:
            self._compare(sha256.digest())
        put = _Put(
            self.connection,
            self.key,
            self.size,
            known or sha256.digest(),
            md5.digest(),
            self.metadata,
            self.if_absent,
            by_etag=data is not None,
            replaces=self.replaces,
            if_match=self.if_match,
            before=self.before,
            shared=self.sends_first,
        )

        reported = 0

        def report(count: int) -> None:
            nonlocal reported
            reported += count
            if self.progress is not None and count:
                self.progress(count)

        def send(parameters: dict[str, Any]) -> dict[str, Any]:
            if data is not None:
                return self.connection.signed_writer.put_object(Body=data, sha256=put.sha256, **parameters)
            read = self.content.reader()
            return self._send(self.connection.writer.put_object, read, 0, self.size, parameters, report)

        with self.lanes.lane(self._stop):
            if self.check_replaced is not None:
                self.check_replaced()
            stored = put.run(send, self._stop)
        report(self.size - reported)
        return stored

    def in_parts(self, each: int) -> ObjectInfo:
        """A multipart upload. The SHA-256 is computed here while the pool's threads send."""
        if not self.sends_first:
            self._check_absent()
        beginning = self._attempts("CreateMultipartUpload")
        try:
            return self._in_parts(each, beginning)
        finally:
            if beginning.lost:
                # Not before: a request whose answer was lost may be carried out after the next attempt, when a proxy
                # held it up. A key that may be there already may be in the hands of another process too.
                abort_unknown(self.connection, self.key, beginning.lost, ours=not self.if_absent)

    def _in_parts(self, each: int, beginning: Attempts) -> ObjectInfo:
        metadata = {**self.metadata, "size": str(self.size)}
        if self.sha256 is not None and self.content.plain:
            metadata["sha256"] = self.sha256.hex()
        lock = retention.lock_for(self.connection, self.key, self.before)
        with retention.explained(lock):
            created = create_upload(self.connection, beginning, self.key, metadata, self.before)
        upload_id = created["UploadId"]
        pending: set[Future] = set()
        try:
            self.connection.encryption.check_echo(created)
            sent = self._send_all(upload_id, each, pending, locked=lock != Lock())
            etag = self._complete(upload_id, sent)
        except BaseException:
            # Also on KeyboardInterrupt: parts that nobody completes cost money until somebody looks for them.
            self.failed = True
            wait(pending)
            abort(self.connection, self.key, upload_id)
            raise
        try:
            check_lock(self.connection, "multipart", self.key, lock)
        except (RetentionNotHonoured, Refused):
            if not self.replaces:
                delete_unwanted(self.connection, self.key)
            raise
        assert self.sha256 is not None
        return ObjectInfo(self.key, self.size, etag, metadata, None, self.sha256)

    def _send_all(self, upload_id: str, each: int, pending: set[Future], *, locked: bool) -> dict[int, str]:
        """Send every part; {number: ETag}. ``locked``: each needs Content-MD5.

        No more parts are in the pool's queue than lanes exist, so that files that are uploaded at the same time
        take turns.
        """
        once = self.content.once
        at_once = min(self.lanes.count, PARTS_AT_ONCE)
        if once:
            at_once = max(1, min(at_once, HELD // each))
        read = self.content.reader()
        etags: dict[int, str] = {}
        todo = parts.parts(self.size, each)
        hashing = (self.sha256 is None or self.sends_first) and not once
        hashed = self._plain_blocks() if hashing else iter(())
        sha256 = hashlib.sha256()
        while True:
            for future in [future for future in pending if future.done()]:
                pending.discard(future)
                number, etag = _result(future)
                etags[number] = etag
            while len(pending) < at_once and (part := next(todo, None)) is not None:
                reader = self._held(read, part) if once else self.content.reader()
                pending.add(self.lanes.submit(self._send_part, upload_id, part, reader, locked))
            if hashing and (block := next(hashed, None)) is not None:
                sha256.update(block)
            elif hashing:
                hashing = False
                self._compare(sha256.digest())
                self.sha256 = sha256.digest()
            elif pending:
                wait(pending, return_when=FIRST_COMPLETED)
            else:
                if once and self.sha256 is None:
                    self.sha256 = self.content.digest()
                return etags

    def _compare(self, digest: bytes) -> None:
        """Before anything is there under a key that others take for these bytes."""
        if self.sha256 not in (None, digest):
            raise Corrupt("A file has other bytes by now than those that were hashed: its disk may be failing.")

    def _held(self, read: Reader, part: parts.Part) -> Reader:
        """A reader of that part from memory: it is hashed, sent, and perhaps sent again."""
        data = b"".join(self._blocks(read, part.start, part.size))
        return lambda amount, start: data[start - part.start : start - part.start + amount]

    def _send_part(self, upload_id: str, part: parts.Part, read: Reader, locked: bool) -> tuple[int, str]:
        """One part, in a thread of the pool."""
        md5 = hashlib.md5(usedforsecurity=False)
        for block in self._blocks(read, part.start, part.size):
            md5.update(block)
        encrypted = self.connection.encryption.part_parameters()
        parameters = {
            **self.connection.object(self.key),
            **encrypted,
            "UploadId": upload_id,
            "PartNumber": part.number,
        }
        proof = Proof(md5.digest(), by_etag=self.connection.etags_prove and not locked)

        def upload_part(**given: Any) -> dict[str, Any]:
            with proof:
                response = self.connection.writer.upload_part(**given, **proof.parameters())
            if encrypted:
                self.connection.encryption.check_echo(response)
            with Comparing(self.connection.traffic, "put"):
                proof.check(response)
            return response

        with self.lanes.lane(self._stop):
            response = self._attempts(f"UploadPart {part.number}").run(
                lambda: self._send(upload_part, read, part.start, part.size, parameters, self.progress)
            )
        # The store's ETag, whatever it means, is what CompleteMultipartUpload must name.
        return part.number, unquoted(response.get("ETag"))

    def _check_absent(self) -> None:
        """Ask before gigabytes are sent, and again before they become an object: Ceph ignores the condition there.

        What is left is the moment between the two requests, on a store that ignores it.
        """
        if self.check_replaced is not None:
            self.check_replaced()
        if not self.if_absent:
            return
        try:
            there = head(self.connection, self.key) is not None
        except Refused:
            if not self.connection.encryption.own_key:
                raise
            there = True  # with another key than the one that writes now
        if there:
            raise PreconditionFailed("The object is there already.")

    def _complete(self, upload_id: str, etags: Mapping[int, str]) -> str:
        """Put the parts together; the object's ETag."""
        self._check_absent()
        listed = [{"PartNumber": number, "ETag": etag} for number, etag in sorted(etags.items())]
        parameters = {
            **self.connection.object(self.key),
            # Some stores want a customer's key here too; none refuses it.
            **self.connection.encryption.part_parameters(),
            "UploadId": upload_id,
            "MultipartUpload": {"Parts": listed},
        }
        if self.if_absent:
            parameters["IfNoneMatch"] = "*"
        expected = _etag_of_parts([etag for _, etag in sorted(etags.items())])
        attempts = self._attempts("CompleteMultipartUpload")
        try:
            response = attempts.run(lambda: self.connection.writer.complete_multipart_upload(**parameters))
        except (UploadGone, PreconditionFailed) as error:
            return self._completed_earlier(error, attempts, expected)
        etag = unquoted(response.get("ETag"))
        if etag and etag == expected:
            return etag
        # Ceph answers without an ETag; with a customer's key or KMS it is no MD5 of MD5s.
        there = head(self.connection, self.key)
        if there is None or there.size != self.size:
            log.error("upload of %r: the store completed it with another size", self.key)
            if not self.replaces:
                delete_unwanted(self.connection, self.key)
            raise Corrupt(DIFFERENT)
        return there.etag

    def _completed_earlier(self, error: StoreError, attempts: Attempts, expected: str) -> str:
        """The upload is gone, or its key taken: by an earlier attempt of ours whose answer was lost?"""
        if attempts.ambiguous:
            there = head(self.connection, self.key)
            if there is not None and there.size == self.size and there.etag == expected:
                return there.etag
        raise error from None

    def _attempts(self, verb: str) -> Attempts:
        return self.connection.attempts(verb, self.key, UPLOADING, cancelled=self._stop)

    def _stop(self) -> bool:
        return self.cancelled() or self.failed or self.lanes.closing.is_set()

    def _send(
        self,
        request: Callable[..., dict[str, Any]],
        read: Reader,
        start: int,
        size: int,
        parameters: dict[str, Any],
        progress: Callable[[int], None] | None,
    ) -> dict[str, Any]:
        asks = not self.sends_first
        body = FileWindow(read, start, size, cancelled=self._stop, progress=progress, asks_first=asks)
        try:
            return request(Body=body, **parameters)
        except Exception:
            body.take_back()
            if body.stopped is not None:
                raise Stopped(body.stopped) from None
            raise

    def _all(self) -> bytes:
        if self._stop():
            raise Cancelled()
        return read_all(self.content.reader(), 0, self.size)

    def _blocks(self, read: Reader, start: int, size: int) -> Iterator[bytes]:
        window = FileWindow(read, start, size, cancelled=self._stop)
        while block := window.read(BLOCK):
            yield block

    def _plain_blocks(self) -> Iterator[bytes]:
        for block in self.content.plain_blocks():
            if self._stop():
                raise Cancelled()
            yield block


def _result(future: Future) -> tuple[int, str]:
    try:
        return future.result()
    except CancelledError:
        raise Unavailable(CLOSED) from None


def _etag_of_parts(etags: list[str]) -> str:
    """The ETag of a multipart object: MD5 of the parts' MD5s, a dash, their number. "" where they are no MD5s."""
    try:
        joined = b"".join(bytes.fromhex(etag) for etag in etags)
    except ValueError:
        return ""
    return f"{hashlib.md5(joined, usedforsecurity=False).hexdigest()}-{len(etags)}"
