"""How many requests garbage collection makes."""

from __future__ import annotations

import dataclasses
import time

import pytest
from sites import commit_blobs
from store_time import DAY, ShiftedStore

from collective.s3blobstorage.maintenance.gc.margins import Margins
from collective.s3blobstorage.maintenance.gc.references import view_of
from collective.s3blobstorage.maintenance.gc.runs import Collection

MOST = 10


@pytest.fixture
def site(make_site, settings, proxy):
    store = dataclasses.replace(settings, endpoint_url=proxy.endpoint_url)
    return make_site("filestorage", store=store, owner="www.example.org", preflight=False, gc_on_pack="off")


def test_a_round_that_deletes_half_of_five_hundred(site, proxy):
    db = site.db()
    for first in range(0, 250, 50):
        commit_blobs(db, **{f"blob{number}": b"dead" for number in range(first, first + 50)})
        commit_blobs(db, **{f"blob{number}": b"kept" for number in range(first, first + 50)})
    db.pack(time.time() + 1)
    store = ShiftedStore(db.storage.store_)
    collection = Collection(store, lambda: view_of(db.storage._base), Margins(share=1.0), db.storage.marker)
    store.advance(2 * DAY)
    plan, outcome = collection.round()
    plan.close()
    assert (plan.tally.waiting.blobs, plan.tally.used.blobs, outcome.deleted.blobs) == (250, 250, 0)
    store.advance(8 * DAY)
    db.storage.witness.write()  # as the site's thread does each hour: it is one more to be read
    proxy.reset()
    plan, outcome = collection.round()
    plan.close()
    requests = proxy.lines
    assert (outcome.deleted.blobs, outcome.failed, len(site.keys())) == (250, {}, 250)
    print("\n".join(requests))
    assert len(requests) <= MOST, requests
