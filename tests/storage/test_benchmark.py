"""The benchmark runs from end to end with tiny counts. What it says of speed means nothing here."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from run_py import REPOSITORY

# Of each kind the row with the fewest processes: counts behind the delay, bare requests, two writers, the base, memory.
ROWS = ["cold-read", "commit-small", "size", "other-writer", "commits", "memory-write", "memory-read"]


@pytest.fixture(scope="module")
def made(s3_server, tmp_path_factory) -> dict[str, list[dict]]:
    """The table's lines by row. ``s3_server``, so that a machine without MiniStack fails as every other test does."""
    folder = tmp_path_factory.mktemp("benchmark")
    command = [sys.executable, "benchmarks/storage.py", "--quick", "--folder", str(folder), "--json", f"{folder}/made"]
    for name in ROWS:
        command += ["--only", name]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in folder.iterdir()] == ["made"]  # nothing else is left
    found: dict[str, list[dict]] = {}
    for line in json.loads((folder / "made").read_text()):
        assert f"| {line['row']} | {line['title']} |" in done.stdout
        found.setdefault(line["row"], []).append(line)
    return found


def test_every_row_that_was_asked_for_is_there(made):
    assert list(made) == ROWS


def test_a_cold_read_makes_one_request_per_blob(made):
    lines = [line for line in made["cold-read"] if line["target"].endswith("requests")]
    assert [(line["figure"], line["met"]) for line in lines] == [("8 requests", True)]


def test_the_size_of_a_cold_blob_needs_no_request(made):
    line = made["size"][0]
    assert (line["figure"], line["value"], line["met"]) == ("0 requests", 0, True)


def test_memory_stays_below_its_bound(made):
    assert made["memory-write"][0]["met"] and made["memory-read"][0]["met"]
    assert made["memory-write"][0]["value"] > 0


def test_a_missing_peer_is_said_and_an_installed_one_compared(made):
    line = made["cold-read"][0]
    try:
        import zodb_s3blobs  # noqa: F401
    except ImportError:
        assert (line["other"], line["value"]) == ("zodb-s3blobs: not installed", None)
    else:
        assert line["value"] > 0
    assert made["commits"][0]["value"] > 0  # ZODB is always there
    assert made["commits"][0]["met"] is None  # and is not held to a target in a quick run


def test_moving_runs_from_end_to_end(s3_server):
    """Each contestant moves all blobs, byte counts checked by the benchmark itself; rclone where it is installed."""
    command = [sys.executable, "benchmarks/moving.py", "--quick"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    rows = [line.split(" | ")[0].strip("| ") for line in done.stdout.splitlines() if line.startswith("| ")][1:]
    assert set(rows) == {"migrate-small", "migrate-large", "overlay-64KB", "overlay-100MB"}, done.stdout
    assert "boto3: " in done.stdout and "direct: " in done.stdout


@pytest.mark.slow
def test_garbage_runs_from_end_to_end(s3_server):
    """Plans over each base have all objects, and a round deletes what is dead: the benchmark itself checks both."""
    command = [sys.executable, "benchmarks/garbage.py", "--quick"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    rows = [line.split(" | ")[0].strip("| ") for line in done.stdout.splitlines() if line.startswith("| ")][1:]
    bases = {"plan-FileStorage", "plan-RelStorage", "plan-ZEO"}
    assert set(rows) == {"plan", "plan-20ms", "round", *bases}, done.stdout


@pytest.mark.slow
def test_fsck_runs_from_end_to_end(s3_server):
    """Each base has just what is listed: the benchmark itself checks that nothing is found."""
    command = [sys.executable, "benchmarks/fsck.py", "--quick"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    rows = [line.split(" | ")[0].strip("| ") for line in done.stdout.splitlines() if line.startswith("| ")][1:]
    assert set(rows) == {"fsck", "fsck-FileStorage", "fsck-RelStorage"}, done.stdout


@pytest.mark.slow
def test_manifests_and_reports_run_from_end_to_end(s3_server):
    command = [sys.executable, "benchmarks/fsck.py", "--quick", "--inventory"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    rows = [line.split(" | ")[0].strip("| ") for line in done.stdout.splitlines() if line.startswith("| ")][1:]
    assert rows == ["growth", "verify", "types", "manifest"], done.stdout


@pytest.mark.slow
def test_the_rates_of_the_page_of_scale_are_measured_from_end_to_end(s3_server):
    """Each work checks what it found; nothing is kept."""
    kept = (REPOSITORY / "benchmarks" / "scale_rates.json").read_bytes()
    command = [sys.executable, "benchmarks/scale_plan.py", "--measure", "--quick"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    rates = [line.partition(":")[0] for line in done.stdout.splitlines() if " a second" in line and line[0] != "|"]
    assert rates == list(json.loads(kept)["rates"]) and "| gc: plan | Inventory |" in done.stdout, done.stdout
    assert (REPOSITORY / "benchmarks" / "scale_rates.json").read_bytes() == kept
