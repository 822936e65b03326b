"""Lines for zope.conf that would put a database's blobs into a bucket, from what ZConfig made of its section. Pure.

ZConfig keeps values and not the text that they came from, so the section is written anew: what differs from its
schema's defaults, without comments, and with ``%define`` and variables of the environment replaced.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any

from ..config_keys import KEYS
from .conf_text import IN_MEMORY, SECTION, changed

STEP = "  "
PASSWORD = "$(DATABASE_PASSWORD)"

_HEAD = """\
# In place of <{type}{name}> in zope.conf; its other lines, also %import, stay. Yours to fill in: bucket, endpoint and
# region (on AWS no endpoint), a name for the owner, and the folder of the cache. Secrets come from variables of the
# environment. Docs: configuration.md and migration.md of collective.s3blobstorage.
"""
# What a new section needs, with the example that its documentation has.
_FILLED_IN = ("bucket-name", "s3-endpoint-url", "s3-region", "s3-access-key", "s3-secret-key", "owner", "cache-dir")

_SECRET_KEY = re.compile(r"passw|pwd|secret|token|credential|(?:^|-)key$")
# In a value, as in PostgreSQL's dsn: keyword=value, the value in quotes or with backslashes, or a URL.
_SECRET_IN_VALUE = re.compile(
    r"(?i)(?P<keyword>(?:passw(?:or)?d|pwd)\s*=\s*)(?P<quote>['\"]?)(?:(?<=')(?:\\.|[^'\\])*|(?<=\")(?:\\.|[^\"\\])*"
    r"|(?<!['\"])(?:\\.|[^\s\\])*)"
)
_SECRET_IN_URL = re.compile(r"(://[^:/@\s]*:)\S*(?=@)")


def snippet(database: Any, *, name: str, alone: bool) -> str:
    """The ``<zodb_db>`` of that name with ``<s3blobstorage>`` around its storage, as text for zope.conf.

    ``database`` is ZConfig's factory. ``alone``: whether there is no other database, which then has the bucket's root.
    What keeps blobs today becomes a source, so that none is lost. No secret of the configuration is in it.
    """
    section, storage = database.config, database.config.storage
    lines = [f"<{section.getSectionType()} {name}>", *_keys(section, STEP), f"{STEP}<{SECTION}>"]
    storage, sources = _sources(storage)
    lines += [f"{STEP * 2}{line}" for line in sources]
    lines += [*_section(storage.config, STEP * 2), f"{STEP}</{SECTION}>", f"</{section.getSectionType()}>"]
    values = {key: KEYS[key].example for key in _FILLED_IN}
    if not alone:
        values["s3-prefix"] = re.sub(r"[^A-Za-z0-9._-]", "-", name).strip(".-_") or "database"
    head = _HEAD.format(type=section.getSectionType(), name=f" {name}")
    return head + changed("\n".join(lines) + "\n", values).text


def can_be_written(database: Any) -> bool:
    """Whether that is ZConfig's factory of a database, whose storage tells what ZConfig read."""
    storage = getattr(getattr(database, "config", None), "storage", None)
    return hasattr(getattr(storage, "config", None), "getSectionMatcher")


def in_memory(storage: Any) -> bool:
    """Whether the storage of ZConfig's factory goes with the process, as ``<temporarystorage>``."""
    return storage.config.getSectionType() in IN_MEMORY


def _sources(storage: Any) -> tuple[Any, list[str]]:
    """The storage to be put inside, and the sections of sources for the blobs that it has today."""
    section = storage.config
    blob_dir = getattr(section, "blob_dir", None)
    if blob_dir is None:
        return storage, []
    kind = section.getSectionType()
    if kind in ("relstorage", "zeoclient") and not section.shared_blob_dir:
        return storage, ["<basesource>", "</basesource>"]  # blob-dir is a cache of what the database or server keeps
    source = ["<blobdirsource>", f"{STEP}path {_escaped(os.path.abspath(blob_dir))}", "</blobdirsource>"]
    return (section.base if kind == "blobstorage" else storage), source


def _section(section: Any, margin: str) -> list[str]:
    kind, name = section.getSectionType(), section.getSectionName()
    return [
        f"{margin}<{kind}{f' {name}' if name else ''}>",
        *_keys(section, margin + STEP),
        *_sections(section, margin + STEP),
        f"{margin}</{kind}>",
    ]


def _keys(section: Any, margin: str) -> list[str]:
    found = []
    for key, info in section.getSectionMatcher().type:
        if info.issection():
            continue
        value = getattr(section, info.attribute)
        if info.name == "+":
            pairs = [(name, one) for name, more in value.items() for one in _list(more)]
        elif value is None or value == _default(info):
            continue
        else:
            pairs = [(key, one) for one in _list(value)]
        found += [f"{margin}{_line(name, one)}" for name, one in pairs]
    return found


def _sections(section: Any, margin: str) -> Iterator[str]:
    for key, info in section.getSectionMatcher().type:
        if not info.issection():
            continue
        for one in _list(getattr(section, info.attribute)):
            inner = getattr(one, "config", one)
            if inner is None:
                continue
            if hasattr(inner, "getSectionMatcher"):
                yield from _section(inner, margin)
            else:
                yield f"{margin}# <{key or info.sectiontype.name}>: as it is now"


def _default(info: Any) -> Any:
    default = info.getdefault()
    try:
        if isinstance(default, list):
            return [one.convert(info.datatype) for one in default]
        return None if default is None else default.convert(info.datatype)
    except ValueError:  # no value: what was given is another one
        return None


def _line(key: str, value: Any) -> str:
    text = _text(value)
    if text is None:
        return f"# {key}: as it is now"
    if _SECRET_KEY.search(key.lower()):
        return f"{key} {PASSWORD}"
    text = _SECRET_IN_VALUE.sub(lambda found: f"{found['keyword']}{found['quote']}\0", _escaped(text))
    return f"{key} {_SECRET_IN_URL.sub(lambda found: found[1] + chr(0), text)}".replace("\0", PASSWORD)


def _text(value: Any) -> str | None:
    """The value as a line of ZConfig has it; None where that cannot be told."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float | os.PathLike):
        return str(value)
    address = getattr(value, "address", None)  # ZConfig's socket-address
    if isinstance(address, str):
        return address
    if isinstance(address, tuple) and len(address) == 2:
        host, port = address
        return f"[{host}]:{port}" if ":" in (host or "") else f"{host or ''}:{port}"
    return None


def _escaped(text: str) -> str:
    return text.replace("$", "$$")


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
