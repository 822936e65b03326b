"""cache-encrypt through the storage: what Zope and tools do with blobs leaves nothing in clear, also after a crash."""

from __future__ import annotations

import dataclasses
import gc
import os
import random
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import transaction
from cache_state import MARK, in_clear, marked
from rings import client_side, ring
from sites import commit_blobs, connected
from ZODB.blob import Blob
from ZODB.FileStorage import FileStorage

from collective.s3blobstorage.cache import BlobCache
from collective.s3blobstorage.cache.partreader import PartReader
from collective.s3blobstorage.delivery.body import whole_file

KB = 1024
SMALL, LARGE = 50 * KB, 900 * KB
KINDS = ["filestorage", "sqlite-hp", "sqlite-hf", "postgresql-hp", "zeo-client"]


@pytest.fixture
def make(make_site, settings):
    """``make(kind)``: a site whose cache is encrypted, and that reads by parts above 400 KB."""

    def make(kind="filestorage", **more):
        more = {"cache_encrypt": True, "part_threshold": 400 * KB, "part_size": 100 * KB, **more}
        encryption = settings.encryption or client_side(bytes(range(32)))
        return make_site(kind, store=dataclasses.replace(settings, encryption=encryption), **more)

    return make


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_committed_and_read_is_not_in_clear(make, kind):
    site = make(kind)
    db = site.db()
    commit_blobs(db, small=marked(SMALL), large=marked(LARGE))
    assert in_clear(site.folder) == []
    for cold in (False, True):
        if cold:
            db.close()
            site.cold()
            db = site.db()
        with connected(db) as connection:
            root = connection.root()
            with root["small"].open("r") as file:
                assert file.read(10) == MARK[:10]
                assert isinstance(file, PartReader) and not whole_file(file)
                assert file.read() == marked(SMALL)[10:]
            with root["large"].open("r") as file:
                file.seek(850 * KB)
                assert file.read(KB) == marked(LARGE)[850 * KB :][:KB]
                assert in_clear(site.folder) == []
                file.seek(0)
                assert file.read() == marked(LARGE)
            assert in_clear(site.folder) == []


@pytest.mark.parametrize("fill", ["on", "off"])
@pytest.mark.parametrize("kind", ["filestorage", "sqlite-hp"])
def test_what_is_being_committed_is_not_in_clear(make, kind, fill, monkeypatch):
    """From ``storeBlob`` on: before that ZODB's own file of a blob that is being written is in clear."""
    site = make(kind, cache_fill_on_commit=fill)
    db = site.db()
    storage, looked = db.storage, []

    def looking(call):
        def look(*args, **kwargs):
            files = [path for path in site.folder.glob("cache/*/processes/*/staging/*") if path.is_file()]
            looked.append((len(files), in_clear(site.folder)))
            return call(*args, **kwargs)

        return look

    monkeypatch.setattr(storage.store_, "put_file", looking(storage.store_.put_file))
    monkeypatch.setattr(storage, "adopt", looking(storage.adopt))
    commit_blobs(db, small=marked(SMALL), large=marked(LARGE))
    assert [count for count, _ in looked][:2] in ([1, 1], [1, 2], [2, 1], [2, 2])  # there was something to look at
    assert [found for _, found in looked] == [[], [], []]
    assert in_clear(site.folder) == []
    assert list(site.folder.glob("cache/*/processes/*/staging/*")) == []
    with connected(db) as connection:
        for name, size in (("small", SMALL), ("large", LARGE)):
            with connection.root()[name].open("r") as file:
                assert file.read() == marked(size)


def test_a_blob_that_is_sent_in_parts(make):
    """Several threads read the encrypted file at once."""
    data = random.Random(1).randbytes(40 * 1024 * KB + 5)
    site = make(cache_fill_on_commit="on")
    db = site.db()
    commit_blobs(db, a=data)
    db.close()
    site.cold()
    with connected(site.db()) as connection, connection.root()["a"].open("r") as file:
        assert file.read() == data


def test_a_read_of_what_is_cached_counts_once(make):
    site = make()
    db = site.db()
    commit_blobs(db, a=marked(SMALL))
    counters = db.storage.cache.counters
    before = counters.snapshot()
    with connected(db) as connection, connection.root()["a"].open("r") as file:
        assert file.read() == marked(SMALL)
    after = counters.snapshot()
    assert {name: after[name] - before[name] for name in ("hits", "misses", "downloads")} == {
        "hits": 1,
        "misses": 0,
        "downloads": 0,
    }


def test_an_abort_leaves_nothing(make):
    site = make()
    db = site.db()
    with connected(db) as connection:
        connection.root()["a"] = blob = Blob()
        with blob.open("w") as file:
            file.write(marked(SMALL))
        transaction.savepoint()
        with blob.open("r") as file:
            assert file.read() == marked(SMALL)
        transaction.abort()
    gc.collect()
    db.storage.uploads.settle()
    assert in_clear(site.folder) == []


def test_keep_in_base_gives_the_base_the_blob_as_it_is(make, tmp_path):
    site = make(keep_in_base=True, cache_fill_on_commit="small")
    site.base = lambda: FileStorage(str(site.folder / "Data.fs"), blob_dir=str(tmp_path / "blobs"))
    db = site.db()
    commit_blobs(db, small=marked(SMALL), large=marked(LARGE))
    kept = sorted(tmp_path.glob("blobs/0x*/**/*.blob"), key=lambda path: path.stat().st_size)
    assert [path.read_bytes() for path in kept] == [marked(SMALL), marked(LARGE)]
    assert in_clear(site.folder) == []


