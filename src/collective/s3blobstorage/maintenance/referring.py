"""How often each shared object is referred to, of a listing of any length: in flat memory.

References lie with their revisions, in the order of oids; shared objects and marks in that of their own names. So the
names of what is referred to are sorted on the local disk (``spool``), and read in step with the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Generic, TypeVar

from .spool import Spool, Table

K = TypeVar("K", str, int)
T = TypeVar("T")


class References:
    """Those of one listing. Makes no file before the first one. For one thread at a time."""

    def __init__(self) -> None:
        self._spool: Spool | None = None
        self._table: Table | None = None

    def __len__(self) -> int:
        return 0 if self._table is None else len(self._table)

    def add(self, shared: str) -> None:
        """One reference to the shared object of that name."""
        if self._table is None:
            self._spool = Spool()
            self._table = self._spool.table("shared TEXT")
        self._table.add(shared)

    def counts(self) -> Iterator[tuple[str, int]]:
        """Names, sorted, and how many references each has. Add none while it is read."""
        if self._table is not None:
            for (shared,), found in groupby(self._table.rows("shared")):
                yield shared, sum(1 for _ in found)

    def close(self) -> None:
        if self._spool is not None:
            self._spool.close()

    def __enter__(self) -> References:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class InStep(Generic[K, T]):
    """Looks names up in pairs that are sorted by name: those that are asked for have to be sorted too."""

    def __init__(self, pairs: Iterable[tuple[K, T]]) -> None:
        self._pairs = iter(pairs)
        self._next = next(self._pairs, None)

    def get(self, name: K) -> T | None:
        while self._next is not None and self._next[0] < name:
            self._next = next(self._pairs, None)
        return self._next[1] if self._next is not None and self._next[0] == name else None
