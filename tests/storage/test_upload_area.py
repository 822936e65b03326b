"""The staging area: what anybody sends by its signed requests, and what it takes for a blob's bytes."""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import io
import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from types import SimpleNamespace

import pytest
from browser import send, send_all, send_parts
from servers.faults import answer, reset
from sites import bucket_keys, unfinished_uploads
from test_presign import form_of

from collective.s3blobstorage.directupload import area as area_module
from collective.s3blobstorage.directupload.area import UploadArea
from collective.s3blobstorage.directupload.interfaces import UploadWrong
from collective.s3blobstorage.errors import (
    ConfigurationError,
    PreconditionFailed,
    Refused,
    StoreError,
    Unavailable,
)
from collective.s3blobstorage.keys import blob_key, upload_key
from collective.s3blobstorage.objectstore import open_store
from collective.s3blobstorage.objectstore.clock import Clock
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


def objects(settings):
    return [key for key in bucket_keys(settings) if not key.startswith(".")]


def copied(store, staged, key=TARGET):
    staged.copy_to(key, {"oid": "0000000000000001"})
    return store.get_bytes(key, limit=1 << 30)


def test_in_one_request(area, store, settings):
    upload = area.begin(len(SMALL), single=True)
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
    target = io.BytesIO()
    staged.download(target)
    assert target.getvalue() == LARGE
    assert copied(store, staged) == LARGE
    area.drop(upload)
    assert objects(settings) == [TARGET]
    assert unfinished_uploads(settings) == []


def test_put_together_in_two_threads_at_once(area, settings):
    upload = area.begin(len(LARGE))
    send_all(area, upload, LARGE)
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: area.finish(upload), range(2))
    assert first.etag == second.etag
    assert first.size == len(LARGE)


def test_no_other_number_of_bytes(area):
    upload = area.begin(len(SMALL), single=True)
    request = area.put_request(upload, seconds=600)
    assert send(request, SMALL + b"x") == 403
    assert send(request, SMALL[:-1]) == 403
    with pytest.raises(UploadWrong, match="nothing was uploaded") as error:
        area.finish(upload)
    assert error.value.gone and error.value.incomplete
    upload = area.begin(len(LARGE))
    request = area.part_request(upload, 1, seconds=600)
    assert send(request, LARGE[: upload.part_size + 1]) == 403
    with pytest.raises(ValueError, match="parts 1 to 3"):
        area.part_request(upload, 4, seconds=600)
    with pytest.raises(ValueError, match="parts 1 to 3"):
        area.part_request(upload, 0, seconds=600)


def test_no_other_key_and_no_other_part(area):
    upload, other = area.begin(len(SMALL), single=True), area.begin(len(SMALL), single=True)
    request = area.put_request(upload, seconds=600)
    elsewhere = dataclasses.replace(request, url=request.url.replace(upload.id, other.id))
    assert send(elsewhere, SMALL) == 403
    large = area.begin(len(LARGE))
    request = area.part_request(large, 1, seconds=600)
    other_part = dataclasses.replace(request, url=request.url.replace("partNumber=1", "partNumber=2"))
    assert send(other_part, LARGE[: large.part_size]) == 403


def test_an_expired_request(area):
    upload = area.begin(len(SMALL), single=True)
    request = area.put_request(upload, seconds=1)
    time.sleep(2.1)
    assert send(request, SMALL) == 403


def test_the_announced_hash_of_one_request(settings, proxy, s3_server):
    """The store refuses other bytes, or they are read and refused here; where the store compared them none is read."""
    announced = hashlib.sha256(SMALL).digest()
    with closing(open_store(dataclasses.replace(settings, endpoint_url=proxy.endpoint_url))) as store:
        area = UploadArea(store, UploadSettings())
        upload = area.begin(len(SMALL), sha256=announced)
        request = area.put_request(upload, seconds=600)
        compares = send(request, bytes(len(SMALL))) != 200
        assert compares is (s3_server.region != "default")  # Ceph ignores the header
        if not compares:
            with pytest.raises(UploadWrong, match="SHA-256") as error:
                area.finish(upload)
            assert not error.value.gone and not error.value.incomplete
        assert send(request, SMALL) == 200
        for _ in range(2):
            proxy.reset()
            staged = area.finish(upload)
            assert staged.sha256 == announced
            assert proxy.counts("uploads/")["GetObject"] == (0 if compares else 1)
        assert proxy.counts("check/") == {}  # tried out once
        assert staged.copy_to(TARGET, {"oid": "1"}).sha256 == announced
        assert store.head(TARGET).metadata["sha256"] == announced.hex()
    assert objects(settings) == [TARGET, upload_key(upload.id)]


