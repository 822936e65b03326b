"""``s3blobs migrate --compare``, ``--verify``, ``--purge-source``: what is lacking is said, and only then files go."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest
from blob_sites import OldSite, fill, names
from command_line import document, keys_of, one_line, s3blobs
from servers import faults
from sites import bucket_keys, commit_blobs, raw_client
from test_cli_migrate import expected, migrate, objects, switched
from ZODB.blob import FilesystemHelper
from ZODB.Connection import TransactionMetaData
from ZODB.utils import oid_repr, p64, u64

from collective.s3blobstorage.storage.record import BlobState, with_state

OWNER = "owner old.example.org"


@pytest.fixture
def migrated(old_site, settings):
    """A site over FileStorage whose blobs are in the bucket, and in its directory too."""
    site = old_site("filestorage")
    db = site.db()
    fill(db)
    db.close()
    conf = site.conf(settings, OWNER)
    assert migrate(conf, site, store=settings).returncode == 0
    return site, conf


def delete(store, key) -> None:
    raw_client(store).delete_object(Bucket=store.bucket, Key=key)


def put(store, key, data) -> None:
    raw_client(store).put_object(Bucket=store.bucket, Key=key, Body=data)


def a_key(site, *, at_least: int = 5) -> str:
    return next(key for key, data in sorted(expected(site).items()) if len(data) >= at_least)


def test_all_well(migrated, settings):
    site, conf = migrated
    result = migrate(conf, site, "--compare", store=settings)
    assert result.returncode == 0, result.stderr
    wanted = expected(site)
    assert f"kept revisions  {len(wanted)}\n" in result.stdout
    assert f"in the bucket   {len(wanted)} blobs" in result.stdout
    assert "missing" not in result.stdout and "different" not in result.stdout


def test_one_object_that_is_removed_is_reported_and_nothing_is_written(migrated, settings):
    site, conf = migrated
    key = a_key(site)
    delete(settings, key)
    before = bucket_keys(settings)
    result = migrate(conf, site, "--compare", store=settings)
    oid = oid_repr(bytes.fromhex(key.split("/")[1]))
    assert result.returncode == 1
    assert f"{oid} at 0x{key.split('/')[2]}: it is in the directory only" in " ".join(result.stdout.split())
    assert bucket_keys(settings) == before
    for path in site.blobs.rglob("*.blob"):
        path.unlink()
    told = document(migrate(conf, site, "--compare", "--json", store=settings))
    assert [problem["oid"] for problem in told["problems"]] == [oid]
    assert (told["missing"], told["found"]["there"]["blobs"]) == (1, told["kept_revisions"] - 1)


def test_other_sizes_and_extra_ones(migrated, settings):
    site, conf = migrated
    key = a_key(site)
    put(settings, key, b"other")
    put(settings, "blobs/00000000000000ff/" + "d" * 32, b"nobody's")
    put(settings, "blobs/notes", b"no blob")
    told = document(migrate(conf, site, "--compare", "--json", store=settings))
    assert (told["different"], told["missing"]) == (1, 0)
    assert told["extra"]["objects"] == {"blobs": 1, "bytes": 8}
    assert told["problems"][0]["what"] == "different"


def test_verify_reads_every_object_again(migrated, settings):
    site, conf = migrated
    wanted = expected(site)
    result = migrate(conf, site, "--compare", "--verify", "--json", store=settings)
    told = document(result)
    assert result.returncode == 0 and told["verified"]["blobs"] == len(wanted)
    key = a_key(site)
    put(settings, key, wanted[key][::-1])  # the same size
    assert migrate(conf, site, "--compare", store=settings).returncode == 0
    result = migrate(conf, site, "--compare", "--verify", "--json", store=settings)
    told = document(result)
    assert result.returncode == 1 and told["different"] == 1 and told["verified"]["blobs"] == len(wanted) - 1


def test_verify_without_files_goes_by_what_the_object_says(migrated, settings, proxy):
    site, conf = migrated
    for path in site.blobs.rglob("*.blob"):
        path.unlink()
    through = dataclasses.replace(settings, endpoint_url=proxy.endpoint_url)
    conf = site.conf(through, OWNER)
    rule = proxy.fail(faults.flip(3), method="GET", target="/blobs/0000000000000001", times=100)
    told = document(migrate(conf, site, "--compare", "--verify", "--json", store=settings))
    assert rule.hits and told["different"] >= 1
    proxy.forgive()
    assert migrate(conf, site, "--compare", "--verify", store=settings).returncode == 0


def test_a_damaged_record_is_reported(old_site, settings):
    site = old_site("filestorage")
    db = site.db()
    commit_blobs(db, a=b"bytes")
    storage = db.storage
    oid = bytes(7) + b"\1"
    record = storage.load(oid)[0]
    damaged = with_state(record, BlobState("e" * 32, 5)).replace(b"e" * 32, b"../" + b"e" * 29)
    metadata = TransactionMetaData()
    storage.tpc_begin(metadata)
    storage.store(oid, storage.load(oid)[1], damaged, "", metadata)
    storage.tpc_vote(metadata)
    storage.tpc_finish(metadata)
    db.close()
    conf = site.conf(settings, OWNER)
    result = migrate(conf, site, "--json", store=settings)
    told = document(result)
    assert result.returncode == 1 and told["damaged"] == 1 and told["uploaded"]["blobs"] == 1
    refused = migrate(conf, site, "--purge-source", store=settings, input="old.example.org\n")
    assert refused.returncode == 1 and "1 damaged" in refused.stderr and len(site.files()) == 1


def test_a_bucket_of_zodb_s3blobs_keeps_its_keys(migrated, settings):
    site, conf = migrated
    wanted = expected(site)
    key = a_key(site)
    oid, tid = key.split("/")[1:]
    delete(settings, key)
    put(settings, f"blobs/{int(oid, 16):x}/{int(tid, 16):x}.blob", wanted[key])
    put(settings, ".s3blobs.json", b'{"format": 1, "owner": "old.example.org", "layouts": ["ours", "zodb-s3blobs"]}')
    for path in site.blobs.rglob(f"0x{tid}.blob"):
        if path.stat().st_size == len(wanted[key]):
            path.unlink()
    told = document(migrate(conf, site, "--compare", "--verify", "--json", store=settings))
    assert told["problems"] == [] and told["found"]["old"]["blobs"] == 1
    assert told["verified"]["blobs"] == len(wanted)
    told = document(migrate(conf, site, "--json", store=settings))
    assert told["uploaded"]["blobs"] == 0
    refused = migrate(conf, site, "--purge-source", store=settings, input="old.example.org\n")
    assert refused.returncode == 1 and "under keys of zodb-s3blobs only" in refused.stderr


# Purging


def purge(conf, site, *arguments, store, typed="old.example.org\n"):
    return migrate(conf, site, "--purge-source", *arguments, store=store, input=typed)


def test_purge(migrated, settings, monkeypatch):
    site, conf = migrated
    wanted, files = expected(site), site.files()
    helper = FilesystemHelper(str(site.blobs))
    oid, tid = p64(1), p64(u64(min(tid for _, tid in files)) - 1)
    Path(helper.getBlobFilename(oid, tid)).write_bytes(b"nobody's")
    extra = set(site.files()) - site.kept()
    assert extra == {(oid, tid)}
    files = site.files()
    told = document(purge(conf, site, "--dry-run", "--json", store=settings))
    assert told["refused"] is None and told["deleted"]["blobs"] == 0 and site.files() == files
    text = purge(conf, site, "--dry-run", store=settings)
    assert f"would be deleted  {len(wanted)} files" in text.stdout and text.stderr == ""
    db = switched(conf, settings, monkeypatch)
    before = names(db)
    commit_blobs(db, later=b"of the new configuration, which is no file")
    result = purge(conf, site, "--verify", store=settings)
    assert result.returncode == 0, result.stderr
    assert "Type old.example.org to delete" in result.stderr and f"deleted         {len(wanted)} files" in result.stdout
    assert set(site.files()) == extra  # what no kept revision needs is left alone
    assert (site.blobs / ".layout").read_text() == "bushy"
    assert {**before, "later": b"of the new configuration, which is no file"} == names(db)
    db.close()
    again = purge(conf, site, store=settings, typed="")
    assert again.returncode == 0 and "0 files" in again.stdout


@pytest.mark.parametrize("typed", ["", "\n", "yes\n", "y\n", "old.example\n", "blobs\n"])
def test_purge_wants_the_owners_name(migrated, settings, typed):
    site, conf = migrated
    files = site.files()
    result = purge(conf, site, store=settings, typed=typed)
    assert result.returncode == 1 and "nothing was deleted: old.example.org was not typed" in result.stderr
    assert site.files() == files


def test_purge_without_an_owner_wants_the_directorys_name(old_site, settings):
    site = old_site("filestorage")
    db = site.db()
    commit_blobs(db, a=b"bytes")
    db.close()
    conf = site.conf(settings)
    assert migrate(conf, site, store=settings).returncode == 0
    assert purge(conf, site, store=settings).returncode == 1 and len(site.files()) == 1
    assert purge(conf, site, store=settings, typed="blobs\n").returncode == 0 and site.files() == {}


def lose_an_object(site, store):
    delete(store, a_key(site))


def another_size(site, store):
    put(store, a_key(site), b"another size")


def lose_object_and_file(site, store):
    key = a_key(site, at_least=60_000)
    delete(store, key)
    [path] = [path for path in site.blobs.rglob("*.blob") if path.stat().st_size == 70_000]
    path.unlink()


def change_a_file(site, store):
    [path] = [path for path in site.blobs.rglob("*.blob") if path.stat().st_size == 70_000]
    path.chmod(0o600)
    path.write_bytes(b"cut")


@pytest.mark.parametrize(
    "damage, said",
    [
        (lose_an_object, "1 kept revisions are not in the bucket yet"),
        (another_size, "1 different"),
        (lose_object_and_file, "1 missing"),
        (change_a_file, "1 different"),
    ],
)
@pytest.mark.parametrize("dry_run", [False, True])
def test_purge_is_refused_where_one_revision_is_not_right(migrated, settings, damage, said, dry_run):
    site, conf = migrated
    damage(site, settings)
    files, there = site.files(), objects(settings)
    result = purge(conf, site, *(["--dry-run"] if dry_run else []), store=settings)
    assert result.returncode == 1 and "nothing was deleted" in result.stderr and said in result.stderr
    assert "Type" not in result.stderr
    assert site.files() == files and objects(settings) == there


def test_purge_is_refused_where_verifying_finds_other_bytes(migrated, settings):
    site, conf = migrated
    key = a_key(site)
    put(settings, key, expected(site)[key][::-1])
    files = site.files()
    result = purge(conf, site, "--verify", store=settings)
    assert result.returncode == 1 and "1 different" in result.stderr and site.files() == files


@pytest.mark.parametrize(
    "fault", [faults.answer(503), faults.answer(403, "AccessDenied"), faults.answer(404, "NoSuchBucket")]
)
def test_purge_is_refused_where_the_listing_fails(migrated, settings, proxy, fault):
    site, _ = migrated
    conf = site.conf(dataclasses.replace(settings, endpoint_url=proxy.endpoint_url), OWNER, "outage-patience 1s")
    proxy.fail(fault, target="start-after", times=10_000)
    files = site.files()
    result = purge(conf, site, store=settings)
    assert result.returncode == 2 and one_line(result) and site.files() == files


def test_purge_of_another_databases_directory_deletes_nothing(migrated, settings, tmp_path):
    site, conf = migrated
    other = tmp_path / "other"
    foreign = OldSite("filestorage", other)
    db = foreign.db()
    commit_blobs(db, a=os.urandom(70_000))
    db.close()
    files = foreign.files()
    foreign_result = migrate(conf, foreign, "--purge-source", store=settings, input="old.example.org\n")
    assert foreign_result.returncode == 0 and foreign.files() == files


def test_read_only_does_not_purge(migrated, settings):
    site, _ = migrated
    conf = site.conf(settings, OWNER, "read-only on")
    assert migrate(conf, site, "--compare", store=settings).returncode == 0
    result = purge(conf, site, store=settings)
    assert result.returncode == 2 and "read-only" in one_line(result) and len(site.files()) > 5


def test_compare_of_a_bucket_that_is_not_there(old_site, settings):
    site = old_site("filestorage")
    db = site.db()
    commit_blobs(db, a=b"bytes")
    db.close()
    conf = site.conf(dataclasses.replace(settings, bucket="no-such-bucket-here"), OWNER)
    result = s3blobs("--config", conf, "migrate", "--from", site.blobs, "--compare", env=keys_of(settings))
    assert result.returncode == 2 and "bucket-name" in one_line(result)
