"""ZODB blobs in an S3-compatible object store, transactionally."""
