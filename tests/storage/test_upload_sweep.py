"""What was uploaded and never completed goes, when it is old enough, and nothing else does."""

from __future__ import annotations

import dataclasses
import logging
import threading
import time

import pytest
from servers.faults import answer, hang
from sites import bucket_keys, raw_client, unfinished_uploads, wait_until
from store_time import HOUR, ShiftedStore

from collective.s3blobstorage.directupload import sweeping
from collective.s3blobstorage.directupload.interfaces import Swept
from collective.s3blobstorage.directupload.sweeping import LATE, Sweeper, sweep
from collective.s3blobstorage.errors import Refused
from collective.s3blobstorage.keys import blob_key, upload_key
from collective.s3blobstorage.objectstore import open_store
from collective.s3blobstorage.settings import UploadSettings

EXPIRY = 6 * HOUR
UPLOADS = [upload_key(f"{number:032x}") for number in range(1, 8)]
OTHERS = [
    blob_key(bytes(8), "1" * 32),
    "uploads/README.txt",
    f"{UPLOADS[0]}/below",
    f"{UPLOADS[0]}0",
    UPLOADS[5].upper().replace("UPLOADS", "uploads").replace("0", "A"),
    "addons/collective.reports/" + UPLOADS[0],
]


@pytest.fixture
def store(settings, bucket):
    store = open_store(settings)
    yield ShiftedStore(store)
    store.close()


def put(store, *keys, data=b"12345"):
    for key in keys:
        store.put_bytes(key, data)


def begin_multipart(settings, *keys):
    client = raw_client(settings)
    prefix = f"{settings.prefix}/" if settings.prefix else ""
    for key in keys:
        client.create_multipart_upload(Bucket=settings.bucket, Key=prefix + key)


def test_only_what_is_old_and_an_upload_goes(store, settings):
    put(store, *UPLOADS[:3], *OTHERS)
    begin_multipart(settings, UPLOADS[3], *OTHERS[:2])
    store.advance(EXPIRY + LATE + 1)
    put(store, UPLOADS[4])
    begin_multipart(settings, UPLOADS[5])
    would = Swept(objects=3, uploads=1, size=15)
    assert sweep(store, EXPIRY, dry_run=True) == would
    assert set(bucket_keys(settings)) == {*UPLOADS[:3], UPLOADS[4], *OTHERS}
    assert sweep(store, EXPIRY) == would
    assert set(bucket_keys(settings)) == {UPLOADS[4], *OTHERS}
    assert {key for key, _, _ in store.list_uploads()} == {UPLOADS[5], *OTHERS[:2]}
    assert sweep(store, EXPIRY) == Swept()


def test_an_hour_is_left_after_the_expiry(store, settings):
    put(store, UPLOADS[0])
    begin_multipart(settings, UPLOADS[1])
    store.advance(EXPIRY + LATE - 60)
    assert sweep(store, EXPIRY) == Swept()
    store.advance(61)
    assert sweep(store, EXPIRY) == Swept(objects=1, uploads=1, size=5)


def test_another_prefix_of_the_bucket_is_not_seen(store, settings):
    other = open_store(dataclasses.replace(settings, prefix="staging"))
    put(other, *UPLOADS[:2])
    begin_multipart(dataclasses.replace(settings, prefix="staging"), UPLOADS[2])
    put(store, UPLOADS[0])
    store.advance(EXPIRY + LATE + 1)
    assert sweep(store, EXPIRY) == Swept(objects=1, size=5)
    assert len(list(other.list())) == 2 and len(list(other.list_uploads())) == 1
    other.close()


def test_a_stop_in_the_middle_loses_nothing(store, settings, monkeypatch):
    monkeypatch.setattr(sweeping, "BATCH", 2)
    put(store, *UPLOADS[:5])
    begin_multipart(settings, UPLOADS[5])
    store.advance(EXPIRY + LATE + 1)
    stop = threading.Event()

    class Stopping(ShiftedStore):
        def delete_each(self, doomed):
            stop.set()
            return self._store.delete_each(doomed)

    assert sweep(Stopping(store), EXPIRY, stop=stop) == Swept(objects=2, size=10)
    assert sorted(bucket_keys(settings)) == UPLOADS[2:5] and unfinished_uploads(settings) != []
    assert sweep(store, EXPIRY) == Swept(objects=3, uploads=1, size=15)
    assert bucket_keys(settings) == [] and unfinished_uploads(settings) == []