def test_a_hash_that_only_the_sender_vouches_for_proves_nothing(settings, front, s3_server):
    """A store that does not know the header: other bytes arrive, and are found here."""
    front.strange.ignores = ("x-amz-checksum",)
    with closing(open_store(dataclasses.replace(settings, endpoint_url=front.endpoint_url))) as store:
        area = UploadArea(store, UploadSettings())
        upload = area.begin(len(SMALL), sha256=hashlib.sha256(SMALL).digest())
        store.put_bytes(upload_key(upload.id), bytes(len(SMALL)))
        with pytest.raises(UploadWrong, match="SHA-256"):
            area.finish(upload)


def test_a_store_that_takes_no_checksums_is_asked_for_none(settings):
    with closing(open_store(settings)) as store:
        store.measured(checksum_headers=False)
        area = UploadArea(store, UploadSettings())
        upload = area.begin(len(SMALL), sha256=hashlib.sha256(SMALL).digest())
        request = area.put_request(upload, seconds=600)
        assert not [name for name in request.headers if "checksum" in name]
        assert send(request, bytes(len(SMALL))) == 200
        with pytest.raises(UploadWrong, match="SHA-256"):
            area.finish(upload)


def test_the_announced_hash_of_parts(area):
    upload = area.begin(len(LARGE), sha256=hashlib.sha256(SMALL).digest())
    send_all(area, upload, LARGE)
    for _ in range(2):
        with pytest.raises(UploadWrong, match="SHA-256") as wrong:
            area.finish(upload)
        assert wrong.value.final
    right = hashlib.sha256(LARGE).digest()
    upload = area.begin(len(LARGE), sha256=right)
    send_all(area, upload, LARGE)
    staged = area.finish(upload)
    assert staged.sha256 == staged.copy_to(TARGET, {}).sha256 == right
    upload = area.begin(len(SMALL), single=False)
    send_all(area, upload, SMALL)
    staged = area.finish(upload)
    assert staged.sha256 is staged.copy_to(TARGET, {}).sha256 is None  # nobody announced or computed one


def test_nobody_swaps_it_after_it_was_looked_at(area, store, settings):
    upload = area.begin(len(SMALL), single=True)
    request = area.put_request(upload, seconds=600)
    send(request, SMALL)
    staged = area.finish(upload)
    assert send(request, SMALL[::-1]) == 200  # the request is good for some time
    with pytest.raises(PreconditionFailed):
        staged.copy_to(TARGET, {})
    with pytest.raises(PreconditionFailed):
        staged.download(io.BytesIO())
    with pytest.raises(PreconditionFailed):
        staged.beginning()
    with pytest.raises(PreconditionFailed), staged.open() as file:
        file.read()
    assert TARGET not in objects(settings)


# Two files of one MD5, which is what the ETag of one request is (Wang and Yu, "How to Break MD5 and Other Hash
# Functions", 2005).
COLLIDING = (
    "d131dd02c5e6eec4693d9a0698aff95c2fcab5{}712467eab4004583eb8fb7f8955ad340609f4b30283e4888325{}1415a08"
    "5125e8f7cdc99fd91dbd{}280373c5bd8823e3156348f5bae6dacd436c919c6dd53e2{}487da03fd02396306d248cda0e99f"
    "33420f577ee8ce54b67080{}80d1ec69821bcb6a8839396f965{}b6ff72a70"
)
ONE_MD5 = [bytes.fromhex(COLLIDING.format(*digits)) for digits in ("8 7 f b a 2".split(), "0 f 7 3 2 a".split())]


@pytest.mark.parametrize("announced", [False, True])
@pytest.mark.parametrize("pause", [0.0, 1.2])
def test_nobody_swaps_it_for_a_file_of_the_same_etag(area, store, settings, pause, announced):
    """Also where its hash was announced: a form has none, and not every store compares that of a PUT."""
    first, second = ONE_MD5
    upload = area.begin(len(first), single=True, sha256=hashlib.sha256(first).digest() if announced else None)
    form = area.post_request(upload, seconds=600)
    assert send(area.put_request(upload, seconds=600), first) == 200
    time.sleep(pause)
    staged = area.finish(upload)
    assert staged.beginning() == first
    assert post(form, second) in (200, 204)
    assert store.head(upload_key(upload.id)).etag == staged.etag
    with pytest.raises(PreconditionFailed):
        staged.copy_to(TARGET, {})
    with pytest.raises(PreconditionFailed):
        staged.download(io.BytesIO())
    assert TARGET not in objects(settings)


