"""Complete files by oid and tid: getting, fetching, opening, adopting."""

from __future__ import annotations

import os
import stat
import threading
import time
from pathlib import Path

import pytest
from cache_state import Form, downloads_are_locked, stored_bytes, until_idle
from rings import ring
from waiting import wait_until
from zope.interface.verify import verifyObject

from collective.s3blobstorage.cache import BlobCache, downloads, durable, layout
from collective.s3blobstorage.cache.interfaces import IBlobCache
from collective.s3blobstorage.errors import BlobMissing, Unavailable

MB = 1024 * 1024
OID = bytes.fromhex("000000000000a1b2")
TID = bytes.fromhex("03f0000000000001")


def download_of(data, calls=None):
    def download(file):
        if calls is not None:
            calls.append(data)
        file.write(data)

    return download


def never(file):
    raise AssertionError("no download was expected")


def names_below(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def in_threads(number, work):
    threads = [threading.Thread(target=work) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.fixture(autouse=True, params=["plain", "encrypted"])
def form(request, monkeypatch):
    """Nearly all here holds whether the files are encrypted or not."""
    monkeypatch.setattr(Form, "ring", ring() if request.param == "encrypted" else None)


def bytes_at(cache, path):
    return stored_bytes(cache, path, OID, TID)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "elsewhere"))
    (tmp_path / "elsewhere").mkdir()
    cache = BlobCache(tmp_path / "cache", "store", ring=Form.ring, size=10 * MB)
    yield cache
    cache.close()
    assert names_below(tmp_path / "elsewhere") == []


def test_it_honours_its_contract(cache):
    assert verifyObject(IBlobCache, cache)


def test_what_was_fetched_is_there_whole_and_read_only(cache, tmp_path):
    assert cache.get(OID, TID) is None
    path = cache.fetch(OID, TID, download_of(b"data"))
    assert bytes_at(cache, path) == b"data"
    assert cache.get(OID, TID) == path
    assert cache.fetch(OID, TID, never) == path
    assert stat.S_IMODE(path.stat().st_mode) == 0o400
    folder = path.parent
    while folder != tmp_path:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        folder = folder.parent


