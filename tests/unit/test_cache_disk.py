"""The cache's disk breaks: reads go on, commits go on, no byte is wrong, the log has one line a minute."""

from __future__ import annotations

import logging
import os
import resource
import shutil
import subprocess
from pathlib import Path

import pytest
from cache_state import until_idle

from collective.s3blobstorage.cache import BlobCache
from collective.s3blobstorage.cache.disk_warnings import DiskWarnings
from collective.s3blobstorage.cache.downloads import DiskFailure
from collective.s3blobstorage.errors import BlobMissing, Unavailable
from collective.s3blobstorage.settings import MinFree

MB = 1024 * 1024


def revision(number):
    return number.to_bytes(8, "big"), bytes(8)


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """The machine's temporary folder."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


@pytest.fixture
def small_disk(tmp_path):
    """A file system of one megabyte, which can be made read-only."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if made.returncode:
        pytest.skip(f"a file system cannot be mounted here: {made.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def opened(small_disk_is_unmounted_last):
    caches = []

    def open_cache(root, **options):
        # No floor: these disks are full.
        cache = BlobCache(root, "store", size=10 * MB, min_free=MinFree(), **options)
        caches.append(cache)
        return cache

    yield open_cache
    for cache in caches:
        cache.close()


@pytest.fixture
def small_disk_is_unmounted_last(request):
    if "small_disk" in request.fixturenames:
        request.getfixturevalue("small_disk")


def below(folder):
    """Files but for locks, and what is counted, which is written at any moment."""
    ours = ("lock", "cleaner.lock", "downloads.lock", "counters.json", "history.json", "history.lock")
    files = [path for path in folder.rglob("*") if path.is_file() and path.name not in ours]
    return [path for path in files if not path.name.startswith("counters.json.")]


def warnings_of(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_full_disk_is_read_past(small_disk, elsewhere, opened, caplog):
    cache = opened(small_disk, protect=300.0)
    data = os.urandom(3 * MB)
    calls = []

    def download(file):
        calls.append(1)
        for start in range(0, len(data), 65536):
            file.write(data[start : start + 65536])

    path = cache.fetch(*revision(1), download)
    assert path.read_bytes() == data
    assert elsewhere in path.parents
    assert path.stat().st_mode & 0o077 == 0 and path.parent.stat().st_mode & 0o077 == 0
    assert len(calls) == 2  # the first one was cut off by the full disk
    assert shutil.disk_usage(small_disk).free > 0.9 * MB, "what was written before the disk was full is gone"
    with cache.open(*revision(1), download) as file:
        assert file.read() == data
    assert len(calls) == 2  # the private file is used as long as it lives
    assert cache.get(*revision(1)) is None
    small = cache.fetch(*revision(2), lambda file: file.write(b"fits"))
    assert small_disk in small.parents
    for number in range(3, 9):
        assert cache.fetch(*revision(number), download).stat().st_size == len(data)
    assert len(warnings_of(caplog)) == 1 and f"cache-dir {small_disk}" in warnings_of(caplog)[0]
    assert cache.counters.snapshot()["errors"] == 7
    cache.close()
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize("swallow", [False, True])
def test_what_the_download_makes_of_a_full_disk_does_not_matter(small_disk, elsewhere, opened, swallow):
    """It may take the failure for one of the network, or not notice it."""
    cache = opened(small_disk)
    failures = []

    def download(file):
        try:
            file.write(b"x" * 2 * MB)
        except Exception as error:
            failures.append(error)
            if not swallow:
                raise Unavailable("the connection must have been lost") from error

    assert cache.fetch(*revision(1), download).stat().st_size == 2 * MB
    assert len(failures) == 1 and isinstance(failures[0], DiskFailure) and not isinstance(failures[0], OSError)


def test_an_error_of_the_store_beside_a_full_disk_goes_through(small_disk, elsewhere, opened):
    cache = opened(small_disk)
    calls = []

    def download(file):
        calls.append(1)
        if len(calls) == 2:
            raise BlobMissing(bytes(8))
        file.write(b"x" * 2 * MB)

    with pytest.raises(BlobMissing):
        cache.fetch(*revision(1), download)
    assert len(calls) == 2
    assert below(elsewhere) == []


def test_a_disk_that_is_read_only_is_read_from(small_disk, elsewhere, opened):
    cache = opened(small_disk)
    here = cache.fetch(*revision(1), lambda file: file.write(b"here"))
    os.utime(here, ns=(0, here.stat().st_mtime_ns))  # so that its next use would be noted
    cache.close()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    cache = opened(small_disk)
    assert cache.get(*revision(1)) == here
    assert cache.fetch(*revision(2), lambda file: file.write(b"there")).read_bytes() == b"there"
    staged = cache.staging() / "staged"
    staged.write_bytes(b"commit")
    assert elsewhere in staged.parents
    assert cache.adopt(*revision(3), staged) is False
    cache.clean()
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    assert small_disk in cache.fetch(*revision(4), lambda file: file.write(b"again")).parents
    assert small_disk in cache.staging().parents


def test_a_full_disk_does_not_take_what_is_committed(small_disk, elsewhere, opened):
    cache = opened(small_disk)
    staged = cache.staging(elsewhere=True) / "staged"
    assert elsewhere in staged.parents
    staged.write_bytes(b"x" * 2 * MB)
    assert cache.adopt(*revision(1), staged) is False
    assert cache.get(*revision(1)) is None
    assert shutil.disk_usage(small_disk).free > 0.9 * MB


@pytest.mark.parametrize("root", ["/proc/no-such-folder", "/dev/null/cache"])
def test_a_folder_that_cannot_be_made(root, elsewhere, opened, caplog):
    cache = opened(Path(root))
    for number in range(20):
        assert cache.fetch(*revision(number), lambda file: file.write(b"read")).read_bytes() == b"read"
        assert cache.get(*revision(number)) is None
    assert cache.counters.snapshot()["errors"] >= 20
    assert len(warnings_of(caplog)) == 1
    assert elsewhere in cache.staging().parents
    cache.clean()
    cache.close()
    assert list(elsewhere.iterdir()) == []


def test_private_files_go_when_their_time_is_over(elsewhere, opened):
    cache = opened(Path("/proc/no-such-folder"), protect=0.0)
    until_idle(cache)
    for number in range(5):
        cache.fetch(*revision(number), lambda file: file.write(b"x"))
        assert len(below(elsewhere)) == 1


def test_no_space_anywhere_is_an_error_that_says_so(tmp_path, elsewhere, opened):
    """A limit on the size of files stands for a disk that is full everywhere."""
    cache = opened(tmp_path / "cache")
    before = below(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (MB, hard))
    try:
        with pytest.raises(Unavailable, match="cache-dir nor the temporary folder"):
            cache.fetch(*revision(1), lambda file: file.write(b"x" * 2 * MB))
        assert cache.fetch(*revision(2), lambda file: file.write(b"small")).read_bytes() == b"small"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert below(elsewhere) == []
    assert len(below(tmp_path)) == len(before) + 1
    assert cache.fetch(*revision(1), lambda file: file.write(b"x" * 2 * MB)).stat().st_size == 2 * MB


def test_out_of_descriptors(tmp_path, elsewhere, opened):
    cache = opened(tmp_path / "cache")
    cache.clean()
    cache._cleaner.close()  # which opens descriptors of its own
    here = cache.fetch(*revision(1), lambda file: file.write(b"here"))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    descriptors = len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        assert cache.get(*revision(1)) == here
        with pytest.raises(Unavailable):
            cache.fetch(*revision(2), lambda file: file.write(b"x"))
        with pytest.raises(OSError, match="Too many open files"):
            cache.open(*revision(1), lambda file: file.write(b"x"))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(os.listdir("/proc/self/fd")) == descriptors
    assert cache.fetch(*revision(2), lambda file: file.write(b"x")).read_bytes() == b"x"


def test_a_folder_that_somebody_deletes_is_made_again(tmp_path, elsewhere, opened):
    cache = opened(tmp_path / "cache")
    until_idle(cache)
    cache.fetch(*revision(1), lambda file: file.write(b"one"))
    staging = cache.staging()
    descriptors = len(os.listdir("/proc/self/fd"))
    shutil.rmtree(tmp_path / "cache")
    assert cache.get(*revision(1)) is None
    path = cache.fetch(*revision(1), lambda file: file.write(b"one"))
    assert tmp_path / "cache" in path.parents
    assert cache.staging() != staging and cache.staging().is_dir()
    assert cache.get(*revision(1)) == path
    cache.clean()
    cache.close()  # joins the cleaner, which opens files of its own
    assert len(os.listdir("/proc/self/fd")) <= descriptors


def test_a_folder_deleted_during_a_download(tmp_path, elsewhere, opened):
    cache = opened(tmp_path / "cache")
    until_idle(cache)

    def download(file):
        shutil.rmtree(tmp_path / "cache", ignore_errors=True)
        file.write(b"bytes")

    assert cache.fetch(*revision(1), download).read_bytes() == b"bytes"
    assert tmp_path / "cache" in cache.fetch(*revision(2), lambda file: file.write(b"x")).parents


def test_a_cache_dir_exchanged_while_running_is_a_broken_disk(tmp_path, elsewhere, opened):
    cache = opened(tmp_path / "cache")
    until_idle(cache)
    shutil.rmtree(tmp_path / "cache")
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / ".layout").write_text("bushy")
    assert elsewhere in cache.fetch(*revision(1), lambda file: file.write(b"x")).parents
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [".layout"]


def test_one_line_a_minute(caplog):
    now = [1000.0]
    warnings = DiskWarnings(logging.getLogger("test"), "cache-dir /x", lambda: now[0])
    for _ in range(5):
        warnings.warn(OSError(28, "No space left on device"))
    assert len(caplog.records) == 1
    now[0] += 61
    warnings.warn(OSError(28, "No space left on device"))
    assert len(caplog.records) == 2
    assert "4 more failures" in caplog.records[1].getMessage()
