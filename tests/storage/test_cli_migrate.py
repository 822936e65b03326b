"""``s3blobs migrate``: what the database keeps of a blob directory is in the bucket then, and nothing else happens."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import random
import signal
import subprocess
import threading
import time

import pytest
import ZODB
from blob_sites import KINDS, fill, names, undo_last
from command_line import SCRIPT, document, keys_of, one_line, s3blobs, variables
from servers import faults
from sites import as_ours, bucket_keys, commit_blobs, raw_client, unfinished_uploads, wait_until
from ZODB.blob import FilesystemHelper
from ZODB.serialize import referencesf

from collective.s3blobstorage.cli.configuration import read
from collective.s3blobstorage.keys import blob_key, tid_name

MB = 1024 * 1024


@pytest.fixture
def through(settings, proxy):
    return dataclasses.replace(settings, endpoint_url=proxy.endpoint_url)


def migrate(conf, site, *arguments, store, **options):
    return s3blobs("--config", conf, "migrate", "--from", site.blobs, *arguments, env=keys_of(store), **options)


def objects(store) -> dict[str, bytes]:
    with as_ours(store) as ours:
        return {key: ours.get_bytes(key, limit=1 << 30) for key in bucket_keys(store) if key.startswith("blobs/")}


def expected(site) -> dict[str, bytes]:
    """Key and bytes of every kept revision of a site whose records have no names."""
    kept = site.kept()
    return {blob_key(oid, tid_name(tid)): data for (oid, tid), data in site.files().items() if (oid, tid) in kept}


def switched(conf, store, monkeypatch) -> ZODB.DB:
    """The database as the new configuration opens it."""
    for name, value in variables(store).items():
        monkeypatch.setenv(name, value)
    [database] = read(conf)
    return ZODB.DB(database.factory.open())


@pytest.fixture
def filled(old_site, settings):
    """A site over FileStorage that nobody has open, and its new configuration."""
    site = old_site("filestorage")
    db = site.db()
    fill(db)
    db.close()
    return site, site.conf(settings, "owner old.example.org")


@pytest.mark.parametrize("kind, layout", [*((kind, "bushy") for kind in KINDS), ("filestorage", "lawn")])
def test_every_kept_revision_arrives_once(old_site, settings, proxy, through, monkeypatch, kind, layout):
    site = old_site(kind, layout)
    db = site.db()
    fill(db, large=17 * MB)
    before = names(db)
    db.close()
    wanted, files = expected(site), site.files()
    assert len(wanted) >= (6 if kind == "sqlite-hf" else 10)
    data_fs = (site.folder / "Data.fs").read_bytes() if kind == "filestorage" else None
    conf = site.conf(through, "owner old.example.org")
    result = migrate(conf, site, "--json", store=settings)
    assert result.returncode == 0, result.stderr + result.stdout
    told = document(result)
    assert objects(settings) == wanted and site.files() == files
    assert told["uploaded"] == {"blobs": len(wanted), "bytes": sum(map(len, wanted.values()))}
    assert (told["kept_revisions"], told["missing"], told["problems"]) == (len(wanted), 0, [])
    assert told["extra"]["files"]["blobs"] == len(files) - len(wanted)
    assert unfinished_uploads(settings) == []
    for key, data in wanted.items():
        metadata = raw_client(settings).head_object(Bucket=settings.bucket, Key=key)["Metadata"]
        assert metadata["sha256"] == hashlib.sha256(data).hexdigest()
        assert ["blobs", metadata["oid"], metadata["tid"]] == key.split("/")
    proxy.reset()
    again = document(migrate(conf, site, "--json", store=settings))
    assert again["uploaded"]["blobs"] == 0 and again["found"]["there"]["blobs"] == len(wanted)
    assert proxy.counts("/blobs/") == {}
    if data_fs is not None:
        assert (site.folder / "Data.fs").read_bytes() == data_fs
    site.blobs.rename(site.folder / "gone")
    db = switched(conf, settings, monkeypatch)
    try:
        assert names(db) == before
    finally:
        db.close()


def test_requests_are_the_listing_and_a_put_for_each_small_blob(old_site, settings, proxy, through):
    site = old_site()
    db = site.db()
    for number in range(3):
        commit_blobs(db, **{f"{number}-{each}": os.urandom(500) for each in range(400)})
    db.close()
    conf = site.conf(through, "owner old.example.org")
    assert migrate(conf, site, store=settings).returncode == 0
    counts = proxy.counts("/blobs/")
    assert counts == {"PutObject": 1200}
    pages = [line for line in proxy.lines if "list-type=2" in line and "start-after=blobs" in line.replace("%2F", "/")]
    assert len(pages) == 1
    proxy.reset()
    assert migrate(conf, site, store=settings).returncode == 0
    pages = [line for line in proxy.lines if "list-type=2" in line and "prefix=blobs" in line]
    assert len(pages) == 2 and proxy.counts("/blobs/") == {}


def test_named_records_their_undo_and_the_way_through_a_directory(old_site, settings, tmp_path, monkeypatch):
    """A site of ours whose bucket was lost, and a blob directory that export had written."""
    site = old_site()
    conf = site.conf(settings, "owner old.example.org", "inline-size 20")
    db = switched(conf, settings, monkeypatch)
    fill(db)
    before = names(db)
    db.close()
    saved = objects(settings)
    target = tmp_path / "exported"
    assert s3blobs("--config", conf, "export", "--to", target, env=keys_of(settings)).returncode == 0
    client = raw_client(settings)
    for key in bucket_keys(settings):
        client.delete_object(Bucket=settings.bucket, Key=key)
    site.blobs = target
    result = migrate(conf, site, "--json", store=settings)
    told = document(result)
    assert result.returncode == 0 and told["problems"] == []
    assert objects(settings) == saved
    assert told["found"]["inline"]["blobs"] > 3 and told["extra"]["files"]["blobs"] == 0
    db = switched(conf, settings, monkeypatch)
    assert names(db) == before
    db.close()


def test_an_undone_change_of_a_named_blob_is_uploaded_once(old_site, settings, tmp_path, monkeypatch, proxy, through):
    site = old_site()
    conf = site.conf(through, "owner old.example.org")
    db = switched(conf, settings, monkeypatch)
    commit_blobs(db, a=b"first" * 100)
    commit_blobs(db, a=b"second" * 100)
    undo_last(db)
    db.close()
    assert len(objects(settings)) == 2
    site.blobs = tmp_path / "exported"
    told = document(s3blobs("--config", conf, "export", "--to", site.blobs, "--json", env=keys_of(settings)))
    assert told["written"]["blobs"] == 3
    for key in objects(settings):
        raw_client(settings).delete_object(Bucket=settings.bucket, Key=key)
    proxy.reset()
    told = document(migrate(conf, site, "--json", store=settings))
    assert (told["uploaded"]["blobs"], told["found"]["repeated"]["blobs"]) == (2, 1)
    assert proxy.counts("/blobs/") == {"PutObject": 2}


def test_nothing_that_is_there_is_overwritten(filled, settings):
    site, conf = filled
    wanted = expected(site)
    different, same = sorted(wanted)[:2]
    client = raw_client(settings)
    client.put_object(Bucket=settings.bucket, Key=different, Body=b"of another size")
    client.put_object(Bucket=settings.bucket, Key=same, Body=wanted[same])
    modified = client.head_object(Bucket=settings.bucket, Key=same)["LastModified"]
    result = migrate(conf, site, "--json", store=settings)
    told = document(result)
    assert result.returncode == 1 and told["different"] == 1 and told["found"]["there"]["blobs"] == 1
    [problem] = told["problems"]
    assert problem["what"] == "different" and "the object has 15 bytes" in problem["detail"]
    assert objects(settings) == {**wanted, different: b"of another size"}
    assert client.head_object(Bucket=settings.bucket, Key=same)["LastModified"] == modified


def test_a_race_for_a_key_is_lost_to_the_same_bytes_only(filled, settings, proxy, through):
    """Between the listing and the upload somebody else writes two keys: one with the same bytes, one with others."""
    site, _ = filled
    conf = site.conf(through, "owner old.example.org")
    wanted = expected(site)
    same, other = [key for key in sorted(wanted) if 5 < len(wanted[key]) < 1000][:2]
    proxy.fail(faults.hang("before", seconds=3.0), method="PUT", target="/blobs/", times=100)
    process = subprocess.Popen(
        [SCRIPT, "--config", conf, "migrate", "--from", site.blobs, "--json"], env=keys_of(settings),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    wait_until(lambda: proxy.counts("/blobs/")["PutObject"] > 0, 60)
    client = raw_client(settings)
    client.put_object(Bucket=settings.bucket, Key=same, Body=wanted[same])
    client.put_object(Bucket=settings.bucket, Key=other, Body=wanted[other][::-1])
    printed, error = process.communicate(timeout=120)
    assert process.returncode == 1, error
    told = json.loads(printed)
    assert [problem["what"] for problem in told["problems"]] == ["different"]
    assert objects(settings) == {**wanted, other: wanted[other][::-1]}


def test_missing_in_both_and_files_that_nobody_needs(filled, settings):
    site, conf = filled
    wanted = expected(site)
    lost = next(revision for revision, data in sorted(site.files().items()) if len(data) == 70_000)
    helper = FilesystemHelper(str(site.blobs))
    os.unlink(helper.getBlobFilename(*lost))
    extra = helper.getBlobFilename(12345, 67890)
    helper.createPathForOID(12345)
    with open(extra, "wb") as file:
        file.write(b"nobody's")
    result = migrate(conf, site, store=settings)
    assert result.returncode == 1
    lines = result.stdout.splitlines()
    assert any(line.startswith("missing") and "1 kept revisions" in line for line in lines)
    assert any("it is neither in the bucket nor in the directory" in line for line in lines)
    assert any(line.startswith("extra files") and line.endswith("no revision needed when this began") for line in lines)
    assert os.path.exists(extra)
    assert set(objects(settings)) == set(wanted) - {blob_key(lost[0], tid_name(lost[1]))}


def test_a_pack_meanwhile_takes_files_away(old_site, settings, proxy, through):
    site = old_site()
    db = site.db()
    for number in range(30):
        commit_blobs(db, a=os.urandom(100 + number))
    conf = site.conf(through, "owner old.example.org")
    proxy.fail(faults.hang("before", seconds=4.0), method="PUT", target="/blobs/", times=1)
    process = subprocess.Popen(
        [SCRIPT, "--config", conf, "migrate", "--from", site.blobs, "--json", "--concurrency", "1"],
        env=keys_of(settings), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    wait_until(lambda: proxy.counts("/blobs/")["PutObject"] > 0, 60)
    db.storage.pack(time.time() + 1, referencesf)
    printed, error = process.communicate(timeout=120)
    assert process.returncode == 0, error + printed
    told = json.loads(printed)
    assert told["uploaded"]["blobs"] + told["gone"] == 30 and told["gone"] > 20 and told["problems"] == []
    db.close()
    assert set(expected(site)) <= set(objects(settings))


def test_a_file_that_is_gone_though_its_revision_is_kept_is_missing(old_site, settings, proxy, through):
    site = old_site()
    db = site.db()
    for number in range(10):
        commit_blobs(db, a=os.urandom(100 + number))
    db.close()
    conf = site.conf(through, "owner old.example.org")
    proxy.fail(faults.hang("before", seconds=4.0), method="PUT", target="/blobs/", times=1)
    process = subprocess.Popen(
        [SCRIPT, "--config", conf, "migrate", "--from", site.blobs, "--json", "--concurrency", "1"],
        env=keys_of(settings), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    wait_until(lambda: proxy.counts("/blobs/")["PutObject"] > 0, 60)
    for path in sorted(site.blobs.rglob("*.blob"))[5:7]:
        path.unlink()
    for path in sorted(site.blobs.rglob("*.blob"))[5:6]:
        path.chmod(0o600)
        path.write_bytes(b"changed")
    printed, error = process.communicate(timeout=120)
    told = json.loads(printed)
    assert process.returncode == 1 and told["uploaded"]["blobs"] == 7, error
    assert (told["missing"], told["different"], told["gone"]) == (2, 1, 0)


def test_kill_and_go_on(old_site, settings, proxy, through):
    site = old_site()
    db = site.db()
    for number in range(4):
        commit_blobs(db, **{f"{number}-{each}": os.urandom(2000) for each in range(40)})
    commit_blobs(db, large=os.urandom(40 * MB))
    db.close()
    wanted = expected(site)
    conf = site.conf(through, "owner old.example.org")
    proxy.round_trip(20)
    chance = random.Random(5)
    for _ in range(3):
        before = len(bucket_keys(settings))
        process = subprocess.Popen(
            [SCRIPT, "--config", conf, "migrate", "--from", site.blobs, "--concurrency", "4"], env=keys_of(settings),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        aim = before + chance.randrange(15, 50)
        wait_until(lambda aim=aim: len(bucket_keys(settings)) >= aim, 60)
        process.send_signal(signal.SIGKILL)
        process.wait()
        for key, data in objects(settings).items():
            assert wanted[key] == data  # never half a blob
    proxy.round_trip(0)
    told = document(migrate(conf, site, "--json", store=settings))
    assert objects(settings) == wanted
    assert told["found"]["there"]["blobs"] + told["uploaded"]["blobs"] == len(wanted) and told["problems"] == []
    assert 45 <= told["found"]["there"]["blobs"]


def test_ctrl_c_finishes_what_is_under_way(old_site, settings, proxy, through):
    site = old_site()
    db = site.db()
    commit_blobs(db, **{f"{each}": os.urandom(2000) for each in range(40)})
    db.close()
    conf = site.conf(through, "owner old.example.org")
    proxy.fail(faults.hang("before", seconds=3.0), method="PUT", target="/blobs/", nth=5, times=100)
    process = subprocess.Popen(
        [SCRIPT, "--config", conf, "migrate", "--from", site.blobs, "--json", "--concurrency", "3"],
        env=keys_of(settings), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    wait_until(lambda: proxy.counts("/blobs/")["PutObject"] >= 7, 60)
    process.send_signal(signal.SIGINT)
    printed, said = process.communicate(timeout=60)
    assert process.returncode == 130 and "stopping after the uploads" in said, said
    told = json.loads(printed)
    assert told["stopped"] and told["uploaded"]["blobs"] == 7 == len(objects(settings))


def test_beside_a_site_that_commits(old_site, settings, monkeypatch):
    site = old_site()
    db = site.db()
    commit_blobs(db, **{f"{each}": os.urandom(2000) for each in range(50)})
    conf = site.conf(settings, "owner old.example.org")
    stop, errors, commits = threading.Event(), [], 0

    def write():
        nonlocal commits
        try:
            while not stop.is_set():
                commit_blobs(db, **{f"new{commits}": os.urandom(500), "changing": os.urandom(100)})
                commits += 1
        except BaseException as error:
            errors.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        result = migrate(conf, site, "--json", store=settings)
        assert result.returncode == 0, result.stderr + result.stdout
    finally:
        stop.set()
        writer.join()
    assert errors == [] and commits > 3
    before = names(db)
    db.close()
    assert document(migrate(conf, site, "--json", store=settings))["problems"] == []
    assert objects(settings) == expected(site)
    site.blobs.rename(site.folder / "gone")
    db = switched(conf, settings, monkeypatch)
    assert names(db) == before
    db.close()


def test_after_switching_the_rest_comes_while_the_site_runs(filled, settings, monkeypatch):
    site, conf = filled
    wanted = expected(site)
    db = switched(conf, settings, monkeypatch)
    commit_blobs(db, fresh=b"of the new configuration")
    result = migrate(conf, site, "--json", store=settings)
    assert result.returncode == 0, result.stderr
    assert len(objects(settings)) == len(wanted) + 1
    compared = document(migrate(conf, site, "--compare", "--json", store=settings))
    assert compared["found"]["there"]["blobs"] == len(wanted) + 1
    assert compared["extra"]["objects"]["blobs"] == 0
    db.close()


def test_parts_of_the_work(filled, settings):
    site, conf = filled
    wanted = expected(site)
    oids = sorted({key.split("/")[1] for key in wanted})
    middle = oids[len(oids) // 2]
    first = document(migrate(conf, site, "--json", "--oid-range", f"0-{middle}", store=settings))
    assert set(objects(settings)) == {key for key in wanted if key.split("/")[1] <= middle}
    assert first["extra"]["files"]["blobs"] == 0
    second = document(
        migrate(conf, site, "--json", "--oid-range", f"{int(middle, 16) + 1:x}-", "--limit-rate", "1GB", store=settings)
    )
    assert objects(settings) == wanted
    assert first["uploaded"]["blobs"] + second["uploaded"]["blobs"] == len(wanted)
    tids = sorted(key.split("/")[2] for key in wanted)
    for since in (tids[-2], "0x" + tids[-2].upper()):
        told = document(migrate(conf, site, "--json", "--compare", "--since", since, store=settings))
        assert told["kept_revisions"] == sum(tid >= tids[-2] for tid in tids) < len(tids)
        assert told["extra"] == {"files": {"blobs": 0, "bytes": 0}, "objects": None}
    nothing = document(migrate(conf, site, "--json", "--compare", "--since", "2100-01-01", store=settings))
    assert nothing["kept_revisions"] == 0


def test_a_dry_run_writes_nothing(filled, settings):
    site, conf = filled
    wanted = expected(site)
    result = migrate(conf, site, "--dry-run", store=settings)
    assert result.returncode == 0, result.stderr
    assert f"would be uploaded  {len(wanted)} blobs" in result.stdout
    assert bucket_keys(settings) == []
    told = document(migrate(conf, site, "--dry-run", "--json", store=settings))
    assert told["found"]["wanted"]["blobs"] == len(wanted) and told["uploaded"]["blobs"] == 0 and told["dry_run"]


def test_the_rate_is_kept(old_site, settings):
    site = old_site()
    db = site.db()
    commit_blobs(db, **{f"{each}": os.urandom(100_000) for each in range(10)}, large=os.urandom(2 * MB))
    db.close()
    conf = site.conf(settings, "owner old.example.org")
    result = migrate(conf, site, "--json", "--limit-rate", "500KB", store=settings)
    told = document(result)
    # A second's worth may pass at the beginning.
    assert told["uploaded"]["bytes"] == 1_000_000 + 2 * MB and 5.0 <= told["seconds"] < 15.0


def test_another_owners_prefix_is_refused_before_anything_is_written(filled, settings):
    site, conf = filled
    assert migrate(conf, site, "--since", "2100-01-01", store=settings).returncode == 0
    before = bucket_keys(settings)  # a command that takes its time is a job, too
    assert [key for key in before if not key.startswith("jobs/")] == [".s3blobs.json"]
    other = site.conf(settings, "owner staging.example.org")
    for arguments in ((), ("--dry-run",), ("--purge-source",)):
        result = migrate(other, site, *arguments, store=settings)
        assert result.returncode == 2 and "belongs to owner 'old.example.org'" in one_line(result), arguments
    assert bucket_keys(settings) == before and len(site.files()) > 5
    assert migrate(other, site, "--compare", store=settings).returncode == 1  # only reads
    assert bucket_keys(settings) == before


@pytest.mark.parametrize(
    "arguments, said",
    [
        (("--compare", "--purge-source"), "leave out --compare"),
        (("--compare", "--dry-run"), "leave out --dry-run"),
        (("--verify",), "--verify goes with --compare"),
        (("--compare", "--limit-rate", "1MB"), "without --verify"),
        (("--oid-range", "9"), "is not a range of oids"),
        (("--since", "tomorrow"), "neither a date"),
        (("--purge-source", "--oid-range", "0-f"), "leave out --oid-range and --since"),
        (("--purge-source", "--since", "2020-01-01"), "leave out --oid-range and --since"),
    ],
)
def test_options_that_do_not_go(filled, settings, arguments, said):
    site, conf = filled
    result = migrate(conf, site, *arguments, store=settings)
    assert result.returncode == 2 and said in result.stderr, result.stderr
    assert bucket_keys(settings) == [] and len(site.files()) > 5


def test_what_cannot_be_a_source(filled, settings):
    site, conf = filled
    run = ["--config", conf, "migrate", "--from"]
    missing = s3blobs(*run, site.folder / "nothing", env=keys_of(settings))
    assert missing.returncode == 2 and "there is no such folder" in one_line(missing)
    no_directory = s3blobs(*run, site.folder, env=keys_of(settings))
    assert no_directory.returncode == 2 and "is no blob directory" in one_line(no_directory)
    read_only = migrate(site.conf(settings, "read-only on"), site, store=settings)
    assert read_only.returncode == 2 and "set read-only off" in one_line(read_only)
    assert bucket_keys(settings) == []


@pytest.mark.slow  # an upload rides out 45 seconds
def test_a_bucket_that_is_away_in_the_middle(old_site, settings, proxy, through):
    site = old_site()
    db = site.db()
    commit_blobs(db, **{f"{each}": os.urandom(2000) for each in range(60)})
    db.close()
    conf = site.conf(through, "owner old.example.org", "outage-patience 2s")
    proxy.fail(faults.answer(503), method="PUT", target="/blobs/", nth=20, times=10_000)
    result = migrate(conf, site, "--concurrency", "2", store=settings)
    # Which of the two uploads under way ends the run is chance: the circuit may be open by then.
    told = one_line(result)
    assert result.returncode == 2 and ("cannot serve the request now" in told or "has been unavailable" in told), told
    assert 10 < len(objects(settings)) < 25
    proxy.forgive()
    told = document(migrate(conf, site, "--json", store=settings))
    assert told["problems"] == [] and objects(settings) == expected(site)


def test_credentials_that_may_not_write_end_it_at_once(filled, settings, proxy, through):
    site, _ = filled
    conf = site.conf(through, "owner old.example.org")
    proxy.fail(faults.answer(403, "AccessDenied"), method="PUT", target="/blobs/", times=10_000)
    result = migrate(conf, site, "--concurrency", "1", store=settings)
    assert result.returncode == 2 and "s3-access-key" in one_line(result)
    assert proxy.counts("/blobs/")["PutObject"] == 1
