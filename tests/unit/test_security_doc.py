"""docs/security.md names tests that are there."""

from __future__ import annotations

import re
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
SITE = "test_delivery.py"


def named() -> list[tuple[str, str]]:
    """Each test that the document's table names, with its file."""
    found = []
    for line in (REPOSITORY / "docs" / "security.md").read_text().splitlines():
        if line.startswith("| ") and line.count("|") == 6 and not line.startswith("| threat "):
            tests = re.findall(r"`(test_\w+)`(?: \(`(test_\w+\.py)`\))?", line.split("|")[5])
            assert tests, f"no test: {line[:80]}"
            found += [(name, file or SITE) for name, file in tests]
    return found


def test_every_test_is_there():
    files = {path.name: path.read_text() for path in (REPOSITORY / "tests").rglob("test_*.py")}
    missing = [(name, file) for name, file in named() if not re.search(rf"def {name}\(", files[file])]
    assert missing == []
    assert len(named()) > 20
