"""``keep-in-base``: what is committed is in the bucket and in the base, which stock ZODB opens without this package."""

from __future__ import annotations

import dataclasses
import math
import os
import time
from pathlib import Path

import pytest
import ZODB
import ZODB.config
from blob_sites import files_of, undo_last
from command_line import document, keys_of, one_line, s3blobs
from kept_sites import KINDS, KeptSite
from servers.faults import answer
from sites import Against, bucket_keys, commit_blobs, connected, read_blob, run_zeo
from ZConfig import ConfigurationError as ZConfigError
from ZEO.ClientStorage import ClientStorage
from ZODB.blob import Blob
from ZODB.FileStorage import FileStorage
from ZODB.POSException import ConflictError, UndoError

from collective.s3blobstorage.errors import ConfigurationError, StagingError, StoreError
from collective.s3blobstorage.settings import StorageSettings
from collective.s3blobstorage.storage import open_storage

KB = 1024
SMALL = b"the cache takes it"
LARGE = os.urandom(300 * KB)  # more than the cache takes at a commit
CACHE = ["part-threshold 128KB", "part-size 64KB"]


def objects(site: KeptSite) -> list[str]:
    return [key for key in bucket_keys(site.store) if key.startswith("blobs/")]


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_in_both_and_each_alone_has_it(kept, kind):
    site = kept(kind)
    db = site.db(site.new(site.source, *CACHE, "inline-size 8"))
    contents = {"small": SMALL, "large": LARGE, "empty": b"", "inline": b"tiny"}
    commit_blobs(db, **contents)
    commit_blobs(db, small=b"changed here", large=LARGE[::-1])
    contents.update(small=b"changed here", large=LARGE[::-1])
    assert {name: read_blob(db, name) for name in contents} == contents
    assert len(objects(site)) == 4 and site.left() == []
    site.cold()
    db = site.db(site.old())
    assert {name: read_blob(db, name) for name in contents} == contents
    commit_blobs(db, old=b"of the old configuration", small=b"changed there")
    contents.update(old=b"of the old configuration", small=b"changed there")
    site.cold()
    db = site.db(site.new(site.source, *CACHE))
    assert {name: read_blob(db, name) for name in contents} == contents
    site.cold()
    if site.shared:  # the bucket has all that was committed here; what the old one committed is only there
        site.blobs.rename(site.folder / "away")
        site.blobs.mkdir()
        (site.blobs / ".layout").write_text("bushy")
        db = site.db(site.new(site.source))
        assert read_blob(db, "large") == contents["large"] and read_blob(db, "inline") == b"tiny"


@pytest.mark.parametrize("kind", KINDS)
def test_undo_and_pack(kept, kind):
    site = kept(kind)
    db = site.db(site.new(site.source))
    commit_blobs(db, a=b"first", b=LARGE)
    time.sleep(0.01)
    commit_blobs(db, a=b"second")
    undo_last(db)
    assert read_blob(db, "a") == b"first"
    undo_last(db)
    assert read_blob(db, "a") == b"second"
    db.pack()
    assert read_blob(db, "a") == b"second" and read_blob(db, "b") == LARGE
    stays = len(objects(site))
    site.cold()
    db = site.db(site.old())
    assert read_blob(db, "a") == b"second" and read_blob(db, "b") == LARGE
    assert len(objects(site)) == stays == 3  # the base packs its own; the bucket is cleaned by other rules


@pytest.mark.parametrize("kind", KINDS)
def test_an_abort_leaves_nothing_in_either(kept, kind):
    site = kept(kind)
    db = site.db(site.new(site.source, *CACHE))
    commit_blobs(db, a=b"first")
    before = objects(site)
    with connected(db) as first, connected(db) as second:
        for connection in (first, second):
            with connection.root()["a"].open("w") as file:
                file.write(LARGE)
            connection.root()["a2"] = Blob(SMALL)
        first.transaction_manager.commit()
        with pytest.raises(ConflictError):
            second.transaction_manager.commit()
        second.transaction_manager.abort()
    db.storage.uploads.settle()
    assert len(objects(site)) == len(before) + 2 and site.left() == []
    with connected(db) as connection:
        connection.root()["b"] = Blob(LARGE)
        connection.transaction_manager.get().join(Against())
        with pytest.raises(ValueError, match="^no$"):
            connection.transaction_manager.commit()
    db.storage.uploads.settle()
    assert len(objects(site)) == len(before) + 2 and site.left() == []


def test_a_store_that_refuses_leaves_nothing_in_the_base(kept, settings, proxy):
    site = kept(store=dataclasses.replace(settings, endpoint_url=proxy.endpoint_url))
    db = site.db(site.new(*CACHE))
    commit_blobs(db, a=b"first")
    proxy.fail(answer(403, "AccessDenied"), method="PUT", times=math.inf)
    for data in (SMALL, LARGE):
        with pytest.raises(StoreError):
            commit_blobs(db, a=data)
    db.storage.uploads.settle()
    assert site.left() == [] and len(files_of(site.blobs)) == 1


