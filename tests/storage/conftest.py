"""Fixtures of the storage tests: a real S3 server, real base storages."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from blob_sites import OldSite
from origins import PARTS, Origin, Staging, make_origin
from servers.postgresql import PostgreSQL
from sites import Site
from strange_front import Front

from collective.s3blobstorage.settings import StorageSettings


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    server = PostgreSQL().start()
    yield server
    server.stop()


@pytest.fixture
def make_site(tmp_path, settings, request) -> Iterator[Callable[..., Site]]:
    """``make_site(kind, **settings)``; every site is closed at the end. All of a test share one bucket and prefix."""
    with ExitStack() as stack:

        def make(kind: str, **more: Any) -> Site:
            database = request.getfixturevalue("postgresql") if kind.startswith("postgresql") else None
            store = more.pop("store", settings)
            site = Site(kind, tmp_path, store, database, **more)
            stack.callback(site.close)
            return site

        yield make


@pytest.fixture
def make_staging(tmp_path, settings) -> Iterator[Callable[..., Staging]]:
    """``make_staging(kind of origin)``: a copy of its database on the prefix ``staging``, its blobs read from a source.

    ``source``: what makes the settings of the source from the origin; ``sources``: of all of them.
    """
    made: list[Any] = []

    def make(kind: str, source: Callable[[Origin], Any] | None = None, **more: Any) -> Staging:
        origin = make_origin(kind, tmp_path / f"origin{len(made)}", settings)
        made.append(origin)
        sources = more.pop("sources", None) or ((source(origin) if source else origin.source),)
        store = more.pop("store", dataclasses.replace(settings, prefix="staging"))
        more = {"owner": "staging", "preflight": False, **PARTS, **more}
        staging = Staging(
            origin, StorageSettings(store=store, cache_dir=tmp_path / f"cache{len(made)}", sources=sources, **more)
        )
        made.append(staging)
        return staging

    yield make
    for each in reversed(made):
        each.close()


@pytest.fixture
def old_site(tmp_path) -> Iterator[Callable[..., OldSite]]:
    """``old_site(kind, layout)``: a new site of stock ZODB with a blob directory; all are closed at the end."""
    with ExitStack() as stack:

        def make(kind: str = "filestorage", layout: str = "bushy") -> OldSite:
            site = OldSite(kind, tmp_path / f"old-{kind}-{layout}", layout)
            stack.callback(site.close)
            return site

        yield make


@pytest.fixture
def front(s3_server) -> Iterator[Front]:
    """A store over http that is strange in what the test says; nothing at first."""
    opened = Front(s3_server)
    yield opened
    opened.close()


@pytest.fixture
def tls_front(s3_server, ca) -> Iterator[Front]:
    """The same over https, with a certificate of ``ca``."""
    opened = Front(s3_server, ca)
    yield opened
    opened.close()
