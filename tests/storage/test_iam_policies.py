"""The policies of examples/iam, held against the requests that the storage makes.

``ACTIONS`` is Amazon's table of what each operation needs (Service Authorization Reference, "Actions defined by Amazon
S3"; user guide, "Required permissions for Amazon S3 API operations").
"""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import os
import time
from contextlib import closing
from fnmatch import fnmatchcase

import pytest
import transaction
import ZODB
from browser import send_all
from command_line import keys_of, s3blobs, section
from example_files import EXAMPLES
from rings import ring_of
from rolling_keys import OURS, Stores, after, before, fill, read, used
from servers.faults import answer, reset
from shared_blobs import begin_sharing, name_of
from sites import Against, commit_blobs, connected, raw_client, read_blob, wait_until
from store_time import DAY, ShiftedStore
from ZODB.blob import Blob
from ZODB.MappingStorage import MappingStorage
from ZODB.serialize import ObjectWriter
from ZODB.utils import z64

from collective.s3blobstorage.encryption.register import open_ring
from collective.s3blobstorage.keys import MARKER, condemned_key, object_key, upload_key
from collective.s3blobstorage.maintenance.gc.margins import Margins
from collective.s3blobstorage.maintenance.gc.references import view_of
from collective.s3blobstorage.maintenance.gc.runs import Collection
from collective.s3blobstorage.objectstore import open_store
from collective.s3blobstorage.objectstore.preflight import FOLDER, checks
from collective.s3blobstorage.storage import open_storage
from collective.s3blobstorage.storage.attaching import attach
from collective.s3blobstorage.storage.mirrored import read_mirrored, write_mirrored
from collective.s3blobstorage.storage.opening import open_once
from collective.s3blobstorage.storage.owner import Marker

ARN = "arn:aws:s3:::my-site-blobs"

ACTIONS = {
    "HeadBucket": ["s3:ListBucket"],
    "GetBucket": ["s3:ListBucket"],  # ListObjects, version 1
    "ListObjectsV2": ["s3:ListBucket"],
    "HeadObject": ["s3:GetObject"],
    "GetObject": ["s3:GetObject"],
    "PutObject": ["s3:PutObject"],
    "CreateMultipartUpload": ["s3:PutObject"],
    "UploadPart": ["s3:PutObject"],
    "CompleteMultipartUpload": ["s3:PutObject"],
    "CopyObject": ["s3:GetObject", "s3:PutObject"],
    "UploadPartCopy": ["s3:GetObject", "s3:PutObject"],
    "AbortMultipartUpload": ["s3:AbortMultipartUpload"],
    "DeleteObject": ["s3:DeleteObject"],
    "DeleteObjects": ["s3:DeleteObject"],
    "ListParts": ["s3:ListMultipartUploadParts"],
    "ListMultipartUploads": ["s3:ListBucketMultipartUploads"],
    "GetBucketLifecycleConfiguration": ["s3:GetLifecycleConfiguration"],
    "PostBucket": [],  # a form; its key is in the body, and s3:PutObject is asked for on that
}


OF_VERSIONS = {
    ("HEAD", "versionId="): "s3:GetObjectVersion",
    ("GET", "?versions"): "s3:ListBucketVersions",
    ("GET", "?versioning"): "s3:GetBucketVersioning",
}


def policy(name: str) -> set[tuple[str, str]]:
    """Pairs of action and resource."""
    statements = json.loads((EXAMPLES / "iam" / f"{name}-policy.json").read_text())["Statement"]
    return {(a, r) for s in statements if s["Effect"] == "Allow" for a in s["Action"] for r in s["Resource"]}


def allowed_by(granted: set[tuple[str, str]], action: str, resource: str) -> tuple[str, str] | None:
    """The pair that allows it; ``*`` is the only wildcard the policies use, and it matches slashes too."""
    return next((pair for pair in granted if pair[0] == action and fnmatchcase(resource, pair[1])), None)


def resource(path: str, bucket: str) -> str:
    key = path.removeprefix(f"/{bucket}").strip("/")
    return f"{ARN}/{key}" if key else ARN