def test_this_machine_slept_since_the_store_told_its_time(area, store):
    """By the time that was told then, what was sent just now is an hour too young to be looked at."""
    upload = area.begin(len(SMALL), single=True)
    send_all(area, upload, SMALL)
    told, at = store.connection.time._noted
    store.connection.time._noted = told - dt.timedelta(hours=1), at
    started = time.monotonic()
    assert area.finish(upload).beginning(10) == SMALL[:10]
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("way", ["the same request, which has no hash", "a form"])
def test_nobody_swaps_it_for_a_file_of_the_same_etag_whose_hash_was_announced(area, store, way):
    """A store that does not compare the hash takes other bytes by the same request, and any store by a form."""
    if way != "a form":
        store.measured(checksum_headers=False)
    first, second = ONE_MD5
    upload = area.begin(len(first), single=True, sha256=hashlib.sha256(first).digest())
    request = area.put_request(upload, seconds=600)
    assert send(request, first) == 200
    staged = area.finish(upload)
    if way == "a form":
        assert post(area.post_request(upload, seconds=600), second) in (200, 204)
    else:
        assert send(request, second) == 200
    assert store.head(upload_key(upload.id)).etag == staged.etag
    with pytest.raises(PreconditionFailed):
        staged.copy_to(TARGET, {})


def test_a_store_whose_dates_are_ahead_of_its_time_makes_nobody_wait(area, monkeypatch):
    upload = area.begin(len(SMALL), single=True)
    send_all(area, upload, SMALL)
    waited = []
    monkeypatch.setattr(area_module, "time", SimpleNamespace(sleep=waited.append))
    with pytest.raises(Unavailable, match="future"):
        area.finish(upload)
    assert 1 < len(waited) <= 5 and sum(waited) <= 10
    monkeypatch.undo()
    assert area.finish(upload).size == len(SMALL)


def test_what_is_sent_again_and_again_makes_nobody_wait(area, monkeypatch):
    upload = area.begin(len(SMALL), single=True)
    request = area.put_request(upload, seconds=600)
    waited = []

    def sleep(seconds):
        waited.append(seconds)
        assert len(waited) == 1
        time.sleep(seconds)
        assert send(request, SMALL) == 200

    monkeypatch.setattr(area_module, "time", SimpleNamespace(sleep=sleep))
    assert send(request, SMALL) == 200
    with pytest.raises(PreconditionFailed):
        area.finish(upload)
    assert waited and waited[0] <= 2
    monkeypatch.undo()
    assert area.finish(upload).beginning(10) == SMALL[:10]


def test_what_was_put_together_is_nobodys_to_change(area, store, settings):
    """Also of a small file, which goes in one part where nobody asks for one request."""
    upload = area.begin(len(SMALL))
    assert upload.parts == 1 and upload.multipart
    request = area.part_request(upload, 1, seconds=600)
    assert send(request, SMALL[::-1]) == 200
    assert send(request, SMALL) == 200  # as often as it takes
    staged = area.finish(upload)
    assert send(request, SMALL[::-1]) == 404
    assert copied(store, staged) == SMALL


def test_a_reader_fetches_what_is_read(settings, bucket, proxy):
    store = open_store(dataclasses.replace(settings, endpoint_url=proxy.endpoint_url))
    try:
        area = UploadArea(store, UploadSettings())
        upload = area.begin(len(LARGE))
        send_all(area, upload, LARGE)
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
            proxy.reset()
            file.seek(100)
            assert file.read() == LARGE[100:]
            assert proxy.counts()["GetObject"] <= 2
            file.seek(-22, os.SEEK_END)
            assert (file.tell(), file.read(100), file.read()) == (len(LARGE) - 22, LARGE[-22:], b"")
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
        upload = area.begin(len(SMALL), single=True)
        send(area.put_request(upload, seconds=600), SMALL)
        proxy.fail(answer(403, "AccessDenied"), method="PUT", target="blobs/")
        with pytest.raises(Refused):
            area.finish(upload).copy_to(TARGET, {})
        assert objects(settings) == [upload_key(upload.id)]
        area.finish(upload).copy_to(TARGET, {})
    finally:
        store.close()


