"""What all tests share: the tier of counts, and the line in the summary that prints it."""

from __future__ import annotations

import gc
import os
import tomllib
from collections import defaultdict
from importlib import metadata
from pathlib import Path

import hypothesis
import pytest
from shares import pass_of, share_of

# Until all is collected: nothing that is imported is garbage, and looking for it takes a fifth of the time.
gc.disable()

pytest_plugins = ["fixtures_servers", "server_pass"]

# As tests/storage/sites.py spells them.
ALL_BASES = [
    "filestorage",
    "mappingstorage",
    "demostorage",
    "sqlite-hp",
    "sqlite-hf",
    "postgresql-hp",
    "postgresql-hf",
    "zeo-client",
]
TIERS = tomllib.loads((Path(__file__).parent / "tiers.toml").read_text())


def pytest_addoption(parser):
    parser.addoption(
        "--tier",
        choices=sorted(TIERS),
        default=os.environ.get("S3BLOBS_TIER", "quick"),
        help="how often tests repeat things (tests/tiers.toml); default: quick, or $S3BLOBS_TIER",
    )


class Tier(dict):
    """The counts of one tier; each that a test reads is printed in the summary."""

    def __init__(self, name, counts):
        super().__init__(counts)
        self.name = name
        self.used = {}

    def __getitem__(self, key):
        value = super().__getitem__(key)
        self.used[key] = value
        return value


def pytest_configure(config):
    name = config.getoption("--tier")
    table = TIERS[name]
    counts = {key: value for key, value in table.items() if not isinstance(value, dict)}
    # A machine that stands still for a moment is no failure. The same examples each time, but where all counts run.
    hypothesis.settings.register_profile(
        "tier", deadline=None, derandomize=name != "full", max_examples=table["examples"]
    )
    hypothesis.settings.load_profile("tier")
    if config.getoption("--s3-pass"):
        counts |= table[pass_of(config)]
    config._s3blobs_tier = Tier(name, counts)


def pytest_collection_modifyitems(config, items):
    """Leave out what the tier leaves out; the number is in pytest's last line as `deselected`."""
    tier = config._s3blobs_tier
    bases = tier["bases"]
    wanted = []
    for item in items:
        base = item.callspec.params.get("kind") if hasattr(item, "callspec") else None
        if bases and base in ALL_BASES and base not in bases:
            continue
        if tier.name == "quick" and item.get_closest_marker("slow"):
            continue
        if tier.name != "full" and item.get_closest_marker("one_release") and not _newest_plone():
            continue
        wanted.append(item)
    kept = set(wanted) if config.getoption("--s3-pass") else _in_share(wanted, TIERS[tier.name].get("shares", {}))
    left = [item for item in items if item not in kept]
    if left:
        items[:] = [item for item in items if item in kept]
        config.hook.pytest_deselected(items=left)


def pytest_collection_finish(session):
    gc.enable()
    gc.collect()
    gc.freeze()  # what was collected stays to the end: a gc.collect() of a test need not look through it again


def _newest_plone():
    release = metadata.version("Products.CMFPlone").split(".")
    return tuple(map(int, release[:2])) >= (6, 2)


def _in_share(items, shares):
    """Of each file that has a share in the tier, itself or by its folder, that part of its tests, at least one; of any
    other file all."""
    modules = defaultdict(list)
    for item in items:
        modules[item.path].append(item)
    kept = set()
    for path, tests in modules.items():
        share = shares.get(path.name, shares.get(f"{path.parent.name}/", 1))
        chosen = share_of([item.nodeid for item in tests], share, "tier")
        kept.update(item for item in tests if item.nodeid in chosen)
    return kept


@pytest.fixture(scope="session")
def tier(pytestconfig) -> Tier:
    return pytestconfig._s3blobs_tier


def pytest_terminal_summary(terminalreporter, config):
    tier = config._s3blobs_tier
    used = ", ".join(f"{key} {value}" for key, value in sorted(tier.used.items()))
    terminalreporter.write_line(f"tier {tier.name}: {used or 'no counts used'}")
