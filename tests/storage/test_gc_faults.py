"""Garbage collection when something goes wrong: kills at each request, an outage, partial failures, two at once."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
import ZODB
from command_line import keys_of, section
from servers.ceph import Ceph, CephOverTls
from servers.faults import answer, hang
from sites import PERSISTENT, bucket_keys, commit_blobs, in_two_threads, read_blob, run_zeo, store_as_json, wait_until
from store_time import DAY, HOUR
from test_gc import OWNED, Collected
from ZEO.ClientStorage import ClientStorage
from ZODB.serialize import referencesf

from collective.s3blobstorage.errors import RecordError, StoreError, UnsafeError
from collective.s3blobstorage.keys import LEDGER, blob_key, draw_name
from collective.s3blobstorage.maintenance.gc.control import lease_key, read_control
from collective.s3blobstorage.maintenance.gc.lease import Taken, leased
from collective.s3blobstorage.maintenance.gc.ledger import Ledger, write_ledger
from collective.s3blobstorage.maintenance.gc.margins import Margins
from collective.s3blobstorage.maintenance.scope import Scope
from collective.s3blobstorage.objectstore import open_store
from collective.s3blobstorage.objectstore.clock import Clock
from collective.s3blobstorage.objectstore.interfaces import Doomed

AT_ONCE = {"grace": 0.0, "keep": 0.0}
REQUESTS = 18  # of two rounds, the last of which deletes


@pytest.fixture
def through(make_site, settings, proxy):
    """A site whose requests the test sees, with garbage and what is in use."""
    store = dataclasses.replace(settings, endpoint_url=proxy.endpoint_url, outage_patience=2.0)
    site = make_site("filestorage", store=store, **OWNED)
    db = site.db()
    commit_blobs(db, a=b"a", b=b"b")
    commit_blobs(db, a=b"a, later")
    db.pack(time.time() + 1)
    db.close()
    return site


def in_use(site):
    """That everything in use can be read, by a machine that has nothing in its cache."""
    site.close_all()
    site.cold()
    db = site.db()
    assert (read_blob(db, "a"), read_blob(db, "b")) == (b"a, later", b"b")
    site.close_all()


def killed_at(number, site, proxy):
    """Run rounds in a process of its own and kill it while its n-th request waits. Whether it got so far."""
    rule = proxy.fail(hang("before"), nth=number)
    process = subprocess.Popen(
        [sys.executable, Path(__file__).with_name("gc_process.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    given = {"store": store_as_json(site.settings.store), "data_fs": str(site.folder / "Data.fs")}
    process.stdin.write(json.dumps(given) + "\n")
    process.stdin.close()
    wait_until(lambda: rule.hits or process.poll() is not None, 60)
    process.kill()
    process.wait()
    process.stdout.close()
    proxy.forgive()
    return bool(rule.hits)


@pytest.mark.slow
def test_killed_at_each_request(through, proxy, tier):
    count = tier["gc_kills"]
    numbers = sorted({1 + round(step * (REQUESTS - 1) / max(count - 1, 1)) for step in range(count)})
    reached = []
    for number in numbers:
        oid = b"\0\0\0\0\0\0\1" + bytes([number])
        with closing(open_store(through.settings.store)) as store:
            store.put_bytes(blob_key(oid, draw_name()), b"never committed")
        if killed_at(number, through, proxy):
            reached.append(number)
        in_use(through)
        # Somebody else goes on when the lease has ended.
        collected = Collected(through, **AT_ONCE)
        collected.store.advance(HOUR)
        collected.round()
        collected.round()
        assert len(collected.blobs()) == 2
        in_use(through)
    assert len(reached) > len(numbers) / 2


def test_an_outage_in_the_middle_loses_nothing(through, proxy):
    collected = Collected(through, **AT_ONCE)
    collected.round()
    proxy.fail(answer(503), method="POST", target="?delete", times=1000)
    with pytest.raises(StoreError):
        collected.round()
    proxy.forgive()
    assert len(collected.blobs()) == 3
    _, outcome = collected.round()
    assert outcome.deleted.blobs == 1 and len(collected.blobs()) == 2


class SomeRefused:
    """A store that refuses to delete one key, in its answer to a request that it carries out for the others."""

    def __init__(self, store, key):
        self._store = store
        self.key = key

    def __getattr__(self, name):
        return getattr(self._store, name)

    def delete_each(self, doomed):
        deleted = self._store.delete_each([each for each in doomed if each.key != self.key])
        failed = {each: "AccessDenied" for each in doomed if each.key == self.key}
        return dataclasses.replace(deleted, failed={**deleted.failed, **failed})


def test_what_is_refused_stays_in_the_ledger_and_goes_later(make_site):
    site = Collected(make_site("filestorage", **OWNED), **AT_ONCE)
    commit_blobs(site.db, a=b"1", b=b"1")
    commit_blobs(site.db, a=b"2", b=b"2")
    site.db.pack(time.time() + 1)
    plan, _ = site.round()
    assert plan.tally.waiting.blobs == 2
    refused = min(line.key for line in site.store.list("blobs/") if site.storage.store_.get_bytes(line.key) == b"1")
    site.collection.store = SomeRefused(site.store, refused)
    _, outcome = site.round()
    assert (outcome.deleted.blobs, outcome.failed) == (1, {"AccessDenied": 1})
    assert outcome.failures[0]["key"] == refused
    assert any(key.endswith("-failed.ndjson") for key in bucket_keys(site.site.settings.store))
    site.collection.store = site.store
    _, outcome = site.round()
    assert (outcome.deleted.blobs, outcome.failed, len(site.blobs())) == (1, {}, 2)


def test_partial_failures_are_tried_again_alone(settings, front):
    """As a store answers under load: some keys of the batch fail with a code that passes."""
    with closing(open_store(settings)) as store:
        keys = [blob_key(bytes(7) + bytes([number]), draw_name()) for number in range(5)]
        for key in keys:
            store.put_bytes(key, b"x")
        sent = []
        real = store.connection.writer.delete_objects

        def flaky(**parameters):
            sent.append([each["Key"] for each in parameters["Delete"]["Objects"]])
            if len(sent) > 1:
                return real(**parameters)
            kept = parameters["Delete"]["Objects"][-2:]
            done = real(**{**parameters, "Delete": {"Objects": parameters["Delete"]["Objects"][:-2]}})
            return {**done, "Errors": [{"Key": each["Key"], "Code": "InternalError"} for each in kept]}

        store.connection.writer.delete_objects = flaky
        deleted = store.delete_each([Doomed(key) for key in keys])
        assert (deleted.failed, len(sent), len(sent[1])) == ({}, 2, 2)
        assert list(store.list("blobs/")) == []


def test_a_store_that_looks_at_the_etag_keeps_what_was_written_since(settings, s3_server):
    if isinstance(s3_server, (Ceph, CephOverTls)):
        pytest.skip("Ceph 16 does not look at it")
    with closing(open_store(dataclasses.replace(settings, provider="aws"))) as store:
        key = blob_key(bytes(8), draw_name())
        old = store.put_bytes(key, b"old").etag
        store.put_bytes(key, b"new")
        deleted = store.delete_each([Doomed(key, old)])
        assert list(deleted.failed.values()) == ["PreconditionFailed"] and store.get_bytes(key) == b"new"
        assert store.delete_each([Doomed(key, store.head(key).etag)]).failed == {}
        assert store.delete_each([Doomed(key, old)]).failed == {}  # gone is gone


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"format": 1, "at": 1, "whole": 0}\nno line\n', b"\xff\xfe"])
def test_a_damaged_ledger_stops_gc_and_nothing_is_deleted(make_site, data):
    site = Collected(make_site("filestorage", **OWNED), **AT_ONCE)
    commit_blobs(site.db, a=b"1")
    commit_blobs(site.db, a=b"2")
    site.db.pack(time.time() + 1)
    site.round()
    site.storage.store_.put_bytes(LEDGER, data)
    with pytest.raises(RecordError, match="gc/ledger under s3-prefix is damaged"):
        site.round()
    assert len(site.blobs()) == 2


def test_a_ledger_of_a_newer_release_stops_gc(make_site):
    site = Collected(make_site("filestorage", **OWNED))
    commit_blobs(site.db, a=b"1")
    site.storage.store_.put_bytes(LEDGER, b'{"format": 2, "at": 1, "whole": 0}\n')
    with pytest.raises(RecordError, match="newer release"):
        site.plan()


# The margins


def test_an_empty_database_is_refused(make_site):
    full = make_site("filestorage", **OWNED)
    commit_blobs(full.db(), a=b"1")
    full.close_all()
    empty = make_site("filestorage", **OWNED)
    storage = empty.open()
    with pytest.raises(UnsafeError, match="database is empty"):
        storage.garbage().plan()


def test_without_an_owner_nothing_is_noted_or_deleted(make_site):
    site = Collected(make_site("filestorage", preflight=False), **AT_ONCE)
    commit_blobs(site.db, a=b"1")
    commit_blobs(site.db, a=b"2")
    site.db.pack(time.time() + 1)
    site.plan()
    with pytest.raises(UnsafeError, match="set owner"):
        site.round()
    assert [key for key in bucket_keys(site.site.settings.store) if not key.startswith("gc/witness/")] == [
        ".s3blobs.json",
        *sorted(site.blobs()),
    ]


def test_too_large_a_share_is_refused_and_its_dates_are_kept(make_site):
    site = Collected(make_site("filestorage", **OWNED), share=0.2, **AT_ONCE)
    commit_blobs(site.db, a=b"1", b=b"1", c=b"1")
    commit_blobs(site.db, a=b"2")
    site.db.pack(time.time() + 1)
    site.round()
    with pytest.raises(UnsafeError, match=r"1 of 4 objects would go, 25%.*--allow 25%"):
        site.round()
    site.plan()
    with pytest.raises(UnsafeError, match="--allow 25%"):
        site.collection.execute("last")
    assert len(site.blobs()) == 4
    site.collection.margins = dataclasses.replace(site.collection.margins, share=0.25)
    _, outcome = site.collection.execute("last")
    assert outcome.deleted.blobs == 1


def test_what_is_not_ours_stays_whatever_the_margins_are(make_site):
    site = Collected(make_site("filestorage", **OWNED), **AT_ONCE)
    commit_blobs(site.db, a=b"1")
    store = site.storage.store_
    foreign = [
        "readme.txt",
        "blobs/readme.txt",
        f"blobs/{1:016x}/{1:031x}",
        "blobsx/1",
        f"BLOBS/{1:016x}/{1:032x}",
        "ümläut",
    ]
    old = ["blobs/1f/3c4d.blob", f"blobs/{31:016x}/{15437:016x}.blob"]
    addons = ["addons/collective.x/a", f"addons/blobs/{1:016x}/{1:032x}"]
    for key in [*foreign, *old, *addons]:
        store.put_bytes(key, b"x")
    for _ in range(3):
        plan, outcome = site.round()
    assert outcome.deleted.blobs == 0
    tally = plan.tally
    assert (tally.foreign.blobs, tally.old.blobs, tally.addons.blobs) == (len(foreign), len(old), len(addons))
    assert sorted(plan.tally.foreign_keys) == sorted(foreign)
    assert set(bucket_keys(site.site.settings.store)) >= {*foreign, *old, *addons}


def test_leftovers_of_checks_and_uploads_go_under_the_same_margins(make_site, settings, s3):
    site = Collected(make_site("filestorage", **OWNED))
    commit_blobs(site.db, a=b"1")
    site.storage.store_.put_bytes(".s3blobs-check/0123-word", b"left by a check that was killed")
    s3.create_multipart_upload(Bucket=settings.bucket, Key=blob_key(bytes(8), draw_name()))
    s3.create_multipart_upload(Bucket=settings.bucket, Key="somebody/elses")
    _, outcome = site.rounds()
    assert (outcome.deleted.blobs, outcome.aborted_uploads) == (1, 1)
    assert [key for key, _, _ in site.storage.store_.list_uploads()] == ["somebody/elses"]


# One at a time


def test_one_gc_at_a_time(make_site):
    site = Collected(make_site("filestorage", **OWNED), **AT_ONCE)
    commit_blobs(site.db, a=b"1")
    control = read_control(site.store)
    with leased(site.store, Margins(), Clock(), control):
        with pytest.raises(Taken, match="began meanwhile"), leased(site.store, Margins(), Clock(), control):
            pass
        with pytest.raises(Taken, match="is running, or was killed"):
            site.round()
    site.round()


def test_plans_of_two_ranges_made_at_the_same_time_keep_each_others_dates(make_site):
    site = Collected(make_site("filestorage", **OWNED), **AT_ONCE)
    commit_blobs(site.db, a=b"1", b=b"1")
    commit_blobs(site.db, a=b"2", b=b"2")
    site.db.pack(time.time() + 1)
    oids = sorted({bytes.fromhex(key.split("/")[1]) for key in site.blobs()})
    scopes = Scope(last=oids[0]), Scope(first=oids[1])
    for made in range(2):  # in the second round all have their dates
        plans = [site.collection.plan(scope) for scope in scopes]
        for plan in plans:
            with plan:
                site.collection.publish(plan)
                assert plan.tally.waiting.blobs + plan.tally.condemned.blobs == 1
        ledger = site.storage.store_.get_bytes(LEDGER).decode().splitlines()
        assert len(ledger) == 3 and ledger[1:] == sorted(ledger[1:]), made
    names = [plan.id for plan in plans]
    assert [site.collection.execute(name)[1].deleted.blobs for name in names] == [1, 1]
    assert len(site.blobs()) == 2


def test_what_another_gc_saw_in_use_meanwhile_begins_anew(make_site):
    """One plan is made, another one is made and published, then the first one is."""
    site = Collected(make_site("filestorage", **OWNED), grace=0.0, keep=DAY)
    commit_blobs(site.db, a=b"1")
    commit_blobs(site.db, a=b"2")
    site.db.pack(time.time() + 1)
    site.plan()
    [dead] = [line.split("\t")[0] for line in site.storage.store_.get_bytes(LEDGER).decode().splitlines()[1:]]
    site.store.advance(2 * DAY)
    first = site.collection.plan()
    assert first.tally.condemned.blobs == 1
    with Ledger(first.at, first.at) as without:  # as a gc writes it that sees everything in use
        write_ledger(site.store, without)
    with first:
        site.collection.publish(first)
    [entry] = site.storage.store_.get_bytes(LEDGER).decode().splitlines()[1:]
    assert entry.split("\t")[:2] == [dead, str(first.at)]
    _, outcome = site.collection.execute("last")
    assert (outcome.deleted.blobs, outcome.spared) == (0, 1) and dead in site.blobs()


def test_a_lease_that_nobody_renews_ends(make_site):
    site = Collected(make_site("filestorage", **OWNED), **AT_ONCE)
    commit_blobs(site.db, a=b"1")
    site.storage.store_.put_bytes(lease_key(7), b"{}")
    with pytest.raises(Taken):
        site.round()
    site.store.advance(HOUR)
    site.round()
    assert read_control(site.store).generation == 8
    site.store.advance(2 * DAY)
    site.round()
    assert sorted(read_control(site.store).leases) == [8, 9]  # those of other days go, but for the last one


def test_who_looked_long_ago_looks_again_before_it_takes_a_lease(make_site):
    """What it saw may have been swept: a number before the newest would be free."""
    site = Collected(make_site("filestorage", **OWNED), **AT_ONCE)
    commit_blobs(site.db, a=b"1")
    site.round()
    long_ago = read_control(site.store)
    for _ in range(3):
        site.store.advance(2 * DAY)
        site.round()
    assert long_ago.generation + 1 not in read_control(site.store).leases
    with pytest.raises(Taken, match="began meanwhile"), leased(site.store, Margins(), Clock(), long_ago):
        pass


def test_a_holder_that_slept_too_long_stops_by_itself(make_site):
    site = Collected(make_site("filestorage", **OWNED))
    commit_blobs(site.db, a=b"1")
    moment = [0.0]
    clock = Clock(monotonic=lambda: moment[0])
    with leased(site.store, Margins(), clock, read_control(site.store)) as lease:
        moment[0] = 200.0
        lease.hold()  # renewed
        moment[0] = 600.0
        lease.hold()
        moment[0] = 1200.0
        with pytest.raises(Taken, match="too long without a sign of life"):
            lease.hold()


def test_of_many_claims_the_oldest_goes_on(make_site, tier):
    """Where the store has no atomic conditional write: never two, and never nobody who waits long enough."""
    site = Collected(make_site("filestorage", **OWNED))
    commit_blobs(site.db, a=b"1")
    site.storage.store_.conditional_put = False
    margins = Margins(claim_wait=0.3)
    inside, most, took = [], [], []

    def work(number):
        for _ in range(4):
            try:
                with leased(site.store, margins, Clock(), read_control(site.store)):
                    inside.append(number)
                    most.append(len(inside))
                    took.append(number)
                    time.sleep(0.1)
                    inside.remove(number)
            except Taken:
                pass

    in_two_threads(work)
    assert set(most) == {1} and took


def test_pack_does_not_wait_for_a_claim(make_site, caplog):
    site = make_site("filestorage", **{**OWNED, "gc_on_pack": "execute"})
    db = site.db()
    commit_blobs(db, a=b"1")
    db.storage.store_.conditional_put = False
    db.pack(time.time() + 1)
    assert "no atomic conditional write: run `s3blobs gc`" in caplog.text
    assert not any(key.startswith("gc/claim/") for key in bucket_keys(site.settings.store))


# pack()


@pytest.mark.parametrize("mode", ["off", "plan", "execute"])
def test_what_a_pack_does(make_site, mode, caplog):
    caplog.set_level("INFO")
    site = make_site("filestorage", **{**OWNED, "gc_on_pack": mode, "gc_grace": 0.0, "gc_keep": 0.0})
    db = site.db()
    commit_blobs(db, a=b"1", **{f"kept{number}": b"k" for number in range(10)})
    commit_blobs(db, a=b"2")
    for _ in range(2):
        db.pack(time.time() + 1)
    keys = bucket_keys(site.settings.store)
    assert len(site.keys()) == (11 if mode == "execute" else 12)
    assert (LEDGER in keys) == (mode != "off")
    if mode != "off":
        assert "0 objects deleted (0 bytes); 1 wait, the first until" in caplog.text
    if mode == "execute":
        assert "1 objects deleted (1 bytes)" in caplog.text


@pytest.mark.parametrize("kind", PERSISTENT)
def test_packs_of_each_base_collect(make_site, kind):
    """In the second pack at the earliest."""
    site = make_site(kind, **{**OWNED, "gc_on_pack": "execute", "gc_grace": 0.0, "gc_keep": 0.0})
    db = site.db()
    commit_blobs(db, a=b"1", **{f"kept{number}": b"k" for number in range(10)})
    commit_blobs(db, a=b"2")
    db.pack(time.time() + 1)
    assert len(site.keys()) == 12
    db.pack(time.time() + 1)
    assert len(site.keys()) == 11 and read_blob(db, "a") == b"2"


def test_a_relstorage_that_only_prepares_a_pack_collects_nothing(make_site):
    site = make_site("sqlite-hp", **{**OWNED, "gc_on_pack": "execute"})
    db = site.db()
    commit_blobs(db, a=b"1")
    db.storage.pack(time.time() + 1, referencesf, prepack_only=True)
    assert not any(key.startswith("gc/lease/") for key in bucket_keys(site.settings.store))
    db.storage.pack(time.time() + 1, referencesf, skip_prepack=True)
    assert any(key.startswith("gc/lease/") for key in bucket_keys(site.settings.store))


def test_inside_a_zeo_server_a_clients_pack_collects(tmp_path, settings):
    """There our section is around the server's storage, and gc reads that."""
    base = f"<filestorage>\n  path {tmp_path}/Data.fs\n</filestorage>"
    inner = section(settings, tmp_path / "cache", base, "owner www.example.org", name="main")
    for name, value in keys_of(settings).items():
        if name.startswith("SITE_"):
            os.environ[name] = value
    port, process = run_zeo(tmp_path, "%import collective.s3blobstorage\n" + inner)
    try:
        client = ClientStorage(
            ("127.0.0.1", port), "main", wait_timeout=30, blob_dir=str(tmp_path / "blobs"), shared_blob_dir=False
        )
        db = ZODB.DB(client)
        commit_blobs(db, a=b"1")
        commit_blobs(db, a=b"2")
        db.pack(time.time() + 1)
        assert any(key.startswith("gc/lease/") for key in bucket_keys(settings))
        assert read_blob(db, "a") == b"2"
        db.close()
    finally:
        process.terminate()
        process.wait()
        for name in ("SITE_ACCESS_KEY", "SITE_SECRET_KEY"):
            os.environ.pop(name, None)


def test_a_pack_during_an_outage_is_a_pack(through, proxy, caplog):
    db = through.db(gc_on_pack="execute")
    commit_blobs(db, a=b"a, last")
    proxy.fail(answer(503), target="gc/", times=1000)
    db.pack(time.time() + 1)
    proxy.forgive()
    assert "gc after the pack failed, the pack did not" in caplog.text
    assert read_blob(db, "a") == b"a, last"
