"""The lines of a ZConfig file as a tree of sections: what is where, nothing changed. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from ..errors import ConfigurationError

# As ZConfig.cfgparser reads a line that was stripped.
_NAME = r"[^\s()]+"
_KEY = re.compile(rf"({_NAME})\s*(\S.*)?", re.DOTALL)
_START = re.compile(rf"({_NAME})(?:\s+({_NAME}))?")


@dataclass(frozen=True)
class Line:
    """A key and its value, or a directive (``import``, ``define``, ``include``) and its argument."""

    number: int  # from 0
    key: str  # in lower case
    value: str
    top: bool  # outside of all sections


@dataclass
class Section:
    """``start`` and ``end`` are the numbers of its first and last line, equal for ``<type/>``."""

    type: str
    name: str
    start: int
    parent: Section | None
    end: int = -1
    keys: list[Line] = field(default_factory=list)
    sections: list[Section] = field(default_factory=list)

    def value(self, key: str) -> str | None:
        return next((line.value for line in self.keys if line.key == key), None)

    def tree(self) -> Iterator[Section]:
        """This section and all inside, from the outside to the inside."""
        yield self
        for section in self.sections:
            yield from section.tree()

    @property
    def sources(self) -> list[Section]:
        """The sections of places that blobs are read from, ours."""
        return [section for section in self.sections if section.type in ("blobdirsource", "basesource")]

    def outermost(self) -> Section:
        return self if self.parent is None else self.parent.outermost()


@dataclass
class Document:
    lines: list[str]  # with their ends; all together are the text
    sections: list[Section]
    directives: list[Line]

    @property
    def line_end(self) -> str:
        return "\r\n" if self.lines and self.lines[0].endswith("\r\n") else "\n"

    def indent(self, number: int) -> str:
        line = self.lines[number]
        return line[: len(line) - len(line.lstrip())] if line.strip() else ""

    def is_comment(self, number: int) -> bool:
        return self.lines[number].lstrip().startswith("#")

    def is_blank(self, number: int) -> bool:
        return not self.lines[number].strip()


def document(text: str) -> Document:
    """Raises ConfigurationError, with the line's number, where sections do not nest."""
    lines = re.findall(r"[^\n]*\n|[^\n]+", text)
    found = Document(lines, [], [])
    current: Section | None = None
    for number, raw in enumerate(lines):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        if line.startswith("</"):
            current = _closed(current, line, number)
        elif line.startswith("<"):
            section = _opened(current, line, number)
            (found.sections if current is None else current.sections).append(section)
            if section.end < 0:
                current = section
        else:
            match = _KEY.fullmatch(line.removeprefix("%"))
            if match is None:
                raise _error(number, "it is neither a key, a section nor a directive")  # may be half a secret
            entry = Line(number, match[1].lower(), match[2] or "", current is None)
            if line.startswith("%"):
                found.directives.append(entry)
            elif current is not None:
                current.keys.append(entry)
    if current is not None:
        raise _error(current.start, f"<{current.type}> is not closed")
    return found


def _opened(parent: Section | None, line: str, number: int) -> Section:
    header = line[1:-1]
    empty = header.endswith("/")
    match = _START.fullmatch(header.removesuffix("/").rstrip())
    if match is None or not line.endswith(">"):
        raise _error(number, "the start of a section is malformed")
    section = Section(match[1].lower(), (match[2] or "").lower(), number, parent)
    if empty:
        section.end = number
    return section


def _closed(current: Section | None, line: str, number: int) -> Section | None:
    name = line[2:-1].rstrip().lower()
    if current is None or not line.endswith(">") or name != current.type:
        raise _error(number, f"</{name}> closes no section")
    current.end = number
    return current.parent


def _error(number: int, what: str) -> ConfigurationError:
    return ConfigurationError(f"line {number + 1}: {what}")
