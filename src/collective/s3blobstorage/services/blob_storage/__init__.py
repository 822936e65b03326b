"""``@blob-storage``: the status of a database's blobs."""
