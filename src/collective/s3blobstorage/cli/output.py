"""What the command prints: text for people, or JSON alone; progress on standard error, where that is a terminal."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from ..messages import byte_count

# Columns of a table that goes into a file or a pipe: the terminal's 80 would break paths and messages there.
_WIDTH_OF_FILES = 160


def console() -> Console:
    """Standard output. Colours only where it is a terminal (and NO_COLOR is not set): rich asks itself."""
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
    width = None if sys.stdout.isatty() else _WIDTH_OF_FILES
    return Console(file=sys.stdout, highlight=False, emoji=False, markup=False, width=width)


def sign(ok: bool | None) -> str:
    """✓, ✗ or – (not applicable), in letters where standard output cannot write these."""
    signs = {True: ("✓", "ok"), False: ("✗", "FAILED"), None: ("–", "-")}
    nice, plain = signs[ok]
    try:
        nice.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return plain
    return nice


def print_json(document: Any) -> None:
    print(json.dumps(document, indent=1, ensure_ascii=False))


def print_lines(lines: list[tuple[str, str]]) -> None:
    """What a report says, each after its name."""
    shown = console()
    width = max(len(name) for name, _ in lines)
    for name, value in lines:
        shown.print(f"{name:<{width}}  {value}", soft_wrap=True)


def complain(message: str) -> None:
    """One line on standard error."""
    print(f"s3blobs: {' '.join(message.split())}", file=sys.stderr)


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed or 0.0
        return Text(f"{task.completed:,.0f} objects, {speed:,.0f}/s")


@contextmanager
def counting(what: str) -> Iterator[Any]:
    """``advance(n)`` counts objects on standard error, with their rate; nothing where that is no terminal."""
    shown = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        _Rate(),
        console=Console(file=sys.stderr),
        transient=True,
        disable=not sys.stderr.isatty(),
    )
    with shown:
        task = shown.add_task(what, total=None)
        yield lambda count: shown.advance(task, count)


@contextmanager
def advancing(what: str, total: int) -> Iterator[Any]:
    """``advance(objects, bytes)`` moves a bar over so many objects, with rate, time left and when that will be, on
    standard error, where that is a terminal. Any thread may call it."""
    shown = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        _Of(),
        TimeRemainingColumn(),
        _End(),
        console=Console(file=sys.stderr),
        transient=True,
        disable=not sys.stderr.isatty(),
    )
    with shown:
        task = shown.add_task(what, total=total)
        yield lambda count, size=0: shown.advance(task, count)


class _Of(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed or 0.0
        return Text(f"{task.completed:,.0f} of {task.total or 0:,.0f}, {speed:,.0f}/s")


class _End(ProgressColumn):
    """The hour of this machine's clock at which it ends at that rate."""

    def render(self, task: Task) -> Text:
        if task.time_remaining is None:
            return Text("")
        return Text(f"until {datetime.now() + timedelta(seconds=task.time_remaining):%a %H:%M}")


class _Bytes(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed or 0.0
        return Text(f"{byte_count(task.completed)} of {byte_count(task.total or 0)}, {byte_count(speed)}/s")


@contextmanager
def transferring(what: str, blobs: int, size: int) -> Iterator[Any]:
    """``advance(blobs, bytes)`` moves a bar with rate and time left on standard error, where that is a terminal.

    Any thread may call it.
    """
    shown = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[blobs]:,} of {task.fields[all_blobs]:,}"),
        _Bytes(),
        TimeRemainingColumn(),
        console=Console(file=sys.stderr),
        transient=True,
        disable=not sys.stderr.isatty(),
    )
    with shown:
        task = shown.add_task(what, total=size, blobs=0, all_blobs=blobs)
        done = 0
        lock = threading.Lock()

        def advance(count: int, amount: int) -> None:
            nonlocal done
            with lock:
                done += count
                shown.update(task, advance=amount, blobs=done)

        yield advance


@contextmanager
def working(what: str) -> Iterator[Any]:
    """``say(text)`` shows what is being done on standard error; nothing where that is no terminal."""
    if not sys.stderr.isatty():
        yield lambda text: None
        return
    with Console(file=sys.stderr, markup=False).status(what) as shown:
        yield shown.update
