"""Typing a name before something goes for good."""

from __future__ import annotations

import sys


def typed(name: str, what: str) -> bool:
    """Whether ``name`` was typed on standard input. ``what`` happens then: ``to delete 3 files``."""
    print(f"Type {name} {what}: ", end="", file=sys.stderr, flush=True)
    answer = sys.stdin.readline()
    if not sys.stdin.isatty():
        print(file=sys.stderr)  # nobody pressed Enter there, and the next message begins a line
    return answer.strip() == name
