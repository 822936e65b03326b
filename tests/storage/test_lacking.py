"""First reads through a source cost what direct ones cost: what the bucket was seen to lack it is not asked for."""

from __future__ import annotations

import dataclasses
import time

import pytest
import ZODB
from sites import commit_blobs, raw_client, read_blob, wait_until
from ZODB.FileStorage import FileStorage

from collective.s3blobstorage.overlay.interfaces import SourceOptions
from collective.s3blobstorage.overlay.lacking import MISSES, SETTLED
from collective.s3blobstorage.overlay.settings import S3Settings
from collective.s3blobstorage.settings import StorageSettings
from collective.s3blobstorage.storage import open_storage

NAMES = [f"blob{number}" for number in range(40)]


@pytest.fixture
def staging(settings, proxy, tmp_path):
    """``staging(mirror)``: a copy of a site with forty blobs, opened two hours after they were committed."""
    production = dataclasses.replace(settings, prefix="production")
    path = str(tmp_path / "Data.fs")
    db = ZODB.DB(open_storage(FileStorage(path), StorageSettings(production, tmp_path / "there", owner="production")))
    commit_blobs(db, **{name: name.encode() for name in NAMES})
    db.close()
    opened = []

    def make(mirror: str, prefix: str = "staging") -> ZODB.DB:
        source = S3Settings(
            SourceOptions("production", mirror=mirror), dataclasses.replace(production, endpoint_url=proxy.endpoint_url)
        )
        store = dataclasses.replace(settings, prefix=prefix, endpoint_url=proxy.endpoint_url)
        here = StorageSettings(
            store, tmp_path / f"here{len(opened)}", owner=prefix, preflight=False, sources=(source,), gc_on_pack="off"
        )
        db = ZODB.DB(open_storage(FileStorage(path), here))
        db.storage.overlay.lacking.now = lambda: time.time() + 2 * SETTLED
        opened.append(db)
        return db

    yield make
    for each in opened:
        each.close()


def known(db) -> None:
    wait_until(lambda: db.storage.overlay.lacking._reading is None)


def test_one_request_for_each_blob(staging, proxy):
    db = staging("off")
    proxy.reset()
    for name in NAMES:
        assert read_blob(db, name) == name.encode()
        known(db)
    bucket, source = proxy.counts("/staging/"), proxy.counts("/production/")
    assert source == {"GetObject": len(NAMES)}
    assert bucket == {"GetObject": MISSES}, "each was answered by 404"
    assert proxy.counts()["ListObjectsV2"] == 1


def test_what_is_mirrored_is_read_from_the_bucket_again(staging, proxy, settings):
    db = staging("on")
    for name in NAMES[:10]:
        assert read_blob(db, name) == name.encode()
        known(db)
    listed = raw_client(settings).list_objects_v2(Bucket=settings.bucket, Prefix="staging/blobs/")["Contents"]
    assert len(listed) == 10
    db.close()
    other = staging("off")  # another machine: its page has what was mirrored
    proxy.reset()
    for name in NAMES:
        assert read_blob(other, name) == name.encode()
        known(other)
    assert proxy.counts("/production/") == {"GetObject": 30}
    assert proxy.counts("/staging/") == {"GetObject": 10 + MISSES}


def test_what_is_committed_now_is_asked_for_in_the_bucket(staging, proxy):
    db = staging("off")
    for name in NAMES[:10]:
        read_blob(db, name)
        known(db)
    db.storage.overlay.lacking.now = time.time
    db.storage.overlay.lacking._pages.clear()
    for name in NAMES[10:20]:
        read_blob(db, name)
        known(db)
    commit_blobs(db, new=b"new")
    db.close()
    again = staging("off")
    again.storage.overlay.lacking.now = time.time
    proxy.reset()
    assert read_blob(again, "new") == b"new"
    assert proxy.counts("/production/") == {}
