"""Shared objects by address, through sources, and mirrored from them."""

from __future__ import annotations

import dataclasses
import os
import urllib.request
from contextlib import closing

import pytest
import ZODB
from servers.faults import answer
from sites import bucket_keys, commit_blobs, connected, raw_client, read_blob, wait_until
from test_address import requests_of
from test_dedup import DATA, OTHER, Held, condemn, convert, name_of, remove, state_of, undo, where
from ZODB.FileStorage import FileStorage

from collective.s3blobstorage.errors import Unavailable
from collective.s3blobstorage.keys import OBJECTS, blob_key, object_key
from collective.s3blobstorage.objectstore import open_store
from collective.s3blobstorage.overlay.interfaces import Revision, SourceOptions
from collective.s3blobstorage.overlay.lacking import Lacking
from collective.s3blobstorage.overlay.settings import S3Settings
from collective.s3blobstorage.settings import StorageSettings
from collective.s3blobstorage.storage import open_storage
from collective.s3blobstorage.storage.mirrored import write_mirrored

pytestmark = pytest.mark.clear  # it is refused where keys of ours encrypt

WHOLE = {"a": DATA, "b": DATA, "other": OTHER}


@pytest.fixture
def counted(settings, proxy):
    return dataclasses.replace(settings, endpoint_url=proxy.endpoint_url)


def fetched(address) -> bytes:
    """What a browser gets that is sent there."""
    url = address.store.presign_get(address.key, seconds=60).url
    with urllib.request.urlopen(url) as response:
        return response.read()


# Addresses


def test_the_address_is_that_of_the_bytes_and_is_asked_for_once(make_site, counted, proxy):
    site = make_site("filestorage", store=counted, dedup=True, owner="one")
    db = site.db()
    commit_blobs(db, **WHOLE)
    found, lines = requests_of(proxy, db, *WHOLE)
    assert [address.key for address in found] == [object_key(name_of(data)) for data in WHOLE.values()]
    assert [line.split()[0] for line in lines] == ["HEAD", "HEAD"]  # two of them are one object
    assert fetched(found[1]) == DATA and found[1].size == len(DATA)
    found_again, lines = requests_of(proxy, db, *WHOLE)
    assert found_again == found and lines == []
    site.close_all()
    found_again, lines = requests_of(proxy, site.db(), *WHOLE)
    assert [address.key for address in found_again] == [address.key for address in found] and lines == []


def test_of_what_has_its_own_object_again(make_site, counted, proxy):
    """It was restored where the generation had been given up."""
    site = make_site("filestorage", store=counted, dedup=True, owner="one")
    db = site.db()
    commit_blobs(db, a=DATA)
    oid, _ = where(db, "a")
    key = blob_key(oid, state_of(db, "a").name)
    db.storage.store_.copy(object_key(name_of(DATA)), key)
    remove(counted, object_key(name_of(DATA)))
    [address], lines = requests_of(proxy, db, "a")
    assert address.key == key and [line.split()[0] for line in lines] == ["HEAD", "HEAD"]
    assert fetched(address) == DATA


def test_of_what_is_converted_afterwards(make_site, counted, proxy, monkeypatch):
    """An object of its own may be taken away: what was seen is believed for a minute, and not written down."""
    site = make_site("filestorage", store=counted, owner="one")
    db = site.db()
    commit_blobs(db, a=DATA)
    site.close_all()
    site.open(dedup=True)
    site.close_all()
    db = site.db()
    oid, _ = where(db, "a")
    name = state_of(db, "a").name
    [address], lines = requests_of(proxy, db, "a")
    assert address.key == blob_key(oid, name) and len(lines) == 1
    _, lines = requests_of(proxy, db, "a")
    assert lines == []
    convert(counted, oid, name, DATA)
    site.close_all()
    db = site.db()
    [address], lines = requests_of(proxy, db, "a")
    assert address.key == object_key(name_of(DATA)) and fetched(address) == DATA
    assert [line.split()[0] for line in lines] == ["HEAD", "GET", "HEAD"]
    _, lines = requests_of(proxy, db, "a")
    assert lines == []


def test_of_what_is_nowhere_there_is_none(make_site, counted, proxy):
    db = make_site("filestorage", store=counted, dedup=True, owner="one").db()
    commit_blobs(db, a=DATA)
    remove(counted, object_key(name_of(DATA)))
    [address], lines = requests_of(proxy, db, "a")
    assert address is None
    assert [line.split()[0] for line in lines] == ["HEAD", "HEAD", "GET", "HEAD"]  # its reference leads nowhere


