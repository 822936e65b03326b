"""``s3blobs fsck``: what it prints, its exit status, and what stays in the bucket of it."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import time

import pytest
from checked_sites import Checked
from command_line import SCRIPT, document, keys_of, one_line, s3blobs, section
from servers import faults
from sites import bucket_keys, commit_blobs, read_blob, wait_until

OWNER = "owner www.example.org"


class Command:
    """The command on one site that is closed; ``store``: how the command reaches the bucket."""

    def __init__(self, site, store, folder):
        self.site, self.store, self.folder = site, store, folder
        self.conf()

    def conf(self, *more, owner=OWNER, cache=None):
        base = f"<filestorage>\n  path {self.site.folder}/Data.fs\n</filestorage>"
        text = section(self.store, cache or self.site.settings.cache_dir, base, owner, *more)
        path = self.folder / "zope.conf"
        path.write_text("%import collective.s3blobstorage\n" + text)
        return path

    def run(self, *arguments, verb="fsck"):
        return s3blobs("--config", self.folder / "zope.conf", verb, *arguments, env=keys_of(self.store))


@pytest.fixture
def command(make_site, settings, tmp_path):
    """A site of five blobs; closed."""
    site = make_site("filestorage", owner="www.example.org", preflight=False, gc_on_pack="off")
    db = site.db()
    commit_blobs(db, **{f"blob{number}": b"x" * 3000 for number in range(5)})
    site.close_all()
    return Command(site, settings, tmp_path)


def damaged(command, **kinds):
    """``blob0="missing"``"""
    with Checked(command.site) as site:
        keys = {name: site.key(name) for name in kinds}
        for name, kind in kinds.items():
            site.bucket.damage(keys[name], kind)
        command.site.close_all()
    return keys


def test_nothing_is_wrong(command):
    result = command.run()
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        "kept revisions  5",
        "in the bucket   5 blobs, 14.6 KB",
        "wrong           nothing",
    ]
    told = document(command.run("--deep", "--json"))
    assert told["read"]["proven"] == {"record": 5, "metadata": 0, "size_only": 0}
    assert set(told["found"].values()) == {0} and told["findings"] == [] and told["repaired"] is None


def test_status_says_that_every_object_was_read_only_where_it_was(command):
    def said(*arguments):
        assert command.run(*arguments).returncode == 0
        return next(line for line in command.run(verb="status").stdout.splitlines() if line.startswith("last fsck"))

    assert "read" not in said()
    assert ", every object read: nothing was wrong" in said("--deep")
    with Checked(command.site) as site:
        keys = sorted(revision.key for revision in site.kept())
        command.site.close_all()
    assert ", 2 objects read: nothing was wrong" in said("--deep", "--after", keys[2])
    assert "every object" not in said("--deep", "--sample", "50%")


def test_findings_are_printed_in_each_form_and_mended(command, tmp_path):
    keys = damaged(command, blob0="missing", blob1="truncated", blob2="wrong-bytes")
    result = command.run()
    assert result.returncode == 1 and result.stderr == ""
    for said in (
        "missing         1 kept revisions",
        "truncated       1 kept revisions",
        "–       /blob0",
        "1.5 KB  /blob1",
    ):
        assert said in result.stdout, result.stdout
    assert "it has 1500 bytes, and its record says 3000" in result.stdout
    lines = tmp_path / "findings"
    result = command.run("--deep", "--json", "--ndjson", lines)
    told = document(result)
    assert result.returncode == 1
    assert told["found"] | {"missing": 1, "truncated": 1, "wrong-bytes": 1} == told["found"]
    assert [json.loads(line) for line in lines.read_text().splitlines()] == told["findings"]
    assert {finding["key"] for finding in told["findings"]} == set(keys.values())
    assert {finding["content"]["path"] for finding in told["findings"]} == {"/blob0", "/blob1", "/blob2"}
    printed = command.run("--ndjson", "-")
    assert [json.loads(line)["kind"] for line in printed.stdout.splitlines()] == ["missing", "truncated"]
    before = bucket_keys(command.store)
    result = command.run("--deep", "--repair", "--dry-run")
    assert result.returncode == 1 and "would be repaired  3" in result.stdout and "from cache" in result.stdout
    assert [key for key in bucket_keys(command.store) if key.startswith("blobs/")] == [
        key for key in before if key.startswith("blobs/")
    ]
    result = command.run("--deep", "--repair")
    assert result.returncode == 0 and "repaired        3" in result.stdout, result.stdout
    assert command.run("--deep").returncode == 0
    command.site.cold()
    assert read_blob(command.site.db(), "blob1") == b"x" * 3000


def test_what_cannot_be_mended_says_what_to_do_and_status_tells(command):
    damaged(command, blob0="missing")
    assert "last fsck" not in command.run(verb="status").stdout
    command.site.cold()
    result = command.run("--repair")
    assert result.returncode == 1 and "not repaired    1" in result.stdout and "<s3source>" in result.stdout
    assert "1 blobs are wrong" in command.run(verb="status").stdout
    jobs = document(s3blobs("--config", command.conf(), "jobs", "list", "--json", env=keys_of(command.store)))["jobs"]
    assert [(job["kind"], job["state"]) for job in jobs] == [("fsck", "done")]
    assert jobs[0]["result"]["found"]["missing"] == 1 and jobs[0]["options"]["dry_run"] is False


def test_orphans_are_listed_where_asked_for(command):
    with Checked(command.site) as site:
        key = site.key("blob0").rpartition("/")[0] + "/" + "0" * 32
        site.bucket.put(key, b"12345")
        command.site.close_all()
    result = command.run()
    assert result.returncode == 0 and "orphaned        1 objects, 5 bytes" in result.stdout and key not in result.stdout
    assert f"orphan  {key}  5 bytes" in command.run("--list-orphans").stdout
    told = document(command.run("--list-orphans", "--json"))
    assert told["orphans"] == [{"key": key, "bytes": 5}]


def test_a_copy_reads_and_neither_writes_nor_repairs(command):
    command.conf("read-only on")
    before = bucket_keys(command.store)
    assert command.run().returncode == 0 and bucket_keys(command.store) == before
    result = command.run("--repair")
    assert result.returncode == 2 and "read-only" in one_line(result)
    command.conf(owner="owner staging.example.org")
    result = command.run()
    assert result.returncode == 2 and "www.example.org" in one_line(result)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--sample", "5%"], "--deep"),
        (["--after", "blobs/0"], "--deep"),
        (["--deep", "--sample", "0%"], "such as 5%"),
        (["--deep", "--sample", "lots"], "such as 5%"),
        (["--deep", "--after", "0x1f"], "it begins with blobs/"),
        (["--dry-run"], "--repair"),
        (["--ndjson", "-", "--json"], "--ndjson"),
    ],
)
def test_options_that_contradict_each_other(command, arguments, said):
    result = command.run(*arguments)
    assert result.returncode == 2 and said in result.stderr and "Traceback" not in result.stderr


def test_a_file_that_is_there_is_not_overwritten(command, tmp_path):
    path = tmp_path / "there"
    path.write_text("mine")
    result = command.run("--ndjson", path)
    assert result.returncode == 2 and "--ndjson" in one_line(result) and path.read_text() == "mine"


def test_a_part_is_no_job(command):
    assert command.run("--oid-range", "0-ff").returncode == 0
    assert not [key for key in bucket_keys(command.store) if key.startswith("jobs/")]


def test_an_outage_is_no_finding(command, proxy, tmp_path):
    command.store = dataclasses.replace(command.store, endpoint_url=proxy.endpoint_url)
    command.conf("outage-patience 1s", "s3-download-max-attempts 1")
    proxy.fail(faults.answer(503), target="prefix=blobs", times=10**6)
    result = command.run("--ndjson", tmp_path / "findings")
    assert result.returncode == 2 and "unavailable" in one_line(result) and result.stdout == ""
    assert not (tmp_path / "findings").exists()


def test_ctrl_c_tells_where_it_goes_on(command, proxy):
    command.store = dataclasses.replace(command.store, endpoint_url=proxy.endpoint_url)
    proxy.fail(faults.hang("before", seconds=0.5), method="GET", target="/blobs/", times=10**6)
    with subprocess.Popen(
        [SCRIPT, "--config", command.conf(), "fsck", "--deep", "--json", "--concurrency", "1"],
        env=keys_of(command.store),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        wait_until(lambda: proxy.counts("/blobs/").get("GetObject", 0) >= 2, 60)
        os.kill(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)
    told = json.loads(out)
    assert process.returncode == 130 and told["stopped"] and told["after"].startswith("blobs/"), err
    assert 0 < told["read"]["blobs"] < 5
    proxy.forgive()
    rest = document(command.run("--deep", "--json", "--after", told["after"]))
    assert rest["read"]["blobs"] == 5 - told["read"]["blobs"] and rest["after"] is None


def test_beside_the_running_site(command):
    db = command.site.db()
    commit_blobs(db, more=b"more")
    assert "kept revisions  6" in command.run("--deep").stdout
    db.pack(time.time() + 1)
    commit_blobs(db, more=b"more of it")
    assert command.run().returncode == 0