@pytest.mark.parametrize("cached", ["on", "off"], ids=["copied", "moved"])
def test_a_base_whose_disk_is_full(kept, small_disk, cached):
    """The commit fails, in words that name the setting, and nothing is left anywhere. Until it is full it is used."""
    site = kept()
    site.blobs = small_disk / "blobs"
    db = site.db(site.new(f"cache-fill-on-commit {cached}"))
    commit_blobs(db, a=LARGE)
    before = objects(site)
    with pytest.raises(StagingError, match="keep-in-base: .* No space left on device"):
        commit_blobs(db, a=LARGE * 14)
    db.storage.uploads.settle()
    assert objects(site) == before and list((site.blobs / "tmp").iterdir()) == []
    assert list(files_of(site.blobs).values()) == [LARGE] and read_blob(db, "a") == LARGE
    commit_blobs(db, a=LARGE[:-1])
    site.cold()
    assert read_blob(site.db(site.old()), "a") == LARGE[:-1]


def test_the_file_of_the_base_is_its_own(kept):
    """The cache stamps the times of its files; those of the base's are what backups go by."""
    site = kept()
    db = site.db(site.new("cache-fill-on-commit on"))
    commit_blobs(db, a=SMALL)
    with connected(db) as connection:
        blob = connection.root()["a"]
        cached = Path(blob.committed())
        file = site.path(blob._p_oid, blob._p_serial)
    assert cached.read_bytes() == file.read_bytes() and not cached.samefile(file)
    assert abs(file.stat().st_mtime - time.time()) < 60


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["copied", "moved"])
def test_the_base_has_the_file_before_it_begins(kept, settings, data):
    """No byte is copied while the base's commit lock is held: other writers would wait for it."""
    site = kept()
    there: list[list[int]] = []

    class Watched(FileStorage):
        def tpc_begin(self, *args, **kwargs):
            there.append([path.stat().st_size for path in (site.blobs / "tmp").iterdir()])
            return super().tpc_begin(*args, **kwargs)

    base = Watched(str(site.folder / "Data.fs"), blob_dir=str(site.blobs))
    more = {"keep_in_base": True, "part_threshold": 128 * KB, "owner": "www.example.org"}
    db = ZODB.DB(open_storage(base, StorageSettings(store=settings, cache_dir=site.folder / "cache", **more)))
    there.clear()
    commit_blobs(db, a=data)
    db.close()
    assert there == [[len(data)]]


def test_a_revision_that_the_base_lacks_is_not_undone_to_until_export_brings_it(kept, settings, tmp_path):
    site = kept()
    stock = site.new(base=f"<filestorage>\n  path {site.folder}/Data.fs\n</filestorage>", keep="off")
    db = site.db(stock)
    commit_blobs(db, a=b"while it was off")
    site.shut()
    db = site.db(site.new())
    commit_blobs(db, a=b"second")
    with pytest.raises(UndoError, match="while keep-in-base is on.*`s3blobs export --to`"):
        undo_last(db)
    assert read_blob(db, "a") == b"second"
    site.shut()
    configuration = site.folder / "storage.conf"
    configuration.write_text(site.new())
    result = s3blobs("--config", configuration, "export", "--to", site.blobs, "--json", env=keys_of(settings))
    assert result.returncode == 0 and document(result)["written"]["blobs"] == 1, result.stderr
    db = site.db(site.new())
    undo_last(db)
    assert read_blob(db, "a") == b"while it was off"
    site.shut()
    assert read_blob(site.db(site.old()), "a") == b"while it was off"


def test_a_zeo_server_that_still_has_a_blob_dir_says_what_is_in_the_way_of_an_undo(kept):
    site = kept("zeo")
    db = site.db(site.alone())
    commit_blobs(db, a=b"first")
    commit_blobs(db, a=b"second")
    with pytest.raises(UndoError, match="take blob-dir out of its <filestorage>, in zeo.conf too"):
        undo_last(db)
    assert read_blob(db, "a") == b"second"


@pytest.mark.parametrize("blobs", ["with their files", "whose files are in the bucket"])
def test_a_copy_of_a_database_fills_the_base_too(kept, settings, tmp_path, blobs):
    site, copy = kept(), kept()
    db = site.db(site.new("inline-size 8"))
    commit_blobs(db, a=b"first", b=LARGE, c=b"tiny")
    commit_blobs(db, a=b"second one")
    undo_last(db)
    site.shut()
    source = FileStorage(
        str(site.folder / "Data.fs"), blob_dir=str(site.blobs) if blobs == "with their files" else None
    )
    target = ZODB.config.storageFromString(copy.new())
    target.copyTransactionsFrom(source)
    source.close()
    target.close()
    assert files_of(copy.blobs) == files_of(site.blobs) and copy.left() == []
    assert read_blob(copy.db(copy.old()), "a") == b"first"


