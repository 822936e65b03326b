"""``gc --versions``: in a bucket that keeps versions, what nobody gets any more goes too, and nothing else does."""

from __future__ import annotations

import contextlib
import dataclasses
import time
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from command_line import document, keys_of, s3blobs, section
from servers import faults
from shared_blobs import begin_sharing, convert, name_of
from sites import bucket_keys, commit_blobs, read_blob
from store_time import DAY, ShiftedStore

from collective.s3blobstorage.errors import Refused, UnsafeError
from collective.s3blobstorage.keys import condemned_key, object_key, read_key, upload_key
from collective.s3blobstorage.maintenance.gc.margins import Margins
from collective.s3blobstorage.maintenance.gc.references import view_of
from collective.s3blobstorage.maintenance.gc.runs import Collection
from collective.s3blobstorage.maintenance.scope import Scope
from collective.s3blobstorage.objectstore import open_store

OWNED = {"owner": "www.example.org", "preflight": False, "gc_on_pack": "off"}


@pytest.fixture
def versioned(s3, bucket):
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    return bucket


@pytest.fixture
def lockable(s3, settings):
    """The settings of a bucket with Object Lock, which a test leaves without a lock."""
    name = f"test-{uuid.uuid4().hex[:20]}"
    s3.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    yield dataclasses.replace(settings, bucket=name)
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=name):
        for found in page.get("Versions", []) + page.get("DeleteMarkers", []):
            s3.delete_object(
                Bucket=name, Key=found["Key"], VersionId=found["VersionId"], BypassGovernanceRetention=True
            )
    s3.delete_bucket(Bucket=name)


class Kept:
    """A site whose bucket keeps versions, and its garbage collection at a time that the test sets."""

    def __init__(self, site, s3, **margins):
        self.site = site
        self.s3 = s3
        self.db = site.db()
        self.storage = self.db.storage
        self.store = ShiftedStore(self.storage.store_)
        self.collection = Collection(
            self.store, lambda: view_of(self.storage._base), Margins(**{"share": 1.0, **margins})
        )

    def plan(self, **options):
        plan = self.collection.plan(versions=True, **options)
        with plan:
            self.collection.publish(plan)
        return plan.tally.versions

    def execute(self):
        return self.collection.execute("last")[1]

    def versions(self, folder="blobs/"):
        """Key, version, and whether it is a delete marker, of everything below it."""
        page = self.s3.list_object_versions(Bucket=self.site.settings.store.bucket, Prefix=folder)
        found = [(line["Key"], line["VersionId"], False) for line in page.get("Versions", ())]
        return found + [(line["Key"], line["VersionId"], True) for line in page.get("DeleteMarkers", ())]

    def delete(self, key):
        """As an earlier gc did: below a delete marker."""
        self.s3.delete_object(Bucket=self.site.settings.store.bucket, Key=key)

    def garbage(self):
        """Two blobs of which one is not used any more and deleted; its key."""
        commit_blobs(self.db, a=b"a1", b=b"b1")
        [dead] = [key for key in self.site.keys() if self.storage.store_.get_bytes(key) == b"a1"]
        commit_blobs(self.db, a=b"a2")
        self.db.pack(time.time() + 1)
        self.delete(dead)
        return dead


@pytest.fixture
def kept(make_site, s3, versioned):
    return lambda kind="filestorage", **margins: Kept(make_site(kind, **OWNED), s3, **margins)


def test_what_browsers_sent_leaves_no_version(kept, s3):
    """Given up, or a blob by now; one that was sent twice; one that is there. Beside it what is none stays."""
    site = kept()
    commit_blobs(site.db, a=b"a1")
    sent = [upload_key(f"{number:032x}") for number in range(1, 6)]
    for key in (*sent, sent[1], "uploads/notes"):
        site.storage.store_.put_bytes(key, b"12345")
    for key in (*sent[:4], "uploads/notes"):
        site.delete(key)
    site.store.advance(6.5 * DAY)
    early = site.plan()
    assert (early.past.blobs, early.waiting.blobs, early.condemned.blobs) == (9, 9, 0)
    site.storage.store_.put_bytes(sent[4], b"anew")
    site.store.advance(0.6 * DAY)
    due = site.plan()
    # What browsers sent is no share of what the database decides about.
    assert (due.condemned.blobs, due.waiting.blobs, due.keys, due.condemned_keys) == (9, 1, 0, 0)
    outcome = site.execute()
    assert (outcome.deleted_versions.blobs, outcome.failed) == (9, {})
    page = s3.list_object_versions(Bucket=site.site.settings.store.bucket, Prefix="uploads/")
    left = [line["Key"] for kind in ("Versions", "DeleteMarkers") for line in page.get(kind, ())]
    assert sorted(left) == [sent[4], sent[4], "uploads/notes", "uploads/notes"]
    assert read_blob(site.db, "a") == b"a1"


