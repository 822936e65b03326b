"""The contract of direct uploads, below Plone: a staging area in the bucket, ``uploads/{id}``.

A browser (or a program) gets signed requests for one object of just the announced size, and sends the bytes to the
store. ``finish`` looks at what is there and holds on to it by its ETag; ``attach`` (``storage/interfaces.py``) copies
it inside the store to the key of a blob, and the record of a transaction names that copy. The staged object goes only
after the commit, or when it is swept: so everything up to the commit can be done again.

Nothing that a client says is believed: an id is a random number that says nothing, and whoever calls here has bound it
to a user, a place and a time (``uploading/token.py``). What is abandoned is deleted by garbage collection, and by the
storage itself when somebody else uploads (``sweeping.py``).

The area is encrypted by the store itself where blobs are encrypted with keys of ours, which no browser may have
(``direct-upload-staging``).

All methods may be called from any thread. They raise the errors of ``errors.StoreError``'s branch, and
ConfigurationError where zope.conf does not let it be; no message names bucket, key or endpoint.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, BinaryIO

from zope.interface import Attribute, Interface

from ..objectstore.interfaces import ObjectInfo
from ..objectstore.presigned import Presigned


@dataclass(frozen=True, slots=True)
class Upload:
    """One upload that was begun: all that has to be remembered of it, by whoever began it. No secret.

    :param id: 32 hex digits, drawn at random
    :param size: bytes that were announced, and no other number is taken
    :param part_size: bytes of each part but the last; 0 where it goes in one request
    :param multipart: the store's id of the multipart upload; "" where it goes in one request
    :param begun: by the store's clock, with a zone
    :param sha256: what was announced, 32 raw bytes
    """

    id: str
    size: int
    part_size: int
    multipart: str
    begun: datetime
    sha256: bytes | None = None

    @property
    def parts(self) -> int:
        """How many there are to be; 0 where it goes in one request."""
        return -(-self.size // self.part_size) if self.part_size else 0

    def size_of(self, number: int) -> int:
        """Bytes of the part of that number, from 1 on. ValueError where there is no such part."""
        if not 1 <= number <= self.parts:
            raise ValueError(f"there are parts 1 to {self.parts}")
        return min(self.part_size, self.size - (number - 1) * self.part_size)


@dataclass(frozen=True, slots=True)
class Arrived:
    """A part that the store has. ``etag`` without quotes."""

    number: int
    size: int
    etag: str


@dataclass(frozen=True, slots=True)
class Swept:
    """What ``sweep`` did, or would do: abandoned objects and unfinished multipart uploads, and the bytes of the
    former. ``failed``: how many of both the store did not delete."""

    objects: int = 0
    uploads: int = 0
    size: int = 0
    failed: int = 0


class UploadWrong(Exception):
    """What was uploaded is not what was announced, or is not all there: the message says what, for whoever sends it.

    ``gone``: nothing of it is there. ``incomplete``: what is there is right, and what is missing can still be sent.
    ``final``: all of it is there, and nobody can send anything that makes it right.
    """

    def __init__(self, message: str, *, gone: bool = False, incomplete: bool = False, final: bool = False) -> None:
        super().__init__(message)
        self.gone = gone
        self.incomplete = incomplete
        self.final = final


class IStagedObject(Interface):
    """A finished upload, held by its ETag. For one thread at a time; closing is not needed."""

    size = Attribute("int: bytes")
    store = Attribute("IObjectStore: of the blobs, to which it is copied")
    etag = Attribute("str: without quotes")
    sha256 = Attribute(
        "bytes or None: 32 raw bytes that the store, or this process, computed of it; a client's claim never"
    )

    def beginning(length: int = 4096) -> bytes:
        """Its first bytes, in one request, remembered. PreconditionFailed where it is another object by now."""

    def open() -> BinaryIO:
        """A seekable reader that asks for ranges as it is read, of this very object; it has ``size`` bytes.

        Reads raise OSError's subclasses of none: StoreError where the store fails, PreconditionFailed where the object
        is another one by now. Closing it is up to the caller. It has no ``fileno`` and no name.
        """

    def copy_to(key: str, metadata: dict[str, str], progress: Callable[[int], None] | None = None) -> ObjectInfo:
        """Copy it to the key of a blob, as the storage encrypts blobs: inside the store where that can be, else through
        this process in flat memory and without its disk.

        PreconditionFailed where it is another object than was looked at, before or meanwhile; then, as after any other
        error, nothing is left at ``key``: it is a new one, that nobody else writes. UploadWrong where its bytes pass
        through here and are not those of the announced hash. The info has the SHA-256 where ``sha256`` is known, or it
        was computed on the way; ``size`` and that hash go into the copy's metadata.
        """

    def download(target: BinaryIO) -> None:
        """Write it whole to an empty file: for a storage that cannot take a copy. Raises as ``open``'s reader, and
        UploadWrong as ``copy_to``: what was written is no blob's then."""


