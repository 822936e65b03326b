"""``s3blobs keys``: what is done with the keys of ``<sse-c>`` and ``<client-side-encryption>``. A verb of verbs."""

from __future__ import annotations

import base64
import contextlib
import os
from pathlib import Path

import click

from ..datatypes import KEY
from ..errors import ConfigurationError
from .keys_change import activate, add, retire
from .keys_list import list_
from .keys_rotate import rotate
from .keys_verify import verify


@click.group()
def keys() -> None:
    """Looks after the keys with which blobs are encrypted."""


@click.command()
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write it there, for nobody else to read (mode 600); a file that is there is not overwritten.",
)
def generate(output: Path | None) -> int:
    """Print a new key: 32 bytes at random, in base64, and nothing else.

    Reads no configuration, and tells nobody of the key: keep a copy where a fire does not reach both.
    """
    text = base64.b64encode(os.urandom(KEY)).decode() + "\n"
    if output is None:
        click.echo(text, nl=False)
    else:
        _write_new(output, text)
        click.echo(f"{output}: a new key")
    return 0


def _write_new(file: Path, text: str) -> None:
    """Whole, or not at all: half a key would be taken for one by nobody, but would be in the way of the next try."""
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise ConfigurationError(
            f"--output {str(file)!r} is there already, and may be the only copy of a key; give another name"
        ) from None
    except OSError as error:
        raise ConfigurationError(f"--output {str(file)!r} cannot be written: {error.strerror}") from None
    try:
        with open(descriptor, "w", encoding="ascii") as writing:
            os.fchmod(descriptor, 0o600)  # whatever the umask is
            writing.write(text)
            writing.flush()
            os.fsync(descriptor)
    except OSError as error:
        with contextlib.suppress(OSError):
            file.unlink()
        raise ConfigurationError(f"--output {str(file)!r} cannot be written: {error.strerror}") from None


for _verb in (generate, list_, add, activate, rotate, retire, verify):
    keys.add_command(_verb)
