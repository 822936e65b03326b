"""Where the keys of a ring come from: the configuration itself, a file, a program, AWS KMS.

``material`` runs where the ring first needs the key: in the thread that opens a storage. No sentence of these has a
byte of a key, nor what a program was called with: both may be secret.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from zope.interface import implementer

from .. import datatypes
from ..errors import ConfigurationError, Unavailable
from .interfaces import IKeyProvider
from .secret import SecretBytes

# A program that asks a server waits for the network; longer than this a start should not hang on one key.
SECONDS = 30.0

_FORM = "it must be 32 bytes in base64, as made by: s3blobs keys generate"


class _Given:
    """A key that is somewhere as it is, and that nobody keeps for us."""

    id: str
    source: str
    keeps = False

    def make(self) -> bytes:
        raise ConfigurationError(f"the key {self.id} is not made here, but read from {self.source}; {_FORM}")


@implementer(IKeyProvider)
class ValueKey(_Given):
    """What ``value`` said. ``source``: which setting it was."""

    def __init__(self, id: str, material: bytes, source: str) -> None:
        self.id = id
        self.source = source
        self._material = SecretBytes(material)

    def __repr__(self) -> str:
        return f"<ValueKey {self.id}>"

    def material(self, kept: bytes | None) -> bytes:
        return self._material


@implementer(IKeyProvider)
class FileKey(_Given):
    """What a file holds: a secret of Docker or Kubernetes. Which files are taken: ``datatypes.private_file``."""

    def __init__(self, id: str, path: Path) -> None:
        self.id = id
        self.path = path
        self.source = f"file {path}"

    def __repr__(self) -> str:
        return f"<FileKey {self.id} {self.path}>"

    def material(self, kept: bytes | None) -> bytes:
        try:
            return _key(datatypes.private_file(str(self.path), f"<key {self.id}>: file"))
        except ConfigurationError as reason:
            raise ConfigurationError(f"<key {self.id}>: file {str(self.path)!r} {reason}; {_FORM}") from None


@implementer(IKeyProvider)
class CommandKey(_Given):
    """What a program prints. It is run without a shell, with this process's environment and no input.

    ``arguments``: the program and what it is called with.
    """

    def __init__(self, id: str, arguments: Sequence[str]) -> None:
        self.id = id
        self.source = f"command {arguments[0]}"
        self._arguments = tuple(arguments)

    def __repr__(self) -> str:
        return f"<CommandKey {self.id} {self._arguments[0]}>"

    def material(self, kept: bytes | None) -> bytes:
        """Raises Unavailable where the program takes longer than ``SECONDS``."""
        where = f"<key {self.id}>: {self.source}"
        try:
            process = subprocess.Popen(
                self._arguments,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,  # so that what it started itself can be ended with it
            )
        except OSError as error:
            raise ConfigurationError(
                f"{where} cannot be run: {error.strerror}; give the program's whole path"
            ) from None
        with process:
            try:
                printed, complaint = map(SecretBytes, process.communicate(timeout=SECONDS))
            except subprocess.TimeoutExpired:
                _kill(process)
                raise Unavailable(f"{where} did not end within {SECONDS:.0f} s") from None
            except BaseException:
                _kill(process)
                raise
        if process.returncode:
            raise ConfigurationError(f"{where} ended with {process.returncode}{_first_line(complaint)}")
        try:
            return _key(printed)
        except ConfigurationError as reason:
            raise ConfigurationError(f"{where}: what it prints {reason}; {_FORM}") from None


@implementer(IKeyProvider)
class KMSKey:
    """Wrapped by AWS KMS. What asks it is made when it is first needed: a configuration is read without boto3."""

    keeps = True

    def __init__(
        self, id: str, kms_key_id: str, *, region: str | None, endpoint_url: str | None, profile: str | None
    ) -> None:
        self.id = id
        self.source = f"AWS KMS {kms_key_id}"
        self._asked = kms_key_id, {"region": region, "endpoint_url": endpoint_url, "profile": profile}

    def __repr__(self) -> str:
        return f"<KMSKey {self.id} {self._asked[0]}>"

    @cached_property
    def _provider(self) -> IKeyProvider:
        from ..objectstore.kms import KMSProvider

        kms_key_id, where = self._asked
        return KMSProvider(self.id, kms_key_id, **where)

    def material(self, kept: bytes | None) -> bytes:
        return self._provider.material(kept)

    def make(self) -> bytes:
        return self._provider.make()


def _key(text: bytes) -> SecretBytes:
    """Raises ConfigurationError with half a sentence."""
    try:
        return datatypes.key_bytes(text.decode("ascii"))
    except UnicodeDecodeError:
        raise ConfigurationError("has letters outside ASCII") from None


def _first_line(complaint: bytes) -> str:
    """Of what a program printed as its errors, as the end of a sentence."""
    lines = complaint.decode("utf-8", "replace").strip().splitlines()
    shown = "".join(letter for letter in lines[0] if letter.isprintable())[:200] if lines else ""
    return f": {shown}" if shown else ""


def _kill(process: subprocess.Popen[bytes]) -> None:
    """The program, which nobody has waited for so far, and what it started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):  # it changed its user
        process.kill()
