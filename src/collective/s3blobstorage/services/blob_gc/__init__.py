"""``@blob-gc``: garbage collection, the job that deletes."""
