"""Read-only sources behind the bucket: where a blob is looked for that the bucket does not have.

Imports nothing of the rest when it is imported, so that parsing a configuration stays cheap.
"""
