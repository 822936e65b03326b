"""ZODB's class suites, over every base: all of them, also those that a base is known not to pass."""

from __future__ import annotations

import unittest
from typing import Any

import bases
import pytest
from place import place
from upstream import Pair, pairs
from ZODB.tests import (
    BasicStorage,
    ConflictResolution,
    HistoryStorage,
    IteratorStorage,
    MTStorage,
    PackableStorage,
    PersistentStorage,
    ReadOnlyStorage,
    RecoveryStorage,
    RevisionStorage,
    Synchronization,
    TransactionalUndoStorage,
)
from ZODB.tests.StorageTestBase import StorageTestBase


class InstancePerThread:
    """MTStorage's direct calls from many threads, for bases whose storage objects are one connection each.

    As RelStorage's own run of the suite does: each thread gets an instance of the storage.
    """

    def _checkNThreads(self, n: int, constructor: type, storage: Any, *more: Any) -> None:
        if self.base.mvcc and constructor is not MTStorage.ZODBClientThread:
            instances = iter([place.close_later(storage.new_instance()) for _ in range(n)])
            super()._checkNThreads(n, lambda *arguments: constructor(next(instances), *arguments), *more)
        else:
            super()._checkNThreads(n, constructor, storage, *more)


SUITES: dict[str, tuple[type, ...]] = {
    "Basic": (BasicStorage.BasicStorage,),
    "ConflictResolution": (ConflictResolution.ConflictResolvingStorage,),
    "History": (HistoryStorage.HistoryStorage,),
    "Iterator": (IteratorStorage.IteratorStorage, IteratorStorage.ExtendedIteratorStorage),
    "MT": (InstancePerThread, MTStorage.MTStorage),
    "Packable": (PackableStorage.PackableStorageWithOptionalGC,),
    "PackableUndo": (PackableStorage.PackableUndoStorage,),
    "Persistent": (PersistentStorage.PersistentStorage,),
    "ReadOnly": (ReadOnlyStorage.ReadOnlyStorage,),
    "Recovery": (RecoveryStorage.RecoveryStorage,),
    "Revision": (RevisionStorage.RevisionStorage,),
    "Synchronization": (Synchronization.SynchronizedStorage,),
    "TransactionalUndo": (
        TransactionalUndoStorage.TransactionalUndoStorage,
        ConflictResolution.ConflictResolvingTransUndoStorage,
    ),
}


class OverBase(StorageTestBase):
    """What the suites want from a storage's test class: ``_storage``, ``open``, ``_dst`` and ``new_dest``."""

    base: bases.Base
    wrapped: bool
    use_extension_bytes = True  # every base here keeps the extension's bytes as they were

    def setUp(self) -> None:
        super().setUp()
        self.open()
        if isinstance(self, RecoveryStorage.RecoveryStorage):
            self._dst = self.new_dest()

    def open(self, read_only: bool = False) -> None:
        self._storage = self.base.storage(self.wrapped, read_only=read_only)

    def _new_storage_client(self) -> Any:
        if not self.base.mvcc:
            raise NotImplementedError  # one process, one storage object: the race tests are skipped
        return self.base.storage(self.wrapped)

    def new_dest(self) -> Any:
        return self.base.storage(self.wrapped, "destination")


def class_pairs(base: bases.Base) -> list[Pair]:
    def build(wrapped: bool):
        suite = unittest.TestSuite()
        for name, classes in SUITES.items():
            made = type(name, (OverBase, *classes), {"base": base, "wrapped": wrapped})
            suite.addTest(unittest.defaultTestLoader.loadTestsFromTestCase(made))
        return suite

    return pairs("ZODB classes", base.name, build)


@pytest.mark.parametrize("pair", [pair for base in bases.ALL for pair in class_pairs(base)], ids=str)
def test_zodb_classes(pair, compare):
    compare(pair)
