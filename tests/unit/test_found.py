"""Which objects were seen: a table on the disk that is right, bounded, and never in the way."""

from __future__ import annotations

import os
import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from collective.s3blobstorage.cache import found
from collective.s3blobstorage.cache.found import Found

KEYS = st.lists(st.text(max_size=60), unique=True, max_size=40)


@given(KEYS, KEYS)
def test_what_was_noted_is_known_and_nothing_else(tmp_path_factory, noted, others):
    table = Found(tmp_path_factory.mktemp("found") / "found")
    assert not any(key in table for key in [*noted, *others])
    for key in noted:
        table.note(key)
    # A later key may have taken an earlier one's place; of forty that has not happened with any of these draws.
    places = {found._place(key)[0] for key in noted}
    assert len(places) < len(noted) or all(key in table for key in noted)
    assert [key for key in others if key in table] == [key for key in others if key in noted]


def test_a_later_key_takes_the_place_of_an_earlier_one(tmp_path, monkeypatch):
    monkeypatch.setattr(found, "_SLOTS", 1)
    table = Found(tmp_path / "found")
    table.note("one")
    table.note("two")
    assert "one" not in table and "two" in table


def test_it_is_bounded_and_private(tmp_path):
    table = Found(tmp_path / "found")
    for number in range(3000):
        table.note(f"blobs/{number:016x}/{number:032x}")
    status = os.stat(tmp_path / "found")
    assert status.st_size <= 8 << 20
    assert status.st_mode & 0o777 == 0o600


def test_another_process_knows_it(tmp_path):
    script = (
        "import sys; from pathlib import Path; from collective.s3blobstorage.cache.found import Found;"
        " Found(Path(sys.argv[1])).note('a key')"
    )
    subprocess.run([sys.executable, "-c", script, tmp_path / "found"], check=True)
    assert "a key" in Found(tmp_path / "found")


def test_a_disk_that_does_not_work_is_no_error(tmp_path):
    table = Found(tmp_path / "gone" / "found")
    table.note("a key")
    assert "a key" not in table
    (tmp_path / "found").symlink_to(tmp_path / "elsewhere")
    table = Found(tmp_path / "found")
    table.note("a key")
    assert "a key" not in table and not (tmp_path / "elsewhere").exists()
