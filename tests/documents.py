"""The examples of a page of the documentation, as its tests run them."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"
SECONDS = 300.0  # for one command; the slowest takes 10 on an idle machine


@dataclass(frozen=True)
class Example:
    """A command, what it prints, and its exit status."""

    command: str
    printed: str
    status: int = 0

    def run(self, folder: Path, environment: Mapping[str, str]) -> str:
        """Run it in a shell and hold it to what is said of it; what it printed. Nothing may be on standard error."""
        result = subprocess.run(
            ["bash", "-c", self.command], cwd=folder, env=environment, capture_output=True, text=True, timeout=SECONDS
        )
        printed = f"{self.command}\n{result.stdout}{result.stderr}"
        assert (result.returncode, result.stderr) == (self.status, ""), printed
        assert matches(self.printed, result.stdout), printed
        return result.stdout


def examples(block: str) -> list[Example]:
    """Those of a block ``console``: each begins with a dollar sign, and may have ``[exit status N]`` as a line."""
    found = []
    for example in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, _, printed = example.partition("\n")
        while command.endswith("\\"):
            more, _, printed = printed.partition("\n")
            command = f"{command}\n{more}"
        status = re.search(r"^\[exit status (\d+)\]\n", printed, re.MULTILINE)
        printed = printed.replace(status[0], "") if status else printed
        found.append(Example(command, printed, int(status[1]) if status else 0))
    return found


def matches(expected: str, printed: str) -> bool:
    """Whether they are the same; … stands for anything, and blanks for blanks."""
    pieces = [r"\s+".join(map(re.escape, piece.split())) for piece in expected.split("…")]
    return re.fullmatch(r"\s*" + r"(?s:.*)".join(pieces) + r"\s*", printed) is not None


@dataclass(frozen=True)
class Block:
    """What stands between two fences. ``language``: what stands behind the first."""

    language: str
    text: str


def blocks(text: str) -> list[Block]:
    return [Block(*found) for found in re.findall(r"^```(\w+)[^\n]*\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)]


def section(text: str, title: str) -> str:
    """What stands below the heading ``## title``, up to the next one of its rank."""
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    assert found, f"there is no section {title!r}"
    return found[1]
