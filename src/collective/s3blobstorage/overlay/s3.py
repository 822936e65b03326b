"""Another bucket, or another prefix of one, as a source."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, TypeVar

from ZODB.utils import oid_repr
from zope.interface import implementer

from ..cache.interfaces import IBlobSource
from ..errors import BlobMissing, Corrupt, ObjectMissing, Refused, Unavailable
from ..keys import OBJECTS, blob_key, draw_name, foreign_keys, object_key
from ..objectstore.connection import recorded_sha256
from ..objectstore.interfaces import IObjectStore
from ..objectstore.probe import ask
from ..shared import referred_objects
from .interfaces import ICopyingSource, Revision, Trouble

T = TypeVar("T")


def keys_of(revision: Revision, layout: str) -> tuple[str, ...]:
    """The keys under which the revision may lie there, in the order in which they are asked for.

    A prefix that zodb-s3blobs wrote may have been taken over by us since, so ours are looked for there too.
    """
    ours = blob_key(revision.oid, revision.state.name_at(revision.tid))
    if layout == "zodb-s3blobs" and revision.state.nameless:
        return (*foreign_keys(revision.oid, revision.tid), ours)
    if revision.state.object is not None:
        return (object_key(revision.state.object), ours)
    return (ours,)


@implementer(ICopyingSource)
class S3Source:
    """``store`` was opened read-only; it is ours to close."""

    follows_undo = False

    def __init__(self, store: Any, layout: str) -> None:
        self._store = store
        self._layout = layout

    def __repr__(self) -> str:
        return f"<S3Source {self._store!r}>"

    def blob(self, revision: Revision) -> IBlobSource:
        return _S3Bytes(self._store, revision, keys_of(revision, self._layout))

    def copy_into(self, revision: Revision, store: IObjectStore, key: str) -> int | None:
        """Only where the record has a name: its 128 random bits are in the key, so with the same size, and the same
        SHA-256 where the object tells one, it is that blob. A key made of a tid can have been written by anything."""
        state = revision.state
        if state.name is None:
            return None
        infos = map(self._store.head, keys_of(revision, self._layout))
        info = next((info for info in infos if info is not None), None)
        if info is None or info.size != state.size:
            self.blob(revision).describe()  # says what is wrong
            return None
        sha256 = recorded_sha256(info.metadata)
        if None not in (sha256, state.sha256) and sha256 != state.sha256:
            return None  # who reads it will say so
        if sha256 is None and key.startswith(OBJECTS):
            return None  # it would be everybody's who stores that file: only bytes that were hashed
        metadata = {"size": str(info.size)}
        if not key.startswith(OBJECTS):
            metadata |= {"oid": revision.oid.hex(), "tid": revision.tid.hex()}
        if sha256 is not None:
            metadata["sha256"] = sha256.hex()
        copied = store.copy_from(self._store, info, key, metadata=metadata)
        return None if copied is None else copied.size

    def check(self) -> Trouble | None:
        """One GET of a key that cannot be there: 404 is what has to come."""
        connection = self._store.connection
        key = blob_key(secrets.token_bytes(8), draw_name())
        parameters = {**connection.object(key), **connection.encryption.read_parameters()}
        answer = ask(connection.reader.get_object, **parameters)
        if answer.code == "NoSuchKey":
            return None
        if answer.status == 403:
            mend = "allow s3:GetObject and, or a missing object looks like a refusal, s3:ListBucket; or check its keys"
        elif answer.code == "NoSuchBucket":
            mend = "there is no such bucket (bucket-name)"
        else:
            mend = "blobs that only it has are unavailable until it answers"
        detail = answer.failure.detail if answer.failure is not None else "it answers in an unexpected way"
        return Trouble(f"{self._store!r}: {detail}", mend)

    def close(self) -> None:
        self._store.close()


@implementer(IBlobSource)
class _S3Bytes:
    """An object under the first of ``keys`` that exists, which is kept. See ``IBlobSource`` and ``ISource.blob``.

    Where none exists, the shared object is looked for to which the revision refers there.
    """

    def __init__(self, store: IObjectStore, revision: Revision, keys: tuple[str, ...]) -> None:
        self._store = store
        self._revision = revision
        self._keys = keys
        # Threads may set these at once; all set the same.
        self._size = revision.state.size
        self._sha256 = revision.state.sha256

    def __repr__(self) -> str:
        return f"<_S3Bytes {oid_repr(self._revision.oid)} {' '.join(self._keys)}>"

    @property
    def described(self) -> tuple[int, bytes | None] | None:
        size = self._size
        return None if size is None else (size, self._sha256)

    def describe(self) -> tuple[int, bytes | None]:
        return self._first(self._head)

    def _head(self, key: str) -> tuple[int, bytes | None]:
        info = self._store.head(key)
        if info is None:
            # The answer to HEAD has no body: 404 is also said of a bucket that is gone, and by anything else at that
            # address. That of GET names what is missing.
            info = self._store.get_range(key, 0, 1, lambda data: None)
        if self._size not in (None, info.size):
            raise Corrupt("The object does not have the size that the blob's record names.")
        self._sha256 = self._sha256 or recorded_sha256(info.metadata)
        if self._size is None:
            self._size = info.size  # last: then both are known
        return info.size, self._sha256

    def download(self, file: BinaryIO) -> None:
        self._first(lambda key: self._store.get_file(key, file, size=self._size, sha256=self._sha256))

    def read(self, start: int, length: int, write: Callable[[bytes | memoryview], None], validator: str | None) -> str:
        return self._first(
            lambda key: self._store.get_range(key, start, length, write, size=self._size, if_match=validator).etag
        )

    def _first(self, request: Callable[[str], T]) -> T:
        try:
            for key in self._candidates():
                try:
                    result = request(key)
                except ObjectMissing:
                    continue
                self._keys = (key,)
                return result
        except Refused as error:
            raise Unavailable(str(error)) from error
        raise BlobMissing(self._revision.oid, self._revision.tid)

    def _candidates(self) -> Iterator[str]:
        yield from self._keys
        revision, state = self._revision, self._revision.state
        yield from referred_objects(self._store, revision.oid, state.name_at(revision.tid), state.sha256)
