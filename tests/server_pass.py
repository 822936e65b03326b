"""A pass of run.py over another S3 server: of the tests that use one, those that are worth it, in the tier's share.

``--s3-pass`` with ``--s3 ceph`` or ``--s3 ceph-https``. ``tiers.toml`` has a table per tier and server with the share
of the files, the share of each one's tests, and counts that differ there. Where the server cannot be had, every chosen
test is skipped, and the summary names them.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest
from servers import ceph
from shares import share_of

STORAGE = Path(__file__).parent / "storage"

# They use a server, but show nothing of it: how packages are installed, our own tools, and ways of moving whose
# requests are those of other tests.
SAME_EVERYWHERE = {
    "test_benchmark.py",
    "test_cli_docs.py",
    "test_cli_migrate_storage.py",
    "test_conversion.py",
    "test_installations.py",
    "test_proxy.py",
    "test_rolling_change.py",
}

LEFT_OUT = pytest.StashKey[str]()  # why the whole pass is skipped


def pytest_addoption(parser):
    parser.addoption(
        "--s3-pass",
        action="store_true",
        help="only tests of tests/storage that use the S3 server, and of those the tier's share for --s3",
    )


def uses_the_server(item: pytest.Item) -> bool:
    """The upstream suites are left out: they are about the bases."""
    return item.path.parent == STORAGE and item.path.name not in SAME_EVERYWHERE and "s3_server" in item.fixturenames


@pytest.hookimpl(trylast=True)  # after the tier has left out its bases
def pytest_collection_modifyitems(config, items):
    if not config.getoption("--s3-pass"):
        return
    share, files = config._s3blobs_tier["share"], config._s3blobs_tier["files"]
    modules = defaultdict(list)
    for item in items:
        if uses_the_server(item) and (share == 1 or not item.get_closest_marker("slow")):
            modules[item.path].append(item.nodeid)
    server = config.getoption("--s3")
    wanted = share_of([path.name for path in modules], files, server)
    chosen = set().union(*(share_of(names, share, server) for path, names in modules.items() if path.name in wanted))
    config.hook.pytest_deselected(items=[item for item in items if item.nodeid not in chosen])
    items[:] = [item for item in items if item.nodeid in chosen]
    if server != "ministack":
        ceph.install()
        reason = ceph.available()
        if reason:
            config.stash[LEFT_OUT] = reason
            for item in items:
                item.add_marker(pytest.mark.skip(reason=reason))


def pytest_terminal_summary(terminalreporter, config):
    reason = config.stash.get(LEFT_OUT, "")
    if not reason:
        return
    terminalreporter.section(f"not run on {config.getoption('--s3')}: {reason}")
    names = defaultdict(dict)  # in order, each once
    for report in terminalreporter.stats.get("skipped", ()):
        path, _, name = report.nodeid.partition("::")
        names[path][name.partition("[")[0]] = None
    for path, tests in sorted(names.items()):
        terminalreporter.write_line(f"{path}: {', '.join(tests)}")
