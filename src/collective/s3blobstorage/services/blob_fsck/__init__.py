"""``@blob-fsck``: whether every file that the database needs is there."""
