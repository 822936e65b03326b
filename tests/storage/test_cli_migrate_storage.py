"""``s3blobs migrate --from`` a configuration: the storage that it describes has the blobs."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import time

import pytest
from command_line import SCRIPT, document, keys_of, one_line, s3blobs
from kept_sites import KINDS
from sites import bucket_keys, commit_blobs, read_blob, wait_until

BLOBS = {"a": b"first", "b": os.urandom(70_000), "empty": b""}


def ready(site):
    """A site that was filled with its old configuration; the old file and the new one, which has no source."""
    db = site.db(site.old())
    commit_blobs(db, **BLOBS)
    commit_blobs(db, a=b"second")
    site.shut()
    old, new = site.folder / "old.conf", site.folder / "new.conf"
    old.write_text(site.old())
    new.write_text(site.alone())
    return old, new


def migrate(conf, source, *arguments, store):
    return s3blobs("--config", conf, "migrate", "--from", source, *arguments, env=keys_of(store))


@pytest.mark.parametrize("kind", KINDS)
def test_every_storage_with_blobs(kept, settings, kind):
    site = kept(kind)
    old, new = ready(site)
    told = document(migrate(new, old, "--dry-run", "--json", store=settings))
    assert told["found"]["wanted"]["blobs"] == 4 and bucket_keys(settings) == [], told
    result = migrate(new, old, "--compare", "--json", store=settings)
    assert result.returncode == 1 and document(result)["missing"] == 4 and bucket_keys(settings) == []
    result = migrate(new, old, "--json", store=settings)
    told = document(result)
    assert result.returncode == 0 and told["uploaded"]["blobs"] == 4 and told["from"] == str(old), result.stderr
    result = migrate(new, old, "--compare", "--verify", "--json", store=settings)
    assert result.returncode == 0 and document(result)["verified"]["blobs"] == 4, result.stdout
    text = migrate(new, old, store=settings)
    assert text.returncode == 0 and "uploaded" in text.stdout, text.stderr
    site.cold()
    if site.shared:
        site.blobs.rename(site.folder / "away")
    db = site.db(site.alone())
    assert {name: read_blob(db, name) for name in BLOBS} == {**BLOBS, "a": b"second"}


def test_another_bucket(kept, settings, tmp_path):
    """The old configuration is an ``<s3blobstorage>`` too, with a source behind its bucket."""
    site = kept()
    stock = site.base()
    db = site.db(site.old())
    commit_blobs(db, a=b"only in the directory")
    site.shut()
    bare = stock.replace(f"  blob-dir {site.blobs}\n", "")
    old = site.folder / "old.conf"
    old.write_text(site.new(site.source, keep="off", base=bare))
    db = site.db(old.read_text())
    commit_blobs(db, b=b"in the old bucket")
    site.shut()
    site.store = dataclasses.replace(settings, prefix="elsewhere")
    new = site.folder / "new.conf"
    new.write_text(site.new(keep="off", base=bare))
    result = migrate(new, old, "--json", store=settings)
    assert result.returncode == 0 and document(result)["uploaded"]["blobs"] == 2, result.stderr
    site.cold()
    db = site.db(new.read_text())
    assert read_blob(db, "a") == b"only in the directory" and read_blob(db, "b") == b"in the old bucket"


def blobs_there(settings):
    return [key for key in bucket_keys(settings) if key.startswith("blobs/")]


def test_killed_and_run_again(kept, settings, proxy):
    site = kept("sqlite")
    commit_blobs(site.db(site.old()), **{f"b{number}": os.urandom(2000) for number in range(60)})
    site.shut()
    site.store = dataclasses.replace(settings, endpoint_url=proxy.endpoint_url)
    old, new = site.folder / "old.conf", site.folder / "new.conf"
    old.write_text(site.old())
    new.write_text(site.alone())
    proxy.round_trip(30)
    arguments = ["--config", new, "migrate", "--from", old, "--concurrency", "2"]
    process = subprocess.Popen([SCRIPT, *arguments], env=keys_of(settings), stderr=subprocess.DEVNULL)
    wait_until(lambda: len(bucket_keys(settings)) > 10)
    process.send_signal(signal.SIGKILL)
    process.wait()
    there, before = len(blobs_there(settings)), None
    while there != before:  # what was under way when it was killed still arrives: the proxy has it
        time.sleep(0.5)
        there, before = len(blobs_there(settings)), there
    assert there < 60
    proxy.round_trip(0)
    told = document(migrate(new, old, "--json", store=settings))
    assert told["uploaded"]["blobs"] == 60 - there and told["problems"] == []
    assert document(migrate(new, old, "--compare", "--verify", "--json", store=settings))["verified"]["blobs"] == 60


def test_what_cannot_be_migrated_from(kept, settings):
    site = kept()
    old, new = ready(site)
    none = site.folder / "none.conf"
    none.write_text(f"<filestorage>\n  path {site.folder}/Data.fs\n</filestorage>\n")
    result = migrate(new, none, store=settings)
    assert result.returncode == 2 and "the <filestorage> there has no blob-dir" in one_line(result)
    none.write_text("")
    result = migrate(new, none, store=settings)
    assert result.returncode == 2 and "has no storage" in one_line(result)
    none.write_text("<zodb_db a>\n  <mappingstorage>\n  </mappingstorage>\n</zodb_db>\n" * 2)
    result = migrate(new, none, store=settings)
    assert result.returncode == 2, result.stderr
    sqlite = kept("sqlite")
    old, new = ready(sqlite)
    result = migrate(new, old, "--purge-source", store=settings)
    assert result.returncode == 2 and "--purge-source deletes the files of a blob directory" in result.stderr


def test_a_configuration_of_a_directory_can_be_purged(kept, settings):
    site = kept()
    old, new = ready(site)
    assert migrate(new, old, store=settings).returncode == 0
    result = s3blobs(
        "--config", new, "migrate", "--from", old, "--purge-source", env=keys_of(settings), input="www.example.org\n"
    )
    assert result.returncode == 0 and not list(site.blobs.rglob("*.blob")), result.stderr
