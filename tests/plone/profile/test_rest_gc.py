"""``@blob-gc`` on a real bucket and database: what nothing refers to is planned, shown, and deleted by that plan alone.

The storage is opened here, with ``gc-grace`` and ``gc-keep`` at zero, which zope.conf does not allow.
"""

from __future__ import annotations

import time

import pytest
import transaction
import ZODB
from ZODB.blob import Blob
from ZODB.FileStorage import FileStorage

from collective.s3blobstorage.settings import StorageSettings
from collective.s3blobstorage.storage import open_storage

ORPHAN = f"blobs/{9:016x}/" + "{:032x}"
ORPHANS = 30


@pytest.fixture
def db(settings, tmp_path):
    """With a blob in use, one that is gone, and objects that were never in use."""
    made = StorageSettings(
        store=settings, cache_dir=tmp_path / "cache", owner="www.example.org", gc_grace=0.0, gc_keep=0.0
    )
    db = ZODB.DB(open_storage(FileStorage(str(tmp_path / "Data.fs")), made))
    manager = transaction.TransactionManager()
    connection = db.open(manager)
    for number in range(40):
        connection.root()[f"b{number}"] = Blob(b"in use %d" % number)
    manager.commit()
    connection.close()
    for number in range(ORPHANS):
        db.storage.store_.put_bytes(ORPHAN.format(number), b"nobody's")
    yield db
    db.close()


@pytest.fixture
def jobs(db):
    return db.storage.jobs()


@pytest.fixture
def status(db):
    return db.storage.status("main")


def ended(call, job):
    until = time.monotonic() + 60
    while (seen := call("GET", f"@blob-gc/{job['id']}?b_size=10")[1])["state"] == "running":
        assert time.monotonic() < until
        time.sleep(0.05)
    return seen


def in_bucket(db):
    return {line.key for line in db.storage.store_.list("blobs/")}


def test_a_plan_is_executed(call, db):
    before = in_bucket(db)
    code, job, headers = call("POST", "@blob-gc", {"allow": 0.9})
    assert code == 202 and headers["location"].endswith(f"/@blob-gc/{job['id']}")
    assert ended(call, job)["state"] == "done"
    time.sleep(1.1)  # the store's dates have seconds
    plan = ended(call, call("POST", "@blob-gc", {"allow": 0.9})[1])
    assert plan["items_total"] == ORPHANS and len(plan["items"]) == 10 and "next" in plan["batching"]
    assert plan["items"][0]["key"] == ORPHAN.format(0) and plan["items"][0]["oid"] == f"{9:016x}"
    assert in_bucket(db) == before  # a dry run
    name = plan["result"]["plan"]
    for wrong in ({"dry_run": False}, {"dry_run": False, "plan": "20260101T000000Z"}, {"dry_run": 0, "plan": name}):
        assert call("POST", "@blob-gc", wrong)[0] == 400
    # More than a fifth may not go unless that was allowed.
    refused = ended(call, call("POST", "@blob-gc", {"dry_run": False, "plan": name})[1])
    assert refused["state"] == "failed" and in_bucket(db) == before
    done = ended(call, call("POST", "@blob-gc", {"dry_run": False, "plan": name, "allow": 0.9})[1])
    assert (done["state"], done["result"]["deleted"]["blobs"]) == ("done", ORPHANS), done["error"]
    assert in_bucket(db) == before - {ORPHAN.format(number) for number in range(ORPHANS)}
    # That plan is used up.
    assert call("POST", "@blob-gc", {"dry_run": False, "plan": name, "allow": 0.9})[0] == 400


def test_a_store_without_atomic_conditions(call, db):
    db.storage.store_.conditional_put = False
    code, told, _ = call("POST", "@blob-gc", {})
    assert code == 409 and "s3blobs gc" in told["error"]["message"]
    assert call("GET", "@blob-gc")[1]["items_total"] == 0
