"""Files of lines on the local disk: a plan may be larger than memory.

They have no name, so that nothing is left of them after kill -9; they lie in Python's temporary folder (``TMPDIR``).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ...errors import StagingError

_BUFFER = 1 << 17


class Lines:
    """Written once, line by line, then read as often as wanted, one reader at a time. For one thread at a time."""

    def __init__(self) -> None:
        self._count = 0
        with _disk():
            self.file: BinaryIO = tempfile.TemporaryFile(buffering=_BUFFER, prefix="s3blobs-gc-")  # type: ignore[assignment]

    def __len__(self) -> int:
        return self._count

    def add(self, line: str) -> None:
        """Without its end."""
        self._count += 1
        with _disk():
            self.file.write(line.encode() + b"\n")

    def extend(self, lines: Iterable[str]) -> None:
        """The same for many, by one write."""
        added = list(lines)
        self._count += len(added)
        added.append("")
        with _disk():
            self.file.write("\n".join(added).encode())

    def __iter__(self) -> Iterator[str]:
        self.rewind()
        # By pieces: to decode line by line takes as long as all the rest of reading one.
        while lines := self.file.readlines(_BUFFER):
            yield from b"".join(lines)[:-1].decode().split("\n")

    def rewind(self) -> None:
        with _disk():
            self.file.flush()
            self.file.seek(0)

    @property
    def path(self) -> Path:
        """By which the file can be opened once more, while it is open here."""
        with _disk():
            self.file.flush()
        return Path(f"/dev/fd/{self.file.fileno()}")

    def close(self) -> None:
        self.file.close()

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


@contextmanager
def _disk() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StagingError(
            f"the temporary folder (TMPDIR) does not take what garbage collection has to remember: {error.strerror}"
        ) from None
