"""Processes that store the same files at the same time, and are killed while they do."""

from __future__ import annotations

import hashlib
import json
import random
import time
from pathlib import Path

import pytest
from BTrees.OOBTree import OOBTree
from sharing_child import content
from sites import connected, raw_client, store_as_json
from test_dedup import Held, name_of
from test_kill import SEED, start  # noqa: F401 - the fixture

from collective.s3blobstorage.keys import object_key
from collective.s3blobstorage.storage.record import read_state

pytestmark = pytest.mark.clear  # it is refused where keys of ours encrypt

CHILD = str(Path(__file__).parent / "sharing_child.py")


@pytest.mark.parametrize("kind", ["sqlite-hp", "zeo-client"])
def test_two_processes_one_of_which_is_killed_again_and_again(make_site, start, settings, tier, kind):  # noqa: F811
    site = make_site(kind, dedup=True, owner="one")
    db = site.db()
    with connected(db) as connection:
        for tree in ("stays", "killed"):
            connection.root()[tree] = OOBTree()
        connection.transaction_manager.commit()

    def child(tree: str, seed: int):
        process = start(CHILD)
        process.hear("imported")
        given = {
            "kind": kind,
            "folder": str(site.folder),
            "cache_dir": str(site.folder / f"cache-{tree}"),
            "zeo_port": site._zeo and site._zeo[0],
            "store": store_as_json(settings),
            "tree": tree,
            "seed": seed,
        }
        process.tell(json.dumps(given))
        process.hear("ready")
        return process

    stays = child("stays", 0)
    chance = random.Random(SEED)
    for number in range(max(2, tier["kills_of_client"] // 10)):
        killed = child("killed", number + 1)
        time.sleep(chance.uniform(0.1, 1.5))
        killed.kill()
    last = child("killed", 9999)
    time.sleep(1)
    last.end()
    stays.end()

    held, named = Held(settings), set()
    for recorded in db.storage.iterator():
        for record in recorded:
            if (state := read_state(record.data)) is not None:
                named.add((state.name, state.object))
    assert len(named) > 5
    assert named <= set(held.references) and held.own == []
    contents = {name_of(content(number)): content(number) for number in range(6)}
    assert {shared for _, shared in named} <= set(held.objects) <= set(contents)  # nothing else, each once
    client = raw_client(settings)
    for shared in held.objects:
        body = client.get_object(Bucket=settings.bucket, Key=object_key(shared))["Body"].read()
        assert hashlib.sha256(body).hexdigest() == shared.partition(".")[0]
    # References of transactions that never were: at most one or two for each process that was killed.
    left = set(held.references) - named
    assert len(left) <= 4 * max(2, tier["kills_of_client"] // 10)
    with connected(db) as connection:
        for tree in ("stays", "killed"):
            found = [blob.open().read() for blob in connection.root()[tree].values()]
            assert found and set(found) <= set(contents.values())
