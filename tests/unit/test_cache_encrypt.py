"""cache-encrypt: nothing of a blob lies in clear in cache-dir, whatever happens to files and keys."""

from __future__ import annotations

import errno
import gc
import hashlib
import json
import logging
import os
import pickle
import random
import shutil
import stat
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
from cache_state import downloads_are_locked, in_clear, marked, stored_bytes, until_idle
from part_source import MemorySource
from rings import GivenKey, client_side, ring

from collective.s3blobstorage.cache import BlobCache
from collective.s3blobstorage.cache.cipher import SEGMENT, MachineKey
from collective.s3blobstorage.cache.layout import is_whole
from collective.s3blobstorage.encryption.configured import configured
from collective.s3blobstorage.encryption.ring import KeyRing
from collective.s3blobstorage.errors import ConfigurationError, Unavailable
from collective.s3blobstorage.overlay.chain import NoOverlay
from collective.s3blobstorage.settings import StorageSettings, StoreSettings
from collective.s3blobstorage.storage import opening

MB = 1024 * 1024
OID = bytes.fromhex("000000000000a1b2")
TID = bytes.fromhex("03f0000000000001")
OTHER = bytes.fromhex("03f0000000000002")
PART = 100_000
NAME = Path("/the/name")


def download_of(data, calls=None):
    def download(file):
        if calls is not None:
            calls.append(1)
        file.write(data)

    return download


def never(file):
    raise AssertionError("no download was expected")


@pytest.fixture
def open_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "elsewhere"))
    (tmp_path / "elsewhere").mkdir()
    caches = []

    def open_cache(ring_=None, **options):
        options = {"size": 100 * MB, "part_threshold": 4 * PART, "part_size": PART, **options}
        options.setdefault("ring", ring_ or ring())
        cache = BlobCache(tmp_path / "cache", "store", **options)
        caches.append(cache)
        return cache

    yield open_cache
    for cache in caches:
        cache.close()
    assert in_clear(tmp_path) == []
    assert not downloads_are_locked(tmp_path)


@pytest.fixture
def cache(open_cache):
    return open_cache()


def lazily(cache, source, oid=OID, tid=TID):
    return cache.open_lazily(oid, tid, source, name=NAME)


def read(cache, oid=OID, tid=TID):
    """The blob, as the cache has it now."""
    return stored_bytes(cache, cache.get(oid, tid), oid, tid)


# On the disk


def test_a_whole_file_is_not_in_clear(cache, tmp_path):
    data = marked(3 * SEGMENT)
    with lazily(cache, MemorySource(data)) as file:
        assert file.read() == data
    path = cache.fetch(OID, TID, never)
    assert in_clear(tmp_path) == [] and read(cache) == data
    assert stat.S_IMODE(path.stat().st_mode) == 0o400


def test_a_download_is_not_in_clear_while_it_runs(cache, tmp_path):
    def download(file):
        file.write(marked(3 * SEGMENT))
        assert in_clear(tmp_path) == []
        assert sum(path.stat().st_size for path in tmp_path.glob("cache/*/processes/*/*")) > SEGMENT

    cache.fetch(OID, TID, download)


def test_parts_are_not_in_clear(cache, tmp_path):
    data = marked(10 * PART)
    source = MemorySource(data)
    with lazily(cache, source) as file:
        for part in (7, 2, 9):
            file.seek(part * PART + 5)
            assert file.raw.read(100) == data[part * PART + 5 :][:100]
            assert in_clear(tmp_path) == []
        assert sorted({path.suffix for path in tmp_path.glob("cache/*/blobs/*/*")}) == [".map", ".part"]
        file.seek(0)
        assert file.read() == data
    assert source.parts(PART) == list(range(10))
    assert in_clear(tmp_path) == []


