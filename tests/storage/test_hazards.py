"""Places where other packages lose data, one by one."""

from __future__ import annotations

import dataclasses
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import transaction
import ZConfig
import ZODB
import ZODB.config
from BTrees.Length import Length
from sites import bucket_keys, commit_blobs, connected, raw_client, read_blob, run_zeo
from ZEO.ClientStorage import ClientStorage
from ZODB.blob import Blob, BlobStorage
from ZODB.FileStorage import FileStorage
from ZODB.POSException import POSKeyError
from ZODB.tests.hexstorage import HexStorage

from collective.s3blobstorage.errors import ConfigurationError, Corrupt, OwnerError, RecordError, Refused, Unavailable
from collective.s3blobstorage.keys import MARKER
from collective.s3blobstorage.objectstore import upload


def counted(make_site, settings, proxy, kind="filestorage", **more):
    """A site whose requests the proxy counts."""
    return make_site(kind, store=dataclasses.replace(settings, endpoint_url=proxy.endpoint_url), **more)


@pytest.mark.parametrize("kind", ["filestorage", "sqlite-hp", "zeo-client"])
def test_ten_concurrent_misses_make_one_request(make_site, settings, proxy, kind):
    site = counted(make_site, settings, proxy, kind)
    db = site.db()
    data = os.urandom(300_000)
    commit_blobs(db, a=data)
    db.close()
    site.cold()
    db = site.db()
    proxy.reset()
    proxy.round_trip(40)
    barrier = threading.Barrier(10)

    def read(_) -> bytes:
        with connected(db) as connection:
            barrier.wait()
            return connection.root()["a"].open("r").read()

    with ThreadPoolExecutor(10) as pool:
        assert set(pool.map(read, range(10))) == {data}
    assert proxy.counts("/blobs/") == {"GetObject": 1}


def test_two_revisions_of_one_oid_missed_at_the_same_time(make_site, settings, proxy):
    site = counted(make_site, settings, proxy)
    db = site.db()
    data = [os.urandom(200_000) for _ in range(2)]
    tids = [commit_blobs(db, a=one) for one in data]
    with connected(db) as connection:
        oid = connection.root()["a"]._p_oid
    db.close()
    site.cold()
    storage = site.open()
    proxy.round_trip(40)
    barrier = threading.Barrier(2)

    def read(tid: bytes) -> bytes:
        barrier.wait()
        with storage.openCommittedBlobFile(oid, tid) as file:
            return file.read()

    with ThreadPoolExecutor(2) as pool:
        for _ in range(5):
            assert list(pool.map(read, tids)) == data
    storage.close()


@pytest.mark.parametrize("kind", ["filestorage", "sqlite-hp"])
def test_an_eviction_between_loading_and_opening(make_site, kind):
    site = make_site(kind)
    db = site.db()
    commit_blobs(db, a=b"bytes")
    with connected(db) as connection:
        blob = connection.root()["a"]
        blob._p_activate()
        os.remove(blob._p_blob_committed)
        assert blob.open("r").read() == b"bytes"
        os.remove(blob._p_blob_committed)
        with blob.open("c") as file:
            assert file.read() == b"bytes"
        os.remove(blob._p_blob_committed)
        with open(blob.committed(), "rb") as file:
            assert file.read() == b"bytes"


def test_a_file_handed_out_lately_is_not_evicted(make_site):
    site = make_site("filestorage", cache_size=1000)
    db = site.db()
    for number in range(5):
        commit_blobs(db, **{f"b{number}": os.urandom(2000)})
    with connected(db) as connection:
        blobs = [connection.root()[f"b{number}"] for number in range(5)]
        for blob in blobs:
            blob._p_activate()
        db.storage.cache.clean()
        assert all(os.path.exists(blob._p_blob_committed) for blob in blobs)


def test_a_truncated_cache_file_is_never_served(make_site):
    site = make_site("filestorage")
    db = site.db()
    data = os.urandom(100_000)
    commit_blobs(db, a=data)
    with connected(db) as connection:
        blob = connection.root()["a"]
        blob._p_activate()
        path = blob._p_blob_committed
        os.chmod(path, 0o600)
        os.truncate(path, 50_000)
        assert blob.open("r").read() == data


@pytest.mark.parametrize("kind", ["filestorage", "sqlite-hp", "zeo-client"])
def test_an_unreachable_store_is_not_a_missing_blob(make_site, settings, proxy, kind):
    store = dataclasses.replace(
        settings, endpoint_url=proxy.endpoint_url, download_deadline=2, outage_patience=0, connect_timeout=1
    )
    site = make_site(kind, store=store)
    db = site.db()
    tid = commit_blobs(db, a=b"bytes", b=b"cached")
    with connected(db) as connection:
        oid = connection.root()["a"]._p_oid
        connection.root()["b"]._p_activate()
        db.storage.cache.get(oid, tid).unlink()
        proxy.down()
        for held in (db.storage, connection._storage):
            with pytest.raises(Unavailable) as caught:
                held.loadBlob(oid, tid)
            assert not isinstance(caught.value, POSKeyError)
            assert settings.bucket not in str(caught.value)
        assert connection.root()["b"].open("r").read() == b"cached"
        proxy.up()
        assert connection.root()["a"].open("r").read() == b"bytes"


