"""``s3blobs export``: a blob directory that stock ZODB opens, byte for byte what was committed."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import transaction
import ZODB
from blob_sites import KINDS, files_of, fill, names, stock
from command_line import SCRIPT, document, keys_of, one_line, s3blobs
from servers import faults
from sites import bucket_keys, commit_blobs, raw_client, wait_until
from test_cli_migrate import expected, migrate, objects, switched
from ZODB.FileStorage import FileStorage
from ZODB.serialize import referencesf

from collective.s3blobstorage.keys import blob_key, tid_name

MB = 1024 * 1024
OWNER = "owner old.example.org"


def export(conf, target, *arguments, store, **options):
    return s3blobs("--config", conf, "export", "--to", target, *arguments, env=keys_of(store), **options)


@pytest.fixture
def through(settings, proxy):
    return dataclasses.replace(settings, endpoint_url=proxy.endpoint_url)


@pytest.fixture
def in_bucket(old_site, settings, through, monkeypatch):
    """``in_bucket(kind, *keys)``: a site of ours that was never anything else, closed, and its configuration."""

    def make(kind="filestorage", *more, fill=fill):
        site = old_site(kind)
        conf = site.conf(through, OWNER, *more)
        db = switched(conf, settings, monkeypatch)
        fill(db)
        db.close()
        return site, conf

    return make


def count_of_blobs(target):
    """How many files of blobs are in a folder in which a command works: os.walk passes over folders that go
    meanwhile, as ``tmp/``'s do, of which Path.rglob makes an error."""
    return sum(name.endswith(".blob") for _folder, _folders, found in os.walk(target) for name in found)


@pytest.mark.parametrize("kind", KINDS)
def test_there_and_back_again(old_site, settings, tmp_path, kind):
    """Directory to bucket to directory: every kept revision byte for byte, and stock ZODB opens it."""
    site = old_site(kind)
    db = site.db()
    fill(db, large=9 * MB)
    before = names(db)
    db.close()
    kept = site.kept()
    wanted = {revision: data for revision, data in site.files().items() if revision in kept}
    conf = site.conf(settings, OWNER)
    assert migrate(conf, site, store=settings).returncode == 0
    target = tmp_path / "exported"
    result = export(conf, target, "--json", store=settings)
    assert result.returncode == 0, result.stderr
    assert files_of(target) == wanted
    told = document(result)
    assert told["written"] == {"blobs": len(wanted), "bytes": sum(map(len, wanted.values()))}
    assert (target / ".layout").read_text() == "bushy" and target.stat().st_mode & 0o777 == 0o700
    assert all(path.stat().st_mode & 0o222 == 0 for path in target.rglob("*.blob"))
    assert os.listdir(target / "tmp") == []
    if kind == "filestorage":
        read = list(stock(site, target, tmp_path / "Copy.fs"))
        assert {(oid, tid): data for oid, tid, data in read} == wanted
    site.blobs.rename(tmp_path / "gone")
    target.rename(site.blobs)
    db = site.db()
    assert names(db) == before
    commit_blobs(db, more=b"and goes on")
    db.storage.pack(time.time() + 1, referencesf)
    assert names(db)["more"] == b"and goes on"
    db.close()


@pytest.mark.parametrize("more", [(), ("inline-size 50",)], ids=["objects", "inline"])
def test_named_records_become_files_that_stock_zodb_opens(in_bucket, settings, tmp_path, monkeypatch, more):
    site, conf = in_bucket("filestorage", *more)
    db = switched(conf, settings, monkeypatch)
    before = names(db)
    db.close()
    target = tmp_path / "exported"
    result = export(conf, target, "--json", store=settings)
    told = document(result)
    assert result.returncode == 0 and told["kept_revisions"] == told["written"]["blobs"] == len(files_of(target))
    read = list(stock(site, target, tmp_path / "Copy.fs"))
    assert len(read) == told["kept_revisions"]
    assert {data for _, _, data in read} >= {b"first of a", b"second of a", b"is there again", b"nobody refers to it"}
    # Stock ZODB reads, undoes, commits and packs on.
    stock_db = ZODB.DB(FileStorage(str(tmp_path / "Copy.fs"), blob_dir=str(target)))
    assert names(stock_db) == before
    commit_blobs(stock_db, a=b"by stock ZODB")
    stock_db.undo(stock_db.undoLog(0, 1)[0]["id"])
    transaction.commit()
    assert names(stock_db) == before
    stock_db.close()


