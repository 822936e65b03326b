"""``s3blobs mirror``: what only the sources had is in the bucket then, and the sources can go."""

from __future__ import annotations

import dataclasses
import os
import random
import signal
import subprocess
from pathlib import Path

import pytest
from blob_sites import fill, names
from command_line import SCRIPT, document, keys_of, one_line, s3blobs
from origins import snapshot
from servers import faults
from sites import bucket_keys, commit_blobs, raw_client, wait_until
from test_cli_migrate import expected, objects, switched
from ZODB.blob import FilesystemHelper
from ZODB.utils import p64, u64

from collective.s3blobstorage.keys import MIRRORED

MB = 1024 * 1024
OWNER = "owner new.example.org"


@pytest.fixture
def through(settings, proxy):
    return dataclasses.replace(settings, endpoint_url=proxy.endpoint_url)


def mirror(conf, *arguments, store, **options):
    return s3blobs("--config", conf, "mirror", *arguments, env=keys_of(store), **options)


def directory(path) -> str:
    return f"<blobdirsource files>\n  path {path}\n</blobdirsource>"


def bucket(store) -> str:
    authorities = f"  s3-ca-bundle {store.ca_bundle}\n" if store.ca_bundle else ""
    return (
        f"<s3source production>\n  bucket-name {store.bucket}\n  s3-prefix {store.prefix}\n"
        f"  s3-endpoint-url {store.endpoint_url}\n  s3-region {store.region}\n"
        f"{authorities}  s3-access-key $(SITE_ACCESS_KEY)\n  s3-secret-key $(SITE_SECRET_KEY)\n</s3source>"
    )


def mirrored(store):
    keys = [line["Key"] for line in raw_client(store).list_objects_v2(Bucket=store.bucket).get("Contents", ())]
    return MIRRORED in keys


@pytest.fixture
def filled(old_site):
    """``filled(kind)``: a site with a blob directory, closed."""

    def make(kind="filestorage", *, fill=fill):
        site = old_site(kind)
        db = site.db()
        fill(db)
        db.close()
        return site

    return make


@pytest.fixture
def production(old_site, settings, monkeypatch):
    """A site of ours under the prefix ``production``, closed; its store."""
    site = old_site()
    store = dataclasses.replace(settings, prefix="production")
    db = switched(site.conf(store, "owner old.example.org"), settings, monkeypatch)
    fill(db, large=17 * MB)
    db.close()
    return site, store


@pytest.mark.parametrize("kind", ["filestorage", "sqlite-hp", "sqlite-hf", "zeo-client"])
def test_what_the_database_keeps_is_copied_and_the_directory_can_go(filled, settings, proxy, through, kind):
    site = filled(kind)
    wanted = expected(site)
    oid, tid = min(site.kept())
    Path(FilesystemHelper(str(site.blobs)).getBlobFilename(oid, p64(u64(tid) + 1))).write_bytes(b"nothing keeps it")
    files = site.files()
    conf = site.conf(through, OWNER, directory(site.blobs))
    result = mirror(conf, "--json", store=settings)
    assert result.returncode == 0, result.stderr
    told = document(result)
    assert objects(settings) == wanted and site.files() == files
    assert told["copied"] == {"blobs": len(wanted), "bytes": sum(map(len, wanted.values()))}
    assert told["sources"] == ["files"] and told["problems"] == [] and told["extra"]["objects"]["blobs"] == 0
    assert len(bytes.fromhex(told["complete_up_to"])) == 8 and mirrored(settings)
    told_later = document(s3blobs("--config", conf, "status", "--json", env=keys_of(settings)))
    assert told_later["mirrored"] == {"complete_up_to": told["complete_up_to"], "sources": ["files"]}
    assert told_later["sources"] == ["files"] and told_later["objects"]["other"]["objects"] == 0
    proxy.reset()
    again = mirror(conf, store=settings)
    assert again.returncode == 0 and f"complete        up to 0x{told['complete_up_to']}" in again.stdout
    assert proxy.counts("/blobs/") == {}  # neither of what is there nor of what no source has


