"""``maintenance/inventory.py`` and ``rebuild.py``, where one object or record is not as the others."""

from __future__ import annotations

import dataclasses
import io
import threading
from contextlib import closing, contextmanager

import pytest
from rings import client_side
from ZODB.Connection import TransactionMetaData
from ZODB.FileStorage import FileStorage
from ZODB.POSException import POSKeyError
from ZODB.utils import p64, z64

from collective.s3blobstorage.encryption.envelope import SEALED
from collective.s3blobstorage.errors import RecordError
from collective.s3blobstorage.keys import blob_key
from collective.s3blobstorage.maintenance.blobdir import BlobDirectory
from collective.s3blobstorage.maintenance.compare import matched
from collective.s3blobstorage.maintenance.comparing import reader_of
from collective.s3blobstorage.maintenance.export import Plan, execute, plan
from collective.s3blobstorage.maintenance.findings import Count
from collective.s3blobstorage.maintenance.inventory import Inventory
from collective.s3blobstorage.maintenance.kept import KeptRevision
from collective.s3blobstorage.maintenance.manifest import Entry, Header, Manifest, added, write
from collective.s3blobstorage.maintenance.migrate import Transfer
from collective.s3blobstorage.maintenance.pace import Pace
from collective.s3blobstorage.maintenance.rebuild import plan_by_objects
from collective.s3blobstorage.maintenance.spool import Spool
from collective.s3blobstorage.objectstore import open_store
from collective.s3blobstorage.storage.owner import Marker
from collective.s3blobstorage.storage.record import BlobState, record_of

NAMES = [f"{number:032x}" for number in range(4)]


@pytest.fixture
def base(tmp_path):
    """``base(state, …)``: a database with a blob for each, of oids from 1 on; how to look at it."""

    def make(*states):
        path = str(tmp_path / "Data.fs")
        with closing(FileStorage(path)) as storage:
            metadata = TransactionMetaData()
            storage.tpc_begin(metadata)
            for number, state in enumerate(states, 1):
                storage.store(p64(number), z64, record_of(state), "", metadata)
            storage.tpc_vote(metadata)
            storage.tpc_finish(metadata)
        return lambda: closing(FileStorage(path, read_only=True))

    return make


@pytest.fixture
def store(settings):
    with closing(open_store(dataclasses.replace(settings, encryption=client_side(one=bytes(32))))) as opened:
        yield opened


def put(store, *sizes):
    for number, size in enumerate(sizes, 1):
        store.put_bytes(blob_key(p64(number), NAMES[number]), b"x" * size, metadata={"oid": p64(number).hex()})


def damage_envelope(store, key):
    client, named = store.connection.writer, store.connection.object(key)
    found = client.get_object(**named)
    metadata = {**found["Metadata"], SEALED: found["Metadata"][SEALED][:-8] + "AAAAAAA="}
    client.put_object(**named, Body=found["Body"].read(), Metadata=metadata)


def entries(look, store, *, between=lambda: None, ask=True):
    with Spool() as spool:
        found = Inventory(look, store, Marker("x", False), spool, threading.Event())
        found.look(lambda count: None)
        between()
        if ask:
            found.ask(2, lambda count: None)
        return list(found.entries())


def test_one_damaged_envelope_is_no_reason_to_tell_nothing(base, store):
    look = base(BlobState(NAMES[1], 5, None), BlobState(NAMES[2], 6, None))
    put(store, 5, 6)
    damage_envelope(store, blob_key(p64(1), NAMES[1]))
    damaged, right = entries(look, store)
    assert (damaged.revision.size, damaged.revision.sha256, damaged.missing) == (5, None, False)
    assert right.revision.sha256 is not None and right.key_id


def test_what_a_record_says_is_not_replaced_by_what_a_wrong_object_has(base, store):
    look = base(BlobState(NAMES[1], 9, None))
    put(store, 5)
    [entry] = entries(look, store)
    assert (entry.revision.size, entry.revision.sha256) == (9, None) and entry.key_id


