"""Puts ``<s3blobstorage>`` into the text of a zope.conf, zeo.conf or file of storages, or changes it. Pure.

Every line that is not concerned stays as it is, byte by byte; the lines of a storage that gets the section around it
are indented one step more. Doing the same again changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from ..config_keys import KEYS
from ..errors import ConfigurationError
from .conf_lines import Document, Section, document
from .loader import is_storage

PACKAGE = "collective.s3blobstorage"
PREDECESSOR = "zodb_s3blobs"
SECTION = "s3blobstorage"

_DATABASES = ("zodb", "zodb_db")
_COMPRESSING = ("zlibstorage", "serverzlibstorage")
# In the memory of the process: not what somebody means who does not name it.
IN_MEMORY = ("temporarystorage", "mappingstorage")
# What the storages inside would keep blobs with.
_BLOB_KEYS = frozenset(
    "blob-dir shared-blob-dir blob-cache-size blob-cache-size-check blob-cache-size-check-external"
    " blob-chunk-size".split()
)


@dataclass(frozen=True)
class BlobDir:
    """A ``blob-dir`` that no source reads. ``path`` is as the file has it, with ``$NAME`` and ``$(NAME)``."""

    type: str  # of the section: filestorage, zeoclient, relstorage, blobstorage
    path: str
    shared: bool  # zeoclient and relstorage: it is not a cache, but holds the blobs themselves


@dataclass(frozen=True)
class Changed:
    """The text after, which may be the text before, and what its author should know."""

    text: str
    blob_dirs: tuple[BlobDir, ...] = ()
    defines: Mapping[str, str] = field(default_factory=dict)  # %define lines of the file: name in lower case, text


def changed(text: str, values: Mapping[str, str], database: str | None = None, *, blobs_stay: bool = False) -> Changed:
    """``text`` with the section around the storage of ``database``, and its keys set to ``values``.

    ``values`` are as they stand in a file; keys that are not named stay as they are. ``database`` is the name of a
    database or storage, None the only one of the file. Where ``values`` is empty and the file has the section, only
    what belongs to it is put in order: ``%import`` and blob keys of the storages inside. ``blobs_stay``: what has the
    blobs of the storage inside becomes a source. Raises ConfigurationError.
    """
    lines = document(text)
    places = _places(lines)
    present = [section for place in places for section in place.section.tree() if section.type == SECTION]
    edits = _Edits(lines)
    if present and not values and database is None and not blobs_stay:
        wrapped = present
        for place in places:
            _existing(place)  # raises where it is not the outermost
    else:
        place = _chosen(places, database, lines)
        existing = _existing(place)
        sources = _sources(existing or place.section) if blobs_stay else []
        if existing is None:
            wrapped = [place.section]
            _wrap(edits, place.section, values, sources)
        else:
            wrapped = [existing]
            _update(edits, existing, values, sources)
    _import(edits, min((*present, *wrapped), key=lambda section: section.start))
    blob_dirs = [found for section in wrapped for found in _blob_dirs(edits, section, values, blobs_stay)]
    defines = {}
    for line in lines.directives:
        name, *rest = line.value.split(None, 1)
        if line.key == "define":
            defines.setdefault(name.lower(), rest[0] if rest else "")
    return Changed(edits.text(), tuple(blob_dirs), defines)


# Where


@dataclass(frozen=True)
class _Place:
    """A storage that a database or a server has."""

    name: str
    section: Section


def _places(lines: Document) -> list[_Place]:
    found = []
    for section in lines.sections:
        if section.type in _DATABASES:
            name = (section.value("database-name") or section.name or "unnamed").lower()
            found += [_Place(name, inner) for inner in section.sections if is_storage(inner.type)]
        elif is_storage(section.type):
            found.append(_Place(section.name or "unnamed", section))
    return found


def _chosen(places: list[_Place], database: str | None, lines: Document) -> _Place:
    names = ", ".join(place.name for place in places)
    if not places:
        included = [line.value for line in lines.directives if line.key == "include"]
        hint = f"; it includes {', '.join(included)}: name that file instead" if included else ""
        raise ConfigurationError(f"the file has no storage that <{SECTION}> could go around{hint}")
    if database is not None:
        found = [place for place in places if place.name == database.lower()]
        if len(found) != 1:
            raise ConfigurationError(f"--database {database!r} is not in the file, or not once; it has: {names}")
        return found[0]
    found = [place for place in places if place.section.type not in IN_MEMORY]
    if len(places) == 1 or len(found) == 1:
        return (found or places)[0]
    raise ConfigurationError(f"the file has several storages; choose with --database: {names}")


def _existing(place: _Place) -> Section | None:
    for section in place.section.tree():
        if section.type == SECTION:
            outer = section.parent
            if outer is not None and outer.type in _COMPRESSING:
                raise ConfigurationError(
                    f"<{SECTION}> is inside <{outer.type}>, which would compress what it must read: move it outside, "
                    f"so that it goes around <{outer.type}>"
                )
            return section
    return None


# What


class _Edits:
    """Changes by line number, applied all at once by ``text``."""

    def __init__(self, lines: Document) -> None:
        self.document = lines
        self.before: dict[int, list[str]] = {}
        self.after: dict[int, list[str]] = {}
        self.line: dict[int, str] = {}  # "" removes it
        self.indented: list[tuple[int, int, str]] = []

    def replace(self, number: int, content: str) -> None:
        """The line has ``content`` after its indentation and keeps its end."""
        old = self.document.lines[number]
        end = old[len(old.rstrip()) :] if old.endswith("\n") else ""
        self.line[number] = self.document.indent(number) + content + end

    def insert_before(self, number: int, *new: str) -> None:
        self.before.setdefault(number, []).extend(line + self.document.line_end for line in new)

    def insert_after(self, number: int, *new: str) -> None:
        self.after.setdefault(number, []).extend(line + self.document.line_end for line in new)

    def text(self) -> str:
        result: list[str] = []
        for number, line in enumerate(self.document.lines):
            result += self.before.get(number, ())
            changed_line = self.line.get(number, line)
            for start, end, step in self.indented:
                if start <= number <= end and changed_line.strip():
                    changed_line = step + changed_line
            if number in self.after and changed_line and not changed_line.endswith("\n"):
                changed_line += self.document.line_end
            result += (changed_line, *self.after.get(number, ()))
        return "".join(result)


def _wrap(edits: _Edits, section: Section, values: Mapping[str, str], sources: list[_Source]) -> None:
    missing = [name for name in ("bucket-name", "cache-dir") if name not in values]
    if missing:
        options = " and ".join(f"--{name}" for name in missing)
        example = " ".join(f"--{name} {KEYS[name].example}" for name in missing)
        raise ConfigurationError(f"a new <{SECTION}> needs {options}. Example: {example}")
    lines = edits.document
    margin, step = lines.indent(section.start), _step(lines, section)
    name = f" {section.name}" if section.name else ""
    head = [f"{margin}<{SECTION}{name}>", *_key_lines(margin + step, values)]
    head += [line for source in sources for line in source.lines(margin + step, step)]
    if section.type == "blobstorage" and not _on(values.get("keep-in-base")):  # the same, with a folder for a bucket
        edits.replace(section.start, f"<{SECTION}{name}>")
        edits.insert_after(section.start, *head[1:])
        edits.replace(section.end, f"</{SECTION}>")
        return
    edits.insert_before(section.start, *head)
    edits.indented.append((section.start, section.end, step))
    edits.insert_after(section.end, f"{margin}</{SECTION}>")


def _update(edits: _Edits, section: Section, values: Mapping[str, str], sources: list[_Source]) -> None:
    lines = edits.document
    if section.start == section.end:
        raise ConfigurationError(f"line {section.start + 1}: <{SECTION}/> has no storage inside; put it around one")
    last = section.start
    for line in section.keys:
        # Values of one section may stand behind the storage inside; new ones come before it.
        if not section.sections or line.number < section.sections[0].start:
            last = line.number
        if line.key in values and values[line.key] != line.value:
            text = lines.lines[line.number].strip()
            blank = re.match(r"\S+(\s*)", text)[1] or " "  # type: ignore[index]
            edits.replace(line.number, f"{text.split(None, 1)[0]}{blank}{values[line.key]}".rstrip())
    present = {line.key for line in section.keys}
    new = {key: value for key, value in values.items() if key not in present}
    margin = lines.indent(last) if last != section.start else lines.indent(section.start) + _step(lines, section)
    edits.insert_after(last, *_key_lines(margin, new))
    edits.insert_after(last, *(line for source in sources for line in source.lines(margin, _step(lines, section))))


def _key_lines(margin: str, values: Mapping[str, str]) -> list[str]:
    return [f"{margin}{key} {values[key]}".rstrip() for key in KEYS if key in values]


def _step(lines: Document, section: Section) -> str:
    """One step of the file's indentation, as it is around here."""
    inner = [line.number for line in section.keys] + [one.start for one in section.sections]
    pairs = [(section.start, number) for number in sorted(inner)]
    if section.parent is not None:
        pairs.append((section.parent.start, section.start))
    for outside, inside in pairs:
        margin, indent = lines.indent(outside), lines.indent(inside)
        if indent.startswith(margin) and indent != margin:
            return indent[len(margin) :]
    return "  "


