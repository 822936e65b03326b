"""A commit that the disk, or the volume's limit, has no room for is refused before anything overflows."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from command_line import document, keys_of, s3blobs, section
from sites import bucket_keys, commit_blobs, connected, read_blob
from ZODB.blob import Blob

from collective.s3blobstorage.cache.room import commit_floor, in_flight
from collective.s3blobstorage.errors import StagingError
from collective.s3blobstorage.settings import MinFree

MB = 1024 * 1024


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and path.name != "lock"]


def test_by_default_an_upload_may_be_larger_than_the_cache(make_site):
    site = make_site("filestorage", cache_size=1 * MB)
    db = site.db()
    data = os.urandom(3 * MB)
    commit_blobs(db, a=data)
    assert read_blob(db, "a") == data


def test_within_the_bound_a_larger_one_is_refused_and_the_next_is_taken(make_site, settings, caplog):
    site = make_site("filestorage", cache_size=1 * MB, commit_within_cache_size=True)
    db = site.db()
    for _ in range(2):
        with pytest.raises(StagingError, match="cache-size.*commit-within-cache-size"):
            commit_blobs(db, a=os.urandom(3 * MB))
    assert bucket_keys(settings) == [".s3blobs.json"]
    assert files_below(db.storage.staging) == [], "what was refused is gone"
    commit_blobs(db, b=b"b" * 600_000)
    assert read_blob(db, "b") == b"b" * 600_000
    assert re.search(r"a commit is refused: 3\d{6} bytes are taken, 1048576 with cache-size 1048576", caplog.text)


def test_commits_count_together_and_a_refused_one_takes_nothing_along(make_site):
    """Three of 400 kB do not fit into 1 MB at one time; in turn they do."""
    site = make_site("filestorage", cache_size=1 * MB, commit_within_cache_size=True)
    db = site.db()
    with connected(db) as first, connected(db) as second:
        for connection, name in ((first, "a"), (first, "b"), (second, "c")):
            blob = connection.root()[name] = Blob()
            connection.add(blob)  # so that its file is where the connection's storage wants it
            with blob.open("w") as file:
                file.write(name.encode() * 400_000)
        with pytest.raises(StagingError):
            second.transaction_manager.commit()
        second.transaction_manager.abort()
        first.transaction_manager.commit()
    commit_blobs(db, c=b"c" * 400_000)
    assert [len(read_blob(db, name)) for name in "abc"] == [400_000] * 3


def test_a_staging_folder_of_its_own_counts_too(make_site, tmp_path):
    site = make_site("filestorage", cache_size=1 * MB, staging_dir=tmp_path / "staging", commit_within_cache_size=True)
    db = site.db()
    with pytest.raises(StagingError):
        commit_blobs(db, a=os.urandom(2 * MB))
    commit_blobs(db, a=b"a")


def test_the_floor_is_a_hundredth_and_never_over_a_gigabyte():
    assert commit_floor(100 * MB, MinFree(share=0.05)) == MB
    assert commit_floor(10**15, MinFree(share=0.05)) == 1024 * MB
    assert commit_floor(100 * MB, MinFree(size=5000)) == 5000, "nor over cache-min-free"


def test_in_flight_counts_files_at_any_depth(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "x").write_bytes(bytes(5000))
    (tmp_path / "a" / "b" / "y").write_bytes(bytes(9000))
    assert 14_000 <= in_flight([tmp_path, tmp_path / "gone"]) <= 14_000 + 2 * 4096


@pytest.fixture
def disk(tmp_path):
    """A disk of 32 MB."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a small disk")
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "none", folder], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no small disk could be mounted: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_cached_files_give_way_before_the_disk_is_full(make_site, disk):
    site = make_site("filestorage", cache_size=1000 * MB)
    db = site.db(cache_dir=disk / "cache")
    for name in "abc":
        commit_blobs(db, **{name: os.urandom(8 * MB)})
    for path in disk.rglob("*.blob"):  # nobody asked for them for an hour
        os.utime(path, (time.time() - 3600, path.stat().st_mtime))
    (disk / "log").write_bytes(bytes(7 * MB + MB // 2))  # 0.5 MB are left
    data = os.urandom(200_000)
    commit_blobs(db, d=data)
    assert read_blob(db, "d") == data
    assert os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize > 8 * MB
    assert db.storage.cache.counters.snapshot()["evictions"] >= 1


def test_a_disk_that_others_filled_refuses_and_leaves_nothing(make_site, disk, settings):
    site = make_site("filestorage", cache_size=1000 * MB)
    db = site.db(cache_dir=disk / "cache", staging_dir=disk / "staging")
    temporary = disk / "tmp"
    temporary.mkdir()
    (disk / "log").write_bytes(bytes(32 * MB - 400_000))
    kept, tempfile.tempdir = tempfile.tempdir, str(temporary)  # the same disk: nowhere else to go
    try:
        with pytest.raises(StagingError, match="staging-dir"):
            commit_blobs(db, a=os.urandom(200_000))
    finally:
        tempfile.tempdir = kept
    assert files_below(disk / "staging") == files_below(temporary) == []
    (disk / "log").unlink()
    commit_blobs(db, a=b"a")
    assert read_blob(db, "a") == b"a"


@pytest.mark.parametrize("of_its_own", [False, True])
def test_what_zodb_writes_goes_where_there_is_room(make_site, disk, tmp_path, of_its_own):
    """A blob that is opened for writing: ZODB writes it before the storage sees it, and knows one folder only."""
    site = make_site("filestorage", cache_size=1000 * MB)
    more = {"staging_dir": disk / "staging"} if of_its_own else {}
    db = site.db(cache_dir=disk / "cache", **more)
    assert db.storage.temporaryDirectory().startswith(str(disk))
    (disk / "log").write_bytes(bytes(32 * MB - 400_000))
    data = os.urandom(3 * MB)
    with connected(db) as connection:
        blob = connection.root()["a"] = Blob()
        connection.add(blob)
        with blob.open("w") as file:
            file.write(data)
        assert not blob._p_blob_uncommitted.startswith(str(disk))
        connection.transaction_manager.savepoint()
        with blob.open("r+") as file:
            file.write(b"changed")
        connection.transaction_manager.commit()
    db.storage.uploads.settle()
    assert read_blob(db, "a") == b"changed" + data[7:]
    other = Path(db.storage.temporaryDirectory())
    assert files_below(other) == []
    (disk / "log").unlink()
    assert db.storage.temporaryDirectory().startswith(str(disk))


def test_check_names_a_full_disk(disk, settings, tmp_path):
    (disk / "cache").mkdir(mode=0o700)
    conf = tmp_path / "site.conf"
    base = f"<filestorage>\n  path {tmp_path}/Data.fs\n</filestorage>"
    conf.write_text("%import collective.s3blobstorage\n" + section(settings, disk / "cache", base))
    with (disk / "log").open("wb", buffering=0) as log, contextlib.suppress(OSError):
        while True:
            log.write(bytes(65536))
    told = document(s3blobs("--config", conf, "check", "--no-base", "--no-write", "--json", env=keys_of(settings)))
    [finding] = [finding for finding in told["findings"] if finding["name"] == "cache-dir"]
    assert finding["detail"].endswith("takes no file: No space left on device")
    assert finding["mend"] == "cache-dir: make room on its disk"


def test_the_volume_of_three_cache_sizes_is_never_full(make_site, tmp_path):
    """docs/deployment.md, "Sizes": eight writers of 600 kB and a bound of 6 MB; what does not fit is refused.

    Each writer opens the blob that it wrote before, so that file was handed out and is not evicted for six minutes.

    The volume's use is looked at all the time, as Kubernetes does, by the blocks of every file.
    """
    size = 6 * MB
    site = make_site("filestorage", cache_size=size, commit_within_cache_size=True)
    db = site.db()
    for number in range(8):
        commit_blobs(db, **{f"n{number}": b"-"})
    refused: list[int] = []
    most, ended = 0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not ended.is_set():
            most = max(most, in_flight([site.settings.cache_dir]))

    def write(number: int) -> int:
        done = 0
        for turn in range(8):
            try:
                with connected(db) as connection:
                    blob = connection.root()[f"n{number}"]
                    with blob.open("r") as file:
                        assert file.read(1)
                    with blob.open("w") as file:
                        file.write(bytes([number, turn]) * 300_000)
                    connection.transaction_manager.commit()
                    done += 1
            except StagingError:
                refused.append(turn)
        return done

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with ThreadPoolExecutor(8) as pool:
            committed = list(pool.map(write, range(8)))
    finally:
        ended.set()
        watcher.join()
    assert sum(committed) >= 8
    assert refused, "64 of 600 kB are in use and do not fit into 12 MB"
    assert size < most < 3 * size
    for number in range(8):
        data = read_blob(db, f"n{number}")
        assert data == b"-" or (len(data) == 600_000 and data[0] == number)
