"""The disk of cache and staging fails while a blob is committed or read, and docs/faults.md says what comes of it."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sites import bucket_keys, commit_blobs, store_as_json, unfinished_uploads
from ZODB.utils import p64

from collective.s3blobstorage.storage.upload import stage

HERE = Path(__file__).parent
SEED = 20261121
DOCUMENT = HERE.parents[1] / "docs" / "faults.md"

# fault, whether it needs a file system of its own, what the document calls it
FAULTS = {
    "full": (True, "disk of cache and staging full"),
    "full_with_temporary": (True, "the same disk also has `TMPDIR`"),
    "full_everywhere": (False, "every disk full"),
    "read_only": (True, "disk of cache and staging read-only"),
    "truncated": (False, "cache file truncated"),
    "flipped": (False, "byte of a cache file changed"),
    "no_descriptors": (False, "no file descriptors left (EMFILE)"),
}
OPERATIONS = [("commit", "small"), ("commit", "large"), ("read", "small"), ("read", "large")]
CASES = [
    (fault, operation, size)
    for fault in FAULTS
    for operation, size in OPERATIONS
    if operation == "read" or fault not in ("truncated", "flipped")
]


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A file system of 48 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(folder)]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"a file system cannot be mounted here: {made.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def documented() -> dict[tuple[str, str, str], str]:
    lines = [line.split("|") for line in DOCUMENT.read_text(encoding="utf-8").splitlines() if "|" in line]
    rows = {cells[1].strip(): [cell.strip() for cell in cells[2:-1]] for cells in lines}
    return {
        (fault, operation, size): cell
        for fault, (_, name) in FAULTS.items()
        for (operation, size), cell in zip(OPERATIONS, rows[name], strict=True)
    }


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "fault" in metafunc.fixturenames:
        count = metafunc.config._s3blobs_tier["disk_cases"]
        metafunc.parametrize(("fault", "operation", "size"), random.Random(SEED).sample(CASES, min(count, len(CASES))))


def test_the_disk_fails(fault, operation, size, settings, tmp_path, request):
    disk = request.getfixturevalue("small_disk") if FAULTS[fault][0] else None
    store = store_as_json(settings)
    folder = tmp_path / "site"
    temporary = (disk if fault == "full_with_temporary" else tmp_path) / "tmp"
    folder.mkdir(), temporary.mkdir()
    given = {"fault": fault, "operation": operation, "size": size, "store": store, "folder": str(folder)}
    given["disk"] = disk and str(disk)
    done = subprocess.run(
        [sys.executable, str(HERE / "disk_faults.py")],
        input=json.dumps(given),
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE), *sys.path]), "TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    print(done.stderr)
    expected_blobs = {"commits": 3, "reads": 3}.get(done.stdout.strip(), 3 if operation == "read" else 2)
    assert len([key for key in bucket_keys(settings) if "blobs/" in key]) == expected_blobs
    assert unfinished_uploads(settings) == []
    assert done.stdout.strip() == documented()[fault, operation, size]


def test_document_has_every_case():
    cells = documented()
    assert {key for key, cell in cells.items() if cell != "–"} == set(CASES)


def test_a_staging_folder_that_somebody_deleted_is_made_anew(make_site, tmp_path):
    db = make_site("filestorage").db()
    commit_blobs(db, a=b"before")
    shutil.rmtree(db.storage.staging)
    given = tmp_path / "given"
    given.write_bytes(b"data")
    staged = stage(p64(7), given, db.storage.cache)
    assert staged.file.path.parent == db.storage.staging, "and not the machine's temporary folder"
    assert staged.file.path.read_bytes() == b"data" and not given.exists()
    staged.remove_file()
