"""``@blob-jobs``: long work on a database's blobs, of all kinds."""