def test_from_another_bucket_which_stays_as_it_is(production, settings, monkeypatch, tmp_path):
    site, store = production
    before = snapshot(store)
    in_source = {key.removeprefix("production/"): value for key, value in before.items() if "/blobs/" in key}
    conf = site.conf(settings, OWNER, bucket(store))
    result = mirror(conf, "--json", "--verify", store=settings)
    assert result.returncode == 0, result.stderr
    told = document(result)
    copied = objects(settings)
    assert set(copied) <= set(in_source) and told["copied"]["blobs"] == len(copied) == told["verified"]["blobs"]
    assert snapshot(store) == before
    # Without the source the site reads all of it.
    db = switched(site.conf(settings, OWNER), settings, monkeypatch)
    assert names(db)["b"] and names(db)["a"] == b"last of a"
    db.close()
    client = raw_client(settings)
    for key, data in copied.items():
        assert client.get_object(Bucket=store.bucket, Key=f"production/{key}")["Body"].read() == data


@pytest.mark.clear
def test_between_two_buckets_of_one_store_the_store_copies(production, settings, proxy, through):
    """No byte of a blob with a name goes through this machine, whatever its size."""
    site, store = production
    behind = dataclasses.replace(store, endpoint_url=proxy.endpoint_url)
    conf = site.conf(through, OWNER, bucket(behind))
    proxy.reset()
    told = document(mirror(conf, "--json", store=settings))
    assert told["problems"] == [] and told["copied"]["blobs"] > 5
    assert told["copied"]["bytes"] == sum(map(len, objects(settings).values())) > 17 * MB
    counts = proxy.counts("/blobs/")
    assert counts["CopyObject"] == told["copied"]["blobs"] and set(counts) == {"CopyObject", "HeadObject"}
    moved = [exchange for exchange in proxy.exchanges if "/blobs/" in exchange.path]
    assert sum(exchange.bytes_up for exchange in moved) == 0


def test_verify_finds_an_object_that_is_damaged(production, settings):
    site, store = production
    conf = site.conf(settings, OWNER, bucket(store))
    assert mirror(conf, store=settings).returncode == 0
    raw_client(settings).delete_object(Bucket=settings.bucket, Key=MIRRORED)
    key, data = next((key, data) for key, data in objects(settings).items() if len(data) == 70_000)
    raw_client(settings).put_object(Bucket=settings.bucket, Key=key, Body=bytes(70_000))
    assert mirror(conf, store=settings).returncode == 0 and mirrored(settings)
    result = mirror(conf, "--verify", "--json", store=settings)
    told = document(result)
    assert result.returncode == 1 and told["different"] == 1 and told["complete_up_to"] is None
    assert told["verified"]["blobs"] == told["kept_revisions"] - 1
    # What the run before said does not hold, and is taken back.
    told = document(s3blobs("--config", conf, "status", "--json", env=keys_of(settings)))
    assert told["mirrored"] is None and told["sources"] == ["production"]
    raw_client(settings).delete_object(Bucket=settings.bucket, Key=key)
    told = document(mirror(conf, "--verify", "--json", store=settings))
    assert told["copied"]["blobs"] == 1 and told["complete_up_to"] and objects(settings)[key] == data


def test_what_no_source_has_is_missing_and_nothing_is_said_to_be_complete(filled, settings):
    site = filled()
    wanted = expected(site)
    gone = sorted(wanted)[0]
    oid, tid = (bytes.fromhex(part) for part in gone.split("/")[1:])
    os.unlink(FilesystemHelper(str(site.blobs)).getBlobFilename(oid, tid))
    result = mirror(site.conf(settings, OWNER, directory(site.blobs)), "--json", store=settings)
    told = document(result)
    assert result.returncode == 1 and told["missing"] == 1 and told["complete_up_to"] is None
    assert told["problems"][0]["tid"] == f"0x{int.from_bytes(tid, 'big'):016x}"
    del wanted[gone]
    assert objects(settings) == wanted and not mirrored(settings)


def test_a_source_that_is_away_is_no_miss(filled, settings):
    site = filled()
    wanted = expected(site)
    conf = site.conf(settings, OWNER, directory(site.blobs))
    away = site.blobs.rename(site.folder / "away")
    result = mirror(conf, "--json", store=settings)
    told = document(result)
    assert result.returncode == 1 and told["failed"] == len(wanted) and told["missing"] == 0
    assert "'files'" in told["problems"][0]["detail"] and not mirrored(settings)
    away.rename(site.blobs)
    assert mirror(conf, store=settings).returncode == 0
    assert objects(settings) == wanted and mirrored(settings)


