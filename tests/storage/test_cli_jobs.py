"""``s3blobs jobs``, and commands that are jobs."""

from __future__ import annotations

import json
import signal
import subprocess
import threading

import pytest
from command_line import SCRIPT, document, keys_of, s3blobs, section
from counting_work import Counting
from sites import bucket_keys, commit_blobs, wait_until

from collective.s3blobstorage.maintenance.jobs.jobs import Jobs
from collective.s3blobstorage.objectstore import open_store


@pytest.fixture
def configured(make_site, settings, tmp_path):
    """A site with a blob, and its configuration for the command."""
    site = make_site("filestorage", owner="www.example.org")
    db = site.db()
    commit_blobs(db, one=b"content", two=b"more")
    base = f"<filestorage>\n  path {site.folder}/Data.fs\n</filestorage>"
    path = tmp_path / "site.conf"
    text = section(settings, tmp_path / "cache-of-command", base, "owner www.example.org")
    path.write_text(f"%import collective.s3blobstorage\n{text}")
    return site, path


def run(path, settings, *arguments):
    return s3blobs("--config", path, *arguments, env=keys_of(settings))


def test_what_is_listed_and_shown(configured, settings):
    site, path = configured
    result = run(path, settings, "jobs", "list")
    assert (result.returncode, result.stdout) == (0, "there are no jobs\n")
    assert run(path, settings, "gc", "--dry-run").returncode == 0
    assert not [key for key in bucket_keys(settings) if key.startswith("jobs/")]  # a dry run writes nothing
    planned = document(run(path, settings, "gc", "--json"))
    result = run(path, settings, "jobs", "list")
    assert result.returncode == 0 and result.stderr == ""
    assert result.stdout.splitlines()[1].split()[:2] == ["gc-1", "done"]
    listed = document(run(path, settings, "jobs", "list", "--json"))
    assert listed["total"] == 1
    job = document(run(path, settings, "jobs", "show", "gc-1", "--json"))
    assert job == listed["jobs"][0]
    assert (job["state"], job["by"], job["options"]["dry_run"]) == ("done", "", True)
    assert job["result"]["used"] == planned["used"] and job["result"]["plan"] is None
    result = run(path, settings, "jobs", "show", "gc-1")
    assert result.returncode == 0 and "listing the bucket" in result.stdout
    assert settings.secret_key not in json.dumps(job)
    assert document(run(path, settings, "jobs", "list", "--kind", "rotate", "--json"))["jobs"] == []
    for arguments in (("show", "gc-7"), ("cancel", "gc-7"), ("show", "../../etc")):
        result = run(path, settings, "jobs", *arguments)
        assert result.returncode == 2 and "there is no job" in result.stderr


def test_one_that_runs_in_a_site_is_seen_refused_and_cancelled(configured, settings):
    site, path = configured
    store = open_store(settings)
    counting = Counting(100_000)
    jobs = Jobs(store, counting.for_all())
    jobs.start("gc", {}, by="a.manager")
    result = run(path, settings, "gc")
    assert result.returncode == 2
    assert "the job gc-1 runs on" in result.stderr and "cancel it" in result.stderr
    result = run(path, settings, "jobs", "show", "gc-1")
    assert "running" in result.stdout and "a.manager" in result.stdout
    result = run(path, settings, "jobs", "cancel", "gc-1")
    assert (result.returncode, result.stderr) == (0, "")
    wait_until(lambda: not jobs.running_here)
    assert "cancelled" in run(path, settings, "jobs", "show", "gc-1").stdout
    assert "nothing to cancel" in run(path, settings, "jobs", "cancel", "gc-1").stdout
    assert run(path, settings, "gc").returncode == 0
    jobs.close()
    store.close()


def test_a_reader_cancels_nothing(configured, settings, running_elsewhere):
    site, path = configured
    path.write_text(path.read_text().replace("<filestorage>", "read-only on\n  <filestorage>", 1))
    before = bucket_keys(settings)
    result = run(path, settings, "jobs", "cancel", "gc-1")
    assert result.returncode == 2 and "read-only is on" in result.stderr
    assert run(path, settings, "jobs", "show", "gc-1").returncode == 0
    assert bucket_keys(settings) == before