def test_transactions_are_copied_with_their_blobs(make):
    one, two = make(), make()
    db = one.db()
    commit_blobs(db, small=marked(SMALL), large=marked(LARGE))
    storage = two.open()
    storage.copyTransactionsFrom(db.storage)
    storage.close()
    with connected(two.db()) as connection:
        for name, size in (("small", SMALL), ("large", LARGE)):
            with connection.root()[name].open("r") as file:
                assert file.read() == marked(size)
    assert in_clear(two.folder) == []


def test_a_path_lives_as_long_as_the_blob_is_loaded(make):
    site = make()
    db = site.db()
    commit_blobs(db, a=marked(SMALL))
    with connected(db) as connection:
        blob = connection.root()["a"]
        path = os.fspath(blob.committed())
        assert Path(path).read_bytes() == marked(SMALL)
        assert Path(path).stat().st_mode & 0o777 == 0o400
        assert blob.committed() == path and blob.committed() == blob.committed()
        assert in_clear(site.folder) == [Path(path)]
        plain = str.__str__(path)
        del path
        assert os.path.exists(plain)  # the promise has it
        blob._p_deactivate()
        gc.collect()
        assert not os.path.exists(plain) and in_clear(site.folder) == []


def test_a_blob_that_is_changed_in_place(make):
    site = make()
    db = site.db()
    commit_blobs(db, a=marked(SMALL))
    with connected(db) as connection:
        blob = connection.root()["a"]
        with blob.open("r+") as file:
            file.seek(SMALL)
            file.write(MARK)
        transaction.commit()
        with blob.open("r") as file:
            assert file.read() == marked(SMALL) + MARK
        gc.collect()
        blob._p_deactivate()
        gc.collect()
    assert in_clear(site.folder) == []


def test_the_root_storage_gives_paths_and_files(make):
    """As a ZEO server and tools use it."""
    site = make()
    db = site.db()
    storage = db.storage
    commit_blobs(db, a=marked(SMALL), b=marked(LARGE))
    with connected(db) as connection:
        for name, data in (("a", marked(SMALL)), ("b", marked(LARGE))):
            blob = connection.root()[name]
            blob._p_activate()
            oid, tid = blob._p_oid, blob._p_serial
            assert Path(str.__str__(storage.loadBlob(oid, tid))).read_bytes() == data
            with storage.openCommittedBlobFile(oid, tid) as file:
                assert file.read() == data
            with storage.openCommittedBlobFile(oid, tid, blob) as file:
                assert file.blob is blob and file.read() == data
    assert len(in_clear(site.folder)) == 2  # for five minutes
    storage.cache._clear._protect = 0
    storage.cache._tick()
    gc.collect()
    assert in_clear(site.folder) == []


CRASH = """
    import os, signal, sys
    from pathlib import Path
    sys.path[:0] = sys.argv[1].split(os.pathsep)
    from rings import ring
    from part_source import MemorySource
    from collective.s3blobstorage.cache import BlobCache

    data = Path(sys.argv[3]).read_bytes()
    options = {"size": 100_000_000, "part_threshold": 400_000, "part_size": 100_000, "ring": ring()}
    cache = BlobCache(Path(sys.argv[2]), "store", **options)
    oid = bytes(8)
    path = cache.path(oid, oid, lambda: MemorySource(data))
    assert open(path, "rb").read() == data
    reader = cache.open_lazily(oid, bytes(7) + b"1", MemorySource(data), name=Path("x"))
    reader.read(150_000)

    Path(sys.argv[3]).rename(sys.argv[3] + ".uncommitted")
    cache.stage(Path(sys.argv[3] + ".uncommitted"), cache.staging() / "staged", oid)

    def download(file):
        file.write(data)
        os.kill(os.getpid(), signal.SIGKILL)

    cache.fetch(oid, bytes(7) + b"2", download)
"""


def test_after_a_kill_the_next_process_leaves_nothing_in_clear(tmp_path):

    given = tmp_path / "given"
    given.write_bytes(marked(LARGE))
    paths = os.pathsep.join(path for path in sys.path if path)
    program = [sys.executable, "-c", textwrap.dedent(CRASH), paths, str(tmp_path / "cache"), str(given)]
    done = subprocess.run(program, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(list(tmp_path.glob("cache/*/processes/*/staging/staged"))) == 1
    (left,) = in_clear(tmp_path)  # the decrypted file that was in use; nothing else
    assert left.parent.parent.name == "processes"
    cache = BlobCache(tmp_path / "cache", "store", size=100_000_000, ring=ring())
    cache.clean()
    assert in_clear(tmp_path) == []
    cache.close()


def test_a_blob_in_its_record_has_a_path_too(make):
    site = make(inline_size=100_000)
    db = site.db()
    commit_blobs(db, a=marked(SMALL))
    with connected(db) as connection:
        blob = connection.root()["a"]
        with open(blob.committed(), "rb") as file:
            assert file.read() == marked(SMALL)
        with blob.open("r") as file:
            assert os.pread(file.fileno(), SMALL, 0) == marked(SMALL)
        del file  # its name is the promise
        blob._p_deactivate()
    gc.collect()
    assert in_clear(site.folder / "cache") == []


def test_what_zodb_exports_is_the_blob(make, tmp_path):
    site = make()
    db = site.db()
    commit_blobs(db, a=marked(SMALL))
    with connected(db) as connection:
        with (tmp_path / "export").open("w+b") as file:
            connection.exportFile(connection.root()["a"]._p_oid, file)
            file.seek(0)
            connection.root()["copy"] = connection.importFile(file)
        transaction.commit()
        with connection.root()["copy"].open("r") as file:
            assert file.read() == marked(SMALL)