def test_the_next_source_gives_what_the_first_cannot(filled, settings, proxy, through):
    site = filled()
    broken = dataclasses.replace(through, prefix="nowhere")
    proxy.fail(faults.answer(403, "AccessDenied"), target="/nowhere/", times=100_000)
    conf = site.conf(settings, OWNER, bucket(broken), directory(site.blobs))
    result = mirror(conf, "--json", store=settings)
    assert result.returncode == 0 and objects(settings) == expected(site), result.stdout + result.stderr


def test_a_dry_run_and_a_part_of_the_work(filled, settings):
    site = filled()
    wanted = expected(site)
    conf = site.conf(settings, OWNER, directory(site.blobs))
    result = mirror(conf, "--dry-run", store=settings)
    assert result.returncode == 0 and f"would be copied  {len(wanted)} blobs" in result.stdout
    keys = raw_client(settings).list_objects_v2(Bucket=settings.bucket).get("Contents", ())
    assert not [line["Key"] for line in keys if "s3blobs" in line["Key"] or "blobs/" in line["Key"]]
    middle = sorted(wanted)[len(wanted) // 2].split("/")[1]
    told = document(mirror(conf, "--json", "--oid-range", f"0-{middle}", store=settings))
    assert 0 < told["copied"]["blobs"] < len(wanted) and told["complete_up_to"] is None and not mirrored(settings)
    told = document(mirror(conf, "--json", store=settings))
    assert objects(settings) == wanted and told["complete_up_to"] and mirrored(settings)


def test_kill_and_go_on(filled, settings, proxy, through):
    def many(db):
        for number in range(3):
            commit_blobs(db, **{f"{number}-{each}": os.urandom(2000) for each in range(40)})
        commit_blobs(db, large=os.urandom(40 * MB))

    site = filled(fill=many)
    wanted = expected(site)
    conf = site.conf(through, OWNER, directory(site.blobs))
    proxy.round_trip(20)
    chance = random.Random(5)
    for _ in range(2):
        before = len(bucket_keys(settings))
        process = subprocess.Popen(
            [SCRIPT, "--config", conf, "mirror", "--concurrency", "4"], env=keys_of(settings),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        aim = before + chance.randrange(15, 40)
        wait_until(lambda aim=aim: len(bucket_keys(settings)) >= aim, 60)
        process.send_signal(signal.SIGKILL)
        process.wait()
        for key, data in objects(settings).items():
            assert wanted[key] == data  # never half a blob
        assert not mirrored(settings)
    proxy.round_trip(0)
    told = document(mirror(conf, "--json", store=settings))
    assert objects(settings) == wanted and told["complete_up_to"] and told["found"]["there"]["blobs"] >= 30
    staging = [path for path in (site.folder / "cache").rglob("mirror-*")]
    assert staging == []


@pytest.mark.parametrize(
    "more, arguments, told",
    [
        ((), (), "there is no source in <s3blobstorage>"),
        (("read-only on", "SOURCE"), (), "set read-only off"),
        (("SOURCE",), ("--verify", "--dry-run"), "leave out one of them"),
        (("SOURCE",), ("--oid-range", "7"), "is not a range of oids"),
    ],
)
def test_what_cannot_be_done_is_said_and_nothing_is_written(filled, settings, more, arguments, told):
    site = filled()
    lines = [directory(site.blobs) if line == "SOURCE" else line for line in more]
    result = mirror(site.conf(settings, OWNER, *lines), *arguments, store=settings)
    assert result.returncode == 2 and told in (result.stderr if arguments else one_line(result))
    assert objects(settings) == {}


def test_another_owners_prefix_is_refused(production, settings):
    site, store = production
    before = snapshot(store)
    result = mirror(site.conf(store, OWNER, directory(site.blobs)), store=settings)
    assert result.returncode == 2 and "belongs to owner 'old.example.org'" in one_line(result)
    assert snapshot(store) == before
