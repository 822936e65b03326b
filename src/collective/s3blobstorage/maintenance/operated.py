"""What work on a bucket needs of a storage: of one that is open in a site."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..cache.interfaces import IBlobCache
from ..objectstore.interfaces import IObjectStore
from ..overlay.interfaces import IOverlay
from ..settings import StorageSettings
from ..storage.owner import Marker

if TYPE_CHECKING:
    from .gc.runs import Collection


@dataclass(frozen=True)
class Operated:
    """``look``: the base for reading, in the thread that has it; of a ZEO client as new as what it was told.
    ``collection``: what gc works on. Any thread."""

    store: IObjectStore
    marker: Marker
    settings: StorageSettings
    look: Callable[[], AbstractContextManager[Any]]
    overlay: IOverlay
    cache: IBlobCache
    collection: Callable[[], Collection]
