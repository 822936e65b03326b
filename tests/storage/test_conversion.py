"""``zodbconvert`` of RelStorage and ``zodb-convert``: into our storage and out of it, blobs included."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import ZODB
import ZODB.config
from blob_sites import fill, names
from command_line import document, keys_of, s3blobs
from sites import bucket_keys, commit_blobs, raw_client
from test_copy import everything
from ZODB.POSException import POSKeyError

TOOLS = ["zodbconvert", "zodb-convert"]
STOCK = ["filestorage", "blobstorage", "sqlite", "sqlite-shared", "postgresql", "zeo"]
DESTINATIONS = STOCK[:-1]  # see test_a_zeo_client_of_stock_zodb_is_no_destination


def convert(tool: str, source: str, destination: str, site) -> subprocess.CompletedProcess:
    """Run the tool with these two configurations, each an ``%import`` or two and a section."""
    program = Path(sys.executable).with_name(tool)
    if not program.exists():
        pytest.skip(f"{tool} is not there: it needs Python 3.12")
    imports, sections = [], []
    for name, text in (("source", source), ("destination", destination)):
        imports += re.findall("^%import .*$", text, re.MULTILINE)
        section = re.sub("^%import .*\n", "", text, flags=re.MULTILINE)
        sections.append(re.sub(r"\A<(\w+)>", rf"<\1 {name}>", section))
    configuration = site.folder / "convert.conf"
    configuration.write_text("\n".join([*dict.fromkeys(imports), *sections, ""]))
    return subprocess.run(
        [program, str(configuration)], env=keys_of(site.store), capture_output=True, text=True, timeout=120
    )


def contents(configuration: str) -> dict:
    """Every revision by tid and oid, and every blob of the root by name."""
    storage = ZODB.config.storageFromString(configuration)
    found = {"revisions": everything(storage)}
    db = ZODB.DB(storage)
    found["names"] = names(db)
    db.close()
    return found


def filled(site, configuration: str) -> dict:
    db = ZODB.DB(ZODB.config.storageFromString(configuration))
    fill(db)
    db.close()
    return contents(configuration)


@pytest.fixture
def ours(kept, settings):
    """``ours(kind)``: a site of ours on a prefix of its own, over that kind of base."""
    made = []

    def make(kind="filestorage"):
        store = dataclasses.replace(settings, prefix=f"ours{len(made)}")
        made.append(kept(kind, store=store, served_blobs=False))
        return made[-1]

    return make


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("kind", STOCK)
def test_in(kept, ours, tool, kind):
    source, target = kept(kind), ours()
    expected = filled(source, source.old())
    result = convert(tool, source.old(), target.alone(), target)
    assert result.returncode == 0, result.stderr
    target.cold()
    assert contents(target.alone()) == expected
    compared = compare(target, source)
    assert compared.returncode == 0, compared.stdout


def compare(target, source) -> subprocess.CompletedProcess:
    """What docs/migration.md asks for after any such tool."""
    target_conf, source_conf = target.folder / "target.conf", target.folder / "source.conf"
    target_conf.write_text(target.alone())
    source_conf.write_text(source.old())
    return s3blobs(
        "--config", target_conf, "migrate", "--from", source_conf, "--compare", "--json", env=keys_of(target.store)
    )


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("kind", DESTINATIONS)
def test_out(kept, ours, tool, kind):
    source, target = ours(), kept(kind)
    expected = filled(source, source.alone())
    source.cold()
    result = convert(tool, source.alone(), target.old(), source)
    assert result.returncode == 0, result.stderr
    assert contents(target.old()) == expected


@pytest.mark.parametrize("tool", TOOLS)
def test_a_zeo_client_of_stock_zodb_is_no_destination(kept, tool):
    """It cannot restore a blob under its tid, so these tools lose the blobs, or stop, also without us."""
    source, target = kept("filestorage"), kept("zeo")
    expected = filled(source, source.old())
    result = convert(tool, source.old(), target.old(), source)
    try:
        assert result.returncode != 0 or contents(target.old()) != expected
    except POSKeyError:
        pass


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("way", ["filestorage to sqlite", "sqlite to filestorage", "zeo to sqlite", "sqlite to zeo"])
def test_from_ours_to_ours(ours, tool, way):
    """From one bucket's prefix to another, over other bases."""
    source, target = (ours(kind) for kind in way.split(" to "))
    expected = filled(source, source.alone())
    result = convert(tool, source.alone(), target.alone(), target)
    assert result.returncode == 0, result.stderr
    target.cold()
    assert contents(target.alone()) == expected


@pytest.mark.parametrize("tool", TOOLS)
def test_a_blob_that_the_source_lacks_is_found_by_comparing(kept, ours, tool):
    """The tools go on without it and say nothing; our own copy stops; ``migrate --compare`` finds it."""
    source, target = ours(), ours("sqlite")
    db = ZODB.DB(ZODB.config.storageFromString(source.alone()))
    commit_blobs(db, a=b"is there", b=b"will be gone")
    with db.transaction() as connection:
        oid = connection.root()["b"]._p_oid
    db.close()
    source.cold()
    [key] = [key for key in bucket_keys(source.store) if oid.hex() in key]
    raw_client(source.store).delete_object(Bucket=source.store.bucket, Key=f"{source.store.prefix}/{key}")
    result = convert(tool, source.alone(), target.alone(), target)
    compared = compare(target, _as_source(source))
    if tool == "zodbconvert":  # which calls our copyTransactionsFrom: the transaction with the blob is not copied
        assert result.returncode != 0 and "BlobMissing" in result.stderr
        assert contents(target.alone())["names"] == {}
    else:
        assert result.returncode == 0 and compared.returncode == 1, result.stderr
        assert document(compared)["missing"] == 1


def _as_source(source):
    class Source:
        old = source.alone

    Source.folder = source.folder
    return Source


def test_the_tools_are_there():
    """The tests of zodb-convert run wherever its Python is."""
    assert os.path.exists(Path(sys.executable).with_name("zodbconvert"))
    assert (sys.version_info >= (3, 12)) == Path(sys.executable).with_name("zodb-convert").exists()