def test_a_second_run_fetches_nothing(in_bucket, settings, tmp_path, proxy):
    site, conf = in_bucket()
    target = tmp_path / "exported"
    assert export(conf, target, store=settings).returncode == 0
    files = files_of(target)
    times = {path: path.stat().st_mtime_ns for path in target.rglob("*.blob")}
    lost = sorted(target.rglob("*.blob"))[2]
    proxy.reset()
    told = document(export(conf, target, "--json", store=settings))
    assert told["written"]["blobs"] == 0 and proxy.counts("/blobs/") == {}
    lost.unlink()
    told = document(export(conf, target, "--json", store=settings))
    assert told["written"]["blobs"] == 1 and proxy.counts("/blobs/") == {"GetObject": 1}
    assert files_of(target) == files
    assert all(path.stat().st_mtime_ns == moment for path, moment in times.items() if path != lost)


def test_one_get_for_each_and_nothing_is_written_to_the_bucket(in_bucket, settings, tmp_path, proxy):
    site, conf = in_bucket()
    keys = bucket_keys(settings)
    proxy.reset()
    told = document(export(conf, tmp_path / "exported", "--json", store=settings))
    assert proxy.counts("/blobs/") == {"GetObject": told["kept_revisions"]}
    assert set(proxy.methods()) <= {"GET", "HEAD"} and bucket_keys(settings) == keys


def test_a_missing_object_is_reported_and_the_others_go_on(in_bucket, settings, tmp_path):
    site, conf = in_bucket()
    key = sorted(objects(settings))[0]
    raw_client(settings).delete_object(Bucket=settings.bucket, Key=key)
    result = export(conf, tmp_path / "exported", "--json", store=settings)
    told = document(result)
    assert result.returncode == 1
    of_it = [problem for problem in told["problems"] if problem["what"] == "missing"]
    assert of_it == told["problems"] and {problem["oid"][2:].rjust(16, "0") for problem in of_it} == {key.split("/")[1]}
    assert told["written"]["blobs"] == told["kept_revisions"] - len(of_it) == len(files_of(tmp_path / "exported"))
    text = export(conf, tmp_path / "exported", store=settings)
    assert text.returncode == 1 and "its object is in no place where it may be" in text.stdout


@pytest.mark.parametrize("kind_of_damage", ["bytes", "size"])
def test_other_bytes_never_become_a_file(in_bucket, settings, tmp_path, kind_of_damage):
    def one(db):
        commit_blobs(db, a=b"the right bytes", b=b"others")

    site, conf = in_bucket(fill=one)
    [key] = [key for key, data in objects(settings).items() if data == b"the right bytes"]
    body = b"the wrong bytes" if kind_of_damage == "bytes" else b"of another size"[:7]
    raw_client(settings).put_object(Bucket=settings.bucket, Key=key, Body=body)
    result = export(conf, tmp_path / "exported", "--json", store=settings)
    told = document(result)
    assert result.returncode == 1 and [problem["what"] for problem in told["problems"]] == ["different"]
    assert list(files_of(tmp_path / "exported").values()) == [b"others"]


def test_a_file_of_another_size_is_reported_and_stays(in_bucket, settings, tmp_path):
    site, conf = in_bucket()
    target = tmp_path / "exported"
    assert export(conf, target, store=settings).returncode == 0
    path = max(target.rglob("*.blob"), key=lambda path: path.stat().st_size)
    path.chmod(0o600)
    path.write_bytes(b"cut")
    result = export(conf, target, "--json", store=settings)
    assert result.returncode == 1 and document(result)["different"] == 1 and path.read_bytes() == b"cut"


