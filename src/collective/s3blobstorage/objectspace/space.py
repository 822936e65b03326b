"""One add-on's objects, over the object store of a database's blobs."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path

from zope.interface import implementer

from ..encryption.interfaces import IServerSideEncryption
from ..errors import ConfigurationError, Refused, StoreError, TooLarge
from ..keys import addon_prefix
from ..objectstore.interfaces import Doomed, IObjectStore, Listed, ObjectInfo
from ..objectstore.presigned import Presigned
from ..settings import DeliverySettings
from .interfaces import ByteSource, Deletion, IObjectSpace, ProgressCallback
from .naming import LONGEST_KEY, check_beginning, check_folder, check_header, check_key, check_metadata
from .progress import guarded
from .urls import key_of, url_of

log = logging.getLogger(__name__)

MB = 1024 * 1024
BLOCK = 4 * MB  # of ``stream``: what one request brings, enough for its round trip to cost little
BATCH = 1000  # keys of one request that deletes: limit of the protocol
# Up to here bytes are sent from memory; above it by way of a file, in parts that are repeated one by one.
IN_MEMORY = 1 * MB


@implementer(IObjectSpace)
class ObjectSpace:
    """See ``IObjectSpace``.

    name: the add-on's, as ``keys.addon_prefix`` allows it, else ValueError. prefix: the store's, without a slash at
    either end: it counts for the length of keys. delivery: zope.conf's bounds. folder: gives, at each call, where
    binary files are put before they are sent; None: the machine's temporary folder. writable: False refuses what
    writes.
    """

    def __init__(
        self,
        store: IObjectStore,
        name: str,
        *,
        prefix: str = "",
        delivery: DeliverySettings = DeliverySettings(),  # noqa: B008 - frozen
        folder: Callable[[], Path | None] = lambda: None,
        writable: bool = True,
    ) -> None:
        self.name = name
        self._below = addon_prefix(name)
        self._store = store
        self._longest = LONGEST_KEY - len(f"{prefix}/{self._below}".encode() if prefix else self._below)
        self._delivery = delivery
        self._folder = folder
        self._writable = writable

    def __repr__(self) -> str:
        return f"<ObjectSpace of {self.name}>"

    def _full(self, key: str) -> str:
        return self._below + check_key(key, self._longest)

    def _ours(self, info: ObjectInfo) -> ObjectInfo:
        return replace(info, key=info.key.removeprefix(self._below))

    def _with(self, encryption: IServerSideEncryption | None) -> IObjectStore:
        return self._store if encryption is None else self._store.encrypted_with(encryption)

    def _check_writable(self) -> None:
        if not self._writable:
            raise Refused("Objects can only be read here: the database that has them is not the one that is changed.")

    # Writing

    def put(
        self,
        key: str,
        data: ByteSource,
        *,
        metadata: Mapping[str, str] | None = None,
        if_absent: bool = False,
        encryption: IServerSideEncryption | None = None,
        progress: ProgressCallback | None = None,
    ) -> ObjectInfo:
        full, described, told = self._full(key), check_metadata(metadata), guarded(progress)
        self._check_writable()
        store = self._with(encryption)
        if isinstance(data, (bytes, bytearray, memoryview)) and memoryview(data).nbytes <= IN_MEMORY:
            stored = store.put_bytes(full, bytes(data), metadata=described, if_absent=if_absent)
            if told is not None and stored.size:
                told(stored.size)
            return self._ours(stored)
        with self._on_disk(data) as path:
            return self._ours(store.put_file(full, path, metadata=described, if_absent=if_absent, progress=told))

    @contextmanager
    def _on_disk(self, data: ByteSource) -> Iterator[Path]:
        if isinstance(data, os.PathLike):
            yield Path(data)
            return
        with tempfile.NamedTemporaryFile(prefix="addon-", dir=self._folder()) as file:
            for block in _blocks(data):
                file.write(block)
            file.flush()
            yield Path(file.name)

    def copy(
        self,
        source_key: str,
        target_key: str,
        *,
        source: IObjectSpace | None = None,
        metadata: Mapping[str, str] | None = None,
        if_match: str | None = None,
        encryption: IServerSideEncryption | None = None,
        source_encryption: IServerSideEncryption | None = None,
        progress: ProgressCallback | None = None,
    ) -> ObjectInfo:
        origin = self if source is None else source
        if not isinstance(origin, ObjectSpace) or origin._store is not self._store:
            raise ValueError("a copy is made between spaces of one database")
        begin, end = origin._full(source_key), self._full(target_key)
        if begin == end:
            # Where the store then does not encrypt it as it should, the only copy would have to be deleted.
            raise ValueError("source and target of a copy are two objects; copy to another key and delete the first")
        described = None if metadata is None else check_metadata(metadata)
        self._check_writable()
        return self._ours(
            self._with(encryption).copy(
                begin,
                end,
                if_match=if_match,
                metadata=described,
                source_store=origin._with(source_encryption),
                progress=guarded(progress),
            )
        )

    def delete_many(self, keys: Iterable[str], *, dry_run: bool = True) -> Deletion:
        if isinstance(keys, (str, bytes)):
            raise TypeError("several keys are expected, not one; example: delete_many(['reports/1.pdf'])")
        wanted = list(dict.fromkeys(keys))
        for key in wanted:
            check_key(key, self._longest)
        if dry_run:
            return Deletion(would_delete=len(wanted))
        self._check_writable()
        remaining = iter(wanted)
        return self._delete(lambda after: list(islice(remaining, BATCH)))

    def delete_prefix(self, prefix: str, *, dry_run: bool = True) -> Deletion:
        check_folder(prefix, self._longest)
        if dry_run:
            return Deletion(would_delete=sum(1 for _ in self.list(prefix)))
        self._check_writable()

        def following(after: str) -> list[str]:
            # A listing of its own for each batch: a store may count, and lose its place when something is deleted.
            return [line.key for line in islice(self.list(prefix, start_after=after, page_size=BATCH), BATCH)]

        return self._delete(following)

    def _delete(self, following: Callable[[str], list[str]]) -> Deletion:
        """Delete batch by batch. ``following``: the keys after the one that is given; none: it was the last."""
        deleted = hidden = 0
        failed: dict[str, str] = {}
        batch: list[str] = []
        while True:
            last, batch = (batch[-1] if batch else ""), []
            try:
                batch = following(last)
                if not batch:
                    return Deletion(deleted, hidden, failed)
                outcome = self._store.delete_each([Doomed(self._below + key) for key in batch])
            except StoreError as error:
                if not deleted and not failed:
                    raise
                log.warning("deleting objects of %s ended after %d: %s", self.name, deleted, error)
                failed.update(dict.fromkeys(batch, type(error).__name__))
                return Deletion(deleted, hidden, failed, complete=False)
            failed.update({doomed.key.removeprefix(self._below): code for doomed, code in outcome.failed.items()})
            deleted += len(batch) - len(outcome.failed)
            hidden += outcome.markers

    # Reading

    def head(self, key: str, *, encryption: IServerSideEncryption | None = None) -> ObjectInfo | None:
        there = self._with(encryption).head(self._full(key))
        return None if there is None else self._ours(there)

    def list(self, prefix: str = "", *, start_after: str = "", page_size: int = 1000) -> Iterator[Listed]:
        begin = self._below + check_beginning(prefix, self._longest)
        after = self._below + check_beginning(start_after, self._longest) if start_after else ""
        lines = self._store.list(begin, start_after=after, page_size=page_size)
        return (replace(line, key=line.key.removeprefix(self._below)) for line in lines)

    def get(
        self,
        key: str,
        *,
        limit: int = 16 * MB,
        encryption: IServerSideEncryption | None = None,
        progress: ProgressCallback | None = None,
    ) -> bytes:
        target = _Memory(limit, guarded(progress))
        self._with(encryption).get_file(self._full(key), target)
        return bytes(target.data)

    def get_range(
        self,
        key: str,
        start: int,
        length: int,
        *,
        if_match: str | None = None,
        encryption: IServerSideEncryption | None = None,
        progress: ProgressCallback | None = None,
    ) -> bytes:
        target = _Memory(length, guarded(progress))
        self._with(encryption).get_range(self._full(key), start, length, target.write, if_match=if_match)
        return bytes(target.data)

    def stream(
        self,
        key: str,
        *,
        start: int = 0,
        length: int | None = None,
        if_match: str | None = None,
        encryption: IServerSideEncryption | None = None,
        progress: ProgressCallback | None = None,
    ) -> Iterator[bytes]:
        full, store = self._full(key), self._with(encryption)
        if start < 0 or (length is not None and length < 0):
            raise ValueError("neither start nor length of a stream is negative")
        return _stream(store, full, start, length, if_match, guarded(progress))

    # Requests that others make

    def presigned_get(
        self,
        key: str,
        *,
        seconds: int,
        content_type: str | None = None,
        disposition: str | None = None,
        cache_control: str | None = None,
    ) -> Presigned:
        headers = {"content_type": content_type, "disposition": disposition, "cache_control": cache_control}
        for name, value in headers.items():
            if value is not None:
                check_header(value, name)
        return self._store.presign_get(self._full(key), seconds=self._bounded(seconds), **headers)

    def presigned_put(self, key: str, *, seconds: int, size: int, sha256: bytes | None = None) -> Presigned:
        full = self._full(key)
        if size < 0:
            raise ValueError("size: bytes, 0 or more")
        if sha256 is not None and len(sha256) != 32:
            raise ValueError("sha256: the 32 bytes of a digest")
        self._check_writable()
        return self._store.presign_put(full, seconds=self._bounded(seconds), size=size, sha256=sha256)

    def presigned_post(self, key: str, *, seconds: int, most: int, least: int = 0) -> Presigned:
        full = self._full(key)
        if not 0 <= least <= most:
            raise ValueError("least and most: bytes, 0 or more, most at least as much as least")
        self._check_writable()
        return self._store.presign_post(full, seconds=self._bounded(seconds), least=least, most=most)

    def _bounded(self, seconds: int) -> int:
        return min(int(seconds), int(self._delivery.presign_max_expiry))

    # Addresses

    def durable_url(self, key: str) -> str:
        check_key(key, self._longest)
        base = self._public_base
        if base is None:
            raise ConfigurationError(
                "public-url-base is not set in zope.conf, so there are no public addresses; example: public-url-base"
                " https://files.example.org"
            )
        return url_of(base, key)

    def key_from_url(self, url: str) -> str | None:
        base = self._public_base
        key = None if base is None else key_of(base, url)
        if key is None:
            return None
        try:
            return check_key(key, self._longest)
        except ValueError:
            return None

    @property
    def _public_base(self) -> str | None:
        base = self._delivery.public_url_base
        return None if base is None else f"{base}/{self._below}"


class _Memory:
    """What ``get`` and ``get_range`` write to. Belongs to one thread."""

    def __init__(self, limit: int, progress: ProgressCallback | None) -> None:
        self.data = bytearray()
        self._limit = limit
        self._progress = progress

    def write(self, block: bytes | memoryview) -> int:
        if len(self.data) + len(block) > self._limit:
            raise TooLarge(f"The object has more than {self._limit} bytes (limit).")
        self.data += block
        self._tell(len(block))
        return len(block)

    def seek(self, offset: int) -> int:
        return offset

    def truncate(self, size: int) -> int:
        """What arrived is not what it should be: it comes once more."""
        self._tell(size - len(self.data))
        del self.data[size:]
        return size

    def _tell(self, count: int) -> None:
        if self._progress is not None and count:
            self._progress(count)


def _stream(
    store: IObjectStore,
    key: str,
    start: int,
    length: int | None,
    if_match: str | None,
    progress: ProgressCallback | None,
) -> Iterator[bytes]:
    size: int | None = None
    end = None if length is None else start + length
    while end is None or start < end:
        wanted = BLOCK if end is None else min(BLOCK, end - start)
        block = _Memory(wanted, progress)
        info = store.get_range(key, start, wanted, block.write, size=size, if_match=if_match)
        # From the first answer on: the same object, by its ETag and, where a store has none, by its size.
        size, if_match = info.size, info.etag or if_match
        end = info.size if end is None else min(end, info.size)
        start += len(block.data)
        if block.data:
            yield bytes(block.data)


def _blocks(data: ByteSource) -> Iterator[bytes | memoryview]:
    if isinstance(data, (bytes, bytearray, memoryview)):
        yield memoryview(data).cast("B")
        return
    read = getattr(data, "read", None)
    if read is None:
        raise TypeError(f"bytes, a path or a binary file are put, not {type(data).__name__}")
    while block := read(MB):
        if not isinstance(block, (bytes, bytearray, memoryview)):
            raise TypeError("the file gives text; open it for reading bytes")
        yield block