@pytest.mark.parametrize("kind", ["filestorage", "sqlite-hp", "sqlite-hf"])
def test_what_was_deleted_goes_with_its_marker(kept, kind):
    site = kept(kind)
    dead = site.garbage()
    there = {entry for entry in site.versions() if entry[0] != dead}
    early = site.plan()
    assert (early.past.blobs, early.waiting.blobs, early.condemned.blobs, early.keys) == (2, 2, 0, 1)
    site.store.advance(7.1 * DAY)
    due = site.plan()
    assert (due.waiting.blobs, due.condemned.blobs, due.condemned_keys, due.needed) == (0, 2, 1, 0)
    outcome = site.execute()
    assert (outcome.deleted_versions.blobs, outcome.deleted.blobs, outcome.failed) == (2, 0, {})
    assert set(site.versions()) == there
    assert read_blob(site.db, "a") == b"a2" and read_blob(site.db, "b") == b"b1"
    [log] = [key for key in bucket_keys(site.site.settings.store) if key.startswith("gc-log/")]
    lines = site.storage.store_.get_bytes(log).decode().splitlines()
    assert len(lines) == 3 and all('"kind":"version"' in line and f'"key":"{dead}"' in line for line in lines[1:])


@pytest.fixture
def converted(kept):
    """A site with one blob that is a shared object; keys of the revision, its reference and the object."""

    def make(**margins):
        site = kept(**margins)
        begin_sharing(site.storage.store_)
        commit_blobs(site.db, a=b"a1", b=b"b1")
        [key] = [key for key in site.site.keys() if site.storage.store_.get_bytes(key) == b"a1"]
        return site, key, *convert(site.storage.store_, key)

    return make


@pytest.mark.clear
def test_what_a_conversion_has_hidden_goes_and_what_stands_for_it_stays(converted):
    site, key, reference, shared = converted()
    early = site.plan()
    assert (early.past.blobs, early.waiting.blobs, early.needed, early.keys) == (2, 2, 0, 0)
    site.store.advance(7.1 * DAY)
    due = site.plan()
    # The database uses that revision, and was not asked: it is no share of what it decides about.
    assert (due.condemned.blobs, due.condemned_keys, due.needed) == (2, 0, 0)
    outcome = site.execute()
    assert (outcome.deleted_versions.blobs, outcome.failed) == (2, {})
    assert key not in {each for each, _, _ in site.versions()} and {reference} < set(site.site.keys())
    assert [each for each, _, _ in site.versions("objects/")] == [shared]


@pytest.mark.clear
def test_what_was_hidden_stays_where_nothing_stands_for_it(converted):
    """The shared object is gone: its versions, and the revision's own, are what it can be brought back from."""
    site, key, reference, shared = converted()
    site.delete(shared)
    site.store.advance(30 * DAY)
    counts = site.plan()
    assert (counts.condemned.blobs, counts.needed, sorted(counts.needed_keys)) == (0, 2, sorted([key, shared]))
    [marker] = [version for _, version, is_marker in site.versions("objects/") if is_marker]
    site.s3.delete_object(Bucket=site.site.settings.store.bucket, Key=shared, VersionId=marker)
    assert site.plan().condemned.blobs == 2
    site.delete(reference)
    outcome = site.execute()
    assert (outcome.deleted_versions.blobs, outcome.spared) == (0, 2)
    # Of a hidden reference whose revision is in use it is told too.
    counts = site.plan()
    assert (counts.condemned.blobs, sorted(counts.needed_keys)) == (0, sorted([key, reference]))


@pytest.mark.clear
def test_a_part_of_the_prefix_leaves_what_conversions_have_hidden(converted):
    site, key, *_ = converted()
    site.store.advance(30 * DAY)
    oid = read_key(key)[0]
    with site.collection.plan(Scope(oid, oid), versions=True) as plan:
        assert (plan.tally.versions.past.blobs, plan.tally.versions.needed) == (0, 0)


@pytest.mark.clear
def test_what_gc_deleted_of_them_goes_as_all_that_is_hidden(converted):
    site, key, reference, shared = converted(grace=0.0)
    commit_blobs(site.db, a=b"a2")
    site.db.pack(time.time() + 1)
    for _ in range(6):  # date, reference, mark, object, and what each left
        site.store.advance(8 * DAY)
        site.plan()
        with contextlib.suppress(UnsafeError):
            site.execute()
    assert site.versions("objects/") == [] and key not in {each for each, _, _ in site.versions()}
    assert site.storage.store_.head(condemned_key(name_of(b"a1"))) is not None
    assert object_key(name_of(b"a1")) == shared and reference not in {each for each, _, _ in site.versions()}
    assert read_blob(site.db, "a") == b"a2" and read_blob(site.db, "b") == b"b1"


