"""``retention``: what is stored below ``blobs/`` cannot be deleted before its date, and whoever tries is told."""

from __future__ import annotations

import dataclasses
import io
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
import transaction
from botocore.exceptions import ClientError
from locked_buckets import empty, lockable, objects, sharing, versions
from rings import ring
from rolling_keys import after, before
from servers import faults
from servers.faults import reset
from servers.proxy import Proxy
from sites import commit_blobs, connected, read_blob
from store_time import DAY, ShiftedStore
from strange_front import Front
from ZODB import DB
from ZODB.FileStorage import FileStorage
from ZODB.MappingStorage import MappingStorage

from collective.s3blobstorage.directupload.area import UploadArea
from collective.s3blobstorage.encryption.configured import ClientSideMode, configured
from collective.s3blobstorage.errors import ConfigurationError, Refused, RetentionNotHonoured, UnsafeError
from collective.s3blobstorage.keys import LOCKED, MARKER, is_key, upload_key
from collective.s3blobstorage.maintenance.gc.margins import Margins
from collective.s3blobstorage.maintenance.gc.references import view_of
from collective.s3blobstorage.maintenance.gc.runs import Collection
from collective.s3blobstorage.objectstore import open_store
from collective.s3blobstorage.objectstore.interfaces import Lock
from collective.s3blobstorage.objectstore.preflight import checks, measure_conditions
from collective.s3blobstorage.settings import MB, Retention, StorageSettings, UploadSettings
from collective.s3blobstorage.storage import open_storage

MODES = ("governance", "compliance")
KEY = "blobs/0000000000000001/" + "1" * 32
OTHER = "blobs/0000000000000002/" + "2" * 32
LARGE = bytes(range(256)) * 4096 * 20  # more than one PUT takes


@pytest.fixture(params=MODES)
def mode(request):
    return request.param


@pytest.fixture
def locking(s3):
    with lockable(s3) as name:
        yield name


@pytest.fixture
def kept(settings, locking, mode):
    """Settings whose new blobs are kept for an hour; in compliance mode for seconds, so that nothing is left behind."""
    seconds = 3600.0 if mode == "governance" else 3.0
    return dataclasses.replace(settings, bucket=locking, retention=Retention(mode, seconds))


@pytest.fixture
def store(kept):
    with closing(open_store(kept)) as opened:
        yield opened


