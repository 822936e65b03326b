"""The files of ``examples/`` as their platforms would hand them to Zope and ZEO: folders mounted, variables set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

EXAMPLES = Path(__file__).parents[1] / "examples"

# What the entry point of the plone-backend image (skeleton/docker-entrypoint.sh) sets where nobody else did.
ENTRY_POINT = {
    "DEBUG_MODE": "off",
    "SECURITY_POLICY_IMPLEMENTATION": "C",
    "VERBOSE_SECURITY": "off",
    "DEFAULT_ZPUBLISHER_ENCODING": "utf-8",
    "ZOPE_FORM_MEMORY_LIMIT": "4MB",
    "ZODB_CACHE_SIZE": "50000",
    "RELSTORAGE_NAME": "storage",
    "RELSTORAGE_KEEP_HISTORY": "true",
    "RELSTORAGE_COMMIT_LOCK_TIMEOUT": "30",
    "RELSTORAGE_CREATE_SCHEMA": "true",
}

# Absolute folders of the examples, and what they become below a test's folder.
FOLDERS = {
    "/srv/plone/instance": "instance",
    "/srv/plone/var": "var",
    "/var/cache/plone-blobs": "cache",
    "/app": "app",
    "/data": "data",
    "/cache/blobs": "cache",
}


def configuration(name: str, below: Path) -> str:
    """The text of the example ``name`` with its folders below ``below``; those that must be there are made."""
    text = (EXAMPLES / name).read_text(encoding="utf-8")
    for folder, replacement in FOLDERS.items():
        text = text.replace(f" {folder}", f" {below}/{replacement}")
    for folder in ("instance/var", "var/filestorage", "app", "data/filestorage", "data/cache", "cache"):
        (below / folder).mkdir(parents=True, exist_ok=True)
    return text


def variables(below: Path, store: Mapping[str, str]) -> dict[str, str]:
    """The environment of a container: the entry point's variables, the operator's, and how to reach the store."""
    (below / "data" / "client").mkdir(parents=True, exist_ok=True)
    return {**ENTRY_POINT, "CLIENT_HOME": f"{below}/data/client", "S3_OWNER": "production", **store}
