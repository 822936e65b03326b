"""What keeps this suite fast: its files are in memory, and no test may take more than its share of CPU time.

The bound is no number of seconds, which are others on another machine and beside other work: it is a multiple of what a
fixed piece of work costs, measured when the tests begin.
"""

from __future__ import annotations

import resource
import shutil
import tempfile
import time
from itertools import count
from pathlib import Path

import pytest

MEMORY = Path("/dev/shm")
ROOM = 512 * 1024 * 1024  # bytes; ten times what the largest test needs
PIECES = 600  # pieces of work a test may cost, 3.4 s of a core of 2026: four times what the dearest one takes
BEGUN, PIECE, COSTS = pytest.StashKey[float](), pytest.StashKey[float](), pytest.StashKey[dict]()


class Folders:
    """What tests use of pytest's ``tmp_path_factory``. A number, and no look at what is there, makes a name unique."""

    def __init__(self, base: Path):
        self._base, self._numbers = base, count()

    def getbasetemp(self) -> Path:
        return self._base

    def mktemp(self, basename: str, numbered: bool = True) -> Path:
        path = self._base / (f"{basename}{next(self._numbers)}" if numbered else basename)
        path.mkdir(mode=0o700)
        return path


def in_memory(config) -> bool:
    """With ``--basetemp``, as for a look at what a test left, folders are pytest's own and stay."""
    return not config.option.basetemp and MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ROOM


@pytest.fixture(scope="session")
def tmp_path_factory(tmp_path_factory, pytestconfig):
    """In memory where there is room: half of the time of the tests of the cache was the disk's ``fsync``."""
    if not in_memory(pytestconfig):
        yield tmp_path_factory
        return
    base = Path(tempfile.mkdtemp(prefix="s3blobs-unit-", dir=MEMORY))
    yield Folders(base)
    shutil.rmtree(base, ignore_errors=True)


@pytest.fixture
def tmp_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("test")
    yield path
    if isinstance(tmp_path_factory, Folders):
        shutil.rmtree(path, ignore_errors=True)


def cpu_time() -> float:
    """Seconds of all threads, and of the processes that were waited for."""
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in spent)


def piece_of_work() -> float:
    """CPU time of what an interpreter does all day: calls, numbers, dictionaries."""
    begun = time.process_time()
    found = {}
    for number in range(60_000):
        found[number % 1000] = str(found.get(number % 999, number))
    return time.process_time() - begun


def pytest_collection_finish(session):
    session.config.stash[PIECE] = sorted(piece_of_work() for _ in range(5))[2]
    session.config.stash[BEGUN] = cpu_time()
    session.config.stash[COSTS] = {}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    begun = cpu_time()
    result = yield
    spent = cpu_time() - begun
    item.config.stash[COSTS][item.nodeid] = spent
    pieces = round(spent / item.config.stash[PIECE])
    if pieces > PIECES and item.config._s3blobs_tier.name != "full":  # in full some repeat things for minutes
        pytest.fail(f"{spent:.2f} s of CPU time are {pieces} pieces of work; {PIECES} at most", pytrace=False)
    return result


def pytest_terminal_summary(terminalreporter, config):
    costs = config.stash.get(COSTS, None)
    if costs:
        most, begun, bound = max(costs, key=costs.get), config.stash[BEGUN], PIECES * config.stash[PIECE]
        terminalreporter.write_line(
            f"CPU time of the unit tests: {cpu_time() - begun:.1f} s, and {begun:.1f} s to begin; "
            f"most in one, of at most {bound:.2f} s: {costs[most]:.2f} s, {most}"
        )