def test_a_part_of_another_size(area, store, s3, settings):
    """Somebody with our credentials sent it: no signed request does."""
    upload = area.begin(len(LARGE))
    send_parts(area, upload, LARGE, [1, 3])
    named = {"Bucket": settings.bucket, "Key": upload_key(upload.id), "UploadId": upload.multipart}
    s3.upload_part(**named, PartNumber=2, Body=LARGE[: 6 * MB])
    with pytest.raises(UploadWrong, match="part 2 ") as error:
        area.finish(upload)
    assert not error.value.gone and not error.value.incomplete
    send_parts(area, upload, LARGE, [2])
    s3.upload_part(**named, PartNumber=4, Body=b"beyond")
    with pytest.raises(UploadWrong, match="part 4 "):
        area.finish(upload)
    assert store.head(upload_key(upload.id)) is None


def test_an_object_of_another_size(area, store):
    upload = area.begin(len(SMALL), single=True)
    store.put_bytes(upload_key(upload.id), SMALL + b"x")
    with pytest.raises(UploadWrong, match="100001 bytes were uploaded, and 100000 were announced"):
        area.finish(upload)


@pytest.mark.slow
def test_more_parts_than_one_page_tells(store, s3, settings):
    """As of a file of over 64 GB; here of a byte each."""
    key = upload_key("0" * 32)
    named = {"Bucket": settings.bucket, "Key": key, "UploadId": store.begin_upload(key)}
    numbers = range(1, 1004)
    with ThreadPoolExecutor(8) as pool:
        sent = pool.map(lambda number: s3.upload_part(**named, PartNumber=number, Body=b"x")["ETag"], numbers)
    etags = [etag.strip('"') for etag in sent]
    found = list(store.list_parts(key, named["UploadId"]))
    assert found == [(number, 1, etag) for number, etag in zip(numbers, etags, strict=True)]


def test_what_was_dropped(area, settings):
    upload = area.begin(len(LARGE))
    send_parts(area, upload, LARGE, [1])
    assert objects(settings) == [] and len(unfinished_uploads(settings)) == 1
    area.drop(upload)
    area.drop(upload)
    assert objects(settings) == unfinished_uploads(settings) == []
    for ask in (area.arrived, area.finish):
        with pytest.raises(UploadWrong) as error:
            ask(upload)
        assert error.value.gone and not error.value.incomplete
    assert send(area.part_request(upload, 1, seconds=600), LARGE[: upload.part_size]) == 404
    upload = area.begin(len(SMALL), single=True)
    send_all(area, upload, SMALL)
    staged = area.finish(upload)
    assert objects(settings) == [upload_key(upload.id)]
    area.drop(upload)
    with pytest.raises(StoreError):
        staged.copy_to(TARGET, {})
    assert objects(settings) == unfinished_uploads(settings) == []


def test_a_request_is_for_one_way_of_sending(area):
    single, parts = area.begin(len(SMALL), single=True), area.begin(len(LARGE))
    with pytest.raises(ValueError, match="parts 1 to 0"):
        area.part_request(single, 1, seconds=600)
    for sign in (area.put_request, area.post_request):
        with pytest.raises(ValueError, match="goes in parts"):
            sign(parts, seconds=600)
    assert area.begin(len(SMALL), single=False).parts == 1
    assert area.begin(len(LARGE), single=True).parts == 0


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["one request", "parts"])
def test_the_storage_class(settings, s3, s3_server, data):
    if s3_server.region == "default":
        pytest.skip("Ceph has no other class")
    with closing(open_store(dataclasses.replace(settings, storage_class="STANDARD_IA"))) as store:
        area = UploadArea(store, UploadSettings())
        upload = area.begin(len(data), single=len(data) == len(SMALL))
        send_all(area, upload, data)
        area.finish(upload).copy_to(TARGET, {})
        for key in (upload_key(upload.id), TARGET):
            assert s3.head_object(Bucket=settings.bucket, Key=key)["StorageClass"] == "STANDARD_IA"


def test_a_form(area, store):
    upload = area.begin(len(SMALL), single=True)
    request = area.post_request(upload, seconds=600)
    for data in (SMALL[1:], SMALL + b"x"):
        assert post(request, data) >= 400
    assert post(request, SMALL) in (200, 204)
    assert area.finish(upload).beginning(10) == SMALL[:10]
    store.measured(post_policies=False)
    with pytest.raises(ConfigurationError, match="s3-provider: .* takes no upload by a form"):
        UploadArea(store, UploadSettings()).post_request(upload, seconds=600)


