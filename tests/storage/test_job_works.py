"""What each kind of job does to a storage that is open and written to, over every kind of base."""

from __future__ import annotations

import dataclasses
import json
import shutil
import threading
import time
from contextlib import closing
from pathlib import Path

import plone_like
import psycopg2
import pytest
from rings import client_side
from servers.faults import hang
from sites import bucket_keys, commit_blobs, connected, read_blob, wait_until
from ZODB.blob import Blob, FilesystemHelper

from collective.s3blobstorage.errors import ConfigurationError
from collective.s3blobstorage.keys import read_key
from collective.s3blobstorage.maintenance.jobs.interfaces import DONE, FAILED, RUNNING
from collective.s3blobstorage.maintenance.jobs.job import job_document
from collective.s3blobstorage.overlay.interfaces import SourceOptions
from collective.s3blobstorage.overlay.settings import BlobDirSettings
from collective.s3blobstorage.status.figures import read_outside

OWNED = {"owner": "www.example.org", "gc_grace": 0.0, "gc_keep": 0.0}
KEY = bytes(range(32))
KINDS = ["filestorage", "sqlite-hp", "sqlite-hf", "zeo-client"]


def ended(jobs, job, seconds=60):
    wait_until(lambda: jobs.get(job.id).state != RUNNING, seconds)
    job = jobs.get(job.id)
    json.dumps(job_document(job))
    return job


class Writer:
    """Commits blobs in a thread of its own as long as it is entered; how many."""

    def __init__(self, db):
        self.db, self.stop, self.written, self.errors = db, threading.Event(), 0, []
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *exc_info):
        self.stop.set()
        self._thread.join()
        assert self.errors == []

    def _run(self):
        try:
            while not self.stop.is_set():
                commit_blobs(self.db, **{f"w{self.written}": b"%d" % self.written})
                self.written += 1
                time.sleep(0.01)
        except Exception as error:
            self.errors.append(error)

    def all_are_there(self):
        for number in range(self.written):
            assert read_blob(self.db, f"w{number}") == b"%d" % number


@pytest.mark.parametrize("kind", KINDS)
def test_gc_by_plan_and_execution(make_site, settings, kind):
    site = make_site(kind, **OWNED)
    db = site.db()
    commit_blobs(db, a=b"a", b=b"b")
    with connected(db) as connection:
        del connection.root()["a"]
        connection.transaction_manager.commit()
    db.storage.store_.put_bytes(f"blobs/{'0' * 15}9/{'a' * 32}", b"nobody's")
    jobs = db.storage.jobs()
    with Writer(db) as writer:
        first = ended(jobs, jobs.start("gc", {}))
        assert (first.state, first.result["dry_run"]) == (DONE, True), first.error
        assert [line.message for line in first.log] == ["listing the bucket", "asking the database"]
        assert first.progress.done >= 3  # the objects that the database was asked of
        time.sleep(1.1)  # the store's dates have seconds
        plan = ended(jobs, jobs.start("gc", {"allow": 1}))
        assert plan.result["plan"], plan.result
        found, count = jobs.candidates(plan.result["plan"])
        assert count >= 1 and found[0]["key"] == f"blobs/{'0' * 15}9/{'a' * 32}"
        assert jobs.candidates(plan.result["plan"], start=count) == ([], count)
        done = ended(jobs, jobs.start("gc", {"dry_run": False, "plan": plan.result["plan"], "allow": 1}))
    assert (done.state, done.result["dry_run"]) == (DONE, False), done.error
    assert done.result["deleted"]["blobs"] >= 1 and done.result["failed"] == {}
    assert f"blobs/{'0' * 15}9/{'a' * 32}" not in bucket_keys(settings)
    writer.all_are_there()
    assert read_blob(db, "b") == b"b"
    # Once only, and no other one.
    again = ended(jobs, jobs.start("gc", {"dry_run": False, "plan": plan.result["plan"]}))
    assert again.state == FAILED and "is not there" in again.error
    with pytest.raises(KeyError):
        jobs.candidates(plan.result["plan"])


def test_what_gc_refuses(make_site):
    db = make_site("filestorage", **OWNED).db()
    jobs = db.storage.jobs()
    for options, message in (
        ({"dry_run": False}, "plan has to name a finished plan"),
        ({"dry_run": False, "plan": ""}, "plan has to name a finished plan"),
        ({"dry_run": False, "plan": "last"}, "plan has to name a finished plan"),
        ({"plan": "x"}, "give dry_run false too"),
        ({"allow": 0}, "allow is a share"),
        ({"allow": 1.1}, "allow is a share"),
        ({"dry_run": 0}, "dry_run is true or false"),
    ):
        with pytest.raises(ValueError, match=message):
            jobs.start("gc", options)
    assert jobs.list() == ([], 0)