@dataclass(frozen=True)
class _Source:
    """A section of a source that reads what a ``blob-dir`` line tells of."""

    path: str | None  # of the folder; None: the database or the ZEO server has the blobs, and the folder is a cache

    def lines(self, margin: str, step: str) -> list[str]:
        if self.path is None:
            return [f"{margin}<basesource>", f"{margin}</basesource>"]
        return [f"{margin}<blobdirsource>", f"{margin}{step}path {self.path}", f"{margin}</blobdirsource>"]


def _source_of(section: Section, path: str) -> _Source:
    cache = section.type in ("zeoclient", "relstorage") and not _on(section.value("shared-blob-dir"))
    return _Source(None if cache else path)


def _sources(outer: Section) -> list[_Source]:
    """For the blobs of the storages in ``outer``, or of itself, those that are no source yet."""
    there = _present_sources(outer)
    inner = [section for section in outer.tree() if section.type != SECTION and section not in outer.sources]
    wanted = [_source_of(section, path) for section in inner if (path := section.value("blob-dir")) is not None]
    if not wanted and not there:
        raise ConfigurationError(
            "the storage has no blob-dir that could become a source: leave out --blobs-stay, or put a <blobdirsource> "
            "into the section, whose path is the folder with the blobs. Example: path /srv/plone/var/blobstorage"
        )
    return [source for source in dict.fromkeys(wanted) if source not in there]


