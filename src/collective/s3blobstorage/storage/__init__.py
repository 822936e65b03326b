"""A ZODB storage whose blobs are objects of a bucket: two-phase commit, MVCC, undo, restore."""

from .root import S3BlobStorage, open_storage

__all__ = ["S3BlobStorage", "open_storage"]
