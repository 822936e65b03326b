"""docs/operations.md, "A key is lost"."""

from __future__ import annotations

import json
import subprocess
from contextlib import closing

import pytest
from documents import Example
from servers.process import ServerFailed
from ZODB.DB import DB
from ZODB.FileStorage import FileStorage

RETIRE = ["s3blobs", "keys", "retire", "2026-11", "--yes"]


def test_a_key_is_lost(site, s3, bucket, tmp_path):
    """Of four files one was encrypted with another key, one was exported, one is in the cache, and one is gone."""
    copies, keys = tmp_path / "keys", site.home / "etc" / "keys"
    for folder in (copies, keys, tmp_path / "exported"):
        folder.mkdir(parents=True)
    places = {"/mnt/keys": str(copies), "/mnt/exported": str(tmp_path / "exported")}
    follow = site.follow("A key is lost", places)
    site.variables["BLOB_KEYS"] = str(keys)

    def typed(command, printed="…"):
        return Example(site.real(command), site.real(printed)).run(site.home, site.environment())

    section = follow.conf()
    for key in ("2025-03", "2026-11"):
        typed(f"s3blobs keys generate --output /srv/plone/etc/keys/{key}")
        typed(f"cp -p /srv/plone/etc/keys/{key} /mnt/keys/{key}")
    site.add(section.replace("active-key 2026-11", "active-key 2025-03"))
    with site.running():
        site.upload("older")
    site.change("active-key 2025-03", "active-key 2026-11")
    with site.running():
        site.upload("exported")
        typed("s3blobs export --to /mnt/exported")
        site.upload("gone")
    cron_says = cron(follow.text("cron"), site)
    assert cron_says() == ""

    (keys / "2026-11").rename(keys / "away")
    said = cron_says()
    assert said.count("✗") == 1 and "✗ <key 2026-11>" in said
    said = site.real(follow.text("text")).strip()
    with pytest.raises(ServerFailed) as failed:
        site.start()
    assert str(failed.value).splitlines()[-1].endswith(f": {said}")
    follow.run()
    follow.run()
    assert (keys / "2026-11").read_bytes() == (keys / "away").read_bytes() and cron_says() == ""
    with site.running():
        site.upload("cached")
        site.assert_files_are_right()
    for path in (site.home / "cache").glob("*/blobs/*/*"):
        if path.read_bytes() != site.files["cached"].data:
            path.unlink()

    for place in (keys / "2026-11", keys / "away", copies / "2026-11"):
        place.unlink()
    follow.run()
    assert (copies / "2026-12").read_bytes() == (keys / "2026-12").read_bytes()
    site.change(section.strip(), follow.conf().strip())
    follow.run()
    with site.running():
        site.upload("newer")
        statuses = {name: site.status_of(name) for name in site.files}
        assert statuses == {"older": 200, "exported": 500, "gone": 500, "cached": 200, "newer": 200}
        follow.run()
        source = follow.conf()
        site.add(source)
        follow.run()
        site.change(source.strip(), "")
        assert {name for name in site.files if site.status_of(name) != 200} == {"gone"}
        site.delete("gone")
    site.empty_cache()
    with site.running():
        site.assert_files_are_right()

    pack(site.database)
    refused = subprocess.run(RETIRE, env=site.environment(), capture_output=True, text=True, timeout=120)
    assert refused.returncode == 2 and "the key 2026-11 is needed by 1 " in refused.stderr, refused.stderr
    # As garbage collection does in a week (tests/storage/test_gc.py).
    (orphan,) = json.loads(typed("s3blobs fsck --list-orphans --json"))["orphans"]
    s3.delete_object(Bucket=bucket, Key=orphan["key"])
    follow.run()
    follow.end()


def pack(database):
    storage = FileStorage(str(database))
    with closing(DB(storage)) as db:
        db.pack()


def cron(text, site):
    """What its jobs say, run one after the other."""
    lines = site.real(text).splitlines()
    settings = dict(line.split("=", 1) for line in lines if line[0].isalpha())
    jobs = [line.split(None, 5)[5] for line in lines if line[0].isdigit()]
    assert len(settings) + len(jobs) == len(lines)

    def says():
        said = ""
        for job in jobs:
            run = subprocess.run(
                ["sh", "-c", job], env={**site.environment(), **settings}, capture_output=True, text=True, timeout=120
            )
            said += run.stdout + run.stderr
        return said

    return says
