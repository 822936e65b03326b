"""The machine key of a store's folder: drawn once, kept wrapped by the ring, shared by all processes.

The file ``machine.key`` is JSON: kind, format, the name of the ring's key, and nonce and cipher text (AES-256-GCM under
``RingKey.derived("cache")``) in base64, bound to the folder's store and the key's name. It is readable with any ring
that has the key that wrapped it, whichever is active, and is wrapped anew by a process that opens it with another
active one. Where it is lost, or no key of the ring opens it, a new one is drawn: what the old one encrypted is a cache.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import errno
import json
import logging
import os
from pathlib import Path

from ..encryption.hidden import encrypted, opened
from ..encryption.ring import KeyRing, RingKey
from ..errors import ConfigurationError, Corrupt, EncryptionKeyMissing, StoreError, Unavailable
from .cipher import MachineKey
from .locks import FileLock

logger = logging.getLogger(__name__)

KIND = "collective.s3blobstorage machine key"
FORMAT = 1
_NAME = "machine.key"

# Whoever holds the lock reads and writes some hundred bytes. After that time the disk does not work.
_PATIENCE = 30.0  # seconds

_NOT_YET = "The object store, which has the wrapped keys, has not been reached since the start."


class _Unreadable(Exception):
    """The file is no machine key that the ring opens; the message says why."""


class MachineKeyFile:
    """The key of one folder in one process. ``store``: the folder's name. Any thread may call anything.

    ``waiting``: the ring's keys cannot be read yet. Until ``waiting`` is False nothing is encrypted or decrypted, and
    nothing that lies there is taken for damaged.

    Makes no request, but for a ring whose keys are with somebody else and were not read yet.
    """

    def __init__(self, folder: Path, store: str, ring: KeyRing, *, waiting: bool = False) -> None:
        self.waiting = waiting
        self._path = folder / _NAME
        self._lock = folder / f"{_NAME}.lock"
        self._store = store
        self._ring = ring
        self._file: tuple[int, int] | None = None  # inode and time of the file that was read or written last
        self._settled = False
        self._key = MachineKey.draw()  # until ``settle``: where the disk does not work, nobody else reads our files
        self.replaced = False  # whether files of an earlier key may lie in the folder, which nobody can read any more

    def __repr__(self) -> str:
        return f"<MachineKeyFile {self._store}>"

    @property
    def key(self) -> MachineKey:
        """Raises Unavailable while the ring is waited for."""
        if self.waiting:
            raise Unavailable(_NOT_YET)
        return self._key

    def settle(self) -> None:
        """Have the folder's key, which is there, and make the file where there is none. One caller at a time. Nothing
        while the ring is waited for.

        OSError where the disk does not do it: the process goes on with the key it has. Raises ConfigurationError where
        the file is a newer release's, and what reading the ring's active key raises.
        """
        if self.waiting:
            return
        active = self._ring.active
        lock = FileLock.take(self._lock, wait=_PATIENCE)
        if lock is None:
            raise TimeoutError(errno.ETIMEDOUT, "another process holds the machine key's lock")
        try:
            self._settle(active)
        finally:
            lock.release()

    def _settle(self, active: RingKey) -> None:
        try:
            wrapped_by, key = self._read()
        except FileNotFoundError:
            # The folder is new, or somebody deleted it or the file while we ran: then our key is still that of the
            # other processes. Where we have just started, files that are there are of a key that is lost.
            self.replaced = not self._settled
            self._write(active)
        except _Unreadable as error:
            logger.warning("%s cannot be used (%s): a new one is made, and the cache begins anew", self._path, error)
            self.replaced = True
            self._write(active)
        else:
            self._key = key
            if wrapped_by != active.name:
                self._write(active)
        self._settled = True

    def read_again(self) -> bool:
        """Whether another process put another key into the folder; from now on it is ours too. Never raises."""
        try:
            if _identity(os.stat(self._path)) == self._file:
                return False
            _, key = self._read()
        except (OSError, _Unreadable, ConfigurationError, StoreError):
            return False
        other = key.key != self._key.key
        self._key = key
        return other

    def _read(self) -> tuple[str, MachineKey]:
        with self._path.open("rb") as file:
            identity = _identity(os.fstat(file.fileno()))
            text = file.read(10_000)
        name, sealed = _parsed(text, self._path)
        try:
            wrapping = self._ring.named(name)
        except EncryptionKeyMissing:
            raise _Unreadable(f"the ring has no key {name}") from None
        try:
            key = MachineKey(opened(wrapping.derived("cache"), sealed, self._bound(name)))
        except (Corrupt, ValueError):
            raise _Unreadable("it is damaged, or another folder's") from None
        self._file = identity
        return name, key

    def _write(self, active: RingKey) -> None:
        sealed = encrypted(active.derived("cache"), self._key.key, self._bound(active.name))
        content = {"kind": KIND, "format": FORMAT, "key": active.name, "wrapped": base64.b64encode(sealed).decode()}
        temporary = self._path.with_name(f"{_NAME}.new")  # one at a time, under the lock: a crash leaves one at most
        try:
            with contextlib.suppress(FileNotFoundError):
                temporary.unlink()
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            with open(descriptor, "w") as file:
                json.dump(content, file)
                file.flush()
                os.fsync(file.fileno())  # a crash of the machine must not leave an empty one
                self._file = _identity(os.fstat(file.fileno()))
            os.replace(temporary, self._path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise

    def _bound(self, name: str) -> bytes:
        return f"machine key\0{FORMAT}\0{self._store}\0{name}".encode()


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_ino, status.st_mtime_ns


def _parsed(text: bytes, path: Path) -> tuple[str, bytes]:
    try:
        content = json.loads(text)
        kind, number = content["kind"], int(content["format"])
        if kind == KIND and number > FORMAT:
            raise ConfigurationError(
                f"{os.fspath(path)!r} has format {number}, written by a newer release; this one knows formats up to"
                f" {FORMAT}: delete that file, or name another cache-dir, for example /var/cache/plone"
            )
        name, sealed = str(content["key"]), base64.b64decode(content["wrapped"], validate=True)
    except ConfigurationError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, binascii.Error):
        raise _Unreadable("it is damaged") from None
    if kind != KIND:
        raise _Unreadable("it is something else")
    return name, sealed
