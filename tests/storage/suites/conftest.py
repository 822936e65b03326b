"""Servers for the upstream suites, the comparison of bare and ours, and its table in the summary."""

from __future__ import annotations

import os
import zlib
from collections import Counter, defaultdict

import pytest
from fixtures_servers import s3_client
from place import BUCKET, place
from reference import known_failure
from upstream import PASSED, SKIPPED, Outcome, Pair, UpstreamTest, run

SECONDS = 60.0  # for one run of one upstream test; most take less than one
LONG_SECONDS = 150.0  # for those that their authors mark as long: their own joins wait up to 120

TABLE = pytest.StashKey[dict]()


def pytest_configure(config):
    config.stash[TABLE] = defaultdict(Counter)


def pytest_pycollect_makeitem(obj):
    """No class in this folder is a test of pytest's: upstream's are run by ``compare`` only."""
    return [] if isinstance(obj, type) else None


def pytest_collection_modifyitems(config, items):
    """In a tier with ``suites_fraction`` below 1, keep that share of each suite over each base: always the same tests.

    ZODB's blob suite over FileStorage, MappingStorage and sqlite is always whole; tests that their authors mark as long
    are in a whole run only.
    """
    fraction = config._s3blobs_tier["suites_fraction"]
    if fraction >= 1:
        return
    kept, left = [], []
    for item in items:
        pair = getattr(item, "callspec", None) and item.callspec.params.get("pair")
        (kept if not isinstance(pair, Pair) or in_fraction(pair, fraction) else left).append(item)
    items[:] = kept
    config.hook.pytest_deselected(items=left)


def in_fraction(pair: Pair, fraction: float) -> bool:
    if pair.suite.startswith("ZODB blobs") and not pair.base.startswith(("postgresql", "zeo")):
        return True
    return not pair.long and zlib.crc32(f"{pair.suite} {pair}".encode()) < fraction * 2**32


def pytest_terminal_summary(terminalreporter, config):
    table = config.stash[TABLE]
    if not table:
        return
    terminalreporter.section("upstream suites")
    line = "{:<18} {:<16} {:>9} {:>9} {:>16} {:>8}"
    terminalreporter.write_line(line.format("suite", "base", "bare", "ours", "only ours fails", "seconds"))
    for (suite, base), counts in sorted(table.items()):
        total = counts["total"]
        bare, ours = (f"{counts[which, PASSED]}/{total}" for which in ("bare", "ours"))
        terminalreporter.write_line(line.format(suite, base, bare, ours, counts["worse"], f"{counts['seconds']:.1f}"))


@pytest.fixture(scope="session")
def _s3(s3_server, s3_front, ca, pytestconfig):
    client = s3_client(s3_server)
    client.create_bucket(Bucket=BUCKET)
    client.close()
    place.s3, place.endpoint_url = s3_server, s3_front
    place.ca_bundle = ca.bundle if s3_front.startswith("https:") else None
    place.encrypt = pytestconfig.getoption("--encrypt")
    yield
    place.s3 = None


@pytest.fixture(scope="session")
def _modes_count(tmp_path_factory):
    """ZODB's blob suite checks that a file without permission cannot be read: not true for root's file override."""
    path = tmp_path_factory.mktemp("modes") / "unreadable"
    path.touch(mode=0)
    if os.access(path, os.R_OK):
        pytest.fail(
            "file modes do not count for this user, so ZODB's blob suite would prove nothing: run pytest by "
            "`setpriv --bounding-set=-dac_override,-dac_read_search python -m pytest`"
        )


@pytest.fixture
def compare(request, tmp_path, _s3, _modes_count):
    """``compare(pair)`` runs an upstream test over the bare base and over ours; fails where only ours fails."""

    def both(pair: Pair) -> None:
        if pair.base.startswith("postgresql"):
            place.postgresql = request.getfixturevalue("postgresql")
        seconds = LONG_SECONDS if pair.long else SECONDS
        bare = one(pair.bare, seconds)
        ours = one(pair.ours, seconds)
        worse = bare.kind == PASSED and ours.kind != PASSED
        counts = request.config.stash[TABLE][pair.suite, pair.base]
        counts.update({"total": 1, "worse": int(worse), ("bare", bare.kind): 1, ("ours", ours.kind): 1})
        counts["seconds"] += bare.seconds + ours.seconds
        if ours.kind == PASSED:
            return
        if worse:
            pytest.fail(f"passes over the bare base, {ours.kind} over ours:\n{ours.detail}", pytrace=False)
        reason = bare.detail if bare.kind == SKIPPED else known_failure(pair)
        if reason is None:
            both_fail = f"fails over both, reference.py does not say why; bare:\n{bare.detail}\nours:\n{ours.detail}"
            pytest.fail(both_fail, pytrace=False)
        pytest.skip(reason)

    def one(test: UpstreamTest, seconds: float) -> Outcome:
        with place.of_test(tmp_path) as folder:
            return run(test, folder, seconds)

    return both
