"""The lines for zope.conf that a database without a bucket is offered: what ZConfig then reads, and no secret."""

from __future__ import annotations

import functools
import io
import re
from pathlib import Path

import pytest
import ZConfig
from hypothesis import given
from hypothesis import strategies as st
from schemas import with_sections

from collective.s3blobstorage.cli.conf_snippet import can_be_written, in_memory, snippet
from collective.s3blobstorage.cli.configuration import parse_text, read_storages
from collective.s3blobstorage.cli.loader import storages_schema
from collective.s3blobstorage.overlay.settings import BaseSettings, BlobDirSettings

FILESTORAGE = "<filestorage>\n  path /srv/Data.fs\n  pack-gc false\n</filestorage>"
WITH_BLOBS = "<filestorage>\n  path /srv/Data.fs\n  blob-dir /srv/blobs\n</filestorage>"
BLOBSTORAGE = f"<blobstorage>\n  blob-dir /srv/blobs\n{FILESTORAGE}\n</blobstorage>"
RELSTORAGE = """\
<relstorage>
  keep-history false
  blob-dir /srv/cache
  shared-blob-dir {shared}
  blob-cache-size 10MB
  <postgresql>
    driver psycopg2
    dsn dbname='zodb' user='plone' host='db.example.org' password='a very secret word'
  </postgresql>
</relstorage>"""
SQLITE = (
    "<relstorage>\n<sqlite3>\n data-dir /srv/db\n<pragmas>\n synchronous off\n</pragmas>\n</sqlite3>\n</relstorage>"
)
MYSQL = "<relstorage>\n<mysql>\n db zodb\n user plone\n passwd a-secret-word\n</mysql>\n</relstorage>"
ZEO = """\
<zeoclient>
  server zeo.example.org:8100
  server [::1]:8100
  server /run/zeo.sock
  storage main
  username plone
  password a-secret-word
  cache-size 30MB
  {}
</zeoclient>"""
DEMO = f"<demostorage>\n{FILESTORAGE}\n</demostorage>"

BASES = {
    "filestorage": (FILESTORAGE, "filestorage", []),
    "with a blob-dir": (WITH_BLOBS, "filestorage", [(BlobDirSettings, "/srv/blobs")]),
    "blobstorage": (BLOBSTORAGE, "filestorage", [(BlobDirSettings, "/srv/blobs")]),
    "relstorage": (RELSTORAGE.format(shared="false"), "relstorage", [(BaseSettings, None)]),
    "shared": (RELSTORAGE.format(shared="true"), "relstorage", [(BlobDirSettings, "/srv/cache")]),
    "sqlite": (SQLITE, "relstorage", []),
    "mysql": (MYSQL, "relstorage", []),
    "zeo without blobs": (ZEO.format(""), "zeoclient", []),
    "zeo": (ZEO.format("blob-dir /srv/cache\n  shared-blob-dir off"), "zeoclient", [(BaseSettings, None)]),
    "demo": (DEMO, "demostorage", []),
    "mapping": ("<mappingstorage>\n</mappingstorage>", "mappingstorage", []),
}
IMPORTS = "%import ZEO\n%import relstorage\n"


@functools.cache
def schema():
    return with_sections(storages_schema(), "ZEO", "relstorage")


def parsed(text: str) -> list:
    config, _ = ZConfig.loadConfigFile(schema(), io.StringIO(IMPORTS + text), "/etc/zope.conf")
    return list(config.databases)


def offered(base: str, *, name: str = "main", alone: bool = True, keys: str = "") -> str:
    [database] = parsed(f"<zodb_db {name}>\n  mount-point /\n{keys}{base}\n</zodb_db>")
    return snippet(database, name=name, alone=alone)


@pytest.mark.parametrize("kind", BASES)
def test_zconfig_reads_it(kind):
    base, inside, sources = BASES[kind]
    text = offered(base, keys="  cache-size 30000\n")
    [found], unset = parse_text(IMPORTS + text, Path("/etc/zope.conf"))
    assert found.name == "main" and found.base_type == inside
    assert [(type(one), str(one.path) if hasattr(one, "path") else None) for one in found.settings.sources] == sources
    assert {"S3_ACCESS_KEY", "S3_SECRET_KEY"} <= unset and unset <= {
        "S3_ACCESS_KEY",
        "S3_SECRET_KEY",
        "DATABASE_PASSWORD",
    }
    assert found.settings.store.bucket == "plone-blobs" and found.settings.store.prefix == ""
    assert "secret-word" not in text and "secret word" not in text
    assert "  mount-point /\n" in text and "  cache-size 30000\n" in text


