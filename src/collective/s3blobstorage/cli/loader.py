"""ZConfig's loader, with what a command needs: files only, and a schema that looks at storages alone.

Runs in the thread of the command. Parsing starts nothing and opens no connection; ``%import`` imports the packages that
the file names, as in the site.
"""

from __future__ import annotations

import base64
import functools
import io
import os
from collections.abc import Mapping
from typing import Any

import ZConfig
import ZConfig.loader
import ZConfig.matcher
from ZConfig.cfgparser import ZConfigParser

from .. import encryption_keys, source_keys
from ..config_keys import KEYS, Key

# Everything that may hold a storage. `zodb_db` extends ZODB's section as Zope does (Zope2/Startup/wsgischema.xml).
_STORAGES = """
<schema>
  <import package="ZODB"/>
  <sectiontype name="zodb_db" datatype="ZODB.config.ZODBDatabase" implements="ZODB.database" extends="zodb">
    <multikey name="mount-point" attribute="mount_points"/>
    <key name="connection-class"/>
    <key name="container-class"/>
  </sectiontype>
  <multisection type="ZODB.database" name="*" attribute="databases"/>
  <multisection type="ZODB.storage" name="*" attribute="storages"/>
</schema>
"""


@functools.cache
def storages_schema() -> Any:
    return ZConfig.loadSchemaFile(io.StringIO(_STORAGES))


class FilesLoader(ZConfig.loader.ConfigLoader):
    """A loader that reads files and packages, and never a URL of the network.

    ``stand_ins``: a variable of the environment that is not set gets a value that its key allows, and its name is kept
    in ``unset``. For verifying a file on another machine than the site's; what was read so must not be opened.
    """

    def __init__(self, schema: Any, *, stand_ins: bool = False) -> None:
        super().__init__(schema)
        self.stand_ins = stand_ins
        self.unset: set[str] = set()

        self._first_names: dict[Any, str] = {}  # of the sections inside a section
        self.without_active_key: set[Any] = set()  # sections whose active-key is an unset variable

    def startSection(self, parent: Any, type_: str, name: str | None) -> Any:
        if name:
            self._first_names.setdefault(parent, name)
        return super().startSection(parent, type_, name)

    def endSection(self, parent: Any, type_: str, name: str | None, matcher: Any) -> None:
        if matcher in self.without_active_key and matcher in self._first_names:
            # Which key that would be is not known here; that it must be one of the section's is.
            matcher.addValue(ACTIVE_KEY, self._first_names[matcher], (None, None, self.schema.url))
        super().endSection(parent, type_, name, matcher)

    def openResource(self, url: str) -> Any:
        scheme = str(url).partition(":")[0].lower()
        if scheme not in ("file", "package"):
            raise ZConfig.ConfigurationError(f"%include {url}: only files are read; give the path of a file")
        return super().openResource(url)

    def _parse_resource(self, matcher: Any, resource: Any, defines: dict[str, str] | None = None) -> None:
        parser = _StandInParser if self.stand_ins else ZConfigParser
        parser(resource, self, defines).parse(matcher)