def test_a_map_does_not_say_which_blob_it_is_of(cache, tmp_path):
    """A SHA-256 in clear would tell whether somebody has a certain file."""
    source = MemorySource(marked(10 * PART), version="etag-of-the-object")
    with lazily(cache, source) as file:
        file.raw.read(10)
        (map_,) = tmp_path.glob("cache/*/blobs/*/*.map")
        assert source.sha256 not in map_.read_bytes() and b"etag-of" not in map_.read_bytes()


def test_what_was_committed_is_not_in_clear_in_the_cache(cache, tmp_path):
    given = tmp_path / "given"
    given.write_bytes(marked(PART))
    staged = cache.stage(given, cache.staging() / "staged", OID)
    assert not given.exists() and in_clear(tmp_path) == []
    assert staged.sha256 == hashlib.sha256(marked(PART)).digest() and staged.size == PART
    inode = staged.path.stat().st_ino
    assert cache.adopt(OID, TID, staged.path, prepared=cache.prepare(staged.path, staged.size)) is True
    assert not staged.path.exists() and in_clear(tmp_path) == []
    assert cache.get(OID, TID).stat().st_ino == inode  # moved, not copied
    assert read(cache) == marked(PART)
    until_idle(cache)
    assert is_whole(cache.get(OID, TID).stat())


def test_what_is_kept_of_commits_goes_by_the_blobs_size(open_cache):
    cache = open_cache(fill_on_commit="small", part_threshold=PART)
    for tid, size, kept in ((TID, PART, True), (OTHER, PART + 1, False)):
        staged = cache.receive(cache.staging() / "staged", OID, download_of(marked(size)))
        assert cache.adopts(size) is cache.adopt(OID, tid, staged.path) is kept
        staged.path.unlink(missing_ok=True)


# Staged, on its way into the bucket


def test_a_staged_file_is_read_in_pieces_of_any_size(cache):
    data = marked(3 * SEGMENT + 100)
    staged = cache.receive(cache.staging() / "staged", OID, download_of(data))
    assert b"".join(staged.blocks()) == data
    with staged.content.opened() as file:
        assert file.size == len(data)
        one, two = file.reader(), file.reader()
        for amount in (1, 1000, SEGMENT, 2 * SEGMENT + 1, len(data)):
            for start in (0, 5, SEGMENT, len(data) - 1):
                assert one(amount, start) == two(amount, start) == data[start : start + amount]
        with pytest.raises(OSError, match="changed"):
            one(1, len(data))


def test_an_empty_file_is_staged_too(cache):
    staged = cache.receive(cache.staging() / "staged", OID, download_of(b""))
    assert staged.size == 0 and list(staged.blocks()) == []
    assert cache.adopt(OID, TID, staged.path) and read(cache) == b""


