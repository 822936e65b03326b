"""When what came from a source is stored in the bucket, and what a bucket that fails does to the reader: nothing."""

from __future__ import annotations

import hashlib
import logging
import threading

import pytest
from test_overlay_chain import OID, TID, Place, whole

from collective.s3blobstorage.errors import PreconditionFailed, Refused, Unavailable
from collective.s3blobstorage.objectstore.interfaces import Cancelled, ObjectInfo
from collective.s3blobstorage.overlay import mirror
from collective.s3blobstorage.overlay.chain import NoOverlay, Overlay
from collective.s3blobstorage.overlay.interfaces import Revision, SourceOptions
from collective.s3blobstorage.overlay.mirror import Mirror
from collective.s3blobstorage.storage.record import BlobState

DATA = b"eleven byte"
KEY = f"blobs/{OID.hex()}/{TID.hex()}"
REVISION = Revision(OID, TID, BlobState())


class Bucket:
    """Takes files. ``gate``: what each PUT waits for."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.metadata: dict[str, dict] = {}
        self.error: Exception | None = None
        self.puts = 0
        self.threads: list[str] = []
        self.gate = threading.Event()
        self.gate.set()
        self.began = threading.Event()

    def put_file(self, key, path, *, metadata, sha256, if_absent, cancelled):
        assert if_absent
        self.puts += 1
        self.threads.append(threading.current_thread().name)
        self.began.set()
        while not self.gate.wait(0.01):
            if cancelled():
                raise Cancelled()
        if self.error is not None:
            raise self.error
        if key in self.objects:
            raise PreconditionFailed("there")
        self.objects[key] = path.read_bytes()
        self.metadata[key] = {**metadata, "sha256": sha256.hex()}

    def get_range(self, key, start, length, write, *, size, if_match):
        write(self.objects[key][start : start + length])

    def head(self, key):
        data = self.objects.get(key)
        return None if data is None else ObjectInfo(key, len(data), "", self.metadata.get(key, {}))


@pytest.fixture
def bucket() -> Bucket:
    return Bucket()


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "blob"
    path.write_bytes(DATA)
    return str(path)


@pytest.fixture
def made(bucket):
    opened = Mirror(bucket)
    yield opened
    bucket.gate.set()
    opened.close()


def finish(made: Mirror) -> dict[str, int]:
    """What it counted when everything that waited was done."""
    if made._pool is not None:
        made._pool.shutdown()
        made._pool = None
    return {name: count for name, count in made.counts().items() if count}


def test_on_stores_before_it_returns(made, bucket, file):
    made.note(REVISION, "on")
    made.completed(OID, TID, file)
    assert bucket.objects == {KEY: DATA}
    digest = hashlib.sha256(DATA).hexdigest()
    assert bucket.metadata[KEY] == {"oid": OID.hex(), "tid": TID.hex(), "sha256": digest}
    assert bucket.threads == [threading.current_thread().name]
    assert finish(made) == {"mirrored": 1}


def test_background_returns_at_once(made, bucket, file):
    bucket.gate.clear()
    made.note(REVISION, "background")
    made.completed(OID, TID, file)
    assert bucket.objects == {}
    bucket.gate.set()
    assert finish(made) == {"mirrored": 1}
    assert bucket.objects == {KEY: DATA}
    assert bucket.threads[0].startswith("s3blobs-mirror")


@pytest.fixture
def reading(made):
    """Somebody reads other blobs from a source, one after the other, until ``set``."""
    ended = threading.Event()

    def read() -> None:
        number = 0
        while not ended.wait(0.01):
            number += 1
            made.note(Revision(number.to_bytes(8, "big"), TID, BlobState()), "background")

    thread = threading.Thread(target=read)
    thread.start()
    yield ended
    ended.set()
    thread.join()


def test_background_lets_those_who_read_go_first(made, bucket, file, reading, monkeypatch):
    monkeypatch.setattr(mirror, "_PATIENCE", 60.0)
    made.note(REVISION, "background")
    made.completed(OID, TID, file)
    assert not bucket.began.wait(3 * mirror._PAUSE)
    reading.set()
    assert bucket.began.wait(20)
    assert finish(made) == {"mirrored": 1}


def test_but_not_for_ever(made, bucket, file, reading, monkeypatch):
    monkeypatch.setattr(mirror, "_PATIENCE", 0.3)
    made.note(REVISION, "background")
    made.completed(OID, TID, file)
    assert bucket.began.wait(20)
    assert not reading.is_set()


def test_and_not_when_many_wait(made, bucket, file, reading, monkeypatch):
    monkeypatch.setattr(mirror, "_PATIENCE", 60.0)
    monkeypatch.setattr(mirror, "_CROWD", 3)
    for number in range(3):
        assert not bucket.began.is_set()
        revision = Revision(OID, bytes([0] * 7 + [number + 1]), BlobState())
        made.note(revision, "background")
        made.completed(revision.oid, revision.tid, file)
    assert bucket.began.wait(20)


def test_who_waits_for_the_readers_is_given_up_at_close(made, bucket, file, reading, monkeypatch):
    monkeypatch.setattr(mirror, "_PATIENCE", 60.0)
    made.note(REVISION, "background")
    made.completed(OID, TID, file)
    made.close()
    assert bucket.puts == 0


def test_the_key_is_the_name_of_the_record(made, bucket, file):
    made.note(Revision(OID, TID, BlobState("ab" * 16, len(DATA), hashlib.sha256(DATA).digest())), "on")
    made.completed(OID, TID, file)
    assert list(bucket.objects) == [f"blobs/{OID.hex()}/{'ab' * 16}"]


def test_nothing_is_stored_that_came_from_the_bucket_or_was_not_noted(made, bucket, file):
    made.completed(OID, TID, file)
    made.note(REVISION, "off")
    made.completed(OID, TID, file)
    made.note(REVISION, "on")
    made.note(REVISION, "off")  # it was in the bucket by then
    made.completed(OID, TID, file)
    assert bucket.puts == 0


def test_once(made, bucket, file):
    made.note(REVISION, "on")
    for _ in range(2):
        made.completed(OID, TID, file)
    assert bucket.puts == 1


def test_what_another_process_stored_first_stays(made, bucket, file):
    bucket.objects[KEY] = DATA
    made.note(REVISION, "on")
    made.completed(OID, TID, file)
    assert finish(made) == {"present": 1}


@pytest.mark.parametrize("metadata", [{}, {"sha256": "00" * 32}])
@pytest.mark.parametrize("other", [b"another size", DATA[::-1]])
def test_other_bytes_in_the_bucket_are_reported_and_stay(made, bucket, file, caplog, other, metadata):
    bucket.objects[KEY] = other
    bucket.metadata[KEY] = metadata
    made.note(REVISION, "on")
    made.completed(OID, TID, file)
    assert finish(made) == {"failed": 1}
    assert bucket.objects == {KEY: other}
    assert "the bucket already holds other bytes" in caplog.text


def test_a_file_that_is_not_the_record_s_is_not_stored(made, bucket, file, caplog):
    made.note(Revision(OID, TID, BlobState("ab" * 16, len(DATA), bytes(32))), "on")
    made.completed(OID, TID, file)
    assert bucket.puts == 0 and finish(made) == {"failed": 1}
    assert "does not have the bytes" in caplog.text


@pytest.mark.parametrize("error", [Unavailable("out"), Refused("403"), RuntimeError("bug")])
@pytest.mark.parametrize("mode", ["on", "background"])
def test_a_bucket_that_fails_is_no_trouble_of_the_reader(made, bucket, file, mode, error):
    bucket.error = error
    made.note(REVISION, mode)
    made.completed(OID, TID, file)
    assert finish(made) == {"failed": 1}


def test_an_outage_is_said_once_and_no_reader_waits_for_it(made, bucket, file, caplog):
    caplog.set_level(logging.WARNING)
    bucket.error = Unavailable("out")
    for number in range(5):
        revision = Revision(OID, bytes([number]) * 8, BlobState())
        made.note(revision, "on")
        made.completed(OID, revision.tid, file)
    assert finish(made) == {"failed": 5}
    assert bucket.threads[0] == threading.current_thread().name
    assert all(name.startswith("s3blobs-mirror") for name in bucket.threads[1:])
    assert len(caplog.records) == 1 and "said once" in caplog.text
    bucket.error = None
    made.note(REVISION, "background")
    made.completed(OID, TID, file)
    assert finish(made) == {"failed": 5, "mirrored": 1}
    assert "the bucket takes what is mirrored again" in caplog.text
    made.note(Revision(OID, b"\7" * 8, BlobState()), "on")
    made.completed(OID, b"\7" * 8, file)
    assert bucket.threads[-1] == threading.current_thread().name


def test_a_file_that_was_evicted_before_its_turn_is_left_out(made, bucket, tmp_path):
    made.note(REVISION, "background")
    made.completed(OID, TID, str(tmp_path / "gone"))
    assert finish(made) == {"skipped": 1} and bucket.puts == 0


def test_what_waits_is_bounded(made, bucket, file, monkeypatch):
    monkeypatch.setattr(mirror, "_WAITING", 3)
    bucket.gate.clear()
    for number in range(5):
        revision = Revision(OID, bytes([number]) * 8, BlobState())
        made.note(revision, "background")
        made.completed(OID, revision.tid, file)
    bucket.gate.set()
    assert finish(made) == {"mirrored": 3, "skipped": 2}


def test_what_is_begun_is_bounded(made, bucket, file, monkeypatch):
    monkeypatch.setattr(mirror, "_BEGUN", 2)
    for number in range(4):
        made.note(Revision(OID, bytes([number]) * 8, BlobState()), "on")
    for number in range(4):
        made.completed(OID, bytes([number]) * 8, file)
    assert bucket.puts == 2


def test_close_gives_up_what_waits_and_what_is_sent(made, bucket, file):
    bucket.gate.clear()
    for number in range(5):
        revision = Revision(OID, bytes([number]) * 8, BlobState())
        made.note(revision, "background")
        made.completed(OID, revision.tid, file)
    assert bucket.began.wait(5)
    made.close()
    assert bucket.objects == {}
    made.note(REVISION, "on")
    made.completed(OID, TID, file)
    assert bucket.objects == {} and not [t for t in threading.enumerate() if t.name.startswith("s3blobs-mirror")]


# In the chain


def overlay(bucket: Bucket, place: Place, mode: str) -> Overlay:
    sources = Overlay([(place, SourceOptions("a", mirror=mode))])
    sources.mirror_into(bucket)
    return sources


@pytest.mark.parametrize(("mode", "stored"), [("on", 1), ("off", 0)])
def test_what_a_source_gave_is_stored_as_its_option_says(bucket, file, mode, stored):
    sources = overlay(bucket, Place(DATA), mode)
    whole(sources.behind(Place().blob(REVISION), REVISION))
    sources.completed(OID, TID, file)
    assert (len(bucket.objects), sources.mirrored()["mirrored"]) == (stored, stored)
    sources.close()


def test_what_the_bucket_gave_is_not(bucket, file):
    sources = overlay(bucket, Place(DATA), "on")
    whole(sources.behind(Place(DATA).blob(REVISION), REVISION))
    sources.completed(OID, TID, file)
    assert bucket.puts == 0


def test_parts_count_too_also_those_of_a_request_that_the_reader_gave_up(bucket, file):
    class Enough(Exception):
        pass

    def write(data):
        raise Enough

    sources = overlay(bucket, Place(DATA), "on")
    with pytest.raises(Enough):
        sources.behind(Place().blob(REVISION), REVISION).read(0, 5, write, '"a"v1')
    sources.completed(OID, TID, file)
    assert bucket.puts == 1


def test_without_a_bucket_to_write_to_nothing_is_stored(file):
    sources = Overlay([(Place(DATA), SourceOptions("a", mirror="on"))])
    whole(sources.behind(Place().blob(REVISION), REVISION))
    sources.completed(OID, TID, file)
    for each in (sources, NoOverlay()):
        assert set(each.mirrored().values()) == {0}
