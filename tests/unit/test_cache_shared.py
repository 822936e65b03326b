"""One cache-dir for several databases: one bound, one cleaner, and what nobody may touch."""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
import time
from pathlib import Path

import pytest
from cache_state import until_idle

from collective.s3blobstorage.cache import BlobCache, bound, cleaner
from collective.s3blobstorage.cache.cleaner import Cleaner
from collective.s3blobstorage.cache.layout import FORMAT, KIND, Layout
from collective.s3blobstorage.cache.locks import FileLock
from collective.s3blobstorage.cache.processes import ProcessFolder
from collective.s3blobstorage.errors import ConfigurationError, StagingError

BLOCK = 16 * 1024  # a whole number of blocks on every usual file system


def revision(number):
    return number.to_bytes(8, "big"), bytes(8)


def download_of(blocks):
    return lambda file: file.write(b"x" * BLOCK * blocks)


class Clock:
    """A clock that stands until it is moved; it starts at the real time, as the kernel's own times do."""

    def __init__(self):
        self.now = time.time()

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def opened(tmp_path, clock, monkeypatch):
    """Opens a cache. Its own thread, which would clean and sync when it likes, does not run."""
    caches = []
    monkeypatch.setattr(Cleaner, "start", lambda self: None)

    def open_cache(identity, blocks=1000, **options):
        options = {"protect": 10.0, "clock": clock, **options}
        cache = BlobCache(tmp_path / "cache", identity, size=blocks * BLOCK, **options)
        cache.clean()  # as its thread does at the start
        caches.append(cache)
        return cache

    yield open_cache
    for cache in caches:
        cache.close()


def present(tmp_path, identity):
    """Which are there, without noting a use."""
    folder = Layout(tmp_path / "cache", identity).blobs
    return sorted(int(path.name[:16], 16) for path in folder.glob("*/*.blob"))


def test_the_least_recently_used_go_whosever_they_are(tmp_path, clock, opened):
    one, two = opened("one"), opened("two")
    for number in range(6):
        one.fetch(*revision(number), download_of(1))
        clock.now += 1
        two.fetch(*revision(number), download_of(1))
        clock.now += 1
    clock.now += 100
    one.get(*revision(0))
    clock.now += 100
    three = opened("three", 10)
    three.clean()
    # A cleaning leaves nine of ten blocks; twelve were there, and the oldest use is that of two's 0.
    assert present(tmp_path, "one") == [0, 2, 3, 4, 5]
    assert present(tmp_path, "two") == [2, 3, 4, 5]


def test_a_reader_of_one_protects_from_the_cleaner_of_the_other(tmp_path, clock, opened):
    one, two = opened("one"), opened("two", 1)
    one.fetch(*revision(1), download_of(5))
    two.clean()
    assert present(tmp_path, "one") == [1]
    clock.now += 100
    two.clean()
    assert present(tmp_path, "one") == []
    with one.open(*revision(1), download_of(5)) as file:
        assert len(file.read()) == 5 * BLOCK


def test_of_two_sizes_the_smallest_counts(tmp_path, clock, opened):
    large, small = opened("one", 1000), opened("two", 10)
    for number in range(30):
        large.fetch(*revision(number), download_of(1))
    clock.now += 100
    large.clean()
    assert len(present(tmp_path, "one")) == 30
    small.clean()
    assert len(present(tmp_path, "one")) == 9


def test_one_cleaner_at_a_time_for_all_stores(tmp_path, clock, opened):
    one, two = opened("one", 1), opened("two", 1)
    for cache in (one, two):
        cache.clean()  # what each does at its start
    one.fetch(*revision(1), download_of(5))
    until_idle(one, two)
    clock.now += 100
    lock = FileLock.take(tmp_path / "cache" / "cleaner.lock", wait=10.0)
    assert lock is not None
    cleaning = threading.Thread(target=two.clean)
    cleaning.start()
    cleaning.join(0.3)
    assert cleaning.is_alive() and present(tmp_path, "one") == [1]
    lock.release()
    cleaning.join()
    assert present(tmp_path, "one") == []


