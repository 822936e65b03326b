"""A store whose blobs are encrypted before they are sent, and opened when they arrive (client-side encryption).

Blobs, objects of add-ons and manifests are sealed; what else this package keeps beside them (markers, gc's notes) holds
no content and stays as it is, so that tools without keys understand it. What is in clear, from before, is read as it is
unless ``require-encryption`` forbids it. The format: docs/encryption.md.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from collective.s3blobstorage.encryption import segments
from collective.s3blobstorage.encryption.envelope import SEALED, SEALED_SHA256, DataKey, key_name, unwrap
from collective.s3blobstorage.encryption.ring import KeyRing
from collective.s3blobstorage.errors import Corrupt, EncryptionKeyMissing, EncryptionNotHonoured
from collective.s3blobstorage.keys import BYTES, SEALED_PREFIXES
from collective.s3blobstorage.objectstore import copy, download, parts, ranges, upload
from collective.s3blobstorage.objectstore.connection import Connection, recorded_sha256
from collective.s3blobstorage.objectstore.content import Openable, SealedBytes, SealedContent, sha256_of
from collective.s3blobstorage.objectstore.counted import Comparing
from collective.s3blobstorage.objectstore.interfaces import IObjectStore, ObjectInfo
from collective.s3blobstorage.objectstore.store import S3ObjectStore, versioned
from collective.s3blobstorage.objectstore.streamed import StreamedContent
from collective.s3blobstorage.objectstore.transfer import DIFFERENT, refuse_sealed
from collective.s3blobstorage.objectstore.ways import REMEMBERED, Emptied, Once

log = logging.getLogger(__name__)

_OF_THE_BYTES = ("size", "sha256")  # what a store's metadata say of the bytes that it holds


class SealedStore(S3ObjectStore):
    """See ``IObjectStore``: sizes, ranges, hashes and metadata are those of the plain bytes; ETags, and the sizes of a
    listing, those of what is stored. Every verb may raise EncryptionKeyMissing, and what reading a key raises."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Objects that are not as most are: sealed where objects are written in clear, and the other way round. Each
        # operation on the dictionary is atomic; that one is forgotten costs a request.
        self._otherwise: OrderedDict[str, bool] = OrderedDict()

    @property
    def ring(self) -> KeyRing:
        ring = self.encryption.ring
        assert ring is not None  # open_store
        return ring

    @property
    def own_keys(self) -> bool:
        return True  # also where only what was written before is sealed: nobody knows of a key which it is

    def _seals(self, key: str) -> bool:
        return self.encryption.seals and key.startswith(SEALED_PREFIXES)

    # What an object is

    def data_key(self, info: ObjectInfo) -> DataKey | None:
        """Of an object as it is stored; None: it is in clear. Raises EncryptionNotHonoured where it must not be."""
        text = info.metadata.get(SEALED)
        if text is None:
            if self.encryption.required and self.encryption.seals and info.key.startswith(BYTES):
                log.error("%r is in clear, and require-encryption is on", info.key)
                raise EncryptionNotHonoured("An object is not encrypted as it must be (require-encryption).")
            return None
        try:
            return unwrap(self.ring, text, info.key)
        except EncryptionKeyMissing as error:
            said = "another key of that id" if error.other else "no such key"
            log.error("%r is encrypted with the key %s; zope.conf has %s", info.key, key_name(info.metadata), said)
            raise
        except Corrupt:
            log.error("%r: its envelope does not open: damaged, or another object's", info.key)
            raise

    def told(self, info: ObjectInfo, key: DataKey | None, *, hidden: bool = True) -> ObjectInfo:
        """The object as its caller wrote it. ``hidden``: with the SHA-256 that its metadata hide."""
        if key is None:
            return info
        size = segments.plain_size(info.size)
        metadata = {name: value for name, value in info.metadata.items() if name not in (SEALED, SEALED_SHA256)}
        metadata = {**_described(metadata), "size": str(size)}
        text = info.metadata.get(SEALED_SHA256) if hidden else None
        if text is not None:
            metadata["sha256"] = key.unhide(text).hex()
        return replace(info, size=size, metadata=metadata, sha256=None)

    def _metadata(self, key: DataKey, object_key: str, metadata: Mapping[str, str], sha256: bytes | None) -> dict:
        sealed = {**_described(metadata), SEALED: key.wrapped(self.ring.active, object_key)}
        if sha256 is not None:
            sealed[SEALED_SHA256] = key.hide(sha256)
        return sealed

    # Writing

    def _send(
        self, key: str, path: str | Path | Openable, metadata: Mapping[str, str], sha256: bytes | None, **options: Any
    ) -> ObjectInfo:
        if not self._seals(key):
            return super()._send(key, path, metadata, sha256, **options)
        data_key = DataKey.draw()
        with upload.opened(path) as file:
            content: SealedContent | SealedBytes
            if file.size <= upload.IN_MEMORY or (file.once and parts.is_single(segments.sealed_size(file.size))):
                data = b"".join(file.plain_blocks())
                content = SealedBytes(data, data_key)
                sha256 = sha256 or hashlib.sha256(data).digest()
            else:
                content = SealedContent(file, data_key)
                if sha256 is None and parts.is_single(content.size):
                    # The metadata, which go ahead of the body, have it; that of a larger one is computed on the way.
                    sha256 = sha256_of(file.plain_blocks())
            options["progress"] = _in_plain(options.get("progress"), file.size, content.size)
            stored = upload.put_content(
                self.connection,
                self.lanes,
                key,
                content,
                metadata=self._metadata(data_key, key, metadata, sha256),
                sha256=sha256,
                **options,
            )
            return _as_given(stored, file.size, metadata, sha256 or stored.sha256)

    def put_bytes(
        self, key: str, data: bytes, *, metadata: Mapping[str, str] | None = None, if_absent: bool = False
    ) -> ObjectInfo:
        if not self._seals(key):
            return super().put_bytes(key, data, metadata=metadata, if_absent=if_absent)
        data_key, sha256 = DataKey.draw(), hashlib.sha256(data).digest()
        stored = super().put_bytes(
            key,
            segments.sealed(data_key.cipher, data_key.commitment, data),
            metadata=self._metadata(data_key, key, metadata or {}, sha256),
            if_absent=if_absent,
        )
        return _as_given(stored, len(data), metadata or {}, sha256)

    def copy(
        self,
        source_key: str,
        target_key: str,
        *,
        if_match: str | None = None,
        metadata: Mapping[str, str] | None = None,
        source_store: IObjectStore | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> ObjectInfo:
        self._check_writable()
        source, reading = self._origin(source_key, source_store, if_match)
        data_key = self.data_key(source)
        if data_key is None and self._seals(target_key):
            return self._sealed_copy(source, reading, target_key, metadata, progress)
        described = metadata
        if data_key is not None:
            described = self._rewrapped(data_key, source, target_key, metadata)
            progress = _in_plain(progress, segments.plain_size(source.size), source.size)
        copied = copy.copy(
            self.connection, self.lanes, source, target_key, metadata=described, reading=reading, progress=progress
        )
        return self.told(copied, data_key)

    def _rewrapped(
        self, key: DataKey, source: ObjectInfo, target_key: str, metadata: Mapping[str, str] | None
    ) -> dict[str, str]:
        """The metadata of a sealed object's copy: what they say of the stored bytes stays, the envelope is new."""
        kept = (
            source.metadata if metadata is None else {**_described(metadata), **_only(source.metadata, _OF_THE_BYTES)}
        )
        hidden = _only(source.metadata, (SEALED_SHA256,))
        return {**kept, **hidden, SEALED: key.wrapped(self.ring.active, target_key)}

    def rewrapped_metadata(self, info: ObjectInfo) -> Mapping[str, str]:
        data_key = self.data_key(info)
        return info.metadata if data_key is None else self._rewrapped(data_key, info, info.key, None)

    def _sealed_copy(
        self,
        source: ObjectInfo,
        reading: Connection,
        target_key: str,
        metadata: Mapping[str, str] | None,
        progress: Callable[[int], None] | None,
    ) -> ObjectInfo:
        """Of an object in clear: its bytes have to come through here."""
        content = StreamedContent(reading, source, begin=refuse_sealed)
        described = source.metadata if metadata is None else metadata
        return self._send(target_key, content, described, content.expected, progress=progress)

    def copy_from(
        self, other: IObjectStore, source: ObjectInfo, target_key: str, *, metadata: Mapping[str, str]
    ) -> ObjectInfo | None:
        if not isinstance(other, SealedStore):
            return None if self._seals(target_key) else super().copy_from(other, source, target_key, metadata=metadata)
        self._check_writable()
        stored = other._head(source.key)
        data_key = None if stored is None else other.data_key(stored)
        if stored is None or data_key is None:
            return None
        described = self._rewrapped(data_key, stored, target_key, metadata)
        copied = copy.copy_from(
            self.connection, self.lanes, other.connection, stored, target_key, described, if_absent=self.conditional_put
        )
        return None if copied is None else self.told(copied, data_key)

    # Reading

    def head(self, key: str) -> ObjectInfo | None:
        info = self._head(key)
        return None if info is None else self.told(info, self.data_key(info))

    def get_file(
        self,
        key: str,
        target: BinaryIO,
        *,
        size: int | None = None,
        sha256: bytes | None = None,
        version: str = "",
    ) -> ObjectInfo:
        opened = _OpenedFile(self, target, size)
        for again in (True, False):
            try:
                emptied = Emptied(opened)
                self._first(
                    versioned(key, version),
                    lambda way, emptied=emptied: download.get_file(  # type: ignore[misc]
                        way, key, emptied.anew(), begin=opened.begin, hashed=False, version=version
                    ),
                )
                with Comparing(self.traffic, "get"):
                    return opened.finished(sha256)
            except Corrupt:
                # Over http a segment may be damaged on its way; TLS would have noticed.
                if not again:
                    raise
                opened.seek(0)
                opened.truncate(0)
        raise AssertionError("unreachable")

    def get_range(
        self,
        key: str,
        start: int,
        length: int,
        write: Callable[[bytes | memoryview], None],
        *,
        size: int | None = None,
        if_match: str | None = None,
    ) -> ObjectInfo:
        if start < 0 or length < 1:
            raise ValueError(f"{length} bytes from {start} on are no range")
        sealed = self._otherwise.get(key, self._seals(key))
        once = Once(write)
        for _ in range(2):

            def ask(way: Connection, sealed: bool = sealed) -> ObjectInfo:
                once.check()
                opened = _OpenedRange(self, start, length, once.write, size, sealed=sealed)
                first, count = opened.stored
                info = ranges.get_range(way, key, first, count, opened.write, if_match=if_match, begin=opened.begin)
                with Comparing(self.traffic, "get"):
                    return opened.finished(info)

            try:
                return self._first(key, ask)
            except _Otherwise:
                sealed = not sealed
                self._otherwise[key] = sealed
                if len(self._otherwise) > REMEMBERED:
                    self._otherwise.popitem(last=False)
        raise Corrupt(DIFFERENT)  # rewritten twice, each time to the other form


class _Otherwise(Exception):
    """The object is sealed where it was thought to be in clear, or the other way round. Internal."""


class _OpenedFile:
    """A target for the bytes of a whole object, sealed or not, that gives plain ones on. Belongs to one thread."""

    def __init__(self, store: SealedStore, target: BinaryIO, size: int | None) -> None:
        self._store = store
        self._target = target
        self._size = size
        self._key: DataKey | None = None
        self._info: ObjectInfo | None = None
        self._opener: segments.Opener | None = None
        self._at_start = True
        self._hash = hashlib.sha256()

    def begin(self, info: ObjectInfo) -> None:
        self._key = self._store.data_key(info)
        self._info = info
        size = info.size if self._key is None else segments.plain_size(info.size)
        if self._size not in (None, size):
            log.error("GET of %r: the object has %d bytes instead of %d", info.key, size, self._size)
            raise Corrupt(DIFFERENT)
        self._opener = None if self._key is None else _opener(self._key, size)
        self._at_start = True
        self._hash = hashlib.sha256()

    def write(self, block: bytes) -> int:
        if self._opener is None and self._at_start:
            _refuse_bare(block)
        self._at_start = False
        plain = block if self._opener is None else self._opener.feed(block)
        self._hash.update(plain)
        download.write_whole(self._target, plain)
        return len(block)

    def seek(self, offset: int) -> int:
        return self._target.seek(offset)

    def truncate(self, size: int) -> int:
        return self._target.truncate(size)

    def finished(self, sha256: bytes | None) -> ObjectInfo:
        """The object, once all is here. Raises Corrupt where it is not what it must be."""
        if self._opener is not None:
            self._opener.finish()
        assert self._info is not None
        told = self._store.told(self._info, self._key, hidden=sha256 is None)
        wanted = sha256 if sha256 is not None else recorded_sha256(told.metadata)
        digest = self._hash.digest()
        if wanted is not None and wanted != digest:
            log.error("GET of %r: SHA-256 differs", told.key)
            raise Corrupt(DIFFERENT)
        return replace(told, sha256=digest)


class _OpenedRange:
    """The same for a range. ``stored``: first byte and number of bytes to ask the store for."""

    def __init__(
        self,
        store: SealedStore,
        start: int,
        length: int,
        write: Callable[[bytes | memoryview], None],
        size: int | None,
        *,
        sealed: bool,
    ) -> None:
        self._store = store
        self._write = write
        self._size = size
        self._sealed = sealed
        self._span = segments.span(start, length)
        self.stored = (self._span.start, self._span.stored) if sealed else (start, length)
        self._skip, self._left = self._span.skip, length
        self._key: DataKey | None = None
        self._opener: segments.Opener | None = None
        self._begun = False
        self._at_start = start == 0

    def begin(self, info: ObjectInfo) -> None:
        if self._begun:  # the request goes on where it broke off, in the same object
            return
        self._key = self._store.data_key(info)
        if (self._key is not None) is not self._sealed:
            raise _Otherwise()
        told = self._store.told(info, self._key)
        self._check(told)
        if self._key is not None:
            self._opener = _opener(self._key, told.size, self._span.first)
        self._begun = True

    def _check(self, told: ObjectInfo) -> None:
        if self._size not in (None, told.size):
            log.error("GET of %r: the object has %d bytes instead of %d", told.key, told.size, self._size)
            raise Corrupt(DIFFERENT)

    def write(self, block: bytes | memoryview) -> None:
        if self._opener is None:
            if self._at_start:
                _refuse_bare(block)
                self._at_start = False
            self._write(block)
            return
        opened = self._opener.feed(block)
        if not opened:
            return
        # The first segment, whole, has all that is to be skipped: a range begins within it.
        plain = memoryview(opened)[self._skip :][: self._left]
        self._skip = 0
        self._left -= len(plain)
        if plain:
            self._write(plain)

    def finished(self, info: ObjectInfo) -> ObjectInfo:
        if not self._begun:  # nothing lies in the range
            self.begin(info)
        elif self._opener is not None:
            self._opener.finish()
        return self._store.told(info, self._key)


def _as_given(stored: ObjectInfo, size: int, metadata: Mapping[str, str], sha256: bytes | None) -> ObjectInfo:
    """What was just stored, as ``told`` would say it."""
    described = {**_described(metadata), "size": str(size)}
    if sha256 is not None and SEALED_SHA256 in stored.metadata:
        described["sha256"] = sha256.hex()
    return replace(stored, size=size, metadata=described, sha256=sha256)


def _in_plain(progress: Callable[[int], None] | None, plain: int, stored: int) -> Callable[[int], None] | None:
    """``progress`` for what counts the bytes of a sealed object: told those of the blob, which are a little fewer."""
    if progress is None:
        return None
    lock, sent, told = threading.Lock(), 0, 0

    def report(count: int) -> None:
        nonlocal sent, told
        with lock:
            sent += count
            more, told = sent * plain // stored - told, sent * plain // stored
        if more:
            progress(more)

    return report


def _opener(key: DataKey, size: int, first: int | None = None) -> segments.Opener:
    return segments.Opener(key.cipher, key.commitment, size, first or 0, with_header=first is None)


def _refuse_bare(beginning: bytes | memoryview) -> None:
    """Of an object that its metadata call clear: where somebody copied a sealed one without them, its bytes are no
    blob's."""
    if segments.looks_sealed(beginning):
        raise Corrupt("An encrypted object has lost its metadata: bring them back, from an older version or a copy.")


def _described(metadata: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in metadata.items() if name not in _OF_THE_BYTES}


def _only(metadata: Mapping[str, str], names: tuple[str, ...]) -> dict[str, str]:
    return {name: metadata[name] for name in names if name in metadata}