class IUploadArea(Interface):
    """That of one database's bucket. ``IDatabaseBlobs.uploads()`` gives it, and the storage's ``upload_area()``."""

    # Where nothing may be changed, all but ``why_not`` and ``arrived`` raise ConfigurationError.

    settings = Attribute("settings.UploadSettings: what zope.conf says")

    def why_not(*, ask: bool = True) -> str:
        """Why nothing can be uploaded, in a sentence for the operator that names the setting; "" where it can.

        ``direct-upload off``, a storage that is read-only, a store that does not confirm ``direct-upload-staging``. The
        last is tried out by a small object, once per process; without ``ask`` no request is made, and what nobody tried
        out yet is taken to be well.
        """

    def begin(size: int, *, single: bool | None = None, sha256: bytes | None = None) -> Upload:
        """A new upload. ``single``: in one request; None: in parts, of which a small one has one, since nobody can
        change those after they were put together; where ``sha256`` is known, which is signed, in one up to 16 MB.

        At most one request, where it goes in parts. ConfigurationError with ``why_not``; ValueError where ``size`` is
        below 1, above ``settings.most_size``, or above 5 GiB and it is to go in one request.
        """

    def put_request(upload: Upload, *, seconds: int) -> Presigned:
        """The request that sends it at once: just that many bytes, and just those where ``sha256`` was announced and
        the store compares it. ValueError where it goes in parts."""

    def post_request(upload: Upload, *, seconds: int) -> Presigned:
        """The same as a form of a page. Not every store knows that: ConfigurationError where the provider does not.
        ValueError where it goes in parts."""

    def part_request(upload: Upload, number: int, *, seconds: int) -> Presigned:
        """The request that sends one part: just that many bytes. ValueError where there is no such part."""

    def arrived(upload: Upload) -> list[Arrived]:
        """The parts that the store has, by number; of one that goes in one request, itself as part 1 where it is there.

        UploadWrong, ``gone``, where a multipart upload is no more and no object is there. Of one that was put together
        already, all its parts, without ETags.
        """

    def finish(upload: Upload) -> Any:
        """Put the parts together, where it was sent in parts, and look at what is there: an ``IStagedObject``.

        May be called again: what is put together already is looked at. UploadWrong where parts are missing, of another
        size, or sent again just now (nothing is put together then), where the object is of another size, or where its
        SHA-256 is not the announced one (``final``, of parts): that is compared by the store for one request, and else
        by reading it here once. Where blobs are encrypted here that happens in ``copy_to``, which then raises
        UploadWrong. EncryptionNotHonoured where the object is not encrypted as the area is to be; it is deleted then.
        """

    def drop(upload: Upload) -> None:
        """Delete what is there of it: the object, and the multipart upload. What is gone is no error."""


class IAttachable(Interface):
    """What ``attach`` of ``storage/interfaces.py`` takes: an ``IStagedObject``, or anything else with these."""

    size = Attribute("int: bytes")
    store = Attribute("IObjectStore: that which ``copy_to`` copies to; ``attach`` takes what is for its own storage")

    def copy_to(key: str, metadata: dict[str, str]) -> ObjectInfo:
        """See ``IStagedObject``."""

    def download(target: BinaryIO) -> None:
        """See ``IStagedObject``."""


@dataclass(frozen=True, slots=True)
class Difference:
    """What the bucket's CORS rules lack for ``direct-upload-origins``, and what they would be.

    :param present: the rules as the store has them, each a plain dict of the protocol (AllowedOrigins, …)
    :param wanted: the same, with the rule of ours added or mended (its ID is ``collective.s3blobstorage``); rules of
        others are as they were
    :param missing: a sentence for each origin, method or header that a browser would be refused
    """

    present: tuple[dict[str, Any], ...] = ()
    wanted: tuple[dict[str, Any], ...] = ()
    missing: tuple[str, ...] = field(default=())

    @property
    def is_needed(self) -> bool:
        """Also where nothing is missing, and the rule of ours has a ``*``."""
        return self.wanted != self.present
