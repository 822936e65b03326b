"""``%import collective.s3blobstorage`` in the schemas of the tools that read storage sections, around each base."""

from __future__ import annotations

import io
import os

import pytest
import ZConfig
from ZODB.config import getDbSchema, getStorageSchema

from collective.s3blobstorage.config import S3BlobStorageFactory

BASES = {
    "filestorage": "<filestorage>\n  path {tmp}/Data.fs\n</filestorage>",
    "mappingstorage": "<mappingstorage>\n</mappingstorage>",
    "demostorage": "<demostorage>\n  <filestorage base>\n    path {tmp}/Data.fs\n  </filestorage>\n</demostorage>",
    "zlibstorage": "%import zc.zlibstorage\n<zlibstorage>\n  <filestorage>\n    path {tmp}/Data.fs\n  </filestorage>\n"
    "</zlibstorage>",
    "zeoclient": "<zeoclient>\n  server localhost:8100\n</zeoclient>",
    "clientstorage": "%import ZEO\n<clientstorage>\n  server localhost:8100\n</clientstorage>",
    "relstorage": "%import relstorage\n<relstorage>\n  keep-history false\n  <sqlite3>\n    data-dir {tmp}/sqlite\n"
    "  </sqlite3>\n</relstorage>",
}
MODULES = {"zlibstorage": "zc.zlibstorage", "zeoclient": "ZEO", "clientstorage": "ZEO", "relstorage": "relstorage"}


def base(name: str, tmp_path) -> str:
    if name in MODULES:
        pytest.importorskip(MODULES[name])
    return BASES[name].format(tmp=tmp_path)


def ours(inside: str, name: str = "") -> str:
    return (
        f"%import collective.s3blobstorage\n<s3blobstorage {name}>\n  bucket-name plone-blobs\n"
        f"  cache-dir /var/cache/plone-blobs\n{inside}\n</s3blobstorage>\n"
    )


def assert_ours(factory, name: str | None = None) -> None:
    assert isinstance(factory, S3BlobStorageFactory)
    assert factory.name == name
    assert factory.settings.store.bucket == "plone-blobs"
    assert callable(factory.config.base.open)


@pytest.mark.parametrize("name", BASES)
def test_storage_section_alone(name, tmp_path):
    config, _ = ZConfig.loadConfigFile(getStorageSchema(), io.StringIO(ours(base(name, tmp_path))))
    assert_ours(config.storage)


@pytest.mark.parametrize("name", BASES)
def test_zodb_section(name, tmp_path):
    text = f"<zodb main>\n{ours(base(name, tmp_path))}</zodb>\n"
    config, _ = ZConfig.loadConfigFile(getDbSchema(), io.StringIO(text))
    [database] = config.database
    assert_ours(database.config.storage)


def test_inside_a_demostorage(tmp_path):
    text = f"<demostorage>\n{ours(base('mappingstorage', tmp_path), 'base')}</demostorage>\n"
    config, _ = ZConfig.loadConfigFile(getStorageSchema(), io.StringIO(text))
    [factory] = config.storage.config.factories
    assert_ours(factory, "base")


@pytest.mark.parametrize("name", BASES)
def test_zope_conf(name, tmp_path):
    options = pytest.importorskip("Zope2.Startup.options")
    path = tmp_path / "zope.conf"
    database = f"<zodb_db main>\nmount-point /\n{ours(base(name, tmp_path))}</zodb_db>\n"
    path.write_text(f"instancehome {tmp_path}\n{database}")
    parsed = options.ZopeWSGIOptions(str(path))()
    [database] = parsed.configroot.databases
    assert_ours(database.config.storage)


@pytest.mark.parametrize("name", BASES)
def test_zodbconvert(name, tmp_path):
    zodbconvert = pytest.importorskip("relstorage.zodbconvert")
    text = f"<mappingstorage source>\n</mappingstorage>\n{ours(base(name, tmp_path), 'destination')}"
    schema = ZConfig.loadSchemaFile(io.StringIO(zodbconvert.schema_xml))
    config, _ = ZConfig.loadConfigFile(schema, io.StringIO(text))
    assert_ours(config.destination, "destination")


def test_zodbconvert_in_both_places(tmp_path):
    zodbconvert = pytest.importorskip("relstorage.zodbconvert")
    inside = base("mappingstorage", tmp_path)
    schema = ZConfig.loadSchemaFile(io.StringIO(zodbconvert.schema_xml))
    config, _ = ZConfig.loadConfigFile(schema, io.StringIO(ours(inside, "source") + ours(inside, "destination")))
    assert_ours(config.source, "source")
    assert_ours(config.destination, "destination")


@pytest.mark.parametrize("name", BASES)
def test_zodbpack(name, tmp_path):
    zodbpack = pytest.importorskip("relstorage.zodbpack")
    schema = ZConfig.loadSchemaFile(io.StringIO(zodbpack.schema_xml))
    config, _ = ZConfig.loadConfigFile(schema, io.StringIO(ours(base(name, tmp_path))))
    [factory] = config.storages
    assert_ours(factory)


@pytest.mark.parametrize("name", ["filestorage", "mappingstorage", "demostorage", "zlibstorage", "relstorage"])
def test_zeo_conf(name, tmp_path):
    """By the option parsers of runzeo and of zeoctl, which have a schema each."""
    runzeo = pytest.importorskip("ZEO.runzeo")
    from zdaemon.zdctl import ZDCtlOptions

    path = tmp_path / "zeo.conf"
    runner = "<runner>\n  program /bin/true\n</runner>\n"
    path.write_text(f"<zeo>\n  address localhost:8100\n</zeo>\n{ours(base(name, tmp_path), '1')}{runner}")
    server = runzeo.ZEOOptions()
    server.realize(["-C", str(path)])
    control = ZDCtlOptions()
    control.schemadir = os.path.dirname(runzeo.__file__)
    control.schemafile = "zeoctl.xml"
    control.realize(["-C", str(path), "status"])
    for factories in (server.storages, control.configroot.storages):
        [factory] = factories
        assert_ours(factory, "1")
