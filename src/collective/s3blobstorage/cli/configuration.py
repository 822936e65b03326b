"""``--config FILE``: the ``<s3blobstorage>`` sections of a zope.conf, a zeo.conf, or a file with storages alone.

Reading starts no Zope and opens no connection. Where Zope or ZEO is installed, their own schema reads the file, so that
what they would refuse is refused here with the same words; else only what holds storages is looked at.
Everything runs in the thread of the command.
"""

from __future__ import annotations

import copy
import importlib.util
import io
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

import ZConfig
import ZConfig.loader

from ..config import S3BlobStorageFactory, storage_settings
from ..encryption.key_sources import ValueKey
from ..errors import ConfigurationError
from ..overlay.settings import S3Settings
from ..settings import StorageSettings, StoreSettings
from .loader import FilesLoader, StoragesLoader

T = TypeVar("T")


@dataclass(frozen=True)
class Database:
    """One ``<s3blobstorage>`` section: name of the database or storage it belongs to, and what ZConfig made of it."""

    name: str
    factory: S3BlobStorageFactory

    @property
    def settings(self) -> StorageSettings:
        return self.factory.settings

    @property
    def base_type(self) -> str:
        """``filestorage``, ``relstorage``, …: the type of the section inside."""
        return str(self.factory.config.base.config.getSectionType())


def read(path: Path, *, with_schemas: bool = True) -> list[Database]:
    """All ``<s3blobstorage>`` sections of the file, in its order. Sets the variables of zope.conf's ``<environment>``.

    ``with_schemas``: whether Zope's and ZEO's own schema are used where they are installed. Raises ConfigurationError
    with one sentence, which has file and line where ZConfig knows them.
    """
    return [
        as_now(Database(name, factory))
        for name, storage in read_storages(path, with_schemas=with_schemas)
        for factory in _inside(storage)
    ]


def read_storages(path: Path, *, with_schemas: bool = True) -> list[tuple[str, Any]]:
    """All storages of the file, whatever they are: name of the database or storage, and what ZConfig made of it.

    Sets variables and raises as ``read``.
    """
    url = Path(os.path.abspath(path)).as_uri()
    loader = StoragesLoader()
    root = load(loader, url)
    environment: Mapping[str, str] = loader.environment
    databases, storages = root.databases, root.storages
    if with_schemas and "zodb_db" in loader.top and _installed("Zope2.Startup.options"):
        root = load(FilesLoader(_zope_schema()), url)
        databases, environment = root.databases, dict(root.environment)
    elif with_schemas and "zeo" in loader.top and _installed("ZEO"):
        storages = load(FilesLoader(_zeo_schema()), url).storages
    os.environ.update(environment)
    if "TMPDIR" in environment:
        tempfile.tempdir = None  # else the folder that was found before stays
    return _named(databases, storages)


def choose(databases: list[Database], name: str | None, path: Path) -> Database:
    """The one that ``--database`` names, or the only one."""
    if not databases:
        raise ConfigurationError(
            f"{path} has no <s3blobstorage> section; `s3blobs zope-conf {path}` puts one around its storage"
        )
    by_name = [(database.name, database) for database in databases]
    return choose_named(by_name, name, f"{path} has several <s3blobstorage> sections", path)


def choose_named(found: list[tuple[str, T]], name: str | None, several: str, path: Path) -> T:
    """The one of that name, or the only one."""
    names = ", ".join(each for each, _ in found)
    if name is None and len(found) > 1:
        raise ConfigurationError(f"{several}; choose with --database: {names}")
    chosen = [value for each, value in found if name is None or each == name.lower()]
    if not chosen:
        raise ConfigurationError(f"--database {name!r} is not in {path}; it has: {names}")
    return chosen[0]


def parse_text(text: str, path: Path) -> tuple[list[Database], set[str]]:
    """The sections of ``text`` as if it were in ``path``, and the variables that are not set here.

    For verifying what is about to be written: a variable that is not set does not matter, and nothing is set.
    """
    loader = StoragesLoader(stand_ins=True)
    root = load(loader, Path(os.path.abspath(path)).as_uri(), text)
    found = _named(root.databases, root.storages)
    return [Database(name, factory) for name, storage in found for factory in _inside(storage)], loader.unset


