"""``--inventory`` of gc, fsck and migrate: on the command line, from a bucket or a folder, whole or in halves."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from datetime import UTC, datetime, timedelta

import pytest
from blob_sites import fill
from command_line import SCRIPT, document, keys_of, one_line, s3blobs, section
from inventory_reports import Report, of_listing
from sites import as_ours, bucket_keys, commit_blobs

from collective.s3blobstorage.keys import blob_key, draw_name, read_key

OWNER = "owner www.example.org"


class Command:
    """The command on one site, and reports of its bucket."""

    def __init__(self, store, conf, folder):
        self.store, self.conf, self.folder = store, conf, folder

    def report(self, *, hours=1, format="CSV", without=(), name="reports", aged=0):
        """``aged``: so many days older than it is, each object."""
        with as_ours(self.store) as ours:
            lines = [
                dataclasses.replace(line, last_modified=line.last_modified - timedelta(days=aged))
                for line in ours.list()
                if line.key not in without
            ]
        created = datetime.now(UTC) - timedelta(hours=hours)
        report = Report(self.folder / name, created, bucket=self.store.bucket, format=format)
        return report.write(of_listing(lines, self.store.prefix)).config

    def run(self, *arguments):
        return s3blobs("--config", self.conf, *arguments, env=keys_of(self.store))

    def start(self, *arguments):
        command = [SCRIPT, "--config", self.conf, *map(str, arguments)]
        return subprocess.Popen(command, env=keys_of(self.store), stdout=subprocess.PIPE, text=True)

    def blobs(self):
        return {key for key in bucket_keys(self.store) if key.startswith("blobs/")}


@pytest.fixture
def command(make_site, settings, tmp_path):
    """A site of six blobs, of which one was written again; with two objects that nothing needs; closed."""
    site = make_site("filestorage", owner="www.example.org", preflight=False, gc_on_pack="off")
    db = site.db()
    commit_blobs(db, **{f"blob{number}": b"x" * (100 + number) for number in range(6)})
    commit_blobs(db, blob0=b"second")
    for number in (1, 6):
        db.storage.store_.put_bytes(blob_key(number.to_bytes(8), draw_name()), b"of nobody")
    site.close_all()
    base = f"<filestorage>\n  path {site.folder}/Data.fs\n</filestorage>"
    conf = tmp_path / "zope.conf"
    text = section(settings, site.settings.cache_dir, base, OWNER, "gc-keep 0")
    conf.write_text("%import collective.s3blobstorage\n" + text)
    return Command(settings, conf, tmp_path)


def without_time(told):
    return {name: value for name, value in told.items() if name not in ("seconds", "inventory", "plan", "next_due")}


@pytest.mark.parametrize("format", ["CSV", "Parquet"])
def test_each_verb_finds_the_same_as_by_a_listing(command, format):
    if format == "Parquet":
        pytest.importorskip("pyarrow")
    where = command.report(format=format)
    for verb in (("gc", "--dry-run"), ("fsck",)):
        listed = document(command.run(*verb, "--json"))
        reported = document(command.run(*verb, "--json", "--inventory", where))
        assert listed["inventory"] is None and reported["inventory"] is not None
        listed, reported = without_time(listed), without_time(reported)
        # What fsck itself wrote into the bucket, as a job, is not in the report.
        assert listed == reported


def test_what_is_not_as_the_report_has_it_is_spared(command):
    """In the bucket these objects are minutes old, and in the report days."""
    first = document(command.run("gc", "--json", "--inventory", command.report(aged=9)))
    assert (first["waiting"]["blobs"], first["young"]["blobs"], first["plan"]) == (2, 0, None)
    result = command.run("gc", "--inventory", command.report(aged=9, name="later"), "--allow", "50%")
    assert (result.returncode, result.stderr) == (0, "")
    words = " ".join(result.stdout.split())
    assert words.startswith("inventory of ") and " UTC; what came since is not judged in use 7 blobs" in words
    assert "may go 2 blobs, 18 bytes" in words
    before = command.blobs()
    told = document(command.run("gc", "--execute", "last", "--json", "--allow", "50%"))
    assert (told["deleted"]["blobs"], told["spared"], told["failed"]) == (0, 2, {})
    assert command.blobs() == before


def test_a_report_in_another_bucket(command, s3):
    where = command.report()
    bucket = f"{command.store.bucket}-r"
    s3.create_bucket(Bucket=bucket)
    try:
        for path in command.folder.joinpath("reports").rglob("*"):
            if path.is_file():
                name = str(path.relative_to(command.folder / "reports"))
                s3.put_object(Bucket=bucket, Key=name, Body=path.read_bytes())
        folder = str(where.relative_to(command.folder / "reports"))
        told = document(command.run("gc", "--dry-run", "--json", "--inventory", f"s3://{bucket}/{folder}"))
        assert (told["used"]["blobs"], told["young"]["blobs"]) == (7, 2)
        report = next(where.glob("2*T*Z")).name
        result = command.run("fsck", "--inventory", f"s3://{bucket}/{folder}/{report}/")
        assert result.returncode == 0 and "wrong           nothing" in result.stdout
        s3.delete_object(Bucket=bucket, Key=f"{folder}/{report}/manifest.checksum")
        result = command.run("fsck", "--inventory", f"s3://{bucket}/{folder}/")
        assert result.returncode == 2 and "not finished, there is no manifest.checksum yet" in one_line(result)
        result = command.run("fsck", "--inventory", f"s3://{bucket}/elsewhere/")
        assert result.returncode == 2 and "there is no report: give the folder" in one_line(result)
        data = s3.list_objects_v2(Bucket=bucket, Prefix=f"{folder}/data/")["Contents"][0]["Key"]
        s3.put_object(Bucket=bucket, Key=f"{folder}/{report}/manifest.checksum", Body=checksum(where))
        s3.delete_object(Bucket=bucket, Key=data)
        result = command.run("gc", "--inventory", f"s3://{bucket}/{folder}/")
        assert result.returncode == 2 and f"is not whole: its file {data} is not there" in one_line(result)
    finally:
        for line in s3.list_objects_v2(Bucket=bucket).get("Contents", ()):
            s3.delete_object(Bucket=bucket, Key=line["Key"])
        s3.delete_bucket(Bucket=bucket)


def checksum(where):
    return next(where.glob("2*T*Z/manifest.checksum")).read_bytes()


def test_what_is_refused(command):
    stale = command.report(hours=60)
    result = command.run("gc", "--inventory", stale)
    assert result.returncode == 2 and "60 h ago, and --inventory-max-age is 48 h" in one_line(result)
    assert command.run("gc", "--dry-run", "--inventory", stale, "--inventory-max-age", "3d").returncode == 0
    told = document(command.run("fsck", "--json", "--inventory", stale))
    assert "--inventory-max-age is 48 h" in told["error"]
    for arguments, said in (
        (("gc", "--execute", "last"), "leave out --inventory"),
        (("gc", "--versions"), "leave out one"),
        (("migrate", "--from", command.folder, "--compare"), "leave out --inventory"),
        (("migrate", "--from", command.folder, "--purge-source"), "leave out --inventory"),
        (("gc", "--inventory-max-age", "soon"), "is not an interval"),
    ):
        result = command.run(*arguments, "--inventory", stale)
        assert result.returncode == 2 and said in result.stderr, result.stderr
    assert not any(key.startswith("gc/plan/") for key in bucket_keys(command.store))


def test_what_a_report_lacks_is_asked_for_before_it_is_missing(command):
    """And what is missing is found although the report is of before."""
    first, second, *_ = sorted(key for key in command.blobs() if read_key(key)[0] == bytes(7) + b"\2")[:1] + sorted(
        key for key in command.blobs() if read_key(key)[0] == bytes(7) + b"\3"
    )
    where = command.report(without=(first, second))
    told = document(command.run("fsck", "--json", "--inventory", where))
    assert (told["there"]["blobs"], sum(told["found"].values()), told["kept_revisions"]) == (7, 0, 7)
    with as_ours(command.store) as ours:
        ours.delete([first])
    told = document(command.run("fsck", "--json", "--inventory", where))
    assert told["found"]["missing"] == 1
    # What the report has and is gone by now is found where objects are read.
    result = command.run("fsck", "--inventory", command.report(name="more"))
    assert result.returncode == 1
    with as_ours(command.store) as ours:
        ours.delete([second])
    stale = command.folder / "more" / where.relative_to(command.folder / "reports")
    assert document(command.run("fsck", "--json", "--inventory", stale))["found"]["missing"] == 1
    assert "what was deleted since counts as there" in command.run("fsck", "--inventory", stale).stdout
    assert document(command.run("fsck", "--deep", "--json", "--inventory", stale))["found"]["missing"] == 2


def test_two_processes_share_the_work_by_oids(command):
    where = command.report(aged=9)
    whole = document(command.run("gc", "--dry-run", "--json", "--inventory", where))
    halves = ("--oid-range", "0-3"), ("--oid-range", "4-")
    for verb, counts in (
        (("gc",), ("used", "young", "waiting")),
        (("fsck",), ("there", "orphaned")),
    ):
        running = [command.start(*verb, "--json", "--inventory", where, *half) for half in halves]
        told = [json.loads(process.communicate(timeout=120)[0]) for process in running]
        assert [process.returncode for process in running] == [0, 0]
        sums = {name: sum(each[name]["blobs"] for each in told) for name in counts}
        if verb == ("gc",):
            assert sums == {name: whole[name]["blobs"] for name in counts} == {"used": 7, "young": 0, "waiting": 2}
        else:
            assert sums == {"there": 7, "orphaned": 2}
        assert all(each[counts[0]]["blobs"] for each in told)
    # Both halves wrote their dates: a plan of the whole has each, and condemns it when it is old enough.
    planned = document(command.run("gc", "--json", "--inventory", where, "--allow", "50%"))
    assert planned["condemned"]["blobs"] == 2


@pytest.fixture
def moving(old_site, settings, tmp_path):
    site = old_site("filestorage")
    db = site.db()
    fill(db)
    db.close()
    return site, Command(settings, site.conf(settings, "owner old.example.org"), tmp_path)


def test_migrate_sends_only_what_the_bucket_lacks(moving, proxy):
    site, command = moving
    migrate = ("migrate", "--from", site.blobs, "--json")
    assert document(command.run(*migrate))["uploaded"]["blobs"] > 5
    there = command.blobs()
    some = sorted(there)[:3]
    where = command.report(without=some[:2])
    with as_ours(command.store) as ours:
        ours.delete(some[1:2])
    command.store = dataclasses.replace(command.store, endpoint_url=proxy.endpoint_url)
    command.conf = site.conf(command.store, "owner old.example.org")
    proxy.reset()
    told = document(command.run(*migrate, "--inventory", where))
    assert (told["uploaded"]["blobs"], told["found"]["there"]["blobs"]) == (2, len(there) - 2)
    assert told["inventory"] is not None and command.blobs() == there
    # Of the two that the report lacks one came since, and its bytes are not sent again.
    sent = [line for line in proxy.lines if line.startswith("PUT ") and "/blobs/" in line]
    assert [some[1] in line for line in sent] == [True], proxy.lines