def test_where_there_is_nothing_to_work_on(make_site):
    db = make_site("filestorage").db()  # no owner, no source, no key
    kinds = {kind.name: kind.why_not for kind in db.storage.jobs().kinds()}
    assert "owner" in kinds["gc"] and "no source" in kinds["mirror"] and "<blobdirsource>" in kinds["migrate"]
    assert kinds["count"] == ""
    if db.storage.store_.encryption.name == "none":
        assert "no section that encrypts" in kinds["rotate"]
    with pytest.raises(ConfigurationError, match="owner is not set"):
        db.storage.jobs().start("gc", {})
    with pytest.raises(ConfigurationError, match="read-only"):
        db.storage.jobs(writable=False).start("count", {})


@pytest.mark.parametrize("way", ["mirror", "migrate"])
def test_a_blob_directory_comes_in_while_the_site_runs(old_site, make_site, settings, way):
    old = old_site()
    db = old.db()
    for number in range(12):
        commit_blobs(db, **{f"b{number}": b"x" * number * 1000})
    commit_blobs(db, b3=b"another revision")
    db.close()
    source = BlobDirSettings(SourceOptions("disk", mirror="off"), old.blobs)
    site = make_site("filestorage", sources=(source,), owner="www.example.org")
    shutil.copy(old.folder / "Data.fs", site.folder / "Data.fs")
    db = site.db()
    jobs = db.storage.jobs()
    given = {"source": "disk"} if way == "migrate" else {}
    counted = ended(jobs, jobs.start("count", {}))
    assert counted.result["outside"]["objects"] == 13
    plan = ended(jobs, jobs.start(way, given))
    assert (plan.state, plan.result["dry_run"], plan.result["found"]["wanted"]["blobs"]) == (DONE, True, 13), plan.error
    assert not [key for key in bucket_keys(settings) if key.startswith("blobs/")]
    with Writer(db) as writer:
        done = ended(jobs, jobs.start(way, {**given, "dry_run": False}))
    assert done.state == DONE, done.error
    assert done.result["uploaded" if way == "migrate" else "copied"]["blobs"] == 13
    assert done.result["problems"] == [] and done.result["missing"] == 0
    if way == "mirror":
        assert done.result["complete_up_to"] and db.storage.status().document()["outside"]["objects"] == 0
    writer.all_are_there()
    shutil.rmtree(old.blobs)
    site.close_all()
    site.cold()
    db = site.db(sources=())
    for number in range(12):
        assert read_blob(db, f"b{number}") == (b"another revision" if number == 3 else b"x" * number * 1000)


@pytest.mark.parametrize("kind", KINDS)
def test_mirror_beside_a_writer_over_every_base(make_site, tmp_path, kind):
    """Every kept revision is found by a look at a base that is in use; here the bucket has them all."""
    empty = tmp_path / "blobs"
    empty.mkdir()
    (empty / ".layout").write_text("bushy\n")
    source = BlobDirSettings(SourceOptions("disk", mirror="off"), empty)
    db = make_site(kind, sources=(source,), owner="www.example.org").db()
    commit_blobs(db, a=b"a", b=b"b")
    commit_blobs(db, a=b"a, later")
    jobs = db.storage.jobs()
    with Writer(db) as writer:
        wait_until(lambda: writer.written > 3)
        plan = ended(jobs, jobs.start("mirror", {}))
        done = ended(jobs, jobs.start("mirror", {"dry_run": False}))
    kept = 2 if kind == "sqlite-hf" else 3
    for job in (plan, done):
        assert job.state == DONE, job.error
        assert job.result["found"]["there"]["blobs"] >= kept + 3 and job.result["problems"] == []
    assert done.result["complete_up_to"] and done.result["copied"]["blobs"] == 0
    # A revision that the bucket lost, and no source has: it is told, and nothing is complete any more.
    store = db.storage.store_
    with connected(db) as connection:
        oid = connection.root()["b"]._p_oid.hex()
    store.delete([line.key for line in store.list(f"blobs/{oid}/")])
    bad = ended(jobs, jobs.start("mirror", {"dry_run": False}))
    assert (bad.result["missing"], bad.result["complete_up_to"]) == (1, None)
    assert read_outside(store)["objects"] == 0  # it is nowhere
    assert db.storage.status().document()["mirrored"] is None