def test_what_went_before_the_store_was_asked_is_missing(base, store):
    look = base(BlobState(NAMES[1], 5, b"h" * 32), BlobState(NAMES[2], 6, b"h" * 32))
    put(store, 5, 6)
    gone, there = entries(look, store, between=lambda: store.delete([blob_key(p64(1), NAMES[1])]))
    assert (gone.missing, gone.key_id) == (True, None) and not there.missing and there.key_id


def test_what_a_pack_took_from_a_record_meanwhile_is_left_out(base, store):
    look = base(BlobState(inline=b"inline"), BlobState(NAMES[2], 6, b"h" * 32))
    put(store, 0, 6)

    @contextmanager
    def packed():
        with look() as storage:
            load = storage.loadSerial

            def of_now(oid, tid):
                if oid == p64(1):
                    raise POSKeyError(oid)
                return load(oid, tid)

            storage.loadSerial = of_now
            yield storage

    assert [entry.revision.oid for entry in entries(packed, store, ask=False)] == [p64(2)]
    assert [entry.data for entry in entries(look, store, ask=False)] == [b"inline", None]


@pytest.mark.parametrize("name", ["../../../../etc/passwd", "0" * 31, "A" * 32, 7])
def test_a_name_in_a_manifest_is_never_a_path(store, name):
    file, [entry] = io.BytesIO(), [Entry.from_json(_line("f" * 32))]
    revision = dataclasses.replace(entry.revision, name=name)
    header = Header("x", "main", p64(9), store.now(), "1")
    write(file, header, [dataclasses.replace(entry, revision=revision)])
    with pytest.raises(RecordError, match="not of its format"):
        list(Manifest.opened(file, "m").entries())


def _line(name):
    return {
        **{"oid": "0" * 15 + "1", "tid": "0" * 15 + "2", "name": name, "key": "blobs/x", "size": 1, "sha256": None},
        **{"key_id": None, "path": None, "type": "", "field": ""},
    }


def test_by_the_objects_alone_one_damaged_envelope_is_named(store, tmp_path):
    put(store, 5, 6)
    key = blob_key(p64(1), NAMES[1])
    damage_envelope(store, key)
    with Spool() as spool:
        planned = Plan(spool)
        directory = BlobDirectory.made(tmp_path / "files", dry_run=False)
        rest = plan_by_objects(store, planned, directory, spool, 2, threading.Event(), lambda count: None)
        assert rest.count.blobs == 1
    [problem] = planned.findings.problems
    assert problem.what == "different" and problem.oid == "0x01" and key in problem.detail


def test_what_was_missing_in_the_earlier_manifest_is_new_in_the_later_one():
    """As a blob that was only in a source until it was mirrored: no backup has it."""
    revisions = [dataclasses.replace(Entry.from_json(_line(name * 32)), key=f"blobs/{name}") for name in "abc"]
    earlier = [dataclasses.replace(revisions[0], missing=True), revisions[1], revisions[2]]
    later = [revisions[0], revisions[1], dataclasses.replace(revisions[2], missing=True)]
    count = Count()
    assert list(added(later, earlier, count)) == [("blobs/a", 1)] and (count.blobs, count.bytes) == (1, 1)


def test_a_lost_key_is_no_reason_to_export_nothing(store, settings, tmp_path):
    put(store, 5, 6)
    with (
        closing(
            open_store(dataclasses.replace(settings, encryption=client_side(active="two", two=b"2" * 32)))
        ) as other,
        Spool() as spool,
    ):
        other.put_bytes(blob_key(p64(3), NAMES[3]), b"x" * 7)
        planned, directory = Plan(spool), BlobDirectory.made(tmp_path / "files")
        kept = [KeptRevision(p64(number), p64(9), NAMES[number], number + 4) for number in range(1, 4)]
        stop = threading.Event()
        plan(planned, matched(kept, (), ()), stop)
        transfer = Transfer(2, stop, Pace(None), lambda blobs, size: None)
        execute(planned, reader_of(other, Marker("x", False)), lambda oid, tid: b"", directory, transfer)
        assert planned.findings.bad == {"failed": 2} and planned.findings.done.blobs == 1
        assert directory.file(p64(3), p64(9)).read_bytes() == b"x" * 7
