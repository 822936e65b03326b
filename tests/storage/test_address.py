"""Where a revision lies, told without loading it, and never of one that is not there."""

from __future__ import annotations

import dataclasses
import hashlib
from contextlib import contextmanager

import pytest
from origins import CONTENTS, IN_A_BUCKET
from rings import client_side, sse_c
from servers.faults import answer
from servers.proxy import Proxy
from sites import ALL, commit_blobs, connected, raw_client, read_blob
from ZODB.blob import Blob
from ZODB.POSException import POSKeyError
from ZODB.serialize import ObjectWriter
from zope.interface.verify import verifyObject

from collective.s3blobstorage.errors import BlobMissing, Unavailable
from collective.s3blobstorage.settings import DeliverySettings
from collective.s3blobstorage.storage.interfaces import IBlobAddresses
from collective.s3blobstorage.storage.mirrored import retract, write_mirrored

DATA = b"some bytes"


@pytest.fixture
def counted(settings, proxy):
    """The store as reached through the proxy that counts."""
    return dataclasses.replace(settings, endpoint_url=proxy.endpoint_url)


@contextmanager
def addresses(db):
    """``address(name)`` of ``root[name]``, in a new connection."""
    with connected(db) as connection:
        yield lambda name: connection._storage.address(connection.root()[name]._p_oid)


def requests_of(proxy, db, *names):
    """The addresses of these, and which requests were made for them beside those of the process."""
    with addresses(db) as address:
        proxy.reset()
        found = [address(name) for name in names]
    return found, [line for line in proxy.lines if "gc/witness" not in line]


@pytest.mark.parametrize("kind", ALL)
def test_it_is_where_the_bytes_are(make_site, kind):
    site = make_site(kind, delivery=DeliverySettings(presign_max_expiry=77.0))
    db = site.db()
    commit_blobs(db, one=DATA, two=b"other bytes")
    with connected(db) as connection:
        storage = connection._storage
        assert verifyObject(IBlobAddresses, storage)
        found = storage.address(connection.root()["one"]._p_oid)
    assert (found.size, found.sha256) == (len(DATA), hashlib.sha256(DATA).digest())
    assert found.store.get_bytes(found.key) == DATA
    assert found.delivery.presign_max_expiry == 77.0


def test_it_takes_no_request_and_no_blob(make_site, counted, proxy, monkeypatch):
    db = make_site("filestorage", store=counted).db()
    commit_blobs(db, **{f"blob{number}": DATA for number in range(20)})
    from collective.s3blobstorage.storage.instance import S3BlobInstance

    for loading in ("loadBlob", "openCommittedBlobFile"):
        monkeypatch.setattr(S3BlobInstance, loading, None)
    found, lines = requests_of(proxy, db, *(f"blob{number}" for number in range(20)))
    assert all(found) and lines == []


def test_a_connection_is_told_of_what_it_sees(make_site):
    db = make_site("filestorage").db()
    commit_blobs(db, blob=b"old")
    with addresses(db) as address:
        old = address("blob")
        commit_blobs(db, blob=b"new")
        assert address("blob") == old
    with addresses(db) as address:
        new = address("blob")
    assert new.key != old.key and new.tid > old.tid
    assert (old.store.get_bytes(old.key), new.store.get_bytes(new.key)) == (b"old", b"new")


def test_what_is_in_its_record_has_none(make_site):
    db = make_site("filestorage", inline_size=100).db()
    commit_blobs(db, blob=DATA)
    with addresses(db) as address:
        assert address("blob") is None


def test_what_is_no_blob_and_what_is_not_there(make_site):
    db = make_site("filestorage").db()
    with connected(db) as connection:
        with pytest.raises(BlobMissing):
            connection._storage.address(connection.root()._p_oid)
        with pytest.raises(POSKeyError):
            connection._storage.address(b"\0\0\0\0\0\0\1\0")


@pytest.mark.parametrize("origin", IN_A_BUCKET)
def test_with_a_source_the_bucket_is_asked_once(make_staging, counted, proxy, origin):
    staging = make_staging(origin, store=dataclasses.replace(counted, prefix="staging"))
    db = staging.db()
    names = sorted(CONTENTS)
    found, lines = requests_of(proxy, db, *names)
    assert found == [None] * len(names)
    # The mark, and one HEAD each; nameless ones may lie under keys of zodb-s3blobs, too.
    each = 3 if origin.startswith("zodb-s3blobs") or origin == "ours-nameless" else 1
    assert len(lines) <= 1 + each * len(names) and not any(line.startswith("PUT") for line in lines)
    commit_blobs(db, small=b"small", changed=b"here")
    found, lines = requests_of(proxy, db, "small", "changed")
    assert all(found) and len(lines) == 2 and all(line.startswith("HEAD") for line in lines)
    found, lines = requests_of(proxy, db, "small", "changed")
    assert all(found) and lines == []
    db.close()
    found, lines = requests_of(proxy, staging.db(), "small", "changed")
    assert all(found) and all("mirrored" in line for line in lines)  # a restart remembers it


