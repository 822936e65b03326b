"""Ctrl-C and kill -9 in the middle of what lists, reports, rebuilds and repairs: half of anything is never taken for
all of it, and the command can be run again."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
from contextlib import closing, contextmanager

import pytest
from blob_sites import files_of
from checked_sites import Checked
from command_line import SCRIPT, document, keys_of, one_line, s3blobs
from servers import faults
from sites import as_ours, bucket_keys, commit_blobs, wait_until
from test_cli_export import export
from test_cli_fsck import Command
from test_cli_manifest import lines_of, manifest, site  # noqa: F401
from test_cli_migrate import migrate, objects, switched

from collective.s3blobstorage.keys import MANIFESTS
from collective.s3blobstorage.maintenance.gc.control import lease_key, read_control
from collective.s3blobstorage.maintenance.manifest import Manifest

OWNER = "owner old.example.org"
ENDINGS = pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGKILL], ids=["ctrl-c", "kill"])


@pytest.fixture
def through(settings, proxy):
    return dataclasses.replace(settings, endpoint_url=proxy.endpoint_url)


@contextmanager
def running(conf, *arguments, store):
    with subprocess.Popen(
        [SCRIPT, "--config", conf, *arguments],
        env=keys_of(store), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


def ended(process, ending):
    """What it printed. By Ctrl-C it says so."""
    process.send_signal(ending)
    printed, said = process.communicate(timeout=60)
    assert process.returncode == (130 if ending == signal.SIGINT else -ending), said
    return printed


@ENDINGS
def test_a_manifest_that_is_being_written(site, through, settings, proxy, tmp_path, ending):  # noqa: F811
    conf, db = site(store=through)
    commit_blobs(db, **{f"blob{number}": b"x" for number in range(40)})
    target = tmp_path / "m"
    target.write_bytes(b"that of yesterday")
    proxy.round_trip(50)
    with running(conf, "manifest", "--to", target, "--ask", "--concurrency", "1", store=through) as process:
        wait_until(lambda: proxy.counts("/blobs/").get("HeadObject", 0) >= 5, 60)
        assert ended(process, ending) == ""
    proxy.round_trip(0)
    assert target.read_bytes() == b"that of yesterday"
    left = [path for path in tmp_path.iterdir() if path.name.startswith(".m.")]
    assert len(left) == (ending == signal.SIGKILL)
    for path in left:
        with closing(open(path, "rb")) as file, pytest.raises(Exception, match="cannot be used"):
            Manifest.opened(file, path.name)
    assert manifest(conf, "--to", target, "--json", store=through).returncode == 0
    assert lines_of(target.read_bytes())[-1]["blobs"] == 40


@ENDINGS
def test_a_manifest_on_its_way_into_the_bucket(site, through, settings, proxy, ending):  # noqa: F811
    conf, db = site(store=through)
    commit_blobs(db, a=b"1")
    proxy.fail(faults.hang("before", seconds=2.0), method="PUT", target=f"/{MANIFESTS}")
    with running(conf, "manifest", "--in-bucket", "--json", store=through) as process:
        wait_until(lambda: proxy.counts(f"/{MANIFESTS}").get("PutObject", 0) >= 1, 60)
        process.send_signal(ending)
        process.communicate(timeout=60)
    # What was under way by Ctrl-C ends, and is whole; what was killed is whole or not there.
    for key in bucket_keys(settings):
        if key.startswith(MANIFESTS):
            assert manifest(conf, "--verify", key, store=through).returncode == 0
    assert manifest(conf, "--in-bucket", store=through).returncode == 0
    assert manifest(conf, "--verify", "latest", store=through).returncode == 0


@ENDINGS
def test_a_report(site, through, proxy, tmp_path, ending):  # noqa: F811
    conf, db = site(store=through)
    commit_blobs(db, a=b"1")
    drawing = tmp_path / "types.svg"
    drawing.write_text("that of yesterday")
    proxy.fail(faults.hang("before", seconds=2.0), method="GET", target="prefix=blobs", times=10)
    proxy.reset()
    with running(conf, "report", "types", "--csv", "--svg", drawing, store=through) as process:
        wait_until(lambda: proxy.counts().get("ListObjectsV2", 0) >= 1, 60)
        assert ended(process, ending) == ""
    assert drawing.read_text() == "that of yesterday"
    proxy.forgive()
    again = s3blobs("--config", conf, "report", "types", "--csv", "--svg", drawing, env=keys_of(through))
    assert again.returncode == 0 and "<svg" in drawing.read_text()


@ENDINGS
def test_an_export_without_the_database(old_site, settings, through, proxy, monkeypatch, tmp_path, ending):
    """Migrated ones in their places, and those without a tid: each is whole or not there, and it goes on."""
    made = old_site()
    db = made.db()
    commit_blobs(db, **{f"old{number}": os.urandom(2000) for number in range(25)})
    db.close()
    conf = made.conf(settings, OWNER)
    assert migrate(conf, made, store=settings).returncode == 0
    db = switched(conf, settings, monkeypatch)
    commit_blobs(db, **{f"new{number}": os.urandom(2000) for number in range(25)})
    db.close()
    wanted = set(objects(settings).values())
    conf = made.conf(through, OWNER)
    target = tmp_path / "files"

    def found():
        return [path for path in target.rglob("*") if path.is_file() and "tmp" not in path.parts[-3:]]

    proxy.round_trip(20)
    for share in (10, 35):
        with running(conf, "export", "--to", target, "--from-bucket", "--concurrency", "3", store=through) as process:
            wait_until(lambda share=share: sum(len(names) for _, _, names in os.walk(target)) > share, 60)
            ended(process, ending)
        assert {path.read_bytes() for path in found() if path.name != ".layout"} <= wanted
    proxy.round_trip(0)
    told = document(export(conf, target, "--from-bucket", "--json", store=through))
    assert told["problems"] == [] and told["written"]["blobs"] < 50
    rest = [path.read_bytes() for path in (target / "without-tid").glob("*/*")]
    assert sorted([*files_of(target).values(), *rest]) == sorted(objects(settings).values())
    assert os.listdir(target / "tmp") == [] and not list(target.rglob(".s3blobs-*"))


@ENDINGS
def test_a_repair(make_site, settings, through, proxy, tmp_path, ending):
    """What was brought back is there, nothing is half; after a kill the lease has to end, and the command says when."""
    # Through the proxy from the beginning: the cache's folder is called after the store's address.
    made = make_site("filestorage", store=through, owner="www.example.org", preflight=False, gc_on_pack="off")
    with Checked(made) as checked:
        commit_blobs(checked.db, **{f"blob{number}": os.urandom(3000) for number in range(20)})
        right = objects(settings)
        for number in range(20):
            checked.bucket.damage(checked.key(f"blob{number}"), "missing")
        made.close_all()
    command = Command(made, through, tmp_path)
    proxy.round_trip(30)
    before = proxy.counts("/blobs/").get("PutObject", 0)
    arguments = ("fsck", "--repair", "--concurrency", "1", "--ndjson", tmp_path / "found")
    with running(command.conf(), *arguments, store=through) as process:
        wait_until(lambda: process.poll() is not None or proxy.counts("/blobs/").get("PutObject", 0) >= before + 4, 120)
        assert process.poll() is None, process.communicate()
        ended(process, ending)
    proxy.round_trip(0)
    now = objects(settings)
    assert 3 <= len(now) < 20 and now.items() <= right.items()
    if ending == signal.SIGKILL:
        assert not (tmp_path / "found").exists()
        result = command.run("--repair")
        assert result.returncode == 2 and "or was killed: run it again" in one_line(result)
        with as_ours(settings) as store:  # ten minutes later
            store.put_bytes(lease_key(read_control(store).generation), b"")
    else:
        (tmp_path / "found").unlink()  # what it had done until then
    told = document(command.run("--repair", "--json", "--ndjson", tmp_path / "found"))
    assert told["repaired"] == {"repaired": 20 - len(now)} and objects(settings) == right
    assert len((tmp_path / "found").read_text().splitlines()) == 20 - len(now)
    assert command.run("--deep").returncode == 0