def clean_at_once(tmp_path, caches, monkeypatch):
    """All have asked for the lock before the first one gets it."""
    until_idle(*caches)
    asked = set()

    class Noting(FileLock):
        @classmethod
        def take(cls, path, **more):
            if path.name == "cleaner.lock":
                asked.add(threading.get_ident())
            return FileLock.take(path, **more)

    lock = FileLock.take(tmp_path / "cache" / "cleaner.lock", wait=10.0)
    assert lock is not None
    threads = [threading.Thread(target=cache.clean) for cache in caches]
    with monkeypatch.context() as patched:
        patched.setattr(cleaner, "FileLock", Noting)
        for thread in threads:
            thread.start()
        while not {thread.ident for thread in threads} <= asked:
            time.sleep(0.01)
    lock.release()
    for thread in threads:
        thread.join()


def test_of_many_that_wait_for_each_other_one_reads_the_folders(tmp_path, clock, opened, monkeypatch):
    """Ten processes that are started at one time do not read a million files ten times."""
    caches = [opened(f"store {number}", 10 + number) for number in range(6)]
    for number in range(30):
        caches[0].fetch(*revision(number), download_of(1))
    clock.now += 100
    clean_at_once(tmp_path, caches, monkeypatch)
    assert len(present(tmp_path, "store 0")) == 9, "whoever was first, the smallest bound is kept"
    surveys, survey = [], bound.survey

    def noted_survey(*arguments):
        surveys.append(arguments)
        return survey(*arguments)

    monkeypatch.setattr(bound, "survey", noted_survey)
    clean_at_once(tmp_path, caches, monkeypatch)
    assert len(surveys) == 1
    caches[0].clean()
    assert len(surveys) == 2, "what is asked for later is looked at"


def test_what_other_databases_stage_counts_and_stays(tmp_path, clock, opened):
    one, two = opened("one", 10), opened("two", 10)
    staged = two.staging() / "staged"
    staged.write_bytes(b"x" * 5 * BLOCK)
    for number in range(8):
        one.fetch(*revision(number), download_of(1))
        clock.now += 1
    clock.now += 100
    one.clean()
    assert staged.exists()
    assert present(tmp_path, "one") == [4, 5, 6, 7]


def test_counters_that_are_being_written_count_for_nothing(tmp_path, clock, opened):
    """Else it would be a matter of a moment which file goes."""
    cache = opened("one", 10)
    for number in range(9):
        cache.fetch(*revision(number), download_of(1))
    until_idle(cache)
    clock.now += 100
    (cache.staging().parent / "counters.json.0123456789abcdef").write_bytes(b"x" * BLOCK)
    cache.clean()
    assert present(tmp_path, "one") == list(range(9))


def test_commits_within_the_bound_count_over_all_databases(tmp_path, opened):
    one, two = opened("one", 10), opened("two", 10, limit_commits=True)
    (one.staging() / "staged").write_bytes(b"x" * 8 * BLOCK)
    upload = tmp_path / "upload"
    upload.write_bytes(b"x" * 3 * BLOCK)
    with pytest.raises(StagingError, match="cache-size"):
        two.make_room(upload, two.staging())


def test_what_a_dead_process_of_another_database_left_is_swept(tmp_path, opened):
    one, two = opened("one"), opened("two")
    dead = ProcessFolder.make(Layout(tmp_path / "cache", "two").processes)
    (dead.path / "staging").mkdir()
    (dead.path / "staging" / "staged").write_bytes(b"x")
    one.clean()
    assert dead.path.exists()
    dead._lock.release()  # as the kernel does it when the process is killed
    one.clean()
    assert not dead.path.exists()
    assert two.staging().exists(), "a living one's stays"


def test_a_database_that_nobody_opens_any_more_is_evicted_too(tmp_path, clock, opened):
    gone = opened("gone")
    for number in range(20):
        gone.fetch(*revision(number), download_of(1))
    gone.close()
    clock.now += 100
    opened("here", 10).clean()
    assert len(present(tmp_path, "gone")) == 9


