"""Fixtures of the storage tests: a real S3 server, real base storages."""

from __future__ import annotations

import dataclasses
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from blob_sites import OldSite
from command_line import keys_of
from kept_sites import KeptSite
from origins import PARTS, Origin, Staging, make_origin
from rolling_keys import Stores
from servers.postgresql import PostgreSQL
from sites import Site
from strange_front import Front

from collective.s3blobstorage.settings import StorageSettings, StoreSettings


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    server = PostgreSQL().start()
    yield server
    server.stop()


@pytest.fixture
def store_copies(pytestconfig) -> None:
    """For a test that has the store copy objects of another prefix: what SSE-C encrypted is read and sent instead."""
    if pytestconfig.getoption("--encrypt") == "sse-c":
        pytest.skip("what SSE-C encrypted is not copied from another prefix by the store")


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

    ``source``: what makes the settings of the source from the origin; ``sources``: of all of them. ``origin_store``:
    the bucket of an origin that has one, ``store``: that of the copy.
    """
    made: list[Any] = []

    def make(kind: str, source: Callable[[Origin], Any] | None = None, **more: Any) -> Staging:
        origin = make_origin(kind, tmp_path / f"origin{len(made)}", more.pop("origin_store", settings))
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
def kept(tmp_path, settings, request, monkeypatch) -> Iterator[Callable[..., KeptSite]]:
    """``kept(kind)``: a site whose base has blobs; all are closed at the end."""
    made: list[KeptSite] = []
    for name, value in keys_of(settings).items():
        if name.startswith("SITE_"):
            monkeypatch.setenv(name, value)

    def make(kind: str = "filestorage", store: StoreSettings = settings, **more: Any) -> KeptSite:
        postgresql = request.getfixturevalue("postgresql") if kind == "postgresql" else None
        made.append(KeptSite(kind, tmp_path / f"kept{len(made)}", store, postgresql, **more))
        return made[-1]

    yield make
    for site in made:
        site.close()


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A file system of 4 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


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


@pytest.fixture
def secure(settings, tls_proxy, ca) -> StoreSettings:
    """Settings by which that proxy is asked; their encryption is the test's."""
    return dataclasses.replace(
        settings, endpoint_url=tls_proxy.endpoint_url, ca_bundle=ca.bundle, prefix="p", encryption=None
    )


@pytest.fixture
def stores(secure) -> Iterator[Stores]:
    with closing(Stores(secure)) as opened:
        yield opened
