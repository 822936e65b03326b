"""Locks between threads and processes."""

import errno
import os
import threading

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
