"""The bound of the cache: what is evicted, when, and what never."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from pathlib import Path

import pytest
from cache_state import downloads_are_locked
from waiting import wait_until

from collective.s3blobstorage.cache import BlobCache, bound
from collective.s3blobstorage.cache.cleaner import Cleaner
from collective.s3blobstorage.cache.layout import Layout, stores

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
def opened(monkeypatch):
    """Opens a cache. Its own thread, which would clean when it likes, runs only where the test is about that."""
    caches = []
    start = Cleaner.start

    def open_cache(root, blocks, *, by_itself=False, **options):
        monkeypatch.setattr(Cleaner, "start", start if by_itself else lambda self: None)
        cache = BlobCache(root, "store", size=blocks * BLOCK, **options)
        caches.append(cache)
        return cache

    yield open_cache
    for cache in caches:
        cache.close()


def present(root, numbers):
    """Which are there, without noting a use."""
    names = {path.name[:16] for path in root.glob("*/blobs/*/*.blob")}
    return [number for number in numbers if f"{number:016x}" in names]


def disk_use(root):
    total = 0
    for path in root.glob("*/blobs/*/*"):
        try:
            total += path.stat().st_blocks * 512
        except FileNotFoundError:
            pass
    return total


@pytest.mark.parametrize(
    ("used", "sizes", "excess", "limit"),
    [
        ([], [], 10, None),
        ([3.0, 1.0, 2.0], [5, 5, 5], 0, None),
        ([3.0, 1.0, 2.0], [5, 5, 5], -4, None),
        ([3.0, 1.0, 2.0], [5, 5, 5], 1, 1.0),
        ([3.0, 1.0, 2.0], [5, 5, 5], 5, 1.0),
        ([3.0, 1.0, 2.0], [5, 5, 5], 6, 2.0),
        ([3.0, 1.0, 2.0], [5, 5, 5], 99, 3.0),
        ([3.0, float("-inf"), 2.0], [5, 50, 5], 20, float("-inf")),
    ],
)
def test_the_oldest_go_until_enough_goes(used, sizes, excess, limit):
    found = bound.Survey()
    found.used.extend(used)
    found.sizes.extend(sizes)
    assert bound.oldest(found, excess) == limit


def test_the_least_recently_used_go_first(tmp_path, clock, opened):
    cache = opened(tmp_path, 100, protect=10.0, clock=clock)
    for number in range(12):
        cache.fetch(*revision(number), download_of(1))
        clock.now += 1
    clock.now += 100
    for number in (0, 5):
        cache.get(*revision(number))
    clock.now += 100
    cache.close()
    cache = opened(tmp_path, 10, protect=10.0, clock=clock)
    cache.clean()
    # A cleaning leaves nine of ten blocks: 0 and 5, which were used last, and of the others the youngest seven.
    assert present(tmp_path, range(12)) == [0, 4, 5, 6, 7, 8, 9, 10, 11]


def test_a_use_is_noted_where_the_file_system_notes_none(tmp_path, clock, opened):
    """Neither relatime nor noatime matter, and the time of modification stays."""
    cache = opened(tmp_path, 100, protect=10.0, clock=clock)
    path = cache.fetch(*revision(1), download_of(1))
    before = path.stat()
    clock.now += 1000
    assert cache.get(*revision(1)) == path
    after = path.stat()
    assert after.st_atime == pytest.approx(clock.now, abs=0.001)
    assert after.st_mtime_ns == before.st_mtime_ns
    clock.now += 1.9  # less than a fifth of the protection: not noted again
    cache.get(*revision(1))
    assert path.stat().st_atime_ns == after.st_atime_ns
    clock.now += 0.2
    cache.get(*revision(1))
    assert path.stat().st_atime == pytest.approx(clock.now, abs=0.001)


def test_what_was_handed_out_lately_stays_whatever_the_bound(tmp_path, clock, opened):
    cache = opened(tmp_path, 2, protect=10.0, clock=clock)
    for number in range(8):
        cache.fetch(*revision(number), download_of(1))
    cache.clean()
    assert present(tmp_path, range(8)) == list(range(8))
    clock.now += 9.9
    cache.get(*revision(3))
    clock.now += 2.2  # past the protection and the interval of noting
    cache.clean()
    assert present(tmp_path, range(8)) == [3]
    assert cache.counters.snapshot()["evictions"] == 7


def test_a_use_that_was_not_noted_protects_all_the_same(tmp_path, clock, opened):
    cache = opened(tmp_path, 1, protect=10.0, clock=clock)
    cache.fetch(*revision(1), download_of(2))
    clock.now += 1.9
    cache.get(*revision(1))  # too soon after the first one to be noted
    clock.now += 9.9
    cache.clean()
    assert present(tmp_path, [1]) == [1]
    clock.now += 0.3
    cache.clean()
    assert present(tmp_path, [1]) == []


def test_the_bound_holds_soon_after_the_start(tmp_path, opened):
    cache = opened(tmp_path, 1000, by_itself=True, protect=0.0)
    for number in range(40):
        cache.fetch(*revision(number), download_of(1))
    cache.close()
    assert disk_use(tmp_path) >= 40 * BLOCK
    opened(tmp_path, 10, by_itself=True, protect=0.0)
    wait_until(lambda: disk_use(tmp_path) <= 10 * BLOCK)


def test_the_bound_holds_in_use(tmp_path, opened):
    cache = opened(tmp_path, 20, by_itself=True, protect=0.0)
    for number in range(200):
        cache.fetch(*revision(number), download_of(1))
    wait_until(lambda: disk_use(tmp_path) <= 20 * BLOCK)
    assert present(tmp_path, range(200)), "it keeps what fits"


def test_the_bound_holds_for_what_is_committed(tmp_path, opened):
    """And copying gigabytes into the store is not protected as a whole, nor does it sweep out what is read."""
    cache = opened(tmp_path, 20, by_itself=True, protect=300.0)
    cache.fetch(*revision(1000), download_of(1))
    for number in range(200):
        staged = cache.staging() / str(number)
        staged.write_bytes(b"x" * BLOCK)
        assert cache.adopt(*revision(number), staged)
    wait_until(lambda: disk_use(tmp_path) <= 20 * BLOCK)
    assert present(tmp_path, [1000]) == [1000]


def test_what_was_protected_goes_by_itself_later(tmp_path, opened):
    cache = opened(tmp_path, 2, by_itself=True, protect=1.0)
    for number in range(8):
        cache.fetch(*revision(number), download_of(1))
    assert present(tmp_path, range(8)) == list(range(8))
    wait_until(lambda: disk_use(tmp_path) <= 2 * BLOCK)


def test_cleaning_waits_for_no_lock_of_tempfile(tmp_path, opened, monkeypatch):
    """A forked child inherits that lock as it is: held, where another thread just asked for the temporary folder."""
    monkeypatch.setattr("tempfile.tempdir", None)
    cache = opened(tmp_path, 10)
    with tempfile._once_lock:
        cleaning = threading.Thread(target=cache.clean, daemon=True)
        cleaning.start()
        cleaning.join(10)
        assert not cleaning.is_alive()


def test_a_file_larger_than_the_bound_is_served_and_goes_first(tmp_path, clock, opened):
    cache = opened(tmp_path, 10, protect=10.0, clock=clock)
    cache.fetch(*revision(1), download_of(1))
    clock.now += 1
    assert cache.fetch(*revision(2), download_of(11)).stat().st_size == 11 * BLOCK
    cache.clean()
    assert present(tmp_path, [1, 2]) == [1, 2]
    clock.now += 100
    cache.clean()
    assert present(tmp_path, [1, 2]) == [1]


def test_staged_files_count_and_stay(tmp_path, clock, opened):
    cache = opened(tmp_path, 10, protect=0.0, clock=clock)
    for number in range(8):
        cache.fetch(*revision(number), download_of(1))
        clock.now += 1
    staged = cache.staging() / "staged"
    staged.write_bytes(b"x" * 5 * BLOCK)
    cache.clean()
    assert staged.exists()
    assert present(tmp_path, range(8)) == [4, 5, 6, 7]


def test_a_download_that_is_running_counts_and_stays(tmp_path, opened):
    cache = opened(tmp_path, 10, protect=0.0)
    cache.fetch(*revision(1), download_of(4))
    checked = []

    def download(file):
        file.write(b"x" * 8 * BLOCK)
        cache.clean()
        checked.append(present(tmp_path, [1]))
        file.write(b"y")

    with cache.open(*revision(2), download) as file:
        assert os.fstat(file.fileno()).st_size == 8 * BLOCK + 1
    assert checked == [[]]


def test_files_of_a_later_release_count_and_stay(tmp_path, clock, opened):
    cache = opened(tmp_path, 10, protect=0.0, clock=clock)
    path = cache.fetch(*revision(1), download_of(1))
    clock.now += 1
    parts = path.with_suffix(".parts")
    parts.write_bytes(b"x" * 20 * BLOCK)
    os.utime(parts, (0, 0))
    cache.clean()
    assert parts.exists()
    assert present(tmp_path, [1]) == []


def test_a_clock_that_is_set_back_neither_evicts_nor_keeps_for_ever(tmp_path, clock, opened):
    cache = opened(tmp_path, 2, protect=10.0, clock=clock)
    for number in range(4):
        cache.fetch(*revision(number), download_of(1))
    clock.now -= 86400
    assert cache.get(*revision(3)) is not None
    cache.clean()
    assert present(tmp_path, range(4)) == [0, 1, 2, 3]  # may have been handed out a moment ago
    clock.now += 13
    cache.clean()
    assert disk_use(tmp_path) <= 2 * BLOCK


def entry_of(root, path):
    (store,) = stores(root)
    (entry,) = [entry for files in bound._folders(store, lambda: False) for entry in files.entries]
    assert entry.path == str(path)
    return entry


def test_a_use_between_the_look_and_the_removal_saves_the_file(tmp_path, clock, opened):
    cache = opened(tmp_path, 100, protect=10.0, clock=clock)
    path = cache.fetch(*revision(1), download_of(1))
    seen = entry_of(tmp_path, path)
    clock.now += 1000
    cache.get(*revision(1))
    assert bound._remove(seen) is False
    assert path.exists()
    assert bound._remove(entry_of(tmp_path, path)) is True
    assert list(path.parent.iterdir()) == []


def racing(tier, enough):
    """Whether to go on: for the tier's time, and until ``enough()`` was done, which a busy machine does later."""
    started = time.monotonic()

    def goes_on() -> bool:
        elapsed = time.monotonic() - started
        return elapsed < tier["race_seconds"] or (elapsed < 60 and not enough())

    return goes_on


