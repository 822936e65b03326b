"""``metrics-token-file``: the token with which a program reads the metrics, kept in a file of its own."""

from __future__ import annotations

import hmac
import logging
import os
import re
import threading
from pathlib import Path

from .datatypes import private_file
from .errors import ConfigurationError

logger = logging.getLogger(__name__)

KEY = "metrics-token-file"

# RFC 6750, section 2.1 (b64token). Sixteen characters are too many to try one after the other over HTTP.
_TOKEN = re.compile(r"[A-Za-z0-9\-._~+/]{16,1024}=*")


def read_token(file: Path) -> str:
    """What the file holds, without the line's end. Raises ConfigurationError, which never has it in its message."""
    try:
        token = private_file(os.fspath(file), KEY).decode("ascii", "replace").strip()
        if not token:
            raise ConfigurationError("is empty")
        if not _TOKEN.fullmatch(token):
            raise ConfigurationError("holds no token: 16 to 1,024 letters, digits and -._~+/ in one line")
    except ConfigurationError as reason:
        raise ConfigurationError(
            f"{KEY}: {file} {reason}. Example: openssl rand -hex 32 > {file}; chmod 600 {file}"
        ) from None
    return token


class TokenFile:
    """A file that may change while the process runs. Any thread; the file is read where it changed."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._state: tuple[int, ...] | None = None
        self._token: str | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._file}>"

    def admits(self, token: str) -> bool:
        """Whether it is the one in the file, compared in a time that does not tell how much of it is right.

        False where the file cannot be used; the log says why, once for each state of it.
        """
        known = self._known()
        # A token of nobody's keeps the time the same.
        return hmac.compare_digest(token.encode("utf-8", "replace"), (known or "").encode()) and known is not None

    def _known(self) -> str | None:
        with self._lock:
            state = self._look()
            if self._state is None or state != self._state:
                self._state, self._token = state, None
                try:
                    self._token = read_token(self._file)
                except ConfigurationError as error:
                    logger.error("%s", error)
            return self._token

    def _look(self) -> tuple[int, ...]:
        try:
            status = os.stat(self._file)
        except OSError as error:
            return (-(error.errno or 1),)
        # The time of the change of the inode, too: a mode may be corrected.
        return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
