"""Any order of commits, undos, packs, aborts, crashes, readers, clocks and garbage collections: nothing in use is lost.

So too while equal blobs begin to share objects, stop it, and are converted, as far as a process comes before it is
killed. After each step that may delete, every revision that the base keeps has its bytes in the bucket; after enough
rounds nothing else is there; and no shared object that went ever comes again. What the base keeps is asked of the base
itself, what the bytes were is remembered here.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
import time
from contextlib import closing

import pytest
import transaction
from converted_blobs import converted
from hypothesis import HealthCheck
from hypothesis import settings as Settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from shared_blobs import share
from sites import PERSISTENT, UNDOING, Against, bucket_keys, connected, in_two_threads, raw_client
from store_time import DAY, HOUR, ShiftedStore
from test_gc import OWNED, Collected
from ZODB.blob import Blob
from ZODB.Connection import TransactionMetaData
from ZODB.POSException import ConflictError, POSKeyError, UndoError
from ZODB.utils import load_current

from collective.s3blobstorage.errors import UnsafeError
from collective.s3blobstorage.keys import (
    BLOBS,
    OBJECTS,
    blob_key,
    draw_name,
    object_key,
    read_key,
    read_reference_key,
    reference_key,
)
from collective.s3blobstorage.maintenance.gc.lease import Taken
from collective.s3blobstorage.maintenance.gc.margins import Margins
from collective.s3blobstorage.maintenance.gc.references import view_of
from collective.s3blobstorage.maintenance.gc.runs import Collection
from collective.s3blobstorage.maintenance.kept import is_kept
from collective.s3blobstorage.objectstore import open_store
from collective.s3blobstorage.overlay.interfaces import SourceOptions
from collective.s3blobstorage.overlay.settings import S3Settings
from collective.s3blobstorage.storage.record import _split, is_blob, read_state
from collective.s3blobstorage.storage.sharing import carry_out, reserve

NAMES = st.sampled_from("abcd")
SOURCE = "source"  # begins the prefixes of what is behind the buckets
INLINE = 8  # bytes: shorter blobs lie in their records


class Killed(Exception):
    """The process is gone."""


class Dies:
    """A store of a process that is killed after so many requests."""

    def __init__(self, store, left):
        self._store = store
        self._left = left

    def __getattr__(self, name):
        found = getattr(self._store, name)
        if not callable(found):
            return found

        def ask(*args, **kwargs):
            self._left -= 1
            if self._left < 0:
                raise Killed
            return found(*args, **kwargs)

        return ask


class Switched(Collected):
    """A site of which equal blobs may share objects from now on, or do so no more."""

    def __init__(self, site):
        super().__init__(site)
        self.began = False
        self._forget_witness()

    def _forget_witness(self):
        # Its time is not that of the transactions, of which it tells: tests/storage/test_gc_witness.py has both.
        self.storage.witness.finish()
        self.storage.witness = None

    def switch(self, dedup):
        self.site.close_all()
        self.db = self.site.db(dedup=dedup)
        self.storage = self.db.storage
        self._forget_witness()
        self.began = self.began or dedup
        self.store = ShiftedStore(self.storage.store_, self.store._shifts)
        self.collection = dataclasses.replace(self.collection, store=self.store)


class Model(RuleBasedStateMachine):
    """Over one base; ``make`` opens a new site for each run, which ``teardown`` closes."""

    make: staticmethod

    @initialize(dedup=st.booleans())
    def open(self, dedup):
        self.site = type(self).make()
        if dedup and self.site.site.settings.store.encryption is None:
            self.site.switch(True)
        self.bytes = {}  # (oid, tid) -> what was committed
        self.objects = {}  # key -> bytes, as the bucket had them first: keys are write-once
        self.readers = []  # (connection, blob, bytes)
        self.number = 0
        self.seen, self.gone = set(), set()  # keys of shared objects that were there once, and that went
        self.deleting = False  # whether the last step may have deleted something
        self.commit("a", 20)  # so that no database is empty

    # Content

    def data(self, size, again=False):
        """New bytes; ``again``: those that others of that size have too."""
        if again:
            return b"same".ljust(size, b".")
        self.number += 1
        return f"{self.number:04d}".encode().ljust(size, b".")[: max(size, 4)]

    def note(self, blobs):
        """Remember what the revisions of the last transaction are."""
        with connected(self.site.db) as connection:
            root = connection.root()
            for name, data in blobs.items():
                blob = root[name]
                blob._p_activate()
                self.bytes[blob._p_oid, blob._p_serial] = data

    @rule(name=NAMES, size=st.sampled_from([4, 20, 300]), again=st.booleans())
    def commit(self, name, size, again=False):
        self.commit_these(name, self.data(size, again))

    def commit_these(self, name, data):
        with connected(self.site.db) as connection:
            root = connection.root()
            if name in root:
                with root[name].open("w") as file:
                    file.write(data)
            else:
                root[name] = Blob(data)
            connection.transaction_manager.commit()
        self.note({name: data})

    @rule(name=NAMES)
    def remove(self, name):
        with connected(self.site.db) as connection:
            connection.root().pop(name, None)
            connection.transaction_manager.commit()

    @rule(name=NAMES, again=st.booleans())
    def abort_at_the_vote(self, name, again):
        with connected(self.site.db) as connection:
            connection.root()[name] = Blob(self.data(20, again))
            connection.transaction_manager.get().join(Against())
            with contextlib.suppress(ValueError):
                connection.transaction_manager.commit()
        self.site.storage.uploads.settle()
        self.deleting = True

    @rule()
    def crash_after_an_upload(self):
        """A process that was killed between its upload and its commit; and another one in the middle of a large one."""
        oid = self.site.storage.new_oid()
        self.site.storage.store_.put_bytes(blob_key(oid, draw_name()), b"never committed")
        store = self.site.site.settings.store
        key = f"{store.prefix}/" if store.prefix else ""
        key += blob_key(oid, draw_name())
        raw_client(store).create_multipart_upload(Bucket=store.bucket, Key=key)

    # Sharing

    @precondition(lambda self: self.site.site.settings.store.encryption is None)
    @rule(dedup=st.booleans())
    def sharing_is_switched(self, dedup):
        self.close_readers()
        self.site.switch(dedup)

    @precondition(lambda self: self.site.began)
    @rule(again=st.booleans(), requests=st.integers(0, 4))
    def crash_while_sharing(self, again, requests):
        """A process that was killed between two requests of a commit that shares an object."""
        self.share_and_die(self.data(20, again), requests)

    def share_and_die(self, data, requests):
        store = Dies(self.site.storage.store_, requests)
        steps = share(self.site.storage.new_oid(), draw_name(), hashlib.sha256(data).digest(), len(data))
        with contextlib.suppress(Killed):
            carry_out(steps, store, lambda key: store.put_bytes(key, data, if_absent=True))

    @precondition(lambda self: self.site.began)
    @rule(name=NAMES, steps=st.integers(1, 3))
    def convert(self, name, steps):
        """A revision's own object becomes one that equal ones share, or the process is killed before that is done."""
        with connected(self.site.db) as connection:
            if name not in connection.root():
                return
            oid = connection.root()[name]._p_oid
        record, tid = self.load(oid)
        state, store = read_state(record), self.site.storage.store_
        if state.inline is not None or store.head(blob_key(oid, state.name_at(tid))) is None:
            return
        own = blob_key(oid, state.name_at(tid))
        data = self.contents(own)
        _, name = carry_out(reserve(oid, state.name_at(tid), hashlib.sha256(data).digest()), store, send=None)
        shared = object_key(name)
        if steps > 1 and store.head(shared) is None:
            store.copy(own, shared)
        if steps > 2:
            store.delete([own])
            self.deleting = True

    @precondition(lambda self: self.site.began)
    @rule(name=NAMES)
    def what_went_is_stored_again(self, name):
        """The same bytes, when the object that they were has gone, or is marked at least."""
        data = b"these come and go"
        self.share_and_die(data, 4)
        self.nothing_comes_again()
        self.all_that_is_garbage_goes()
        self.nothing_comes_again()
        self.commit_these(name, data)

    @precondition(lambda self: self.site.began)
    @rule()
    def the_command_converts(self):
        """Everything, as ``s3blobs dedup`` does."""
        assert converted(self.site.storage, least=1).failures.count == 0
        self.deleting = True

    # And more of content

    @rule(name=NAMES)
    def a_blob_without_a_name(self, name):
        """As a migration leaves it: the record says nothing, and the object is called after the transaction."""
        data = self.data(20)
        with connected(self.site.db) as connection:
            root = connection.root()
            if name not in root:
                return
            oid = root[name]._p_oid
        record, serial = self.load(oid)
        metadata = TransactionMetaData()
        writer = self.site.storage._mvcc_base().new_instance()
        try:
            writer.poll_invalidations()
            writer.tpc_begin(metadata)
            writer.store(oid, serial, record[: _split(record)] + b"N.", "", metadata)
            writer.tpc_vote(metadata)
            tid = writer.tpc_finish(metadata)
        finally:
            writer.release()
        self.site.storage.store_.put_bytes(blob_key(oid, tid.hex()), data)
        self.bytes[oid, tid] = data

    @rule()
    def undo(self):
        """Of the last transaction; so also a redo, and the undo of a creation."""
        if self.site.site.kind not in UNDOING:
            return
        log = self.site.db.undoLog(0, 1)
        if not log:
            return
        before = {oid: self.current(oid) for oid, _ in self.bytes}
        manager = transaction.TransactionManager()
        try:
            self.site.db.undo(log[0]["id"], manager.get())
            manager.commit()
        except (UndoError, ConflictError, POSKeyError):
            manager.abort()
            return
        for oid in {oid for oid, _ in self.bytes}:
            now = self.current(oid)
            if now is not None and now != before[oid]:
                data = self.bytes_of(oid, now)
                assert data in {each for (one, _), each in self.bytes.items() if one == oid}
                self.bytes[oid, now] = data

    def load(self, oid):
        """What is committed by now."""
        with view_of(self.site.storage._base) as view:
            return load_current(view.base, oid)

    def current(self, oid):
        try:
            return self.load(oid)[1]
        except POSKeyError:
            return None

    def bytes_of(self, oid, tid):
        """Of a revision that an undo wrote: it has the name of the one that it brought back."""
        record = self.load(oid)[0]
        state = read_state(record)
        if state.inline is not None:
            return state.inline
        return self.contents(where(self.keys(), oid, tid, state))

    @rule()
    def pack(self):
        self.site.db.pack(time.time() + 1)

    # Readers

    @rule(name=NAMES)
    def a_reader_opens(self, name):
        manager = transaction.TransactionManager()
        connection = self.site.db.open(manager)
        root = connection.root()
        if name in root and len(self.readers) < 3:
            blob = root[name]
            blob._p_activate()
            data = self.bytes[blob._p_oid, blob._p_serial]
            self.readers.append((connection, blob, data))
        else:
            connection.close()

    @precondition(lambda self: self.readers)
    @rule()
    def a_reader_reads(self):
        connection, blob, data = self.readers.pop(0)
        kept = is_kept(self.site.storage._base, blob._p_oid, blob._p_serial)
        try:
            with blob.open("r") as file:
                assert file.read() == data
        except POSKeyError:
            assert not kept, "a reader lost a blob that the base keeps"
        finally:
            connection.transaction_manager.abort()
            connection.close()

    # Time and garbage collection

    @rule(seconds=st.sampled_from([HOUR, DAY, 4 * DAY, 8 * DAY]))
    def time_passes(self, seconds):
        self.site.store.advance(seconds)

    @rule()
    def plan(self):
        self.site.plan()

    @rule()
    def execute(self):
        with contextlib.suppress(UnsafeError):
            self.site.collection.execute("last")
        self.deleting = True

    @rule()
    def round(self):
        self.site.round()
        self.deleting = True

    @rule()
    def all_that_is_garbage_goes(self):
        self.rounds()
        self.deleting = True

    def rounds(self):
        """As many as it takes until nothing that is garbage by now is left."""
        self.site.rounds()
        if self.site.began:
            self.site.round()  # marks what nothing refers to any more
            self.site.store.advance(2 * DAY)
            self.site.round()

    @rule(name=NAMES)
    def two_rounds_and_a_commit_at_once(self, name):
        ended = []

        def work(number):
            if number:
                self.commit(name, 20)
            with contextlib.suppress(Taken):
                self.site.round()
                ended.append(number)

        in_two_threads(work)
        assert ended
        self.deleting = True

    @rule()
    def a_round_by_somebody_else(self):
        """By whoever has nothing in common with the site but base and bucket, as a job of its own has."""
        base = self.site.site.another_base()
        with closing(base), closing(open_store(self.site.site.settings.store)) as opened:
            store = ShiftedStore(opened, self.site.store._shifts)
            plan, _ = Collection(store, lambda: view_of(base), Margins(share=1.0)).round()
            plan.close()
        self.deleting = True

    @rule(name=NAMES)
    def mirrored_beside_a_round(self, name):
        """What only the source has, as in a staging copy, comes into the bucket while garbage is collected."""
        with connected(self.site.db) as connection:
            if name not in connection.root():
                return
            oid = connection.root()[name]._p_oid
        record, tid = self.load(oid)
        state = read_state(record)
        if state.inline is not None:
            return
        key, store, reader = blob_key(oid, state.name_at(tid)), self.site.site.settings.store, self.site.storage.reader
        if where(self.keys(), oid, tid, state) != key:
            return
        data = self.contents(key)
        here = {"Bucket": store.bucket, "Key": f"{store.prefix}/{key}"}
        client = raw_client(store)
        client.copy_object(Bucket=store.bucket, Key=f"{SOURCE}/{store.prefix}/{key}", CopySource=here)
        client.delete_object(**here)

        def work(number):
            if number:
                assert reader.give_key(oid, tid, state, key)
            else:
                self.site.round()

        in_two_threads(work)
        found = reader.find(reader.location(oid, tid, state))  # a half conversion has left a reference to equal bytes
        assert found is not None and self.site.storage.store_.get_bytes(found) == data
        self.deleting = True

    # What must hold

    def keys(self):
        """Of what has the bytes of blobs, or refers to it."""
        return {key for key in bucket_keys(self.site.site.settings.store) if key.startswith((BLOBS, OBJECTS))}

    def contents(self, key):
        if key not in self.objects:
            self.objects[key] = self.site.storage.store_.get_bytes(key)
        return self.objects[key]

    def needed(self):
        """(oid, tid, state, bytes) of every revision that the base keeps, but for those that have them themselves."""
        base = self.site.site.another_base()
        found = []
        try:
            for (oid, tid), data in self.bytes.items():
                try:
                    record = base.loadSerial(oid, tid)
                except POSKeyError:
                    continue
                assert is_blob(record)
                state = read_state(record)
                if state.inline is not None:
                    assert state.inline == data
                else:
                    found.append((oid, tid, state, data))
        finally:
            base.close()
        return found

    @invariant()
    def nothing_is_lost(self):
        if not hasattr(self, "site") or not self.deleting:
            return
        self.deleting = False
        there = self.keys()
        for oid, tid, state, data in self.needed():
            key = where(there, oid, tid, state)
            assert key is not None
            assert self.contents(key) == data
            if key.startswith(OBJECTS):
                assert reference_key(oid, state.name_at(tid), key.rpartition("/")[2]) in there

    @invariant()
    def nothing_comes_again(self):
        if not hasattr(self, "site") or not self.site.began:
            return
        shared = {key for key in self.keys() if key.startswith(OBJECTS)}
        gone = self.seen - shared
        self.seen |= shared
        assert not shared & self.gone
        self.gone |= gone

    def close_readers(self):
        while self.readers:
            connection = self.readers.pop()[0]
            connection.transaction_manager.abort()
            connection.close()

    def teardown(self):
        if not hasattr(self, "site"):
            return
        try:
            self.close_readers()
            self.rounds()
            self.deleting = True
            self.nothing_is_lost()
            self.nothing_comes_again()
            there = self.keys()
            kept = {(oid, state.name_at(tid)) for oid, tid, state, _ in self.needed()}
            of_revisions = {key: read_key(key) or read_reference_key(key) for key in there if key.startswith(BLOBS)}
            assert {key for key, found in of_revisions.items() if found[:2] not in kept} == set()
            referred = {object_key(found[2]) for found in of_revisions.values() if len(found) > 2}
            assert {key for key in there if key.startswith(OBJECTS)} <= referred
            uploads = list(self.site.storage.store_.list_uploads())
            assert uploads == []
            assert not any(key.startswith("gc/claim/") for key in bucket_keys(self.site.site.settings.store))
        finally:
            self.site.site.close()


