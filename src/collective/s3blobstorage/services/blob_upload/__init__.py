"""``@blob-upload``: files that browsers send to the store themselves."""
