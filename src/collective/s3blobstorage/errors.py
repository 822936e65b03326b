"""Every error this package raises, as one tree.

::

    S3BlobStorageError
    ├── ConfigurationError            a setting is wrong; the message names the key and the mend
    ├── OwnerError                    the prefix belongs to another site; not opened for writing
    ├── RecordError                   a blob record or a marker is damaged, or of a newer format
    ├── UnsafeError                   garbage collection refuses: a margin of safety is not kept
    ├── InventoryError                an S3 Inventory report cannot stand for a listing; the message says why
    ├── StagingError                  the local disk could not take a file that is being committed
    └── StoreError                    the object store did not do what was asked
        ├── Unavailable               unreachable, too slow, overloaded, 5xx: try again later
        ├── Refused                   401, 403: credentials or a policy are in the way
        │     ├── EncryptionKeyMissing  an object needs a key that this process does not have
        │     └── Archived              an object lies in an archive, and has to be restored before it can be read
        ├── ObjectMissing             404 for one key
        │     └── BlobMissing         also a POSKeyError: what ZODB is told
        ├── PreconditionFailed        409, 412: a conditional request lost
        ├── TooLarge                  an object has more bytes than the caller takes into memory
        ├── Corrupt                   bytes are not the bytes that were stored
        ├── EncryptionNotHonoured     the store's answer does not echo the encryption asked for
        └── RetentionNotHonoured      the store does not say that it keeps a new object for as long as asked for

A missing blob is a ``POSKeyError``; a store that cannot be reached is *not*, since ZODB and Plone treat a
``POSKeyError`` as "gone for good". Messages never hold a bucket, a key, an endpoint or a secret: they reach
visitors. The log, for the operator, has bucket and key; so may an error that is raised while a storage is opened.
"""

from ZODB.POSException import POSKeyError, StorageError


class S3BlobStorageError(Exception):
    """Base of all errors of this package."""


class ConfigurationError(S3BlobStorageError, ValueError):
    """A setting is wrong. The message names the key, its value, what is allowed and an example.

    It is a ``ValueError``, so that ZConfig reports it with file and line.
    """


class OwnerError(S3BlobStorageError):
    """The prefix in the bucket belongs to another owner and was to be opened for writing."""


class RecordError(S3BlobStorageError, StorageError):
    """A blob record, or a marker in the bucket, is damaged or was written by a newer release."""


class UnsafeError(S3BlobStorageError):
    """Garbage collection refuses: a margin of safety is not kept. The message says which, and what to do."""


class InventoryError(S3BlobStorageError):
    """An S3 Inventory report cannot stand for a listing: damaged, too old, of something else, or in another format. The
    message says which, and what to choose. It names bucket and file: only the command reads one."""


class StagingError(S3BlobStorageError, StorageError):
    """The local disk could not take a file that is being committed. The commit aborts; nothing is lost."""


class StoreError(S3BlobStorageError, StorageError):
    """The object store did not do what was asked."""


class Unavailable(StoreError):
    """The store could not be reached, was too slow, or answered 5xx or 503 until the deadline."""


class Refused(StoreError):
    """The store answered 401, 403 or another refusal (4xx, 501) that repeating the request does not change."""


class JobRuns(UnsafeError):
    """A job of that kind runs already, here or elsewhere. ``id``: which."""

    def __init__(self, message: str, id: str = "") -> None:
        super().__init__(message)
        self.id = id


class EncryptionKeyMissing(Refused):
    """An object is encrypted with a key that this process does not have.

    ``id``: which. ``other``: it has one of that id, with other bytes. The message has neither: it reaches visitors.
    """

    def __init__(self, id: str = "", *, other: bool = False) -> None:
        super().__init__("An object is encrypted with a key that this process does not have; the log says which.")
        self.id = id
        self.other = other


class Archived(Refused):
    """An object lies in an archive of the store (GLACIER, DEEP_ARCHIVE): it has to be restored before it can be read,
    which takes minutes to days."""

    def __init__(self) -> None:
        super().__init__(
            "The file lies in an archive of the object store and cannot be read at once: the site's operator can have"
            " it restored (s3blobs restore-archived)."
        )


class ObjectMissing(StoreError):
    """The store answered 404 for the key (or 404 for the bucket: the message tells)."""


class BlobMissing(ObjectMissing, POSKeyError):
    """A blob's object is in neither the bucket nor any other place it may be.

    ``args`` are ``(oid,)`` or ``(oid, tid)`` as of every ``POSKeyError``.
    """

    def __str__(self) -> str:
        return POSKeyError.__str__(self)


class PreconditionFailed(StoreError):
    """A conditional request (``If-None-Match``, ``If-Match``) was answered 409 or 412."""


class TooLarge(StoreError):
    """An object has more bytes than the caller takes into memory."""


class Corrupt(StoreError):
    """Received or stored bytes do not have the size or the checksum that they must have."""


class EncryptionNotHonoured(StoreError):
    """The store's response does not echo the encryption that was asked for."""


class RetentionNotHonoured(StoreError):
    """The store does not say of a new object that it keeps it until the date that was asked for (Object Lock)."""
