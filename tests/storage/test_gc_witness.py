"""Is this the database whose blobs the prefix has? Copies, restored backups, and the processes of one site."""

from __future__ import annotations

import dataclasses
import json
import random
import shutil
import time
from time import time as real_time

import pytest
from persistent.mapping import PersistentMapping
from servers.faults import answer, hang
from sites import PERSISTENT, bucket_keys, commit_blobs, connected, read_blob, wait_until
from store_time import DAY, HOUR, ShiftedStore
from test_gc import OWNED, Collected
from ZODB.blob import Blob
from ZODB.utils import z64

from collective.s3blobstorage.errors import RecordError, UnsafeError
from collective.s3blobstorage.keys import LEDGER
from collective.s3blobstorage.storage.witness import Witness

NOT_THIS = "not the database whose blobs the prefix has"


def witnesses(site):
    return [key for key in bucket_keys(site.settings.store) if key.startswith("gc/witness/")]


def copied(site, make_site):
    """The whole site once more, on the same prefix, as a server's image has it."""
    copy = make_site(site.kind, **OWNED)
    for file in site.folder.iterdir():
        if file.name.startswith(("Data.fs", "sqlite")) and not file.name.endswith(".lock"):
            (shutil.copytree if file.is_dir() else shutil.copy)(file, copy.folder / file.name)
    return copy


def test_a_process_tells_what_it_committed(make_site):
    site = make_site("filestorage", **OWNED)
    db = site.db()
    assert witnesses(site) == []
    tid = commit_blobs(db, a=b"1")
    wait_until(lambda: witnesses(site))
    (key,) = witnesses(site)
    told = Witness.from_json(db.storage.store_.get_bytes(key))
    assert told == Witness(tid, ((tid, z64),))  # the root, which was there before
    commit_blobs(db, a=b"2")
    db.close()
    assert Witness.from_json(site.open().store_.get_bytes(key)) == told  # at most hourly


def test_a_process_that_commits_nothing_or_only_reads_writes_nothing_at_once(make_site):
    site = make_site("filestorage", **OWNED)
    site.db().close()
    assert site.open(read_only=True).witness is None
    site.close_all()
    assert witnesses(site) == []


def test_who_copies_transactions_from_elsewhere_tells_nothing(make_site):
    """Their tids are old, and would make the database look like another one."""
    old = make_site("filestorage", **OWNED)
    db = old.db()
    commit_blobs(db, a=b"1")
    wait_until(lambda: witnesses(old))
    site = make_site("filestorage", **OWNED)
    target = site.open()
    target.copyTransactionsFrom(db.storage)
    target.witness.write()
    told = [Witness.from_json(target.store_.get_bytes(key)) for key in witnesses(site)]
    assert [witness.void for witness in told].count(True) == 1


def test_a_store_that_is_out_holds_up_no_close(make_site, settings, proxy, caplog):
    store = dataclasses.replace(settings, endpoint_url=proxy.endpoint_url)
    site = make_site("filestorage", store=store, **OWNED)
    db = site.db()
    proxy.fail(hang("before"), method="PUT", target="gc/witness/")
    commit_blobs(db, a=b"1")
    wait_until(lambda: any("gc/witness/" in line for line in proxy.lines))
    begun = time.monotonic()
    db.close()
    assert time.monotonic() - begun < 20
    proxy.forgive()


def test_a_store_that_refuses_it_is_told_once(make_site, settings, proxy, caplog):
    store = dataclasses.replace(settings, endpoint_url=proxy.endpoint_url)
    site = make_site("filestorage", store=store, **OWNED)
    db = site.db()
    proxy.fail(answer(403, "AccessDenied"), method="PUT", target="gc/witness/", times=10)
    commit_blobs(db, a=b"1")
    wait_until(lambda: "s3:PutObject" in caplog.text)
    db.storage.witness.write()
    told = [record for record in caplog.records if "cannot tell a copy" in record.getMessage()]
    assert [record.levelname for record in told if record.levelname == "WARNING"] == ["WARNING"]


@pytest.mark.parametrize("data", [b"", b"{}", b'{"format": 1, "tid": "00", "changed": []}', b"[]"])
def test_what_is_no_witness_stops_gc(data):
    with pytest.raises(RecordError, match="damaged"):
        Witness.from_json(data)


