"""The counters of a cache folder: of all processes, living and dead, each counted once."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time

import pytest

from collective.s3blobstorage.cache import BlobCache
from collective.s3blobstorage.cache.counters import Counters, add_to_total, counted_since_made
from collective.s3blobstorage.cache.layout import Layout
from collective.s3blobstorage.cache.locks import FileLock
from collective.s3blobstorage.cache.processes import ProcessFolder, living

MB = 1024 * 1024
NOTHING = dict.fromkeys(Counters.names, 0)


def revision(number):
    return number.to_bytes(8, "big"), bytes(8)


def write_ten(file):
    file.write(b"x" * 10)


@pytest.fixture
def layout(tmp_path):
    layout = Layout(tmp_path, "store")
    layout.prepare()
    return layout


def counted(layout):
    return {name: value for name, value in counted_since_made(layout)[0].items() if value}


def a_process(layout, **values):
    """The folder of a process that counted that, saved."""
    folder = ProcessFolder.make(layout.processes)
    counters = Counters()
    counters.keep_in(folder.path)
    for name, value in values.items():
        counters.add(name, value)
    counters.save()
    return folder


def die(folder):
    folder._lock.release()  # as the kernel does it when the process is killed


def sweep(layout):
    return list(living(layout.processes, bury=lambda folder: add_to_total(layout, folder)))


def test_living_and_dead_are_summed(layout):
    assert counted_since_made(layout)[0] == NOTHING
    one, two = a_process(layout, hits=1, bytes=10**12), a_process(layout, hits=2, parts=3)
    assert counted(layout) == {"hits": 3, "bytes": 10**12, "parts": 3}
    die(one)
    assert counted(layout) == {"hits": 3, "bytes": 10**12, "parts": 3}
    assert sweep(layout) == [two.path]
    assert not one.path.exists()
    assert counted(layout) == {"hits": 3, "bytes": 10**12, "parts": 3}
    die(two)
    assert sweep(layout) == []
    assert counted(layout) == {"hits": 3, "bytes": 10**12, "parts": 3}


def test_a_close_adds_to_the_total(tmp_path):
    for number in range(3):
        cache = BlobCache(tmp_path, "store", size=MB)
        cache.fetch(*revision(number), write_ten)
        cache.get(*revision(number))
        cache.close()
        cache.close()
    expected = {"hits": 3, "misses": 3, "downloads": 3, "bytes": 30}
    assert counted(Layout(tmp_path, "store")) == expected
    assert list(tmp_path.glob("*/processes/*")) == []


def test_a_download_is_saved_at_once_and_a_hit_at_the_next_tick(tmp_path, monkeypatch):
    monkeypatch.setattr("collective.s3blobstorage.cache.cleaner._TICK", 0.05)
    cache = BlobCache(tmp_path, "store", size=MB)
    layout = Layout(tmp_path, "store")
    cache.fetch(*revision(1), write_ten)
    assert counted(layout) == {"misses": 1, "downloads": 1, "bytes": 10}
    cache.get(*revision(1))
    end = time.monotonic() + 10
    while "hits" not in counted(layout):
        assert time.monotonic() < end
        time.sleep(0.01)
    cache.close()


def test_a_hit_writes_nothing(tmp_path):
    cache = BlobCache(tmp_path, "store", size=MB)
    cache._cleaner.close()  # which saves at its tick
    cache.fetch(*revision(1), write_ten)
    (saved,) = tmp_path.glob("*/processes/*/counters.json")
    before = saved.stat()
    for _ in range(1000):
        cache.get(*revision(1))
    assert (saved.stat().st_ino, saved.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert cache.counters.snapshot()["hits"] == 1000
    cache.close()


def test_threads_lose_nothing():
    counters = Counters()
    threads = [threading.Thread(target=lambda: [counters.add("hits") for _ in range(20_000)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counters.snapshot()["hits"] == 80_000


def test_sweeps_at_once_count_once(layout):
    for _ in range(20):
        dead = [a_process(layout, misses=1) for _ in range(10)]
        for folder in dead:
            die(folder)
        before = counted(layout).get("misses", 0)
        barrier = threading.Barrier(4)

        def many_sweeps(barrier=barrier):
            barrier.wait()
            for _ in range(3):
                sweep(layout)

        threads = [threading.Thread(target=many_sweeps) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert counted(layout)["misses"] == before
        assert list(layout.processes.iterdir()) == []
    assert before == 200


def test_a_sweeper_killed_after_adding_does_not_count_twice(layout):
    dead = a_process(layout, misses=5)
    die(dead)
    assert add_to_total(layout, dead.path)  # and then it is killed: the folder stays
    assert counted(layout) == {"misses": 5}
    sweep(layout)
    assert counted(layout) == {"misses": 5}
    assert not dead.path.exists()
    die(a_process(layout, misses=1))
    sweep(layout)
    assert counted(layout) == {"misses": 6}
    document = json.loads((layout.folder / "counters.json").read_text())
    assert len(document["added"]) == 1, "names of folders that are gone are forgotten"


def test_a_total_that_cannot_be_written_keeps_what_was_counted_and_nothing_else(layout):
    dead = a_process(layout, misses=5)
    (dead.path / "download").write_bytes(b"x" * MB)
    die(dead)
    (layout.folder / "counters.json").mkdir()  # as good as a disk that does not take it, also for root
    assert sweep(layout) == []
    assert sorted(path.name for path in dead.path.iterdir()) == ["counters.json", "lock"]
    (layout.folder / "counters.json").rmdir()
    sweep(layout)
    assert counted(layout) == {"misses": 5}
    assert not dead.path.exists()


def test_a_reader_beside_processes_that_come_and_go_sees_each_once(layout):
    sums, ended = [], threading.Event()

    def read():
        while not ended.is_set():
            sums.append(counted(layout).get("misses", 0))

    reader = threading.Thread(target=read)
    reader.start()
    count = 0
    while count < 150 or (len(set(sums)) <= 10 and count < 5000):  # until the reader got a chance to see some of them
        folder = a_process(layout, misses=1)
        add_to_total(layout, folder.path)
        folder.remove()
        count += 1
    ended.set()
    reader.join()
    assert sums == sorted(sums), "a sum that falls missed somebody, or had counted somebody twice"
    assert counted(layout) == {"misses": count}
    assert len(set(sums)) > 10


def test_a_reset_of_the_folder_starts_anew(tmp_path):
    cache = BlobCache(tmp_path, "store", size=MB)
    layout = Layout(tmp_path, "store")
    cache.fetch(*revision(1), write_ten)
    cache.clean()
    os.utime(layout.marker, (1_000_000_000, 1_000_000_000))
    assert counted_since_made(layout)[1] == 1_000_000_000
    while layout.folder.exists():  # its counters may be written into a folder that is just being emptied
        shutil.rmtree(layout.folder, ignore_errors=True)
    cache.fetch(*revision(2), write_ten)
    cache.counters.add("hits")
    cache.close()
    assert counted(layout) == {"hits": 1, "downloads": 1, "bytes": 10}  # the miss was before the folder was made again
    assert abs(counted_since_made(layout)[1] - time.time()) < 60


@pytest.mark.parametrize("text", ["", "{", "[]", '{"counters": 1}', '{"counters": {"hits": "x"}, "added": []}'])
def test_a_damaged_total_starts_anew(layout, text):
    (layout.folder / "counters.json").write_text(text)
    (a_process(layout, hits=1).path / "counters.json").write_text(text[:-1])
    assert counted(layout) == {}
    folder = a_process(layout, hits=2)
    assert add_to_total(layout, folder.path)
    assert counted(layout) == {"hits": 2}


def test_what_a_newer_process_counts_is_kept(layout):
    folder = a_process(layout, hits=1)
    (folder.path / "counters.json").write_text(json.dumps({"hits": 1, "new": 7}))
    die(folder)
    sweep(layout)
    assert counted(layout) == {"hits": 1, "new": 7}


def test_nothing_is_raised_where_the_disk_does_not_take_it(layout, tmp_path):
    counters = Counters()
    counters.keep_in(tmp_path / "not-there")
    counters.add("hits", 3)
    counters.save()
    assert counters.snapshot()["hits"] == 3
    lock = FileLock.take(layout.folder / "counters.lock")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("collective.s3blobstorage.cache.counters._PATIENCE", 0.05)
        assert add_to_total(layout, a_process(layout, hits=1).path) is False
    lock.release(remove=True)
