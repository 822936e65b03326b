"""``missing-blob placeholder``: a copy without its files is usable, and nothing takes a placeholder for a file."""

from __future__ import annotations

import dataclasses
import io
import math
import os
import zipfile
from pathlib import Path

import pytest
import transaction
from origins import snapshot
from persistent import Persistent
from servers.faults import answer
from sites import commit_blobs, connected, raw_client, read_blob
from ZODB.blob import Blob
from ZODB.POSException import POSKeyError

from collective.s3blobstorage.errors import BlobMissing, Refused, Unavailable
from collective.s3blobstorage.storage.placeholder import ENDINGS, data_of

TEXT = b"This file is not in this copy of the site.\n"


class NamedFile(Persistent):
    """As plone.namedfile's: the holder of a blob, which knows its type."""

    def __init__(self, content_type, data):
        self.contentType = content_type
        self.filename = "a name"
        self._blob = Blob(data)


def fill(db, **files):
    manager = transaction.TransactionManager()
    connection = db.open(manager)
    for name, (content_type, data) in files.items():
        connection.root()[name] = NamedFile(content_type, data)
    manager.commit()
    connection.close()


def read(db, name):
    with connected(db) as connection, connection.root()[name]._blob.open("r") as file:
        return file.read()


@pytest.fixture(params=["filestorage", "sqlite-hp"])
def emptied(make_site, request):
    """A site whose objects were deleted behind its back, cold, with placeholders; and its blobs by type."""
    site = make_site(request.param)
    db = site.db()
    kinds = [*ENDINGS, "application/x-unknown", "text/plain; charset=utf-8", "IMAGE/PNG; x=y"]
    fill(db, **{kind: (kind, b"the real file of " + kind.encode()) for kind in kinds})
    commit_blobs(db, bare=b"a blob that nobody describes")
    site.close_all()
    site.cold()
    keys = site.keys()
    client = raw_client(site.settings.store)
    for key in keys:
        client.delete_object(Bucket=site.settings.store.bucket, Key=_full(site, key))
    return site, kinds


def _full(site, key):
    prefix = site.settings.store.prefix
    return f"{prefix}/{key}" if prefix else key


def test_without_it_a_missing_blob_is_an_error(emptied):
    site, kinds = emptied
    db = site.db()
    with pytest.raises(POSKeyError):
        read(db, "image/png")


def test_each_type_has_a_file_of_that_type(emptied):
    site, kinds = emptied
    db = site.db(missing_blob="placeholder")
    for kind in kinds:
        with connected(db) as connection:
            blob = connection.root()[kind]._blob
            with blob.open("r") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(0)
                data = file.read()
            assert size == len(data) and Path(blob.committed()).read_bytes() == data, kind
        assert data == data_of(ENDINGS.get(kind.partition(";")[0].lower(), "txt"))
    assert read_blob(db, "bare") == TEXT
    assert read(db, "image/png").startswith(b"\x89PNG") and read(db, "image/jpeg").startswith(b"\xff\xd8")
    assert zipfile.ZipFile(io.BytesIO(read(db, "application/zip"))).read("missing.txt") == TEXT


def test_it_is_neither_cached_nor_stored(emptied):
    """Its object comes back, and is read."""
    site, kinds = emptied
    db = site.db(missing_blob="placeholder")
    assert read_blob(db, "bare") == TEXT
    assert site.keys() == []
    with connected(db) as connection:
        blob = connection.root()["bare"]
        blob._p_activate()
        oid, tid = blob._p_oid, blob._p_serial
    assert db.storage.cache.get_text(oid, tid) is None
    [key] = db.storage.locate(oid, tid).keys[:1]
    body = b"a blob that nobody describes"
    raw_client(site.settings.store).put_object(Bucket=site.settings.store.bucket, Key=_full(site, key), Body=body)
    assert read_blob(db, "bare") == body


def test_tools_are_told_the_truth(emptied, make_site):
    """The root storage, which ZEO servers and copying tools use, says that the blob is missing."""
    site, kinds = emptied
    db = site.db(missing_blob="placeholder")
    with connected(db) as connection:
        blob = connection.root()["bare"]
        blob._p_activate()
        oid, tid = blob._p_oid, blob._p_serial
    with pytest.raises(BlobMissing):
        db.storage.loadBlob(oid, tid)
    with pytest.raises(BlobMissing):
        db.storage.openCommittedBlobFile(oid, tid)
    other = make_site("filestorage", store=dataclasses.replace(site.settings.store, prefix="other"))
    with pytest.raises(BlobMissing):
        other.open().copyTransactionsFrom(db.storage)


def test_a_revision_that_does_not_exist_is_missing(emptied):
    site, kinds = emptied
    db = site.db(missing_blob="placeholder")
    instance = db.storage.new_instance()
    try:
        for oid in (b"\0" * 7 + b"\xfe", b"\0" * 8):  # no object; an object that is no blob
            tid = db.storage.lastTransaction()
            with pytest.raises(POSKeyError):
                os.fspath(instance.loadBlob(oid, tid))
    finally:
        instance.release()


@pytest.mark.parametrize(("fault", "raised"), [("out", Unavailable), ("refusing", Refused)])
def test_a_store_that_cannot_tell_is_not_missing(make_site, settings, proxy, fault, raised):
    site = make_site(
        "filestorage",
        store=dataclasses.replace(settings, endpoint_url=proxy.endpoint_url, outage_patience=0.2),
        missing_blob="placeholder",
        preflight=False,
    )
    db = site.db()
    commit_blobs(db, a=b"is there")
    site.close_all()
    site.cold()
    db = site.db()
    if fault == "out":
        proxy.down()
    else:
        proxy.fail(answer(403, "AccessDenied"), times=math.inf)
    with pytest.raises(raised):
        read_blob(db, "a")


def test_a_source_is_asked_before(make_staging):
    """What a source has is read from there; only what is nowhere is replaced."""
    staging = make_staging("ours")
    db = staging.db(missing_blob="placeholder")
    assert read_blob(db, "small") == b"small"
    before = snapshot(staging.origin.source.store)
    commit_blobs(db, small=b"mine")
    assert read_blob(db, "small") == b"mine" and snapshot(staging.origin.source.store) == before


def test_cached_blobs_cost_no_request(make_site, settings, proxy):
    site = make_site(
        "filestorage",
        store=dataclasses.replace(settings, endpoint_url=proxy.endpoint_url),
        missing_blob="placeholder",
        inline_size=8,
    )
    db = site.db()
    commit_blobs(db, a=b"in the cache", b=b"inline")
    proxy.reset()
    assert read_blob(db, "a") == b"in the cache" and read_blob(db, "b") == b"inline"
    assert proxy.counts() == {}