def test_a_commit_without_a_store_fails_cleanly(make_site, settings, proxy, monkeypatch):
    monkeypatch.setattr(upload, "UPLOADING", dataclasses.replace(upload.UPLOADING, seconds=3.0))  # of 45
    site = counted(make_site, settings, proxy)
    db = site.db()
    commit_blobs(db, a=b"bytes")
    with connected(db) as connection:
        proxy.down()
        connection.root()["c"] = Blob(b"never")
        with pytest.raises(Unavailable):
            connection.transaction_manager.commit()
        connection.transaction_manager.abort()
        proxy.up()
        assert "c" not in connection.root()
        connection.root()["c"] = Blob(b"now")
        connection.transaction_manager.commit()
    assert read_blob(db, "c") == b"now"


def test_a_forbidden_or_damaged_object_is_not_a_missing_blob(make_site, settings):
    site = make_site("filestorage")
    db = site.db()
    tid = commit_blobs(db, a=b"right bytes")
    with connected(db) as connection:
        oid = connection.root()["a"]._p_oid
    db.close()
    site.cold()
    storage = site.open()
    key = storage.locate(oid, tid).keys[0]
    client = raw_client(settings)
    for body in (b"WRONG bytes", b"short", b"longer than the right bytes"):
        client.put_object(Bucket=settings.bucket, Key=key, Body=body)
        with pytest.raises(Corrupt):
            storage.loadBlob(oid, tid)
    client.delete_object(Bucket=settings.bucket, Key=key)
    with pytest.raises(POSKeyError):
        storage.loadBlob(oid, tid)
    storage.close()
    with pytest.raises((Refused, ConfigurationError)):
        site.open(store=dataclasses.replace(settings, secret_key="wrong" * 8))


# Whose prefix it is


def test_a_second_owner_is_refused_for_writing(make_site, settings):
    production = make_site("filestorage", owner="production")
    db = production.db()
    tid = commit_blobs(db, a=b"production's")
    with connected(db) as connection:
        oid = connection.root()["a"]._p_oid
    db.close()
    # staging: a copy of Data.fs, the same bucket and prefix
    for owner in ("staging", None):
        staging = make_site("filestorage", owner=owner)
        (staging.folder / "Data.fs").write_bytes((production.folder / "Data.fs").read_bytes())
        with pytest.raises(OwnerError, match="belongs to owner 'production'.*s3-prefix"):
            staging.open()
        storage = staging.open(read_only=True)
        with open(storage.loadBlob(oid, tid), "rb") as file:
            assert file.read() == b"production's"
        storage.close()
    production.db().close()
    # nobody's yet: the first to name an owner has it
    unowned = make_site("filestorage", store=dataclasses.replace(settings, prefix="unowned"))
    unowned.open().close()
    unowned.open(owner="first").close()
    with pytest.raises(OwnerError, match="belongs to owner 'first'"):
        unowned.open(owner="second")
    unowned.open(owner="first").close()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "damaged"),
        (b"{", "damaged"),
        (b"[]", "damaged"),
        (b'{"format": 1}', "damaged"),
        (b'{"format": 2, "owner": null, "layouts": []}', "newer release"),
    ],
)
def test_a_damaged_or_newer_marker_stops_the_start(make_site, settings, body, message):
    site = make_site("filestorage")
    raw_client(settings).put_object(Bucket=settings.bucket, Key=MARKER, Body=body)
    with pytest.raises(RecordError, match=message):
        site.open()
    assert raw_client(settings).get_object(Bucket=settings.bucket, Key=MARKER)["Body"].read() == body


def test_two_databases_on_one_prefix_do_not_touch_each_others_blobs(make_site):
    """The same oids in both; commits, conflicts and aborts of one never reach the other's objects."""
    sites = [make_site("filestorage") for _ in range(2)]
    dbs = [site.db() for site in sites]
    for number, db in enumerate(dbs):
        commit_blobs(db, a=b"of %d" % number)
    with connected(dbs[1]) as connection:
        connection.root()["a"].open("w").close()
        connection.root()["b"] = Blob(b"x")
        connection.transaction_manager.savepoint()
        connection.transaction_manager.abort()
    dbs[1].storage.uploads.settle()
    for site, db in zip(sites, dbs, strict=True):
        db.close()
        site.cold()
    for number, site in enumerate(sites):
        assert read_blob(site.db(), "a") == b"of %d" % number


# What may not be around us, or inside


def test_a_second_wrapper_outside_ours_is_refused(make_site):
    zlibstorage = pytest.importorskip("zc.zlibstorage")
    site = make_site("filestorage")
    for wrapper in (zlibstorage.ZlibStorage, HexStorage):
        storage = site.open()
        with pytest.raises(ConfigurationError, match="put <s3blobstorage> outermost"):
            wrapper(storage)
        storage.close()
    site.base = lambda: zlibstorage.ZlibStorage(FileStorage(str(site.folder / "Data.fs")))
    db = site.db()
    commit_blobs(db, a=b"a" * 1000)
    db.close()
    site.cold()
    db = site.db()
    assert read_blob(db, "a") == b"a" * 1000
    assert (site.folder / "Data.fs").read_bytes().count(b"s3blob") == 0  # the record went through the compression


