"""Legal holds: of a blob's object, by the storage and by the command; what they outlive, and what is said of them."""

from __future__ import annotations

import dataclasses
import threading
import time
from contextlib import closing

import pytest
from checked_sites import Checked
from command_line import document, keys_of, one_line, s3blobs, section
from converted_blobs import begin_sharing, converted
from locked_buckets import lockable, sharing, versions
from persistent.mapping import PersistentMapping
from rolling_keys import after, before
from sites import commit_blobs, connected, read_blob
from store_time import DAY, ShiftedStore
from ZODB.blob import Blob

from collective.s3blobstorage.errors import BlobMissing, ConfigurationError, Refused
from collective.s3blobstorage.keys import read_key
from collective.s3blobstorage.maintenance.gc.locked import HELD
from collective.s3blobstorage.maintenance.gc.margins import Margins
from collective.s3blobstorage.maintenance.gc.references import view_of
from collective.s3blobstorage.maintenance.gc.runs import Collection
from collective.s3blobstorage.maintenance.holds import ELSEWHERE, RECORD, Holds
from collective.s3blobstorage.objectstore import open_store
from collective.s3blobstorage.settings import Retention

OWNED = {"owner": "www.example.org", "preflight": False, "gc_on_pack": "off"}


@pytest.fixture
def locking(s3):
    with lockable(s3) as name:
        yield name


@pytest.fixture
def site(make_site, settings, locking):
    made = make_site("filestorage", store=dataclasses.replace(settings, bucket=locking), **OWNED)
    made.database = made.db()
    return made


def oid_of(db, name):
    with connected(db) as connection:
        return connection.root()[name]._p_oid


def test_a_hold_is_set_told_and_released(site):
    db = site.database
    commit_blobs(db, a=b"a1", b=b"b1")
    holds = db.storage.holds()
    oid, other = oid_of(db, "a"), oid_of(db, "b")
    assert not holds.of(oid).held
    assert holds.set(oid, True).held
    assert (holds.of(oid).held, holds.of(other).held) == (True, False)
    assert read_blob(db, "a") == b"a1"
    assert not holds.set(oid, False).held
    assert not holds.of(oid).held


def test_what_is_held_cannot_be_deleted_and_what_replaces_it_is_not_held(site, s3, locking):
    db = site.database
    commit_blobs(db, a=b"a1")
    oid = oid_of(db, "a")
    former = db.storage.holds().set(oid, True).key
    [version] = [line["VersionId"] for line in versions(s3, locking, former)]
    with pytest.raises(Exception, match="AccessDenied"):
        s3.delete_object(Bucket=locking, Key=former, VersionId=version)
    commit_blobs(db, a=b"a2")
    now = db.storage.holds().of(oid)
    assert now.key != former and not now.held
    assert db.storage.store_.lock_of(former, version).legal_hold


def test_gc_hides_it_says_why_it_stays_and_asks_again_each_week(site, s3, locking):
    db = site.database
    commit_blobs(db, a=b"a1", b=b"b1")
    former = db.storage.holds().set(oid_of(db, "a"), True).key
    commit_blobs(db, a=b"a2")
    db.pack(time.time() + 1)
    store = ShiftedStore(db.storage.store_)
    collection = Collection(store, lambda: view_of(db.storage._base), Margins(share=1.0))

    def planned():
        with collection.plan(versions=True) as plan:
            collection.publish(plan)
            return plan.tally

    store.advance(2 * DAY)
    assert planned().waiting.blobs == 1
    store.advance(8 * DAY)
    planned()
    assert collection.execute("last")[1].deleted.blobs == 1
    store.advance(8 * DAY)
    assert planned().versions.condemned.blobs == 2
    outcome = collection.execute("last")[1]
    assert [(failure["key"], failure["legal_hold"]) for failure in outcome.failures] == [(former, True)]
    store.advance(DAY)
    assert (planned().versions.condemned.blobs, planned().versions.locked.blobs) == (0, 2)
    [version] = [line["VersionId"] for line in versions(s3, locking, former) if "Size" in line]
    db.storage.store_.hold(former, False, version)
    store.advance(HELD)
    assert planned().versions.condemned.blobs == 2
    assert collection.execute("last")[1].deleted_versions.blobs == 2
    assert read_blob(db, "b") == b"b1" and former not in site.keys()