@pytest.mark.slow
def test_a_killed_command_can_be_run_again_at_once(configured, settings, proxy, tmp_path):
    site, path = configured
    slow = path.read_text().replace(settings.endpoint_url, proxy.endpoint_url)
    (tmp_path / "slow.conf").write_text(slow)
    proxy.round_trip(400)
    command = [SCRIPT, "--config", str(tmp_path / "slow.conf"), "gc"]
    process = subprocess.Popen(command, env=keys_of(settings), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    wait_until(lambda: "jobs/gc/000000000001" in bucket_keys(settings), 60)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert run(path, settings, "gc").returncode == 0
    states = {job["id"]: job for job in document(run(path, settings, "jobs", "list", "--json"))["jobs"]}
    assert states["gc-1"]["state"] == "interrupted"
    assert (states["gc-2"]["state"], states["gc-2"]["resumed"]) == ("done", "gc-1")


@pytest.mark.slow
def test_ctrl_c_is_cancelled(configured, settings, proxy, tmp_path):
    site, path = configured
    slow = path.read_text().replace(settings.endpoint_url, proxy.endpoint_url)
    (tmp_path / "slow.conf").write_text(slow)
    proxy.round_trip(250)
    command = [SCRIPT, "--config", str(tmp_path / "slow.conf"), "gc"]
    process = subprocess.Popen(command, env=keys_of(settings), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    threading.Thread(target=process.wait, daemon=True).start()
    wait_until(lambda: "jobs/gc/000000000001" in bucket_keys(settings), 60)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    job = document(run(path, settings, "jobs", "show", "gc-1", "--json"))
    # It may have been at its last request.
    assert (process.returncode, job["state"]) in {(130, "cancelled"), (0, "done")}


@pytest.fixture
def running_elsewhere(settings):
    """A gc and a mirror that run in a site, until the test ends."""
    store = open_store(settings)
    jobs = Jobs(store, Counting(100_000).for_all())
    for kind in ("gc", "mirror", "migrate"):
        jobs.start(kind, {})
    yield jobs
    jobs.close()
    store.close()


def test_parts_of_a_gc_are_no_jobs(configured, settings, running_elsewhere):
    """Several machines take a part each (--oid-range), at the same time."""
    site, path = configured
    for part in ("0-7fff", "8000-"):
        result = run(path, settings, "gc", "--oid-range", part)
        assert result.returncode == 0, result.stderr
    assert running_elsewhere.list("gc")[1] == 1
    assert run(path, settings, "gc").returncode == 2


def test_parts_of_a_migration_are_no_jobs(old_site, settings, running_elsewhere):
    old = old_site()
    db = old.db()
    commit_blobs(db, one=b"content", two=b"more")
    db.close()
    conf = old.conf(settings, "owner www.example.org")
    for part in ("0-1", "2-"):
        result = run(conf, settings, "migrate", "--from", old.blobs, "--oid-range", part)
        assert result.returncode == 0, result.stderr
    assert len([key for key in bucket_keys(settings) if key.startswith("blobs/")]) == 2
    assert run(conf, settings, "migrate", "--from", old.blobs).returncode == 2


def test_parts_of_a_mirror_are_no_jobs(old_site, settings, running_elsewhere):
    old = old_site()
    db = old.db()
    commit_blobs(db, one=b"content", two=b"more")
    db.close()
    source = f"<blobdirsource disk>\n  path {old.blobs}\n</blobdirsource>"
    conf = old.conf(settings, "owner www.example.org", source)
    for part in ("0-1", "2-"):
        told = document(run(conf, settings, "mirror", "--json", "--oid-range", part))
        assert told["problems"] == [] and told["complete_up_to"] is None
    assert len([key for key in bucket_keys(settings) if key.startswith("blobs/")]) == 2
    assert run(conf, settings, "mirror").returncode == 2


def test_gc_of_a_prefix_without_an_owner_leaves_no_trace(make_site, settings, tmp_path):
    site = make_site("filestorage")
    db = site.db()
    commit_blobs(db, one=b"content")
    db.close()
    base = f"<filestorage>\n  path {site.folder}/Data.fs\n</filestorage>"
    path = tmp_path / "site.conf"
    path.write_text(f"%import collective.s3blobstorage\n{section(settings, tmp_path / 'cache-of-command', base)}")
    before = bucket_keys(settings)
    result = run(path, settings, "gc")
    assert result.returncode == 0 and "nothing is noted or deleted without owner" in result.stdout
    assert bucket_keys(settings) == before
