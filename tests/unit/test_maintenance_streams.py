"""The streams that are compared: a blob directory's files, a bucket's objects; and the rows that wait on disk."""

from __future__ import annotations

import os
import random
import threading
import tracemalloc
from datetime import UTC, datetime
from pathlib import Path

import pytest
from ZODB.blob import FilesystemHelper
from ZODB.utils import p64

from collective.s3blobstorage.encryption.none import Unencrypted
from collective.s3blobstorage.errors import ConfigurationError, StagingError
from collective.s3blobstorage.keys import blob_key, foreign_keys
from collective.s3blobstorage.maintenance.blobdir import BlobDirectory, BlobFile
from collective.s3blobstorage.maintenance.bucket import blob_objects
from collective.s3blobstorage.maintenance.pace import Pace
from collective.s3blobstorage.maintenance.parallel import in_parallel
from collective.s3blobstorage.maintenance.scope import Scope
from collective.s3blobstorage.maintenance.spool import Spool
from collective.s3blobstorage.objectstore.clock import Clock
from collective.s3blobstorage.objectstore.interfaces import Listed
from collective.s3blobstorage.storage.owner import Marker

TIDS = [0x03F0_0000_0000_0001, 0x0400_0000_0000_0000, 0x1100_0000_0000_0000]
OIDS = [0, 1, 0x1F, 0x20, 0xFF, 0x100, 0xABCD, 0x12345, 2**40 + 7]


@pytest.fixture
def spool():
    with Spool() as opened:
        yield opened


@pytest.fixture(params=["bushy", "lawn"])
def layout(request):
    return request.param


def made(path, layout):
    """A blob directory as ZODB makes it, and its files in order."""
    helper = FilesystemHelper(str(path), layout)
    helper.create()
    files = []
    for oid in OIDS:
        for tid in TIDS:
            helper.getPathForOID(oid, create=True)
            with open(helper.getBlobFilename(oid, tid), "wb") as file:
                file.write(b"x" * (oid % 7))
            files.append(BlobFile(p64(oid), p64(tid), oid % 7))
    return files


def test_files_come_sorted_whatever_the_layout(tmp_path, spool, layout):
    files = made(tmp_path, layout)
    directory = BlobDirectory.at(tmp_path)
    assert list(directory.files(Scope(), spool)) == files
    assert directory.file(p64(0x1F), p64(TIDS[1])).read_bytes() == b"x" * (0x1F % 7)
    scope = Scope(p64(0x1F), p64(0x100), p64(TIDS[1]))
    expected = [file for file in files if 0x1F <= int.from_bytes(file.oid) <= 0x100 and file.tid >= p64(TIDS[1])]
    assert list(directory.files(scope, spool)) == expected and len(expected) == 8


def test_what_is_no_blob_file_of_the_layout_is_passed_over(tmp_path, spool, layout):
    files = made(tmp_path, layout)
    folder = (BlobDirectory.at(tmp_path)).file(p64(0x1F), p64(TIDS[0])).parent
    for name in ("0x03f0.tmp", "notes.blob", "3f00000000000001.blob", "0x3f00000000000001.blob.old", ".removed"):
        (folder / name).write_bytes(b"?")
    (folder / "0x0000000000000000000000000001.blob").write_bytes(b"?")
    (tmp_path / "tmp" / "0x11.blob").write_bytes(b"?")
    for name in ("0x1", "0xzz", "0x00", "BUSHY"):
        (tmp_path / name).mkdir(exist_ok=True)
    (tmp_path / "0x0f").touch()
    assert list(BlobDirectory.at(tmp_path).files(Scope(), spool)) == files


def test_a_folder_that_goes_meanwhile_is_passed_over(tmp_path, spool):
    files = made(tmp_path, "bushy")
    directory = BlobDirectory.at(tmp_path)
    coming = directory.files(Scope(), spool)
    assert next(coming) == files[0]
    for tid in TIDS:
        directory.file(p64(0xABCD), p64(tid)).unlink()
    directory.file(p64(0xABCD), p64(TIDS[0])).parent.rmdir()
    directory.file(p64(0x100), p64(TIDS[2])).unlink()
    assert len(list(coming)) == len(files) - 1 - 4


