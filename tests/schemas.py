"""ZODB's schema of storages with the package's sections in it."""

from __future__ import annotations

import functools
from typing import Any

from ZConfig.loader import ConfigLoader
from ZODB.config import getStorageSchema


@functools.cache
def storage_schema() -> Any:
    """Read once. A text's own ``%import`` finds the sections there; what it does without (2 ms) is shown by
    ``test_config_schemas.py``, in the schemas of each tool.
    """
    loader = ConfigLoader(getStorageSchema())
    loader.importSchemaComponent("collective.s3blobstorage")
    return loader.schema