def _present_sources(section: Section) -> set[_Source]:
    return {_Source(None if one.type == "basesource" else one.value("path") or "") for one in section.sources}


def _on(value: str | None) -> bool:
    return (value or "").lower() in ("on", "true", "yes")


def _blob_dirs(edits: _Edits, wrapped: Section, values: Mapping[str, str], blobs_stay: bool) -> list[BlobDir]:
    """Comment out what the storages inside would keep blobs with, unless they shall; the folders that no source reads.

    They shall with ``keep-in-base``, and where a ``<basesource>`` reads the blobs there.
    """
    sources = _present_sources(wrapped)
    if blobs_stay:
        sources |= set(_sources(wrapped))
    if _Source(None) in sources:
        return []
    keep = values.get("keep-in-base", wrapped.value("keep-in-base") if wrapped.type == SECTION else None)
    found: list[BlobDir] = []
    for section in wrapped.tree():
        if section.type == SECTION or section in wrapped.sources:
            continue
        for line in section.keys:
            if line.key in _BLOB_KEYS:
                if not _on(keep):
                    edits.replace(line.number, f"# {edits.document.lines[line.number].strip()}")
                if line.key == "blob-dir" and _source_of(section, line.value) not in sources:
                    found.append(BlobDir(section.type, line.value, _on(section.value("shared-blob-dir"))))
    return found


def _import(edits: _Edits, first: Section) -> None:
    """One ``%import`` of ours before the first section that needs it, in the place of the predecessor's."""
    lines = edits.document
    ours = [line for line in lines.directives if line.key == "import" and line.value in (PACKAGE, PREDECESSOR)]
    kept = ours[0] if ours and ours[0].number < first.start else None
    for line in ours:
        if line is kept:
            if line.value == PREDECESSOR:
                edits.replace(line.number, lines.lines[line.number].strip().replace(PREDECESSOR, PACKAGE))
        elif kept is None or line.value == PREDECESSOR:
            edits.line[line.number] = ""
    if kept is not None:
        return
    top = first.outermost().start
    imports = [line.number for line in lines.directives if line.key == "import" and line.top and line.number < top]
    imports = [number for number in imports if number not in edits.line]
    if imports:
        edits.insert_after(imports[-1], f"{lines.indent(imports[-1])}%import {PACKAGE}")
        return
    above = top
    while above > 0 and lines.is_comment(above - 1):
        above -= 1
    if above == 0:
        above = top  # these comments are about the file
    # Before what is inserted for the section itself, where that is at the top.
    edits.before.setdefault(above, []).insert(0, f"%import {PACKAGE}{lines.line_end}")
    if above == 0 or lines.is_blank(above - 1) or above != top:
        edits.before[above].insert(1, lines.line_end)
