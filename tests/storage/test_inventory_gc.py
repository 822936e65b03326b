"""Garbage collection from a report of S3 Inventory: what came, went, or went and came again since, is never lost."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import pytest
from inventory_reports import BUCKET, Report, of_listing
from shared_blobs import begin_sharing, convert
from sites import commit_blobs, read_blob
from store_time import DAY, HOUR
from test_gc import OWNED, Collected
from ZODB.Connection import TransactionMetaData

from collective.s3blobstorage.keys import blob_key, draw_name, read_key
from collective.s3blobstorage.objectstore.inventory import LocalFolder, open_report, read_report
from collective.s3blobstorage.storage.record import BlobState, with_state


class FromReports(Collected):
    """Plans are made from the report that was taken last."""

    def __init__(self, site, folder: Path, **margins):
        super().__init__(site, **margins)
        self._folder, self._reports = folder, 0

    def report(self):
        """What the bucket has now, as a report that was begun now."""
        self._reports += 1
        prefix = self.site.settings.store.prefix
        report = Report(self._folder / str(self._reports), self.store.now())
        report.write(of_listing(self.store.list(), prefix))
        found = open_report(LocalFolder(report.config), BUCKET, self.store.now())
        if self.collection.inventory is not None:
            self.collection.inventory.close()
        self.collection.inventory = read_report(found, prefix)

    def execute(self, plan="last"):
        return self.collection.execute(plan)[1]

    def garbage(self):
        """Condemned by a plan that is published: a is used in its second state only, so one object of it may go."""
        commit_blobs(self.db, a=b"a1", b=b"b1")
        [dead] = self.used_by("a")
        commit_blobs(self.db, a=b"a2")
        self.db.pack(time.time() + 1)
        self.store.advance(2 * DAY)
        self.report()
        assert self.plan().tally.waiting.blobs == 1
        self.store.advance(8 * DAY)
        self.report()
        assert self.plan().tally.condemned.blobs == 1
        return dead

    def used_by(self, name):
        oid = self.db.open().root()[name]._p_oid
        return [key for key in self.blobs() if read_key(key)[0] == oid]


@pytest.fixture
def reported(make_site, settings, tmp_path):
    made = []

    def make(**margins):
        store = dataclasses.replace(settings, prefix="some/site")
        made.append(FromReports(make_site("filestorage", store=store, **OWNED), tmp_path / "reports", **margins))
        return made[-1]

    yield make
    for each in made:
        if each.collection.inventory is not None:
            each.collection.inventory.close()


def kept(site):
    site.site.close_all()
    site.site.cold()
    db = site.site.db()
    return {name: read_blob(db, name) for name in ("a", "b")}


def test_from_garbage_to_gone(reported):
    site = reported()
    dead = site.garbage()
    outcome = site.execute()
    assert (outcome.deleted.blobs, outcome.spared, outcome.failed) == (1, 0, {})
    assert dead not in site.blobs() and kept(site) == {"a": b"a2", "b": b"b1"}


def test_the_bucket_is_not_listed_and_each_candidate_is_asked_for_once(reported, monkeypatch):
    site = reported()
    site.garbage()
    listed, asked = [], []
    of_time = site.store.list
    monkeypatch.setattr(site.store, "list", lambda prefix="", **more: listed.append(prefix) or of_time(prefix, **more))
    there = site.store.stored
    monkeypatch.setattr(site.store, "stored", lambda key: asked.append(key) or there(key))
    site.plan()
    outcome = site.execute()
    assert outcome.deleted.blobs == 1 and len(asked) == 1
    assert listed and all(prefix.startswith(("gc/", "uploads/")) for prefix in listed)


def test_what_came_since_is_not_judged(reported):
    site = reported(grace=0.0, keep=0.0)
    commit_blobs(site.db, a=b"a1", b=b"b1")
    site.report()
    for _ in range(3):
        lost = blob_key(bytes(7) + b"\1", draw_name())
        site.storage.store_.put_bytes(lost, b"of nobody, and not in the report")
        plan = site.plan()
        assert (plan.tally.used.blobs, plan.tally.waiting.blobs, plan.tally.condemned.blobs) == (2, 0, 0)
        assert lost in site.blobs()
    site.report()
    assert site.plan().tally.waiting.blobs == 3


def test_what_is_used_by_now_stays(reported):
    """The database is looked at after the report: also of a revision that came back since."""
    site = reported()
    dead = site.garbage()
    data = site.storage.store_.get_bytes(dead)
    # A record that uses it once more, as a restored one does.
    connection = site.db.open()
    blob = connection.root()["a"]
    oid = blob._p_oid
    connection.close()
    record, tid = site.storage._base.load(oid)
    base, transaction = site.storage._base, TransactionMetaData()
    again = with_state(record, BlobState(read_key(dead)[1], len(data), None))
    base.tpc_begin(transaction)
    base.store(oid, tid, again, "", transaction)
    base.tpc_vote(transaction)
    base.tpc_finish(transaction)
    outcome = site.execute()
    assert (outcome.deleted.blobs, outcome.spared) == (0, 1) and dead in site.blobs()
    site.report()
    assert site.plan().tally.used.blobs >= 2


def test_what_went_since_is_no_error(reported):
    site = reported()
    dead = site.garbage()
    site.storage.store_.delete([dead])
    outcome = site.execute()
    assert (outcome.deleted.blobs, outcome.spared, outcome.failed) == (0, 1, {})
    # The plan after it, from the same report, has it once more, and the one from the next has not.
    assert site.plan().tally.condemned.blobs == 1
    site.report()
    assert site.plan().tally.condemned.blobs == 0


def test_what_went_and_came_again_under_its_key_is_as_young_as_it_is(reported):
    """A restored revision whose transaction runs still: the same bytes and ETag, and the report has the old date."""
    site = reported()
    dead = site.garbage()
    data = site.storage.store_.get_bytes(dead)
    time.sleep(1.1)  # a HEAD tells seconds
    site.storage.store_.put_bytes(dead, data)
    outcome = site.execute()
    assert (outcome.deleted.blobs, outcome.spared) == (0, 1) and dead in site.blobs()


def test_a_plan_of_a_listing_asks_for_no_candidate(reported, monkeypatch):
    site = reported()
    site.garbage()
    site.collection.inventory.close()
    site.collection.inventory = None
    plan = site.plan()
    assert plan.tally.condemned.blobs == 1
    monkeypatch.setattr(site.store, "stored", None)
    assert site.execute(plan.id).deleted.blobs == 1


def test_a_report_that_lacks_what_is_there_makes_it_wait_longer(reported):
    """Of what was written shortly before, AWS does not promise that it is in a report."""
    site = reported(keep=7 * DAY)
    commit_blobs(site.db, a=b"a1", b=b"b1")
    [dead] = site.used_by("a")
    commit_blobs(site.db, a=b"a2")
    site.db.pack(time.time() + 1)
    site.store.advance(2 * DAY)
    site.report()
    site.plan()
    site.store.advance(8 * DAY)
    there = site.store.list
    site.store.list = lambda *told, **options: (line for line in there(*told, **options) if line.key != dead)
    site.report()
    site.store.list = there
    assert site.plan().tally.condemned.blobs == 0  # and its date goes
    site.report()
    plan = site.plan()
    assert (plan.tally.condemned.blobs, plan.tally.waiting.blobs) == (0, 1)


def test_only_what_a_report_may_not_lack_counts_as_judged_by_it(reported):
    """``Ledger.whole``: an object that no plan dated was in use when that plan was made, if it was judged."""
    site = reported()
    commit_blobs(site.db, a=b"a1")
    site.store.advance(10 * DAY)
    site.report()
    at = site.store.now().timestamp()
    site.store.advance(20 * HOUR)
    plan = site.plan()
    assert abs(plan.ledger.whole - (at - DAY)) < 60 and plan.ledger.at - plan.ledger.whole > DAY
    assert plan.figures is None  # which say of when they are
    # A listing says more, and a report of before takes nothing of that back.
    report, site.collection.inventory = site.collection.inventory, None
    whole = site.plan().ledger.whole
    site.collection.inventory = report
    assert whole > at and site.plan().ledger.whole == whole


def test_shared_objects_are_judged_by_a_listing_only(reported):
    """A report may lack a reference that is there."""
    site = reported()
    commit_blobs(site.db, a=b"same", b=b"other")
    begin_sharing(site.storage.store_)
    [own] = site.used_by("a")
    reference, shared = convert(site.storage.store_, own)
    site.store.advance(10 * DAY)
    there = site.store.list
    site.store.list = lambda *told, **options: (line for line in there(*told, **options) if line.key != reference)
    site.report()
    site.store.list = there
    for _ in range(3):
        plan = site.plan()
        assert (plan.deduplicated, plan.tally.shared, plan.tally.foreign.blobs, len(plan.candidates)) == (
            True,
            None,
            0,
            0,
        )
        site.store.advance(0.4 * DAY)
    site.collection.inventory.close()
    site.collection.inventory = None
    assert (site.plan().tally.shared.used.blobs, kept(site)) == (1, {"a": b"same", "b": b"other"})


def test_unfinished_uploads_are_listed_as_ever(reported, s3, settings):
    site = reported()
    site.garbage()
    s3.create_multipart_upload(Bucket=settings.bucket, Key="some/site/" + blob_key(bytes(7) + b"\1", draw_name()))
    assert site.plan().tally.uploads == 1