def test_a_placeholder_only_where_nothing_leads_to_it(make_site, counted):
    site = make_site("filestorage", store=counted, owner="one")
    db = site.db()
    commit_blobs(db, a=DATA, gone=OTHER)
    for name in ("a", "gone"):
        oid, _ = where(db, name)
        if name == "a":
            convert(counted, oid, state_of(db, name).name, DATA)
        else:
            remove(counted, blob_key(oid, state_of(db, name).name))
    site.close_all()
    site.cold()
    db = site.db(missing_blob="placeholder")
    assert read_blob(db, "a") == DATA and read_blob(db, "gone") not in (DATA, OTHER)


# Sources


@pytest.fixture
def production(make_site, settings):
    """A site whose blobs are shared, below the prefix ``production``; closed."""
    site = make_site(
        "filestorage", store=dataclasses.replace(settings, prefix="production"), dedup=True, owner="production"
    )
    db = site.db()
    commit_blobs(db, **WHOLE)
    site.states = {name: (*where(db, name), state_of(db, name)) for name in WHOLE}
    site.close_all()
    return site


@pytest.fixture
def staging(production, counted, tmp_path):
    """``staging(**changes)``: a copy of its database that reads there, on the prefix ``staging``."""
    opened = []

    def make(mirror="off", source=None, **changes):
        at = dataclasses.replace(counted, prefix="staging")
        origin = dataclasses.replace(source or counted, prefix="production")
        options = SourceOptions("production", mirror=mirror)
        settings = StorageSettings(
            store=at,
            cache_dir=tmp_path / f"staging{len(opened)}",
            owner="staging",
            sources=(S3Settings(options, origin),),
            **{"preflight": False, **changes},
        )
        base = FileStorage(str(production.folder / "Data.fs"), read_only=True)
        base.isReadOnly = lambda: False  # for the bucket: what is read is mirrored
        db = ZODB.DB(open_storage(base, settings))
        opened.append(db)
        return db

    yield make
    for db in opened:
        db.close()


def staged(settings) -> Held:
    return Held(dataclasses.replace(settings, prefix="staging"))


def test_a_source_is_read_where_its_records_say(staging, proxy, settings):
    db = staging()
    assert {name: read_blob(db, name) for name in WHOLE} == WHOLE
    assert proxy.counts(f"/production/{OBJECTS}")["GetObject"] == 3
    assert not proxy.counts("/production/blobs/")
    held = staged(settings)
    assert held.objects == [] and held.own == []


def test_a_source_whose_blobs_were_converted(production, staging, settings, proxy):
    there = dataclasses.replace(settings, prefix="production")
    oid, _, state = production.states["a"]
    convert(there, oid, state.name, DATA, generation=7)
    remove(there, object_key(name_of(DATA)))
    db = staging()
    assert read_blob(db, "a") == DATA


def test_a_source_that_may_not_be_listed_cannot_tell(production, staging, settings, proxy):
    there = dataclasses.replace(settings, prefix="production")
    remove(there, object_key(name_of(DATA)))
    proxy.fail(answer(403, "AccessDenied"), method="GET", target="prefix=production", times=10)
    with pytest.raises(Unavailable):
        read_blob(staging(), "a")


@pytest.mark.parametrize("mirror", ["on", "background"])
def test_what_is_mirrored_shares_where_the_prefix_does(production, staging, settings, mirror):
    db = staging(mirror, dedup=True)
    assert {name: read_blob(db, name) for name in WHOLE} == WHOLE
    wait_until(lambda: len(staged(settings).objects) == 2)
    held = staged(settings)
    assert sorted(held.objects) == sorted([name_of(DATA), name_of(OTHER)]) and held.own == []
    # Of two that are equal the second one may have been read from the bucket by then: `s3blobs mirror` refers to it.
    referring = {(state.name, state.object) for _, _, state in production.states.values()}
    assert referring.issuperset(held.references) and {shared for _, shared in held.references} == set(held.objects)