def test_many_readers_beside_a_merciless_cleaner_get_every_byte(tmp_path, opened, tier):
    cache = opened(tmp_path, 4, by_itself=True, protect=0.0)
    wrong, opens = [], []

    def enough() -> bool:
        return len(opens) > 100 and cache.counters.snapshot()["evictions"] > 20

    goes_on = racing(tier, enough)

    def read(seed):
        number = seed
        while goes_on():
            number = (number * 7 + 3) % 23
            data = b"%02d" % number * (BLOCK // 2)
            with cache.open(*revision(number), lambda file, data=data: file.write(data)) as file:
                opens.append(1)
                if file.read() != data:
                    wrong.append(number)

    def clean():
        while goes_on():
            cache.clean()

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(6)] + [threading.Thread(target=clean)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == [] and enough()


# Parts of large blobs: a sparse file and the map of what is in it. Made by hand, as a reader by parts leaves them.


def make_pair(root, number, used, *, blocks, of=1000):
    """``blocks`` of the blob's ``of`` blocks are here, at its end."""
    (store,) = stores(root)
    path = Path(Layout(root, "store").blob(*revision(number)))
    path.parent.mkdir(exist_ok=True)
    assert store.blobs in path.parents
    data, map_ = path.with_suffix(".part"), path.with_suffix(".map")
    with open(data, "xb") as file:
        file.seek((of - blocks) * BLOCK)
        file.write(b"x" * blocks * BLOCK)
    map_.write_bytes(b"m" * 100)
    os.utime(map_, (used, used))
    os.utime(data, (0, 0))
    return data, map_


def pairs(root, numbers):
    names = {path.name for path in root.glob("*/blobs/*/*")}
    there = {}
    for number in numbers:
        name = f"{number:016x}-{0:016x}"
        there[number] = (f"{name}.part" in names, f"{name}.map" in names)
    assert all(part == map_ for part, map_ in there.values()), "never one without the other"
    return [number for number, (part, _) in there.items() if part]


def test_parts_count_by_what_they_take_of_the_disk(tmp_path, clock, opened):
    cache = opened(tmp_path, 10, protect=10.0, clock=clock)
    cache.clean()
    data, _ = make_pair(tmp_path, 1, clock.now - 1000, blocks=5)
    assert data.stat().st_size == 1000 * BLOCK > 10 * data.stat().st_blocks * 512
    cache.clean()
    assert pairs(tmp_path, [1]) == [1]
    make_pair(tmp_path, 2, clock.now - 100, blocks=6)
    cache.clean()
    assert pairs(tmp_path, [1, 2]) == [2]
    assert cache.counters.snapshot()["evictions"] == 1


def test_parts_and_complete_files_go_by_their_last_use(tmp_path, clock, opened):
    cache = opened(tmp_path, 15, protect=10.0, clock=clock)
    cache.clean()
    start = clock.now
    for number in range(8):
        cache.fetch(*revision(number), download_of(1))
        clock.now += 10
    clock.now = start + 1000
    for number in range(8):  # only now, since the cleaner's thread may clean meanwhile
        make_pair(tmp_path, 100 + number, start + 10 * number + 5, blocks=2)
    cache.clean()  # 24 blocks and the maps are there, less than 13.5 may stay: what was used last
    assert present(tmp_path, range(8)) == [4, 5, 6, 7]
    assert pairs(tmp_path, range(100, 108)) == [104, 105, 106, 107]


def test_parts_that_are_being_read_stay(tmp_path, clock, opened):
    cache = opened(tmp_path, 2, protect=10.0, clock=clock)
    cache.clean()
    make_pair(tmp_path, 1, clock.now - 5, blocks=4)
    make_pair(tmp_path, 2, clock.now - 50, blocks=4)
    cache.clean()
    assert pairs(tmp_path, [1, 2]) == [1]
    clock.now += 10
    cache.clean()
    assert pairs(tmp_path, [1]) == []


def test_a_use_noted_after_the_look_saves_both(tmp_path, clock, opened):
    cache = opened(tmp_path, 100, protect=10.0, clock=clock)
    cache.clean()
    _, map_ = make_pair(tmp_path, 1, clock.now - 1000, blocks=4)
    seen = entry_of(tmp_path, map_)
    os.utime(map_, (clock.now, clock.now))
    assert bound._remove(seen) is False
    assert pairs(tmp_path, [1]) == [1]
    assert bound._remove(entry_of(tmp_path, map_)) is True
    assert list(map_.parent.iterdir()) == []


def test_parts_whose_revision_is_locked_stay(tmp_path, clock, opened):
    """Somebody makes or completes them right now."""
    cache = opened(tmp_path, 2, protect=10.0, clock=clock)
    cache.clean()
    make_pair(tmp_path, 1, clock.now - 1000, blocks=4)
    lock = Layout(tmp_path, "store").lock(*revision(1), "map")
    cache.clean()
    assert pairs(tmp_path, [1]) == [1]
    lock.release(remove=True)
    cache.clean()
    assert pairs(tmp_path, [1]) == []
    assert not downloads_are_locked(tmp_path)


def test_an_open_reader_keeps_its_bytes(tmp_path, clock, opened):
    cache = opened(tmp_path, 2, protect=10.0, clock=clock)
    cache.clean()
    data, _ = make_pair(tmp_path, 1, clock.now - 1000, blocks=4)
    with open(data, "rb") as file:
        cache.clean()
        assert not data.exists()
        file.seek(-4 * BLOCK, os.SEEK_END)
        assert file.read() == b"x" * 4 * BLOCK


@pytest.mark.parametrize("left", [".part", ".map"])
def test_a_part_file_or_a_map_alone_goes_once_it_is_old(tmp_path, clock, opened, left):
    cache = opened(tmp_path, 100, protect=10.0, clock=clock)
    cache.clean()
    for path in make_pair(tmp_path, 1, clock.now, blocks=1):
        os.utime(path, (clock.now, clock.now))
        if path.suffix != left:
            path.unlink()
    cache.clean()
    assert len(list(tmp_path.glob("*/blobs/*/*"))) == 1, "somebody may be making it"
    clock.now += 20
    cache.clean()
    assert list(tmp_path.glob("*/blobs/*/*")) == []


@pytest.mark.parametrize("suffix", [".blob", ".map"])
def test_what_a_killed_cleaner_left_halfway_goes(tmp_path, clock, opened, suffix):
    cache = opened(tmp_path, 100, protect=10.0, clock=clock)
    path = cache.fetch(*revision(1), download_of(1)).with_suffix(suffix)
    path.with_name(path.name + ".going").write_bytes(b"x")
    cache.clean()
    assert [path.suffix for path in path.parent.iterdir()] == [".blob"]


def test_pairs_read_and_made_beside_a_merciless_cleaner_stay_pairs(tmp_path, opened, tier):
    """Readers open the map, then the data, and note the use; whoever makes a pair holds the lock of its revision."""
    cache = opened(tmp_path, 4, by_itself=True, protect=0.0)
    cache.clean()
    layout = Layout(tmp_path, "store")
    wrong, made, read = [], [], []

    def enough() -> bool:
        return min(len(made), len(read)) > 40

    goes_on = racing(tier, enough)

    def use(seed):
        number = seed
        while goes_on():
            number = (number * 7 + 3) % 11
            path = Path(layout.blob(*revision(number)))
            map_, data = path.with_suffix(".map"), path.with_suffix(".part")
            try:
                with open(map_, "rb") as index, open(data, "rb") as file:
                    os.utime(map_, (time.time(), time.time()))
                    if (index.read(), file.read()) != (b"%d" % number, b"%d" % number * BLOCK):
                        wrong.append(number)
                    read.append(number)
                continue
            except FileNotFoundError:
                pass
            lock = layout.lock(*revision(number), wait=1.0)
            if lock is None:
                continue
            try:
                for target, content in ((data, b"%d" % number * BLOCK), (map_, b"%d" % number)):
                    target.parent.mkdir(exist_ok=True)
                    temporary = tmp_path / f"new-{seed}"
                    temporary.write_bytes(content)
                    os.rename(temporary, target)
                made.append(number)
            finally:
                lock.release(remove=True)

    def clean():
        while goes_on():
            cache.clean()

    threads = [threading.Thread(target=use, args=(seed,)) for seed in range(4)] + [threading.Thread(target=clean)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert enough()
    # Nothing is protected here, so a look that came between the two files of a pair takes the first for one that a
    # crash has left: then the second is alone until the next look.
    cache.clean()
    pairs(tmp_path, range(11))
