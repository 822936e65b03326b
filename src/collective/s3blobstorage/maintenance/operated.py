"""What work on a bucket needs of a storage: of one that is open in a site."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ZODB.interfaces import IMVCCStorage

from ..cache.interfaces import IBlobCache
from ..objectstore.interfaces import IObjectStore
from ..overlay.interfaces import IOverlay
from ..settings import StorageSettings
from ..storage.owner import Marker

if TYPE_CHECKING:
    from .gc.runs import Collection


@dataclass(frozen=True)
class Operated:
    """``look``: the base for reading, newer than the call, in the thread that has it. ``collection``: what gc works on.
    Any thread."""

    store: IObjectStore
    marker: Marker
    settings: StorageSettings
    look: Callable[[], AbstractContextManager[Any]]
    overlay: IOverlay
    cache: IBlobCache
    collection: Callable[[], Collection]


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
