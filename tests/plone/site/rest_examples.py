"""The exchanges that docs/rest.md records, for tests that repeat them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DOCUMENT = Path(__file__).parents[3] / "docs" / "rest.md"


@dataclass(frozen=True)
class Exchange:
    """``path`` begins with a slash; ``body`` and ``answer`` are the JSON, None where there is none."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any
    status: int
    answered: dict[str, str]
    answer: Any

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


def exchanges(service: str) -> list[Exchange]:
    """All with that service, in the order of the document."""
    blocks = re.findall(r"^```http\n(.*?)^```$", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
    found = []
    for request, answer in zip(blocks[::2], blocks[1::2], strict=True):
        first, headers, body = _message(request)
        status, answered, told = _message(answer)
        method, path, _ = first.split()
        found.append(Exchange(method, path, headers, body, int(status.split()[1]), answered, told))
    return [one for one in found if re.search(rf"/{service}\b", one.path)]


def form(value):
    """What of a recorded answer has to be the same: names, and the kind of each value."""
    if isinstance(value, dict):
        return {name: form(one) for name, one in value.items()}
    if isinstance(value, list):
        return [form(one) for one in value]
    return type(value).__name__


def _message(text: str) -> tuple[str, dict[str, str], Any]:
    head, _, body = text.partition("\n\n")
    first, *lines = head.splitlines()
    return first, dict(line.split(": ", 1) for line in lines), json.loads(body) if body.strip() else None