def test_what_the_store_refuses_is_counted(settings, bucket, proxy):
    real = open_store(dataclasses.replace(settings, endpoint_url=proxy.endpoint_url))
    store = ShiftedStore(real)
    put(store, UPLOADS[0])
    begin_multipart(settings, UPLOADS[1], UPLOADS[2])
    store.advance(EXPIRY + LATE + 1)
    proxy.fail(answer(403, "AccessDenied"), method="DELETE", target=UPLOADS[1], times=1)
    assert sweep(store, EXPIRY) == Swept(objects=1, uploads=1, size=5, failed=1)
    proxy.fail(answer(403, "AccessDenied"), method="GET", target="uploads", times=9)
    with pytest.raises(Refused):
        sweep(store, EXPIRY)
    real.close()


# In a running site


class Hours:
    """A monotonic clock that a test moves."""

    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def seen(settings, bucket, proxy):
    """A store behind the proxy, which counts the sweeps: each begins by one listing of objects."""
    store = open_store(dataclasses.replace(settings, endpoint_url=proxy.endpoint_url, outage_patience=0.0))
    proxy.sweeps = lambda: sum("list-type=2" in line and "uploads%2F" in line for line in proxy.lines)
    yield store
    store.close()


def ended(sweeper):
    wait_until(lambda: sweeper._thread is None or not sweeper._thread.is_alive())


def test_at_most_once_an_hour_and_only_when_asked(seen, proxy):
    hours = Hours()
    sweeper = Sweeper(seen, EXPIRY, lambda: True, hours)
    for _ in range(3):
        sweeper.soon()
        ended(sweeper)
    assert proxy.sweeps() == 1
    hours.now += HOUR - 1
    sweeper.soon()
    ended(sweeper)
    assert proxy.sweeps() == 1
    hours.now += 1
    sweeper.soon()
    ended(sweeper)
    assert proxy.sweeps() == 2
    sweeper.finish()
    hours.now += HOUR
    sweeper.soon()
    ended(sweeper)
    assert proxy.sweeps() == 2


def test_never_where_it_may_not(seen, proxy):
    sweeper = Sweeper(seen, EXPIRY, lambda: False)
    sweeper.soon()
    assert sweeper._thread is None and proxy.sweeps() == 0


@pytest.mark.parametrize(
    ("failure", "level", "says"),
    [
        (answer(403, "AccessDenied"), logging.WARNING, "s3:ListBucket"),
        (answer(503), logging.INFO, "were not swept"),
    ],
)
def test_a_failure_is_logged_and_the_next_hour_is_tried(seen, proxy, caplog, failure, level, says):
    caplog.set_level(logging.INFO, sweeping.__name__)
    hours = Hours()
    put(seen, UPLOADS[0])
    sweeper = Sweeper(seen, -LATE - 1, lambda: True, hours)
    time.sleep(1.1)
    rule = proxy.fail(failure, method="GET", target="list-type=2", times=9)
    sweeper.soon()
    ended(sweeper)
    (record,) = [record for record in caplog.records if record.name == sweeping.__name__]
    assert rule.hits and record.levelno == level and says in record.getMessage()
    proxy.forgive()
    hours.now += HOUR
    sweeper.soon()
    ended(sweeper)
    assert seen.head(UPLOADS[0]) is None
    assert "1 objects (5 bytes)" in caplog.records[-1].getMessage()


def test_closing_does_not_wait_for_a_store_that_hangs(seen, proxy, caplog):
    sweeper = Sweeper(seen, EXPIRY, lambda: True)
    proxy.fail(hang(), method="GET", target="uploads%2F", times=9)
    sweeper.soon()
    wait_until(lambda: proxy.sweeps() == 1)
    began = time.monotonic()
    sweeper.finish()
    seen.close()
    sweeper.join()
    assert time.monotonic() - began < 3 * sweeping.GRACE
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


NOW = UploadSettings(expiry=-LATE)  # whatever is there is abandoned


@pytest.mark.parametrize(
    ("more", "sweeps"),
    [({"owner": "www.example.org"}, True), ({}, False), ({"owner": "www.example.org", "read_only": True}, False)],
)
def test_beginning_an_upload_sweeps_where_there_is_an_owner(make_site, settings, store, more, sweeps):
    site = make_site("filestorage", preflight=False, uploads=NOW)
    site.db(**more | {"read_only": False}).close()  # an owner is written at the first opening for writing
    put(store, UPLOADS[0])
    time.sleep(1.1)
    root = site.open(**more)
    if more.get("read_only"):
        root.upload_sweeper.soon()
    else:
        root.upload_area().begin(10)
    ended(root.upload_sweeper)
    assert (UPLOADS[0] in bucket_keys(settings)) is not sweeps
    assert root.upload_sweeper._thread is None or sweeps
