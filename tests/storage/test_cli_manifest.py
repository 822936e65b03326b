"""``s3blobs manifest``: what the database refers to at one transaction, and whether a bucket has it."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import os
import threading
import tracemalloc
import uuid
from contextlib import closing

import plone_like
import pytest
from blob_sites import KINDS, fill
from command_line import document, keys_of, one_line, s3blobs
from sites import as_ours, bucket_keys, commit_blobs, raw_client
from test_cli_migrate import switched
from test_iam_policies import ACTIONS, allowed_by, policy, resource
from ZODB.Connection import TransactionMetaData
from ZODB.FileStorage import FileStorage
from ZODB.utils import p64, z64

from collective.s3blobstorage.keys import BLOBS, MANIFESTS
from collective.s3blobstorage.maintenance.inventory import Inventory
from collective.s3blobstorage.maintenance.manifest import Header, Manifest, write
from collective.s3blobstorage.maintenance.spool import Spool
from collective.s3blobstorage.objectstore import open_store
from collective.s3blobstorage.storage.owner import Marker
from collective.s3blobstorage.storage.record import BlobState, record_of

OWNER = "owner old.example.org"


@pytest.fixture
def site(old_site, settings, monkeypatch):
    """``site(kind, *keys)``: a new site of ours: its configuration, and its open database."""
    opened = []

    def make(kind="filestorage", *more, store=settings):
        made = old_site(kind)
        conf = made.conf(store, OWNER, *more)
        db = switched(conf, store, monkeypatch)
        opened.append(db)
        return conf, db

    yield make
    for db in opened:
        db.close()


def manifest(conf, *arguments, store, **options):
    return s3blobs("--config", conf, "manifest", *arguments, env=keys_of(store), **options)


def lines_of(data):
    return [json.loads(line) for line in data.splitlines()]


def written(conf, target, *arguments, store):
    result = manifest(conf, "--to", target, *arguments, "--json", store=store)
    assert result.returncode == 0, result.stderr
    return document(result), lines_of(target.read_bytes())


def revisions_of(db):
    """Every kept blob revision with its bytes, by what stock ZODB reads of the transactions."""
    storage = db.storage
    found = {}
    with plone_like.connected(db) as connection:
        root = connection.root()
        for name in list(root):
            if hasattr(root[name], "open"):
                with root[name].open() as file:
                    found[root[name]._p_oid.hex(), root[name]._p_serial.hex()] = file.read()
    assert storage
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_in_it(site, settings, tmp_path, kind):
    conf, db = site(kind)
    if kind == "zeo-client":  # its server has a blob-dir, so nothing of the bucket can be undone
        commit_blobs(db, a=b"first of a")
        commit_blobs(db, a=b"second of a", empty=b"", b=os.urandom(70_000), c=b"c")
    else:
        fill(db)
    with plone_like.classes() as kinds:
        plone_like.fill(db, kinds)
    last = db.lastTransaction()
    told, lines = written(conf, tmp_path / "m.ndjson", "--ask", store=settings)
    head, *entries, end = lines
    assert (head["manifest"], head["owner"], head["tid"]) == (1, "old.example.org", last.hex())
    whole = (tmp_path / "m.ndjson").read_bytes()
    assert end["sha256"] == hashlib.sha256(whole[:-78]).hexdigest() == told["sha256"]
    assert end["blobs"] == len(entries) and end["missing"] == end["damaged"] == 0
    assert entries == sorted(entries, key=lambda entry: (entry["oid"], entry["tid"]))
    assert (tmp_path / "m.ndjson").stat().st_mode & 0o777 == 0o600
    by_revision = {(entry["oid"], entry["tid"]): entry for entry in entries}
    current = revisions_of(db)
    assert set(current) <= set(by_revision) and len(current) >= 5
    raw = raw_client(settings)
    for revision, entry in by_revision.items():
        if "inline" in entry:
            continue
        if revision in current:
            data = current[revision]
            assert (entry["size"], entry["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
        key = f"{settings.prefix}/{entry['key']}".lstrip("/")
        assert raw.list_objects_v2(Bucket=settings.bucket, Prefix=key)["KeyCount"] == 1  # a HEAD may need a key
        ring = settings.encryption and settings.encryption.ring
        assert entry["key_id"] is not None and bool(entry["key_id"]) == bool(ring)
    paths = {entry["path"]: entry for entry in entries}
    assert paths["/Plone/files/picture"]["type"] == "Image"
    assert paths["/Plone/files/kept"]["field"] == "file"
    assert any(entry.get("past") and entry["type"] == "File" and entry["path"] is None for entry in entries)


def test_what_is_committed_meanwhile_is_not_in_it(site, settings, tmp_path):
    conf, db = site()
    commit_blobs(db, a=b"first", b=b"stays")
    first, _ = written(conf, tmp_path / "one", store=settings)
    commit_blobs(db, a=b"second", new=b"later")
    second, lines = written(conf, tmp_path / "two", store=settings)
    assert (first["blobs"], second["blobs"]) == (2, 4)
    told = document(manifest(conf, "--verify", tmp_path / "one", "--json", store=settings))
    assert told["found"]["there"]["blobs"] == 2 and told["new"]["blobs"] == 2
    if settings.encryption is None:  # else by what is stored
        assert told["new"]["bytes"] == len(b"secondlater")
    new = manifest(conf, "--new-since", tmp_path / "one", "--of", tmp_path / "two", store=settings)
    assert new.returncode == 0
    assert sorted(new.stdout.split()) == sorted(line["key"] for line in lines[1:-1] if line["tid"] > first["tid"])
    as_json = document(
        manifest(conf, "--new-since", tmp_path / "one", "--of", tmp_path / "two", "--json", store=settings)
    )
    assert as_json["count"] == 2 == len(as_json["objects"]) and as_json["bytes"] == len(b"secondlater")
    back = manifest(conf, "--new-since", tmp_path / "two", "--of", tmp_path / "one", store=settings)
    assert back.returncode == 2 and "is later than" in one_line(back)
    same = manifest(conf, "--new-since", tmp_path / "two", "--of", tmp_path / "two", store=settings)
    assert same.stdout == ""


def test_in_the_bucket_listed_verified_and_encrypted(site, settings):
    conf, db = site()
    with plone_like.classes() as kinds:
        plone_like.fill(db, kinds)
    empty = manifest(conf, "--verify", "--json", store=settings)
    assert empty.returncode == 2 and "--in-bucket" in document(empty)["error"]
    made = document(manifest(conf, "--in-bucket", "--json", store=settings))
    [key] = [key for key in bucket_keys(settings) if key.startswith(MANIFESTS)]
    assert made["key"] == key and key.endswith(made["tid"]) and made["locked_until"] is None
    with as_ours(settings) as store:
        told = store.get_bytes(key)
    assert b"/Plone/files/picture" in told
    if settings.encryption and settings.encryption.name == "client-side":
        name = f"{settings.prefix}/{key}".lstrip("/")
        stored = raw_client(settings).get_object(Bucket=settings.bucket, Key=name)["Body"].read()
        assert b"Plone" not in stored and b"oid" not in stored
    for name in ((), ("latest",), (key,)):
        result = manifest(conf, "--verify", *name, "--json", store=settings)
        assert result.returncode == 0 and document(result)["manifest"] == key
    listed = document(manifest(conf, "--list", "--json", store=settings))["manifests"]
    assert [(each["key"], each["tid"]) for each in listed] == [(key, made["tid"])]
    assert key in manifest(conf, "--list", store=settings).stdout
    text = manifest(conf, "--verify", store=settings)
    assert text.returncode == 0 and made["sha256"] in text.stdout and "new since" in text.stdout


def test_what_is_lost_is_named(site, settings, tmp_path):
    conf, db = site()
    commit_blobs(db, a=b"is lost", b=b"is cut short", c=b"stays")
    before, lines = written(conf, tmp_path / "m", store=settings)
    a, b, _ = sorted(lines[1:-1], key=lambda line: line["size"] != 7)
    raw, prefix = raw_client(settings), f"{settings.prefix}/" if settings.prefix else ""
    sizes = {line["size"]: line for line in lines[1:-1]}
    raw.delete_object(Bucket=settings.bucket, Key=prefix + sizes[7]["key"])
    raw.put_object(Bucket=settings.bucket, Key=prefix + sizes[12]["key"], Body=b"is")
    result = manifest(conf, "--verify", tmp_path / "m", "--json", store=settings)
    told = document(result)
    assert result.returncode == 1
    assert (told["missing"], told["different"], told["found"]["there"]["blobs"]) == (1, 1, 1)
    assert {problem["oid"] for problem in told["problems"]} == {f"0x{int(sizes[n]['oid'], 16):02x}" for n in (7, 12)}
    again = manifest(conf, "--to", tmp_path / "again", "--json", store=settings)
    assert again.returncode == 1 and document(again)["missing"] == 1
    assert [line["size"] for line in lines_of((tmp_path / "again").read_bytes())[1:-1] if line.get("missing")] == [7]
    text = manifest(conf, "--verify", tmp_path / "m", store=settings)
    assert text.returncode == 1 and sizes[7]["key"] in text.stdout


DAMAGES = {
    "a size": lambda data: data.replace(b'"size":5', b'"size":6'),
    "a count": lambda data: data.replace(b'"missing":0', b'"missing":1'),
    "a line less": lambda data: b"".join(data.splitlines(keepends=True)[:1] + data.splitlines(keepends=True)[2:]),
    "cut between lines": lambda data: b"".join(data.splitlines(keepends=True)[:-1]),
    "cut in a line": lambda data: data[:-20],
    "another end": lambda data: data + b"{}\n",
    "another head": lambda data: data.replace(b"old.example.org", b"new.example.org"),
    "empty": lambda data: b"",
    "no manifest": lambda data: b"\x00\xff" * 50 + b"\n",
    "newer": lambda data: data.replace(b'"manifest":1', b'"manifest":2'),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_one_that_was_changed_or_cut_is_refused(site, settings, tmp_path, name):
    conf, db = site()
    commit_blobs(db, a=b"five!", b=b"another")
    written(conf, tmp_path / "m", store=settings)
    (tmp_path / "m").write_bytes(DAMAGES[name]((tmp_path / "m").read_bytes()))
    result = manifest(conf, "--verify", tmp_path / "m", store=settings)
    assert result.returncode == 2 and "cannot be used" in one_line(result)
    assert ("newer release" in result.stderr) == (name == "newer")


@pytest.mark.clear
def test_inline_blobs_are_in_it(site, settings, tmp_path):
    conf, db = site("filestorage", "inline-size 50")
    commit_blobs(db, a=b"tiny", b=b"x" * 51)
    _, lines = written(conf, tmp_path / "m", store=settings)
    tiny, large = sorted(lines[1:-1], key=lambda line: line["size"])
    assert base64.b64decode(tiny["inline"]) == b"tiny" and tiny["key"] == ""
    assert "inline" not in large and large["key"].startswith(BLOBS)
    told = document(manifest(conf, "--verify", tmp_path / "m", "--json", store=settings))
    assert told["found"]["inline"]["blobs"] == told["found"]["there"]["blobs"] == 1


def of_another_owner(path):
    """The manifest as the site new.example.org would have written it."""
    data = path.read_bytes().replace(b"old.example.org", b"new.example.org")[:-78]
    path.write_bytes(data + b',"sha256":"%s"}\n' % hashlib.sha256(data).hexdigest().encode())


def test_another_owners_manifest_is_refused(site, settings, tmp_path):
    conf, db = site()
    commit_blobs(db, a=b"1")
    written(conf, tmp_path / "m", store=settings)
    of_another_owner(tmp_path / "m")
    result = manifest(conf, "--verify", tmp_path / "m", store=settings)
    assert result.returncode == 2
    assert "new.example.org" in one_line(result) and "old.example.org" in one_line(result)


@pytest.fixture
def lockable(s3, settings):
    """The settings of a bucket with Object Lock; what is locked in compliance mode for seconds is waited for."""
    name = f"test-{uuid.uuid4().hex[:20]}"
    s3.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    yield dataclasses.replace(settings, bucket=name)
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=name):
        for found in page.get("Versions", []) + page.get("DeleteMarkers", []):
            s3.delete_object(
                Bucket=name, Key=found["Key"], VersionId=found["VersionId"], BypassGovernanceRetention=True
            )
    s3.delete_bucket(Bucket=name)


def test_under_object_lock(site, lockable, s3):
    conf, db = site(store=lockable)
    commit_blobs(db, a=b"1")
    result = manifest(conf, "--in-bucket", "--lock", "governance", "--retain", "90d", "--json", store=lockable)
    assert result.returncode == 0, result.stderr
    told = document(result)
    name = f"{lockable.prefix}/{told['key']}".lstrip("/")
    kept = s3.get_object_retention(Bucket=lockable.bucket, Key=name)["Retention"]
    assert kept["Mode"] == "GOVERNANCE" and kept["RetainUntilDate"].isoformat() == told["locked_until"]
    [version] = s3.list_object_versions(Bucket=lockable.bucket, Prefix=name)["Versions"]
    with pytest.raises(s3.exceptions.ClientError):
        s3.delete_object(Bucket=lockable.bucket, Key=name, VersionId=version["VersionId"])
    assert manifest(conf, "--verify", store=lockable).returncode == 0


def test_a_bucket_without_object_lock_is_named(site, settings):
    conf, db = site()
    commit_blobs(db, a=b"1")
    result = manifest(conf, "--in-bucket", "--lock", "compliance", "--retain", "1d", store=settings)
    assert result.returncode == 2 and "--object-lock-enabled-for-bucket" in one_line(result)
    assert not [key for key in bucket_keys(settings) if key.startswith(MANIFESTS)]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "one of --to or --in-bucket"),
        (("--list", "--verify", "latest"), "one of"),
        (("--in-bucket", "--lock", "governance"), "--retain"),
        (("--to", "x", "--lock", "governance", "--retain", "1d"), "--in-bucket"),
        (("--to", "-", "--json"), "--json"),
        (("--verify", "no/such/file"), "no/such/file"),
        (("--verify", "manifests/20200101T000000Z-0000000000000000"), "--list"),
    ],
)
def test_wrong_options(site, settings, arguments, said):
    conf, db = site()
    commit_blobs(db, a=b"1")
    result = manifest(conf, *arguments, store=settings)
    assert result.returncode == 2 and said in result.stderr


def test_requests_do_not_grow_with_the_blobs(site, settings, proxy, tmp_path):
    """A listing and the markers, whatever there is; with --ask one more for each."""
    through = dataclasses.replace(settings, endpoint_url=proxy.endpoint_url)
    conf, db = site(store=through)
    commit_blobs(db, **{f"blob{number}": os.urandom(100) for number in range(40)})
    proxy.reset()
    written(conf, tmp_path / "m", store=through)
    assert proxy.counts("/blobs/") == {}
    assert manifest(conf, "--verify", tmp_path / "m", store=through).returncode == 0
    assert proxy.counts("/blobs/") == {}
    written(conf, tmp_path / "m", "--ask", store=through)
    assert proxy.counts("/blobs/") == {"HeadObject": 40}


def test_print_it(site, settings):
    conf, db = site()
    commit_blobs(db, a=b"1")
    result = manifest(conf, "--to", "-", store=settings)
    assert result.returncode == 0 and lines_of(result.stdout)[-1]["blobs"] == 1


def test_a_written_one_is_read_again(site, settings, tmp_path):
    conf, db = site()
    commit_blobs(db, a=b"1")
    written(conf, tmp_path / "m", store=settings)
    with closing(open(tmp_path / "m", "rb")) as file:
        [entry] = Manifest.opened(file, "m").entries()
    assert entry.revision.size == 1 and entry.content.path == "/a"


OPERATIONS = {
    **ACTIONS,
    "GetObjectLockConfiguration": ["s3:GetBucketObjectLockConfiguration"],
    "PutObjectRetention": ["s3:PutObjectRetention"],
}


def test_the_policy_for_manifests_allows_what_the_command_does_and_no_more(site, lockable, proxy, tmp_path):
    conf, db = site(store=lockable)
    commit_blobs(db, a=b"1")
    conf.write_text(conf.read_text().replace(lockable.endpoint_url, proxy.endpoint_url))
    for arguments in (
        ("--in-bucket", "--lock", "governance", "--retain", "1d", "--ask"),
        ("--verify",),
        ("--list",),
        ("--new-since", "latest"),
    ):
        result = manifest(conf, *arguments, store=lockable)
        assert result.returncode == 0, result.stderr
    used, granted = set(), policy("manifest")
    for exchange in proxy.exchanges:
        operation = exchange.operation
        if "object-lock" in exchange.line:
            operation = "GetObjectLockConfiguration"
        if "retention" in exchange.line:
            operation = "PutObjectRetention"
        for action in OPERATIONS[operation]:
            pair = allowed_by(granted, action, resource(exchange.path, lockable.bucket))
            assert pair, exchange.line
            used.add(pair)
    keys = {(action, where) for action, where in granted if where.endswith("/keys/*")}  # for who encrypts
    assert granted - keys <= used


@pytest.mark.slow
def test_memory_does_not_grow_with_the_blobs(settings, tmp_path):
    """Twice as many blobs, each in its content, take as much memory; both are more than what is remembered."""
    peaks = [peak(settings, tmp_path, count) for count in (6000, 12_000)]
    assert peaks[1] < peaks[0] * 1.15, peaks


def peak(settings, folder, count):
    """Bytes of Python's memory at most while a manifest of so many blobs is made, whose objects are all lost."""
    path = str(folder / f"{count}.fs")
    blobs = ((p64(number), p64(number + 1)) for number in range(2, 2 * count + 2, 2))
    base = FileStorage(path)
    metadata = TransactionMetaData()
    base.tpc_begin(metadata)
    item = (
        b"\x80\x03cvanished.addon\nItem\n.\x80\x03}(X\x02\0\0\0idX\x04\0\0\0same"
        b"X\x0b\0\0\0portal_typeX\x04\0\0\0FileX\x04\0\0\0fileC\x08%bQX\x0a\0\0\0__parent__C\x08%bQu."
    )
    base.store(z64, z64, b"\x80\x03cno.such\nMapping\n.\x80\x03}X\x04\0\0\0siteC\x08%bQs." % p64(1), "", metadata)
    base.store(p64(1), z64, b"\x80\x03cno.such\nFolder\n.\x80\x03}X\x02\0\0\0idX\x04\0\0\0sites.", "", metadata)
    for content, blob in blobs:
        base.store(content, z64, item % (blob, p64(1)), "", metadata)
        base.store(blob, z64, record_of(BlobState(blob.hex() * 2, 7, b"h" * 32)), "", metadata)
    base.tpc_vote(metadata)
    base.tpc_finish(metadata)
    base.close()
    with closing(open_store(settings)) as store, Spool() as spool, open(folder / "out", "w+b") as file:
        assert store.now()
        tracemalloc.start()
        try:
            look = lambda: closing(FileStorage(path, read_only=True))  # noqa: E731
            found = Inventory(look, store, Marker("x", False), spool, threading.Event())
            found.look(lambda count: None)
            header = Header("x", "main", found.tid, store.now(), "1")
            totals = write(file, header, found.entries())
            assert (totals.blobs, totals.missing) == (count, count)
            first = next(Manifest.opened(file, "out").entries())
            assert first.content.path == "/site/same"
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
