"""ZODB's suite for DemoStorage, on top of ours, and over ours holding a DemoStorage."""

from __future__ import annotations

import unittest
from typing import Any

import bases
import pytest
from place import place
from upstream import Pair, pairs
from ZODB.DemoStorage import DemoStorage
from ZODB.tests.StorageTestBase import StorageTestBase
from ZODB.tests.testDemoStorage import DemoStorageTests, DemoStorageWrappedBase


class OnTop(DemoStorageWrappedBase):
    """A DemoStorage whose base is a storage with blobs: bare, FileStorage with a blob directory."""

    wrapped: bool

    def _makeBaseStorage(self) -> Any:
        return bases.FILESTORAGE.blob_factory(self.wrapped)("data", "blobs")


class Inside(DemoStorageTests):
    """A DemoStorage as the base of ours."""

    wrapped: bool

    def setUp(self) -> None:
        StorageTestBase.setUp(self)
        demo = place.close_later(DemoStorage())
        self._storage = place.ours(demo) if self.wrapped else demo


def demo_pairs(suite: type) -> list[Pair]:
    def build(wrapped: bool):
        made = type(suite.__name__, (suite,), {"wrapped": wrapped})
        return unittest.defaultTestLoader.loadTestsFromTestCase(made)

    return pairs("DemoStorage", suite.__name__, build)


@pytest.mark.parametrize("pair", [*demo_pairs(OnTop), *demo_pairs(Inside)], ids=str)
def test_demostorage(pair, compare):
    compare(pair)