def nameless(site, oid: bytes, tid: bytes, data: bytes) -> None:
    """A revision as a migration leaves it: the record has no name, the object is called after the tid."""
    base = site.base()
    metadata = ZODB.Connection.TransactionMetaData()
    base.tpc_begin(metadata)
    base.store(oid, tid, ObjectWriter().serialize(Blob()), "", metadata)
    base.tpc_vote(metadata)
    tid = base.tpc_finish(metadata)
    base.close()
    store = open_store(site.settings.store)
    store.put_bytes(f"blobs/{oid.hex()}/{tid.hex()}", data)
    store.close()


def upload_directly(db) -> None:
    """Whole and in parts, as browsers send it by what the site's credentials signed; and one that is given up."""
    area = db.storage.upload_area()
    whole, parts, dropped = area.begin(5), area.begin(5, single=False), area.begin(5, single=False)
    send_all(area, whole, b"whole")
    send_all(area, parts, b"parts")
    assert [part.size for part in area.arrived(parts)] == [5]
    for upload in (whole, parts):
        with connected(db) as connection:
            blob = connection.root()[upload.id] = Blob()
            attach(blob, connection, area.finish(upload))
            connection.transaction_manager.commit()
    for upload in (whole, parts, dropped):
        area.drop(upload)
    assert read_blob(db, whole.id) == b"whole" and read_blob(db, parts.id) == b"parts"
    wait_until(lambda: not db.storage.upload_sweeper._thread.is_alive())


def share(site, proxy) -> None:
    """With ``dedup on``: whole, in parts, and an upload in parts that is broken off."""
    settings = dataclasses.replace(site.settings, dedup=True, cache_dir=site.folder / "sharing")
    db = ZODB.DB(open_storage(MappingStorage(), settings))
    large = os.urandom(20 * 1024 * 1024)
    commit_blobs(db, a=b"small", b=b"small", large=large)
    proxy.fail(answer(403, "AccessDenied"), method="PUT", target="partNumber", times=math.inf)
    with pytest.raises(Exception, match="refused"):
        commit_blobs(db, broken=large[::-1])
    proxy.forgive()
    db.storage.uploads.settle()
    db.close()


def use_everything(site, proxy) -> None:
    """Check, say what was mirrored, open, commit, upload in parts, read cold, undo by copying, break off an upload,
    abort, open again, take what browsers sent, look at the status, run a job.

    The answer to the first upload's beginning is lost, so that it is looked for.
    """
    store = open_store(site.settings.store)
    assert [finding.name for finding in checks(store, writable=True, thorough=True) if finding.ok is False] == []
    write_mirrored(store, z64, ["files"])  # as `s3blobs mirror` ends
    ring = ring_of(one=bytes(range(32)))  # as a storage with keys is opened for the first time
    open_ring(store.unencrypted(), ring, "client-side", writable=True)
    assert read_mirrored(store) is not None
    store.lifecycle()  # as `s3blobs check`
    store.close()
    db = site.db()
    proxy.fail(reset("answer"), method="POST", target="?uploads")
    commit_blobs(db, a=b"small", large=os.urandom(20 * 1024 * 1024))
    with connected(db) as connection:
        oid, tid = connection.root()["a"]._p_oid, connection.root()["a"]._p_serial
    db.close()
    nameless(site, oid, tid, b"migrated")
    site.cold()
    db = site.db()
    assert read_blob(db, "a") == b"migrated"
    assert len(read_blob(db, "large")) == 20 * 1024 * 1024
    commit_blobs(db, a=b"later")
    db.undo(db.undoLog(0, 1)[0]["id"])
    transaction.commit()
    assert read_blob(db, "a") == b"migrated"
    proxy.fail(answer(403, "AccessDenied"), method="PUT", target="partNumber", times=math.inf)
    with pytest.raises(Exception, match="refused"):
        commit_blobs(db, broken=os.urandom(20 * 1024 * 1024))
    proxy.forgive()
    with connected(db) as connection:
        connection.root()["aborted"] = Blob(b"aborted")
        connection.transaction_manager.get().join(Against())
        with pytest.raises(ValueError):
            connection.transaction_manager.commit()
    db.storage.uploads.settle()
    upload_directly(db)
    share(site, proxy)
    db.storage.jobs().start("count", {})
    wait_until(lambda: not db.storage.jobs().running_here)
    assert db.storage.status().document()["figures"]
    db.close()


