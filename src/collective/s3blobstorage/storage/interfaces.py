"""The contract of the storage: who calls what, when, in which thread, and what is raised.

Two objects speak to ZODB. The *root* is what zope.conf's section opens: ``ZODB.DB``, a ZEO server, zodbconvert and
the class suites hold it. *Instances* are what ``ZODB.Connection`` and ``DB.undo`` use, one thread at a time each.

Writing, on an instance
    ``tpc_begin`` notes the transaction; the base does not hear of it. ``store``, ``storeBlob``, ``undo``,
    ``deleteObject`` and ``checkCurrentSerialInTransaction`` are queued; the upload of a blob starts in ``storeBlob``,
    in a pool. ``tpc_vote`` waits for the uploads (of all transactions of its thread, before any base begins), then
    begins the base, replays the queue and votes. So errors that a base raises in ``store`` (ConflictError) come from
    ``tpc_vote``; ReadOnlyError and StorageTransactionError come at the first call.

Writing, on the root
    Every call goes to the base at once and returns what the base returns. ``storeBlob`` hashes the file first, since
    the record goes to the base there and then; with ``dedup`` it also makes the two requests that tell which shared
    object the record names (``sharing.reserve``).

Reading
    ``loadBlob`` returns the path of a complete, checked, read-only file. BlobMissing (a POSKeyError) where the record
    or the object does not exist; Unavailable, Refused, Corrupt where the store fails: never POSKeyError.

Aborting
    ``tpc_abort`` of a foreign transaction is ignored. Objects that this transaction created under names it drew itself
    are deleted in the background; of a blob that shares an object only its references are. After the base's
    ``tpc_finish`` was attempted nothing is deleted.
"""

from __future__ import annotations

from zope.interface import Attribute, Interface


class IBlobObjects(Interface):
    """What the storage offers to tools and to the layers below the line of DESIGN.md, besides ZODB's interfaces."""

    site_operations = Attribute("bool: whether zope.conf lets the managers of a site operate the whole database")

    def admits_to_metrics(token: str) -> bool:
        """Whether a program that sends this token may read the database's metrics (metrics-token-file)."""

    def read_record(oid: bytes, tid: bytes) -> bytes:
        """The record of exactly that revision. BlobMissing where the base has none. Any thread."""

    def locate(oid: bytes, tid: bytes) -> object:
        """Where that revision's data is: a ``reading.Location``. Reads one record, makes no request. Any thread."""

    def space(name: str, *, writable: bool = True) -> object:
        """Objects of that add-on's own in this database's bucket: an ``IObjectSpace``. Any thread, no request.

        ``writable``: False refuses what writes, beside what ``read-only`` refuses. ValueError where it is no name.
        """

    def upload_area(*, writable: bool = True) -> object:
        """Where browsers put files: an ``IUploadArea`` (``directupload/interfaces.py``). Any thread, no request."""

    def status(name: str = "", *, writable: bool = True) -> object:
        """What is known of it: an ``IStatus`` (``status/interfaces.py``). ``name``: of the database. Any thread."""

    def jobs(*, writable: bool = True) -> object:
        """Long work on it: an ``IJobs`` (``maintenance/jobs/interfaces.py``). Any thread, no request."""

    def holds(*, writable: bool = True) -> object:
        """Legal holds of its blobs: a ``Holds`` (``maintenance/holds.py``). Any thread, no request."""

    def key_ring(*, writable: bool = True) -> object:
        """The keys that encrypt its blobs: an ``IKeyRing`` of the package. Any thread, no request."""

    def sources() -> object:
        """The sources behind its bucket: an ``IBlobOverlay`` of the package. Any thread, no request."""


class IBlobAddresses(Interface):
    """What a connection's storage offers to those who send browsers to the bucket. In the connection's thread."""

    delivery = Attribute("settings.DeliverySettings: what zope.conf allows, also for what has no address")

    def address(oid: bytes) -> object | None:
        """Where the revision that this connection sees lies in the bucket: an ``address.Address``.

        None where it is not there, or nobody can tell: whoever asks then reads the blob. Loads its record, never the
        blob, and makes no request where no source is configured (``Addresses.of``). POSKeyError where there is no
        such object; BlobMissing where it is no blob, RecordError where its record is damaged.
        """


class IBlobAttaching(Interface):
    """What a connection's storage offers to those who have a blob's bytes in the bucket already (direct uploads).

    In the connection's thread, within a transaction. ``attaching.attach`` is what they call: it knows the blob's side.
    """

    attaches = Attribute("bool: whether it takes a copy; not where the base has to get the bytes too (keep-in-base)")

    def attach(oid: bytes, staged: object) -> object:
        """Copy ``staged`` (an ``IAttachable``) to the key of a new revision of that oid, now: an ``Attachment``.

        It holds no lock. Nothing of it is committed until ``storeBlob`` gets the attachment's path; what is not
        committed by the end of the transaction is deleted again, in the background. Raises what ``copy_to`` raises,
        ReadOnlyError, and BlobError where it is copied to another storage's bucket or prefix.
        """

    def attached() -> dict:
        """What is attached now, by oid, for a savepoint; without what ``storeBlob`` has taken."""

    def restore_attached(attached: dict) -> None:
        """What was attached when a savepoint was made is it again, and nothing else. Nothing is deleted yet."""