def test_a_folder_that_was_open_to_others_is_closed(tmp_path):
    BlobCache(tmp_path, "store", ring=Form.ring, size=MB).close()
    (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
    folder.chmod(0o755)
    BlobCache(tmp_path, "store", ring=Form.ring, size=MB).close()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_an_empty_blob_is_a_blob(cache):
    assert bytes_at(cache, cache.fetch(OID, TID, lambda file: None)) == b""
    assert cache.get(OID, TID) is not None


def test_revisions_and_oids_do_not_mix(cache):
    keys = [(OID, TID), (OID, bytes(8)), (bytes(8), TID), (bytes(7) + b"\1", TID), (b"\xff" * 8, b"\xff" * 8)]
    for number, (oid, tid) in enumerate(keys):
        cache.fetch(oid, tid, download_of(b"%d" % number))
    for number, (oid, tid) in enumerate(keys):
        assert stored_bytes(cache, cache.get(oid, tid), oid, tid) == b"%d" % number


def test_a_download_may_start_again_from_zero(cache):
    def download(file):
        assert file.write(b"wrong and long") == 14
        assert file.tell() == 14
        file.flush()
        file.seek(0)
        file.truncate()
        file.write(memoryview(b"right"))
        file.write(bytearray())

    assert bytes_at(cache, cache.fetch(OID, TID, download)) == b"right"


def test_nothing_is_left_where_a_download_fails(cache, tmp_path):
    before = names_below(tmp_path)

    def download(file):
        file.write(b"half")
        raise BlobMissing(OID, TID)

    with pytest.raises(BlobMissing) as caught:
        cache.fetch(OID, TID, download)
    assert caught.value.args == (OID, TID)
    ours = ("cleaner.lock", "downloads.lock", "counters.json", "history.json", "history.lock")

    def others(names):
        return [name for name in names if not name.endswith(ours) and "/counters.json." not in name]

    assert others(names_below(tmp_path)) == others(before)
    assert cache.get(OID, TID) is None
    assert bytes_at(cache, cache.fetch(OID, TID, download_of(b"now"))) == b"now"


def test_an_oserror_of_the_download_is_its_own(cache):
    """A lost connection is an OSError too: it is neither swallowed nor taken for a broken disk."""
    calls = []

    def download(file):
        calls.append(1)
        raise ConnectionResetError(104, "reset by the store")

    with pytest.raises(ConnectionResetError):
        cache.fetch(OID, TID, download)
    assert len(calls) == 1
    assert cache.counters.snapshot()["errors"] == 0


def test_ten_threads_miss_and_one_downloads(cache):
    calls, paths = [], []

    def download(file):
        calls.append(1)
        wait_until(lambda: cache.counters.snapshot()["waits"] == 9)
        file.write(b"once")

    in_threads(10, lambda: paths.append(cache.fetch(OID, TID, download)))
    assert len(calls) == 1
    assert len(paths) == 10 and len(set(paths)) == 1
    assert bytes_at(cache, paths[0]) == b"once"


def test_a_failure_reaches_every_waiting_thread_and_no_later_one(cache):
    calls, errors = [], []

    def download(file):
        calls.append(1)
        wait_until(lambda: cache.counters.snapshot()["waits"] == 4)
        raise Unavailable("down")

    def fetch():
        try:
            cache.fetch(OID, TID, download)
        except Unavailable as error:
            errors.append(error)

    in_threads(5, fetch)
    assert len(calls) == 1 and len(errors) == 5
    assert bytes_at(cache, cache.fetch(OID, TID, download_of(b"up again"))) == b"up again"


def test_an_interrupted_thread_leaves_the_work_to_those_that_wait(cache):
    seen = []

    def interrupted(file):
        wait_until(lambda: cache.counters.snapshot()["waits"] == 1)
        raise KeyboardInterrupt

    def lead():
        try:
            cache.fetch(OID, TID, interrupted)
        except KeyboardInterrupt:
            seen.append("interrupted")

    leader = threading.Thread(target=lead)
    leader.start()
    wait_until(lambda: cache.counters.snapshot()["downloads"] == 1)
    assert bytes_at(cache, cache.fetch(OID, TID, download_of(b"done"))) == b"done"
    leader.join()
    assert seen == ["interrupted"]


def test_two_revisions_of_one_oid_are_downloaded_at_the_same_time(cache):
    both = threading.Barrier(2, timeout=10)

    def download(file):
        both.wait()  # breaks where one waits for the other
        file.write(b"x")

    other = threading.Thread(target=lambda: cache.fetch(OID, bytes(8), download))
    other.start()
    cache.fetch(OID, TID, download)
    other.join()
    assert cache.get(OID, bytes(8)) is not None


def test_two_caches_of_one_store_in_one_process_download_once(cache, tmp_path):
    calls = []
    second = BlobCache(tmp_path / "cache", "store", ring=Form.ring, size=10 * MB)
    started = threading.Event()

    def slow(file):
        calls.append(1)
        started.set()
        time.sleep(0.1)
        file.write(b"once")

    thread = threading.Thread(target=lambda: cache.fetch(OID, TID, slow))
    thread.start()
    assert started.wait(10)
    assert bytes_at(cache, second.fetch(OID, TID, never)) == b"once"
    thread.join()
    second.close()
    assert calls == [1]


def test_a_download_elsewhere_that_never_ends_is_waited_for_only_so_long(cache, tmp_path):
    """A process that was stopped in the middle of a download must not stop the readers of all others."""
    impatient = BlobCache(tmp_path / "cache", "store", ring=Form.ring, size=10 * MB, patience=0.1)
    started, finish = threading.Event(), threading.Event()

    def stuck(file):
        started.set()
        assert finish.wait(10)
        file.write(b"slow")

    thread = threading.Thread(target=lambda: cache.fetch(OID, TID, stuck))
    thread.start()
    assert started.wait(10)
    path = impatient.fetch(OID, TID, download_of(b"slow"))
    assert bytes_at(cache, path) == b"slow"
    assert tmp_path / "elsewhere" in path.parents
    finish.set()
    thread.join()
    assert bytes_at(cache, cache.get(OID, TID)) == b"slow"
    impatient.close()


def test_a_miss_makes_one_file_and_removes_none(cache, tmp_path, monkeypatch):
    """Making a file is the dearest thing on the way of a small blob, and the dearer the more were removed before."""
    cache.fetch(OID, TID, download_of(b"the folder and the lock file are made"))
    made, removed = [], []
    os_open, os_unlink = os.open, os.unlink

    def opening(path, flags, *arguments, **options):
        ours = threading.current_thread() is threading.main_thread()  # not the cleaner, at its tick
        if ours and flags & os.O_CREAT and not os.path.exists(path):
            made.append(path)
        return os_open(path, flags, *arguments, **options)

    def unlinking(path, *arguments, **options):
        removed.append(path)
        return os_unlink(path, *arguments, **options)

    until_idle(cache)
    cache.counters.save_now_and_then()  # at most once a second
    with monkeypatch.context() as patched:
        patched.setattr(os, "open", opening)
        patched.setattr(os, "unlink", unlinking)
        for number in range(5):
            cache.fetch(OID, number.to_bytes(8, "big"), download_of(b"x"))
    assert len(made) == 5 and removed == []


# Opening


@pytest.mark.parametrize("form", ["plain"], indirect=True)  # which opens the file itself
def test_open_gives_an_unbuffered_file(cache):
    with cache.open(OID, TID, download_of(b"0123456789")) as file:
        assert os.read(file.fileno(), 4) == b"0123"
        assert file.read(2) == b"45"
        with pytest.raises(OSError):
            file.write(b"no")


@pytest.mark.parametrize("form", ["plain"], indirect=True)  # which opens the file itself
def test_evicted_between_fetch_and_open_is_fetched_again(cache):
    calls, opened = [], []

    def opener(path):
        if not opened:
            os.unlink(path)
        opened.append(path)
        return open(path, "rb")

    with cache.open(OID, TID, download_of(b"again", calls), opener=opener) as file:
        assert file.read() == b"again"
    assert len(calls) == 2 and len(opened) == 2


@pytest.mark.parametrize("form", ["plain"], indirect=True)  # which opens the file itself
def test_evicted_each_time_before_it_is_opened_ends_in_a_private_file(cache, tmp_path):
    def opener(path):
        if path.startswith(f"{tmp_path}/cache/"):
            os.unlink(path)
        return open(path, "rb")

    with cache.open(OID, TID, download_of(b"mine"), opener=opener) as file:
        assert file.read() == b"mine"


def test_an_error_of_the_opener_for_every_file_goes_through(cache):
    calls = []

    def opener(path):
        raise FileNotFoundError(2, "whatever the path")

    with pytest.raises(FileNotFoundError):
        cache.open(OID, TID, download_of(b"x", calls), opener=opener)
    assert len(calls) == 2  # the shared file and the private one, not for ever


@pytest.mark.parametrize("form", ["plain"], indirect=True)  # which opens the file itself
def test_an_open_file_stays_readable_when_it_is_evicted(cache):
    with cache.open(OID, TID, download_of(b"still here")) as file:
        os.unlink(cache.get(OID, TID))
        assert file.read() == b"still here"


# Files that something else changed


def cut(path):
    os.truncate(path, 3)


def empty(path):
    os.truncate(path, 0)


def write_into(path):
    with open(path, "r+b") as file:
        file.seek(2)
        file.write(b"X")


def append(path):
    with open(path, "ab") as file:
        file.write(b"more")


@pytest.mark.parametrize("damage", [cut, empty, write_into, append])
def test_a_file_that_was_changed_is_not_served(cache, damage, caplog):
    path = cache.fetch(OID, TID, download_of(b"as it was"))
    until_idle(cache)  # the cleaner's thread sets the time that says that the file is on the disk
    path.chmod(0o600)
    damage(path)
    assert cache.get(OID, TID) is None
    assert not path.exists()
    assert "was changed by something else" in caplog.text
    assert bytes_at(cache, cache.fetch(OID, TID, download_of(b"as it was"))) == b"as it was"
    assert bytes_at(cache, cache.get(OID, TID)) == b"as it was"


def test_a_file_half_written_under_a_final_name_is_not_served(cache):
    """As a program without the sync and the renaming would leave it after a crash."""
    path = cache.fetch(OID, TID, download_of(b"data"))
    os.unlink(path)
    path.write_bytes(b"da")
    assert cache.get(OID, TID) is None


@pytest.fixture
def boots(monkeypatch):
    """``boots(n)``: the machine starts anew, as every module of the cache sees it."""

    def boot(number):
        for module in (layout, downloads, durable):
            monkeypatch.setattr(module, "BOOT", number)

    boot(1)
    return boot


def bring(cache, how):
    if how == "fetched":
        return cache.fetch(OID, TID, download_of(b"data"))
    staged = cache.staging() / "staged"
    cache.receive(staged, OID, download_of(b"data"))
    assert cache.adopt(OID, TID, staged)
    return Path(cache.expected(OID, TID))


@pytest.mark.parametrize("how", ["fetched", "adopted"])
def test_what_may_not_be_on_the_disk_is_not_believed_after_a_crash_of_the_machine(cache, boots, how):
    cache._cleaner.close()  # whose thread would bring it to the disk at its next tick
    path = bring(cache, how)
    assert cache.get(OID, TID) == path
    boots(2)
    assert cache.get(OID, TID) is None and not path.exists()


@pytest.mark.parametrize("how", ["fetched", "adopted"])
def test_it_is_brought_to_the_disk_in_the_background_and_then_believed_for_ever(cache, boots, how, monkeypatch):
    """The order of the system calls, with the real ones made: a crash of the machine cannot be played here."""
    order = []
    fsync, utime = os.fsync, os.utime

    def noting_fsync(file):
        order.append("fsync")
        fsync(file)

    def noting_utime(file, **more):
        order.append("utime")
        utime(file, **more)

    cache._cleaner.close()  # whose thread would do it at its next tick
    monkeypatch.setattr(os, "fsync", noting_fsync)
    path = bring(cache, how)
    assert order == [], "nobody waits for the disk"
    used = path.stat().st_atime
    monkeypatch.setattr(os, "utime", noting_utime)
    cache._unsynced.sync()
    assert order == ["fsync", "utime"]
    boots(2)
    assert cache.get(OID, TID) == path and path.stat().st_atime >= used
    cache._unsynced.sync()
    assert order[2:] in ([], ["utime"]), "once"  # the use may be noted


def test_what_is_left_is_brought_to_the_disk_at_the_end(tmp_path, boots):
    cache = BlobCache(tmp_path, "store", ring=Form.ring, size=1000000)
    cache.fetch(OID, TID, download_of(b"data"))
    cache.close()
    boots(2)
    assert bytes_at(cache, cache.get(OID, TID)) == b"data"


@pytest.mark.parametrize("how", ["fetched", "adopted"])
def test_a_machine_that_does_not_tell_its_boots_syncs_at_once(cache, boots, how, monkeypatch):
    boots(0)
    order = []
    fsync, rename = os.fsync, os.rename

    def noting_fsync(file):
        order.append(("fsync", os.fstat(file).st_ino))
        fsync(file)

    def noting_rename(source, target):
        order.append(("rename" if str(target).endswith(".blob") else "moved", os.stat(source).st_ino))
        rename(source, target)

    cache.clean()
    monkeypatch.setattr(os, "fsync", noting_fsync)
    monkeypatch.setattr(os, "rename", noting_rename)
    inode = bring(cache, how).stat().st_ino
    steps = [step for step in order if step[0] != "moved"]
    assert steps[0] == ("fsync", inode) and set(steps[1:]) == {("rename", inode)}
    boots(2)
    assert bytes_at(cache, cache.get(OID, TID)) == b"data"


def test_an_evicted_file_is_not_brought_to_the_disk(cache, boots):
    os.unlink(cache.fetch(OID, TID, download_of(b"data")))
    cache._unsynced.sync()


def test_a_boot_is_told_apart():
    assert layout.BOOT and layout.stamp(5) != layout.stamp(5, layout.BOOT)


# Committing


@pytest.mark.parametrize("prepared", [False, True])
def test_a_staged_file_is_adopted(cache, prepared):
    folder = cache.staging()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    staged = folder / "staged"
    cache.receive(staged, OID, download_of(b"committed"))
    inode = staged.stat().st_ino
    if prepared:
        prepared = cache.prepare(staged, 9)
        assert prepared is not cache.seals
        assert cache.get(OID, TID) is None, "not before it is committed"
    assert cache.adopt(OID, TID, staged, prepared=prepared) is True
    path = cache.get(OID, TID)
    assert bytes_at(cache, path) == b"committed"
    assert path.stat().st_ino == inode  # moved, not copied
    assert stat.S_IMODE(path.stat().st_mode) == 0o400
    assert not staged.exists()
    assert cache.fetch(OID, TID, never) == path


def test_a_staged_file_of_another_file_system_is_copied(cache):
    here = cache.staging().stat().st_dev
    others = [folder for folder in map(Path, ("/dev/shm", "/var/tmp")) if folder.stat().st_dev != here]
    if not others:
        pytest.skip("/dev/shm and /var/tmp are on the same file system as the temporary folder")
    staged = others[0] / f"s3blobs-test-{os.getpid()}-{os.urandom(4).hex()}"
    cache.receive(staged, OID, download_of(b"far away"))
    try:
        assert cache.adopt(OID, TID, staged) is True
        assert bytes_at(cache, cache.get(OID, TID)) == b"far away"
        assert not staged.exists()
    finally:
        staged.unlink(missing_ok=True)


def test_adopting_what_is_not_there_or_after_close_is_false(cache):
    assert cache.prepare(cache.staging() / "nothing", 5) is False
    assert cache.adopt(OID, TID, cache.staging() / "nothing") is False
    staged = cache.staging() / "staged"
    cache.receive(staged, OID, download_of(b"x"))
    cache.close()
    assert cache.adopt(OID, TID, staged) is False


@pytest.mark.parametrize("form", ["plain"], indirect=True)  # which opens the file itself
def test_adopting_what_is_here_already_changes_nothing_for_readers(cache):
    with cache.open(OID, TID, download_of(b"same")) as file:
        staged = cache.staging() / "staged"
        cache.receive(staged, OID, download_of(b"same"))
        assert cache.adopt(OID, TID, staged) is True
        assert file.read() == b"same"
    assert bytes_at(cache, cache.get(OID, TID)) == b"same"


def test_a_staging_folder_of_its_own(tmp_path):
    staging = tmp_path / "staging" / "deep"
    cache = BlobCache(tmp_path / "cache", "store", ring=Form.ring, size=MB, staging_dir=staging)
    folder = cache.staging()
    assert staging in folder.parents and cache.staging() == folder
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    (folder / "left").write_bytes(b"x")
    cache.close()
    assert list(staging.iterdir()) == []


# Closing


def test_close_leaves_only_complete_files_and_no_thread(tmp_path):
    before = set(threading.enumerate())
    descriptors = len(os.listdir("/proc/self/fd"))
    cache = BlobCache(tmp_path, "store", ring=Form.ring, size=MB)
    path = cache.fetch(OID, TID, download_of(b"x"))
    (cache.staging() / "staged").write_bytes(b"x")
    cache.clean()
    cache.close()
    cache.close()
    assert set(threading.enumerate()) == before
    assert len(os.listdir("/proc/self/fd")) == descriptors
    left = {"cache.json", "counters.json", "cleaner.lock", "downloads.lock", path.name}
    if cache.seals:
        left |= {"machine.key", "machine.key.lock"}
    # The cleaner's first tick may have come.
    assert {Path(name).name for name in names_below(tmp_path)} - {"history.json"} == left
    assert list(tmp_path.glob("*/processes/*")) == []
    assert cache.get(OID, TID) == path
    with pytest.raises(Unavailable):
        cache.fetch(OID, bytes(8), never)
    with pytest.raises(Unavailable):
        cache.staging()


def test_close_during_a_download_leaves_nothing(tmp_path):
    cache = BlobCache(tmp_path, "store", ring=Form.ring, size=MB)
    started, finish = threading.Event(), threading.Event()
    caught = []

    def slow(file):
        file.write(b"half")
        started.set()
        assert finish.wait(10)
        file.write(b"whole")

    def fetch():
        try:
            cache.fetch(OID, TID, slow)
        except Unavailable as error:
            caught.append(error)

    thread = threading.Thread(target=fetch)
    thread.start()
    assert started.wait(10)
    cache.close()
    finish.set()
    thread.join()
    assert len(caught) == 1
    assert cache.get(OID, TID) is None
    assert list(tmp_path.glob("*/processes/*")) == []
    assert not downloads_are_locked(tmp_path)


def test_counters(cache):
    cache.get(OID, TID)
    cache.fetch(OID, TID, download_of(b"12345"))
    cache.get(OID, TID)
    cache.fetch(OID, TID, never)
    assert cache.counters.snapshot() == {
        "hits": 2,
        "misses": 1,
        "waits": 0,
        "downloads": 1,
        "parts": 0,
        "bytes": 5,
        "evictions": 0,
        "errors": 0,
    }
