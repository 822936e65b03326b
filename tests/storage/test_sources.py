"""Blobs that only a source has, on real servers: each type of source, each way of reading, each way of failing."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import math
import os
import shutil
import time
from pathlib import Path

import pytest
import ZODB
from origins import CONTENTS, IN_A_BUCKET, KINDS, LARGE, PARTS, QUICK, add_blob, large_reader, snapshot, undo_last
from relstorage.adapters.sqlite.adapter import Sqlite3Adapter
from relstorage.options import Options
from relstorage.storage import RelStorage
from servers.faults import answer, flip, hang, reset, truncate
from sites import connected, raw_client, read_blob
from ZODB.POSException import POSKeyError
from zope.interface.verify import verifyObject

from collective.s3blobstorage.cache.interfaces import IBlobSource
from collective.s3blobstorage.errors import BlobMissing, ConfigurationError, Corrupt, StoreError, Unavailable
from collective.s3blobstorage.overlay.interfaces import ISource, Revision, SourceOptions
from collective.s3blobstorage.overlay.settings import BaseSettings, BlobDirSettings
from collective.s3blobstorage.storage import open_storage
from collective.s3blobstorage.storage.record import BlobState

KB = 1024
# Every source, every way of reading


@pytest.mark.parametrize("origin", KINDS)
def test_every_blob_is_read_from_there(make_staging, origin):
    staging = make_staging(origin)
    db = staging.db()
    assert {name: read_blob(db, name) for name in CONTENTS} == CONTENTS
    storage = db.storage
    for (oid, tid), data in staging.origin.revisions.items():
        assert Path(storage.loadBlob(oid, tid)).read_bytes() == data
        with storage.openCommittedBlobFile(oid, tid) as file:
            assert file.read() == data
    assert staging.keys() == []


@pytest.mark.parametrize("origin", KINDS)
def test_sizes_ranges_and_what_is_handed_out(make_staging, origin):
    db = make_staging(origin).db()
    with large_reader(db) as file:
        assert file.seek(0, os.SEEK_END) == len(LARGE)
        for start, length in ((len(LARGE) - 3, 10), (0, 5), (64 * KB - 2, 4), (100 * KB, 150 * KB)):
            file.seek(start)
            assert file.read(length) == LARGE[start : start + length]
    with connected(db) as connection:
        assert Path(connection.root()["large"].committed()).read_bytes() == LARGE


@pytest.mark.parametrize("origin", KINDS)
def test_writing_goes_to_the_bucket_and_undo_goes_back_to_the_source(make_staging, origin):
    staging = make_staging(origin)
    db = staging.db()
    with connected(db) as connection, connection.root()["small"].open("w") as file:
        file.write(b"new")
        file.close()
        connection.transaction_manager.commit()
    assert read_blob(db, "small") == b"new"
    assert len(staging.keys()) == 1
    undo_last(db)
    assert read_blob(db, "small") == b"small"
    staging.cold()
    db = staging.db()
    assert {name: read_blob(db, name) for name in CONTENTS} == CONTENTS


@pytest.mark.parametrize("origin", KINDS)
def test_pack_leaves_what_is_current(make_staging, origin):
    staging = make_staging(origin)
    db = staging.db()
    db.pack()
    assert {name: read_blob(db, name) for name in CONTENTS} == CONTENTS


@pytest.mark.parametrize("origin", KINDS)
def test_contracts(make_staging, origin):
    staging = make_staging(origin)
    overlay = staging.db().storage.overlay
    [member] = overlay.members
    verifyObject(ISource, member.source)
    (oid, tid), data = next(iter(staging.origin.revisions.items()))
    nameless = origin != "ours"
    if nameless:
        verifyObject(IBlobSource, member.source.blob(Revision(oid, tid, BlobState())))
        assert member.source.blob(Revision(oid, tid, BlobState())).describe() == (len(data), None)
        for state in (BlobState("0" * 32, len(data) + 1), BlobState("0" * 32, len(data), bytes(32))):
            if origin in IN_A_BUCKET:
                continue  # a name makes another key there
            with pytest.raises(Corrupt):
                member.source.blob(Revision(oid, tid, state)).download(io.BytesIO())
    with pytest.raises(BlobMissing):
        member.source.blob(Revision(oid, b"\1" * 8, BlobState())).describe()
    with pytest.raises(BlobMissing):
        member.source.blob(Revision(oid, b"\1" * 8, BlobState())).read(0, 1, bytearray().extend, None)
    with pytest.raises(BlobMissing):
        member.source.blob(Revision(oid, b"\1" * 8, BlobState())).download(io.BytesIO())


@pytest.mark.parametrize("origin", ["ours", "zodb-s3blobs", "bushy", "relstorage"])
def test_the_database_is_copied_out_with_all_blobs(make_staging, tmp_path, origin):
    staging = make_staging(origin)
    target = ZODB.FileStorage.FileStorage(str(tmp_path / "copy.fs"), blob_dir=str(tmp_path / "copied"))
    target.copyTransactionsFrom(staging.db().storage)
    for (oid, tid), data in staging.origin.revisions.items():
        assert Path(target.loadBlob(oid, tid)).read_bytes() == data
    target.close()


def test_a_database_without_its_blobs_is_copied_in_where_a_source_has_them(make_staging, settings, tmp_path):
    staging = make_staging("ours")
    changed = dataclasses.replace(
        staging.settings, store=dataclasses.replace(settings, prefix="other"), cache_dir=tmp_path / "other"
    )
    target = open_storage(ZODB.FileStorage.FileStorage(str(tmp_path / "copy.fs")), changed)
    target.copyTransactionsFrom(staging.origin.base())
    for (oid, tid), data in staging.origin.revisions.items():
        assert Path(target.loadBlob(oid, tid)).read_bytes() == data
    target.close()


# The bucket comes first, and what is there costs nothing more


def test_what_the_bucket_has_is_not_asked_for_elsewhere(make_staging, proxy):
    staging = make_staging("ours", source=lambda origin: origin.through(proxy.endpoint_url))
    db = staging.db()
    add_blob(db, "new", LARGE)
    add_blob(db, "tiny", b"tiny")
    staging.cold()
    proxy.reset()
    db = staging.db()
    assert (read_blob(db, "new"), read_blob(db, "tiny")) == (LARGE, b"tiny")
    assert proxy.counts("/production/") == {}


def test_without_a_source_no_request_is_added(make_staging, settings, proxy):
    store = dataclasses.replace(settings, prefix="staging", endpoint_url=proxy.endpoint_url)
    staging = make_staging("ours", store=store)
    add_blob(staging.db(), "new", LARGE)
    counts = []
    for sources in ((), staging.settings.sources):
        staging.cold()
        db = staging.db(sources=sources)
        proxy.reset()
        assert read_blob(db, "new") == LARGE
        counts.append(proxy.counts())
    assert counts[0] == counts[1]


def test_each_read_of_a_source_is_one_request_more(make_staging, settings, proxy):
    """404 of the bucket, then the source: a small blob by one GET, parts of a large one by their ranges."""
    store = dataclasses.replace(settings, prefix="staging", endpoint_url=proxy.endpoint_url)
    staging = make_staging("ours", store=store, source=lambda origin: origin.through(proxy.endpoint_url))
    db = staging.db()
    proxy.reset()
    read_blob(db, "small")
    assert proxy.counts("/staging/") == {"GetObject": 1}
    assert proxy.counts("/production/") == {"GetObject": 1}
    read_blob(db, "small")
    proxy.reset()
    with large_reader(db) as file:
        file.seek(-5, os.SEEK_END)
        assert file.read() == LARGE[-5:]
    assert proxy.counts("/staging/") == {"GetObject": 1}
    assert proxy.counts("/production/") == {"GetObject": 1}
    moved = sum(exchange.bytes_down for exchange in proxy.exchanges if "/production/" in exchange.path)
    assert moved <= PARTS["part_size"]


def test_what_is_nowhere_is_missing_and_remembered_to_be(make_staging, settings, proxy):
    staging = make_staging("ours", source=lambda origin: origin.through(proxy.endpoint_url))
    for key in snapshot(settings):
        raw_client(settings).delete_object(Bucket=settings.bucket, Key=key)
    db = staging.db()
    for name in ("small", "large"):
        proxy.reset()
        for _ in range(3):
            with pytest.raises(POSKeyError) as caught:
                read_blob(db, name)
            assert isinstance(caught.value, BlobMissing)
        # Parts of a large one may be asked for at the same time.
        assert 1 <= proxy.counts("/production/")["GetObject"] <= {"small": 1, "large": 5}[name]


@pytest.mark.parametrize("origin", ["bushy", "relstorage", "zodb-s3blobs"])
def test_a_revision_that_a_source_does_not_have_is_missing(make_staging, origin):
    staging = make_staging(origin, **{})
    storage = staging.db().storage
    (oid, tid), _ = next(iter(staging.origin.revisions.items()))
    source = storage.reader.source(oid, b"\1" * 8, BlobState())
    for ask in (source.describe, lambda: source.download(io.BytesIO())):
        with pytest.raises(BlobMissing):
            ask()


# A source that cannot be used says so, and never "missing"

FAULTS = {
    "403": (answer(403, "AccessDenied"), (Unavailable,)),
    "401": (answer(401, "InvalidAccessKeyId"), (Unavailable,)),
    "503": (answer(503, "SlowDown"), (Unavailable,)),
    "500": (answer(500, "InternalError"), (Unavailable,)),
    "bare-404": (answer(404, "SomethingElse"), (Unavailable,)),
    "no-bucket": (answer(404, "NoSuchBucket"), (Unavailable,)),
    "hang": (hang(), (Unavailable,)),
    "hang-in-body": (hang("response", 0), (Unavailable,)),
    "reset": (reset("before"), (Unavailable,)),
    "truncated": (truncate(0), (Unavailable, Corrupt)),
    "wrong-bytes": (flip(3), (Corrupt,)),
}


def read_when_back(db, name: str) -> bytes:
    """A circuit that is open lets one probe through in a second, and refuses what is read beside it."""
    until = time.monotonic() + 10
    while True:
        try:
            return read_blob(db, name)
        except Unavailable:
            assert time.monotonic() < until, "it does not come back"
            time.sleep(0.3)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", ["small", "large"])
def test_a_broken_source_is_unavailable_or_corrupt_and_never_missing(make_staging, proxy, fault, name):
    staging = make_staging("ours", source=lambda origin: origin.through(proxy.endpoint_url, **QUICK))
    db = staging.db()
    struck, errors = FAULTS[fault]
    rule = proxy.fail(struck, times=math.inf)
    started = time.monotonic()
    with pytest.raises(StoreError) as caught:
        read_blob(db, name)
    assert isinstance(caught.value, errors) and not isinstance(caught.value, POSKeyError)
    assert time.monotonic() - started < 15
    assert rule.hits
    if not (name == "large" and fault == "wrong-bytes"):  # found out when all parts are here, by whoever has them
        assert "Source 'production': " in str(caught.value)
    proxy.forgive()
    assert read_when_back(db, name) == CONTENTS[name]


def test_a_source_that_refuses_is_no_miss_for_a_nameless_record_either(make_staging, proxy):
    """HEAD has no body: a 404 of something else at that address must not count."""
    staging = make_staging("ours-nameless", source=lambda origin: origin.through(proxy.endpoint_url, **QUICK))
    db = staging.db()
    for fault in (answer(404, "SomethingElse"), answer(403, "AccessDenied")):
        proxy.forgive()
        proxy.fail(fault, times=math.inf)
        with pytest.raises(Unavailable):
            read_blob(db, "small")
    proxy.forgive()
    assert read_blob(db, "small") == b"small"


def test_a_source_that_is_down_stops_neither_start_nor_bucket_nor_cache(make_staging, proxy):
    staging = make_staging("ours", source=lambda origin: origin.through(proxy.endpoint_url, **QUICK))
    db = staging.db()
    add_blob(db, "new", b"in the bucket")
    assert read_blob(db, "large") == LARGE  # in the cache from here on
    staging.close()
    proxy.down()
    started = time.monotonic()
    db = staging.db(preflight=True)
    assert read_blob(db, "new") == b"in the bucket"
    assert read_blob(db, "large") == LARGE
    assert time.monotonic() - started < 5
    with pytest.raises(Unavailable, match="Source 'production': "):
        read_blob(db, "small")
    add_blob(db, "newer", b"committed meanwhile")
    assert read_blob(db, "newer") == b"committed meanwhile"
    proxy.up()
    assert read_when_back(db, "small") == b"small"


@pytest.mark.parametrize("broken", ["away", "empty", "a file", "bad marker", "no rights"])
def test_a_blob_directory_that_is_not_there_cannot_tell(make_staging, broken):
    """An unmounted file system leaves an empty folder."""
    staging = make_staging("bushy")
    path = staging.origin.source.path
    aside = path.with_name("aside")
    path.rename(aside)
    if broken == "empty":
        path.mkdir()
    elif broken == "a file":
        path.write_text("")
    elif broken == "bad marker":
        path.mkdir()
        (path / ".layout").write_text("tree")
    elif broken == "no rights":
        path.mkdir(mode=0)
    db = staging.db(preflight=True)
    add_blob(db, "new", b"in the bucket")
    assert read_blob(db, "new") == b"in the bucket"
    with pytest.raises(Unavailable, match="Source 'production': The "):
        read_blob(db, "small")
    if path.is_dir():
        path.chmod(0o700)
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    aside.rename(path)
    assert read_blob(db, "small") == b"small"
    # and again, now that it was known
    path.rename(aside)
    path.mkdir()
    with pytest.raises(Unavailable):
        read_blob(db, "large")
    path.rmdir()
    aside.rename(path)
    assert read_blob(db, "large") == LARGE


def test_a_file_of_the_blob_directory_that_cannot_be_read_is_unavailable(make_staging):
    staging = make_staging("bushy")
    db = staging.db()
    for path in staging.origin.source.path.rglob("*.blob"):
        path.chmod(0)
    with pytest.raises(Unavailable, match="Source 'production': The file of the blob cannot be opened"):
        read_blob(db, "small")


def test_a_zeo_server_that_is_gone_is_unavailable(make_staging):
    staging = make_staging("zeo")
    storage = staging.db().storage
    (oid, tid), _ = next(iter(staging.origin.revisions.items()))
    staging.origin.close()
    source = storage.reader.source(oid, tid, BlobState())
    with pytest.raises(Unavailable):
        source.describe()


# Two versions are never mixed


@pytest.mark.clear
def test_an_object_that_is_replaced_while_it_is_read_is_noticed(make_staging, settings):
    staging = make_staging("ours-nameless")
    db = staging.db()
    [key] = [key for key, (_, _, size) in snapshot(settings).items() if size == len(LARGE)]
    with large_reader(db) as file:
        assert file.read(1) == LARGE[:1]
        other = LARGE[::-1]
        raw_client(settings).put_object(Bucket=settings.bucket, Key=key, Body=other)
        file.seek(-10, os.SEEK_END)
        with pytest.raises(Unavailable, match="rewritten"):
            file.read()


def test_a_file_that_is_replaced_while_it_is_read_is_noticed(make_staging):
    staging = make_staging("bushy")
    db = staging.db()
    [path] = [path for path in staging.origin.source.path.rglob("*.blob") if path.stat().st_size == len(LARGE)]
    with large_reader(db) as file:
        assert file.read(1) == LARGE[:1]
        path.with_name("new").write_bytes(LARGE[::-1])
        path.with_name("new").rename(path)
        file.seek(-10, os.SEEK_END)
        with pytest.raises(Unavailable, match="rewritten"):
            file.read()


@pytest.mark.clear
def test_what_is_moved_into_the_bucket_while_it_is_read_is_read_to_the_end(make_staging, settings):
    """Its record knows its SHA-256, so the same bytes elsewhere are known to be the same."""
    staging = make_staging("ours")
    db = staging.db()
    [key] = [key for key, (_, _, size) in snapshot(settings).items() if size == len(LARGE)]
    with large_reader(db) as file:
        assert file.read(1) == LARGE[:1]
        client = raw_client(settings)
        client.put_object(Bucket=settings.bucket, Key=key.replace("production", "staging"), Body=LARGE)
        client.delete_object(Bucket=settings.bucket, Key=key)
        file.seek(0)
        assert file.read() == LARGE


def test_the_record_s_size_and_hash_hold_for_the_source_too(make_staging, settings):
    staging = make_staging("ours")
    db = staging.db()
    client = raw_client(settings)
    for key, (_, _, size) in snapshot(settings).items():
        if "/blobs/" in key:
            client.put_object(Bucket=settings.bucket, Key=key, Body=bytes(size))
    for name in ("small", "large"):
        with pytest.raises(Corrupt):
            read_blob(db, name)
    for key in snapshot(settings):
        if "/blobs/" in key:
            client.put_object(Bucket=settings.bucket, Key=key, Body=b"another size")
    for name in ("small", "large"):
        with pytest.raises(Corrupt, match="Source 'production': "):
            read_blob(db, name)


# Several sources


@pytest.mark.usefixtures("store_copies")
def test_two_sources_are_asked_in_order(make_staging, settings, proxy):
    staging = make_staging("ours", source=lambda origin: origin.through(proxy.endpoint_url, **QUICK))
    first = staging.settings.sources[0]
    replica = dataclasses.replace(
        staging.origin.source,
        options=SourceOptions("replica", mirror="off"),
        store=dataclasses.replace(staging.origin.source.store, prefix="replica"),
    )
    client = raw_client(settings)
    for key in snapshot(settings):
        source = {"Bucket": settings.bucket, "Key": key}
        client.copy_object(Bucket=settings.bucket, CopySource=source, Key=key.replace("production", "replica"))
        if "/blobs/" in key and snapshot(settings)[key][2] == len(LARGE):
            client.delete_object(Bucket=settings.bucket, Key=key)
    db = staging.db(sources=(first, replica))
    proxy.reset()
    assert read_blob(db, "small") == b"small"
    assert proxy.counts("/production/") == {"GetObject": 1}
    assert read_blob(db, "large") == LARGE  # only the second one has it
    proxy.down()
    assert read_blob(db, "changed") == b"second"  # the first one is out, the second one has it
    for key in snapshot(settings, "replica/"):
        client.delete_object(Bucket=settings.bucket, Key=key)
    [(oid, tid)] = [revision for revision, data in staging.origin.revisions.items() if data == b"first"]
    with pytest.raises(Unavailable, match="Source 'production': "):
        db.storage.loadBlob(oid, tid)


# The options, end to end


@pytest.mark.parametrize("origin", ["ours", "ours-relstorage"])
def test_after_the_fork_a_source_is_not_asked_but_undo_keeps_what_it_goes_back_to(make_staging, proxy, origin):
    staging = make_staging(origin)
    newest = max(tid for _, tid in staging.origin.revisions)
    source = dataclasses.replace(
        staging.origin.through(proxy.endpoint_url), options=SourceOptions("production", fork_tid=newest, mirror="off")
    )
    db = staging.db(sources=(source,))
    assert read_blob(db, "changed") == b"second"
    with connected(db) as connection, connection.root()["small"].open("w") as file:
        file.write(b"new")
        file.close()
        connection.transaction_manager.commit()
    [new] = staging.keys()
    undo_last(db)
    # The undo's revision is later than the fork: its object came into the bucket, under the name that it keeps.
    assert len(staging.keys()) == 2
    undo_last(db)
    assert read_blob(db, "small") == b"new"
    raw_client(staging.settings.store).delete_object(Bucket=staging.settings.store.bucket, Key=f"staging/{new}")
    staging.cold()
    db = staging.db(sources=(source,))
    proxy.reset()
    with pytest.raises(BlobMissing):
        read_blob(db, "small")
    assert proxy.counts("/production/") == {}
    assert read_blob(db, "changed") == b"second"


def test_max_size(make_staging):
    staging = make_staging("bushy", source=lambda origin: origin.with_options(max_size=1000))
    db = staging.db()
    assert read_blob(db, "small") == b"small"
    with pytest.raises(Unavailable, match="Source 'production': .* max-size is 1000"):
        read_blob(db, "large")


# Nothing in the source is ever changed


def test_a_user_who_may_only_read_is_enough_and_nothing_there_changes(make_staging, settings, s3_server, s3):
    origin_store = dataclasses.replace(settings, prefix="production")
    policy = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Action": ["s3:GetObject", "s3:ListBucket"],
                "Resource": [f"arn:aws:s3:::{settings.bucket}", f"arn:aws:s3:::{settings.bucket}/production/*"],
            }
        ],
    }
    try:
        access, secret = s3_server.create_user(f"reader-{settings.bucket}", policy)
    except TypeError:
        pytest.skip("users with policies are MiniStack's")
    staging = make_staging(
        "ours", source=lambda origin: origin.through(settings.endpoint_url, access_key=access, secret_key=secret)
    )
    # The credentials can do nothing else.
    reader = dataclasses.replace(origin_store, access_key=access, secret_key=secret)
    for write in (
        lambda client: client.put_object(Bucket=settings.bucket, Key="production/x", Body=b""),
        lambda client: client.delete_object(Bucket=settings.bucket, Key=next(iter(snapshot(settings)))),
    ):
        with pytest.raises(Exception, match="AccessDenied"):
            write(raw_client(reader))
    before = snapshot(settings)
    db = staging.db(preflight=True)
    assert {name: read_blob(db, name) for name in CONTENTS} == CONTENTS
    with connected(db) as connection:
        with connection.root()["small"].open("w") as file:
            file.write(b"edited")
        del connection.root()["large"]
        connection.transaction_manager.commit()
    undo_last(db)
    with connected(db) as connection:
        del connection.root()["changed"]
        connection.transaction_manager.commit()
    db.pack()
    assert read_blob(db, "large") == LARGE
    staging.close()
    assert snapshot(settings) == before


def test_a_source_has_no_verb_that_writes(make_staging, settings, tmp_path):
    from collective.s3blobstorage.errors import Refused
    from collective.s3blobstorage.keys import blob_key

    staging = make_staging("ours")
    [member] = staging.db().storage.overlay.members
    store = member.source._store
    before = snapshot(settings)
    (tmp_path / "file").write_bytes(b"x")
    key = blob_key(b"\0" * 8, "0" * 32)
    for write in (
        lambda: store.put_bytes(key, b"x"),
        lambda: store.put_file(key, tmp_path / "file", metadata={}),
        lambda: store.copy(key, key + "0"),
        lambda: store.delete([key]),
        lambda: store.abort_upload(key, "x"),
    ):
        with pytest.raises(Refused):
            write()
    assert snapshot(settings) == before


# Refusals at the start


def test_a_base_source_needs_a_base_with_blobs(make_staging, tmp_path, settings):
    staging = make_staging("bushy")
    with pytest.raises(ConfigurationError, match="<basesource>: the storage inside has no blobs of its own"):
        staging.db(sources=(BaseSettings(SourceOptions("base")),))


def test_a_shared_directory_of_the_base_is_a_blob_directory(make_staging, tmp_path):
    staging = make_staging("bushy")
    options = Options(blob_dir=str(tmp_path / "shared"), shared_blob_dir=True)
    adapter = Sqlite3Adapter(str(tmp_path / "sqlite"), pragmas={"synchronous": "off"}, options=options)
    staging.origin.base = lambda: RelStorage(adapter, name="sqlite", options=options)
    with pytest.raises(ConfigurationError, match=f"put a <blobdirsource> with path {tmp_path}/shared/? in its place"):
        staging.db(sources=(BaseSettings(SourceOptions("base")),))


@pytest.mark.parametrize("origin", ["relstorage", "zeo"])
def test_a_base_with_blobs_is_refused_without_a_base_source_by_the_section_to_add(make_staging, origin):
    staging = make_staging(origin)
    with pytest.raises(ConfigurationError, match="add a <basesource>"):
        staging.db(sources=())
    with pytest.raises(ConfigurationError, match="add a <blobdirsource>"):
        staging.db(sources=(BlobDirSettings(SourceOptions("dir"), Path("/nowhere")),))


def test_what_is_wrong_with_a_source_is_logged_at_the_start(make_staging, settings, caplog):
    staging = make_staging("ours")
    missing = staging.origin.through(settings.endpoint_url, bucket="no-such-bucket-here")
    keys = dataclasses.replace(staging.origin.through(settings.endpoint_url, secret_key="x" * 40))
    keys = dataclasses.replace(keys, options=SourceOptions("keys", mirror="off"))
    directory = BlobDirSettings(SourceOptions("directory"), Path("/nowhere/at/all"))
    db = staging.db(sources=(missing, keys, directory, staging.origin.with_options(name="good")), preflight=True)
    assert read_blob(db, "small") == b"small"
    staging.close()  # waits for the look
    told = [record.getMessage() for record in caplog.records if "overlay" in record.name]
    assert any("source production" in line and "there is no such bucket (bucket-name)" in line for line in told)
    assert any("source keys" in line and "403" in line and "s3:ListBucket" in line for line in told)
    assert any("/nowhere/at/all" in line for line in told)
    assert not any("source good" in line for line in told)


def test_hash_of_what_was_made_of_parts(make_staging):
    """The parts of a source's blob become an ordinary file of the cache."""
    staging = make_staging("ours")
    db = staging.db()
    with large_reader(db) as file:
        file.read(1)
    with connected(db) as connection:
        path = Path(connection.root()["large"].committed())
    assert path.is_relative_to(staging.settings.cache_dir)
    assert hashlib.sha256(path.read_bytes()).digest() == hashlib.sha256(LARGE).digest()
