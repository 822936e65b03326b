"""``@blob-legal-hold``: nobody deletes the bytes of an item's files from the bucket, whatever becomes of the item."""
