"""Objects of an add-on's own, beside the blobs and out of their reach."""

from .space import ObjectSpace

__all__ = ["ObjectSpace"]