@pytest.mark.parametrize("kind", BASES)
def test_the_storage_inside_is_the_same(kind, tmp_path, monkeypatch):
    """Written out and read again it has the values of before, but for the password and where blobs are kept."""
    monkeypatch.setenv("DATABASE_PASSWORD", "another")
    monkeypatch.setenv("S3_ACCESS_KEY", "x")
    monkeypatch.setenv("S3_SECRET_KEY", "y")
    base = BASES[kind][0]
    file = tmp_path / "zope.conf"
    file.write_text(IMPORTS + offered(base))
    [(_, outside)] = read_storages(file, with_schemas=False)
    [before] = parsed(f"<zodb_db main>\n{base}\n</zodb_db>")
    was = before.config.storage
    assert values(outside.config.base.config) == values(was.config.base.config if kind == "blobstorage" else was.config)


def values(section) -> dict:
    found = {"type": section.getSectionType()}
    for key, info in section.getSectionMatcher().type:
        value = getattr(section, info.attribute)
        if info.issection():
            several = value if isinstance(value, list) else [value]
            found[info.attribute] = [values(getattr(one, "config", one)) for one in several if one is not None]
        elif key == "server":
            found[key] = [one.address for one in value]
        elif "blob" not in key and not key.startswith("passw"):
            found[info.attribute] = re.sub("password='.*'", "", value) if isinstance(value, str) else value
    return found


def test_each_of_several_has_a_prefix_of_its_own():
    assert "s3-prefix catalog\n" in offered(FILESTORAGE, name="catalog", alone=False)
    assert "s3-prefix" not in offered(FILESTORAGE, name="main")
    assert "s3-prefix a-b\n" in offered(FILESTORAGE, name="a+b", alone=False)


def test_what_has_no_text_is_said_to_stay():
    """ZConfig gives the class, and not its name."""
    assert "  # class-factory: as it is now\n" in offered(FILESTORAGE, keys="  class-factory ZODB.broken.find_global\n")


def test_what_is_no_factory_of_zconfig_is_not_written():
    [database] = parsed(f"<zodb_db main>\n{FILESTORAGE}\n</zodb_db>")
    assert can_be_written(database) and not in_memory(database.config.storage)
    [temporary] = parsed("<zodb_db temporary>\n<mappingstorage>\n</mappingstorage>\n</zodb_db>")
    assert in_memory(temporary.config.storage)
    database.config.storage = object()
    assert not can_be_written(database) and not can_be_written(object())


def test_a_dollar_stays_one():
    text = offered("<filestorage>\n  path /srv/a$$1.fs\n</filestorage>")
    assert "path /srv/a$$1.fs" in text


def test_an_example_in_full():
    assert offered(WITH_BLOBS, name="main").partition("\n%import")[2] == (
        " collective.s3blobstorage\n\n"
        "<zodb_db main>\n"
        "  mount-point /\n"
        "  <s3blobstorage>\n"
        "    bucket-name plone-blobs\n"
        "    s3-endpoint-url https://s3.example.org:9000\n"
        "    s3-region eu-central-1\n"
        "    owner www.example.org\n"
        "    s3-access-key $(S3_ACCESS_KEY)\n"
        "    s3-secret-key $(S3_SECRET_KEY)\n"
        "    cache-dir /var/cache/plone-blobs\n"
        "    <blobdirsource>\n"
        "      path /srv/blobs\n"
        "    </blobdirsource>\n"
        "    <filestorage>\n"
        "      path /srv/Data.fs\n"
        "      # blob-dir /srv/blobs\n"
        "    </filestorage>\n"
        "  </s3blobstorage>\n"
        "</zodb_db>\n"
    )


PASSWORDS = st.text(
    st.characters(codec="ascii", exclude_categories=["C", "Z"], exclude_characters="'\"\\$"), min_size=1
)


@given(PASSWORDS.map(lambda text: f"Q7{text}Q7"), st.sampled_from("'\"") | st.none())
def test_no_password_of_a_dsn(password, quote):
    """However PostgreSQL lets it be written; in quotes also with blanks and escaped quotes in it."""
    told = [f"password={password}", f"postgresql://plone:{password}@db.example.org/zodb", f"Password = {password} a=b"]
    if quote is not None:
        told += [f"host=a password={quote}{password} \\{quote} Q7{quote} b=c", f"pwd={quote}{password}{quote}"]
    for dsn in told:
        base = RELSTORAGE.format(shared="false")
        base = re.sub("dsn .*", lambda _, dsn=dsn: f"dsn {dsn}", base)
        text = offered(base)
        assert "Q7" not in text and "$(DATABASE_PASSWORD)" in text
