"""``dedup on``: new blobs of equal bytes share one object, over every base, and whatever happens to their requests."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import os
import shutil
import threading
from contextlib import closing, contextmanager

import pytest
import transaction
import ZODB
from command_line import document, keys_of, s3blobs, section
from kept_sites import KINDS as KEEPING
from servers.faults import answer, flip, hang, reset
from servers.proxy import Proxy
from sites import (
    PERSISTENT,
    UNDOING,
    Against,
    bucket_keys,
    commit_blobs,
    connected,
    in_two_threads,
    raw_client,
    read_blob,
    unfinished_uploads,
    wait_until,
)
from test_attaching import Put
from test_undo import undo
from ZODB.blob import Blob
from ZODB.Connection import TransactionMetaData
from ZODB.FileStorage import FileStorage
from ZODB.POSException import ConflictError
from ZODB.serialize import ObjectWriter
from ZODB.utils import p64, u64

from collective.s3blobstorage.encryption.configured import StoreMode, configured
from collective.s3blobstorage.encryption.managed import SSES3
from collective.s3blobstorage.errors import (
    BlobMissing,
    ConfigurationError,
    Corrupt,
    EncryptionNotHonoured,
    OwnerError,
    StoreError,
    Unavailable,
)
from collective.s3blobstorage.keys import (
    CONDEMNED,
    OBJECTS,
    blob_key,
    condemned_key,
    object_key,
    read_key,
    read_reference_key,
    reference_key,
    shared_name,
)
from collective.s3blobstorage.objectstore import open_store, patience, upload
from collective.s3blobstorage.objectstore.parts import SINGLE_PUT_LIMIT
from collective.s3blobstorage.settings import StorageSettings
from collective.s3blobstorage.storage import open_storage, sharing
from collective.s3blobstorage.storage import upload as storage_upload
from collective.s3blobstorage.storage.attaching import attach
from collective.s3blobstorage.storage.owner import read_marker
from collective.s3blobstorage.storage.record import read_state

pytestmark = pytest.mark.clear  # it is refused where keys of ours encrypt

MB = 1024 * 1024
DATA = os.urandom(MB)
OTHER = b"other bytes"
# Each kind of base once.
KINDS = ["filestorage", "mappingstorage", "sqlite-hp", "sqlite-hf", "postgresql-hp", "zeo-client"]
EACH = ["PutObject", "ListObjectsV2", "PutObject", "HeadObject"]  # the requests for one new blob


@pytest.fixture
def counted(settings, proxy):
    """The store as reached through the proxy that counts."""
    return dataclasses.replace(settings, endpoint_url=proxy.endpoint_url)


@pytest.fixture
def site(make_site, counted):
    def make(kind="filestorage", **more):
        return make_site(kind, **{"store": counted, "dedup": True, "owner": "one", **more})

    return make


class Held:
    """What a bucket has: names of shared objects, (name, shared) of references, names of objects of their own."""

    def __init__(self, store):
        keys = bucket_keys(store)
        self.objects = [key.rpartition("/")[2] for key in keys if key.startswith(OBJECTS)]
        found = [read_reference_key(key) for key in keys]
        self.references = [reference[1:] for reference in found if reference is not None]
        self.own = [key for key in keys if read_key(key) is not None]
        self.marks = [key for key in keys if key.startswith(CONDEMNED)]


def name_of(data, generation=0):
    return shared_name(hashlib.sha256(data).digest(), generation)


def state_of(db: ZODB.DB, name: str):
    oid, tid = where(db, name)
    return read_state(db.storage.read_record(oid, tid))


def where(db: ZODB.DB, name: str) -> tuple[bytes, bytes]:
    with connected(db) as connection:
        blob = connection.root()[name]
        blob._p_activate()
        return blob._p_oid, blob._p_serial


def own_requests(proxy) -> list[str]:
    """Operations on blobs, references, marks and shared objects."""
    about = ("/blobs/", "/objects/", "prefix=")
    return [one.operation for one in proxy.exchanges if any(text in one.line for text in about)]


def condemn(store, data, generation=0) -> None:
    key = condemned_key(name_of(data, generation))
    raw_client(store).put_object(Bucket=store.bucket, Key=f"{store.prefix}/{key}".lstrip("/"), Body=b"")


def remove(store, key) -> None:
    raw_client(store).delete_object(Bucket=store.bucket, Key=f"{store.prefix}/{key}".lstrip("/"))


# Committing and reading


@pytest.mark.parametrize("kind", KINDS)
def test_equal_blobs_share_one_object(site, proxy, settings, kind):
    one = site(kind)
    db = one.db()
    commit_blobs(db, a=DATA, b=DATA)
    commit_blobs(db, c=DATA, other=OTHER, empty=b"")
    held = Held(settings)
    assert sorted(held.objects) == sorted({name_of(DATA), name_of(OTHER), name_of(b"")})
    assert held.own == [] and held.marks == []
    states = {name: state_of(db, name) for name in ("a", "b", "c", "other", "empty")}
    assert {state.object for state in states.values()} == set(held.objects)
    assert sorted(held.references) == sorted((state.name, state.object) for state in states.values())
    assert states["a"].name != states["b"].name and states["a"].object == states["c"].object == name_of(DATA)
    if kind != "mappingstorage":
        one.close_all()
        one.cold()
        db = one.db()
    elif len(list(db.storage.cache._layout.blobs.rglob("*"))):
        shutil.rmtree(db.storage.cache._layout.blobs)
        db.storage.cache._layout.blobs.mkdir()
    for name, data in (("a", DATA), ("other", OTHER)):
        proxy.reset()
        assert read_blob(db, name) == data
        assert own_requests(proxy) == ["GetObject"], name
    assert read_blob(db, "empty") == b""


def test_the_second_time_costs_and_tells_what_the_first_time_does(site, proxy, settings):
    """Nobody learns by requests, nor by bytes, that a file is there."""
    db = site().db()
    seen = []
    for name in ("a", "b"):
        proxy.reset()
        commit_blobs(db, **{name: DATA})
        about = [one for one in proxy.exchanges if "/blobs/" in one.line or "/objects/" in one.line]
        seen.append((own_requests(proxy), sum(one.bytes_up for one in about)))
    assert seen[0] == seen[1] == (EACH, MB)
    stored = raw_client(settings).list_objects_v2(Bucket=settings.bucket, Prefix=OBJECTS)["Contents"]
    assert [line["Size"] for line in stored] == [MB]


def test_a_file_in_parts_is_sent_whole_before_it_is_asked_for(site, proxy, settings):
    large = os.urandom(SINGLE_PUT_LIMIT + MB)
    db = site().db()
    seen = []
    for name in ("a", "b"):
        proxy.reset()
        commit_blobs(db, **{name: large})
        sent = [one for one in proxy.exchanges if one.operation == "UploadPart"]
        asked = [number for number, one in enumerate(proxy.exchanges) if one.operation == "HeadObject"]
        last = max(number for number, one in enumerate(proxy.exchanges) if one.operation == "UploadPart")
        seen.append((sum(one.bytes_up for one in sent), len(sent), min(asked) > last))
    assert seen[0] == seen[1] == (len(large), 2, True)
    held = Held(settings)
    assert held.objects == [name_of(large)] and len(held.references) == 2
    assert unfinished_uploads(settings) == []
    assert state_of(db, "a").sha256 == state_of(db, "b").sha256 == hashlib.sha256(large).digest()
    assert read_blob(db, "b") == large


def test_no_request_waits_for_the_store_to_say_whether_it_wants_the_bytes(site):
    """``Expect: 100-continue`` would have a store that knows the condition refuse a file without its bytes."""
    db = site().db()
    expected = []

    def look(request, **_):
        if "/objects/" in request.url:
            expected.append((request.headers.get("If-None-Match"), request.headers.get("Expect")))
        elif request.method == "PUT" and "/blobs/" in request.url:
            own.append(request.headers.get("Expect"))

    own: list[bytes | None] = []
    db.storage.store_.connection.writer.meta.events.register("before-send.s3", look)
    commit_blobs(db, single=os.urandom(3 * MB), parts=os.urandom(SINGLE_PUT_LIMIT + MB))
    assert {expects for _, expects in expected} == {None} and len(expected) >= 4
    assert {condition for condition, _ in expected} == {None, b"*"}  # parts have none, what makes the object has it
    db.storage._settings = dataclasses.replace(db.storage._settings, dedup=False)
    commit_blobs(db, other=os.urandom(3 * MB))
    assert own[-1] is not None  # as any other upload of that size


def test_one_oid_stored_twice_in_a_transaction_leaves_what_it_committed(site, settings):
    db = site().db()
    commit_blobs(db, a=OTHER)
    with connected(db) as connection:
        blob = connection.root()["a"]
        with blob.open("w") as file:
            file.write(b"first")
        connection.transaction_manager.savepoint()
        with blob.open("w") as file:
            file.write(DATA)
        connection.transaction_manager.commit()
    db.storage.uploads.settle()
    assert state_of(db, "a").object == name_of(DATA)
    assert len(Held(settings).references) == 2


@pytest.mark.parametrize("kind", UNDOING)
def test_undo_and_history(site, settings, kind):
    one = site(kind)
    db = one.db()
    for data in (DATA, OTHER, DATA):
        commit_blobs(db, a=data)
    before = Held(settings)
    undo(db)
    assert read_blob(db, "a") == OTHER
    undo(db)
    assert read_blob(db, "a") == DATA
    after = Held(settings)
    assert (after.objects, after.references, after.own) == (before.objects, before.references, [])
    one.close_all()
    one.cold()
    db = one.db()
    assert read_blob(db, "a") == DATA
    oid, _ = where(db, "a")
    for entry, data in zip(db.storage.history(oid, size=5), (DATA, OTHER, DATA, OTHER, DATA), strict=True):
        with open(db.storage.loadBlob(oid, entry["tid"]), "rb") as file:
            assert file.read() == data


def test_savepoints_pack_and_a_historical_connection(site):
    db = site().db()
    first = commit_blobs(db, a=DATA)
    commit_blobs(db, a=OTHER)
    old = db.open(transaction.TransactionManager(), at=first)
    with old.root()["a"].open() as file:
        assert file.read() == DATA
    old.close()
    with connected(db) as connection:
        connection.root()["a"].open("w").close()
        connection.transaction_manager.savepoint().rollback()
        with connection.root()["a"].open("w") as file:
            file.write(DATA)
        connection.transaction_manager.savepoint()
        connection.transaction_manager.commit()
    db.pack()
    assert read_blob(db, "a") == DATA


# Not committing


@pytest.mark.parametrize("kind", PERSISTENT)
def test_an_abort_takes_back_references_and_no_shared_object(site, settings, kind):
    db = site(kind).db()
    commit_blobs(db, kept=DATA)
    before = Held(settings)
    with connected(db) as connection:
        connection.root()["lost"] = Blob(DATA)
        connection.root()["new"] = Blob(OTHER)
        connection.transaction_manager.get().join(Against())
        with pytest.raises(ValueError, match="^no$"):
            connection.transaction_manager.commit()
    db.storage.uploads.settle()
    after = Held(settings)
    assert after.references == before.references
    assert sorted(after.objects) == sorted({name_of(DATA), name_of(OTHER)})  # what nobody uses is left to gc
    assert list(db.storage.staging.iterdir()) == []


@pytest.mark.parametrize("kind", PERSISTENT)
def test_a_conflict(site, settings, kind):
    db = site(kind).db()
    commit_blobs(db, a=OTHER)
    with connected(db) as mine, connected(db) as theirs:
        for connection in (mine, theirs):
            with connection.root()["a"].open("w") as file:
                file.write(DATA)
        theirs.transaction_manager.commit()
        with pytest.raises(ConflictError):
            mine.transaction_manager.commit()
        mine.transaction_manager.abort()
    db.storage.uploads.settle()
    held = Held(settings)
    assert sorted(shared for _, shared in held.references) == sorted([name_of(OTHER), name_of(DATA)])
    assert read_blob(db, "a") == DATA


@pytest.mark.parametrize("loser", [0, 1])
def test_a_transaction_over_two_databases(make_site, counted, settings, loser):
    dbs = [
        make_site(kind, store=dataclasses.replace(counted, prefix=f"p{number}"), dedup=True, owner="one").db()
        for number, kind in enumerate(("filestorage", "sqlite-hp"))
    ]
    for db in dbs:
        commit_blobs(db, a=OTHER)
    manager = transaction.TransactionManager()
    connections = [db.open(manager) for db in dbs]
    for connection in connections:
        with connection.root()["a"].open("w") as file:
            file.write(DATA)
    commit_blobs(dbs[loser], a=b"meanwhile")
    with pytest.raises(ConflictError):
        manager.commit()
    manager.abort()
    for connection in connections:
        with connection.root()["a"].open("w") as file:
            file.write(DATA)
    manager.commit()
    for number, (db, connection) in enumerate(zip(dbs, connections, strict=True)):
        connection.close()
        db.storage.uploads.settle()
        held = Held(dataclasses.replace(settings, prefix=f"p{number}"))
        assert len([shared for _, shared in held.references if shared == name_of(DATA)]) == 1
        assert read_blob(db, "a") == DATA


def test_two_threads_commit_the_same_bytes_at_once(site, settings, proxy):
    db = site().db()
    with connected(db) as connection:
        for number in "01":
            connection.root()[number] = type(connection.root())()
        connection.transaction_manager.commit()
    proxy.round_trip(20)
    together = threading.Barrier(2)

    def work(number: int) -> None:
        for turn in range(5):
            data = b"%d" % turn * 1000
            together.wait(30)
            with connected(db) as connection:
                connection.root()[str(number)][str(turn)] = Blob(data)
                connection.transaction_manager.commit()

    in_two_threads(work)
    held = Held(settings)
    assert len(held.objects) == 5 and len(held.references) == 10 and held.own == []
    with connected(db) as connection:
        for number in "01":
            for turn in range(5):
                assert connection.root()[number][str(turn)].open().read() == b"%d" % turn * 1000


# Generations


def test_a_generation_that_is_given_up_is_not_begun(site, settings):
    db = site().db()
    commit_blobs(db, a=DATA)
    condemn(settings, DATA)
    condemn(settings, DATA, 4)
    commit_blobs(db, b=DATA)
    assert (state_of(db, "a").object, state_of(db, "b").object) == (name_of(DATA), name_of(DATA, 5))
    held = Held(settings)
    assert sorted(held.objects) == sorted([name_of(DATA), name_of(DATA, 5)])
    assert len(held.references) == 2  # that to generation 0 was taken back
    assert read_blob(db, "a") == read_blob(db, "b") == DATA
    with connected(db) as connection:  # and an abort takes back all of them
        connection.root()["c"] = Blob(DATA)
        connection.transaction_manager.get().join(Against())
        with pytest.raises(ValueError):
            connection.transaction_manager.commit()
    db.storage.uploads.settle()
    assert sorted(Held(settings).references) == sorted(held.references)


def test_other_bytes_under_the_name_are_told(site, settings):
    db = site().db()
    key = object_key(name_of(DATA))
    raw_client(settings).put_object(Bucket=settings.bucket, Key=key, Body=DATA[:-1])
    with pytest.raises(Corrupt, match="fsck"):
        commit_blobs(db, a=DATA)
    wrong = {"sha256": "0" * 64}
    raw_client(settings).put_object(Bucket=settings.bucket, Key=key, Body=DATA[::-1], Metadata=wrong)
    with pytest.raises(Corrupt, match="fsck"):
        commit_blobs(db, a=DATA)
    db.storage.uploads.settle()
    assert Held(settings).references == []


# Faults at each request


FAULTS = {
    "503": lambda: answer(503, "SlowDown"),
    "reset before": lambda: reset("before"),
    "answer lost": lambda: reset("answer"),
}
REQUESTS = {
    "reference": {"method": "PUT", "target": "/blobs/"},
    "marks": {"method": "GET", "target": "condemned"},
    "bytes": {"method": "PUT", "target": "/objects/"},
    "look": {"method": "HEAD", "target": "/objects/"},
}


@pytest.mark.parametrize("request_", REQUESTS)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_request_that_fails_once_is_repeated(site, proxy, settings, request_, fault):
    db = site().db()
    commit_blobs(db, before=OTHER)
    rule = proxy.fail(FAULTS[fault](), **REQUESTS[request_])
    commit_blobs(db, a=DATA, b=OTHER)
    assert rule.hits == 1
    held = Held(settings)
    assert len(held.references) == 3 and len(held.objects) == 2
    assert read_blob(db, "a") == DATA and read_blob(db, "b") == OTHER


@pytest.mark.parametrize("request_", REQUESTS)
@pytest.mark.parametrize("fault", [*FAULTS, "403"])
def test_a_request_that_fails_for_good_aborts_and_leaves_no_reference(site, counted, proxy, settings, request_, fault):
    quick = dataclasses.replace(counted, outage_patience=0.0, download_max_attempts=1)
    db = site(store=quick).db()
    commit_blobs(db, before=OTHER)
    before = Held(settings)
    made = answer(403, "AccessDenied") if fault == "403" else FAULTS[fault]()
    proxy.fail(made, times=math.inf, **REQUESTS[request_])
    short = dataclasses.replace(patience.UPLOADING, attempts=2, seconds=1.0)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(upload, "UPLOADING", short)
        with pytest.raises(StoreError):
            commit_blobs(db, a=DATA)
    proxy.forgive()
    db.storage.uploads.settle()
    after = Held(settings)
    assert after.references == before.references and after.own == []
    commit_blobs(db, a=DATA)
    assert read_blob(db, "a") == DATA and len(Held(settings).objects) == 2


def test_an_object_that_appears_only_after_a_conflict_is_waited_for(site, proxy, settings, monkeypatch):
    """S3 answers 409 while another conditional PUT to the key is under way."""
    monkeypatch.setattr(sharing, "_CONFLICTS", (0.01, 0.01))
    db = site().db()
    rule = proxy.fail(answer(409, "ConditionalRequestConflict"), method="PUT", target="/objects/", times=2)
    commit_blobs(db, a=DATA)
    assert rule.hits == 2 and Held(settings).objects == [name_of(DATA)]
    proxy.fail(answer(409, "ConditionalRequestConflict"), method="PUT", target="/objects/", times=math.inf)
    with pytest.raises(StoreError, match="not in the object store any more"):
        commit_blobs(db, b=OTHER)


def test_an_abort_while_the_bytes_are_sent_waits_for_them(site, proxy, settings):
    """Only when the PUT has ended can its reference go: else the bytes would come to something that is given up."""
    db = site().db()
    rule = proxy.fail(hang("before", seconds=1.0), method="PUT", target="/objects/")
    with connected(db) as connection:
        connection.root()["a"] = Blob(DATA)
        connection.transaction_manager.get().join(Against())
        with pytest.raises(ValueError):
            connection.transaction_manager.commit()
    db.storage.uploads.settle()
    assert rule.hits == 1 and Held(settings).references == []


@pytest.mark.parametrize("faster", [None, "a mark", "its reference"])
@pytest.mark.parametrize("by_root", [False, True])
def test_a_file_that_takes_longer_than_gc_waits(site, proxy, settings, tmp_path, monkeypatch, by_root, faster):
    """Its reference may be older than gc-grace by then: gc deletes it as that of a transaction which was aborted."""
    monkeypatch.setattr(storage_upload, "_SLOW", 0.5)
    storage = site().open()
    proxy.fail(hang("before", seconds=2.0), method="PUT", target="/objects/")
    path = tmp_path / "blob"
    path.write_bytes(DATA)
    target = storage if by_root else storage.new_instance()
    metadata, oid = TransactionMetaData(), target.new_oid()
    target.tpc_begin(metadata)
    target.storeBlob(oid, b"\0" * 8, ObjectWriter().serialize(Blob()), str(path), "", metadata)
    wait_until(lambda: Held(settings).references)
    [(first, shared)] = Held(settings).references
    if faster == "a mark":  # the reference went with the round before
        condemn(settings, DATA)
    if faster is not None:
        remove(settings, reference_key(oid, first, shared))
    if faster == "a mark" or (faster is not None and by_root):
        with pytest.raises(StoreError, match="gc-grace"):
            target.tpc_vote(metadata)
        target.tpc_abort(metadata)
        storage.uploads.settle()
        assert Held(settings).references == []
        return
    target.tpc_vote(metadata)
    tid = target.tpc_finish(metadata)
    state = read_state(storage.read_record(oid, tid))
    storage.uploads.settle()
    assert Held(settings).references == [(state.name, state.object)] and state.object == shared
    assert (state.name == first) is by_root  # by the root the base has the record before


# The setting


def test_off_again_and_on_again(site, settings):
    one = site(dedup=False)
    db = one.db()
    commit_blobs(db, own=DATA)
    assert not read_marker(db.storage.store_).deduplicated and len(Held(settings).own) == 1
    one.close_all()
    db = one.db(dedup=True)
    assert read_marker(db.storage.store_).deduplicated and db.storage.marker.deduplicated
    commit_blobs(db, shared=DATA)
    one.close_all()
    db = one.db(dedup=False)
    assert db.storage.marker.deduplicated  # for good
    commit_blobs(db, own2=DATA)
    held = Held(settings)
    assert len(held.own) == 2 and held.objects == [name_of(DATA)] and len(held.references) == 1
    assert state_of(db, "own2").object is None
    one.close_all()
    one.cold()
    db = one.db()
    assert {read_blob(db, name) for name in ("own", "shared", "own2")} == {DATA}


def test_a_store_without_conditions_is_refused(make_site, settings, front):
    """With the preflight, and without it: then it is tried once, before the first shared object."""
    strange = dataclasses.replace(settings, endpoint_url=front.endpoint_url, ca_bundle=None)
    front.strange.ignores = ("if-none-match",)
    for preflight in (True, False):
        site = make_site("filestorage", store=strange, dedup=True, owner="one", preflight=preflight)
        with pytest.raises(ConfigurationError, match="^dedup is on, and the object store ignores If-None-Match"):
            site.open()
    with closing(open_store(settings)) as store:
        marker = read_marker(store)
    assert marker is not None and not marker.deduplicated
    front.strange.ignores = ()
    front.strange.refuses = ("if-none-match",)
    with pytest.raises(ConfigurationError, match="^dedup is on"):
        make_site("filestorage", store=strange, dedup=True, owner="one", preflight=False).open()
    front.strange.refuses = ()
    storage = make_site("filestorage", store=strange, dedup=True, owner="one", preflight=False).open()
    assert storage.marker.deduplicated
    seen = len(front.strange.seen)
    storage = make_site("filestorage", store=strange, dedup=True, owner="one", preflight=False).open()
    assert storage.marker.deduplicated and not any("s3blobs-check" in line for line in front.strange.seen[seen:])


def test_check_says_what_the_store_lacks(settings, front, tmp_path):
    at_front = dataclasses.replace(settings, endpoint_url=front.endpoint_url, ca_bundle=None)
    base = "<mappingstorage/>"
    found = {}
    for dedup, ignored in (("on", ()), ("on", ("if-none-match",)), ("off", ("if-none-match",))):
        front.strange.ignores = ignored
        conf = tmp_path / "zope.conf"
        lines = [f"dedup {dedup}", "owner one"]
        conf.write_text("%import collective.s3blobstorage\n" + section(at_front, tmp_path / "cache", base, *lines))
        result = s3blobs("--config", conf, "check", "--json", "--no-base", env=keys_of(settings))
        findings = {each["name"]: each for each in document(result)["findings"]}
        found[dedup, bool(ignored)] = findings.get("dedup")
    assert found["on", False]["ok"] is True and found["off", True] is None
    assert found["on", True]["ok"] is False and found["on", True]["mend"] == "dedup off"
    conf.write_text(conf.read_text().replace("dedup off", "dedup on"))
    result = s3blobs("--config", conf, "check", "--json", "--no-base", "--no-write", env=keys_of(settings))
    findings = {each["name"]: each for each in document(result)["findings"]}
    assert findings["dedup"]["ok"] is None and "not measured" in findings["dedup"]["detail"]


def test_read_only_neither_says_so_nor_asks(site, settings):
    storage = site().open(read_only=True)
    assert not storage.marker.deduplicated
    assert ".s3blobs.json" not in bucket_keys(settings)


def test_another_owners_prefix_is_refused_before_anything_is_said(site, settings):
    one = site(dedup=False)
    one.db()
    one.close_all()
    with pytest.raises(OwnerError):
        one.open(owner="another", dedup=True)
    with closing(open_store(settings)) as store:
        assert not read_marker(store).deduplicated


def test_a_store_that_was_out_at_the_start(site, counted, proxy, monkeypatch):
    one = site(store=dataclasses.replace(counted, outage_patience=0.0))
    proxy.down()
    monkeypatch.setattr("collective.s3blobstorage.storage.opening.ASK_AGAIN", 0.0)
    db = one.db(start_degraded=True, preflight_deadline=0.0)
    with pytest.raises(Unavailable):
        commit_blobs(db, a=DATA)
    proxy.up()

    def committed() -> bool:
        try:
            return bool(commit_blobs(db, a=DATA))
        except Unavailable:  # the first requests may meet connections of before
            return False

    wait_until(committed)
    assert db.storage.marker.deduplicated and db.storage.reader.deduplicated
    assert state_of(db, "a").object == name_of(DATA)


# Beside other ways to keep a blob


def test_what_is_in_its_record_shares_nothing(site, settings):
    db = site(inline_size=len(OTHER)).db()
    commit_blobs(db, small=OTHER, large=DATA)
    assert state_of(db, "small").inline == OTHER
    assert Held(settings).objects == [name_of(DATA)] and len(Held(settings).references) == 1


@pytest.mark.parametrize("kind", KEEPING)
def test_keep_in_base(kept, counted, settings, kind):
    site = kept(kind, counted)
    db = site.db(site.new(site.source, "dedup on"))
    commit_blobs(db, a=DATA, b=DATA, other=OTHER)
    held = Held(settings)
    assert len(held.objects) == 2 and len(held.references) == 3 and held.own == [] and site.left() == []
    site.cold()
    db = site.db(site.new(site.source, "dedup on"))
    assert read_blob(db, "a") == read_blob(db, "b") == DATA and read_blob(db, "other") == OTHER
    site.cold()
    db = site.db(site.old())
    assert read_blob(db, "a") == read_blob(db, "b") == DATA and read_blob(db, "other") == OTHER


def test_what_was_uploaded_directly_has_its_own_object(site, settings):
    db = site().db()
    commit_blobs(db, a=DATA)
    with connected(db) as connection:
        blob = connection.root()["b"] = Blob()
        attach(blob, connection, Put(db.storage.store_, DATA))
        connection.transaction_manager.commit()
    assert state_of(db, "b").object is None and len(Held(settings).own) == 1
    assert read_blob(db, "b") == DATA


def test_large_blobs_are_read_by_parts(site, proxy):
    one = site(part_threshold=256 * 1024, part_size=64 * 1024)
    db = one.db()
    commit_blobs(db, a=DATA, b=DATA)
    one.close_all()
    one.cold()
    db = one.db()
    proxy.reset()
    with connected(db) as connection, connection.root()["b"].open() as file:
        file.seek(-10, os.SEEK_END)
        assert file.read() == DATA[-10:]
        assert own_requests(proxy) == ["GetObject"]
        file.seek(0)
        assert file.read() == DATA


@pytest.mark.parametrize("size", [1000, 2 * MB, SINGLE_PUT_LIMIT + MB])
def test_a_staged_file_that_changes_after_it_was_hashed_is_not_shared(site, settings, proxy, size):
    """A disk that fails: whoever stores that file later would get those bytes."""
    storage = site().open()
    data = os.urandom(size)
    proxy.fail(hang("before", seconds=1.5), method="GET", target="condemned")
    with closing(ZODB.DB(storage)) as db:
        with connected(db) as connection, in_the_meantime(lambda: flip_staged(storage, settings)):
            connection.root()["a"] = Blob(data)
            with pytest.raises(Corrupt, match="its disk may be failing"):
                connection.transaction_manager.commit()
            connection.transaction_manager.abort()
        storage.uploads.settle()
        assert Held(settings).objects == [] and Held(settings).references == []
        assert unfinished_uploads(settings) == []
        commit_blobs(db, a=data)
        assert read_blob(db, "a") == data


@contextmanager
def in_the_meantime(work):
    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def flip_staged(storage, settings) -> None:
    """The last byte, once the file was hashed: its reference is there by then."""
    wait_until(lambda: Held(settings).references)
    [path] = [path for path in storage.cache.staging().iterdir() if path.stat().st_size >= 1000]
    path.chmod(0o600)
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        [last] = file.read()
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last ^ 1]))


@pytest.mark.parametrize("data", [b"a small one", DATA, DATA * 3])
def test_bytes_that_arrive_damaged_are_sent_again_where_they_lie(site, settings, front, data):
    """On a store that looks at no Content-MD5: else the next one who stores the file would find the damaged one."""
    front.strange.ignores = ("content-md5",)
    proxy = Proxy(front.endpoint_url)
    proxy.start()
    try:
        one = site(store=dataclasses.replace(settings, endpoint_url=proxy.endpoint_url))
        db = one.db()
        rule = proxy.fail(flip(5, "request"), method="PUT", target="/objects/")
        commit_blobs(db, a=data)
        assert rule.hits == 1
        commit_blobs(db, b=data)
        one.close_all()
        one.cold()
        db = one.db()
        assert read_blob(db, "a") == read_blob(db, "b") == data
        one.close_all()
    finally:
        proxy.close()


# Encrypted by the store


@pytest.mark.parametrize("required", [False, True])
def test_what_is_in_clear_is_not_shared_with_what_is_to_be_encrypted(
    site, settings, counted, proxy, required, pytestconfig
):
    if pytestconfig.getoption("--s3") != "ministack":
        pytest.skip("Ceph ignores AES256")
    one = site()
    commit_blobs(one.db(), clear=DATA)
    one.close_all()
    sse = configured([StoreMode("sse-s3", lambda required: SSES3(required=required))], required=required)
    encrypting = dataclasses.replace(counted, encryption=sse)
    db = one.db(store=encrypting)
    proxy.reset()
    commit_blobs(db, a=DATA)
    commit_blobs(db, b=DATA)
    looked = [*EACH[:2], "HeadObject"]  # of each generation
    assert own_requests(proxy) == 2 * [*looked, *looked, "DeleteObject", *EACH[2:]]
    assert state_of(db, "a").object == state_of(db, "b").object == name_of(DATA, 1)
    head = raw_client(settings).head_object(Bucket=settings.bucket, Key=object_key(name_of(DATA, 1)))
    assert head["ServerSideEncryption"] == "AES256"
    assert sorted(shared for _, shared in Held(settings).references) == [name_of(DATA), *2 * [name_of(DATA, 1)]]
    one.close_all()
    one.cold()
    db = one.db(store=encrypting)
    assert read_blob(db, "a") == DATA
    if required:
        with pytest.raises(StoreError, match="require-encryption"):
            read_blob(db, "clear")
    else:
        assert read_blob(db, "clear") == DATA


def test_a_store_that_encrypts_nothing_commits_nothing(site, settings, counted, front):
    """What it put down in clear is not taken for the blob by the next commit either."""
    sse = configured([StoreMode("sse-s3", lambda required: SSES3(required=required))])
    site().open()  # it says in the bucket that there may be shared objects
    front.strange.ignores = ("x-amz-server",)
    deaf = dataclasses.replace(counted, endpoint_url=front.endpoint_url, encryption=sse)
    db = site(store=deaf, preflight=False).db()
    for _ in range(2):
        with pytest.raises(EncryptionNotHonoured):
            commit_blobs(db, a=DATA)
    db.storage.uploads.settle()
    assert Held(settings).references == []


# Straight to the root, as a ZEO server and tools write


@pytest.mark.parametrize("kind", ["filestorage", "sqlite-hp"])
def test_the_root_stores_as_a_zeo_server_has_it(site, settings, tmp_path, kind):
    storage = site(kind).open()
    for number, ends in ((1, True), (2, False)):
        path = tmp_path / f"blob{number}"
        path.write_bytes(DATA)
        metadata, oid = TransactionMetaData(), storage.new_oid()
        storage.tpc_begin(metadata)
        storage.storeBlob(oid, b"\0" * 8, ObjectWriter().serialize(Blob()), str(path), "", metadata)
        storage.tpc_vote(metadata)
        if ends:
            tid = storage.tpc_finish(metadata)
            state = read_state(storage.read_record(oid, tid))
            assert state.object == name_of(DATA)
        else:
            storage.tpc_abort(metadata)
    storage.uploads.settle()
    assert Held(settings).references == [(state.name, state.object)]


# Restoring


@pytest.fixture
def copied(site, counted, tmp_path):
    """``copied(source, **changes)``: a new storage that all transactions of ``source`` are copied into."""
    opened = []

    def make(source, prefix, **changes):
        settings = StorageSettings(
            store=dataclasses.replace(counted, prefix=prefix),
            cache_dir=tmp_path / f"copy{len(opened)}",
            owner="one",
            **{"dedup": True, **changes},
        )
        storage = open_storage(FileStorage(str(tmp_path / f"copy{len(opened)}.fs")), settings)
        opened.append(storage)
        storage.copyTransactionsFrom(source)
        return storage

    yield make
    for storage in opened:
        storage.close()


def last_transaction(storage):
    """It, and its records."""
    found = [(recorded, list(recorded)) for recorded in storage.iterator()]
    return found[-1]


def contents(storage) -> dict[str, bytes]:
    db = ZODB.DB(storage)
    with connected(db) as connection:
        return {name: blob.open().read() for name, blob in connection.root().items()}


WHOLE = {"a": DATA, "b": DATA, "other": OTHER}


def test_a_copy_into_another_prefix_shares_there(site, settings, copied):
    source = site().db()
    commit_blobs(source, **WHOLE)
    target = copied(source.storage, "copy")
    there = dataclasses.replace(settings, prefix="copy")
    held = Held(there)
    assert sorted(held.objects) == sorted([name_of(DATA), name_of(OTHER)])
    assert len(held.references) == 3 and held.own == []
    assert contents(target) == WHOLE


def test_where_the_generation_was_given_up_it_gets_objects_of_its_own(site, settings, copied):
    source = site().db()
    commit_blobs(source, **WHOLE)
    there = dataclasses.replace(settings, prefix="copy")
    condemn(there, DATA)
    target = copied(source.storage, "copy")
    held = Held(there)
    assert held.objects == [name_of(OTHER)] and len(held.references) == 1
    names = {state_of(source, name).name for name in ("a", "b")}
    assert {read_key(key)[1] for key in held.own} == names
    assert contents(target) == WHOLE


def test_where_nothing_is_shared_it_gets_objects_of_its_own(site, settings, copied):
    source = site().db()
    commit_blobs(source, **WHOLE)
    target = copied(source.storage, "copy", dedup=False)
    held = Held(dataclasses.replace(settings, prefix="copy"))
    assert held.objects == [] and len(held.own) == 3
    assert contents(target) == WHOLE


def test_a_copy_into_the_same_prefix_sends_no_byte_and_aborts_take_nothing(site, settings, counted, proxy, tmp_path):
    one = site()
    source = one.db()
    commit_blobs(source, **WHOLE)
    before = Held(settings)
    path = tmp_path / "again.fs"
    again = StorageSettings(store=counted, cache_dir=tmp_path / "again", owner="one", dedup=True)
    with closing(open_storage(FileStorage(str(path)), again)) as storage:
        proxy.reset()
        storage.copyTransactionsFrom(source.storage)
        sent = [exchange for exchange in proxy.exchanges if exchange.method == "PUT"]
        assert sum(exchange.bytes_up for exchange in sent if "/objects/" in exchange.path) == 0
    after = Held(settings)
    assert (after.objects, sorted(after.references), after.own) == (before.objects, sorted(before.references), [])
    # A transaction that is restored and aborted: the names are not its own.
    last, records = last_transaction(source.storage)
    with closing(open_storage(FileStorage(str(tmp_path / "third.fs")), again)) as storage:
        storage.tpc_begin(last, last.tid, last.status)
        for record in records:
            if read_state(record.data) is not None:
                copy = tmp_path / "blob"
                shutil.copy(source.storage.loadBlob(record.oid, record.tid), copy)
                storage.restoreBlob(record.oid, record.tid, record.data, str(copy), None, last)
        storage.tpc_vote(last)
        storage.tpc_abort(last)
        storage.uploads.settle()
    assert sorted(Held(settings).references) == sorted(before.references)
    one.cold()
    assert read_blob(source, "a") == DATA


def test_a_file_that_is_not_the_records_is_refused(site, settings, tmp_path, counted):
    source = site().db()
    commit_blobs(source, a=DATA)
    last, records = last_transaction(source.storage)
    settings_there = StorageSettings(
        store=dataclasses.replace(counted, prefix="copy"), cache_dir=tmp_path / "copy", owner="one", dedup=True
    )
    with closing(open_storage(FileStorage(str(tmp_path / "copy.fs")), settings_there)) as storage:
        storage.tpc_begin(last, last.tid, last.status)
        for record in records:
            if read_state(record.data) is not None:
                wrong = tmp_path / "wrong"
                wrong.write_bytes(DATA[::-1])
                storage.restoreBlob(record.oid, record.tid, record.data, str(wrong), None, last)
        with pytest.raises(Corrupt):
            storage.tpc_vote(last)
        storage.tpc_abort(last)
    held = Held(dataclasses.replace(settings, prefix="copy"))
    assert held.objects == [] and held.references == [] and held.own == []


# What `s3blobs dedup` leaves: a record without ``object``, a reference, no object of its own


def convert(store, oid, name, data, generation=0) -> str:
    """By the steps of `s3blobs dedup`. Returns the shared object's name."""
    client, prefix = raw_client(store), f"{store.prefix}/".lstrip("/")
    shared = name_of(data, generation)
    client.put_object(Bucket=store.bucket, Key=prefix + reference_key(oid, name, shared), Body=b"")
    client.put_object(
        Bucket=store.bucket,
        Key=prefix + object_key(shared),
        Body=data,
        Metadata={"size": str(len(data)), "sha256": hashlib.sha256(data).hexdigest()},
    )
    client.delete_object(Bucket=store.bucket, Key=prefix + blob_key(oid, name))
    return shared


