"""A window on what is stored as the body of a request."""

from __future__ import annotations

import os
from collections.abc import Callable

from collective.s3blobstorage.objectstore.content import Reader
from collective.s3blobstorage.objectstore.interfaces import Cancelled


class Stopped(Exception):
    """Carries what ended a body from this side (a file, a callback), past botocore and the retries. Internal."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(type(cause).__name__)
        self.cause = cause


class FileWindow:
    """``size`` bytes of a ``Content`` from ``start``, seekable.

    ``read`` is a reader of the content; a window, and its reader, belong to one thread. Nothing is held in memory but
    what the reader holds and the block that is asked for.

    botocore reads a body twice over plain http, first to hash it for the signature. Only bytes read after
    ``sending()`` (called by the client's ``before-send`` event) are reported as progress.

    ``asks_first``: whether the store may refuse it before it is sent (``Expect: 100-continue``).
    ``stopped`` holds the exception that ended the reading from this side (``Cancelled``, an error of the disk or of
    ``progress``): botocore wraps what a body raises, the sender looks here for the original.
    """

    def __init__(
        self,
        read: Reader,
        start: int,
        size: int,
        *,
        cancelled: Callable[[], bool] | None = None,
        progress: Callable[[int], None] | None = None,
        asks_first: bool = True,
    ) -> None:
        self.asks_first = asks_first
        self._read = read
        self._start = start
        self._size = size
        self._position = 0
        self._cancelled = cancelled
        self._progress = progress
        self._sending = False
        self._reported = 0
        self.stopped: Exception | None = None

    def __len__(self) -> int:
        return self._size

    def __bool__(self) -> bool:
        return True  # an empty body is still this body: botocore asks `if body`

    def sending(self) -> None:
        """From here on what is read goes over the wire."""
        self._sending = True

    def take_back(self) -> None:
        """The attempt failed: what it reported as progress is reported back, as a negative increment."""
        if self._reported and self._progress is not None:
            self._progress(-self._reported)
        self._reported = 0

    def read(self, amount: int | None = None) -> bytes:
        left = self._size - self._position
        wanted = left if amount is None or amount < 0 else min(amount, left)
        if wanted <= 0:
            return b""
        try:
            if self._cancelled is not None and self._cancelled():
                raise Cancelled()
            block = self._read(wanted, self._start + self._position)
            self._position += len(block)
            if self._sending and self._progress is not None:
                self._reported += len(block)
                self._progress(len(block))
        except Exception as error:
            self.stopped = error
            raise
        return block

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def tell(self) -> int:
        return self._position

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True