class StoragesLoader(FilesLoader):
    """Reads databases, storages and ``<environment>``, and passes over everything else at the top of the file.

    After ``load*``: ``top`` has the types of all sections at the top, ``environment`` the variables of Zope's section.
    """

    def __init__(self, *, stand_ins: bool = False) -> None:
        super().__init__(storages_schema(), stand_ins=stand_ins)
        self.top: set[str] = set()
        self.environment: dict[str, str] = {}
        self._not_installed: dict[str, str] = {}  # %import that failed: package, reason

    def createSchemaMatcher(self) -> Any:
        return _Top(self.schema)

    def startSection(self, parent: Any, type_: str, name: str | None) -> Any:
        if isinstance(parent, _PassedOver):
            return _PassedOver({})
        if isinstance(parent, _Top):
            self.top.add(type_)
            if type_ == "environment":
                return _PassedOver(self.environment)
            if not _holds_storages(type_):
                return _PassedOver({})
        if type_ not in self.schema.gettypenames():
            if type_ == "relstorage" and "zodb_db" not in self.top:
                self.importSchemaComponent("relstorage")  # as the schemas of zodbconvert and zodbpack do
            self._explain_unknown(type_)
        return super().startSection(parent, type_, name)

    def endSection(self, parent: Any, type_: str, name: str | None, matcher: Any) -> None:
        if not isinstance(matcher, _PassedOver):
            super().endSection(parent, type_, name, matcher)

    def importSchemaComponent(self, pkgname: str) -> None:
        # What is imported for other sections than storages need not be installed here.
        try:
            super().importSchemaComponent(pkgname)
        except ZConfig.SchemaResourceError as error:
            self._not_installed[pkgname] = error.message

    def _explain_unknown(self, type_: str) -> None:
        if type_ in self.schema.gettypenames():
            return
        if type_ == "s3blobstorage":
            advice = (
                "run `s3blobs zope-conf FILE`, which writes %import collective.s3blobstorage in its place"
                if "zodb_s3blobs" in self._not_installed
                else "add a line %import collective.s3blobstorage above it"
            )
            raise ZConfig.ConfigurationError(f"no package that was imported has a section <s3blobstorage>: {advice}")
        unknown = f"no package that was imported has a section <{type_}>"
        if self._not_installed:
            reasons = "; ".join(f"%import {name}: {reason}" for name, reason in self._not_installed.items())
            raise ZConfig.ConfigurationError(f"{unknown} ({reasons})")
        raise ZConfig.ConfigurationError(f"{unknown}: its %import is missing")


def _holds_storages(type_: str) -> bool:
    """Whether a section at the top is a database or a storage, by its name: its package may not be installed."""
    return type_ in ("zodb", "zodb_db") or is_storage(type_)


def is_storage(type_: str) -> bool:
    """Whether a section of that type is a storage: all that ZODB, ZEO, RelStorage and their add-ons have."""
    return type_.endswith("storage") or type_ == "zeoclient"


class _Top(ZConfig.matcher.SchemaMatcher):
    """The file itself: its own keys (``instancehome``, ``debug-mode``, …) are of no interest."""

    def addValue(self, key: str, value: str, position: Any) -> None:
        pass


class _PassedOver:
    """A section that is of no interest, or ``<environment>``, whose lines go into ``values``."""

    def __init__(self, values: dict[str, str]) -> None:
        self.values = values

    def addValue(self, key: str, value: str, position: Any) -> None:
        self.values[key] = value


# What stands for an unset variable where the key must have a value, or goes together with another one.
_STAND_INS: Mapping[str, str] = {
    "bucket-name": "plone-blobs",
    "cache-dir": "/nonexistent/s3blobs",
    "path": "/nonexistent/blobs",
    "cdn-key-pair-id": "UNSET",
    "cdn-url-base": "https://unset.invalid",
    "s3-access-key": "unset",
    "s3-secret-key": "unset",
    "s3-session-token": "unset",
    "s3-sse-customer-key": base64.b64encode(bytes(32)).decode(),
    "file": "/nonexistent/blob-key",
    "value": base64.b64encode(bytes(32)).decode(),
    "command": "unset",
    "kms-key-id": "unset",
}
ACTIVE_KEY = encryption_keys.active_key.name
# Section types of this package and their keys.
_OURS: Mapping[str, Mapping[str, Key]] = {"s3blobstorage": KEYS, **source_keys.KEYS, **encryption_keys.KEYS}
_ELSEWHERE = "1"  # a name, a number, a size, a switch


class _StandInParser(ZConfigParser):
    def handle_key_value(self, section: Any, rest: str) -> None:
        try:
            super().handle_key_value(section, rest)
        except ZConfig.SubstitutionReplacementError as error:
            if os.environ.get(error.name) is not None or f"$({error.name})" not in rest:
                raise  # a %define that is missing
            self.context.unset.add(error.name)
            key = rest.split(None, 1)[0]
            position = (self.lineno, None, self.url)
            if self.stack and key.lower() in _OURS.get(self.stack[-1][0], ()):
                if key.lower() == "s3-secret-key-file":
                    key = "s3-secret-key"
                if key.lower() == ACTIVE_KEY:
                    self.context.without_active_key.add(section)
                if key.lower() in _STAND_INS:
                    section.addValue(key, _STAND_INS[key.lower()], position)
            else:
                section.addValue(key, _ELSEWHERE, position)