def load(loader: ZConfig.loader.ConfigLoader, url: str, text: str | None = None) -> Any:
    """What the loader makes of the file at ``url``, or of ``text`` in its place. Raises ConfigurationError."""
    try:
        root, _ = loader.loadURL(url) if text is None else loader.loadFile(io.StringIO(text), url)
    except ZConfig.ConfigurationError as error:
        raise ConfigurationError(_sentence(error, url)) from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{_place(url)} is not encoded as UTF-8; save it as UTF-8") from None
    except ImportError as error:
        raise ConfigurationError(
            f"{_place(url)} needs a package that is not installed in this Python ({error})"
        ) from None
    except (ValueError, OSError) as error:
        raise ConfigurationError(f"{_place(url)}: {' '.join(str(error).split())}") from None
    return root


@contextmanager
def opened_read_only(factory: Any) -> Iterator[Any]:
    """The storage that keeps the objects, opened for reading beside whoever writes it; closed at the end.

    A FileStorage takes no lock and sees what was committed until now: open it again where fresh answers matter. A ZEO
    client waits for its server at most as long as ZEO's own default (30 s).
    """
    storage = _read_only(factory).open()
    try:
        yield storage
    finally:
        storage.close()


def _read_only(factory: Any) -> Any:
    """A copy of a storage's factory, and of those inside, that opens for reading and makes nothing.

    Without the persistent cache of a ZEO client (``client``), which is the site's and has what was packed away since.
    """
    config = copy.copy(factory.config)
    if hasattr(config, "base") and hasattr(config.base, "config"):
        config.base = _read_only(config.base)
    if hasattr(config, "factories"):
        config.factories = [_read_only(inner) for inner in config.factories]
    for attribute, value in (("read_only", True), ("create", False), ("create_schema", False), ("client", None)):
        if hasattr(config, attribute):
            setattr(config, attribute, value)
    changed = copy.copy(factory)
    changed.config = config
    return changed


def _named(databases: Any, storages: Any) -> list[tuple[str, Any]]:
    found = []
    for database in databases or ():
        name = database.config.database_name or database.name or "unnamed"
        found.append((name.lower(), database.config.storage))
    for storage in storages or ():
        found.append(((storage.name or "unnamed").lower(), storage))
    return found


def _inside(factory: Any) -> Iterator[S3BlobStorageFactory]:
    """Our sections in a storage: itself, or what it goes around."""
    if isinstance(factory, S3BlobStorageFactory):
        yield factory
        return
    config = getattr(factory, "config", None)
    inner = [getattr(config, "base", None), *(getattr(config, "factories", None) or ())]
    for storage in inner:
        if storage is not None:
            yield from _inside(storage)


def as_now(database: Database) -> Database:
    """The database with the settings that the environment gives now, its secrets known to the redaction."""
    from ..objectstore import redaction  # here, since its package imports boto3

    database.factory.settings = storage_settings(database.factory.config, os.environ)
    settings = database.settings
    for store in (settings.store, *(source.store for source in settings.sources if isinstance(source, S3Settings))):
        redaction.remember([store.secret_key, store.session_token, *_given_keys(store)])
    return database


def _given_keys(store: StoreSettings) -> Iterator[bytes]:
    """Keys that the file itself gives; others are known to nobody before they are read."""
    ring = None if store.encryption is None else store.encryption.ring
    for provider in () if ring is None else ring.providers.values():
        if isinstance(provider, ValueKey):
            yield provider.material(None)


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ImportError:
        return False


def _zope_schema() -> Any:
    from Zope2.Startup.options import ZopeWSGIOptions

    options = ZopeWSGIOptions()
    options.load_schema()
    return options.schema


def _zeo_schema() -> Any:
    return ZConfig.loader.SchemaLoader().loadURL("package:ZEO:schema.xml")


def _place(url: str) -> str:
    return unquote(urlsplit(url).path)


def _sentence(error: ZConfig.ConfigurationError, file: str) -> str:
    """ZConfig's message in one line, with the file as a path, and ``file`` where it names none."""
    text = " ".join(str(error).split())
    url = getattr(error, "url", None)
    if url and url.startswith("file://"):
        text = text.replace(url, _place(url))
    return text if _place(file) in text else f"{text} (in {_place(file)})"