def test_a_base_with_blobs_of_its_own_is_refused_and_closed(make_site, tmp_path):
    from relstorage.adapters.sqlite.adapter import Sqlite3Adapter
    from relstorage.options import Options
    from relstorage.storage import RelStorage
    from ZODB.DemoStorage import DemoStorage
    from ZODB.MappingStorage import MappingStorage

    def relational():
        options = Options(blob_dir=str(tmp_path / "rs"))
        return RelStorage(Sqlite3Adapter(str(tmp_path / "sqlite"), pragmas={}, options=options), options=options)

    site = make_site("filestorage")
    data = str(site.folder / "Data.fs")
    for base in (
        lambda: FileStorage(data, blob_dir=str(tmp_path / "blobs")),
        lambda: BlobStorage(str(tmp_path / "blobs2"), FileStorage(data)),
        lambda: DemoStorage(base=FileStorage(data, blob_dir=str(tmp_path / "blobs")), changes=MappingStorage()),
        relational,
    ):
        site.base = base
        with pytest.raises(ConfigurationError, match="blob-dir"):
            site.open()
        assert bucket_keys(site.settings.store) == []
    site.base = lambda: FileStorage(data)
    site.open().close()  # its lock was released each time


# ZEO


@pytest.fixture
def zeo_conf(make_site, settings, tmp_path):
    """The text of our section, as a ZEO server's configuration has it."""
    trusted = f"s3-ca-bundle {settings.ca_bundle}" if settings.ca_bundle else ""
    return f"""
        %import collective.s3blobstorage
        <s3blobstorage main>
          bucket-name {settings.bucket}
          s3-endpoint-url {settings.endpoint_url}
          s3-region {settings.region}
          s3-access-key {settings.access_key}
          s3-secret-key {settings.secret_key}
          {trusted}
          cache-dir {tmp_path}/server-cache
          <filestorage>
            path {tmp_path}/server.fs
          </filestorage>
        </s3blobstorage>
    """


def test_our_section_in_a_zeo_server(zeo_conf, settings, tmp_path):
    port, process = run_zeo(tmp_path, zeo_conf)
    try:
        client = ClientStorage(("127.0.0.1", port), "main", blob_dir=str(tmp_path / "client"), wait_timeout=30)
        db = ZODB.DB(client)
        data = os.urandom(200_000)
        commit_blobs(db, a=data)
        db.undo(db.undoLog(0, 1)[0]["id"])
        transaction.commit()
        db.undo(db.undoLog(0, 1)[0]["id"])
        transaction.commit()
        db.close()
        client = ClientStorage(("127.0.0.1", port), "main", blob_dir=str(tmp_path / "client2"), wait_timeout=30)
        db = ZODB.DB(client)
        assert read_blob(db, "a") == data
        db.close()
    finally:
        process.terminate()
        process.wait()
    assert [key for key in bucket_keys(settings) if key.startswith("blobs/")]


def test_client_side_conflict_resolution_of_zeo(make_site, zeo_conf, tmp_path):
    """The server hands conflicts to its clients, by replacing a method of the storage it serves: ours."""
    port, process = run_zeo(tmp_path, zeo_conf, "client-conflict-resolution true")
    try:
        address = ("127.0.0.1", port)
        db = ZODB.DB(ClientStorage(address, "main", blob_dir=str(tmp_path / "c"), wait_timeout=30))
        with connected(db) as connection:
            connection.root()["n"] = Length()
            connection.transaction_manager.commit()
        resolve_in_two_connections(db)
        db.close()
        # and the same around a client
        site = make_site("zeo-client")
        site._zeo = (port, process)
        site.settings = dataclasses.replace(
            site.settings, store=dataclasses.replace(site.settings.store, prefix="around-the-client")
        )
        db = site.db()
        resolve_in_two_connections(db, 4)
        db.close()
        site._zeo = None
    finally:
        process.terminate()
        process.wait()


def resolve_in_two_connections(db: ZODB.DB, expected: int = 2) -> None:
    with connected(db) as one, connected(db) as two:
        for connection in (one, two):
            connection.root()["n"].change(1)
        one.transaction_manager.commit()
        two.transaction_manager.commit()
        two.transaction_manager.begin()
        assert two.root()["n"]() == expected


def test_a_wrong_value_stops_the_start_and_an_open_that_fails_closes_the_base(zeo_conf, settings, tmp_path):
    with pytest.raises(ZConfig.ConfigurationError, match="bucket-name"):
        ZODB.config.storageFromString(zeo_conf.replace(settings.bucket, "No Bucket!"))
    with pytest.raises(ConfigurationError, match="bucket"):
        ZODB.config.storageFromString(zeo_conf.replace(settings.bucket, "no-such-bucket-at-all"))
    storage = ZODB.config.storageFromString(zeo_conf)  # Data.fs's lock was released
    storage.close()