def test_a_newer_one_stops_gc():
    with pytest.raises(RecordError, match="newer release"):
        Witness.from_json(json.dumps({"format": 2, "tid": "0" * 16, "changed": []}).encode())


@pytest.mark.parametrize("kind", ["filestorage", "sqlite-hp", "sqlite-hf"])
def test_a_copy_is_refused_before_and_after_its_own_commit(make_site, kind):
    production = make_site(kind, **OWNED)
    db = production.db()
    commit_blobs(db, a=b"a", b=b"b")
    db.close()
    staging = Collected(copied(production, make_site))
    db = production.db()
    commit_blobs(db, a=b"a, as production has it now")
    wait_until(lambda: len(witnesses(production)) == 2)
    with pytest.raises(UnsafeError, match=NOT_THIS):
        staging.plan()
    commit_blobs(staging.db, b=b"b, as staging has it now")
    with pytest.raises(UnsafeError, match=NOT_THIS):
        staging.plan()
    with pytest.raises(UnsafeError, match=NOT_THIS):
        staging.round()


def test_two_databases_on_one_prefix_are_refused_both(make_site):
    """As where a second one was added to zope.conf with the lines of the first."""
    one = Collected(make_site("filestorage", **OWNED))
    commit_blobs(one.db, a=b"of one")
    wait_until(lambda: witnesses(one.site))
    two = Collected(make_site("filestorage", **OWNED))
    commit_blobs(two.db, a=b"of two")
    wait_until(lambda: len(witnesses(one.site)) == 2)
    for each in (one, two):
        with pytest.raises(UnsafeError, match=NOT_THIS):
            each.plan()


def test_dates_begin_anew_where_two_databases_wrote(make_site):
    """What was dated while nobody knew of the other proves nothing."""
    site = Collected(make_site("filestorage", **OWNED))
    commit_blobs(site.db, a=b"1")
    commit_blobs(site.db, a=b"2")
    site.db.pack(time.time() + 1)
    site.store.advance(2 * DAY)
    site.round()
    assert len(site.storage.store_.get_bytes(LEDGER).splitlines()) == 2
    other = Witness(b"\x07" * 8).to_json()
    site.storage.store_.put_bytes("gc/witness/other", other)
    with pytest.raises(UnsafeError, match="gc/witness/other"):
        site.plan()
    assert len(site.storage.store_.get_bytes(LEDGER).splitlines()) == 1


def test_a_restored_data_fs_keeps_every_blob_of_its_day(make_site):
    site = make_site("filestorage", **OWNED)
    db = site.db()
    commit_blobs(db, a=b"monday", b=b"monday")
    db.close()
    backup = site.folder / "backup.fs"
    shutil.copy(site.folder / "Data.fs", backup)
    collected = Collected(site)
    commit_blobs(collected.db, a=b"tuesday")
    with connected(collected.db) as connection:
        del connection.root()["b"]
        connection.transaction_manager.commit()
    wait_until(lambda: len(witnesses(site)) == 2)
    collected.db.pack(time.time() + 1)
    collected.store.advance(2 * DAY)
    collected.round()  # dates what monday had
    collected.store.advance(4 * DAY)
    collected.round()
    collected.db.close()
    for file in site.folder.glob("Data.fs*"):
        file.unlink()
    shutil.copy(backup, site.folder / "Data.fs")
    site.cold()
    restored = Collected(site)
    restored.store._shifts = collected.store._shifts
    with pytest.raises(UnsafeError, match="s3blobs adopt"):
        restored.round()
    assert read_blob(restored.db, "a") == b"monday" and read_blob(restored.db, "b") == b"monday"


@pytest.mark.parametrize("kind", PERSISTENT)
def test_what_was_deleted_and_packed_away_since_contradicts_nobody(make_site, kind):
    site = Collected(make_site(kind, **OWNED))
    commit_blobs(site.db, a=b"1")
    commit_blobs(site.db, b=b"1")
    commit_blobs(site.db, b=b"2")
    site.storage.witness.write()
    with connected(site.db) as connection:
        del connection.root()["a"], connection.root()["b"]
        connection.transaction_manager.commit()
    site.db.pack(time.time() + 1)
    assert site.plan().tally.young.blobs == 3