@pytest.mark.parametrize("known", [True, False], ids=["known at the start", "begun since"])
@pytest.mark.parametrize("part_threshold", [128 * 1024, 8 * MB], ids=["parts", "whole"])
def test_a_converted_blob_is_found_and_remembered(site, settings, proxy, known, part_threshold):
    one = site(dedup=False, part_threshold=part_threshold, part_size=64 * 1024)
    db = one.db()
    commit_blobs(db, a=DATA, b=OTHER)
    if known:
        db.close()
        one.open(dedup=True).close()
        db = one.db()
    assert db.storage.reader.deduplicated is known
    oid, tid = where(db, "a")
    convert(settings, oid, state_of(db, "a").name, DATA)
    shutil.rmtree(db.storage.cache._layout.blobs)
    db.storage.cache._layout.blobs.mkdir()
    proxy.reset()
    with connected(db) as connection:
        with connection.root()["a"].open() as file:
            assert file.read() == DATA
        first = own_requests(proxy)
        assert first[:3] == ["GetObject", "ListObjectsV2", "GetObject"]
        assert first.count("ListObjectsV2") == 1
    wait_until(lambda: not len(db.storage.cache._parts._open))  # the file is made after the last byte was handed out
    for path in db.storage.cache._layout.blobs.rglob("*"):
        if path.is_file():
            path.unlink()
    proxy.reset()
    assert read_blob(db, "a") == DATA
    assert set(own_requests(proxy)) == {"GetObject"}
    assert not any("/blobs/" in line for line in proxy.lines)
    assert db.storage.addresses.of(oid, tid, db.storage.read_record(oid, tid)).key == object_key(name_of(DATA))


