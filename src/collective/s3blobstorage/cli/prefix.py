"""The store and the owner marker as they are: nothing is written, and nobody becomes the owner, by looking."""

from __future__ import annotations

from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

from .configuration import Database

if TYPE_CHECKING:
    from ..objectstore import S3ObjectStore
    from ..storage.owner import Marker


def looked_at(stack: ExitStack, database: Database, *, writable: bool) -> tuple[S3ObjectStore, Marker | None]:
    """The store, closed with ``stack``, and what the marker says; None where there is none."""
    from ..objectstore import open_store  # here, since it imports boto3
    from ..storage.opening import keys_explained
    from ..storage.owner import read_marker

    store = stack.enter_context(closing(open_store(database.settings.store, read_only=not writable)))
    store.open_bucket(writable=False)
    with keys_explained(store):
        return store, read_marker(store)


def place(database: Database) -> str:
    """Bucket and prefix, for people."""
    store = database.settings.store
    return f"bucket {store.bucket}, prefix {store.prefix or '(none)'}"
