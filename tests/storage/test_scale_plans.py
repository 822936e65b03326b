"""A hundred million blobs, as far as the tier goes: neither memory nor the number of open files grows with them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
# From N to 10 N. What does not grow with them does so a little: a listing of more than 10,000 is cut into ranges.
MOST_GROWTH = 2.0
# An external sort has a level more, of at most 8 files. A listing of gc has up to 64 ranges, each with a file.
MORE_FILES, MOST_RANGES = 8, 64


def run(verb, way, count):
    command = [sys.executable, str(HERE / "scale_process.py"), verb, way, str(count)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=7200)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("way", ["list", "inventory"])
@pytest.mark.parametrize("verb", ["gc", "fsck"])
def test_memory_and_files_do_not_grow_with_the_blobs(tier, verb, way):
    """A plan of gc by a listing is made of all hundred million where the tier has them: 22 minutes of one core."""
    count = tier["plan_rows" if (verb, way) == ("gc", "list") else "scale_rows"]
    few, many = run(verb, way, min(count // 10, 1_000_000)), run(verb, way, count)
    assert many["memory"] < MOST_GROWTH * few["memory"], (few, many)
    more = MOST_RANGES if (verb, way) == ("gc", "list") else MORE_FILES
    assert many["files"] <= few["files"] + more < 150, (few, many)


def test_nor_do_they_where_blobs_share_objects(tier):
    """Of references the names are sorted on the disk, in 16 MB of memory; a range of shared objects is two files."""
    count = tier["scale_rows"]
    few, many = run("gc-shared", "list", count // 10), run("gc-shared", "list", count)
    assert many["memory"] < MOST_GROWTH * few["memory"], (few, many)
    assert many["files"] <= few["files"] + 2 * MOST_RANGES < 220, (few, many)
