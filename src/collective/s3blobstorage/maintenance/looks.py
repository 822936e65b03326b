"""Looks at a base that is open and in use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ZODB.interfaces import IMVCCStorage


@contextmanager
def looked_at(base: Any) -> Iterator[Any]:
    """A base that is open and in use, from any thread: an instance of its own where the base has snapshots."""
    if not IMVCCStorage.providedBy(base):
        yield base
        return
    instance = base.new_instance()
    try:
        instance.poll_invalidations()
        yield instance
    finally:
        instance.release()