def test_a_copy_into_relstorage_fills_it_too(kept):
    site, copy = kept(), kept("sqlite")
    db = site.db(site.new("inline-size 8"))
    commit_blobs(db, a=b"first of all", b=LARGE, c=b"tiny")
    commit_blobs(db, a=b"second one")
    site.shut()
    source = FileStorage(str(site.folder / "Data.fs"), blob_dir=str(site.blobs))
    target = ZODB.config.storageFromString(copy.new())
    target.copyTransactionsFrom(source)
    source.close()
    target.close()
    assert copy.left() == []
    copy.cold()
    db = copy.db(copy.old())
    assert [read_blob(db, name) for name in "abc"] == [b"second one", LARGE, b"tiny"]


def test_a_zeo_server_that_serves_it(kept, tmp_path):
    """The root storage: its base gets each blob at once."""
    site = kept()
    folder = tmp_path / "server"
    folder.mkdir()
    section = site.new("inline-size 8").replace("<s3blobstorage>", "<s3blobstorage main>")
    port, process = run_zeo(folder, section)
    try:
        storage = ClientStorage(("127.0.0.1", port), "main", wait_timeout=30, blob_dir=str(folder / "fetched"))
        db = ZODB.DB(storage)
        commit_blobs(db, a=b"first of all", b=LARGE, c=b"tiny")
        commit_blobs(db, a=b"second one")
        undo_last(db)
        assert read_blob(db, "a") == b"first of all"
        db.close()
    finally:
        process.terminate()
        process.wait()
    assert site.left() == [] and len(objects(site)) == 3
    db = site.db(site.old())
    assert [read_blob(db, name) for name in "abc"] == [b"first of all", LARGE, b"tiny"]


def test_purge_is_refused_while_it_is_on(kept, settings):
    site = kept()
    commit_blobs(site.db(site.new()), a=b"first")
    site.shut()
    configuration = site.folder / "storage.conf"
    configuration.write_text(site.new())
    arguments = ["--config", configuration, "migrate", "--from", site.blobs]
    for more in ([], ["--dry-run"]):
        result = s3blobs(*arguments, "--purge-source", *more, env=keys_of(settings), input="www.example.org\n")
        assert result.returncode == 2 and "set keep-in-base off" in one_line(result), result.stdout
    assert len(files_of(site.blobs)) == 1
    result = s3blobs(*arguments, "--compare", "--json", env=keys_of(settings))
    assert result.returncode == 0 and document(result)["problems"] == [], result.stderr


# Configuration


def test_a_base_without_blobs(kept):
    site = kept()
    stock = f"<filestorage>\n  path {site.folder}/Data.fs\n</filestorage>"
    with pytest.raises(ZConfigError, match="keep-in-base is on, and the <filestorage> inside has no blob-dir"):
        site.db(site.new(base=stock))
    with pytest.raises(ConfigurationError, match="keep-in-base is on, and the storage inside .* has no blobs"):
        site.db(site.new(base="<mappingstorage/>"))
    zeo = kept("zeo")
    lines = "".join(line for line in zeo.base().splitlines(keepends=True) if "blob-dir" not in line)
    with pytest.raises(ConfigurationError, match="keep-in-base is on, and the storage inside .* has no blobs"):
        zeo.db(zeo.new(base=lines))


@pytest.mark.parametrize("kind", KINDS)
def test_off_refuses_blobs_in_the_base_and_names_the_setting(kept, kind):
    site = kept(kind)
    with pytest.raises((ZConfigError, ConfigurationError), match="set keep-in-base on"):
        site.db(site.new(keep="off"))


@pytest.mark.parametrize("kind", ["filestorage", "blobstorage", "sqlite-shared", "zeo-shared"])
def test_a_directory_is_read_by_a_blobdirsource(kept, kind):
    site = kept(kind)
    with pytest.raises((ZConfigError, ConfigurationError), match="<basesource>.*<blobdirsource>"):
        site.db(site.new("<basesource>\n</basesource>"))


def test_one_inside_another_is_refused(kept):
    site = kept()
    inner = "\n".join(site.new().splitlines()[1:])
    with pytest.raises(ConfigurationError, match="nested in another"):
        site.db(site.new(base=inner))


def test_a_copying_demostorage_keeps_in_its_changes(kept):
    """A <demostorage> has blobs where its changes have."""
    site = kept()
    changes = f"<filestorage changes>\n    path {site.folder}/changes.fs\n    blob-dir {site.blobs}\n  </filestorage>"
    inner = f"<demostorage>\n  <mappingstorage base>\n  </mappingstorage>\n  {changes}\n</demostorage>"
    db = site.db(site.new(base=inner))
    commit_blobs(db, a=b"first")
    assert list(files_of(site.blobs).values()) == [b"first"] and len(objects(site)) == 1