def test_kill_and_go_on(in_bucket, settings, tmp_path, proxy):
    def many(db):
        commit_blobs(db, **{f"{each}": os.urandom(2000) for each in range(80)}, large=os.urandom(20 * MB))

    site, conf = in_bucket(fill=many)
    wanted = sorted(objects(settings).values())
    target = tmp_path / "exported"
    proxy.round_trip(20)
    for share in (10, 35, 60):
        process = subprocess.Popen(
            [SCRIPT, "--config", conf, "export", "--to", target, "--concurrency", "3"], env=keys_of(settings),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        wait_until(lambda share=share: count_of_blobs(target) >= share, 60)
        process.send_signal(signal.SIGKILL)
        process.wait()
        found = list(files_of(target).values())
        assert set(found) <= set(wanted)  # never half a file
    proxy.round_trip(0)
    told = document(export(conf, target, "--json", store=settings))
    assert told["found"]["there"]["blobs"] >= 60 and told["problems"] == []
    assert sorted(files_of(target).values()) == wanted
    assert os.listdir(target / "tmp") == []


def test_ctrl_c_finishes_what_is_under_way(in_bucket, settings, tmp_path, proxy):
    def many(db):
        commit_blobs(db, **{f"{each}": os.urandom(2000) for each in range(40)})

    site, conf = in_bucket(fill=many)
    proxy.reset()
    proxy.fail(faults.hang("before", seconds=3.0), method="GET", target="/blobs/", nth=5, times=100)
    target = tmp_path / "exported"
    process = subprocess.Popen(
        [SCRIPT, "--config", conf, "export", "--to", target, "--json", "--concurrency", "3"], env=keys_of(settings),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    wait_until(lambda: proxy.counts("/blobs/")["GetObject"] >= 7, 60)
    process.send_signal(signal.SIGINT)
    printed, said = process.communicate(timeout=60)
    assert process.returncode == 130 and "stopping after the downloads" in said, said
    told = json.loads(printed)
    assert told["stopped"] and told["written"]["blobs"] == 7 == len(files_of(target))


def test_parts_of_the_work_and_a_dry_run(in_bucket, settings, tmp_path):
    site, conf = in_bucket()
    target = tmp_path / "exported"
    told = document(export(conf, target, "--dry-run", "--json", store=settings))
    total = told["kept_revisions"]
    assert told["found"]["wanted"]["blobs"] == total > 5 and not target.exists()
    assert f"would be written  {total} blobs" in export(conf, target, "--dry-run", store=settings).stdout
    first = document(export(conf, target, "--json", "--oid-range", "0-2", store=settings))
    assert 0 < first["written"]["blobs"] < total
    second = document(export(conf, target, "--json", "--oid-range", "3-", "--limit-rate", "1GB", store=settings))
    assert first["written"]["blobs"] + second["written"]["blobs"] == total == len(files_of(target))
    last = max(tid for _, tid in files_of(target)).hex()
    told = document(export(conf, tmp_path / "late", "--json", "--since", last, store=settings))
    assert told["written"]["blobs"] == len(files_of(tmp_path / "late")) == 2


def test_a_disk_that_is_full(in_bucket, settings, tmp_path, small_disk):
    def large(db):
        commit_blobs(db, small=b"small", large=os.urandom(9 * MB))

    site, conf = in_bucket(fill=large)
    target = small_disk / "exported"
    result = export(conf, target, "--concurrency", "1", store=settings)
    assert result.returncode == 2 and "takes no file: No space left on device" in one_line(result)
    assert all(len(data) < MB for data in files_of(target).values()) and os.listdir(target / "tmp") == []
    moved = tmp_path / "larger"
    shutil.copytree(target, moved)
    told = document(export(conf, moved, "--json", store=settings))
    assert told["problems"] == [] and len(files_of(moved)) == 2


@pytest.mark.parametrize("what", ["foreign", "file", "cache"])
def test_what_cannot_be_a_target(in_bucket, settings, tmp_path, what):
    site, conf = in_bucket(fill=lambda db: commit_blobs(db, a=b"bytes"))
    target = tmp_path / "target"
    if what == "file":
        target.write_text("a file")
    else:
        target.mkdir()
        (target / ("Data.fs" if what == "foreign" else ".layout")).write_text("zeocache")
    for arguments in ((), ("--dry-run",)):
        result = export(conf, target, *arguments, store=settings)
        assert result.returncode == 2 and f"--to {target}" in one_line(result)
    assert list(Path(tmp_path).glob("target/tmp")) == []


def test_another_owners_prefix_and_read_only_may_be_exported(in_bucket, settings, tmp_path):
    site, _ = in_bucket()
    conf = site.conf(settings, "owner staging.example.org", "read-only on")
    assert export(conf, tmp_path / "exported", store=settings).returncode == 0


def test_a_store_that_is_away_in_the_middle(in_bucket, settings, tmp_path, proxy):
    def many(db):
        commit_blobs(db, **{f"{each}": os.urandom(2000) for each in range(40)})

    site, conf = in_bucket("filestorage", "outage-patience 1s", fill=many)
    target = tmp_path / "exported"
    proxy.fail(faults.answer(503), method="GET", target="/blobs/", nth=10, times=10_000)
    result = export(conf, target, "--concurrency", "2", store=settings)
    assert result.returncode == 2 and one_line(result)
    assert 5 < len(files_of(target)) < 15
    proxy.forgive()
    assert document(export(conf, target, "--json", store=settings))["problems"] == []
    assert len(files_of(target)) == 40


def test_a_bucket_of_zodb_s3blobs_is_exported_too(old_site, settings, tmp_path):
    site = old_site("filestorage")
    db = site.db()
    commit_blobs(db, a=b"of zodb-s3blobs", b=b"of ours")
    db.close()
    wanted = expected(site)
    client = raw_client(settings)
    for key, data in wanted.items():
        oid, tid = key.split("/")[1:]
        old = f"blobs/{int(oid, 16):x}/{int(tid, 16):x}.blob"
        assert key == blob_key(bytes.fromhex(oid), tid_name(bytes.fromhex(tid)))
        client.put_object(Bucket=settings.bucket, Key=old if b"zodb" in data else key, Body=data)
    result = export(site.conf(settings, OWNER), tmp_path / "exported", store=settings)
    assert result.returncode == 0, result.stderr
    assert files_of(tmp_path / "exported") == site.files()