def put(store, key, data, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(data)
    return store.put_file(key, path, metadata={})


def is_kept(told, settings, since):
    """Whether HEAD tells of the mode and of a date that is right."""
    until = told.get("ObjectLockRetainUntilDate")
    seconds = settings.retention.seconds
    return told.get("ObjectLockMode") == settings.retention.mode.upper() and since + timedelta(
        seconds=seconds - 3
    ) <= until <= datetime.now(UTC) + timedelta(seconds=seconds + 3)


def test_every_way_to_store_a_blob(store, kept, s3, tmp_path):
    since = datetime.now(UTC)
    put(store, KEY, b"small", tmp_path)
    put(store, OTHER, LARGE, tmp_path)
    copied = KEY.replace("1" * 32, "3" * 32)
    store.copy(KEY, copied)
    in_memory = KEY.replace("1" * 32, "4" * 32)
    store.put_bytes(in_memory, b"a marker")
    [sent] = [KEY.replace("1" * 32, "5" * 32)]
    area = UploadArea(store, UploadSettings())
    upload = area.begin(5, single=True)
    s3.put_object(Bucket=kept.bucket, Key=upload_key(upload.id), Body=b"12345")
    area.finish(upload).copy_to(sent, {})
    told = objects(s3, kept.bucket, "blobs/")
    assert {key: is_kept(found, kept, since) for key, found in told.items()} == dict.fromkeys(
        [KEY, OTHER, copied, in_memory, sent], True
    )
    assert store.head(OTHER).lock.mode == kept.retention.mode.upper()
    for version in versions(s3, kept.bucket, KEY):
        with pytest.raises(ClientError, match="AccessDenied|ObjectLocked|InvalidRequest"):
            s3.delete_object(Bucket=kept.bucket, Key=KEY, VersionId=version["VersionId"])


def test_nothing_else_is_kept(store, kept, s3):
    for key in (MARKER, "gc/ledger", "uploads/" + "1" * 32, "addons/some/thing", "status/figures"):
        store.put_bytes(key, b"1")
    assert [found.get("ObjectLockMode") for found in objects(s3, kept.bucket).values()] == [None] * 5


def test_the_store_is_asked_once_for_a_process(kept, proxy, tmp_path):
    with closing(open_store(dataclasses.replace(kept, endpoint_url=proxy.endpoint_url))) as store:
        for number in range(1, 6):
            put(store, KEY.replace("1" * 32, f"{number:032x}"), b"small", tmp_path)
        put(store, OTHER, LARGE, tmp_path)
    # Where the store does not look at the headers of a multipart upload a request follows.
    asked = [exchange.operation for exchange in proxy.exchanges if "?retention" not in exchange.line]
    # The multipart upload itself looks for its object where the store completes one without telling its ETag.
    assert asked.count("PutObject") == 5 and asked[:2] == ["PutObject", "HeadObject"]
    assert asked[2:6] == ["PutObject"] * 4


def test_an_object_whose_answer_was_lost_is_kept_too(kept, s3_server, s3, tmp_path):
    """On a store that looks at no headers and locks an object by a request of its own."""
    front = Front(s3_server)
    proxy = Proxy(front.endpoint_url)
    proxy.start()
    try:
        front.strange.ignores = ("x-amz-object-lock",)
        with closing(open_store(dataclasses.replace(kept, endpoint_url=proxy.endpoint_url))) as store:
            measure_conditions(store)
            put(store, KEY, b"small", tmp_path)
            proxy.fail(reset("answer"), method="PUT", target=OTHER)
            path = tmp_path / "file"
            path.write_bytes(b"another")
            store.put_file(OTHER, path, metadata={}, if_absent=True)
    finally:
        proxy.close()
        front.close()
    found = objects(s3, kept.bucket, "blobs/").values()
    assert [told.get("ObjectLockMode") for told in found] == [kept.retention.mode.upper()] * 2


def test_a_store_that_ignores_it_is_refused_and_nothing_is_left(settings, s3_server, s3, bucket, tmp_path):
    front = Front(s3_server)
    try:
        front.strange.ignores = ("x-amz-object-lock",)
        deaf = dataclasses.replace(
            settings, endpoint_url=front.endpoint_url, retention=Retention("governance", 3600.0), ca_bundle=None
        )
        with closing(open_store(deaf)) as store:
            for data in (b"small", LARGE):
                with pytest.raises(RetentionNotHonoured, match="retention: the object store does not say"):
                    put(store, KEY, data, tmp_path)
            assert list(store.list("blobs/")) == []
    finally:
        front.close()


def test_a_bucket_without_object_lock_is_refused_at_the_start(settings, make_site):
    site = make_site("filestorage", store=dataclasses.replace(settings, retention=Retention("governance", 3600.0)))
    with pytest.raises(ConfigurationError) as caught:
        site.db()
    text = str(caught.value)
    assert text.startswith(f"retention: the bucket {settings.bucket!r} has no Object Lock")
    assert "put-bucket-versioning" in text and "ObjectLockEnabled=Enabled" in text
    assert site.keys() == []
    site.open(read_only=True)


def test_the_check_says_whether_the_bucket_has_it(settings, locking, proxy):
    """One request more, and only where something is to be kept; not where nothing is written."""
    wanted = dataclasses.replace(settings, bucket=locking, endpoint_url=proxy.endpoint_url)
    for retention, writable, said in (
        (Retention("governance", 60.0), True, "is there, with Object Lock"),
        (Retention("governance", 60.0), False, "is there"),
        (None, True, "is there"),
    ):
        with closing(open_store(dataclasses.replace(wanted, retention=retention))) as store:
            found = {finding.name: finding for finding in checks(store, writable=writable, thorough=False)}
        assert found["bucket"].ok and found["bucket"].detail == f"{locking!r} {said}"
    proxy.reset()
    proxy.fail(faults.answer(403, "AccessDenied"), target="object-lock")
    with closing(open_store(dataclasses.replace(wanted, retention=Retention("governance", 60.0)))) as store:
        found = {finding.name: finding for finding in checks(store, writable=True, thorough=False)}
    assert found["bucket"].ok and "may not ask" in found["bucket"].detail


@pytest.mark.parametrize("data", [b"small", LARGE])
def test_without_preflight_the_refusal_names_the_setting(settings, bucket, tmp_path, data):
    """A bucket without Object Lock; it may as well be a right that is missing. Ceph begins the multipart upload, and
    what came of it is deleted again."""
    kept = dataclasses.replace(settings, bucket=bucket, retention=Retention("governance", 60.0))
    with closing(open_store(kept)) as store:
        with pytest.raises((Refused, RetentionNotHonoured), match="retention.*Object Lock.*s3:PutObjectRetention"):
            put(store, KEY, data, tmp_path)
        assert list(store.list("blobs/")) == []


def test_a_bucket_is_made_with_it(settings, make_site, s3, locking):
    name = locking + "-made"
    made = dataclasses.replace(settings, bucket=name, create_bucket=True, retention=Retention("governance", 3600.0))
    site = make_site("filestorage", store=made)
    db = site.db()
    commit_blobs(db, a=b"a1")
    [told] = objects(s3, name, "blobs/").values()
    assert told["ObjectLockMode"] == "GOVERNANCE"
    site.close_all()
    empty(s3, name)


def test_what_is_restored_shares_nothing_and_is_kept(make_site, kept, s3, s3_server, tmp_path, mode):
    """Its record names a shared object, which may be kept for less long."""
    sharing(s3_server)
    before = dataclasses.replace(kept, retention=None)
    site = make_site("filestorage", store=dataclasses.replace(before, prefix="from"), dedup=True, owner="one")
    commit_blobs(site.db(), a=b"bytes", b=b"bytes")
    site.close_all()
    shares = StorageSettings(before, tmp_path / "shares", dedup=True, owner="one")
    with closing(open_storage(MappingStorage(), shares)) as other:
        commit_blobs(DB(other), mine=b"bytes")
    base = FileStorage(str(tmp_path / "copy.fs"))
    with closing(open_storage(base, StorageSettings(kept, tmp_path / "c", owner="one"))) as target:
        assert target.marker.deduplicated
        target.copyTransactionsFrom(site.open())
    own = {key: told for key, told in objects(s3, kept.bucket, "blobs/").items() if is_key(key)}
    assert len(own) == 2 and {told.get("ObjectLockMode") for told in own.values()} == {mode.upper()}


def test_an_abort_hides_what_it_stored(make_site, kept, s3):
    site = make_site("filestorage", store=kept)
    db = site.db()
    commit_blobs(db, a=b"a1")
    [there] = site.keys()
    with connected(db) as connection:
        from ZODB.blob import Blob

        connection.root()["b"] = Blob(b"b1")
        connection.root()["spoilt"] = lambda: None  # no pickle
        with pytest.raises(Exception, match="pickle"):
            connection.transaction_manager.commit()
    assert site.keys() == [there] and read_blob(db, "a") == b"a1"
    hidden = {version["Key"] for version in versions(s3, kept.bucket, "blobs/")} - {there}
    # Where the upload had begun it is hidden by a marker, and still kept.
    for key in hidden:
        assert [v["IsLatest"] for v in versions(s3, kept.bucket, key) if "Size" not in v] == [True]


@pytest.mark.parametrize("encryption", ["client-side", "sse-c"])
@pytest.mark.parametrize("size", [5, 20 * MB])
def test_a_change_of_keys_keeps_the_date(settings, secure, locking, s3, s3_server, mode, encryption, size, tmp_path):
    """Also where ``retention`` is another one by now, or gone."""
    if size > MB and encryption == "sse-c":
        pytest.skip("a copy in one request of either size")
    kept = dataclasses.replace(
        secure, bucket=locking, retention=Retention(mode, 300.0 if mode == "governance" else 150)
    )
    with closing(open_store(dataclasses.replace(kept, encryption=before(encryption)))) as store:
        put(store, KEY, LARGE[:size], tmp_path)
        until = store.head(KEY).lock.until
    for retention in (None, Retention("governance", 86400.0)):
        changed = dataclasses.replace(kept, encryption=after(encryption), retention=retention)
        with closing(open_store(changed)) as store:
            assert store.protect(KEY, convert=True, folder=tmp_path).what in ("rewrapped", "current")
            now = store.head(KEY)
            assert (now.lock.until, now.lock.mode) == (until, mode.upper())
    assert len(versions(s3, locking, "p/blobs/")) == 2


def test_a_conversion_keeps_the_date(settings, locking, mode, tmp_path):
    kept = dataclasses.replace(settings, bucket=locking, retention=Retention(mode, 150.0), encryption=None)
    with closing(open_store(kept)) as store:
        put(store, KEY, b"in clear", tmp_path)
        until = store.head(KEY).lock.until
    sealed = dataclasses.replace(
        kept, encryption=configured([ClientSideMode(tuple(ring("one").providers.values()), "one")])
    )
    with closing(open_store(sealed)) as store:
        assert store.protect(KEY, convert=True, folder=tmp_path).what == "converted"
        assert store.head(KEY).lock == Lock(until, mode.upper())
        target = io.BytesIO()
        store.get_file(KEY, target)
        assert target.getvalue() == b"in clear"


def test_a_repair_keeps_the_date(settings, locking, tmp_path):
    """``put_file`` with ``if_match``, as fsck replaces what is damaged."""
    kept = dataclasses.replace(settings, bucket=locking, retention=Retention("governance", 3600.0))
    with closing(open_store(kept)) as store:
        etag = put(store, KEY, b"damaged", tmp_path).etag
        until = store.head(KEY).lock.until
        path = tmp_path / "right"
        path.write_bytes(b"right")
        store.connection = dataclasses.replace(
            store.connection, settings=dataclasses.replace(kept, retention=Retention("governance", 60.0))
        )
        store.put_file(KEY, path, metadata={}, if_match=store.head(KEY).etag or etag)
        assert store.head(KEY).lock == Lock(until, "GOVERNANCE")


class Collected:
    """A site whose bucket keeps versions, and its gc at a time that the test sets; it looks through the proxy."""

    def __init__(self, site, store):
        self.db = site.db()
        self.storage = self.db.storage
        self.store = ShiftedStore(store)
        self.collection = Collection(self.store, lambda: view_of(self.storage._base), Margins(share=1.0))

    def plan(self):
        plan = self.collection.plan(versions=True)
        with plan:
            self.collection.publish(plan)
        return plan

    def execute(self):
        return self.collection.execute("last")[1]


def test_gc_tells_until_when_and_does_not_try_again_before(make_site, settings, locking, proxy, mode):
    """Requests are counted: what is known to be kept costs none."""
    kept = dataclasses.replace(settings, bucket=locking, retention=Retention(mode, 60 * DAY))
    site = make_site("filestorage", store=kept, owner="www.example.org", preflight=False, gc_on_pack="off")
    with closing(open_store(dataclasses.replace(kept, endpoint_url=proxy.endpoint_url, retention=None))) as store:
        collected = Collected(site, store)
        db, shifted = collected.db, collected.store
        commit_blobs(db, **{f"b{number}": b"%d" % number for number in range(12)}, kept=b"kept")
        commit_blobs(db, **{f"b{number}": b"new" for number in range(12)})
        db.pack(time.time() + 1)
        shifted.advance(1.1 * DAY)
        assert collected.plan().tally.waiting.blobs == 12
        shifted.advance(7.1 * DAY)
        collected.plan()
        outcome = collected.execute()
        assert (outcome.deleted.blobs, outcome.markers, outcome.failed) == (12, 12, {})
        shifted.advance(7.1 * DAY)
        counts = collected.plan().tally.versions
        assert (counts.condemned.blobs, counts.locked.blobs) == (24, 0)
        proxy.reset()
        outcome = collected.execute()
        asked = [exchange.operation for exchange in proxy.exchanges]
        # One request for the twelve versions, perhaps one for what gc itself left; the markers are not even tried.
        assert asked.count("DeleteObjects") <= 2 and asked.count("HeadObject") == 12
        assert outcome.deleted_versions.blobs == 0 and sum(outcome.failed.values()) == 12
        assert {failure["mode"] for failure in outcome.failures} == {mode.upper()}
        until = {datetime.fromisoformat(failure["locked_until"]) for failure in outcome.failures}
        # A round later: nothing is tried, and it is said what is kept.
        shifted.advance(DAY)
        counts = collected.plan().tally.versions
        assert (counts.condemned.blobs, counts.locked.blobs) == (0, 24)
        assert counts.locked.bytes == sum(len(b"%d" % number) for number in range(12))
        assert abs(counts.locked_until - min(until).timestamp()) < 2
        assert abs(counts.locked_until_last - max(until).timestamp()) < 2
        proxy.reset()
        with pytest.raises(UnsafeError, match="no plan"):
            collected.execute()
        assert "DeleteObjects" not in [exchange.operation for exchange in proxy.exchanges]
        # When it is over it is tried again.
        shifted.advance(60 * DAY)
        assert collected.plan().tally.versions.condemned.blobs == 24


def test_what_gc_remembers_is_dropped_when_it_is_over(store, tmp_path):
    from collective.s3blobstorage.maintenance.gc.locked import Locked, Pages, read_locked, write_locked

    with Locked() as none, Locked() as met:
        met.add(KEY, "v1", 100)
        met.add(KEY, "v2", 300)
        met.add(OTHER, "v1", 200)
        write_locked(store, none, met, 50)
    with read_locked(store, exists=True) as first, Locked() as met:
        pages = Pages(first)
        assert pages.upto(KEY) == {(KEY, "v1"): 100, (KEY, "v2"): 300}
        assert pages.upto("blobs/~") == {(OTHER, "v1"): 200}
        met.add(OTHER, "v1", 400)
        write_locked(store, first, met, 150)
    with read_locked(store, exists=True) as second:
        assert list(second.entries()) == [(KEY, "v2", 300), (OTHER, "v1", 400)]
    assert store.get_bytes(LOCKED).startswith(b'{"format": 1}\n')


def test_credentials_that_may_not_read_a_date_rewrite_nothing(settings, locking, proxy, tmp_path):
    kept = dataclasses.replace(settings, bucket=locking, retention=Retention("governance", 3600.0))
    with closing(open_store(dataclasses.replace(kept, retention=None))) as store:
        put(store, KEY, b"1", tmp_path)
        etag = store.head(KEY).etag
    with closing(open_store(dataclasses.replace(kept, endpoint_url=proxy.endpoint_url))) as store:
        proxy.fail(faults.answer(403, "AccessDenied"), target="retention", times=2)
        with pytest.raises(Refused, match="s3:GetObjectRetention"):
            store.put_file(KEY, tmp_path / "file", metadata={}, if_match=etag)
        assert store.head(KEY).etag == etag
    transaction.abort()