@pytest.mark.parametrize("retention", [None, Retention("governance", 3600.0)])
def test_a_change_of_keys_keeps_it(secure, locking, tmp_path, retention):
    kept = dataclasses.replace(secure, bucket=locking, retention=retention)
    key = "blobs/0000000000000001/" + "1" * 32
    (tmp_path / "file").write_bytes(b"held")
    with closing(open_store(dataclasses.replace(kept, encryption=before("client-side")))) as store:
        store.put_file(key, tmp_path / "file", metadata={})
        store.hold(key, True)
        until = store.lock_of(key).until
    with closing(open_store(dataclasses.replace(kept, encryption=after("client-side")))) as store:
        assert store.protect(key, convert=False).what == "rewrapped"
        assert store.lock_of(key).legal_hold
        assert store.head(key).lock.until == until
        assert (until is None) == (retention is None)


def test_what_has_no_object_is_told(make_site, settings, locking):
    store = dataclasses.replace(settings, bucket=locking, encryption=None)
    site = make_site("filestorage", store=store, inline_size=10, **OWNED)
    db = site.db()
    commit_blobs(db, tiny=b"1", gone=b"2" * 20)
    [key] = site.keys()
    db.storage.store_.delete([key])
    holds = db.storage.holds()
    assert holds.set(oid_of(db, "tiny"), True).where == RECORD
    assert holds.of(oid_of(db, "gone")).where == ELSEWHERE
    with pytest.raises(BlobMissing):
        holds.of(b"\0" * 8)  # the root object


def test_a_bucket_without_object_lock_is_told(make_site, settings):
    site = make_site("filestorage", **OWNED)
    db = site.db()
    commit_blobs(db, a=b"a1")
    with pytest.raises(ConfigurationError, match="needs Object Lock, and the bucket has none"):
        db.storage.holds().set(oid_of(db, "a"), True)
    assert not db.storage.holds().of(oid_of(db, "a")).held
    with pytest.raises(Refused, match="reading only"):
        db.storage.holds(writable=False).set(oid_of(db, "a"), True)


# The command


class Content(PersistentMapping):
    """Stands for content of Plone: an ``id``, an attribute with a file, perhaps the field of the behaviour."""


@pytest.fixture
def conf(site, tmp_path, locking):
    """Two contents with a file each, of which one wants a hold, and the configuration."""
    db = site.database
    with connected(db) as connection:
        root = connection.root()
        for name, wants in (("held", True), ("free", False)):
            content = Content()
            content.id, content.file, content.legal_hold = name, Blob(name.encode()), wants
            root[name] = content
        connection.transaction_manager.commit()
    oids = {}
    with connected(db) as connection:
        for name in ("held", "free"):
            oids[name] = connection.root()[name].file._p_oid
    site.close_all()
    base = f"<filestorage>\n  path {site.folder}/Data.fs\n</filestorage>"
    path = tmp_path / "site.conf"
    store = site.settings.store
    owned = ("owner www.example.org", "preflight off")
    path.write_text("%import collective.s3blobstorage\n" + section(store, tmp_path / "cache", base, *owned))

    def run(*arguments):
        return s3blobs("--config", path, "legal-hold", *arguments, env=keys_of(store))

    run.oids = oids
    return run