def test_a_folder_that_may_not_be_read_is_no_empty_one(tmp_path, spool):
    made(tmp_path, "bushy")
    (tmp_path / "0x00" / "0x00").chmod(0)
    if os.access(tmp_path / "0x00" / "0x00", os.R_OK):
        pytest.skip("this user reads everything")
    try:
        with pytest.raises(ConfigurationError, match="cannot be read: Permission denied"):
            list(BlobDirectory.at(tmp_path).files(Scope(), spool))
    finally:
        (tmp_path / "0x00" / "0x00").chmod(0o700)


@pytest.mark.parametrize(
    "prepare, message",
    [
        (lambda path: None, "there is no such folder"),
        (lambda path: path.mkdir(), "is no blob directory: it has no file .layout"),
        (lambda path: (path.mkdir(), (path / ".layout").write_text("zeocache")), "'zeocache', as a cache of blobs"),
        (lambda path: (path.mkdir(), (path / ".layout").mkdir()), "cannot be read"),
        (lambda path: (path.mkdir(), (path / ".layout").write_bytes(b"\xff\xfe")), "cannot be read"),
    ],
)
def test_what_is_no_blob_directory(tmp_path, prepare, message):
    prepare(tmp_path / "blobs")
    with pytest.raises(ConfigurationError, match="--from") as raised:
        BlobDirectory.at(tmp_path / "blobs")
    assert message in str(raised.value)


def test_a_new_directory_is_made_once(tmp_path):
    path = tmp_path / "new" / "blobs"
    assert list(BlobDirectory.made(path, dry_run=True).files(Scope(), None)) == [] and not path.parent.exists()
    BlobDirectory.made(path)
    assert (path / ".layout").read_text() == "bushy" and path.stat().st_mode & 0o777 == 0o700
    BlobDirectory.made(path)
    # killed between two steps of making it
    (path / ".layout").write_text("")
    assert BlobDirectory.made(path).temporary.is_dir() and (path / ".layout").read_text() == "bushy"
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "Data.fs").touch()
    for dry_run in (True, False):
        with pytest.raises(ConfigurationError, match="holds other things than blobs"):
            BlobDirectory.made(tmp_path / "other", dry_run=dry_run)
    assert os.listdir(tmp_path / "other") == ["Data.fs"]
    lawn = tmp_path / "lawn"
    made(lawn, "lawn")
    assert BlobDirectory.made(lawn).file(p64(0x1F), p64(TIDS[0])).parent == lawn / "0x1f"


def test_a_relative_path_is_as_good(tmp_path, spool, layout, monkeypatch):
    files = made(tmp_path / "blobs", layout)
    monkeypatch.chdir(tmp_path)
    for directory in (BlobDirectory.at(Path("blobs")), BlobDirectory.made(Path("./blobs/../blobs"))):
        assert list(directory.files(Scope(), spool)) == files
        assert directory.temporary.is_absolute()


def test_publishing(tmp_path, layout):
    made(tmp_path, layout)
    directory = BlobDirectory.at(tmp_path)
    temporary = directory.temporary / "new"
    temporary.write_bytes(b"bytes")
    directory.publish(temporary, p64(77), p64(TIDS[0]))
    helper = FilesystemHelper(str(tmp_path))
    with open(helper.getBlobFilename(77, TIDS[0]), "rb") as file:
        assert file.read() == b"bytes"
        assert os.fstat(file.fileno()).st_mode & 0o222 == 0
    assert not temporary.exists()
    temporary.write_bytes(b"others")
    directory.publish(temporary, p64(77), p64(TIDS[0]))
    assert directory.file(p64(77), p64(TIDS[0])).read_bytes() == b"bytes"


class Bucket:
    """A listing as S3 gives it."""

    def __init__(self, *keys: str) -> None:
        self.keys = sorted(keys)
        self.listed: list[tuple[str, str]] = []

    encryption = Unencrypted()

    def list(self, prefix="", *, start_after="", page_size=1000):
        self.listed.append((prefix, start_after))
        for key in self.keys:
            if key.startswith(prefix) and key > start_after:
                yield Listed(key, len(key), "", datetime.now(UTC))