@pytest.mark.parametrize("kind", ["filestorage", "sqlite-hp", "sqlite-hf"])
def test_a_copy_that_has_just_committed_and_packed_is_refused(make_site, kind):
    """Its last transaction is newer than what production knows, and a pack hides which older ones it has."""
    production = make_site(kind, **OWNED)
    db = production.db()
    commit_blobs(db, a=b"a", b=b"b")
    with connected(db) as connection:
        connection.root()["folder"] = PersistentMapping()
        connection.transaction_manager.commit()
    db.close()
    staging = Collected(copied(production, make_site))
    db = production.db()
    with connected(db) as connection:
        connection.root()["folder"]["blob"] = Blob(b"of production")
        connection.transaction_manager.commit()
    wait_until(lambda: len(witnesses(production)) == 2)
    commit_blobs(staging.db, c=b"of staging")
    staging.db.pack(time.time() + 1)
    with pytest.raises(UnsafeError, match=NOT_THIS):
        staging.plan()


def test_processes_of_one_site_do_not_contradict_each_other(make_site):
    site = make_site("sqlite-hf", **OWNED)
    one, two = site.db(), site.db()
    for number in range(3):
        commit_blobs(one, a=b"one %d" % number)
        commit_blobs(two, b=b"two %d" % number)
    one.storage.witness.write()
    two.storage.witness.write()
    collected = Collected(site)
    assert collected.plan().tally.used.blobs == 2
    one.pack(time.time() + 1)
    assert collected.plan().tally.used.blobs == 2


@pytest.fixture
def clock(monkeypatch):
    """The machine's clock and the store's, moved on together: transactions have their time from here."""

    class Moved:
        def advance(self, seconds):
            ShiftedStore(None, self.shifts).advance(seconds)

    moved = Moved()
    moved.shifts = [(0.0, 0.0)]
    monkeypatch.setattr(time, "time", lambda: real_time() + moved.shifts[-1][1])
    return moved


@pytest.mark.parametrize("kind", ["filestorage", "sqlite-hp", "sqlite-hf"])
def test_a_whole_configuration_copied_with_few_commits_on_both_sides(make_site, kind, clock, tier):
    """Both believe that the prefix is theirs, delete and pack, and the copy collects garbage. Neither loses a blob.

    Only the copy does: where both do, each takes back the dates that the other one gave.
    """
    for seed in range(tier["gc_copies"]):
        _live_side_by_side(make_site, kind, clock, random.Random(seed), tier["gc_days"])


def _live_side_by_side(make_site, kind, clock, chance, days):
    production = make_site(kind, **{**OWNED, "owner": f"site{chance.random()}"})
    store = dataclasses.replace(production.settings.store, prefix=f"side{chance.getrandbits(32):x}")
    production.settings = dataclasses.replace(production.settings, store=store)
    db = production.db()
    for name in "abcdef":
        commit_blobs(db, **{name: name.encode()})
    db.close()
    staging = copied(production, make_site)
    staging.settings = dataclasses.replace(production.settings, cache_dir=staging.settings.cache_dir)
    sides = []
    for site in (production, staging):
        side = Collected(site)
        side.store._shifts = clock.shifts
        sides.append((side, dict.fromkeys("abcdef")))
    for side, blobs in sides:
        for name in blobs:
            blobs[name] = read_blob(side.db, name)
    refused = 0
    for _day in range(days):
        for hour in range(0, 24, 3):
            clock.advance(3 * HOUR)
            for side, blobs in sides:
                if chance.random() < 5 / 8 * chance.random():
                    name = chance.choice("abcdefghij")
                    blobs[name] = f"{side.site.folder.name} {name} {chance.random()}".encode()
                    commit_blobs(side.db, **{name: blobs[name]})
                elif blobs and chance.random() < 0.1:
                    name = chance.choice(list(blobs))
                    with connected(side.db) as connection:
                        del connection.root()[name]
                        connection.transaction_manager.commit()
                    del blobs[name]
                side.storage.witness.write()  # hourly, as its thread does by the machine's own time
                if chance.random() < 0.05:
                    side.db.pack(time.time() + 1)
                if hour == 21 and side is sides[1][0]:
                    try:
                        side.round()
                    except UnsafeError:
                        refused += 1
    assert refused > days / 2
    for side, blobs in sides:
        side.db.close()
        side.site.cold()
        db = side.site.db()
        assert {name: read_blob(db, name) for name in blobs} == blobs
        db.close()
