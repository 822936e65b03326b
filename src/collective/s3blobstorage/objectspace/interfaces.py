"""The contract of an object space: one add-on's objects in a database's bucket, under a prefix of its own.

Keys are relative to the space, ``reports/2026/11.pdf``. Whatever key is given, blobs, bookkeeping and the objects of
other add-ons are out of reach. A key is made of parts with a slash between each two; a part is not empty, not ``.``,
not ``..`` and not ``.s3blobs.json``, and has no control characters. With everything before it, it has at most 1024
bytes of UTF-8. Anything else is a ValueError, before a request is made.

Nothing here belongs to a transaction: what is put is there at once, also where the transaction aborts, and garbage
collection deletes none of it.

All methods may be called from any thread, and raise the errors of ``errors.StoreError``'s branch; none of their
messages names a bucket, a key or an endpoint. Writing raises Refused where the storage is read-only.

``encryption``: None is the storage's own; an ``IServerSideEncryption``, such as ``CustomerKey``, is used in its
place. Whoever gives one keeps it: an object is read with what it was written with. Otherwise the store refuses
(Refused), or does not confirm it (EncryptionNotHonoured). ConfigurationError where it needs TLS and the store is
reached over http.

``progress(bytes)`` is called with increments, one call at a time, so it needs no lock: from the caller's thread, and
while a large file is put also from the threads that send its parts. An attempt that failed takes back what it counted
by a negative one; the sum in the end is what was moved. Where it raises, the call ends with that exception,
unchanged, and the callback is not called again: an upload leaves under its key what was there before or the new
object, whole, and no part of it anywhere.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import BinaryIO

from zope.interface import Attribute, Interface

from ..encryption.interfaces import IServerSideEncryption
from ..objectstore.interfaces import Listed, ObjectInfo
from ..objectstore.presigned import Presigned

ByteSource = bytes | bytearray | memoryview | os.PathLike[str] | BinaryIO
ProgressCallback = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Deletion:
    """What came of ``delete_many`` and ``delete_prefix``.

    deleted: how many are gone, those included that were not there; hidden: how many of them only have a delete marker
    on top, since the bucket keeps versions. failed: for each that is still there the store's code, such as
    ``AccessDenied``, or the name of our error where no answer came. would_delete: how many a dry run found. complete:
    False where the store failed in the middle; what is not counted was not tried.
    """

    deleted: int = 0
    hidden: int = 0
    failed: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    would_delete: int = 0
    complete: bool = True


class IObjectSpace(Interface):
    """Of one add-on, in one database's bucket."""

    name = Attribute("str: the add-on's")

    # Writing

    def put(
        key: str,
        data: ByteSource,
        *,
        metadata: Mapping[str, str] | None = None,
        if_absent: bool = False,
        encryption: IServerSideEncryption | None = None,
        progress: ProgressCallback | None = None,
    ) -> ObjectInfo:
        """Store bytes, the file of a path, or what a binary file has from its position on; an object there is replaced.

        Memory does not grow with it. A binary file is copied onto the local disk first: what is lost on the way is sent
        again. ``metadata``: names of lower-case letters, digits and hyphens, values of printable ASCII, 2048 bytes in
        all; ``size`` and ``sha256`` are set here. Whoever downloads the object sees them. The object's type is
        ``application/octet-stream`` with ``Content-Disposition: attachment``.

        ``if_absent``: PreconditionFailed where the key exists. ValueError for metadata, TypeError for data of another
        kind; OSError where the local disk fails.
        """

    def copy(
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
        """Copy, as a rule without moving bytes through this process; an object at the target is replaced.

        ``source``: the space that has the source key, of the same database; None: this one. ``metadata`` replaces that
        of the source; None keeps it. ``if_match``: the ETag that the source must have, else PreconditionFailed.
        ``source_encryption`` is what the source was written with, ``encryption`` what the copy is: so it is encrypted
        anew. ObjectMissing where there is no source. ValueError where source and target are one object, or the spaces
        are of two databases.
        """

    def delete_many(keys: Iterable[str], *, dry_run: bool = True) -> Deletion:
        """Delete those objects. A dry run makes no request: it checks the keys and counts them.

        Raises StoreError where the store failed at the first request; later ones are told by the result. All keys are
        checked before the first is deleted.
        """

    def delete_prefix(prefix: str, *, dry_run: bool = True) -> Deletion:
        """Delete every object whose key begins with the prefix, which ends in a slash; ``""`` is all of the space.

        A dry run lists and counts them. Raises as ``delete_many``.
        """

    # Reading

    def head(key: str, *, encryption: IServerSideEncryption | None = None) -> ObjectInfo | None:
        """Size, ETag, metadata and time of an object; None where there is none."""

    def list(prefix: str = "", *, start_after: str = "", page_size: int = 1000) -> Iterator[Listed]:
        """Every object whose key begins with ``prefix`` and sorts after ``start_after``, sorted by key as UTF-8 bytes.

        A request per ``page_size`` (at most 1000) of them, made when the first of a page is asked for.
        """

    def get(
        key: str,
        *,
        limit: int = 16 * 1024 * 1024,
        encryption: IServerSideEncryption | None = None,
        progress: ProgressCallback | None = None,
    ) -> bytes:
        """A whole object in memory, compared with its SHA-256 where its metadata have it.

        TooLarge where it has more than ``limit`` bytes, ObjectMissing where there is none.
        """

    def get_range(
        key: str,
        start: int,
        length: int,
        *,
        if_match: str | None = None,
        encryption: IServerSideEncryption | None = None,
        progress: ProgressCallback | None = None,
    ) -> bytes:
        """The bytes ``start`` to ``start + length`` in memory; what lies past the end is left out.

        ``if_match``: the ETag that the object must have, else PreconditionFailed. ValueError for a negative ``start``
        or a ``length`` below 1.
        """

    def stream(
        key: str,
        *,
        start: int = 0,
        length: int | None = None,
        if_match: str | None = None,
        encryption: IServerSideEncryption | None = None,
        progress: ProgressCallback | None = None,
    ) -> Iterator[bytes]:
        """The bytes from ``start`` on (``length`` of them; None: to the end) in blocks of at most 4 MB.

        Each block is a request of its own, made when it is asked for: between two nothing is held but the block. A
        connection that breaks goes on behind the last byte. All blocks are of one object: PreconditionFailed where it
        is replaced meanwhile, or does not have the ETag ``if_match``. ObjectMissing comes with the first block.
        """

    # Requests that others make, and addresses. None of them makes a request.

    def presigned_get(
        key: str,
        *,
        seconds: int,
        content_type: str | None = None,
        disposition: str | None = None,
        cache_control: str | None = None,
    ) -> Presigned:
        """A URL by which anybody gets the object for so many seconds, at most ``presign-max-expiry`` of zope.conf.

        ``expires`` of the result says until when. The three others are headers of the answer and part of what is
        signed, of printable ASCII, else ValueError; None: as it is stored, for saving.
        ConfigurationError where the storage encrypts with a customer's key, which no browser may have.
        """

    def presigned_put(key: str, *, seconds: int, size: int, sha256: bytes | None = None) -> Presigned:
        """A URL by which anybody may store just so many bytes under the key; ``headers`` has to be sent along.

        ``sha256``: of just these bytes, where the store compares checksums. Else as ``presigned_get``.
        """

    def presigned_post(key: str, *, seconds: int, most: int, least: int = 0) -> Presigned:
        """A form by which anybody may store ``least`` to ``most`` bytes under the key. Not every store knows that."""

    def durable_url(key: str) -> str:
        """The address below ``public-url-base`` of zope.conf, which is good for ever and for everybody.

        ConfigurationError where none is set. Whether anything is there, and may be read, is not asked.
        """

    def key_from_url(url: str) -> str | None:
        """The key of which ``durable_url`` makes just that address, else None."""
