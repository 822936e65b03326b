"""Rows on the local disk, for plans that may be larger than memory.

A private database of SQLite's in its temporary folder (``SQLITE_TMPDIR``, else ``TMPDIR``, else ``/var/tmp``): it has
no name there, so nothing is left after kill -9. Sorting spills to the disk too. A row of a blob takes about 100 bytes.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..errors import StagingError

_BATCH = 1000  # rows between two writes
_CACHE_KB = 16 * 1024  # what SQLite keeps in memory of the whole


class Spool:
    """Makes the tables of one run. For one thread at a time; ``close`` forgets everything."""

    def __init__(self) -> None:
        self._connection = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        for setting in ("journal_mode = OFF", "synchronous = OFF", "temp_store = FILE", f"cache_size = -{_CACHE_KB}"):
            self._connection.execute(f"PRAGMA {setting}")
        self._connection.execute("BEGIN")
        self._tables = 0

    def table(self, *columns: str) -> Table:
        """A new, empty table with columns of any of SQLite's types."""
        self._tables += 1
        return Table(self._connection, f"t{self._tables}", columns)

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class Table:
    """Rows in the order in which they were added, or sorted. Raises StagingError where the disk does not take them."""

    def __init__(self, connection: sqlite3.Connection, name: str, columns: tuple[str, ...]) -> None:
        self._connection = connection
        self._name = name
        self._waiting: list[tuple[Any, ...]] = []
        self._count = 0
        self._insert = f"INSERT INTO {name} VALUES ({', '.join('?' * len(columns))})"
        with _disk():
            connection.execute(f"CREATE TABLE {name} ({', '.join(columns)})")

    def __len__(self) -> int:
        return self._count

    def add(self, *row: Any) -> None:
        self._waiting.append(row)
        self._count += 1
        if len(self._waiting) >= _BATCH:
            self._flush()

    def rows(self, *sorted_by: str) -> Iterator[tuple[Any, ...]]:
        """All rows, sorted by those columns and then as they were added. Add none while it is read."""
        self._flush()
        order = ", ".join((*sorted_by, "rowid"))
        with _disk():
            found = self._connection.execute(f"SELECT * FROM {self._name} ORDER BY {order}")
        while True:
            with _disk():
                batch = found.fetchmany(_BATCH)
            if not batch:
                return
            yield from batch

    def index(self, column: str) -> None:
        """Make ``where`` fast. Call it when all rows are there: sorting them once is less work."""
        self._flush()
        with _disk():
            self._connection.execute(f"CREATE INDEX {self._name}_{column} ON {self._name} ({column})")

    def where(self, column: str, value: Any) -> list[tuple[Any, ...]]:
        """The rows with that value there, as they were added. Of a column without ``index`` each call reads all."""
        if self._waiting:
            self._flush()
        try:  # not `_disk`: it takes as long as the rest where a million rows are looked for one by one
            found = self._connection.execute(f"SELECT * FROM {self._name} WHERE {column} = ? ORDER BY rowid", (value,))
            return found.fetchall()
        except sqlite3.OperationalError as error:
            raise _full(error) from None

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        with _disk():
            self._connection.executemany(self._insert, waiting)


@contextmanager
def _disk() -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        raise _full(error) from None


def _full(error: Exception) -> StagingError:
    return StagingError(f"the plan does not fit on the disk of the temporary folder (TMPDIR): {error}")
