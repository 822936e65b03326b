"""A file that a command writes: it gets its name when it is whole, so that no reader takes half of it for all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import ConfigurationError


@contextmanager
def hidden(target: Path, option: str, mode: str = "w+b") -> Iterator[Any]:
    """Beside ``target``, as ``.{its name}.…``, with mode 0600: it may have the paths of content.

    ``appear`` gives it its name; without that it goes again, but not after kill -9. Raises ConfigurationError, naming
    the option.
    """
    encoding = None if "b" in mode else "utf-8"
    try:
        file = tempfile.NamedTemporaryFile(  # noqa: SIM115 - below, what its user raises is not about opening it
            mode, dir=target.absolute().parent, prefix=f".{target.name}.", delete=False, encoding=encoding
        )
    except OSError as error:
        raise ConfigurationError(
            f"{option} {target} cannot be written: {error.strerror}; name a file in a folder where this user may write"
        ) from None
    try:
        with file:
            yield file
    finally:
        Path(file.name).unlink(missing_ok=True)


def appear(file: Any, target: Path) -> None:
    """Of what ``hidden`` made: all of it, lasting, in place of what is there."""
    file.flush()
    os.fsync(file.fileno())
    os.replace(file.name, target)
