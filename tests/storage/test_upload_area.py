"""The staging area: what anybody sends by its signed requests, and what it takes for a blob's bytes."""

from __future__ import annotations

import dataclasses
import hashlib
import http.client
import os
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest
from servers.faults import answer
from sites import bucket_keys, unfinished_uploads

from collective.s3blobstorage.directupload.area import UploadArea
from collective.s3blobstorage.directupload.interfaces import UploadWrong
from collective.s3blobstorage.errors import ConfigurationError, PreconditionFailed, Refused
from collective.s3blobstorage.keys import blob_key, upload_key
from collective.s3blobstorage.objectstore import open_store
from collective.s3blobstorage.settings import UploadSettings

MB = 1024 * 1024
SMALL = os.urandom(100_000)
LARGE = os.urandom(40 * MB + 5)
TARGET = blob_key(b"\0" * 7 + b"\1", "a" * 32)


@pytest.fixture
def store(settings, bucket):
    store = open_store(settings)
    yield store
    store.close()


@pytest.fixture
def area(store):
    return UploadArea(store, UploadSettings())


def send(request, data, **changed):
    """As a browser does: the status."""
    url = urlsplit(request.url)
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=60)
    if url.scheme == "https":
        import ssl

        connection = http.client.HTTPSConnection(
            url.hostname, url.port, timeout=60, context=ssl._create_unverified_context()
        )
    try:
        headers = {name: value for name, value in request.headers.items() if name != "Content-Length"}
        connection.request(request.method, f"{url.path}?{url.query}", data, {**headers, **changed})
        response = connection.getresponse()
        response.read()
        return response.status
    finally:
        connection.close()


def send_parts(area, upload, data, numbers=None):
    for number in numbers or range(1, upload.parts + 1):
        start = (number - 1) * upload.part_size
        request = area.part_request(upload, number, seconds=600)
        assert send(request, data[start : start + upload.size_of(number)]) == 200


def objects(settings):
    return [key for key in bucket_keys(settings) if not key.startswith(".")]


def copied(store, staged, key=TARGET):
    staged.copy_to(key, {"oid": "0000000000000001"})
    return store.get_bytes(key, limit=1 << 30)


def test_in_one_request(area, store, settings):
    upload = area.begin(len(SMALL))
    assert upload.parts == 0
    assert area.arrived(upload) == []
    assert send(area.put_request(upload, seconds=600), SMALL) == 200
    assert [(part.number, part.size) for part in area.arrived(upload)] == [(1, len(SMALL))]
    staged = area.finish(upload)
    assert staged.beginning() == SMALL[:4096]
    with staged.open() as file:
        assert file.read() == SMALL
        file.seek(-10, os.SEEK_END)
        assert file.read() == SMALL[-10:]
    assert copied(store, staged) == SMALL
    assert store.head(TARGET).metadata["oid"] == "0000000000000001"
    area.drop(upload)
    area.drop(upload)
    assert objects(settings) == [TARGET]


def test_in_parts(area, store, settings):
    upload = area.begin(len(LARGE))
    assert upload.parts == 3
    send_parts(area, upload, LARGE, [2])
    assert [(part.number, part.size) for part in area.arrived(upload)] == [(2, upload.part_size)]
    with pytest.raises(UploadWrong, match="2 parts are missing") as error:
        area.finish(upload)
    assert error.value.incomplete
    send_parts(area, upload, LARGE, [3, 1])
    assert len(area.arrived(upload)) == 3
    staged = area.finish(upload)
    assert area.finish(upload).etag == staged.etag
    assert [part.size for part in area.arrived(upload)] == [upload.size_of(number) for number in (1, 2, 3)]
    assert copied(store, staged) == LARGE
    area.drop(upload)
    assert objects(settings) == [TARGET]
    assert unfinished_uploads(settings) == []


def test_put_together_in_two_threads_at_once(area, settings):
    upload = area.begin(len(LARGE))
    send_parts(area, upload, LARGE)
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: area.finish(upload), range(2))
    assert first.etag == second.etag
    assert first.size == len(LARGE)


def test_no_other_number_of_bytes(area):
    upload = area.begin(len(SMALL))
    request = area.put_request(upload, seconds=600)
    assert send(request, SMALL + b"x") == 403
    assert send(request, SMALL[:-1]) == 403
    with pytest.raises(UploadWrong, match="nothing was uploaded") as error:
        area.finish(upload)
    assert error.value.gone
    upload = area.begin(len(LARGE))
    request = area.part_request(upload, 1, seconds=600)
    assert send(request, LARGE[: upload.part_size + 1]) == 403
    with pytest.raises(ValueError, match="parts 1 to 3"):
        area.part_request(upload, 4, seconds=600)
    with pytest.raises(ValueError, match="parts 1 to 3"):
        area.part_request(upload, 0, seconds=600)