def test_objects_come_sorted_by_oid_and_nothing_else_does(spool):
    ours = [blob_key(p64(oid), name) for oid in OIDS for name in (p64(TIDS[0]).hex(), "c" * 32)]
    theirs = [key for oid in OIDS for key in foreign_keys(p64(oid), p64(TIDS[1]))]
    bucket = Bucket(*ours, *theirs, "blobs/notes", "blobs/0/0", "blobs/00/00.blob", ".s3blobs.json", "blobs/zz/1.blob")
    found = list(blob_objects(bucket, Scope(), spool, Marker(None, True)))
    assert [one.oid for one in found] == sorted(one.oid for one in found)
    assert sorted(one.key for one in found if one.tid is None) == sorted(ours)
    assert sorted(one.key for one in found if one.tid is not None) == sorted(theirs)
    assert {one.tid for one in found} == {None, p64(TIDS[1])}
    bucket.listed.clear()
    alone = list(blob_objects(bucket, Scope(), spool, Marker(None, False)))
    assert [one.key for one in alone] == sorted(ours) and len(bucket.listed) == 1
    scope = Scope(p64(0x1F), p64(0x100))
    part = list(blob_objects(bucket, scope, spool, Marker(None, True)))
    assert {int.from_bytes(one.oid) for one in part} == {0x1F, 0x20, 0xFF, 0x100} and len(part) == 16


def test_rows_are_sorted_and_stay_in_order(spool):
    table = spool.table("oid BLOB", "number INTEGER")
    rows = [(os.urandom(2), number) for number in range(3500)]
    for row in rows:
        table.add(*row)
    assert len(table) == 3500
    assert list(table.rows()) == rows
    assert list(table.rows("oid")) == sorted(rows, key=lambda row: row[0])
    other = spool.table("number INTEGER")
    for _, number in table.rows():  # another table may grow meanwhile
        other.add(number)
    assert sum(number for (number,) in other.rows()) == sum(range(3500))


def test_memory_does_not_grow_with_rows(spool):
    table = spool.table("oid BLOB", "tid BLOB", "name TEXT")
    random.seed(7)
    tracemalloc.start()
    for _ in range(30_000):
        table.add(random.randbytes(8), random.randbytes(8), "n" * 32)
    last = b""
    for oid, _, _ in table.rows("oid"):
        assert oid >= last
        last = oid
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000  # the rows themselves take five times that


def test_a_full_temporary_folder_is_said_so(spool):
    spool._connection.execute("PRAGMA max_page_count = 100")
    table = spool.table("data BLOB")
    with pytest.raises(StagingError, match="TMPDIR"):
        for _ in range(20_000):
            table.add(bytes(100))


class Time:
    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def clock(self) -> Clock:
        return Clock(lambda: self.now, self.sleep)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def test_pace():
    time = Time()
    pace = Pace(1000, time.clock())
    for _ in range(10):
        pace.take(500)
    assert 4.0 <= time.now <= 5.0
    pace.take(-500)  # an attempt that failed
    pace.take(500)
    assert 4.0 <= time.now <= 5.0
    time.now += 100  # what was not used long ago is gone
    started = time.now
    for _ in range(4):
        pace.take(1000)
    assert 3.0 <= time.now - started <= 4.0
    free = Pace(None, time.clock())
    free.take(10**12)
    assert time.now - started <= 4.0


def test_tasks_run_a_few_at_a_time_and_all_of_them():
    running, most, lock = 0, 0, threading.Lock()
    barrier = threading.Barrier(3, timeout=10)

    def work(number: int) -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        if number < 3:
            barrier.wait()
        with lock:
            running -= 1
        if number == 5:
            raise ValueError(number)
        return number * 2

    ended = dict(in_parallel(range(9), work, concurrency=3, stop=threading.Event(), name="test"))
    assert most == 3 and sorted(ended) == list(range(9))
    assert [ended[number].exception() is None for number in range(9)] == [number != 5 for number in range(9)]


def test_after_stop_no_task_is_taken_and_what_runs_ends():
    stop = threading.Event()
    taken, done = [], []

    def tasks():
        for number in range(100):
            taken.append(number)
            yield number

    for number, _ in in_parallel(tasks(), done.append, concurrency=2, stop=stop, name="test"):
        if number == 3:
            stop.set()
    assert len(taken) == len(done) < 10
