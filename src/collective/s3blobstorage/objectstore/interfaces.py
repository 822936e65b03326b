"""The contract of an object store: few verbs with exact semantics.

Keys are relative to the store's prefix: callers say ``blobs/0000000000000001/…`` and never see the prefix, the bucket
or the endpoint. All methods may be called from any thread. All raise the errors of ``errors.StoreError``'s branch and
nothing else of the network: no exception of botocore, urllib3 or ssl leaves this folder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any, BinaryIO

from zope.interface import Attribute, Interface

from collective.s3blobstorage.encryption.interfaces import IServerSideEncryption

from .presigned import Presigned


@dataclass(frozen=True, slots=True)
class Lock:
    """What keeps one version from being deleted (Object Lock): ``until`` and its ``mode``, a legal hold, or neither."""

    until: datetime | None = None
    mode: str = ""
    legal_hold: bool = False

    def keeps_at(self, now: datetime) -> bool:
        """Whether its date is still to come at that time."""
        return self.until is not None and self.until > now


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What the store says about one object (HEAD, or the headers of a GET or PUT)."""

    key: str
    size: int
    etag: str  # without quotes
    metadata: Mapping[str, str] = field(default_factory=dict)  # user metadata, names in lower case
    last_modified: datetime | None = None
    sha256: bytes | None = None  # set by put_file (computed) and by a store that reports a full-object SHA-256
    # What the store says of its own encryption, in an answer to a read: sse-c, AES256, aws:kms and the key's id, …
    encrypted: str = ""
    storage_class: str = ""  # as a HEAD named it; "" where it names none, which is the usual one
    # As a HEAD told it, to who may read retentions and holds (s3:GetObjectRetention, s3:GetObjectLegalHold).
    lock: Lock = Lock()


@dataclass(frozen=True, slots=True)
class Listed:
    """One line of a listing."""

    key: str
    size: int
    etag: str
    last_modified: datetime
    storage_class: str = ""  # as the store names it; "" where it names none


@dataclass(frozen=True, slots=True)
class Version:
    """One version of an object in a bucket that keeps versions, or the marker that it was deleted."""

    key: str
    version: str
    size: int
    last_modified: datetime
    is_latest: bool
    is_marker: bool = False


class Restoring(Enum):
    """What the store says of an object that is to be read from its archive."""

    BEGUN = "begun"
    UNDER_WAY = "under way"  # somebody asked before
    READABLE = "readable"  # and for the days that were asked for
    NOT_ARCHIVED = "not archived"


@dataclass(frozen=True, slots=True)
class Doomed:
    """What ``delete_each`` shall delete. ``etag``: only where the object still has it, as far as the store looks."""

    key: str
    etag: str = ""
    version: str = ""


@dataclass(frozen=True, slots=True)
class Deleted:
    """What came of ``delete_each``.

    ``failed``: the store's code for each that is still there. ``markers``: how many were only hidden by a delete
    marker, since the bucket keeps versions.
    """

    failed: Mapping[Doomed, str] = field(default_factory=dict)
    markers: int = 0


@dataclass(frozen=True, slots=True)
class Protection:
    """How one object is encrypted. ``mode``: none, sse-s3, sse-kms, sse-c or client-side.

    ``key``: of a ring, its ``RingKey.name``; of a key management service, the id that the store tells; else "".
    ``size``: bytes as stored.
    """

    mode: str
    key: str
    size: int


@dataclass(frozen=True, slots=True)
class Stored:
    """One object as it is stored: size, ETag and metadata in ``info`` are those of the bytes that the store has.

    ``protection``: None where its envelope is damaged, or of a newer format. ``current``: whether it is as it would be
    written now.
    """

    info: ObjectInfo
    protection: Protection | None
    current: bool


@dataclass(frozen=True, slots=True)
class Protected:
    """What ``protect`` did, and how the object was encrypted before and is now; None where it is gone.

    ``what``: current (nothing to do), rewrapped (another key), converted (another mode), left (another mode, and it was
    not to be converted), gone. ``after``: of what was rewrapped or converted as it was asked for; the key's id of a key
    management service is not known then.
    """

    what: str
    before: Protection | None = None
    after: Protection | None = None