def test_no_other_key_and_no_other_part(area):
    upload, other = area.begin(len(SMALL)), area.begin(len(SMALL))
    request = area.put_request(upload, seconds=600)
    elsewhere = dataclasses.replace(request, url=request.url.replace(upload.id, other.id))
    assert send(elsewhere, SMALL) == 403
    large = area.begin(len(LARGE))
    request = area.part_request(large, 1, seconds=600)
    other_part = dataclasses.replace(request, url=request.url.replace("partNumber=1", "partNumber=2"))
    assert send(other_part, LARGE[: large.part_size]) == 403


def test_an_expired_request(area):
    upload = area.begin(len(SMALL))
    request = area.put_request(upload, seconds=1)
    import time

    time.sleep(2.1)
    assert send(request, SMALL) == 403


def test_the_announced_hash(area, store):
    announced = hashlib.sha256(SMALL).digest()
    upload = area.begin(len(SMALL), sha256=announced)
    request = area.put_request(upload, seconds=600)
    assert send(request, bytes(len(SMALL))) >= 400
    assert send(request, SMALL) == 200
    assert area.finish(upload).sha256 == announced
    upload = area.begin(len(LARGE), sha256=announced)
    send_parts(area, upload, LARGE)
    with pytest.raises(UploadWrong, match="SHA-256"):
        area.finish(upload)
    upload = area.begin(len(LARGE), sha256=hashlib.sha256(LARGE).digest())
    send_parts(area, upload, LARGE)
    assert area.finish(upload).sha256 == hashlib.sha256(LARGE).digest()


def test_nobody_swaps_it_after_it_was_looked_at(area, store, settings):
    upload = area.begin(len(SMALL))
    request = area.put_request(upload, seconds=600)
    send(request, SMALL)
    staged = area.finish(upload)
    assert send(request, SMALL[::-1]) == 200  # the request is good for some time
    with pytest.raises(PreconditionFailed):
        staged.copy_to(TARGET, {})
    with pytest.raises(PreconditionFailed):
        staged.beginning()
    with pytest.raises(PreconditionFailed), staged.open() as file:
        file.read()
    assert TARGET not in objects(settings)


def test_a_reader_fetches_what_is_read(settings, bucket, proxy):
    store = open_store(dataclasses.replace(settings, endpoint_url=proxy.endpoint_url))
    try:
        area = UploadArea(store, UploadSettings())
        upload = area.begin(len(LARGE))
        send_parts(area, upload, LARGE)
        staged = area.finish(upload)
        proxy.reset()
        assert staged.beginning() == LARGE[:4096]
        assert sum(exchange.bytes_down for exchange in proxy.exchanges) < 10_000
        with staged.open() as file:
            proxy.reset()
            assert file.read(4096) == LARGE[:4096]
            assert proxy.counts() == {"GetObject": 1}
            assert sum(exchange.bytes_down for exchange in proxy.exchanges) < 100_000
            file.seek(0)
            digest = hashlib.sha256()
            while block := file.read(MB):
                digest.update(block)
        assert digest.digest() == hashlib.sha256(LARGE).digest()
        assert proxy.counts()["GetObject"] <= 12
    finally:
        store.close()


def test_what_may_not_be(area, store):
    with pytest.raises(ValueError, match="direct-upload-max-size"):
        area.begin(0)
    with pytest.raises(ValueError, match="direct-upload-max-size"):
        UploadArea(store, UploadSettings(most_size=10)).begin(11)
    with pytest.raises(ValueError, match="5 GiB"):
        area.begin(6 << 30, single=True)
    assert area.begin(6 << 30).parts > 1
    with pytest.raises(ConfigurationError, match="direct-upload is off"):
        UploadArea(store, UploadSettings(allowed=False)).begin(1)
    with pytest.raises(ConfigurationError, match="read-only"):
        UploadArea(store, UploadSettings(), writable=False).begin(1)


def test_a_store_that_refuses(settings, bucket, proxy):
    store = open_store(dataclasses.replace(settings, endpoint_url=proxy.endpoint_url))
    try:
        area = UploadArea(store, UploadSettings())
        proxy.fail(answer(403, "AccessDenied"), method="POST", target="uploads/")
        with pytest.raises(Refused):
            area.begin(len(LARGE))
        upload = area.begin(len(SMALL))
        send(area.put_request(upload, seconds=600), SMALL)
        proxy.fail(answer(403, "AccessDenied"), method="PUT", target="blobs/")
        with pytest.raises(Refused):
            area.finish(upload).copy_to(TARGET, {})
        assert objects(settings) == [upload_key(upload.id)]
        area.finish(upload).copy_to(TARGET, {})
    finally:
        store.close()
