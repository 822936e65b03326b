"""A blob that lies in its record, as a file."""

from __future__ import annotations

import io
import os
from typing import Any, BinaryIO


class InlineFile(io.BytesIO):
    """Reads the bytes of a record; no request, and no file unless ``name`` is used as a path or ``fileno`` is called.

    For one thread at a time, as any file.
    """

    def __init__(self, data: bytes, name: os.PathLike[str], blob: Any = None) -> None:
        super().__init__(data)
        self.name = name
        self.mode = "rb"
        self.blob = blob
        self._real: BinaryIO | None = None

    def writable(self) -> bool:
        return False

    def write(self, data: Any) -> int:
        raise io.UnsupportedOperation("not writable")

    def writelines(self, lines: Any) -> None:
        raise io.UnsupportedOperation("not writable")

    def truncate(self, size: int | None = None) -> int:
        raise io.UnsupportedOperation("not writable")

    def fileno(self) -> int:
        """The descriptor of a cache file with the same bytes, open until this file is closed."""
        if self.closed:
            raise ValueError("I/O operation on closed file")
        if self._real is None:
            self._real = open(self.name, "rb")
        return self._real.fileno()

    def close(self) -> None:
        if not self.closed and self.blob is not None:
            self.blob.closed(self)
        if self._real is not None:
            self._real.close()
        super().close()

    def __reduce__(self) -> Any:
        raise TypeError("Pickling a blob's file is not allowed")

    __reduce_ex__ = __reduce__  # type: ignore[assignment]
