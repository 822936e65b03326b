"""The first readers of a database that was just opened find connections that are open."""

from __future__ import annotations

import dataclasses
import os
import threading

import pytest
import transaction
from sites import commit_blobs, wait_until

READERS = 8
BLOBS = {f"b{number}": os.urandom(1000) for number in range(READERS)}


@pytest.fixture(params=["http", "https"])
def way(request, settings):
    """The proxy in front of the store, and the settings that lead through it."""
    if request.param == "https":
        return request.getfixturevalue("tls_proxy"), request.getfixturevalue("secure")
    proxy = request.getfixturevalue("proxy")
    return proxy, dataclasses.replace(settings, endpoint_url=proxy.endpoint_url)


@pytest.fixture
def opened(make_site, way):
    """``opened()``: a database with cold blobs, opened just now; all that opening began has ended, and been seen."""

    def make():
        site = make_site("filestorage", store=way[1])
        db = site.db()
        commit_blobs(db, **BLOBS)
        db.close()
        site.cold()
        before = way[0].accepted
        db = site.db()
        wait_until(lambda: "s3blobs-connect" not in [thread.name for thread in threading.enumerate()])
        wait_until(lambda: way[0].accepted - before >= READERS)  # the proxy takes them after the kernel did
        return db

    return make


def read_at_once(db):
    """All blobs, each by a thread of its own."""
    found = {}
    start = threading.Barrier(READERS)

    def read(name):
        connection = db.open(transaction.TransactionManager())
        blob = connection.root()[name]
        start.wait()
        with blob.open("r") as file:
            found[name] = file.read()
        connection.close()

    threads = [threading.Thread(target=read, args=(name,)) for name in BLOBS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == BLOBS


def test_the_first_readers_open_none(opened, way):
    proxy, _ = way
    db = opened()
    proxy.round_trip(100)  # they overlap
    before = proxy.accepted
    read_at_once(db)
    assert proxy.accepted == before


def test_those_that_the_store_closed_are_not_missed(opened, way):
    proxy, _ = way
    db = opened()
    proxy.down()
    proxy.up()
    proxy.reset()
    read_at_once(db)
    assert proxy.counts("/blobs/") == {"GetObject": READERS}, "each at the first attempt"


def test_closing_the_database_closes_them(opened, way):
    proxy, _ = way
    db = opened()
    db.close()
    wait_until(lambda: not proxy._connections)
