"""ZEO's own suites: with our section in the server's configuration, and with a ZEO client inside our section."""

from __future__ import annotations

import unittest
from typing import Any

import pytest
from place import place
from upstream import Pair, pairs
from ZEO.ClientStorage import ClientStorage
from ZEO.tests import forker
from ZEO.tests.testZEO import CommonBlobTests, DummyDB, FullGenericTests
from ZODB.tests.StorageTestBase import StorageTestBase

FILESTORAGE = "<filestorage 1>\n path Data.fs\n</filestorage>\n"


class SectionInServer(FullGenericTests, CommonBlobTests):
    """Bare: ``<blobstorage>`` around ``<filestorage>``. Ours: ``<s3blobstorage>`` around it."""

    wrapped: bool

    def getConfig(self) -> str:
        return place.section(FILESTORAGE.replace(" 1>", " 2>")) if self.wrapped else CommonBlobTests.getConfig(self)


class ClientInSection(FullGenericTests):
    """Bare: a ZEO client without blobs. Ours: our storage around it. The server runs a plain FileStorage."""

    wrapped: bool

    def getConfig(self) -> str:
        return FILESTORAGE

    def setUp(self) -> None:
        StorageTestBase.setUp(self)
        self._address, stop = forker.start_zeo_server(self.getConfig(), self.getZEOConfig())
        self._servers = [stop]
        self._storage = self._client(wait_timeout=60, min_disconnect_poll=0.5)
        self._storage.registerDB(DummyDB())

    def _client(self, **options: Any) -> Any:
        client = ClientStorage(self._address, "1", wait=1, cache_size=20_000_000, **options)
        return place.ours(client) if self.wrapped else place.close_later(client)

    def _new_storage_client(self) -> Any:
        client = self._client()
        client.registerDB(DummyDB())
        return client

    def open(self, read_only: bool = False) -> None:
        self._storage.close()
        self._storage = self._client(read_only=read_only)


def zeo_pairs(suite: type) -> list[Pair]:
    def build(wrapped: bool):
        made = type(suite.__name__, (suite,), {"wrapped": wrapped})
        names = [name for name in dir(made) if name.startswith(("check", "test"))]
        return unittest.TestSuite(made(name) for name in names if callable(getattr(made, name)))

    return pairs("ZEO", suite.__name__, build)


@pytest.mark.parametrize("pair", [*zeo_pairs(SectionInServer), *zeo_pairs(ClientInSection)], ids=str)
def test_zeo(pair, compare):
    compare(pair)
