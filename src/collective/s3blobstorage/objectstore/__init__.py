"""The bucket. The only folder that imports boto3."""

from collective.s3blobstorage.objectstore.store import S3ObjectStore, open_store

__all__ = ["S3ObjectStore", "open_store"]
