"""Schemas that have packages' sections already: they are read once, and not for each text that is parsed."""

from __future__ import annotations

import functools
from typing import Any

from ZConfig.loader import ConfigLoader
from ZODB.config import getStorageSchema


def with_sections(schema: Any, *packages: str) -> Any:
    """A text's own ``%import`` of one of them finds its sections there; what it does without (2 ms) is shown by
    ``test_config_schemas.py``, in the schemas of each tool.
    """
    loader = ConfigLoader(schema)
    for package in packages:
        loader.importSchemaComponent(package)
    return loader.schema


@functools.cache
def storage_schema() -> Any:
    """ZODB's schema of storages with the package's sections in it."""
    return with_sections(getStorageSchema(), "collective.s3blobstorage")