def test_an_object_that_the_database_needs_is_told_and_stays(kept):
    site = kept()
    commit_blobs(site.db, a=b"a1", b=b"b1")
    [needed] = [key for key in site.site.keys() if site.storage.store_.get_bytes(key) == b"a1"]
    site.delete(needed)
    before = set(site.versions())
    site.store.advance(30 * DAY)
    counts = site.plan()
    assert (counts.past.blobs, counts.condemned.blobs, counts.needed, counts.needed_keys) == (2, 0, 1, [needed])
    with pytest.raises(UnsafeError, match="no plan"):
        site.execute()
    assert set(site.versions()) == before


def test_what_was_overwritten_goes_and_the_object_stays(kept):
    site = kept()
    commit_blobs(site.db, a=b"a1")
    [key] = site.site.keys()
    site.storage.store_.put_bytes(key, b"a1")
    counts = site.plan()
    assert (counts.past.blobs, counts.waiting.blobs, counts.keys) == (1, 1, 0)
    site.store.advance(7.1 * DAY)
    assert site.plan().condemned.blobs == 1
    assert site.execute().deleted_versions.blobs == 1
    assert [entry[0] for entry in site.versions()] == [key]
    assert read_blob(site.db, "a") == b"a1"


def test_what_was_brought_back_since_the_plan_is_spared(kept):
    site = kept()
    dead = site.garbage()
    site.store.advance(7.1 * DAY)
    assert site.plan().condemned.blobs == 2
    [marker] = [version for _, version, is_marker in site.versions() if is_marker]
    site.s3.delete_object(Bucket=site.site.settings.store.bucket, Key=dead, VersionId=marker)
    outcome = site.execute()
    assert (outcome.deleted_versions.blobs, outcome.spared) == (0, 2)
    assert dead in site.site.keys()


def test_a_version_that_was_written_over_since_the_plan_is_spared(kept):
    """Where versions are suspended the one of the id `null` is written over, and is the object that is there then."""
    site = kept()
    commit_blobs(site.db, a=b"a1")
    [key] = site.site.keys()
    bucket = site.site.settings.store.bucket
    for status in ("Suspended", "Enabled"):
        site.s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": status})
        site.storage.store_.put_bytes(key, b"a1")
    site.store.advance(7.1 * DAY)
    assert site.plan().condemned.blobs == 2
    site.s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Suspended"})
    site.storage.store_.put_bytes(key, b"a1")
    outcome = site.execute()
    assert (outcome.deleted_versions.blobs, outcome.spared) == (1, 1)
    assert sorted(version == "null" for _, version, _ in site.versions()) == [False, True]
    site.site.cold()
    assert read_blob(site.db, "a") == b"a1"


def test_what_is_used_again_since_the_plan_is_spared(kept):
    """The database is asked anew before a batch goes."""
    site = kept()
    commit_blobs(site.db, a=b"a1")
    [key] = site.site.keys()
    site.delete(key)
    site.store.advance(7.1 * DAY)
    views = site.collection.views
    site.collection.views = lambda: _Forgetful(views())
    assert site.plan().condemned_keys == 1
    site.collection.views = views
    outcome = site.execute()
    assert (outcome.deleted_versions.blobs, outcome.spared) == (0, 2)
    assert len(site.versions()) == 2


class _Forgetful:
    """A view that says of every object that nothing uses it."""

    def __init__(self, view):
        self._view = view

    def __enter__(self):
        view = self._view.__enter__()
        view.used = lambda oid, names: set()
        return view

    def __exit__(self, *exc_info):
        return self._view.__exit__(*exc_info)


def test_more_than_the_share_is_refused(kept):
    site = kept(share=0.2)
    site.garbage()
    site.store.advance(7.1 * DAY)
    site.plan()
    with pytest.raises(UnsafeError, match="1 of 3 objects would go, 34%"):
        site.execute()
    assert len(site.versions()) == 4


def test_a_range_of_oids_leaves_the_others_alone(kept):
    site = kept()
    dead = site.garbage()
    site.store.advance(7.1 * DAY)
    oid = bytes.fromhex(dead.split("/")[1])
    assert site.plan(scope=Scope(first=oid, last=oid)).condemned.blobs == 2
    after = (int.from_bytes(oid, "big") + 1).to_bytes(8, "big")
    assert site.plan(scope=Scope(first=after)).condemned.blobs == 0


def test_more_versions_than_one_request_takes(kept):
    site = kept()
    dead = site.garbage()
    for number in range(1100):
        site.s3.put_object(Bucket=site.site.settings.store.bucket, Key=dead, Body=b"%d" % number)
    site.delete(dead)
    site.store.advance(7.1 * DAY)
    assert site.plan().condemned.blobs == 1103
    outcome = site.execute()
    assert (outcome.deleted_versions.blobs, outcome.spared, outcome.failed) == (1103, 0, {})
    assert dead not in [key for key, _, _ in site.versions()]


