"""Fixtures of the storage tests: a real S3 server, real base storages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from servers.postgresql import PostgreSQL
from sites import Site
from strange_front import Front


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