def test_a_blob_that_is_nowhere_is_missing_still(site, settings):
    one = site()
    db = one.db()
    commit_blobs(db, a=DATA)
    shared = state_of(db, "a").object
    remove(settings, object_key(shared))
    one.close_all()
    one.cold()
    with pytest.raises(BlobMissing):
        read_blob(one.db(), "a")


def test_a_restored_blob_that_was_converted_again_is_found(site, settings):
    """Its record names a generation that is gone; its reference leads to another one."""
    one = site()
    db = one.db()
    commit_blobs(db, a=DATA)
    oid, _ = where(db, "a")
    state = state_of(db, "a")
    convert(settings, oid, state.name, DATA, generation=3)
    remove(settings, object_key(state.object))
    one.close_all()
    one.cold()
    assert read_blob(one.db(), "a") == DATA


def test_undo_of_a_nameless_record_that_was_converted(site, settings, tmp_path):
    """Its object is called after its tid, and so is that of the undo."""
    one = site()
    db = one.db()
    commit_blobs(db, a=OTHER)
    oid, before = where(db, "a")
    db.close()
    # As zodbconvert left it: a record without our state.
    metadata, path, tid = TransactionMetaData(), tmp_path / "blob", p64(u64(before) + 1)
    path.write_bytes(DATA)
    with closing(one.open()) as storage:
        storage.tpc_begin(metadata, tid)
        storage.restoreBlob(oid, tid, ObjectWriter().serialize(Blob()), str(path), None, metadata)
        storage.tpc_vote(metadata)
        storage.tpc_finish(metadata)
    convert(settings, oid, tid.hex(), DATA)
    db = one.db()
    commit_blobs(db, a=OTHER)
    undo(db)
    one.close_all()
    one.cold()
    assert read_blob(one.db(), "a") == DATA
    assert len(Held(settings).own) == 1  # the undo's
