"""cache-min-free: what the cache leaves free of its disk; cache-fill-on-commit: what a commit leaves in the cache."""

from __future__ import annotations

import os
import subprocess
import time

import pytest
from cache_state import until_idle
from waiting import wait_until

from collective.s3blobstorage.cache import BlobCache, bound, room
from collective.s3blobstorage.cache import cleaner as cleaner_module
from collective.s3blobstorage.settings import GB, MinFree

MB = 1024 * 1024
DISK = 40 * MB
FLOOR = MinFree(size=10 * MB)


def revision(number):
    return number.to_bytes(8, "big"), bytes(8)


def download_of(megabytes):
    return lambda file: [file.write(b"x" * MB) for _ in range(megabytes)]


@pytest.fixture
def disk(tmp_path):
    """A file system of its own, which others fill."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(folder)]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"a file system cannot be mounted here: {made.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def opened(disk, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "elsewhere"))
    caches = []

    def open_cache(**options):
        options = {"size": 1000 * MB, "min_free": FLOOR, "protect": 10.0, **options}
        cache = BlobCache(disk / "cache", "store", **options)
        cache.clean()
        caches.append(cache)
        return cache

    yield open_cache
    for cache in caches:
        cache.close()


def free(disk):
    status = os.statvfs(disk)
    return status.f_bavail * status.f_frsize


def age(disk, seconds=1000):
    """As if nobody had asked for any file lately."""
    for path in disk.rglob("*.blob"):
        status = path.stat()
        os.utime(path, (status.st_atime - seconds, status.st_mtime))


def fill_but(disk, megabytes):
    """Others leave that much of the disk."""
    with open(disk / "others", "ab") as file:
        file.write(bytes(free(disk) - megabytes * MB))


@pytest.mark.parametrize(
    ("min_free", "total", "commits_leave"),
    [
        (MinFree(share=0.05), 100 * GB, 1 * GB),
        (MinFree(share=0.05), 50 * GB, GB // 2),
        (MinFree(share=0.05), 10_000 * GB, 1 * GB),
        (MinFree(size=100 * MB), 100 * GB, 100 * MB),
        (MinFree(), 100 * GB, 0),
    ],
)
def test_a_commit_never_leaves_more_than_the_cache_does(min_free, total, commits_leave):
    assert room.commit_floor(total, min_free) == commits_leave <= min_free.of(total)


def test_what_others_take_the_cache_gives(disk, opened, monkeypatch):
    monkeypatch.setattr(cleaner_module, "_TICK", 0.02)
    cache = opened()
    for number in range(10):
        cache.fetch(*revision(number), download_of(1))
    age(disk)
    used = cache.fetch(*revision(3), download_of(1))
    with cache._cleaner._cleaning:  # else what it evicts in the middle of this is not seen by what fills the disk
        fill_but(disk, 6)
    wait_until(lambda: free(disk) >= 10 * MB)
    until_idle(cache)
    assert used.exists(), "the least recently used go first"
    assert 11 * MB <= free(disk) < 13 * MB, "a tenth of the floor more than is lacking, and no more"


def test_the_floor_is_kept_while_a_download_runs(disk, opened):
    cache = opened()
    for number in range(15):
        cache.fetch(*revision(number), download_of(1))
    age(disk)

    def download(file):
        for _ in range(20):
            file.write(b"y" * MB)
            wait_until(lambda: free(disk) >= 10 * MB)

    assert cache.fetch(*revision(100), download).stat().st_size == 20 * MB


def test_where_nothing_may_go_reads_go_on_without_the_cache(disk, opened, tmp_path, caplog):
    cache = opened()
    here = cache.fetch(*revision(1), download_of(1))
    fill_but(disk, 6)
    cache.clean()
    path = cache.fetch(*revision(2), download_of(1))
    assert path.stat().st_size == MB and tmp_path / "elsewhere" in path.parents
    assert cache.fetch(*revision(1), download_of(1)) == here
    assert "cache-min-free" in caplog.text and f"cache-dir {disk}" in caplog.text
    assert cache.counters.snapshot()["errors"] == 0
    (disk / "others").unlink()
    assert disk in cache.fetch(*revision(3), download_of(1)).parents


def test_where_the_temporary_folder_is_on_the_same_disk_the_cache_is_used(disk, opened, monkeypatch):
    (disk / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(disk / "tmp"))
    cache = opened()
    fill_but(disk, 6)
    cache.clean()
    assert disk / "cache" in cache.fetch(*revision(1), download_of(1)).parents


def test_where_the_temporary_folder_is_full_the_cache_is_used(disk, opened, monkeypatch):
    cache = opened()
    fill_but(disk, 6)
    cache.clean()
    monkeypatch.setattr("tempfile.tempdir", "/proc")
    assert disk / "cache" in cache.fetch(*revision(1), download_of(1)).parents


def test_the_cleaner_does_not_spin_where_nothing_may_go(disk, opened, monkeypatch):
    """A disk that others filled for good: one look at the files each time a protection may have ended."""
    monkeypatch.setattr(cleaner_module, "_TICK", 0.01)
    surveys, survey = [], bound.survey

    def noted_survey(*arguments):
        surveys.append(time.monotonic())
        return survey(*arguments)

    monkeypatch.setattr(bound, "survey", noted_survey)
    cache = opened(protect=600.0)
    cache.fetch(*revision(1), download_of(1))
    fill_but(disk, 6)
    wait_until(lambda: cache._cleaner.crowded())
    del surveys[:]
    for number in range(2, 6):
        cache.fetch(*revision(number), download_of(1))
    time.sleep(0.2)  # twenty looks at whether there is something to do
    assert surveys == []


def test_no_floor(disk, opened):
    cache = opened(min_free=MinFree())
    cache.fetch(*revision(1), download_of(1))
    age(disk)
    fill_but(disk, 1)
    cache.clean()
    assert cache.get(*revision(1)) is not None


# Commits


@pytest.mark.parametrize(
    ("fill_on_commit", "kept"),
    [("on", [0, 1000, 1001]), ("small", [0, 1000]), ("off", [])],
)
def test_what_a_commit_leaves_in_the_cache(tmp_path, fill_on_commit, kept):
    cache = BlobCache(tmp_path, "store", size=MB, fill_on_commit=fill_on_commit, part_threshold=1000)
    for size in (0, 1000, 1001):
        staged = cache.staging() / "staged"
        staged.write_bytes(b"x" * size)
        taken = cache.adopt(*revision(size), staged)
        assert taken is (cache.get(*revision(size)) is not None) is not staged.exists()
        staged.unlink(missing_ok=True)
    assert [size for size in (0, 1000, 1001) if cache.get(*revision(size))] == kept
    assert cache.counters.snapshot()["bytes"] == sum(kept)
    cache.close()


def test_by_default_up_to_eight_megabytes(tmp_path):
    cache = BlobCache(tmp_path, "store", size=100 * MB)
    for size in (8 * MB, 8 * MB + 1):
        staged = cache.staging() / "staged"
        with open(staged, "wb") as file:
            file.truncate(size)
        assert cache.adopt(*revision(size), staged) is (size == 8 * MB)
    cache.close()
