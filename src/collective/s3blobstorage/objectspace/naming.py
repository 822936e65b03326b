"""What a key of an object space may be, and a prefix of keys, and metadata. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ..keys import MARKER

LONGEST_KEY = 1024  # bytes of UTF-8, with all prefixes: limit of the protocol
LONGEST_METADATA = 2048  # bytes of names and values: the same

_ALLOWED = (
    "a key is made of parts with one slash between each two; a part is not empty, '.', '..' or '.s3blobs.json', and has"
    " no control characters; example: reports/2026/november.pdf"
)
# Control characters, halves of surrogates, and what XML, the language of listings and deletions, cannot hold.
_NEVER = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
# The last is the owner's marker: one below another prefix says that a whole site lies there.
_NO_PART = frozenset(("", ".", "..", MARKER))

_METADATA_NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
_PRINTABLE = re.compile(r"[\x20-\x7e]*")
_SET_HERE = frozenset(("size", "sha256"))


def check_key(key: str, longest: int) -> str:
    """The key. ``longest``: bytes of UTF-8. Raises ValueError; the message says what is allowed, and not the key."""
    if not isinstance(key, str):
        raise ValueError(f"a key is text, not {type(key).__name__}; {_ALLOWED}")
    if _NEVER.search(key) or any(part in _NO_PART for part in key.split("/")):
        raise ValueError(_ALLOWED)
    if len(key.encode()) > longest:
        raise ValueError(f"a key has at most {longest} bytes of UTF-8 here")
    return key


def check_beginning(beginning: str, longest: int) -> str:
    """Of keys, for a listing: ``""``, or what a key may begin with. Raises ValueError."""
    if not isinstance(beginning, str):
        raise ValueError(f"a prefix is text, not {type(beginning).__name__}; {_ALLOWED}")
    # The last part goes on: '.' may be the beginning of '.hidden'.
    whole = beginning.split("/")[:-1]
    if _NEVER.search(beginning) or any(part in _NO_PART for part in whole):
        raise ValueError(_ALLOWED)
    if len(beginning.encode()) > longest:
        raise ValueError(f"a prefix has at most {longest} bytes of UTF-8 here")
    return beginning


def check_folder(folder: str, longest: int) -> str:
    """A beginning that ends in a slash, or ``""``. Raises ValueError."""
    check_beginning(folder, longest)
    if folder and not folder.endswith("/"):
        raise ValueError(
            "a prefix by which is deleted ends in a slash, since reports/1 is the beginning of reports/10 too;"
            " example: reports/2026/"
        )
    return folder


def check_metadata(metadata: Mapping[str, str] | None) -> dict[str, str]:
    """Raises ValueError."""
    checked = dict(metadata or {})
    for name, value in checked.items():
        if not isinstance(name, str) or _METADATA_NAME.fullmatch(name) is None or name in _SET_HERE:
            raise ValueError(
                "a name of metadata has lower-case letters, digits and, between these, hyphens, and is not size or"
                " sha256; example: report-year"
            )
        check_header(value, "a value of metadata")
        if value != value.strip():
            raise ValueError("a value of metadata neither begins nor ends with a blank")
    if sum(len(name) + len(value) for name, value in checked.items()) > LONGEST_METADATA:
        raise ValueError(f"names and values of metadata have at most {LONGEST_METADATA} bytes in all")
    return checked


def check_header(value: str, what: str) -> None:
    """Raises ValueError."""
    if not isinstance(value, str) or _PRINTABLE.fullmatch(value) is None:
        raise ValueError(f"{what} is of printable ASCII")
