"""Files on the local disk, one per blob revision, shared by the processes of a machine."""

from .blobcache import BlobCache

__all__ = ["BlobCache"]
