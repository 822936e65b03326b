"""The keys of one prefix, for programs: the engine of ``s3blobs keys`` over a store that is open."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from zope.interface import implementer

from ..errors import ConfigurationError
from ..interfaces import IKeyRing
from ..objectstore.interfaces import IObjectStore
from .key_states import KeyState, key_states
from .rotate import Report, Rotation
from .usage import Figures, kept_figures


@implementer(IKeyRing)
class StoreKeys:
    """See ``IKeyRing``."""

    def __init__(self, store: IObjectStore, *, writable: bool) -> None:
        self._store = store
        self._writable = writable

    def __repr__(self) -> str:
        return f"<StoreKeys of {self._store!r}>"

    @property
    def mode(self) -> str:
        return self._store.encryption.name

    def list(self) -> tuple[KeyState, ...]:
        return tuple(key_states(self._store))

    def active(self) -> KeyState | None:
        return next((state for state in key_states(self._store) if state.writes), None)

    def coverage(self) -> Figures | None:
        return kept_figures(self._store.unencrypted())  # type: ignore[attr-defined]

    def rotate(
        self,
        convert: bool = False,
        stop: threading.Event | None = None,
        advance: Callable[[int, int], Any] | None = None,
    ) -> Report:
        if not self._writable:
            raise ConfigurationError("read-only is on, and a rotation writes into the bucket: set read-only off")
        rotation = Rotation(self._store, convert=convert, stop=stop or threading.Event())
        with rotation.leased() as lease, rotation.plan() as plan:
            return rotation.execute(plan, lease, advance or _silently)


def _silently(objects: int, size: int) -> None:
    return None