def test_a_copy_of_the_base_refers_to_what_is_there_for_others(production, settings, counted, tmp_path):
    """A record names a shared object that is in this prefix already, of another revision."""
    at = dataclasses.replace(settings, prefix="copy")
    copy = StorageSettings(store=at, cache_dir=tmp_path / "copy", owner="copy", dedup=True)
    for given_up in (False, True):
        with closing(open_storage(FileStorage(str(tmp_path / f"other{given_up}.fs")), copy)) as storage:
            db = ZODB.DB(storage)
            commit_blobs(db, mine=DATA, other=OTHER)
        if given_up:
            condemn(at, DATA)
        with closing(open_storage(FileStorage(str(tmp_path / f"copy{given_up}.fs")), copy)) as storage:
            source = FileStorage(str(production.folder / "Data.fs"), read_only=True)
            storage.copyTransactionsFrom(source)  # which has no blobs
            source.close()
        held = Held(at)
        referring = {(state.name, state.object) for _, _, state in production.states.values()}
        if not given_up:
            assert referring.issubset(held.references) and held.own == []
            for key in bucket_keys(at):
                if any(f"/{name}." in key for name, _ in referring):
                    remove(at, key)
        else:
            assert len(held.own) == 2 and (production.states["other"][2].name, name_of(OTHER)) in held.references
            with closing(open_store(at)) as store:
                assert {store.get_bytes(key, limit=2 * len(DATA)) for key in held.own} == {DATA}


def test_a_reference_to_what_was_given_up_holds_nothing(make_site, settings):
    """A restore that was killed leaves one which came after the mark: gc may have listed the references before."""
    site = make_site("filestorage", store=settings, dedup=True, owner="one")
    db = site.db()
    commit_blobs(db, a=DATA, b=DATA, other=OTHER)
    state = state_of(db, "a")
    revision = Revision(*where(db, "a"), state)
    db.storage.reader.hold(revision)
    assert Held(settings).own == []
    condemn(settings, DATA)
    for _ in range(2):
        db.storage.reader.hold(revision)
        assert Held(settings).own == [blob_key(revision.oid, state.name)]
    remove(settings, object_key(state.object))
    site.close_all()
    site.cold()
    assert read_blob(site.db(), "a") == DATA


def test_what_is_mirrored_where_a_generation_was_given_up_has_its_own_object(production, staging, settings):
    condemn(dataclasses.replace(settings, prefix="staging"), DATA)
    db = staging("on", dedup=True)
    assert {name: read_blob(db, name) for name in WHOLE} == WHOLE
    held = staged(settings)
    assert held.objects == [name_of(OTHER)] and len(held.own) == 2 and len(held.references) == 1


def test_what_is_mirrored_where_nothing_is_shared_has_its_own_object(staging, settings):
    db = staging("on")
    assert {name: read_blob(db, name) for name in WHOLE} == WHOLE
    held = staged(settings)
    assert held.objects == [] and len(held.own) == 3 and held.references == []


def test_a_large_one_is_copied_by_the_store_to_where_it_is_shared(make_site, settings, counted, proxy, tmp_path):
    large = os.urandom(9 * 1024 * 1024)
    there = dataclasses.replace(settings, prefix="production")
    site = make_site("filestorage", store=there, dedup=True, owner="production")
    commit_blobs(site.db(), large=large)
    site.close_all()
    source = S3Settings(
        SourceOptions("production", mirror="background"), dataclasses.replace(counted, prefix="production")
    )
    at = StorageSettings(
        store=dataclasses.replace(counted, prefix="staging"),
        cache_dir=tmp_path / "staging",
        owner="staging",
        sources=(source,),
        dedup=True,
    )
    with closing(ZODB.DB(open_storage(site.base(), at))) as db:
        with connected(db) as connection, connection.root()["large"].open() as file:
            file.seek(-10, os.SEEK_END)
            assert file.read() == large[-10:]
            wait_until(lambda: staged(settings).objects == [name_of(large)])
        assert proxy.counts(f"/staging/{OBJECTS}")["CopyObject"] == 1
    held = staged(settings)
    assert len(held.references) == 1 and held.own == []
    head = raw_client(settings).head_object(Bucket=settings.bucket, Key=f"staging/{object_key(name_of(large))}")
    assert "oid" not in head["Metadata"]