def test_the_sites_policy_allows_what_a_site_does_and_nothing_else(make_site, settings, proxy, caplog):
    caplog.set_level(logging.CRITICAL)
    site = make_site(
        "filestorage", store=dataclasses.replace(settings, endpoint_url=proxy.endpoint_url), owner="production"
    )
    use_everything(site, proxy)
    granted, used, refused = policy("site"), set(), set()
    operations = proxy.counts()
    for exchange in proxy.exchanges:
        for action in ACTIONS[exchange.operation]:
            pair = allowed_by(granted, action, resource(exchange.path, settings.bucket))
            if pair is None:
                refused.add((action, exchange.path.removeprefix(f"/{settings.bucket}/").split("/")[0]))
            else:
                used.add(pair)
    assert {action for action, _ in refused} == {"s3:DeleteObject"}, "cleaning up after an abort, which is left to gc"
    assert used == granted, "more rights than are used"
    assert {"CopyObject", "UploadPart", "AbortMultipartUpload", "HeadObject", "ListObjectsV2"} <= set(operations)
    assert "ListParts" in operations


def test_a_missing_object_needs_the_right_to_list():
    """Without s3:ListBucket Amazon answers 403 for a key that is not there (GetObject, HeadObject: "Permissions")."""
    assert ("s3:ListBucket", ARN) in policy("site")


def test_only_gc_deletes_blobs_and_nobody_its_log():
    deleting = {resource for action, resource in policy("gc") if action.startswith("s3:Delete")}
    below = ("blobs", "objects", "uploads", "gc", "jobs", FOLDER)
    assert deleting == {f"{ARN}/{folder}/*" for folder in below}
    deleting = {resource for action, resource in policy("site") if "Delete" in action}
    assert deleting == {f"{ARN}/uploads/*", f"{ARN}/{FOLDER}/*"}


def test_gc_writes_no_blob_and_no_owner():
    writing = {resource for action, resource in policy("gc") if action == "s3:PutObject"}
    below = ("gc", "gc-log", "jobs", "condemned", FOLDER)
    assert writing == {*(f"{ARN}/{folder}/*" for folder in below), f"{ARN}/status/figures"}


def test_gcs_policy_allows_what_gc_does(make_site, settings, proxy):
    """Both rounds, as the command runs them, with something to delete and an upload to abort."""
    through = dataclasses.replace(settings, endpoint_url=proxy.endpoint_url)
    site = make_site("filestorage", owner="production")
    db = site.db()
    commit_blobs(db, a=b"1", b=b"b")
    commit_blobs(db, a=b"2")
    db.pack(time.time() + 1)
    db.close()
    with closing(open_store(settings)) as store:
        begin_sharing(store)
        marked, unmarked = (object_key(name_of(data)) for data in (b"1", b"2"))
        for key in (marked, unmarked, condemned_key(name_of(b"1"))):
            store.put_bytes(key, b"1")
    raw_client(settings).create_multipart_upload(Bucket=settings.bucket, Key=f"blobs/{1:016x}/{1:032x}")
    raw_client(settings).create_multipart_upload(Bucket=settings.bucket, Key=upload_key("1" * 32))
    raw_client(settings).put_object(Bucket=settings.bucket, Key=upload_key("2" * 32), Body=b"abandoned")
    shifts = [(0.0, 0.0)]
    for days in (2, 8):
        store = open_store(through)
        with closing(store), closing(site.another_base()) as base:
            open_once(store, site.settings, read_only=False)
            shifted = ShiftedStore(store, shifts)
            shifted.advance(days * DAY)
            collection = Collection(shifted, lambda base=base: view_of(base), Margins(share=1.0))
            with collection.plan() as plan:
                collection.publish(plan)
            if days == 8:
                _, outcome = collection.execute("last")
                assert (outcome.deleted.blobs, outcome.aborted_uploads) == (1, 1)
                assert (outcome.marked_shared.blobs, outcome.deleted_shared.blobs) == (1, 1)
                assert (outcome.swept.blobs, outcome.swept_uploads) == (1, 1)
    for exchange in proxy.exchanges:
        if exchange.operation == "DeleteObjects":  # its keys are in the body; see the test above
            continue
        for action in ACTIONS[exchange.operation]:
            assert allowed_by(policy("gc"), action, resource(exchange.path, settings.bucket)), exchange.line
    assert {"DeleteObjects", "AbortMultipartUpload", "ListMultipartUploads", "PutObject"} <= set(proxy.counts())