def post(request, data):
    body, headers = form_of(request.fields, data)
    return send(dataclasses.replace(request, headers=headers), body)


def test_headers_that_were_not_signed_get_nowhere(area, s3, s3_server, settings):
    """A store that takes them keeps them of the staged object at most: nothing of it goes over to the blob."""
    upload = area.begin(len(SMALL), single=True)
    request = area.put_request(upload, seconds=600)
    more = {"Cache-Control": "public", "Content-Encoding": "gzip", "x-amz-meta-sha256": "0" * 64}
    if send(request, SMALL, **more) != 200:
        assert send(request, SMALL) == 200
    area.finish(upload).copy_to(TARGET, {"oid": "1"})
    told = s3.head_object(Bucket=settings.bucket, Key=TARGET)
    assert set(told["Metadata"]) == {"oid", "size"}
    if s3_server.region == "default":  # MiniStack keeps these where a copy's are to be replaced
        assert "CacheControl" not in told and "ContentEncoding" not in told
    assert (told["ContentType"], told["ContentDisposition"]) == ("application/octet-stream", "attachment")
    if send(request, SMALL, **{"x-amz-meta-sealed": "1 2026-11 x"}) == 200:
        for ask in (area.finish, area.arrived):
            with pytest.raises(UploadWrong, match="calls itself an encrypted object"):
                ask(upload)


def test_an_answer_that_is_lost(settings, proxy):
    """Beginning, putting together, copying and deleting once more make nothing twice and leave nothing."""
    with closing(open_store(dataclasses.replace(settings, endpoint_url=proxy.endpoint_url))) as store:
        area = UploadArea(store, UploadSettings())
        rule = proxy.fail(reset("answer"), method="POST", target="?uploads")
        upload = area.begin(len(LARGE))
        assert rule.hits == 1
        assert len(unfinished_uploads(settings)) == 1
        send_all(area, upload, LARGE)
        rules = [
            proxy.fail(reset("answer"), method="POST", target="uploadId="),
            proxy.fail(reset("answer"), method="PUT", target="blobs/"),
            proxy.fail(reset("answer"), method="POST", target="?delete"),
        ]
        staged = area.finish(upload)
        assert copied(store, staged) == LARGE
        area.drop(upload)
        assert [rule.hits for rule in rules[:2]] == [1, 1]
    assert objects(settings) == [TARGET]
    assert unfinished_uploads(settings) == []


def test_an_outage_in_each_step(settings, proxy):
    """Each fails with Unavailable, and works when the store is back."""
    patient = dataclasses.replace(settings, endpoint_url=proxy.endpoint_url, outage_patience=0.0)
    with closing(open_store(patient, clock=hasty())) as store:
        area = UploadArea(store, UploadSettings())

        def out(step, *arguments, **named):
            proxy.down()
            with pytest.raises(Unavailable):
                step(*arguments, **named)
            proxy.up()
            return step(*arguments, **named)

        upload = out(area.begin, len(LARGE))
        send_all(area, upload, LARGE)
        assert len(out(area.arrived, upload)) == 3
        staged = out(area.finish, upload)
        assert len(out(staged.beginning)) == 4096
        assert out(staged.copy_to, TARGET, {}).size == len(LARGE)
        out(area.drop, upload)
    assert objects(settings) == [TARGET]
    assert unfinished_uploads(settings) == []


def hasty():
    """Pauses between attempts take no time, and count as if they had."""
    slept = []
    return Clock(monotonic=lambda: time.monotonic() + sum(slept), sleep=slept.append)


def test_a_store_that_is_out_at_the_start(make_site, settings, proxy, monkeypatch):
    from collective.s3blobstorage.storage import opening

    monkeypatch.setattr(opening, "ASK_AGAIN", 0.0)
    proxy.down()
    store = dataclasses.replace(settings, endpoint_url=proxy.endpoint_url, outage_patience=0.0)
    site = make_site("filestorage", store=store, start_degraded=True, preflight_deadline=0.0)
    storage = site.db().storage
    area = storage.upload_area()
    assert area.why_not() == ""
    with pytest.raises(Unavailable):
        area.begin(len(SMALL), single=True)
    proxy.up()
    send_all(area, upload := area.begin(len(SMALL), single=True), SMALL)
    assert area.finish(upload).beginning(10) == SMALL[:10]
    assert storage.upload_area() is area
