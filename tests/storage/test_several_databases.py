"""One transaction over two databases: both or neither, begun in one order, no deadlock."""

from __future__ import annotations

import dataclasses
import os

import pytest
import transaction
from persistent.mapping import PersistentMapping
from sites import ALL, commit_blobs, connected, in_two_threads, read_blob
from ZODB.blob import Blob
from ZODB.FileStorage import FileStorage
from ZODB.POSException import ConflictError

# Each kind of base once.
KINDS = ["filestorage", "mappingstorage", "sqlite-hp", "postgresql-hp", "zeo-client"]


@pytest.fixture
def two(make_site, settings):
    """``two(kind, other)``: two sites in one bucket."""

    def make(*kinds):
        return [make_site(kind, store=dataclasses.replace(settings, prefix=f"p{i}")) for i, kind in enumerate(kinds)]

    return make


@pytest.mark.parametrize("kind", ALL)
def test_a_sort_key_is_the_bases_own(make_site, kind):
    """The same for the root and every connection, so that all transactions take the locks of the bases in one order."""
    storage = make_site(kind).open()
    instances = [storage.new_instance() for _ in range(3)]
    assert {instance.sortKey() for instance in instances} == {storage.sortKey()} == {storage._base.sortKey()}
    for instance in instances:
        instance.release()


class Noting(FileStorage):
    """Notes which base takes its commit lock."""

    begun: list[str] = []

    def tpc_begin(self, *arguments, **options):
        super().tpc_begin(*arguments, **options)
        self.begun.append(self.sortKey())


def test_the_bases_are_begun_in_the_order_of_their_sort_keys(two):
    sites = two("filestorage", "filestorage")
    for site in sites:
        site.base = lambda site=site: Noting(str(site.folder / "Data.fs"))
    dbs = [site.db() for site in sites]
    keys = sorted(db.storage.sortKey() for db in dbs)
    for joined in (dbs, dbs[::-1]):
        Noting.begun.clear()
        manager = transaction.TransactionManager()
        connections = [db.open(manager) for db in joined]
        for connection in connections:
            connection.root()["a"] = Blob(b"bytes")
        manager.commit()
        assert Noting.begun == keys
        for connection in connections:
            connection.close()


# Not two of one sort key, as two MappingStorages or two RelStorages of one name: there ZODB itself promises no order.
PAIRS = [(kind, "filestorage") for kind in KINDS] + [("postgresql-hp", "sqlite-hp"), ("zeo-client", "zeo-client")]


@pytest.mark.parametrize(("kind", "other"), PAIRS)
def test_two_threads_that_commit_in_both_never_wait_for_each_other(two, kind, other):
    """One joins the transaction in the one order, the other in the other."""
    sites = two(kind, other)
    dbs = [site.db() for site in sites]
    for db in dbs:
        with connected(db) as connection:
            connection.root()["0"], connection.root()["1"] = PersistentMapping(), PersistentMapping()
            connection.transaction_manager.commit()
    written: dict[str, bytes] = {}

    def work(number: int) -> None:
        for turn in range(15):
            manager = transaction.TransactionManager()
            connections = [db.open(manager) for db in (dbs[::-1] if number else dbs)]
            data = written[f"{number} {turn}"] = os.urandom(1000)
            for connection in connections:
                connection.root()[str(number)][str(turn)] = Blob(data)
            manager.commit()
            for connection in connections:
                connection.close()

    in_two_threads(work)
    for db in dbs:
        with connected(db) as connection:
            found = {
                f"{number} {turn}": blob.open("r").read()
                for number in "01"
                for turn, blob in connection.root()[number].items()
            }
        assert found == written


@pytest.mark.parametrize("loser", [0, 1])
@pytest.mark.parametrize("kind", KINDS)
def test_a_conflict_in_one_database_leaves_nothing_in_either(two, kind, loser):
    sites = two("filestorage", kind)
    dbs = [site.db() for site in sites]
    for db in dbs:
        commit_blobs(db, a=b"first")
    manager = transaction.TransactionManager()
    mine = [db.open(manager) for db in dbs]
    for connection in mine:
        connection.root()["mine"] = Blob(b"mine")
    with mine[loser].root()["a"].open("w") as file:
        file.write(b"mine")
    with connected(dbs[loser]) as theirs:
        with theirs.root()["a"].open("w") as file:
            file.write(b"theirs")
        theirs.transaction_manager.commit()
    with pytest.raises(ConflictError):
        manager.commit()
    manager.abort()
    for connection in mine:
        assert "mine" not in connection.root()
        connection.close()
    for site, db in zip(sites, dbs, strict=True):
        db.storage.uploads.settle()
        assert len(site.keys()) == (2 if db is dbs[loser] else 1)
    assert [read_blob(db, "a") for db in dbs] == [b"theirs" if db is dbs[loser] else b"first" for db in dbs]
    for db in dbs:
        commit_blobs(db, a=b"it goes on")