def test_a_locked_version_is_told_with_its_date_and_its_marker_stays(make_site, s3, lockable):
    site = Kept(make_site("filestorage", store=lockable, **OWNED), s3)
    until = (datetime.now(UTC) + timedelta(days=3)).replace(microsecond=0)
    dead = site.garbage()
    [version] = [version for key, version, is_marker in site.versions() if key == dead and not is_marker]
    named = {"Bucket": lockable.bucket, "Key": dead, "VersionId": version}
    s3.put_object_retention(**named, Retention={"Mode": "GOVERNANCE", "RetainUntilDate": until})
    site.store.advance(7.1 * DAY)
    site.plan()
    outcome = site.execute()
    assert outcome.failures == [
        {
            "key": dead,
            "code": "AccessDenied",
            "version": version,
            "locked_until": until.isoformat(),
            "mode": "GOVERNANCE",
        }
    ]
    assert (outcome.deleted_versions.blobs, dead in site.site.keys()) == (0, False)
    s3.put_object_legal_hold(**named, LegalHold={"Status": "ON"})
    assert site.storage.store_.lock_of(dead, version).legal_hold
    s3.put_object_legal_hold(**named, LegalHold={"Status": "OFF"})


@pytest.mark.clear
def test_a_locked_version_of_a_shared_object_is_told_too(make_site, s3, lockable):
    site = Kept(make_site("filestorage", store=lockable, **OWNED), s3)
    begin_sharing(site.storage.store_)
    commit_blobs(site.db, a=b"a1")
    key = object_key(name_of(b"gone"))
    site.storage.store_.put_bytes(key, b"gone")
    until = (datetime.now(UTC) + timedelta(days=3)).replace(microsecond=0)
    [(_, version, _)] = site.versions("objects/")
    named = {"Bucket": lockable.bucket, "Key": key, "VersionId": version}
    s3.put_object_retention(**named, Retention={"Mode": "GOVERNANCE", "RetainUntilDate": until})
    site.delete(key)
    site.store.advance(7.1 * DAY)
    site.plan()
    outcome = site.execute()
    assert [(each["key"], each["locked_until"]) for each in outcome.failures] == [(key, until.isoformat())]
    assert len(site.versions("objects/")) == 2  # the marker stays with it


def test_whether_a_bucket_keeps_versions(settings, s3, bucket, proxy):
    store = open_store(settings)
    assert store.keeps_versions() is False
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    assert store.keeps_versions() is True
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Suspended"})
    assert store.keeps_versions() is True
    store.close()
    behind = open_store(dataclasses.replace(settings, endpoint_url=proxy.endpoint_url))
    for fault, told in [
        (faults.answer(501, "NotImplemented"), False),
        (faults.answer(405, "MethodNotAllowed"), False),
        (faults.answer(403, "AccessDenied"), None),
    ]:
        proxy.fail(fault)
        assert behind.keeps_versions() is told
    behind.close()


def test_the_command(settings, s3, bucket, make_site, tmp_path):
    site = make_site("filestorage", **OWNED)
    db = site.db()
    commit_blobs(db, a=b"a1")
    [key] = site.keys()
    base = f"<filestorage>\n  path {site.folder}/Data.fs\n</filestorage>"
    conf = tmp_path / "storage.conf"
    owned = ("owner www.example.org", "preflight off")
    conf.write_text("%import collective.s3blobstorage\n" + section(settings, tmp_path / "cache", base, *owned))

    def gc(*arguments):
        return s3blobs("--config", conf, "gc", *arguments, env=keys_of(settings))

    told = document(gc("--versions", "--dry-run", "--json"))
    assert (told["keeps_versions"], told["versions"]) == (False, None)
    assert "keeps none" in gc("--versions", "--dry-run").stdout
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    site.storage = db.storage
    db.storage.store_.put_bytes(key, b"a1")
    plain = gc("--dry-run")
    assert plain.returncode == 0 and "see --versions" in plain.stdout
    told = document(gc("--versions", "--json"))
    assert told["versions"]["past"]["blobs"] == told["versions"]["waiting"]["blobs"] == 1
    assert told["next_due"] is not None and told["plan"] is None
    shown = gc("--versions").stdout
    assert "1, 2 bytes out of use; 1, 2 bytes wait, 0, 0 bytes may go" in shown
    wrong = gc("--versions", "--execute", "last")
    assert wrong.returncode == 2 and "leave out --versions" in wrong.stderr


def test_credentials_that_may_not_list_versions(settings, s3, versioned, proxy):
    store = open_store(dataclasses.replace(settings, endpoint_url=proxy.endpoint_url))
    proxy.fail(faults.answer(403, "AccessDenied"))
    with pytest.raises(Refused):
        list(store.list_versions())
    store.close()