def where(there, oid, tid, state):
    """The key of a revision's bytes, as a reader finds it; None where there are none."""
    own = blob_key(oid, state.name_at(tid))
    named = [] if state.object is None else [object_key(state.object)]
    referred = [object_key(read_reference_key(key)[2]) for key in sorted(there) if key.startswith(f"{own}.")]
    return next((key for key in [*named, own, *referred] if key in there), None)


@pytest.mark.parametrize("kind", PERSISTENT)
def test_nothing_in_use_is_lost_and_nothing_else_stays(make_site, settings, kind, tier):
    numbers = itertools.count()

    class OverThisBase(Model):
        @staticmethod
        def make():
            store = dataclasses.replace(settings, prefix=f"run{next(numbers)}")
            behind = dataclasses.replace(settings, prefix=f"{SOURCE}/{store.prefix}")
            sources = (S3Settings(store=behind, options=SourceOptions("source", negative_cache=0.0, mirror="off")),)
            site = make_site(kind, store=store, inline_size=INLINE, sources=sources, **OWNED)
            return Switched(site)

    run_state_machine_as_test(
        OverThisBase,
        settings=Settings(
            max_examples=tier["gc_runs"],
            stateful_step_count=tier["gc_steps"],
            deadline=None,
            derandomize=tier.name != "full",
            suppress_health_check=list(HealthCheck),
        ),
    )
