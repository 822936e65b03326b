"""``@blob-url``: where a program fetches a file, without a byte of it through Zope where that can be."""
