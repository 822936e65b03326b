"""A pass of run.py over another S3 server, or over encrypted blobs: of the tests that use a server, those that are
worth it, in the tier's share.

``--s3-pass`` with ``--s3 ceph`` or ``ceph-https``, or with ``--encrypt client-side`` or ``sse-c``. ``tiers.toml`` has a
table per tier and pass with the share of the files, the share of each one's tests, and counts that differ there. Where
the server cannot be had, every chosen test is skipped, and the summary names them.

``--encrypt`` also without ``--s3-pass`` leaves out what shows nothing of encryption, or looks into the bucket's
objects.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest
from servers import ceph
from shares import pass_of, share_of

STORAGE = Path(__file__).parent / "storage"

# They use a server, but show nothing of it: how packages are installed, our own tools, and ways of moving whose
# requests are those of other tests.
SAME_EVERYWHERE = {
    "test_addons_docs.py",
    "test_benchmark.py",
    "test_cli_docs.py",
    "test_cli_migrate_storage.py",
    "test_conversion.py",
    "test_installations.py",
    "test_proxy.py",
    "test_rolling_change.py",
}

# Where it counts that blobs are encrypted: committing, reading, undoing, copying, mirroring, collecting.
ENCRYPTED = {
    "test_attaching.py",
    "test_cache_encrypt_storage.py",
    "test_cache_processes.py",
    "test_circuit.py",
    "test_cli_export.py",
    "test_cli_manifest.py",
    "test_cli_migrate.py",
    "test_cli_migrate_compare.py",
    "test_cli_mirror.py",
    "test_cli_rebuild.py",
    "test_concurrency.py",
    "test_copy.py",
    "test_disk_faults.py",
    "test_fault_matrix.py",
    "test_gc.py",
    "test_gc_cases.py",
    "test_gc_model.py",
    "test_hazards.py",
    "test_held_back.py",
    "test_kept_revisions.py",
    "test_kill.py",
    "test_large.py",
    "test_moves.py",
    "test_no_delete.py",
    "test_objectstore_faults.py",
    "test_objectstore_ranges.py",
    "test_parts_processes.py",
    "test_promise.py",
    "test_several_databases.py",
    "test_shared_clients.py",
    "test_sources.py",
    "test_sources_mirror.py",
    "test_sources_processes.py",
    "test_stack.py",
    "test_storage.py",
    "test_undo.py",
}

LEFT_OUT = pytest.StashKey[str]()  # why the whole pass is skipped


def pytest_addoption(parser):
    parser.addoption(
        "--s3-pass",
        action="store_true",
        help="only tests of tests/storage that use the S3 server, and of those the tier's share for --s3 or --encrypt",
    )


def uses_the_server(item: pytest.Item) -> bool:
    """The upstream suites are left out: they are about the bases."""
    return item.path.parent == STORAGE and item.path.name not in SAME_EVERYWHERE and "s3_server" in item.fixturenames


def shows_encryption(item: pytest.Item) -> bool:
    return item.path.name in ENCRYPTED and not item.get_closest_marker("clear")


@pytest.hookimpl(trylast=True)  # after the tier has left out its bases
def pytest_collection_modifyitems(config, items):
    if config.getoption("--encrypt"):
        left = [item for item in items if item.path.parent == STORAGE and not shows_encryption(item)]
        items[:] = [item for item in items if item not in set(left)]
        config.hook.pytest_deselected(items=left)
    if not config.getoption("--s3-pass"):
        return
    share, files = config._s3blobs_tier["share"], config._s3blobs_tier["files"]
    modules = defaultdict(list)
    for item in items:
        if uses_the_server(item) and (share == 1 or not item.get_closest_marker("slow")):
            modules[item.path].append(item.nodeid)
    server = config.getoption("--s3")
    name = pass_of(config)
    wanted = share_of([path.name for path in modules], files, name)
    chosen = set().union(*(share_of(names, share, name) for path, names in modules.items() if path.name in wanted))
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