def test_the_policy_for_keys_allows_what_their_commands_do(secure, tls_proxy, tmp_path, s3):
    """Also with SSE-C, where what lies beside the blobs needs keys too, and in a bucket that keeps versions."""
    s3.put_bucket_versioning(Bucket=secure.bucket, VersioningConfiguration={"Status": "Enabled"})
    root = dataclasses.replace(secure, prefix="")
    conf = tmp_path / "site.conf"
    with closing(Stores(root)) as stores:
        fill(stores.open(before("sse-c")), tmp_path)
        stores.open(before("sse-c")).put_bytes(MARKER, Marker("production", False).to_json())
        store = dataclasses.replace(root, encryption=after("sse-c"))
        base = f"<filestorage>\n  path {tmp_path}/Data.fs\n</filestorage>"
        conf.write_text(
            f"%import collective.s3blobstorage\n{section(store, tmp_path / 'cache', base, 'owner production')}"
        )
        tls_proxy.reset()
        statuses = {}
        for verb in ("add two", "activate two", "rotate", "list --count", "verify --objects 2", "retire one --yes"):
            result = s3blobs("--config", conf, "keys", *verb.split(), env=keys_of(store))
            statuses[verb] = result.returncode
        exchanges = tls_proxy.exchanges
        assert used(stores.open(after("sse-c")), OURS) == {("sse-c", "two")}
        assert read(stores.open(after("sse-c")), MARKER)
    assert statuses.pop("retire one --yes") == 2 and not any(statuses.values()), "versions need the key"
    granted = policy("keys")
    asked = set()
    for exchange in exchanges:
        # What the proxy calls by the name of the object's or the bucket's own request.
        of_versions = [
            action
            for (method, query), action in OF_VERSIONS.items()
            if exchange.method == method and query in exchange.line
        ]
        for action in of_versions or ACTIONS[exchange.operation]:
            asked.add(action)
            assert allowed_by(granted, action, resource(exchange.path, secure.bucket)), exchange.line
    assert set(OF_VERSIONS.values()) <= asked


def test_the_policy_for_keys_deletes_nothing():
    assert [resource for action, resource in policy("keys") if "Delete" in action] == [f"{ARN}/{FOLDER}/*"]


@pytest.mark.parametrize("name", ["site", "gc"])
def test_every_action_exists(name):
    assert {action for action, _ in policy(name)} <= {action for actions in ACTIONS.values() for action in actions}


def test_the_sites_policy_is_enough_to_move_in_and_out(old_site, settings, proxy, tmp_path):
    site = old_site()
    db = site.db()
    commit_blobs(db, small=b"small", large=os.urandom(20 * 1024 * 1024))
    db.close()
    conf = site.conf(dataclasses.replace(settings, endpoint_url=proxy.endpoint_url), "owner production")
    ways = (
        ("migrate", "--from", site.blobs),
        ("status",),
        ("migrate", "--from", site.blobs, "--compare", "--verify"),
        ("export", "--to", tmp_path / "exported"),
        ("migrate", "--from", site.blobs, "--purge-source", "--verify"),
    )
    for way in ways:
        result = s3blobs("--config", conf, *way, env=keys_of(settings), input="production\n")
        assert result.returncode == 0, result.stderr
    assert site.files() == {}
    for exchange in proxy.exchanges:
        for action in ACTIONS[exchange.operation]:
            assert allowed_by(policy("site"), action, resource(exchange.path, settings.bucket)), exchange.line
    assert {"PutObject", "UploadPart", "GetObject", "ListObjectsV2"} <= set(proxy.counts("/"))


def test_the_sites_policy_is_enough_to_empty_a_source(old_site, settings, proxy):
    site = old_site()
    db = site.db()
    commit_blobs(db, small=b"small", large=os.urandom(20 * 1024 * 1024))
    db.close()
    source = f"<blobdirsource>\n  path {site.blobs}\n</blobdirsource>"
    conf = site.conf(dataclasses.replace(settings, endpoint_url=proxy.endpoint_url), "owner production", source)
    result = s3blobs("--config", conf, "mirror", "--verify", env=keys_of(settings))
    assert result.returncode == 0 and "complete" in result.stdout, result.stderr
    for exchange in proxy.exchanges:
        for action in ACTIONS[exchange.operation]:
            assert allowed_by(policy("site"), action, resource(exchange.path, settings.bucket)), exchange.line
    assert {"PutObject", "UploadPart", "GetObject", "ListObjectsV2"} <= set(proxy.counts("/"))