def moved_into(folder, db):
    """The blobs of a database from its bucket into a blob directory, as a site has them that moves in; how many."""
    helper = FilesystemHelper(str(folder), "bushy")
    store, moved = db.storage.store_, []
    for line in store.list("blobs/"):
        oid, name = read_key(line.key)
        with connected(db) as connection:
            blob = connection.get(oid)
            blob._p_activate()
            tid = blob._p_serial
        file = Path(helper.getBlobFilename(oid, tid))
        file.parent.mkdir(parents=True)
        file.write_bytes(store.get_bytes(line.key))
        moved.append(line.key)
    store.delete(moved)
    return len(moved)


@pytest.mark.parametrize("way", ["mirror", "migrate"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_blob_directory_comes_in_beside_a_writer_over_every_base(make_site, tmp_path, kind, way):
    folder = tmp_path / "blobs"
    folder.mkdir()
    (folder / ".layout").write_text("bushy\n")
    source = BlobDirSettings(SourceOptions("disk", mirror="off"), folder)
    site = make_site(kind, sources=(source,), owner="www.example.org")
    db = site.db()
    commit_blobs(db, **{f"b{number}": b"%d" % number * 1000 for number in range(5)})
    assert moved_into(folder, db) == 5 and site.keys() == []
    jobs = db.storage.jobs()
    with Writer(db) as writer:
        wait_until(lambda: writer.written > 2)
        plan = ended(jobs, jobs.start(way, {}))
        # What is committed after the listing may be in it, until it is looked for.
        assert plan.state == DONE and 5 <= plan.result["found"]["wanted"]["blobs"] <= 5 + writer.written, plan.error
        done = ended(jobs, jobs.start(way, {"dry_run": False}))
    if way == "mirror":
        assert done.result["complete_up_to"]
        outside = read_outside(db.storage.store_)
        assert (outside["objects"], outside["bytes"]) == (0, 0)
    assert (done.state, done.result["problems"]) == (DONE, []), done.error
    assert done.result["uploaded" if way == "migrate" else "copied"]["blobs"] == 5
    shutil.rmtree(folder)
    site.close_all()
    site.cold()
    db = site.db(sources=())
    writer.db = db
    writer.all_are_there()
    for number in range(5):
        assert read_blob(db, f"b{number}") == b"%d" % number * 1000


@pytest.mark.parametrize("way", ["mirror", "migrate"])
def test_a_job_keeps_to_its_pace(old_site, make_site, way):
    old = old_site()
    db = old.db()
    commit_blobs(db, **{f"b{number}": b"x" * 200_000 for number in range(12)})
    db.close()
    source = BlobDirSettings(SourceOptions("disk", mirror="off"), old.blobs)
    site = make_site("filestorage", sources=(source,), owner="www.example.org")
    shutil.copy(old.folder / "Data.fs", site.folder / "Data.fs")
    jobs = site.db().storage.jobs()
    for wrong, message in ((-1, "limit_rate is a number of bytes a second"), ("1MB", "limit_rate is a number")):
        with pytest.raises(ValueError, match=message):
            jobs.start(way, {"limit_rate": wrong})
    rate = 600_000
    started = time.monotonic()
    done = ended(jobs, jobs.start(way, {"dry_run": False, "limit_rate": rate}))
    seconds = time.monotonic() - started
    copied = done.result["uploaded" if way == "migrate" else "copied"]
    assert copied == {"blobs": 12, "bytes": 2_400_000}
    assert copied["bytes"] / seconds < 1.5 * rate  # what was not used of one second may be used in the next


def test_copying_holds_no_snapshot_of_the_database(make_site, tmp_path, settings, proxy, postgresql):
    """Copies may take hours, and an open snapshot keeps PostgreSQL from cleaning up behind every commit."""
    folder = tmp_path / "blobs"
    folder.mkdir()
    (folder / ".layout").write_text("bushy\n")
    source = BlobDirSettings(SourceOptions("disk", mirror="off"), folder)
    store = dataclasses.replace(settings, endpoint_url=proxy.endpoint_url)
    site = make_site("postgresql-hp", store=store, sources=(source,), owner="www.example.org")
    db = site.db()
    tid = commit_blobs(db, a=b"content")
    with connected(db) as connection:
        oid = connection.root()["a"]._p_oid
    file = Path(FilesystemHelper(str(folder), "bushy").getBlobFilename(oid, tid))
    file.parent.mkdir(parents=True)
    file.write_bytes(b"content")
    db.storage.store_.delete(site.keys())
    jobs = db.storage.jobs()
    held = proxy.fail(hang(seconds=3.0), method="PUT", target="/blobs/")
    job = jobs.start("mirror", {"dry_run": False})
    wait_until(lambda: held.hits > 0)
    query = (
        "SELECT query FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_xmin IS NOT NULL"
    )
    with closing(psycopg2.connect(postgresql.dsn(site._database))) as connection, connection.cursor() as cursor:
        cursor.execute(query)
        snapshots = cursor.fetchall()
    assert jobs.get(job.id).progress.phase == "copying" and snapshots == []
    done = ended(jobs, job)
    assert (done.state, done.result["copied"]["blobs"]) == (DONE, 1), done.error


def test_a_source_that_zope_conf_does_not_have(make_site):
    db = make_site("filestorage", **OWNED).db()
    with pytest.raises(ValueError, match="source is the name of a <blobdirsource> of zope.conf: there is none"):
        db.storage.jobs().start("migrate", {"source": "/etc"})


@pytest.mark.clear
@pytest.mark.parametrize("kind", ["filestorage", "zeo-client"])
def test_a_rotation(make_site, settings, kind):
    site = make_site(kind, **OWNED)
    db = site.db()
    commit_blobs(db, a=b"a", b=b"b" * 100_000)
    site.close_all()
    site.settings = dataclasses.replace(site.settings, store=dataclasses.replace(settings, encryption=client_side(KEY)))
    db = site.db()
    jobs = db.storage.jobs()
    plan = ended(jobs, jobs.start("rotate", {"convert": True}))
    assert plan.state == DONE, plan.error
    assert plan.result["converted"]["objects"] == 2
    with Writer(db) as writer:
        done = ended(jobs, jobs.start("rotate", {"convert": True, "dry_run": False}))
    assert done.state == DONE, done.error
    assert done.result["converted"]["objects"] == 2 and done.result["failed"] == {}
    writer.all_are_there()
    site.close_all()
    site.cold()
    db = site.db()
    assert read_blob(db, "b") == b"b" * 100_000
    assert db.storage.key_ring().coverage().usage.of_key("one")["content"].blobs >= 2


@pytest.mark.parametrize("kind", KINDS)
def test_count(make_site, kind):
    db = make_site(kind, **OWNED).db()
    commit_blobs(db, a=b"a", b=b"b")
    jobs = db.storage.jobs()
    job = ended(jobs, jobs.start("count", {}))
    assert job.result["objects"]["blobs"]["objects"] == 2
    db.storage._known and db.storage._known.kept.forget()
    document = db.storage.status("main").document()
    assert document["figures"]["blobs"]["objects"] == 2
    assert document["jobs"]["count"]["last"]["id"] == "count-1"


@pytest.mark.parametrize("kind", KINDS)
def test_reports(make_site, kind):
    """As `s3blobs report` tells them, with a bound, and without what an encrypted bucket must not tell."""
    db = make_site(kind, **OWNED).db()
    with plone_like.classes() as kinds:
        plone_like.fill(db, kinds, many=3)
        commit_blobs(db, large=b"l" * 50_000)
    jobs = db.storage.jobs()
    sealed = db.storage.store_.encryption.seals
    [line] = ended(jobs, jobs.start("report", {"report": "largest", "top": 1})).result["lines"]
    assert line["bytes"] == 50_000 and ("path" in line, "type" in line) == (not sealed, not sealed)
    assert sealed or line["path"] == "/large"
    growth = ended(jobs, jobs.start("report", {"report": "growth"}))
    [month] = growth.result["lines"]
    assert month["total_bytes"] == month["bytes"] > 50_000 and growth.result["tid"] == db.lastTransaction().hex()
    if sealed:
        with pytest.raises(ValueError, match="s3blobs report types"):
            jobs.start("report", {})
    else:
        types = ended(jobs, jobs.start("report", {}))
        assert {line["type"]: line["blobs"] for line in types.result["lines"]}["Image"] == 2
        assert sum(line["bytes"] for line in types.result["lines"]) == month["bytes"] and types.result["more"] == 0
    for wrong, says in (({"report": "all"}, "largest, growth, types"), ({"top": 0}, "1 to 200"), ({"top": 201}, "200")):
        with pytest.raises(ValueError, match=says):
            jobs.start("report", wrong)


def test_the_storage_closes_under_a_job(make_site):
    site = make_site("filestorage", **OWNED)
    db = site.db()
    with connected(db) as connection:
        for number in range(50):
            connection.root()[f"b{number}"] = Blob(b"x")
        connection.transaction_manager.commit()
    db.storage.jobs().start("gc", {})
    db.close()
    db = site.db()
    state = db.storage.jobs().get("gc-1").state
    assert state in ("interrupted", "done")
