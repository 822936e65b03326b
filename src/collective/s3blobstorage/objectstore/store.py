"""The object store: the contract's verbs, each in a module of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeVar
from urllib.parse import urlsplit

from zope.interface import implementer

from collective.s3blobstorage import providers
from collective.s3blobstorage.encryption.interfaces import IEncryption, IServerSideEncryption
from collective.s3blobstorage.encryption.none import NoEncryption, Unencrypted
from collective.s3blobstorage.encryption.register import kept
from collective.s3blobstorage.encryption.ring import RingKey
from collective.s3blobstorage.errors import ConfigurationError, ObjectMissing, PreconditionFailed, Refused
from collective.s3blobstorage.keys import BLOBS, is_bookkeeping
from collective.s3blobstorage.objectstore import (
    checksums,
    client,
    clients,
    copy,
    cors,
    deletion,
    download,
    lifecycle,
    listing,
    multipart,
    protect,
    ranges,
    upload,
    versions,
)
from collective.s3blobstorage.objectstore.bucket import open_bucket, open_time
from collective.s3blobstorage.objectstore.circuit import Circuit
from collective.s3blobstorage.objectstore.clock import Clock
from collective.s3blobstorage.objectstore.connection import Connection
from collective.s3blobstorage.objectstore.content import Openable
from collective.s3blobstorage.objectstore.counted import CountedClient
from collective.s3blobstorage.objectstore.interfaces import (
    Deleted,
    Doomed,
    IObjectStore,
    Listed,
    Lock,
    ObjectInfo,
    Protected,
    Protection,
    Restoring,
    Stored,
    Version,
)
from collective.s3blobstorage.objectstore.lanes import Lanes
from collective.s3blobstorage.objectstore.presign import Presigner
from collective.s3blobstorage.objectstore.presigned import Presigned
from collective.s3blobstorage.objectstore.signed import SignedRequests
from collective.s3blobstorage.objectstore.storetime import StoreTime
from collective.s3blobstorage.objectstore.traffic import Traffic
from collective.s3blobstorage.objectstore.transfer import refuse_sealed
from collective.s3blobstorage.objectstore.ways import Emptied, Once, Ways
from collective.s3blobstorage.providers import Fact
from collective.s3blobstorage.settings import StoreSettings

T = TypeVar("T")

# Connections that are opened ahead: twice the threads of a Zope process, if nothing else is configured, and as many as
# one reader of a large file uses at a time.
_AHEAD = 8

# Small objects beside the blobs that are sent at a time: leases, signs of life, notes. They have lanes of their own:
# large blobs may hold all others for minutes, and whoever renews a lease too late has lost it.
_BESIDE = 4


def open_store(settings: StoreSettings, *, read_only: bool = False, clock: Clock | None = None) -> S3ObjectStore:
    """The store of these settings. Makes no request; ``open_bucket`` makes the first.

    With a ring of keys it is a ``SealedStore``: blobs that were encrypted before they were sent can be read.

    ``read_only`` refuses every writing verb. ``clock``: None is the machine's. Raises ConfigurationError where the
    settings contradict each other or boto3 cannot use them.
    """
    from collective.s3blobstorage.objectstore.sealed import SealedStore  # which is made of this one

    ring = encryption_of(settings).ring
    if ring is None:
        return S3ObjectStore(settings, read_only=read_only, clock=clock)
    ring.on_load = _redact
    store = SealedStore(settings, read_only=read_only, clock=clock)
    ring.kept_of = lambda id: kept(store.unencrypted(), id)
    return store


def encryption_of(settings: StoreSettings) -> IEncryption:
    return settings.encryption or Unencrypted()


@implementer(IObjectStore)
class S3ObjectStore:
    """One bucket and prefix, reached by boto3. See ``IObjectStore`` for each verb; threads share it freely.

    ``provider`` is the row of what the store does differently, corrected by what was measured. ``conditional_put`` says
    whether ``If-None-Match: *`` holds against a concurrent writer; whoever measured that
    the store ignores it sets it to False, and ``if_absent`` then asks by HEAD first. ``traffic`` counts its requests.
    """

    def __init__(self, settings: StoreSettings, *, read_only: bool = False, clock: Clock | None = None) -> None:
        self.settings = self.configured = settings
        self.read_only = read_only
        self.provider = providers.OTHER
        self._clock = clock or Clock()
        self._time = StoreTime(self._clock)
        self.traffic = Traffic()
        silence = 2 * (settings.download_connect_timeout + settings.download_read_timeout)
        self._circuit = Circuit(settings.outage_patience, self._clock, silence=silence)
        self._ways: Ways | None = None
        self.connection = self._connected()
        # boto3 has found the endpoint by now, also where the environment names it.
        self.provider = providers.choose(settings.provider, self.endpoint_url)
        self.conditional_put = self.provider.value("conditional_writes") is not False
        self.reconnect(**self._left_open())
        self.lanes = Lanes(settings.upload_concurrency)
        self._beside = Lanes(_BESIDE)
        self._presigns: Presigner | None = None
        self._compares: bool | None = None  # whether it compares checksums that others send; None: nobody tried
        self._closed = False
        self._connecting: threading.Thread | None = None

    def _connected(self) -> Connection:
        settings = self.settings
        encryption = encryption_of(settings)
        lent = clients.lend(settings, read_only=self.read_only)
        reader, writer = lent.reader, lent.writer
        if any(each.needs_tls for each in encryption.readers) and not _is_secure(reader.meta.endpoint_url):
            clients.give_back(lent)
            raise ConfigurationError(
                "<sse-c>, s3-sse-customer-key: the key would travel in clear text, since the object store is reached"
                " over http; set an s3-endpoint-url with https (example: https://s3.example.org), s3-use-ssl on, or"
                " remove the key"
            )
        signed_reader = SignedRequests(reader, lent.session, settings.bucket)
        signed_writer = signed_reader if writer is reader else SignedRequests(writer, lent.session, settings.bucket)
        doors = (reader, writer, signed_reader, signed_writer)
        counted = {id(each): CountedClient(each, self.traffic) for each in doors}
        return Connection(
            settings,
            encryption.server_side,
            lent,
            *(counted[id(each)] for each in doors),
            self._clock,
            self._circuit,
            self.provider,
            self._time,
            self.traffic,
        )

    def measured(self, **columns: bool) -> None:
        """What the checks found out, instead of what the provider's row says. Before other threads use the store."""
        facts = {column: Fact(value, "measured") for column, value in columns.items()}
        self.provider = replace(self.provider, **facts)
        self.connection = replace(self.connection, provider=self.provider)
        if "conditional_writes" in columns:
            self.conditional_put = columns["conditional_writes"]

    def measured_etags(self, *, are_md5: bool) -> None:
        """Whether the ETag of a PUT, as this store is configured, was the MD5 of its bytes.

        Then a part, or a small blob, goes over http without Content-MD5, which costs a store that compares it a second
        MD5 of every byte: what arrived is proven by the ETag, before a record names it, and the body's SHA-256 is
        signed. Over https Content-MD5 stands for that SHA-256. Before other threads use the store.
        """
        self.connection = replace(self.connection, etags_prove=are_md5 and not _is_secure(self.endpoint_url))

    def reconnect(self, **corrected: str) -> None:
        """Go on with another ``region`` or ``addressing_style`` than the settings say.

        Before other threads use the store.
        """
        before = self.connection
        self.settings = replace(self.settings, **corrected)
        if self.settings is before.settings or self.settings == before.settings:
            self.connection = replace(before, provider=self.provider)
            return
        self.connection = self._connected()
        clients.give_back(before.clients)

    def _left_open(self) -> dict[str, str]:
        """What the provider's row says where neither the settings nor boto3's configuration say anything."""
        known: dict[str, str] = {}
        only = self.provider.value("addressing")
        if self.settings.addressing_style == "auto" and only in ("path", "virtual"):
            known["addressing_style"] = only
        region = self.provider.region_of(self.endpoint_url)
        if region and self.settings.region is None and client.session(self.settings).region_name is None:
            known["region"] = region
        return known

    @property
    def encryption(self) -> IEncryption:
        return encryption_of(self.settings)

    @property
    def own_keys(self) -> bool:
        return any(reader.own_key for reader in self.encryption.readers)

    def _first(self, key: str, ask: Callable[[Connection], T], *, verb: str = "get") -> T:
        """What ``ask`` returns for the way in which that object can be read. See ``Ways.first``."""
        ways = self._ways
        if ways is None or ways.of is not self.connection:  # whatever was found out after the opening made another one
            ways = self._ways = Ways(self.connection, self.encryption.readers)
        return ways.first(key, ask, verb=verb)

    @property
    def region(self) -> str | None:
        """That of the requests' signatures."""
        return self.connection.reader.meta.region_name

    @property
    def reachable(self) -> bool:
        """Whether the last request was answered, or none was made yet. Makes none."""
        return self._circuit.reachable

    @property
    def circuit_open(self) -> bool:
        """Whether reads fail at once, since the store has been out for ``outage-patience``. Makes no request."""
        return self._circuit.is_open

    @property
    def endpoint_url(self) -> str:
        """Where requests go: scheme, host and port; at AWS that of the region."""
        return self.connection.reader.meta.endpoint_url

    @property
    def identity(self) -> str:
        return client.identity(self.endpoint_url, self.settings.bucket, self.settings.prefix)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.identity}>"

    def encrypted_with(self, encryption: IServerSideEncryption) -> IObjectStore:
        if encryption.needs_tls and not _is_secure(self.endpoint_url):
            raise ConfigurationError(
                "encryption: the key would travel in clear text, since the object store is reached over http;"
                " set an s3-endpoint-url with https (example: https://s3.example.org)"
            )
        return EncryptedStore(self, encryption)

    def unencrypted(self) -> IObjectStore:
        """As ``encrypted_with``: for the register of keys, which has to be read before there is a key."""
        return self.encrypted_with(NoEncryption())

    # Opening

    def open_bucket(self, writable: bool) -> None:
        open_bucket(self.connection, writable and not self.read_only)
        client.redaction.install()  # the first request imported the last of botocore's modules

    def connect_ahead(self) -> None:
        """Begin to open connections for the first readers, who would wait: over https two round trips, or three.

        After the first read from the bucket. Done in a thread of its own; makes no request and raises nothing.
        """
        work = partial(self.connection.signed_reader.connect_ahead, _AHEAD, lambda: self._closed)
        self._connecting = threading.Thread(target=work, name="s3blobs-connect", daemon=True)
        self._connecting.start()

    # Writing

    def put_file(
        self,
        key: str,
        path: str | Path,
        *,
        metadata: Mapping[str, str],
        sha256: bytes | None = None,
        if_absent: bool = False,
        shared: bool = False,
        if_match: str | None = None,
        cancelled: Callable[[], bool] | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> ObjectInfo:
        self._check_writable()
        if if_absent and not self.conditional_put:
            self._check_absent(key)
        if if_match is not None:
            return self._replace(key, path, metadata, sha256, if_match, cancelled=cancelled, progress=progress)
        return self._send(
            key,
            path,
            metadata,
            sha256,
            if_absent=if_absent and self.conditional_put,
            shared=shared,
            cancelled=cancelled,
            progress=progress,
        )

    def _replace(
        self,
        key: str,
        path: str | Path | Openable,
        metadata: Mapping[str, str],
        sha256: bytes | None,
        etag: str,
        **options: Any,
    ) -> ObjectInfo:
        def check() -> tuple[ObjectInfo, Connection]:
            # As it is stored, by whatever key it is read: here nobody asks whether it can be opened.
            looked = self.as_stored(key)
            if looked is None or looked[0].etag != etag:
                raise PreconditionFailed("The object was changed.")
            return looked

        if key.startswith(BLOBS):
            info, reading = check()
            options["before"] = versions.lock_before(reading, info)

        def send(match: str) -> ObjectInfo:
            return self._send(
                key, path, metadata, sha256, replaces=True, check_replaced=check, if_match=match, **options
            )

        try:
            replaced = send(etag if self.conditional_put else "")
        except PreconditionFailed:
            # Ceph refuses the condition in a bucket that keeps versions, whatever is there: it compares the ETag with
            # the version that is about to be made. What is really another object by now is refused by the look.
            check()
            replaced = send("")
        if self._ways is not None:
            self._ways.forget(key)
        return replaced

    def _send(
        self, key: str, path: str | Path | Openable, metadata: Mapping[str, str], sha256: bytes | None, **options: Any
    ) -> ObjectInfo:
        """Every file that is stored goes this way. ``options``: of ``upload.put_content``."""
        with upload.opened(path) as content:
            return upload.put_content(
                self.connection, self.lanes, key, content, metadata=metadata, sha256=sha256, **options
            )

    def put_bytes(
        self, key: str, data: bytes, *, metadata: Mapping[str, str] | None = None, if_absent: bool = False
    ) -> ObjectInfo:
        self._check_writable()
        if if_absent and not self.conditional_put:
            self._check_absent(key)
        lanes = self._beside if is_bookkeeping(key) else self.lanes
        return upload.put_bytes(self.connection, lanes, key, data, metadata or {}, if_absent and self.conditional_put)

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
        refuse_sealed(source)
        return copy.copy(
            self.connection, self.lanes, source, target_key, metadata=metadata, reading=reading, progress=progress
        )

    def protect(
        self,
        key: str,
        *,
        convert: bool,
        folder: Path | None = None,
        progress: Callable[[int], None] | None = None,
        dry_run: bool = False,
    ) -> Protected:
        if not dry_run:
            self._check_writable()
        done = protect.protect(self, key, convert=convert, folder=folder, progress=progress, dry_run=dry_run)
        if self._ways is not None:
            self._ways.forget(key)
        return done

    def reclass(
        self, key: str, storage_class: str, *, if_match: str, progress: Callable[[int], None] | None = None
    ) -> ObjectInfo:
        self._check_writable()
        info, reading = self._origin(key, None, if_match)
        # As it is stored: what is sealed stays so, with the metadata that open it.
        connection = replace(self.connection, settings=replace(self.connection.settings, storage_class=storage_class))
        made = copy.copy(connection, self.lanes, info, key, reading=reading, progress=progress)
        if self._ways is not None:
            self._ways.forget(key)
        return made

    def rewrapped_metadata(self, info: ObjectInfo) -> Mapping[str, str]:
        """For ``protect``: those of the object that takes the place of ``info``, of the same mode. Or
        EncryptionKeyMissing."""
        refuse_sealed(info)
        return info.metadata

    def replace_file(self, path: Path, told: ObjectInfo, progress: Callable[[int], None] | None) -> ObjectInfo:
        """For ``protect``: put the file in the place of the object ``told``, whose bytes and lock it has."""
        return self._send(
            told.key, path, told.metadata, told.sha256, replaces=True, before=told.lock, progress=progress
        )

    def _origin(self, key: str, store: IObjectStore | None, if_match: str | None) -> tuple[ObjectInfo, Connection]:
        """What is to be copied, as it is stored, and how it is read."""
        if store is not None and store.identity != self.identity:
            raise ValueError("a copy is made inside one store")
        origin: S3ObjectStore = self if store is None else store  # type: ignore[assignment]

        looked = origin.as_stored(key)
        if looked is None:
            raise ObjectMissing("The object store has no such object.")
        source, reading = looked
        if if_match is not None and source.etag != if_match:
            raise PreconditionFailed("The object was changed.")
        return source, reading

    def copy_from(
        self, other: IObjectStore, source: ObjectInfo, target_key: str, *, metadata: Mapping[str, str]
    ) -> ObjectInfo | None:
        self._check_writable()
        if not isinstance(other, S3ObjectStore) or other.encryption.ring is not None:
            return None  # whose objects may have to be opened
        return copy.copy_from(
            self.connection, self.lanes, other.connection, source, target_key, metadata, if_absent=self.conditional_put
        )

    def delete(self, keys: Iterable[str]) -> None:
        self._check_writable()
        deletion.delete(self.connection, keys)

    def delete_each(self, doomed: Sequence[Doomed]) -> Deleted:
        self._check_writable()
        return deletion.delete_each(self.connection, doomed)

    # Reading

    def head(self, key: str) -> ObjectInfo | None:
        info = self._head(key)
        if info is not None:
            refuse_sealed(info)
        return info

    def protection(self, key: str, version: str = "") -> Protection | None:
        looked = self.as_stored(key, version)
        return None if looked is None else protect.protection_of(*looked)

    def stored(self, key: str) -> Stored | None:
        looked = self.as_stored(key)
        return None if looked is None else protect.stored_of(self, *looked)

    def as_stored(self, key: str, version: str = "") -> tuple[ObjectInfo, Connection] | None:
        """The object as it is stored, and the way in which it can be read."""

        def look(way: Connection) -> tuple[ObjectInfo, Connection] | None:
            info = download.head(way, key, version)
            return None if info is None else (info, way)

        return self._first(versioned(key, version), look, verb="head")

    def _head(self, key: str) -> ObjectInfo | None:
        """As it is stored."""
        looked = self.as_stored(key)
        return None if looked is None else looked[0]

    def get_file(
        self,
        key: str,
        target: BinaryIO,
        *,
        size: int | None = None,
        sha256: bytes | None = None,
        version: str = "",
    ) -> ObjectInfo:
        emptied = Emptied(target)

        def ask(way: Connection) -> ObjectInfo:
            return download.get_file(way, key, emptied.anew(), size=size, sha256=sha256, version=version)

        return self._first(versioned(key, version), ask)

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
        once = Once(write)

        def ask(way: Connection) -> ObjectInfo:
            once.check()
            return ranges.get_range(way, key, start, length, once.write, size=size, if_match=if_match)

        return self._first(key, ask)

    def get_bytes(self, key: str, *, limit: int = 1048576) -> bytes:
        target = download.Limited(limit)
        self.get_file(key, target)  # type: ignore[arg-type]
        return bytes(target.data)

    def list(self, prefix: str = "", *, start_after: str = "", page_size: int = 1000) -> Iterator[Listed]:
        return listing.list_objects(self.connection, prefix, start_after, page_size)

    def list_versions(self, prefix: str = "", *, start_after: str = "") -> Iterator[Version]:
        return listing.list_versions(self.connection, prefix, start_after)

    def keeps_versions(self) -> bool | None:
        return versions.keeps_versions(self.connection)

    def cors(self) -> tuple[dict[str, Any], ...]:
        return cors.cors(self.connection)

    def set_cors(self, rules: Sequence[Mapping[str, Any]]) -> None:
        self._check_writable()
        cors.set_cors(self.connection, rules)

    def lifecycle(self) -> tuple[dict[str, Any], ...]:
        return lifecycle.lifecycle(self.connection)

    def set_lifecycle(self, rules: Sequence[Mapping[str, Any]]) -> None:
        self._check_writable()
        lifecycle.set_lifecycle(self.connection, rules)

    def restore(self, key: str, days: int, tier: str = "") -> Restoring:
        self._check_writable()
        return lifecycle.restore(self.connection, key, days, tier)

    def lock_of(self, key: str, version: str = "") -> Lock:
        return versions.lock_of(self.connection, key, version)

    def locks_objects(self) -> bool | None:
        return versions.locks_objects(self.connection)

    def lock(self, key: str, mode: str, until: datetime) -> None:
        self._check_writable()
        versions.retain(self.connection, key, mode, until)

    def hold(self, key: str, on: bool, version: str = "") -> None:
        self._check_writable()
        versions.hold(self.connection, key, on=on, version=version)

    def now(self) -> datetime:
        return open_time(self.connection)

    # Requests that others make

    def presign_get(
        self,
        key: str,
        *,
        seconds: int,
        content_type: str | None = None,
        disposition: str | None = None,
        cache_control: str | None = None,
        steady: bool = False,
    ) -> Presigned:
        return self._presigner.get(
            key,
            seconds,
            datetime.now(UTC),
            content_type=content_type,
            disposition=disposition,
            cache_control=cache_control,
            steady=steady,
        )

    def presign_put(self, key: str, *, seconds: int, size: int, sha256: bytes | None = None) -> Presigned:
        self._check_writable()
        return self._presigner.put(key, seconds, datetime.now(UTC), size=size, sha256=sha256)

    def presign_post(self, key: str, *, seconds: int, least: int, most: int) -> Presigned:
        self._check_writable()
        return self._presigner.post(key, seconds, datetime.now(UTC), least=least, most=most)

    def presign_part(self, key: str, upload_id: str, number: int, *, seconds: int, size: int) -> Presigned:
        self._check_writable()
        return self._presigner.part(key, upload_id, number, seconds, datetime.now(UTC), size=size)

    @property
    def _presigner(self) -> Presigner:
        # Whatever was found out about the store after the opening made another connection.
        made = self._presigns
        if made is None or made.connection is not self.connection:
            made = self._presigns = Presigner(self.connection, own_keys=self.own_keys)
        return made

    # Multipart uploads whose parts others send

    def begin_upload(self, key: str) -> str:
        self._check_writable()
        self._presigner.check_keys()
        return multipart.begin_for_others(self.connection, key)

    def list_parts(self, key: str, upload_id: str) -> Iterator[tuple[int, int, str]]:
        return multipart.list_parts(self.connection, key, upload_id)

    def finish_upload(self, key: str, upload_id: str, listed: Sequence[tuple[int, str]]) -> None:
        self._check_writable()
        multipart.finish_for_others(self.connection, key, upload_id, listed)

    def proven_sha256(self, key: str, etag: str) -> bytes | None:
        if self._compares is None and not self.read_only and self.provider.value("checksum_headers") is not False:
            self._compares = checksums.compares(self.connection)  # two threads may find out the same at a time
        return checksums.told_sha256(self.connection, key, etag) if self._compares else None

    # Multipart uploads left behind

    def list_uploads(self, prefix: str = "") -> Iterator[tuple[str, str, datetime]]:
        return listing.list_uploads(self.connection, prefix)

    def abort_upload(self, key: str, upload_id: str) -> None:
        self._check_writable()
        multipart.abort_upload(self.connection, key, upload_id)

    # Closing

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._beside.close()
        self.lanes.close()
        if self._connecting is not None:
            self._connecting.join()  # what it is about to open would stay open
        clients.give_back(self.connection.clients)

    def _check_writable(self) -> None:
        if self.read_only:
            raise Refused("The object store was opened for reading only (read-only).")

    def _check_absent(self, key: str) -> None:
        if self.head(key) is not None:
            raise PreconditionFailed("The object is there already.")


class EncryptedStore(S3ObjectStore):
    """See ``IObjectStore.encrypted_with``. Of the store as it is by then: whatever corrects that one comes before."""

    def __init__(self, store: S3ObjectStore, encryption: IServerSideEncryption) -> None:
        vars(self).update(vars(store))
        # botocore's DEBUG log prints a customer's key.
        client.redaction.remember([encryption.write_parameters().get("SSECustomerKey")])
        # What an ETag means was measured with the store's own encryption.
        self.connection = replace(store.connection, encryption=encryption, etags_prove=False)
        self._presigns = None
        self._ways = Ways(self.connection, (encryption,))
        self._its_own_key = encryption.own_key

    @property
    def own_keys(self) -> bool:
        return self._its_own_key

    def close(self) -> None:
        """Nothing: all that could be closed is the other store's."""


def versioned(key: str, version: str) -> str:
    """What is remembered of how it is read: what fits a former version says nothing of the present one."""
    return f"{key}?versionId={version}" if version else key


def _redact(key: RingKey) -> None:
    client.redaction.remember([key.material])


def _is_secure(url: str) -> bool:
    return urlsplit(url).scheme.lower() == "https"