class Cancelled(Exception):
    """Raised inside ``put_file`` when ``cancelled()`` became true. Never leaves the storage."""


class IListing(Interface):
    """What lies below a prefix: the store itself, as of now, or a report of hours ago (``inventory.py``)."""

    def list(prefix: str = "", *, start_after: str = "", page_size: int = 1000) -> Iterator[Listed]:
        """Yield every object whose key starts with ``prefix``, sorted by key as UTF-8 bytes, in pages."""


class IObjectStore(IListing):
    """One bucket and prefix."""

    identity = Attribute("str: stable text of endpoint, bucket and prefix, for hashing into a folder's name; no secret")

    encryption = Attribute("IEncryption: how blobs are written and may have to be read")
    own_keys = Attribute(
        "bool: a key of ours may be needed to read what is there, so that nobody else can be sent to it"
    )
    traffic = Attribute("traffic.Traffic: what this process counted of the store's requests")

    def encrypted_with(encryption: IServerSideEncryption) -> IObjectStore:
        """The same bucket and prefix, written to and read from with another encryption. Makes no request.

        It shares clients, connections, lanes and what is known of the store's state; closing it does nothing, and it is
        of no use once this store is closed. Raises ConfigurationError where the encryption needs TLS and the store is
        reached over http.
        """

    # Opening

    def open_bucket(writable: bool) -> None:
        """Check that the bucket is there and ours; create it where ``create-bucket`` is on and ``writable``.

        Raises ConfigurationError naming the setting where the bucket does not exist, belongs to somebody else or
        the credentials are wrong; Unavailable where the store cannot be reached.
        """

    # Writing

    def put_file(
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
        """Store the file under the key and return what is stored, with its SHA-256. ``path`` may be a
        ``content.Openable``, for a file whose bytes do not lie on the disk as they are.

        One PUT or a multipart upload, as the size asks for (parts computed from the size; never over 10,000; at most
        5 GiB in one PUT). Memory does not grow with the file. The SHA-256 is computed while uploading unless
        ``sha256`` is given; a single PUT also carries it as metadata ``sha256`` (hex), a multipart upload does so where
        it was given. ``size`` goes into the metadata always. The object's type is ``application/octet-stream`` with
        ``Content-Disposition: attachment``. What the store answers (size, ETag where it is the MD5, checksums)
        is compared with what was sent: Corrupt where it differs, and the object is deleted.

        ``if_absent``: ``If-None-Match: *``; raises PreconditionFailed where the key exists. Only where
        ``conditional_put`` is true does that hold against a concurrent writer.

        ``shared``, with ``if_absent``: others put the same bytes under that key. They are sent before anybody asks
        whether it is there, and it is never deleted, whatever the store answers: somebody may rely on it already. Bytes
        that do not have ``sha256`` are Corrupt, and nothing is stored: they would be everybody's.

        ``if_match``: the ETag (without quotes) of the object that is to be replaced; raises PreconditionFailed where it
        is another one, or gone. It is looked at just before the bytes become an object, and asked of the store too
        where the object goes out in one PUT and ``conditional_put`` is true. A store that ignores that, or refuses it
        for an object that is the right one (Ceph, where versions are kept), leaves the moment between the two. What is
        wrong with the store's answer then raises, and nothing is deleted.

        ``cancelled`` is asked between blocks; when true, ``Cancelled`` is raised and a multipart upload is aborted.
        ``progress(bytes)`` is called with increments, from the threads that send; an attempt that failed takes back
        what it counted by a negative one, so that the sum is the file's size in the end.
        A multipart upload that fails is aborted at the store, as far as the store can be reached.

        May run for as long as the file is long: call it in a pool. Parts of one file go out in parallel.
        """

    def put_bytes(
        key: str, data: bytes, *, metadata: Mapping[str, str] | None = None, if_absent: bool = False
    ) -> ObjectInfo:
        """Store a small object (a marker) in one PUT. What this package keeps beside the blobs waits for no blob."""

    def copy(
        source_key: str,
        target_key: str,
        *,
        if_match: str | None = None,
        metadata: Mapping[str, str] | None = None,
        source_store: IObjectStore | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> ObjectInfo:
        """Copy inside the bucket without moving bytes through this process.

        ``if_match`` is the ETag the source must have, else PreconditionFailed. ``metadata`` replaces the copy's user
        metadata; None keeps it. Above 1 GiB it is copied in parts, four at a time. The target is encrypted as the store
        is configured; where the store cannot do that server-side (501) the bytes pass through this process: in memory,
        some 100 MB at most for an object of up to 640 GB, and nothing of them on its disk. Then the info has their
        SHA-256, and where the source's metadata have one it is compared: Corrupt. ObjectMissing where there is no
        source.
        ``source_store``: what ``encrypted_with`` of the same store gave, where the source is encrypted in another way;
        None: this one. ValueError where it is another store.

        ``progress(bytes)`` as ``put_file``; of what the store copies itself it is called after each request, in the
        caller's thread.
        """

    def copy_from(
        other: IObjectStore, source: ObjectInfo, target_key: str, *, metadata: Mapping[str, str]
    ) -> ObjectInfo | None:
        """Copy an object of another bucket or prefix without moving bytes through this process.

        ``source`` is what ``other.head`` told of it; ``metadata`` is the copy's. None where that cannot be done, and
        the bytes have to be read and sent: another endpoint or region, a customer's key, a store that cannot, a source
        that is another one by now, credentials of ours that may not read there, or a target that is there already
        (``If-None-Match: *``; a store that does not know that for copies overwrites it). Raises as ``copy`` otherwise.
        """

    def protect(
        key: str,
        *,
        convert: bool,
        folder: Path | None = None,
        progress: Callable[[int], None] | None = None,
        dry_run: bool = False,
    ) -> Protected:
        """Bring an object to the encryption and key that are written with now, under its key, without changing a byte
        of it for its readers.

        Moves no byte where only the key changes and the store copies what it encrypted. What has to be sealed or opened
        here is downloaded, into ``folder`` (None: the machine's temporary one), and uploaded; what else the store does
        not copy passes through memory as in ``copy``. ``convert``: also where the mode is another one.
        One process per prefix at a time. Raises PreconditionFailed where the object was changed meanwhile;
        EncryptionKeyMissing; and as ``get_file`` and ``put_file``. Whatever is raised, the object can be read as before
        or is as it should be. ``progress`` as ``put_file``, of what is sent or copied. ``dry_run``: only tell what
        would be done, by one HEAD.

        Of what this package keeps beside blobs, objects of add-ons and manifests nothing is sealed: there client-side
        encryption is as none.
        """

    def reclass(
        key: str, storage_class: str, *, if_match: str, progress: Callable[[int], None] | None = None
    ) -> ObjectInfo:
        """Have the store keep the object in another storage class, under its key, without changing a byte of it.

        Moves no byte through this process but where the store does not copy (SSE-C on some). The key is whole at any
        instant. Raises as ``copy``; PreconditionFailed where it has another ETag than ``if_match``; Refused where the
        store does not know the class.
        """

    def delete(keys: Iterable[str]) -> None:
        """Delete; a key that does not exist is no error. Batches of at most 1,000 keys."""

    def delete_each(doomed: Sequence[Doomed]) -> Deleted:
        """Delete at most 1,000 by one request, and tell what became of each.

        What failed in a way that may pass is tried again, alone, for some seconds. One that is gone already has not
        failed. Raises Unavailable where no answer came at all: then nobody knows.
        """

    # Reading

    def head(key: str) -> ObjectInfo | None:
        """What is stored, or None where there is no such key (404 only)."""

    def protection(key: str, version: str = "") -> Protection | None:
        """How it, or that version of it, is encrypted, or None where there is none. Raises EncryptionKeyMissing only
        where the store needs the key to say so."""

    def stored(key: str) -> Stored | None:
        """What is there and how, or None where there is no such key. One HEAD, and no key of ours is read, but those
        that the store has to be told."""

    def get_file(
        key: str, target: BinaryIO, *, size: int | None = None, sha256: bytes | None = None, version: str = ""
    ) -> ObjectInfo:
        """Write the whole object to ``target`` (an empty file opened for writing, positioned at 0).

        ``size`` and ``sha256`` are what must arrive; where None, the object's own metadata (``size``, ``sha256``) is
        taken if it has them. Corrupt where other bytes arrive after all attempts. A connection that breaks in the
        middle goes on with a range and ``If-Match``. ``download_deadline`` bounds all attempts together: then
        ``Unavailable``. ObjectMissing where there is no such key: one request is made, not a HEAD first.
        ``version``: of a bucket that keeps versions, the one to be read, which readers may not get any more.
        """

    def get_range(
        key: str,
        start: int,
        length: int,
        write: Callable[[bytes | memoryview], None],
        *,
        size: int | None = None,
        if_match: str | None = None,
    ) -> ObjectInfo:
        """Pass the bytes ``start`` to ``start + length`` of the object to ``write``, in order, block by block.

        One request: no HEAD first. What lies past the end is left out; where the whole range does (416), nothing is
        written and a HEAD brings the info. ``length`` is at least 1, else ValueError. A connection that breaks in the
        middle goes on behind the last byte that ``write`` was given, never before it. ``if_match`` is the ETag that the
        object must have, else PreconditionFailed; without it the first answer's ETag holds for the retries. The info
        has the size of the whole object, its ETag and metadata. Corrupt where the whole has another size than ``size``
        or the store sends something else than the range. Deadline, ObjectMissing and the rest as ``get_file``. What
        ``write`` raises goes through unchanged and is not tried again.

        The bytes are not compared with a hash: the caller does that once it has the whole.
        """

    def get_bytes(key: str, *, limit: int = 1048576) -> bytes:
        """A small object whole. ObjectMissing where there is none, Corrupt where it is over ``limit`` bytes."""

    def list_versions(prefix: str = "", *, start_after: str = "") -> Iterator[Version]:
        """Yield every version and delete marker, sorted by key, the latest of a key first."""

    def keeps_versions() -> bool | None:
        """Whether what is deleted or overwritten stays as a version, also where that is suspended by now.

        False where the store does not know the request, None where these credentials may not ask.
        """

    def cors() -> tuple[dict[str, Any], ...]:
        """The bucket's CORS rules, as the protocol has them (AllowedOrigins, …); none is no error.

        Of the whole bucket, whatever the prefix. Refused names the right that is missing; StoreError where the store
        has no such rules.
        """

    def set_cors(rules: Sequence[Mapping[str, Any]]) -> None:
        """Replace all of them; none: delete them. Raises as ``cors``."""

    def lifecycle() -> tuple[dict[str, Any], ...]:
        """The bucket's lifecycle rules, as the protocol has them (ID, Status, Filter, …); none is no error.

        Of the whole bucket, whatever the prefix. Refused names the right that is missing; StoreError where the store
        has no such rules.
        """

    def set_lifecycle(rules: Sequence[Mapping[str, Any]]) -> None:
        """Replace all of them; none: delete them. Raises as ``lifecycle``; Refused says what the store has against
        them."""

    def restore(key: str, days: int, tier: str = "") -> Restoring:
        """Ask for a copy of an archived object that can be read for so many days, or for longer than it would be.

        ``tier``: Expedited, Standard or Bulk, which cost and last differently; "": the store decides. ObjectMissing
        where there is none; StoreError where the store has no archive.
        """

    def lock_of(key: str, version: str = "") -> Lock:
        """Why an object, or that version, could not be deleted, as far as Object Lock has to do with it and the store
        tells us.

        One request where a HEAD tells it, else two more.
        """

    def locks_objects() -> bool | None:
        """Whether the bucket has Object Lock; None: these credentials may not ask."""

    def lock(key: str, mode: str, until: datetime) -> None:
        """Keep the object's present version from being deleted until then (Object Lock).

        ``mode``: GOVERNANCE, which who has a right of its own lifts, or COMPLIANCE, which nobody does. Raises Refused
        where the bucket has none.
        """

    def hold(key: str, on: bool, version: str = "") -> None:
        """Set the legal hold of an object, or of that version of it, or release it (Object Lock).

        Nobody deletes the version while it has one, whatever its retention. Raises ObjectMissing; Refused where the
        bucket has no Object Lock, or these credentials may not.
        """

    def now() -> datetime:
        """The store's own clock, with a time zone. Makes a request only where no listing told it before.

        Raises StoreError where the store's answers have no ``Date``.
        """

    # Requests that others make. Makes none itself. All raise ConfigurationError where the encryption rules out that
    # anybody but us asks (s3-sse-customer-key), Unavailable where the credentials end within two minutes and cannot be
    # renewed, and ValueError for ``seconds`` that are not 1 to 604,800. A URL signed with temporary credentials ends
    # with them.

    def presign_get(
        key: str,
        *,
        seconds: int,
        content_type: str | None = None,
        disposition: str | None = None,
        cache_control: str | None = None,
        steady: bool = False,
    ) -> Presigned:
        """A URL by which anybody gets the object, or any range of it, for ``seconds``.

        ``content_type``, ``disposition`` and ``cache_control`` are the headers of the answer, and part of what is
        signed; None: as it was stored. ``steady``: the same URL for all calls of half that time, so that a browser's
        cache knows it; it is then good for between half and all of ``seconds``.
        """

    def presign_put(key: str, *, seconds: int, size: int, sha256: bytes | None = None) -> Presigned:
        """A URL by which anybody may store just so many bytes under the key, with the ``headers`` that it names.

        ``sha256``: of just these bytes, where the store compares checksums.
        """

    def presign_post(key: str, *, seconds: int, least: int, most: int) -> Presigned:
        """A form by which anybody may store ``least`` to ``most`` bytes under the key. Not every store knows that."""

    def presign_part(key: str, upload_id: str, number: int, *, seconds: int, size: int) -> Presigned:
        """A URL by which anybody may send just so many bytes as one part of a multipart upload."""

    # Multipart uploads whose parts others send

    def begin_upload(key: str) -> str:
        """Begin one, and return its id. The object will be as our own are: its type, storage class and encryption.

        Nobody else may upload to that key meanwhile: what an attempt whose answer was lost began there is aborted.
        EncryptionNotHonoured where the store does not confirm the encryption; ConfigurationError as ``presign_put``.
        """

    def list_parts(key: str, upload_id: str) -> Iterator[tuple[int, int, str]]:
        """(number, size in bytes, ETag without quotes) of each part that the store has, by number, in pages.

        ObjectMissing where the upload is no more.
        """

    def finish_upload(key: str, upload_id: str, listed: Sequence[tuple[int, str]]) -> None:
        """Put those parts (number, ETag) together. ObjectMissing where the upload is no more: also where an attempt
        whose answer was lost has done it, so look at the object then. PreconditionFailed where one of them is another
        one by now."""

    def proven_sha256(key: str, etag: str) -> bytes | None:
        """The SHA-256 of the whole object, where the store has compared it with what its sender said; else None.

        One HEAD, and once per store a small object with a wrong hash below ``.s3blobs-check/``, which a store that
        compares refuses. Raises nothing of the store's: where it cannot tell, the object has to be read.
        """

    # Multipart uploads left behind

    def list_uploads(prefix: str = "") -> Iterator[tuple[str, str, datetime]]:
        """Yield (key, upload id, initiated) of unfinished multipart uploads."""

    def abort_upload(key: str, upload_id: str) -> None:
        """Abort one; one that is gone already is no error."""

    # Closing

    def close() -> None:
        """Join the threads and close the connections. Idempotent."""
