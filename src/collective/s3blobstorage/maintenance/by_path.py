"""The files that content has, at the paths of their content: links into a blob directory, by a manifest.

Without a database nobody can tell what ``0x20c3/0x040d….blob`` is. Here it is ``by-path/Plone/news/picture.png``.
Content that has files below it, or in several fields, is a folder with ``_image``, its field: no id begins like that.
What a manifest says is not trusted with a path outside of that folder: who can write the bucket can write another one.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ConfigurationError
from .blobdir import BlobDirectory
from .findings import Count
from .manifest import Entry, Manifest
from .spool import Spool, Table

FOLDER, INDEX = "by-path", "by-path.ndjson"
_SCALES = "plone.scale"  # the annotation: scales are made anew
_LONGEST = 255  # bytes of a name, on every file system in use


@dataclass
class Placed:
    """``there``: files that have their path. ``unnamed``: revisions of content with a path that no file can have."""

    there: Count
    unnamed: int = 0


def place(manifest: Manifest, target: Path, directory: BlobDirectory, spool: Spool) -> Placed:
    """Link what content has now to ``{target}/by-path{path}``, and write ``{target}/by-path.ndjson``: a line for each
    with its path, type, field, file, key, size and SHA-256.

    Left out are earlier revisions, deleted content, scales, and what is not in the directory. In the thread of the
    caller, after the files were brought; memory does not grow. What is there from an earlier run is replaced. Raises
    RecordError, StagingError, and ConfigurationError where the disk takes no links.
    """
    placed = Placed(Count())
    try:
        (target / FOLDER).mkdir(mode=0o700, exist_ok=True)
        unfinished = target / f".{INDEX}.{secrets.token_hex(4)}"
        try:
            # Mode 0600: it has the paths of content.
            with open(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as index:
                rows = _named(_newest(_current(manifest, spool, placed)))
                for (path, field, tid, oid, portal_type, size, sha256, key), alone in rows:
                    source, file = directory.file(oid, tid), f"{FOLDER}{path[:-1] if alone else f'{path}_{field}'}"
                    if not source.exists():
                        continue
                    _link(source, target / file)
                    placed.there.add(source.stat().st_size)
                    told = {"path": path[:-1], "type": portal_type, "field": field, "file": file}
                    told |= {"key": key, "size": size, "sha256": None if sha256 is None else sha256.hex()}
                    index.write(json.dumps(told, ensure_ascii=False) + "\n")
                index.flush()
                os.fsync(index.fileno())
            os.replace(unfinished, target / INDEX)
        finally:
            unfinished.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"--to {target} takes no link at {error.filename2 or error.filename}: {error.strerror}; name a new folder,"
            " on a disk that has hard links, or leave out --by-path"
        ) from None
    return placed


def _current(manifest: Manifest, spool: Spool, placed: Placed) -> Table:
    """Paths end with a slash: so what lies below one comes next, and not behind ``/news-2``."""
    table = spool.table(
        "path TEXT", "field TEXT", "tid BLOB", "oid BLOB", "type TEXT", "size INTEGER", "sha256 BLOB", "key TEXT"
    )
    for entry in manifest.entries():
        content = entry.content
        if content is None or content.path is None or content.past or content.field == _SCALES:
            continue
        if not _may_be_a_file(entry):
            placed.unnamed += 1
            continue
        revision = entry.revision
        row: tuple[Any, ...] = (f"{content.path}/", content.field, revision.tid, revision.oid)
        table.add(*row, content.portal_type, revision.size, revision.sha256, entry.key)
    return table


def _newest(table: Table) -> Iterator[tuple[Any, ...]]:
    """Of each path and field the last revision."""
    last = None
    for row in table.rows("path", "field", "tid"):
        if last is not None and row[:2] != last[:2]:
            yield last
        last = row
    if last is not None:
        yield last


def _named(rows: Iterator[tuple[Any, ...]]) -> Iterator[tuple[tuple[Any, ...], bool]]:
    """Each with whether it is the only file at and below its path."""
    before, row = None, next(rows, None)
    while row is not None:
        after = next(rows, None)
        alone = (before is None or before[0] != row[0]) and (after is None or not after[0].startswith(row[0]))
        yield row, alone
        before, row = row, after


def _may_be_a_file(entry: Entry) -> bool:
    content = entry.content
    assert content is not None and content.path is not None
    root, *parts = content.path.split("/")
    return root == "" and bool(parts) and all(_is_name(part) for part in (*parts, f"_{content.field}"))


def _is_name(part: str) -> bool:
    try:
        size = len(part.encode())
    except UnicodeEncodeError:
        return False
    return part not in ("", ".", "..") and not {"/", "\0"} & set(part) and size <= _LONGEST


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Beside it and then over it: a run that is killed leaves the old link or the new one.
    beside = target.with_name(f".{secrets.token_hex(8)}")
    os.link(source, beside)
    try:
        os.replace(beside, target)
    finally:
        beside.unlink(missing_ok=True)  # where both are one file, a rename does nothing (rename(2))
