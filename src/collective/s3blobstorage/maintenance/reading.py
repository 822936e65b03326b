"""Objects that are read whole and forgotten, only to see whether they are right: ``keys verify``, ``fsck --deep``."""

from __future__ import annotations

from collections.abc import Callable

from ..objectstore.interfaces import IObjectStore, ObjectInfo
from ..storage.upload import Discard


class _Counted(Discard):
    def __init__(self, moved: Callable[[int], None]) -> None:
        super().__init__()
        self._moved = moved

    def write(self, data: bytes) -> int:
        self._moved(len(data))
        return super().write(data)


def read_whole(
    store: IObjectStore,
    key: str,
    moved: Callable[[int], None],
    *,
    size: int | None = None,
    sha256: bytes | None = None,
) -> ObjectInfo:
    """Read it, and compare it with size and SHA-256, or where these are None with those that its metadata have.

    ``moved(bytes)`` is called as they come: it may make wait. The info has the SHA-256 of what came. Raises as
    ``IObjectStore.get_file``. Any thread.
    """
    return store.get_file(key, _Counted(moved), size=size, sha256=sha256)  # type: ignore[arg-type]
