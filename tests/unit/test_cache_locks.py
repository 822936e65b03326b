"""Locks between threads and processes."""

import errno
import os
import threading
import time

import pytest
from cache_state import downloads_are_locked

from collective.s3blobstorage.cache import BlobCache, locks
from collective.s3blobstorage.cache.locks import FileLock


@pytest.fixture(params=["places in one file", "a file for each key", "a kernel that knows no places"])
def by(request, monkeypatch):
    """The others are what systems without F_OFD_SETLK get, and sandboxes that have its name only."""
    monkeypatch.setattr(locks, "_places", request.param != "a file for each key")
    if "kernel" in request.param:

        def refuse(*arguments):
            raise OSError(errno.EINVAL, "Invalid argument")

        monkeypatch.setattr(locks, "_set", refuse)
    return request.param


@pytest.fixture
def path(tmp_path):
    return tmp_path / "downloads.lock"


def test_one_holder_per_key(by, path):
    one, other = FileLock.take(path, key="one"), FileLock.take(path, key="other")
    assert one is not None and other is not None
    assert FileLock.take(path, key="one") is None
    one.release(remove=True)
    assert FileLock.take(path, key="other", wait=0.05) is None
    again = FileLock.take(path, key="one")
    assert again is not None
    again.release(remove=True)
    other.release(remove=True)
    assert [found.name for found in path.parent.iterdir()] == (
        [] if by == "a file for each key" else ["downloads.lock"]
    )


def test_a_lock_on_the_file_is_none_on_a_place_in_it(path):
    """``cleaner.lock`` and the like are taken as a whole, and nothing else is."""
    assert FileLock.take(path) is not None
    assert FileLock.take(path, key="one") is not None


def test_who_waits_gets_it_next(by, path):
    held = FileLock.take(path, key="one")
    got = []
    thread = threading.Thread(target=lambda: got.append(FileLock.take(path, key="one", wait=10.0)))
    thread.start()
    thread.join(0.1)
    assert got == []
    held.release(remove=True)
    thread.join(10)
    assert got[0] is not None and FileLock.take(path, key="one") is None
    got[0].release(remove=True)


def test_a_child_holds_nothing_of_its_parent(by, path):
    held = FileLock.take(path, key="one")
    told, tell = os.pipe()
    child = os.fork()
    if not child:
        held.release(remove=True)  # not the child's to release
        os.write(tell, b"y" if FileLock.take(path, key="one") is None else b"n")
        os._exit(0)
    assert os.read(told, 1) == b"y"
    os.waitpid(child, 0)
    assert FileLock.take(path, key="one") is None
    held.release(remove=True)
    after = FileLock.take(path, key="one")
    assert after is not None
    after.release()
    os.close(told)
    os.close(tell)


def test_a_parent_that_is_gone_is_not_outlived_by_its_lock(path):
    """A child that lives on has closed its copies."""
    told, tell = os.pipe()
    parent = os.fork()
    if not parent:
        assert FileLock.take(path, key="one") is not None
        if not os.fork():
            os.write(tell, b"%8d" % os.getpid())
            threading.Event().wait(60)
        os._exit(0)
    child = int(os.read(told, 8))
    try:
        os.waitpid(parent, 0)
        assert FileLock.take(path, key="one", wait=1.0) is not None
    finally:
        os.kill(child, 9)
        os.close(told)
        os.close(tell)


def test_where_the_file_was_deleted_the_next_one_locks_a_new_one(path):
    old = FileLock.take(path, key="one")
    path.unlink()
    new = FileLock.take(path, key="one")
    assert new is not None and not old.is_named() and new.is_named()


def test_a_download_is_locked_while_it_runs(by, tmp_path):
    cache = BlobCache(tmp_path / "cache", "store", size=10**6)
    seen = []

    def download(file):
        seen.extend(found.name for found in tmp_path.glob("cache/*/downloads.lock*"))
        assert downloads_are_locked(tmp_path) is (by == "places in one file")
        file.write(b"x")

    cache.fetch(bytes(8), bytes(8), download)
    assert len(seen) == (2 if "kernel" in by else 1) and not downloads_are_locked(tmp_path)
    assert list(tmp_path.glob("cache/*/downloads.lock.*")) == []
    cache.close()


def test_the_cleaner_removes_the_file_of_a_key_that_a_killed_process_left(tmp_path):
    cache = BlobCache(tmp_path / "cache", "store", size=10**6)
    cache.fetch(bytes(8), bytes(8), lambda file: file.write(b"x"))
    (kept,) = tmp_path.glob("cache/*/downloads.lock")
    left = kept.with_name("downloads.lock.0000000000000001")
    left.touch()
    cache.clean()
    assert kept.exists() and not left.exists()
    cache.close()


def test_a_child_that_is_forked_while_a_lock_is_being_taken_does_not_hold_it(by, path, monkeypatch):
    """While another thread, such as the cleaner's, takes it: the kernel has granted it, and nobody was told yet."""
    named, children, others = locks._named, [], set(locks._held)
    end_of_child, ours = os.pipe()

    def fork_now(name):
        child = os.fork()
        if child == 0:
            os.close(ours)
            os.read(end_of_child, 1)  # until the other end is closed
            os._exit(0)
        children.append(child)
        return named(name)

    monkeypatch.setattr(locks, "_named", fork_now)
    thread = threading.Thread(target=FileLock.take, args=(path,), kwargs={"key": "one"})
    thread.start()
    thread.join(10)
    monkeypatch.setattr(locks, "_named", named)
    try:
        [held] = locks._held - others
        os.close(held)  # as the kernel does when the parent is killed: without letting go by name
        locks._held.discard(held)
        assert FileLock.take(path, key="one", wait=5.0) is not None, "the child keeps it alive"
    finally:
        os.close(ours)
        for child in children:
            os.waitpid(child, 0)


def test_forks_and_locks_at_once_leave_none_behind(path, tier):
    """Threads that take and leave locks while others fork: nobody hangs, and no child holds one."""
    stop, failures = threading.Event(), []

    def lock():
        while not stop.is_set():
            found = FileLock.take(path, key="busy", wait=10.0)
            if found is None:
                failures.append("nobody let go")
                return
            found.release()

    threads = [threading.Thread(target=lock) for _ in range(3)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + tier["race_seconds"]
    children = []
    while time.monotonic() < deadline:
        child = os.fork()
        if child == 0:
            os._exit(3 if locks._held else 0)
        children.append(child)
    stop.set()
    for thread in threads:
        thread.join(30)
    assert {os.waitpid(child, 0)[1] for child in children} == {0}
    assert failures == [] and not any(thread.is_alive() for thread in threads)