def test_a_staged_file_that_was_damaged_is_not_sent(cache):
    staged = cache.receive(cache.staging() / "staged", OID, download_of(marked(3 * SEGMENT)))
    flip(staged.path, staged.path.stat().st_size // 2)
    with pytest.raises(OSError, match="changed"):
        list(staged.blocks())
    staged.path.chmod(0o600)
    os.truncate(staged.path, SEGMENT)
    with pytest.raises(OSError, match="changed"):
        list(staged.blocks())


def test_what_cannot_be_staged_stays_where_it_was(cache, tmp_path):
    given = tmp_path / "given"
    given.write_bytes(marked(1000))
    with pytest.raises(FileNotFoundError):
        cache.stage(given, cache.staging() / "nowhere" / "staged", OID)
    (cache.staging() / "there").touch()
    with pytest.raises(FileExistsError):
        cache.stage(given, cache.staging() / "there", OID)
    assert given.read_bytes() == marked(1000)
    given.unlink()
    with pytest.raises(FileNotFoundError):
        cache.stage(given, cache.staging() / "staged", OID)
    assert [path.name for path in cache.staging().iterdir()] == ["there"]


def test_a_full_disk_is_an_oserror_and_leaves_nothing(cache, monkeypatch):
    def full(descriptor, data, offset):
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr("collective.s3blobstorage.cache.sealedform.write_at", full)
    with pytest.raises(OSError, match="full") as raised:
        cache.receive(cache.staging() / "staged", OID, download_of(marked(3 * SEGMENT)))
    assert raised.value.errno == errno.ENOSPC
    assert list(cache.staging().iterdir()) == []


@pytest.mark.parametrize("ring_", [None, ring()], ids=["plain", "encrypted"])
def test_room_is_made_for_the_second_file_that_encrypting_writes(open_cache, monkeypatch, ring_):
    asked = []
    monkeypatch.setattr(
        "collective.s3blobstorage.cache.room.missing", lambda folder, more, min_free: asked.append(more) or 0
    )
    cache = open_cache(ring=ring_)
    folder = cache.staging()
    uncommitted = folder / "uncommitted"
    uncommitted.write_bytes(bytes(1000))
    cache.make_room(uncommitted, folder)
    cache.make_room(uncommitted, folder, staged=True)
    assert asked == [1000 if ring_ else 0, 0]


def test_only_a_staged_file_of_that_oid_is_adopted(cache):
    staged = cache.receive(cache.staging() / "staged", OID, download_of(b"data"))
    assert cache.adopt(OTHER, TID, staged.path) is False
    clear = cache.staging() / "clear"
    clear.write_bytes(b"not encrypted")
    assert cache.adopt(OID, TID, clear) is False
    clear.unlink()
    assert cache.adopt(OID, TID, staged.path) is True


def test_what_was_completed_is_told_as_what_can_be_sent(open_cache):
    told = []

    def completed(oid, tid, file):
        with file.opened() as opened:
            told.append((oid, tid, opened.reader()(MB, 0)))

    cache = open_cache(completed=completed)
    cache.fetch(OID, TID, download_of(marked(1000)))
    source = MemorySource(marked(10 * PART))
    cache.complete(OID, OTHER, source)
    assert told == [(OID, TID, marked(1000)), (OID, OTHER, source.data)]


def test_a_disk_that_takes_nothing_leaves_nothing_in_clear_elsewhere(tmp_path, open_cache):
    cache = open_cache()
    data = marked(PART)
    (tmp_path / "cache").rename(tmp_path / "gone")
    (tmp_path / "cache").touch()  # the folder cannot be made again
    with lazily(cache, MemorySource(data)) as file:
        assert file.read() == data
    assert [path for path in (tmp_path / "elsewhere").rglob("*") if path.is_file()]
    assert in_clear(tmp_path / "elsewhere") == []
    path = cache.path(OID, TID, lambda: MemorySource(data))
    assert Path(path).read_bytes() == data and in_clear(tmp_path / "elsewhere") == [Path(path)]
    del path
    cache.close()
    (tmp_path / "cache").unlink()


def test_files_that_are_not_encrypted_are_of_one_user_only(open_cache, tmp_path):
    cache = open_cache(ring=None)
    staged = cache.staging() / "staged"
    staged.write_bytes(b"x")
    cache.adopt(OID, OTHER, staged)
    with lazily(cache, MemorySource(random.Random(1).randbytes(10 * PART))) as file:
        file.raw.read(10)
        cache.fetch(OID, bytes(8), download_of(b"data"))
        found = list((tmp_path / "cache").rglob("*"))
        assert {path.suffix for path in found} >= {".blob", ".part", ".map"}
        for path in (tmp_path / "cache", *found):
            mode = stat.S_IMODE(path.stat().st_mode)
            if path.is_dir():
                assert mode == 0o700, path
            elif path.suffix in (".blob", ".part", ".map"):
                assert mode in (0o400, 0o600), path


# As it is, for whoever needs a path or a descriptor


def test_a_path_is_a_private_file_that_goes_with_it(cache, tmp_path):
    data = marked(5 * PART)
    source = MemorySource(data)
    path = cache.path(OID, TID, lambda: source)
    assert Path(path).read_bytes() == data
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o400
    assert in_clear(tmp_path) == [Path(path)]
    assert Path(path).parent.parent.name == "processes"
    assert cache.path(OID, TID, lambda: never(None)) is path
    same = str(path)
    assert pickle.loads(pickle.dumps(path)) == same
    del path
    gc.collect()
    assert not os.path.exists(same) and in_clear(tmp_path) == []
    assert source.requests == len(source.reads)
    again = cache.path(OID, TID, lambda: never(None))
    assert Path(again).read_bytes() == data


def test_many_threads_that_want_a_path_get_one(cache, tmp_path):
    data, paths = marked(5 * PART), []
    source = MemorySource(data)
    threads = [threading.Thread(target=lambda: paths.append(cache.path(OID, TID, lambda: source))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {Path(path).read_bytes() for path in paths} == {data}
    assert source.parts(PART) == list(range(5))
    until_idle(cache)


def test_a_path_given_as_text_is_kept_for_a_while(open_cache, tmp_path):
    cache = open_cache(protect=0.3)
    source = MemorySource(marked(1000))
    path = cache.path(OID, TID, lambda: source)
    cache.keep(path)
    text = str.__str__(path)
    del path
    gc.collect()
    assert Path(text).read_bytes() == source.data
    time.sleep(0.35)
    cache._tick()
    assert not os.path.exists(text)


def test_a_path_that_somebody_deleted_is_made_again(cache):
    source = MemorySource(marked(1000))
    path = cache.path(OID, TID, lambda: source)
    os.unlink(path)
    again = cache.path(OID, TID, lambda: source)
    assert Path(again).read_bytes() == source.data and source.requests == 1
    del path
    gc.collect()
    assert Path(again).read_bytes() == source.data


def test_a_forked_child_does_not_remove_its_parents_file(cache):
    source = MemorySource(marked(1000))
    path = cache.path(OID, TID, lambda: source)
    text = str.__str__(path)
    child = os.fork()
    if not child:
        del path
        gc.collect()
        os._exit(0 if os.path.exists(text) else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert Path(path).read_bytes() == source.data


def test_a_descriptor_is_of_the_bytes_as_they_are(cache, tmp_path):
    data = marked(5 * PART)
    with lazily(cache, MemorySource(data)) as file:
        file.seek(10)
        assert os.read(file.fileno(), 100) == data[10:110]
        assert in_clear(tmp_path) == []  # the file has no name any more


# Damage


def flip(path, offset):
    """One bit, by a disk: the time is as it was."""
    status = path.stat()
    path.chmod(0o600)
    with path.open("r+b") as file:
        file.seek(offset)
        (octet,) = file.read(1)
        file.seek(offset)
        file.write(bytes([octet ^ 1]))
    path.chmod(0o400)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def flip_at_once(path, offset):
    """The same of a file that nobody has open: the cache's own thread may look at it just now, and removes one whose
    time is another."""
    descriptor, name = tempfile.mkstemp()  # not where that thread looks
    os.close(descriptor)
    damaged = Path(name)
    shutil.copy2(path, damaged)
    flip(damaged, offset)
    damaged.replace(path)


@pytest.mark.parametrize("size", [1000, 3 * SEGMENT])
@pytest.mark.parametrize("how", ["read", "seek", "path", "fileno"])
@pytest.mark.parametrize("where", [0.0, 0.01, 0.4, 0.7, 0.999])
def test_a_flipped_bit_is_fetched_anew(cache, size, how, where):
    source = MemorySource(marked(size))
    path = cache.complete(OID, TID, source)
    flip_at_once(path, int(where * path.stat().st_size))
    requests = source.requests
    if how == "path":
        assert Path(cache.path(OID, TID, lambda: source)).read_bytes() == source.data
    else:
        with lazily(cache, source) as file:
            if how == "fileno":
                assert os.pread(file.fileno(), size, 0) == source.data
            elif how == "seek":
                file.seek(size // 2)
                assert file.read() == source.data[size // 2 :]
                file.seek(0)
            assert how == "fileno" or file.read() == source.data
    assert source.requests > requests
    assert read(cache) == source.data


def test_a_bit_flipped_under_an_open_reader(cache):
    source = MemorySource(marked(4 * SEGMENT))
    path = cache.complete(OID, TID, source)
    with lazily(cache, source) as file:
        assert file.read(SEGMENT) == source.data[:SEGMENT]
        flip(path, path.stat().st_size // 2)
        assert file.read() == source.data[SEGMENT:]
    assert source.requests == 2


def test_files_of_two_revisions_that_were_exchanged(cache):
    one, two = MemorySource(marked(1000, 1)), MemorySource(marked(1000, 2))
    paths = cache.complete(OID, TID, one), cache.complete(OID, OTHER, two)
    aside = paths[0].with_name("aside")
    paths[0].rename(aside)
    paths[1].rename(paths[0])
    aside.rename(paths[1])
    for tid, source in ((TID, one), (OTHER, two)):
        with lazily(cache, source, tid=tid) as file:
            assert file.read() == source.data
        assert source.requests == 2


def test_parts_of_another_revision_are_not_used(cache, tmp_path):
    one, two = MemorySource(marked(10 * PART, 1)), MemorySource(marked(10 * PART, 2))
    one.sha256 = two.sha256 = None
    with lazily(cache, one) as file:
        file.raw.read(10)
    for path in tmp_path.glob("cache/*/blobs/*/*"):
        path.rename(path.with_name(path.name.replace(TID.hex(), OTHER.hex())))
    with lazily(cache, two, tid=OTHER) as file:
        assert file.read() == two.data


def test_a_blob_that_is_damaged_again_and_again_is_read_nevertheless(cache, monkeypatch):
    """The disk lies: what was just written cannot be read."""
    source = MemorySource(marked(3 * SEGMENT))
    publish = cache._publish
    monkeypatch.setattr(cache, "_publish", lambda *args: (flip(Path(args[0]), SEGMENT), publish(*args))[1])
    with lazily(cache, source) as file:
        assert file.read() == source.data
    assert Path(cache.path(OID, TID, lambda: source)).read_bytes() == source.data


# The machine key


def key_file(tmp_path):
    (path,) = tmp_path.glob("cache/*/machine.key")
    return path


def test_all_processes_have_one_key_and_it_survives_them(open_cache, tmp_path):
    first, second = open_cache(), open_cache()
    first.fetch(OID, TID, download_of(marked(1000)))
    assert read(second) == marked(1000)
    first.close()
    second.close()
    assert read(open_cache()) == marked(1000)
    assert stat.S_IMODE(key_file(tmp_path).stat().st_mode) == 0o600


def test_many_that_begin_at_once_have_one_key(open_cache, tmp_path):
    caches = []
    threads = [threading.Thread(target=lambda: caches.append(open_cache())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({cache._keys.key.key for cache in caches}) == 1


def test_the_file_holds_no_key_in_clear(open_cache, tmp_path):
    cache = open_cache()
    text = key_file(tmp_path).read_bytes()
    key = bytes(cache._keys.key.key)
    for secret in (key, key.hex().encode(), bytes(ring().active.material)):
        assert secret not in text
    for shown in (repr(cache._keys), repr(cache._form), repr(vars(cache))):
        assert key.hex() not in shown and repr(key)[2:-1] not in shown


@pytest.mark.parametrize("use", ["draw", "read", "write"])
def test_no_key_is_in_the_local_variables_of_a_traceback(open_cache, monkeypatch, use):
    keys = open_cache()._keys
    values = []

    def broken(*args, **kwargs):
        frame = sys._getframe(1)
        while frame is not None and "/s3blobstorage/" in frame.f_code.co_filename:
            values.extend(frame.f_locals.values())
            frame = frame.f_back
        raise OSError("broken")

    where = "machinekey.os.replace" if use == "write" else "cipher.derived"
    monkeypatch.setattr(f"collective.s3blobstorage.cache.{where}", broken)
    with pytest.raises(OSError, match="broken"):
        {"draw": MachineKey.draw, "read": keys._read, "write": lambda: keys._write(ring().active)}[use]()
    assert values
    # Each key is of 32 bytes, and nothing else there is.
    assert not [value for value in values if type(value) in (bytes, bytearray) and len(value) == 32]
    assert not [value for value in values if bytes(keys.key.key).hex() in repr(value)]


def test_a_ring_with_another_active_key_wraps_it_anew(open_cache, tmp_path):
    old = open_cache(ring("old", "new", active="old"))
    old.fetch(OID, TID, download_of(marked(1000)))
    assert json.loads(key_file(tmp_path).read_bytes())["key"].startswith("old/")
    new = open_cache(ring("old", "new", active="new"))
    assert json.loads(key_file(tmp_path).read_bytes())["key"].startswith("new/")
    assert read(new) == marked(1000)
    # The one that runs on with the old key goes on, and one more of its kind may begin.
    old.fetch(OID, OTHER, download_of(marked(2000)))
    another = open_cache(ring("old", "new", active="old"))
    for cache in (old, new, another):
        assert read(cache) == marked(1000) and read(cache, tid=OTHER) == marked(2000)
    open_cache(ring("new", "old"))
    assert read(open_cache(ring("new"))) == marked(1000)  # the old key may go


@pytest.mark.parametrize("loss", ["deleted", "damaged", "empty", "other", "not ours", "the ring", "the key's bytes"])
def test_a_key_that_is_lost_begins_the_cache_anew(open_cache, tmp_path, caplog, loss):
    cache = open_cache()
    source, large = MemorySource(marked(1000)), MemorySource(marked(10 * PART))
    cache.complete(OID, TID, source)
    with lazily(cache, large, tid=OTHER) as file:
        file.raw.read(10)
    cache.close()
    path = key_file(tmp_path)
    new = ring()
    if loss == "deleted":
        path.unlink()
    elif loss == "damaged":
        told = json.loads(path.read_bytes())
        told["wrapped"] = told["wrapped"][:-8] + "AAAAAAA="
        path.write_text(json.dumps(told))
    elif loss == "empty":
        path.write_bytes(b"")
    elif loss == "other":
        path.write_text('["a list"]')
    elif loss == "not ours":
        path.write_text('{"kind": "a postcard", "format": 1, "key": "2026-11/00000000", "wrapped": "AAAA"}')
    elif loss == "the ring":
        new = ring("another")
    else:
        new = ring(salt="changed")
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        cache = open_cache(new)
        cache.clean()
        cache.clean()
    assert [path.suffix for path in tmp_path.glob("cache/*/blobs/*/*")] == []
    told = [record.getMessage() for record in caplog.records]
    assert sum("2 files that no key opens any more are removed" in line for line in told) == 1
    assert sum("cannot be used" in line for line in told) == (loss != "deleted")
    with lazily(cache, source) as file:
        assert file.read() == source.data
    assert source.requests == 2
    assert read(open_cache(new)) == source.data


def test_a_file_that_another_key_encrypted_is_fetched_anew_before_it_is_swept(open_cache, tmp_path):
    cache = open_cache()
    source = MemorySource(marked(1000))
    path = cache.complete(OID, TID, source)
    cache.close()
    stored, status = path.read_bytes(), path.stat()
    key_file(tmp_path).unlink()
    cache = open_cache()
    cache.clean()
    path.write_bytes(stored)
    path.chmod(0o400)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert cache.get(OID, TID) is not None
    with lazily(cache, source) as file:
        assert file.read() == source.data
    assert source.requests == 2


def test_two_processes_of_which_one_lacks_the_others_key(open_cache):
    """During a roll-out that was begun at the wrong end: each file is right, and in the end they share them again."""
    old = open_cache(ring("old"))
    new = open_cache(ring("new", "old", active="new"))
    assert (read_through(old, TID), read_through(new, TID)) == (1, 0)
    late = open_cache(ring("old"))  # does not have the key that wraps the machine key now, and makes a new one
    counts = [read_through(cache, tid) for tid in (TID, OTHER) for cache in (late, new, old, late, new, old)]
    assert sum(counts) <= 14
    assert [read_through(cache, tid) for tid in (TID, OTHER) for cache in (late, new, old)] == [0] * 6


def read_through(cache, tid, source_of=lambda: MemorySource(marked(1000))):
    source = source_of()
    with lazily(cache, source, tid=tid) as file:
        assert file.read() == source.data
    return source.requests


def test_a_key_file_of_a_newer_release_is_refused(open_cache, tmp_path):
    open_cache().close()
    told = json.loads(key_file(tmp_path).read_bytes())
    told["format"] = 2
    key_file(tmp_path).write_text(json.dumps(told))
    with pytest.raises(ConfigurationError, match="has format 2, written by a newer release"):
        open_cache()


def test_a_key_of_another_folder_is_none_of_ours(open_cache, tmp_path):
    open_cache().close()
    path = key_file(tmp_path)
    other = BlobCache(tmp_path / "cache", "other", size=MB, ring=ring())
    other.close()
    (theirs,) = set(tmp_path.glob("cache/*/machine.key")) - {path}
    path.write_bytes(theirs.read_bytes())
    assert open_cache()._keys.key.key != other._keys.key.key


def test_a_provider_that_fails_says_so_when_the_cache_is_opened(tmp_path):
    class Broken(GivenKey):
        def material(self, kept):
            raise ConfigurationError("the key's file is not there")

    with pytest.raises(ConfigurationError, match="is not there"):
        BlobCache(tmp_path, "store", size=MB, ring=KeyRing([Broken("2026-11", b"")], "2026-11"))


def test_keys_that_cannot_be_read_yet_are_waited_for(open_cache, tmp_path):
    """The store, which has them wrapped, is out at the start, and the site starts nevertheless."""

    @dataclass
    class Kept(GivenKey):
        keeps: bool = True

        def material(self, kept):
            if kept is None:
                raise ConfigurationError("the bucket has not told it yet")
            return kept

    key = bytes(range(32))

    def opened(**more):
        ring_ = KeyRing([Kept("one", b"")], "one")
        return open_cache(ring_, **more), ring_

    first, ring_ = opened(ring_later=True)
    ring_.kept_of = {"one": key}.get
    first.ring_opened()
    source = MemorySource(marked(1000))
    first.complete(OID, TID, source)
    first.close()

    cache, ring_ = opened(ring_later=True)
    cache.clean()
    for use in (
        lambda: lazily(cache, source).read(),
        lambda: cache.path(OID, TID, lambda: source),
        lambda: cache.fetch(OID, OTHER, download_of(b"x")),
        lambda: cache.receive(cache.staging() / "staged", OID, download_of(b"x")),
    ):
        with pytest.raises(Unavailable, match="has not been reached since the start"):
            use()
    assert cache.get(OID, TID) is not None  # nothing was taken for damaged
    cache.ring_opened()  # the bucket does not tell it
    with pytest.raises(Unavailable):
        lazily(cache, source).read()
    ring_.kept_of = {"one": key}.get
    cache.ring_opened()
    assert read(cache) == source.data and source.requests == 1


def test_a_folder_that_is_deleted_while_processes_run_keeps_their_key(open_cache, tmp_path):
    first, second = open_cache(), open_cache()
    os.rename(tmp_path / "cache", tmp_path / "aside")
    first.fetch(OID, TID, download_of(marked(1000)))
    second.fetch(OID, OTHER, download_of(marked(2000)))
    assert read(second) == marked(1000) and read(first, tid=OTHER) == marked(2000)


# Switched on and off


def test_what_lay_in_clear_goes_when_it_is_switched_on(open_cache, tmp_path, caplog):
    plain = open_cache(ring=None)
    large = MemorySource(marked(10 * PART))
    plain.fetch(OID, TID, download_of(marked(1000)))
    with lazily(plain, large, tid=OTHER) as file:
        file.raw.read(10)
    assert len(in_clear(tmp_path)) == 2
    plain.close()
    with caplog.at_level(logging.WARNING):
        cache = open_cache()
        cache.clean()
    assert in_clear(tmp_path) == []
    assert sum("files in clear are removed" in record.getMessage() for record in caplog.records) == 1
    source = MemorySource(marked(1000))
    assert cache.get(OID, TID) is None
    assert read_through(cache, TID, lambda: source) == 1


def test_a_process_that_still_runs_without_it_loses_its_files_and_goes_on(open_cache, tmp_path):
    plain, cache = open_cache(ring=None), open_cache()
    until_idle(cache)
    for number in range(3):
        path = plain.fetch(OID, TID, download_of(marked(1000)))
        assert path.read_bytes() == marked(1000)
        cache.clean()
        assert in_clear(tmp_path) == [], number


def test_switched_off_the_encrypted_files_are_none(open_cache):
    cache = open_cache()
    cache.fetch(OID, TID, download_of(marked(1000)))
    cache.close()
    plain = open_cache(ring=None)
    assert plain.get(OID, TID) is None
    path = plain.fetch(OID, TID, download_of(marked(1000)))
    assert path.read_bytes() == marked(1000)
    plain.close()
    path.unlink()


def test_what_a_dead_process_left_in_clear_elsewhere_is_swept(open_cache, tmp_path):
    open_cache(ring=None).close()
    (store,) = (tmp_path / "cache").glob("*/cache.json")
    left = tmp_path / "elsewhere" / f"s3blobs-{store.parent.name}-1-2-3"
    left.mkdir()
    (left / "file").write_bytes(marked(1000))
    open_cache().clean()
    assert not left.exists()


def test_closed_it_decrypts_nothing(cache):
    cache.fetch(OID, TID, download_of(marked(1000)))
    cache.close()
    with pytest.raises(Unavailable):
        cache.path(OID, TID, lambda: MemorySource(b""))


# In zope.conf


def test_it_needs_keys(tmp_path):
    def opened(encryption):
        store = StoreSettings(bucket="plone", encryption=encryption)
        settings = StorageSettings(store=store, cache_dir=tmp_path / "cache", cache_encrypt=True)
        return opening.open_cache(settings, SimpleNamespace(identity="a store"), NoOverlay())

    for encryption in (None, configured([])):
        with pytest.raises(ConfigurationError, match=r"cache-encrypt is on, .* <client-side-encryption> or <sse-c>"):
            opened(encryption)
    assert not (tmp_path / "cache").exists()
    cache = opened(client_side(bytes(range(32))))
    assert cache.seals
    cache.close()
    assert list(tmp_path.glob("cache/*/machine.key"))


# What it costs


def test_the_first_byte_decrypts_two_segments_of_many(cache, monkeypatch):
    """One says that the file is whole, one has the byte."""
    from collective.s3blobstorage.cache import sealedform

    source = MemorySource(marked(3 * PART + 50 * SEGMENT))
    cache._parts._threshold = 100 * MB
    cache.complete(OID, TID, source)
    decrypted = []
    segment = sealedform._segment
    monkeypatch.setattr(sealedform, "_segment", lambda *args: (decrypted.append(args[-1]), segment(*args))[1])
    with lazily(cache, source) as file:
        assert file.read(1) == source.data[:1]
        assert len(decrypted) == 2
        file.seek(20 * SEGMENT + 5)
        file.read(1)
        assert len(decrypted) <= 4
        del decrypted[:]
        file.seek(0)
        while file.read(10_000):
            pass
    count = -(-len(source.data) // SEGMENT)
    assert count <= len(decrypted) <= count + 2  # each once, whatever the sizes of the reads
