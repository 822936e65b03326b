"""What a ZODB record says of its object, read without any class: nothing is imported, nothing of the database runs.

A record is two pickles: the class, and the state. Every global of a pickle becomes an inert stand-in that takes what
the pickle gives it; a persistent reference becomes an oid.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from io import BytesIO
from typing import Any

# Classes of BTrees' nodes: OOBTree, OOBucket, LOBTree, OOTreeSet, OOSet, each also with Py at its end.
_NODE = re.compile(r"BTrees\.[A-Za-z]+BTree\.[OILUQf][OILUQsf](BTree|TreeSet|Bucket|Set)(Py)?")
_HISTORY = ("Products.CMFEditions.", "Products.ZopeVersionControl.")
# Refers to content, and nothing leads from it to a container: every catalog of relations has one for each content.
_PASSED_OVER = ("five.intid.keyreference.",)


class Kind(Enum):
    """What an object is on the way from a blob to its content."""

    ANY = 0
    BTREE = 1  # an inner node of a BTree
    BUCKET = 2
    HISTORY = 3  # what keeps versions of content


@dataclass(frozen=True, slots=True)
class Found:
    """``id``: ``id``, else ``__name__``, else "". ``parent``: the oid of ``__parent__``, where that is stored.

    ``references``: under which name each object is referred to: the attribute, the key of a mapping or BTree, or "".
    Weak references and those into other databases are not among them.
    """

    kind: Kind = Kind.ANY
    id: str = ""
    portal_type: str = ""
    parent: bytes | None = None
    references: tuple[tuple[str, bytes], ...] = ()


class _Reference:
    __slots__ = ("oid",)

    def __init__(self, oid: bytes) -> None:
        self.oid = oid


class _Inert:
    """Stands for every class, function and object of a state: keeps what it is given, calls nothing."""

    __slots__ = ("given",)
    name = ""  # of the class that it stands for

    def __new__(cls, *args: Any, **named: Any) -> _Inert:
        self = object.__new__(cls)
        self.given = [*args, named] if named else list(args)
        return self

    def __init__(self, *args: Any, **named: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        self.given.append(state)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.given.append({key: value})

    def append(self, value: Any) -> None:
        self.given.append(value)

    add = append

    def extend(self, values: Any) -> None:
        self.given.extend(values)


@lru_cache(4096)
def _stand_in(name: str) -> type:
    """One for each class, since the state may use what the class pickle named: both share a memo."""
    return type("_Inert", (_Inert,), {"__slots__": (), "name": name})


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        return _stand_in(f"{module}.{name}")

    def persistent_load(self, reference: Any) -> Any:
        """The forms that ``ZODB.serialize`` describes."""
        if isinstance(reference, tuple) and reference:
            reference = reference[0]
        if isinstance(reference, str):  # written by Python 2
            reference = reference.encode("latin-1")
        return _Reference(reference) if isinstance(reference, bytes) and len(reference) == 8 else None


def read_record(record: bytes) -> Found:
    """What it says; of one that cannot be read, nothing. Never raises."""
    try:
        # latin-1: the strings of a record of Python 2 may be bytes, of which oids are the ones that matter.
        reader = _Reader(BytesIO(record), encoding="latin-1")
        name = _class_name(reader.load())
        if name.startswith(_PASSED_OVER):
            return Found()
        return _found(_kind(name), reader.load())
    except Exception:  # a damaged record, or another wrapper's bytes: a pickle raises whatever its opcodes lead to
        return Found()


def attribute_of(record: bytes, name: str) -> Any:
    """A plain value of that name in the object's state; None where there is none, or it cannot be read."""
    try:
        reader = _Reader(BytesIO(record), encoding="latin-1")
        reader.load()
        state = reader.load()
    except Exception:  # as in ``read_record``
        return None
    value = state.get(name) if isinstance(state, dict) else None
    return value if isinstance(value, bool | int | float | str) else None


def _class_name(described: Any) -> str:
    """Of the forms ``global``, ``(global, args)`` and ``((module, name), args)``."""
    if isinstance(described, tuple) and described:
        described = described[0]
    if isinstance(described, tuple):
        return ".".join(part for part in described if isinstance(part, str))
    return str(getattr(described, "name", ""))


def _kind(name: str) -> Kind:
    if name.startswith(_HISTORY):
        return Kind.HISTORY
    node = _NODE.fullmatch(name)
    if node is None:
        return Kind.ANY
    return Kind.BTREE if node[1] in ("BTree", "TreeSet") else Kind.BUCKET


def _found(kind: Kind, state: Any) -> Found:
    if not isinstance(state, dict):
        return Found(kind, references=tuple(_references(state)))
    id = _text(state.get("id")) or _text(state.get("__name__"))
    above = state.get("__parent__")
    parent = above.oid if isinstance(above, _Reference) else None
    references = []
    for label, oid in _attributes(state) if id else _references(state):
        if not (label == "__parent__" and oid == parent):
            references.append((label, oid))
    return Found(kind, id, _text(state.get("portal_type")), parent, tuple(references))


def _attributes(state: dict[Any, Any]) -> Iterator[tuple[str, bytes]]:
    """Of an object with an id: its fields have names, whatever is inside them."""
    for name, value in state.items():
        for _, oid in _references(value):
            yield _text(name), oid


def _references(value: Any) -> Iterator[tuple[str, bytes]]:
    """All references inside, each with the nearest key or, in a tuple, with what goes before it, as in a bucket."""
    waiting: list[tuple[str, Any]] = [("", value)]
    seen: set[int] = set()
    while waiting:
        label, each = waiting.pop()
        if isinstance(each, _Reference):
            yield label, each.oid
            continue
        if not isinstance(each, (dict, list, tuple, set, frozenset, _Inert)) or id(each) in seen:
            continue
        seen.add(id(each))
        if isinstance(each, dict):
            for key, inner in each.items():
                waiting += ((_text(key) or label, inner), (label, key))
        elif isinstance(each, _Inert):
            waiting += ((label, inner) for inner in each.given)
        else:
            before: Any = None
            for inner in each:
                waiting.append((before if isinstance(each, tuple) and isinstance(before, str) else label, inner))
                before = inner


def _text(value: Any) -> str:
    if not isinstance(value, str):
        return ""
    # Half a surrogate, as names of files that were decoded wrongly have it, is in no database on disk and in no JSON.
    return value if value.isascii() else value.encode("utf-8", "backslashreplace").decode()
