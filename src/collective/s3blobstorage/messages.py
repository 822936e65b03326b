"""Sentences for operators: what an error means and which setting to look at; amounts of bytes. Pure."""

from __future__ import annotations

import re

from . import errors
from .config_keys import KEYS

# Where the message of a store's error names no key. The first that fits counts.
_MENDS: dict[type[Exception], str] = {
    errors.Unavailable: "Look at s3-endpoint-url, the network, and the store itself.",
    errors.Refused: "Look at s3-access-key, s3-secret-key and the policy of these credentials.",
    errors.StoreError: "Look at s3-endpoint-url and at what the store is.",
}


def sentence(error: Exception) -> str:
    """What went wrong and which setting to change, in one line."""
    text = one_line(error)
    if isinstance(error, errors.StoreError):
        return f"{text} {mend(error)}".strip()
    if isinstance(error, (errors.S3BlobStorageError, OSError)):
        return text
    return f"unexpected {type(error).__name__}: {text or 'no message'} (with --debug there is a traceback)"


def mend(error: Exception) -> str:
    """The setting to look at; "" where the message names it, or where it is no error of the store."""
    if any(re.search(rf"(?<![\w-]){key}(?![\w-])", str(error)) for key in KEYS):
        return ""
    return next((advice for kind, advice in _MENDS.items() if isinstance(error, kind)), "")


def byte_count(size: float) -> str:
    """``1536`` as ``1.5 KB``: by 1024, as zope.conf's sizes are read."""
    for unit in ("bytes", "KB", "MB", "GB", "TB"):
        if size < 1024:
            return f"{size:.0f} bytes" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} PB"


def one_line(error: Exception) -> str:
    return " ".join(str(error).split())
