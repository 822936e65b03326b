"""A bucket and a database that zodb-s3blobs 1.2.1 wrote open with only the ``%import`` line changed."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import transaction
import ZODB.config
from make_zodb_s3blobs_bucket import CONFIGURATION
from sites import bucket_keys, raw_client
from ZODB.blob import Blob
from ZODB.POSException import POSKeyError

WRITTEN = Path(__file__).parent / "data" / "zodb-s3blobs-1.2.1"
PREFIX = "a/site"


@pytest.fixture
def objects() -> dict[str, bytes]:
    return {key: bytes.fromhex(body) for key, body in json.loads((WRITTEN / "bucket.json").read_text()).items()}


@pytest.fixture
def expected() -> dict[str, bytes]:
    return {name: bytes.fromhex(data) for name, data in json.loads((WRITTEN / "expected.json").read_text()).items()}


@pytest.fixture
def configuration(settings, tmp_path) -> str:
    """The same text that zodb-s3blobs was given, but for one word."""
    shutil.copy(WRITTEN / "Data.fs", tmp_path / "Data.fs")
    trusted = f"\n  s3-ca-bundle {settings.ca_bundle}" if settings.ca_bundle else ""
    return CONFIGURATION.format(
        endpoint=settings.endpoint_url + trusted,
        bucket=settings.bucket,
        access_key=settings.access_key,
        secret_key=settings.secret_key,
        folder=tmp_path,
    ).replace("%import zodb_s3blobs", "%import collective.s3blobstorage")


def put(settings, objects: dict[str, bytes]) -> None:
    client = raw_client(settings)
    for key, body in objects.items():
        client.put_object(Bucket=settings.bucket, Key=key, Body=body)


def with_all_digits(key: str) -> str:
    """The form of keys that keeps leading zeros."""
    prefix, oid, tid = key.rsplit("/", 2)
    return f"{prefix}/{int(oid, 16):016x}/{int(tid.removesuffix('.blob'), 16):016x}.blob"


@pytest.mark.parametrize("digits", ["stripped", "all", "mixed"])
def test_every_blob_reads_and_writing_goes_on(configuration, settings, objects, expected, digits):
    if digits == "all":
        objects = {with_all_digits(key): body for key, body in objects.items()}
    elif digits == "mixed":
        objects = {key if i % 2 else with_all_digits(key): body for i, (key, body) in enumerate(objects.items())}
    put(settings, objects)
    db = ZODB.config.databaseFromString(configuration)
    connection = db.open()
    root = connection.root()
    assert {name: blob.open("r").read() for name, blob in root.items()} == expected
    with root["large"].open("w") as file:
        file.write(b"changed by us")
    root["ours"] = Blob(b"new")
    transaction.commit()
    # Undo of what zodb-s3blobs wrote: it cannot do that itself.
    db.undo(db.undoLog(1, 2)[0]["id"])
    transaction.commit()
    connection.sync()
    assert root["changed"].open("r").read() == b"second"
    db.close()
    shutil.rmtree(db_cache(configuration))
    db = ZODB.config.databaseFromString(configuration)
    connection = db.open()
    root = connection.root()
    changed = {"large": b"changed by us", "ours": b"new", "changed": b"second"}
    assert {name: blob.open("r").read() for name, blob in root.items()} == expected | changed
    db.close()
    assert set(objects) <= {f"{PREFIX}/{key}" for key in bucket_keys(dataclasses.replace(settings, prefix=PREFIX))}


def db_cache(configuration: str) -> str:
    return next(line.split()[1] for line in configuration.splitlines() if line.strip().startswith("cache-dir"))


def test_old_revisions_read_too(configuration, settings, objects):
    put(settings, objects)
    storage = ZODB.config.databaseFromString(configuration).storage
    found = []
    for recorded in storage.iterator():
        for record in recorded:
            if b"ZODB.blob" in record.data and b"BTrees" not in record.data:
                try:
                    with open(storage.loadBlob(record.oid, record.tid), "rb") as file:
                        found.append(file.read())
                except POSKeyError:
                    assert b"PersistentMapping" in record.data
    assert sorted(found) == sorted(objects.values())
    storage.close()


def test_a_prefix_that_was_empty_at_first_is_not_searched_for_old_keys(configuration, settings, proxy):
    """A staging copy asks its bucket for many blobs that are not there: one request each, not three."""
    db = ZODB.config.databaseFromString(configuration.replace(settings.endpoint_url, proxy.endpoint_url))
    connection = db.open()
    proxy.reset()
    with pytest.raises(POSKeyError):
        connection.root()["large"].open("r").read()
    assert proxy.counts("/blobs/") == {"HeadObject": 1}
    db.close()
