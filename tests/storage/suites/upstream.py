"""Tests of other projects, run one by one over a bare base storage and over ours, and compared.

An upstream suite is built twice by the same function: once with factories that return the bare base, once with
factories that wrap it. Each upstream test becomes one pytest item that runs both and fails where only ours fails.
The bare run is the reference; it happens in the same session, right before.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
import traceback
import unittest
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import transaction

PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"


TEARDOWN_SECONDS = 20.0  # a test that was over its time gets this long to clean up, then again


class TookTooLong(BaseException):
    """Raised in the main thread when an upstream test is over its time; says where every thread stands.

    No ``except Exception`` of a test swallows it; unittest records it as the test's error.
    """


@dataclass(frozen=True)
class Outcome:
    """How one run of one upstream test ended; ``detail`` is its traceback or its reason for skipping."""

    kind: str
    detail: str
    seconds: float


@dataclass(frozen=True)
class UpstreamTest:
    """One test case and the zope.testrunner layer it asks for (None for none)."""

    case: unittest.TestCase
    layer: object | None

    @property
    def name(self) -> str:
        """The last parts of its id: ``Class.method``, or the docstring's or text file's name."""
        return ".".join(self.case.id().split(".")[-2:])


@dataclass(frozen=True)
class Pair:
    """One upstream test over the bare base and over ours."""

    suite: str
    base: str
    name: str
    bare: UpstreamTest
    ours: UpstreamTest

    @property
    def long(self) -> bool:
        """Marked by its authors as not of every run (zope.testrunner's level 2)."""
        return getattr(self.bare.case, "level", 1) > 1

    def __str__(self) -> str:
        return f"{self.base}-{self.name}"


def flatten(suite: unittest.TestSuite, layer: object | None = None) -> Iterator[UpstreamTest]:
    """Yield a suite's tests with the layer that zope.testrunner would run each in: the nearest one set around it."""
    layer = getattr(suite, "layer", layer)
    if isinstance(suite, unittest.TestSuite):
        for test in suite:
            yield from flatten(test, layer)
    else:
        yield UpstreamTest(suite, layer)


def pairs(suite: str, base: str, build: Callable[[bool], unittest.TestSuite]) -> list[Pair]:
    """The suite's tests as pairs.

    :param build: makes the suite, over ours where its argument is true; both must hold the same tests
    """
    bare, ours = (list(flatten(build(wrapped))) for wrapped in (False, True))
    names = [test.name for test in bare]
    if not names or names != [test.name for test in ours] or len(set(names)) != len(names):
        raise AssertionError(f"{suite} over {base}: not the same tests, or a name twice, in {sorted(names)}")
    return [Pair(suite, base, name, *both) for name, *both in zip(names, bare, ours, strict=True)]


def run(test: UpstreamTest, folder: Path, seconds: float) -> Outcome:
    """Run one upstream test, once, in ``folder`` (must exist), for at most ``seconds``. Main thread only."""
    result = unittest.TestResult()
    started = time.monotonic()
    with ExitStack() as stack:
        stack.enter_context(as_found(folder))
        stack.enter_context(time_limit(seconds))
        for layer in reversed(layers(test.layer)):
            layer.setUp()
            stack.callback(layer.tearDown)
            layer.testSetUp()
            stack.callback(layer.testTearDown)
        test.case.run(result)
    vars(test.case).clear()  # pytest keeps the case to the end, and with it the case would keep its storages
    took = time.monotonic() - started
    problems = [text for _, text in (*result.errors, *result.failures)]
    if problems or result.unexpectedSuccesses:
        return Outcome(FAILED, "\n".join(problems) or "passed, but is marked as an expected failure", took)
    if result.skipped:
        return Outcome(SKIPPED, result.skipped[0][1], took)
    return Outcome(PASSED, "", took)


def layers(layer: object | None) -> list:
    """The layer and its bases, each once, a layer before its bases."""
    if layer is None:
        return []
    found = [layer]
    for base in layer.__bases__:
        found += [each for each in layers(base) if each not in found]
    return found


@contextmanager
def as_found(folder: Path) -> Iterator[None]:
    """Upstream tests change the process: what they may leave behind when they fail is put back."""
    here, temporary, clock, gmtime = os.getcwd(), tempfile.tempdir, time.time, time.gmtime
    os.chdir(folder)
    tempfile.tempdir = str(folder)
    try:
        yield
    finally:
        os.chdir(here)
        tempfile.tempdir = temporary
        time.time, time.gmtime = clock, gmtime
        transaction.abort()
        transaction.manager.clearSynchs()


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise TookTooLong in the main thread after ``seconds``: locks and sleeps are interrupted by the signal."""

    def expire(signum: int, frame: object) -> None:
        raise TookTooLong(f"not finished after {seconds:g} s\n{all_threads()}")

    before = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds, TEARDOWN_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def all_threads() -> str:
    """Where every thread of the process stands, for a test that hung."""
    return "\n".join(
        f"thread {ident}:\n{''.join(traceback.format_stack(frame)[-8:])}"
        for ident, frame in sys._current_frames().items()
    )
