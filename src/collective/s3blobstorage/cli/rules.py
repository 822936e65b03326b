"""What would be changed in a bucket's rules, for people."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Rules = Sequence[Mapping[str, Any]]


def changes(before: Rules, after: Rules) -> Iterator[str]:
    """The rules line by line, as JSON, without those that stay."""
    # Dates in rules of others come as such.
    lines = [json.dumps(rules, indent=1, ensure_ascii=False, sort_keys=True, default=str) for rules in (before, after)]
    for line in difflib.unified_diff(*(text.splitlines() for text in lines), n=1, lineterm=""):
        if not line.startswith(("---", "+++", "@@")):
            yield line
