"""A cluster changes its configuration one process after the other, and goes back, while all of them read and write."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from BTrees.OOBTree import OOBTree
from command_line import document, keys_of, s3blobs
from kept_sites import SEVERAL_PROCESSES, KeptSite
from sites import bucket_keys, connected

PROCESS = Path(__file__).with_name("rolling_process.py")


class Running:
    """One process of the site."""

    def __init__(self, site: KeptSite, name: str, configuration: str) -> None:
        file = site.folder / f"{name}.conf"
        file.write_text(configuration)
        self._process = subprocess.Popen(
            [sys.executable, PROCESS, name, file],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=keys_of(site.store),
            text=True,
        )
        assert json.loads(self._process.stdout.readline()) == {"ready": name}

    def end(self) -> dict:
        """What it tells, after it ended without an error."""
        out, _ = self._process.communicate("\n", timeout=60)
        assert self._process.returncode == 0
        return json.loads(out)


@pytest.mark.parametrize("kind", SEVERAL_PROCESSES)
def test_there_and_back(kept, tier, kind):
    """Old, old → old, new → new, new: migrated and verified; → old, new → old, old: stock reads all."""
    site = kept(kind)
    with connected(site.db(site.old())) as connection:
        connection.root()["blobs"] = OOBTree()
        connection.transaction_manager.commit()
    site.shut()
    configurations = {
        "old": lambda name: site.old(name),
        "new": lambda name: site.new(site.source, process=name),
    }
    committed: dict[str, str] = {}
    told = []
    running: dict[str, Running] = {}

    def roll(name: str, which: str) -> None:
        """Replace one process, and let the two work beside each other for a while."""
        if name in running:
            end(name)
        running[name] = Running(site, name, configurations[which](name))
        time.sleep(tier["rolling_seconds"])

    def end(name: str) -> None:
        ended = running.pop(name).end()
        committed.update(ended.pop("committed"))
        told.append(ended)

    def check(configuration: str) -> None:
        """Everything is read, byte for byte, by a process that has no file of it."""
        site.cold()
        with connected(site.db(configuration)) as connection:
            folder = connection.root()["blobs"]
            assert sorted(folder) == sorted(committed)
            for name, entry in folder.items():
                with entry["file"].open("r") as file:
                    assert hashlib.sha256(file.read()).hexdigest() == entry["sha256"] == committed[name]
        site.cold()

    running["a"] = Running(site, "a", site.old("a"))
    roll("b", "old")
    roll("b", "new")
    roll("a", "new")
    name = site.folder / "site.conf"
    name.write_text(site.new(site.source, process="command"))
    source = ["migrate", "--from", site.blobs] if site.shared or kind == "zeo" else ["mirror"]
    copied = document(s3blobs("--config", name, *source, "--json", env=keys_of(site.store)))
    assert copied["problems"] == [], copied
    roll("b", "old")
    roll("a", "old")
    end("a")
    end("b")
    assert all(each["commits"] and each["reads"] for each in told), told
    check(site.old())
    # Again to the new one: what the old ones committed meanwhile is copied, and then the bucket alone has all.
    name.write_text(site.new(site.source, process="command"))
    again = document(s3blobs("--config", name, *source, "--json", env=keys_of(site.store)))
    assert again["problems"] == [], again
    site.shut()
    assert bucket_keys(site.store)
    check(site.alone())