def test_by_path_and_by_oid(conf):
    told = document(conf("set", "--path", "/held", "--json"))["items"]
    assert [(item["path"], item["field"], item["hold"]) for item in told] == [("/held", "file", True)]
    told = document(conf("list", "--json"))
    assert (told["asked"], [line["key"] for line in told["held"]]) == (2, [f"{told['held'][0]['key']}"])
    assert conf.oids["held"].hex() in told["held"][0]["key"]
    shown = conf("list", "--oid", conf.oids["free"].hex())
    assert shown.returncode == 0 and "not held" in shown.stdout
    assert conf("release", "--oid", conf.oids["held"].hex()).returncode == 0
    assert document(conf("list", "--json"))["held"] == []
    missing = conf("set", "--path", "/nowhere")
    assert missing.returncode == 2 and "no content with files in blobs" in one_line(missing)


def test_what_content_wants_is_found_and_held(conf):
    """As after a commit whose hold failed."""
    listed = conf("list", "--wanted", "--json")
    assert listed.returncode == 1
    assert [(item["path"], item["hold"]) for item in document(listed)["items"]] == [("/held", False)]
    assert conf("set", "--wanted").returncode == 0
    assert conf("list", "--wanted").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["set"], "Give one of --oid, --path, --wanted"),
        (["release"], "Say which blobs: --oid or --path"),
        (["set", "--oid", "1", "--path", "/held"], "Give one of"),
        (["list", "--wanted", "--path", "/held"], "Give one of"),
        (["set", "--oid", "xyz"], "is not an oid"),
    ],
)
def test_what_is_refused(conf, arguments, said):
    result = conf(*arguments)
    assert result.returncode == 2 and said in result.stderr


def test_any_thread_may_ask(site):
    db = site.database
    commit_blobs(db, **{f"b{number}": b"%d" % number for number in range(8)})
    oids = [oid_of(db, f"b{number}") for number in range(8)]
    holds: Holds = db.storage.holds()
    threads = [threading.Thread(target=holds.set, args=(oid, True)) for oid in oids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(holds.of(oid).held for oid in oids)


@pytest.mark.clear
def test_what_is_released_releases_no_other_that_shares_its_bytes(make_site, settings, s3_server, locking):
    sharing(s3_server)
    store = dataclasses.replace(settings, bucket=locking)
    site = make_site("filestorage", store=store, dedup=True, **OWNED)
    db = site.db()
    commit_blobs(db, a=b"equal" * 9, b=b"equal" * 9)
    first, second = oid_of(db, "a"), oid_of(db, "b")
    holds = db.storage.holds()
    assert not holds.of(first).held and not holds.set(first, False).held
    assert holds.set(first, True).key == holds.of(first).key == holds.set(first, True).key
    assert (holds.of(first).held, holds.of(second).held) == (True, False)
    assert holds.set(second, True).held
    assert not holds.set(second, False).held
    assert holds.of(first).held
    bucket = db.storage.store_
    [shared] = [line.key for line in bucket.list("objects/")]
    assert not bucket.lock_of(shared).legal_hold
    assert sum(read_key(line.key) is not None for line in bucket.list("blobs/")) == 2  # each has one of its own
    bucket.delete([shared])  # by somebody: what is held is there still
    site.close_all()
    site.cold()
    assert read_blob(site.db(), "a") == b"equal" * 9


@pytest.mark.clear
def test_what_is_held_keeps_an_object_of_its_own(make_site, settings, locking):
    store = dataclasses.replace(settings, bucket=locking)
    made = make_site("filestorage", store=store, **OWNED)
    with Checked(made) as checked:
        commit_blobs(checked.db, a=b"equal" * 9, b=b"equal" * 9, c=b"equal" * 9)
        begin_sharing(store)
        made.close_all()
    with Checked(made) as checked:
        held = checked.storage.holds().set(oid_of(checked.db, "a"), True).key
        report = converted(checked.storage)
        assert (report.held.blobs, report.converted.blobs, report.failures.count) == (1, 2, 0)
        assert checked.storage.holds().of(oid_of(checked.db, "a")).held and held in made.keys()
        assert checked.fsck(deep=True) == {}