def test_what_no_hash_proves_is_not_copied_to_where_it_is_shared(production, staging, settings):
    """Other bytes of the same size would be everybody's who stores that file."""
    oid, tid, state = production.states["a"]
    key = object_key(state.object)
    put = {"Bucket": settings.bucket, "Key": f"production/{key}", "Body": b"x" * len(DATA)}
    raw_client(settings).put_object(**put)
    db = staging(dedup=True)
    overlay, store = db.storage.overlay, db.storage.store_
    assert overlay.copy_into(Revision(oid, tid, state), store, key) is None
    assert staged(settings).objects == []
    raw_client(settings).put_object(**put, Metadata={"sha256": state.sha256.hex()})  # as our uploads say it
    assert overlay.copy_into(Revision(oid, tid, state), store, key) == len(DATA)


def test_what_the_bucket_lacks_is_not_asked_for_where_a_reference_is(production, staging, settings, proxy):
    """The listing of the bucket tells of revisions that were converted, too."""
    oid, tid, state = production.states["a"]
    there = dataclasses.replace(settings, prefix="production")
    with closing(open_store(there)) as store:
        lacking = Lacking(store, now=lambda: 4e9)
        lacking._read("")
        own = blob_key(oid, state.name)
        assert not lacking.lacks((own,), tid)
        assert not lacking.lacks((object_key(state.object), own), tid)
        assert lacking.lacks((blob_key(oid, "f" * 32),), tid)


def test_after_a_run_that_mirrored_all_the_source_can_go(production, staging, settings, proxy):
    db = staging("on", dedup=True)
    assert {name: read_blob(db, name) for name in WHOLE} == WHOLE
    write_mirrored(db.storage.store_, db.storage.lastTransaction(), ["production"])
    for key in bucket_keys(dataclasses.replace(settings, prefix="production")):
        remove(dataclasses.replace(settings, prefix="production"), key)
    found, _ = requests_of(proxy, db, *WHOLE)
    assert [fetched(address) for address in found] == list(WHOLE.values())


@pytest.mark.parametrize("away", [False, True], ids=["source answers", "source is out"])
@pytest.mark.parametrize("part_threshold", [128 * 1024, 8 * 1024 * 1024], ids=["parts", "whole"])
def test_what_was_converted_is_found_behind_sources_by_who_did_not_know(
    make_site, settings, counted, proxy, part_threshold, away
):
    """The process was opened before the prefix had shared objects."""
    source = S3Settings(
        SourceOptions("far", mirror="off", negative_cache=0),
        dataclasses.replace(counted, prefix="far", outage_patience=0.0, download_max_attempts=1),
    )
    site = make_site(
        "filestorage",
        store=settings,
        owner="one",
        sources=(source,),
        part_threshold=part_threshold,
        part_size=64 * 1024,
        cache_fill_on_commit="off",
        preflight=False,
    )
    db = site.db()
    commit_blobs(db, a=DATA)
    oid, _ = where(db, "a")
    convert(settings, oid, state_of(db, "a").name, DATA)
    assert not db.storage.reader.deduplicated
    if away:
        proxy.fail(answer(503, "SlowDown"), times=1000)
    with connected(db) as connection, connection.root()["a"].open() as file:
        file.seek(len(DATA) // 2)
        assert file.read(10) == DATA[len(DATA) // 2 :][:10]
        file.seek(0)
        assert file.read() == DATA


def test_an_undo_behind_the_fork_refers_to_what_is_there_for_others(make_site, settings, tmp_path):
    """The source is not asked for the undo's revision: what it goes back to has to stay in the bucket."""
    there = dataclasses.replace(settings, prefix="production")
    site = make_site("filestorage", store=there, dedup=True, owner="production")
    db = site.db()
    commit_blobs(db, a=DATA)
    name = state_of(db, "a").name
    fork = commit_blobs(db, a=OTHER)
    site.close_all()
    at = StorageSettings(
        store=dataclasses.replace(settings, prefix="staging"),
        cache_dir=tmp_path / "staging",
        owner="staging",
        sources=(S3Settings(SourceOptions("production", mirror="off", fork_tid=fork), there),),
        dedup=True,
    )
    with closing(ZODB.DB(open_storage(site.base(), at))) as db:
        commit_blobs(db, mine=DATA)
        assert (name, name_of(DATA)) not in staged(settings).references
        undo(db, first=1)
        assert (name, name_of(DATA)) in staged(settings).references and staged(settings).own == []
        assert read_blob(db, "a") == DATA