# What is not ours


def marked(folder, **marker):
    folder.mkdir(parents=True)
    (folder / "cache.json").write_text(json.dumps(marker))
    return folder


def old_file(folder, name="0000000000000001-0000000000000000.blob"):
    path = folder / "blobs" / "001" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * 4 * BLOCK)
    os.utime(path, (0, 0))
    return path


def test_folders_without_our_marker_are_never_touched(tmp_path, clock, opened):
    root = tmp_path / "cache"
    other = Layout(root, "other").store
    kept = [
        old_file(root / "0123456789abcdef"),
        old_file(root / "media"),
        old_file(marked(root / "1123456789abcdef", kind="of something else", format=1, store="x")),
        old_file(marked(root / "2123456789abcdef", kind=KIND, format=1, store="whose name is another")),
        old_file(marked(root / "3123456789abcdef", kind=KIND)),
        old_file(marked(root / other, kind=KIND, format=FORMAT + 1, store="other")),
        old_file(marked(tmp_path / "elsewhere", kind=KIND, format=FORMAT, store="linked")),
    ]
    (root / Layout(root, "linked").store).symlink_to(tmp_path / "elsewhere")
    dead = [path.parents[2] / "processes" / "1-2-3" / "lock" for path in kept]
    for lock in dead:
        lock.parent.mkdir(parents=True)
        lock.touch()
    cache = opened("ours", 1)
    clock.now += 100
    cache.clean()
    assert all(path.exists() for path in [*kept, *dead])


def test_in_our_folders_only_files_of_our_names_go(tmp_path, clock, opened):
    cache = opened("ours", 1)
    folder = Layout(tmp_path / "cache", "ours").folder
    kept = [old_file(folder, name) for name in ("notes.blob", "1-2.blob", "x.map", "Photo.part", "core")]
    outside = tmp_path / "outside"
    kept.append(old_file(outside))
    (folder / "blobs" / "fff").symlink_to(outside / "blobs" / "001")
    ours = old_file(folder)
    clock.now += 100
    cache.clean()
    assert all(path.exists() for path in kept)
    assert not ours.exists()


def test_the_root_of_the_file_system_is_refused():
    with pytest.raises(ConfigurationError, match="cache-dir '/' is the root of the file system"):
        Layout(Path("/"), "store").check_foreign()


def test_a_home_directory_is_refused_where_something_lies_in_it(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    BlobCache(tmp_path, "store", size=BLOCK).close()  # a service's user may have the cache for its home
    BlobCache(tmp_path, "store", size=BLOCK).close()
    (tmp_path / ".profile").write_text("")
    with pytest.raises(ConfigurationError, match="cache-dir .* is a home directory"):
        BlobCache(tmp_path, "store", size=BLOCK)
    assert (tmp_path / ".profile").exists()


# What a restart costs


def calls_until_served(root):
    """How many functions in C, system calls among them, this thread runs from opening a cache to its first file."""
    calls = []
    sys.setprofile(lambda frame, event, function: calls.append(function) if event == "c_call" else None)
    try:
        cache = BlobCache(root, "store", size=1000 * BLOCK)
        path = cache.get(*revision(1))
    finally:
        sys.setprofile(None)
    cache.close()
    assert path is not None
    return len(calls)


def test_a_restart_does_not_look_at_the_files(tmp_path):
    """So a million of them cost what one costs: what is done before the first file is served is the same."""
    root = tmp_path / "cache"
    cache = BlobCache(root, "store", size=1000 * BLOCK)
    path = cache.fetch(*revision(1), lambda file: file.write(b"x"))
    cache.close()
    # The thread's start is a matter of timing, and so is waiting for it: the least of several.
    with_one = min(calls_until_served(root) for _ in range(5))
    for number in range(2000):
        target = Path(Layout(root, "store").blob(*revision(128 * number + 15)))
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(b"")
    shutil.copy2(path, path.with_name(path.name.replace("01-", "02-")))
    assert abs(min(calls_until_served(root) for _ in range(5)) - with_one) <= 10
    assert with_one < 500
