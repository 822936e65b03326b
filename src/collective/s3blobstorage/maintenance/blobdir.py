"""A ZODB blob directory: which files it has, in order, and how a new one gets into it.

Paths, names and layouts are ``ZODB.blob``'s own. Everything that is no blob file of its layout is passed over.
"""

from __future__ import annotations

import os
import re
from binascii import Error as NoHex
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ZODB.blob import BLOB_SUFFIX, LAYOUT_MARKER, LAYOUTS, FilesystemHelper, set_not_writable
from ZODB.utils import repr_to_oid

from ..errors import ConfigurationError
from .scope import Scope
from .spool import Spool

_BYTE = re.compile(r"0x[0-9a-f]{2}")


@dataclass(frozen=True, slots=True)
class BlobFile:
    """One file: the revision it is of, and its size in bytes."""

    oid: bytes
    tid: bytes
    size: int


class BlobDirectory:
    """An existing blob directory, bushy or lawn. Nothing is kept open; any thread may call anything."""

    def __init__(self, path: Path, layout: str) -> None:
        self.path = Path(os.path.abspath(path))  # as the helper compares them
        self._helper = FilesystemHelper(os.fspath(self.path), layout)

    @classmethod
    def at(cls, path: Path, option: str = "--from") -> BlobDirectory:
        """The one there. Raises ConfigurationError, naming the option, where the path is none."""
        marker = path / LAYOUT_MARKER
        try:
            layout = marker.read_text().strip()
        except FileNotFoundError:
            if not path.is_dir():
                raise ConfigurationError(f"{option} {path}: there is no such folder") from None
            raise ConfigurationError(
                f"{option} {path} is no blob directory: it has no file {LAYOUT_MARKER}. Where it is one of a ZODB"
                " before 3.9, write the word lawn into that file"
            ) from None
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"{option} {path}: {marker} cannot be read: {error}") from None
        if layout not in LAYOUTS:
            raise ConfigurationError(
                f"{option} {path} is a blob directory of layout {layout!r}, as a cache of blobs has it; give the folder"
                " with all blobs, whose layout is bushy or lawn"
            )
        return cls(path, layout)

    @classmethod
    def made(cls, path: Path, option: str = "--to", *, dry_run: bool = False) -> BlobDirectory:
        """The one there, or a new one, bushy, in a folder that is empty or not there yet (then with mode 0700).

        ``dry_run``: nothing is made; a new one is in memory only, and empty.
        """
        marker = path / LAYOUT_MARKER
        try:
            # What a kill while it was made leaves is made anew.
            new = not marker.exists() or not marker.stat().st_size
            if new and path.exists() and set(os.listdir(path)) - {"tmp", LAYOUT_MARKER}:
                raise ConfigurationError(f"{option} {path} holds other things than blobs: name a new or empty folder")
            if new and dry_run:
                return cls(path, "bushy")
            if new:
                path.mkdir(mode=0o700, parents=True, exist_ok=True)
                marker.unlink(missing_ok=True)
                FilesystemHelper(os.fspath(path), "bushy").create()
                _sync(marker)
                _sync(path)
            found = cls.at(path, option)
            if not dry_run:
                found.temporary.mkdir(exist_ok=True)
        except OSError as error:
            raise ConfigurationError(
                f"{option} {path} cannot be written: {error.strerror}; run s3blobs as a user who may, or name another"
                " folder"
            ) from None
        return found

    @property
    def temporary(self) -> Path:
        """ZODB's own folder for temporary files, on the same file system."""
        return Path(self._helper.temp_dir)

    def file(self, oid: bytes, tid: bytes) -> Path:
        """Where the file of that revision is, or would be."""
        return Path(self._helper.getBlobFilename(oid, tid))

    def files(self, scope: Scope, spool: Spool) -> Iterator[BlobFile]:
        """All files within ``scope``, sorted by oid and tid.

        A file or folder that goes while it is read (a pack) is passed over. Raises ConfigurationError where one cannot
        be read. Memory: one folder's names; those of a lawn are sorted in ``spool``.
        """
        try:
            folders = self._lawn(spool) if self._helper.layout_name == "lawn" else self._bushy(self.path, b"", scope)
            for folder in folders:
                yield from self._files_of(folder, scope)
        except OSError as error:
            raise ConfigurationError(
                f"{error.filename or self.path} cannot be read: {error.strerror}; run s3blobs as a user who may read it"
            ) from None

    def _bushy(self, folder: Path, prefix: bytes, scope: Scope) -> Iterator[Path]:
        if len(prefix) == 8:
            yield folder
            return
        for name in sorted(filter(_BYTE.fullmatch, _names(folder))):
            longer = prefix + bytes.fromhex(name[2:])
            if scope.meets(longer):
                yield from self._bushy(folder / name, longer, scope)

    def _lawn(self, spool: Spool) -> Iterator[Path]:
        table = spool.table("oid BLOB", "name TEXT")
        with os.scandir(self.path) as entries:
            for entry in entries:
                if entry.name.startswith("0x") and (oid := _read(entry.name)) is not None:
                    table.add(oid, entry.name)
        return (self.path / name for _, name in table.rows("oid"))

    def _files_of(self, folder: Path, scope: Scope) -> Iterator[BlobFile]:
        try:
            oid = self._helper.getOIDForPath(os.fspath(folder))
        except ValueError:
            return
        if not scope.has(oid):
            return
        found = []
        for name in _names(folder):
            tid = _read(name.removesuffix(BLOB_SUFFIX)) if name.endswith(BLOB_SUFFIX) else None
            # What is not called as ZODB would call it, ZODB does not find.
            if tid is not None and scope.has(oid, tid) and self.file(oid, tid) == folder / name:
                with suppress(FileNotFoundError):
                    found.append(BlobFile(oid, tid, (folder / name).stat().st_size))
        yield from sorted(found, key=lambda file: file.tid)

    def publish(self, temporary: Path, oid: bytes, tid: bytes) -> None:
        """Give a complete file, synced and on this file system, its place: at once, and lasting. OSError.

        A file that is there by now, another run's, stays.
        """
        target = self.file(oid, tid)
        if target.exists():
            return
        made = []
        folder = target.parent
        while not folder.exists():
            made.append(folder)
            folder = folder.parent
        self._helper.createPathForOID(oid)
        os.rename(temporary, target)
        set_not_writable(os.fspath(target))
        for changed in (target.parent, *(new.parent for new in made)):
            _sync(changed)


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _read(text: str) -> bytes | None:
    """Oid or tid of ZODB's own way of writing one."""
    try:
        found = repr_to_oid(text)
    except (ValueError, NoHex):
        return None
    return found if len(found) == 8 else None


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