@pytest.mark.clear
def test_up_to_the_mark_of_a_mirror_nothing_is_asked(make_staging, counted, proxy):
    staging = make_staging("ours", store=dataclasses.replace(counted, prefix="staging"))
    client = raw_client(counted)
    for line in client.list_objects_v2(Bucket=counted.bucket, Prefix="production/blobs/")["Contents"]:
        source = {"Bucket": counted.bucket, "Key": line["Key"]}
        client.copy_object(
            Bucket=counted.bucket, Key=line["Key"].replace("production/", "staging/", 1), CopySource=source
        )
    db = staging.db()
    write_mirrored(db.storage.store_, db.storage.lastTransaction(), ["production"])
    names = sorted(CONTENTS)
    found, lines = requests_of(proxy, db, *names)
    assert all(found) and [line.split()[0] for line in lines] == ["GET"] and "mirrored" in lines[0]
    found, lines = requests_of(proxy, db, *names)
    assert all(found) and lines == []
    commit_blobs(db, later=DATA)
    found, lines = requests_of(proxy, db, "later")
    assert all(found) and len(lines) == 1  # it is younger than the mark


def test_a_mark_that_was_taken_back_is_no_mark(make_staging, settings, monkeypatch):
    db = make_staging("ours").db()
    write_mirrored(db.storage.store_, db.storage.lastTransaction(), ["production"])
    with addresses(db) as address:
        assert address("small") is not None
    retract(db.storage.store_)
    monkeypatch.setattr("collective.s3blobstorage.storage.address.ASK_AGAIN", 0.0)
    with addresses(db) as address:
        assert address("small") is None


def test_a_store_that_does_not_answer_is_no_error(make_staging, counted, proxy):
    staging = make_staging(
        "ours", store=dataclasses.replace(counted, prefix="staging", outage_patience=0.0, download_max_attempts=1)
    )
    db = staging.db()
    proxy.fail(answer(503), times=1000)
    with addresses(db) as address:
        assert address("small") is None


def test_a_nameless_record_is_looked_for_under_each_key_that_it_may_have(make_site, counted, proxy):
    db = make_site("filestorage", store=counted).db()
    commit_blobs(db, blob=DATA)
    storage, nameless = db.storage, ObjectWriter().serialize(Blob())
    oid, tid = b"\0\0\0\0\0\0\1\2", storage.lastTransaction()
    assert storage.addresses.of(oid, tid, nameless).key == f"blobs/{oid.hex()}/{tid.hex()}"
    storage.reader.with_foreign_keys = True
    proxy.reset()
    assert storage.addresses.of(oid, tid, nameless) is None
    assert [line.split()[0] for line in proxy.lines if "gc/witness" not in line] == ["HEAD"] * 3
    key = f"blobs/102/{int.from_bytes(tid, 'big'):x}.blob"
    raw_client(counted).put_object(Bucket=counted.bucket, Key=key, Body=DATA)
    found = storage.addresses.of(oid, tid, nameless)
    assert (found.key, found.size, found.sha256) == (key, None, None)
    proxy.reset()
    assert storage.addresses.of(oid, tid, nameless) == found
    assert [line for line in proxy.lines if "gc/witness" not in line] == []


def test_in_a_copy_for_development_the_bucket_is_asked(make_site, counted, proxy):
    site = make_site("filestorage", store=counted)
    db = site.db()
    commit_blobs(db, there=DATA, gone=DATA)
    with addresses(db) as address:
        key = address("gone").key
    site.close_all()
    raw_client(counted).delete_object(Bucket=counted.bucket, Key=key)
    (there, gone), lines = requests_of(proxy, site.db(missing_blob="placeholder"), "there", "gone")
    assert there is not None and gone is None
    assert [line.split()[0] for line in lines] == ["HEAD", "HEAD"]


def test_a_store_that_was_out_at_the_start_signs_nothing_until_it_was_looked_at(make_site, counted, proxy):
    site = make_site("filestorage", store=counted)
    commit_blobs(site.db(), blob=DATA)
    site.close_all()
    proxy.down()
    db = site.db(start_degraded=True, preflight_deadline=0.0, store=dataclasses.replace(counted, outage_patience=0.0))
    with addresses(db) as address, pytest.raises(Unavailable):
        found = address("blob")
        found.store.presign_get(found.key, seconds=60)


@pytest.mark.parametrize("encryption", [client_side(b"k" * 32), sse_c(b"k" * 32)], ids=["client-side", "sse-c"])
def test_what_needs_a_key_of_ours_has_no_address(make_site, settings, ca, s3_server, encryption):
    """Neither the store's nor a CDN's, nor a public one: all of them would give other bytes, or none."""
    upstream_ca = ca.bundle if s3_server.endpoint_url.startswith("https:") else None
    with Proxy(s3_server.endpoint_url, ca=ca, upstream_ca=upstream_ca) as tls:
        secure = dataclasses.replace(
            settings, endpoint_url=tls.endpoint_url, ca_bundle=ca.bundle, encryption=encryption
        )
        site = make_site("filestorage", store=secure)
        db = site.db()
        commit_blobs(db, a=b"content")
        with addresses(db) as address:
            assert address("a") is None
        assert read_blob(db, "a") == b"content"
        site.close_all()
