"""``s3blobs destroy``: everything of one site goes, versions included, and nothing of anybody else."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
from datetime import UTC, datetime, timedelta

import pytest
from command_line import SCRIPT, document, keys_of, one_line, s3blobs, section
from servers import faults
from sites import commit_blobs, raw_client, wait_until
from store_time import DAY, ShiftedStore
from test_gc_versions import lockable  # noqa: F401 - a fixture

from collective.s3blobstorage.keys import (
    LEDGER,
    MARKER,
    WITNESS,
    condemned_key,
    object_key,
    reference_key,
    shared_name,
    upload_key,
)
from collective.s3blobstorage.maintenance.gc import destroy as engine
from collective.s3blobstorage.objectstore import open_store

OWNER = "www.example.org"
OLD = "blobs/1/3c8b5e2f1a00000.blob"


class Doomed:
    """A site below a prefix, and what the bucket has, in all its versions."""

    def __init__(self, make_site, store, tmp_path, s3, owner=OWNER):
        self.store = dataclasses.replace(store, prefix="site")
        self.s3 = s3
        self.owner = owner
        self.site = make_site("filestorage", store=self.store, owner=owner, preflight=False, gc_on_pack="off")
        db = self.site.db()
        commit_blobs(db, a=b"a1", b=b"b1")
        commit_blobs(db, a=b"a2")
        self.tmp_path = tmp_path
        db.close()
        for witness in [key for key in self.keys() if WITNESS in key]:
            s3.delete_object(Bucket=self.store.bucket, Key=witness)

    def conf(self, *more, store=None, owner=OWNER):
        path = self.tmp_path / "storage.conf"
        base = f"<filestorage>\n  path {self.site.folder}/Data.fs\n</filestorage>"
        lines = ["preflight off", *([f"owner {owner}"] if owner else []), *more]
        text = section(store or self.store, self.tmp_path / "cache", base, *lines)
        path.write_text("%import collective.s3blobstorage\n" + text)
        return path

    def put(self, key, data=b"x"):
        self.s3.put_object(Bucket=self.store.bucket, Key=key, Body=data)

    def keys(self):
        page = self.s3.list_objects_v2(Bucket=self.store.bucket)
        return [line["Key"] for line in page.get("Contents", ())]

    def all(self):
        """All versions and delete markers."""
        page = self.s3.get_paginator("list_object_versions").paginate(Bucket=self.store.bucket)
        found = [line for lines in page for kind in ("Versions", "DeleteMarkers") for line in lines.get(kind, ())]
        return sorted(line["Key"] for line in found)


@pytest.fixture
def doomed(make_site, settings, tmp_path, s3):
    return lambda store=settings, **more: Doomed(make_site, store, tmp_path, s3, **more)


STAGED = upload_key("1" * 32)
MANIFEST = "manifests/20261127T080000Z-03f0000000000001"


def destroy(conf, *arguments, store, typed=f"{OWNER}\n", **options):
    return s3blobs("--config", conf, "destroy", *arguments, env=keys_of(store), input=typed, **options)


def test_all_of_a_site_goes_and_what_is_of_others_stays(doomed, settings):
    site = doomed()
    others = [
        "blobs/0000000000000001/" + "0" * 32,
        "readme.txt",
        "site/addons/picture.jpg",
        "site/blobs/picture.jpg",
        "site/notes",
        "site/uploads/notes",
        "site2/gc/ledger",
    ]
    for key in others:
        site.put(key)
    for key in (OLD, "gc-log/old.ndjson", MANIFEST, LEDGER, ".s3blobs-check/left", "addons/collective.x/a/b", STAGED):
        site.put(f"site/{key}")
    site.s3.create_multipart_upload(Bucket=settings.bucket, Key="site/blobs/0000000000000001/" + "1" * 32)
    site.s3.create_multipart_upload(Bucket=settings.bucket, Key=f"site/{STAGED}")
    site.s3.create_multipart_upload(Bucket=settings.bucket, Key="site/notes")
    conf = site.conf()
    before = site.all()
    shown = destroy(conf, "--dry-run", store=settings)
    assert shown.returncode == 0 and "4 objects that are not ours, and stay" in shown.stdout
    told = document(destroy(conf, "--dry-run", "--json", store=settings))
    assert (told["found"]["blobs"]["blobs"], told["found"]["old"]["blobs"]) == (3, 1)
    assert told["found"]["addons"] == told["found"]["staged"] == {"blobs": 1, "bytes": 1}
    assert (
        told["found"]["foreign_keys"] == ["addons/picture.jpg", "blobs/picture.jpg", "notes", "uploads/notes"]
        and told["found"]["uploads"] == 2
    )
    assert site.all() == before
    result = destroy(conf, "--json", store=settings)
    assert result.returncode == 0, result.stderr
    told = document(result)
    assert (told["deleted"]["blobs"], told["aborted_uploads"]) == (len(before) - len(others), 2)
    assert site.all() == sorted(others)
    left = site.s3.list_multipart_uploads(Bucket=settings.bucket).get("Uploads", ())
    assert [upload["Key"] for upload in left] == ["site/notes"]
    again = destroy(conf, store=settings, typed="")
    assert again.returncode == 0 and "nothing of ours" in again.stdout


@pytest.mark.parametrize("typed", ["", "\n", "yes\n", "www.example.or\n", "site\n"])
def test_the_owners_name_has_to_be_typed(doomed, settings, typed):
    site = doomed()
    before = site.all()
    result = destroy(site.conf(), store=settings, typed=typed)
    assert result.returncode == 1 and site.all() == before
    asked, message = result.stderr.splitlines()
    assert asked.startswith(f"Type {OWNER} to delete 4 objects, ") and asked.endswith(" for ever: ")
    assert message == f"s3blobs: nothing was deleted: {OWNER} was not typed"


def test_without_an_owner_the_buckets_name_is_asked_for(doomed, settings):
    site = doomed(owner=None)
    conf = site.conf(owner=None)
    assert destroy(conf, store=settings).returncode == 1 and len(site.keys()) == 4
    assert destroy(conf, store=settings, typed=f"{settings.bucket}\n").returncode == 0 and site.keys() == []


@pytest.mark.parametrize(
    "of_bucket, of_configuration, says",
    [
        (OWNER, "staging", "belongs to owner 'www.example.org', and the configuration says owner staging"),
        (OWNER, None, "belongs to owner 'www.example.org', and the configuration names no owner"),
        (None, "staging", "belongs to nobody by name, and the configuration says owner staging"),
    ],
)
def test_another_owners_prefix_is_refused(doomed, settings, of_bucket, of_configuration, says):
    site = doomed(owner=of_bucket)
    before = site.all()
    result = destroy(site.conf(owner=of_configuration), store=settings, typed="staging\n")
    assert result.returncode == 2 and says in one_line(result) and site.all() == before


def test_a_site_that_runs_is_protected(doomed, settings):
    site = doomed()
    conf = site.conf()
    site.put(f"site/{WITNESS}{'0' * 32}")
    before = site.all()
    result = destroy(conf, store=settings)
    assert result.returncode == 2 and site.all() == before
    assert "told of itself 0 minutes ago" in one_line(result) and "--even-if-running" in one_line(result)
    shown = destroy(conf, "--dry-run", store=settings)
    assert shown.returncode == 0 and "refused" in shown.stdout and site.all() == before
    assert destroy(conf, "--even-if-running", store=settings).returncode == 0 and site.keys() == []


def test_after_two_hours_it_is_not_running(doomed, settings):
    site = doomed()
    site.put(f"site/{WITNESS}{'0' * 32}")
    store = open_store(site.store)
    later = ShiftedStore(store)
    assert engine.running(later) is not None
    later.advance(DAY / 12 + 5)
    assert engine.running(later) is None
    store.close()


def test_a_site_that_started_while_the_question_stood_is_protected(doomed, settings):
    site = doomed()
    conf = site.conf()
    command = [SCRIPT, "--config", conf, "destroy"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, env=keys_of(settings), **pipes)
    assert process.stderr.read(5) == "Type "
    site.put(f"site/{WITNESS}{'0' * 32}")
    _, errors = process.communicate(f"{OWNER}\n", timeout=60)
    assert process.returncode == 2 and "may be running" in errors and len(site.keys()) == 5


def test_everything_is_what_lies_below_the_prefix(doomed, settings):
    site = doomed()
    for key in ("site/notes", "other/notes", "site2"):
        site.put(key)
    whole = destroy(site.conf(store=settings), "--everything", store=settings)
    assert whole.returncode == 2 and "s3-prefix" in one_line(whole) and len(site.keys()) == 7
    result = destroy(site.conf(), "--everything", store=settings)
    assert result.returncode == 0 and "1 objects that are not ours, and go too" in result.stdout
    assert site.keys() == ["other/notes", "site2"]


def test_everything_leaves_no_other_site_without_its_blobs(doomed, settings):
    site = doomed()
    site.put(f"site/staging/{MARKER}")
    before = site.all()
    result = destroy(site.conf(), "--everything", store=settings)
    assert result.returncode == 2 and "another prefix lies below this one, staging/" in one_line(result)
    assert site.all() == before
    assert destroy(site.conf(), store=settings).returncode == 0 and site.all() == [f"site/staging/{MARKER}"]


@pytest.mark.parametrize("below", ["addons", "addons/staging"])
def test_another_site_where_addons_keep_theirs_is_left_alone(doomed, settings, below):
    site = doomed()
    for key in (".s3blobs.json", "blobs/0000000000000001/" + "0" * 32):
        site.put(f"site/{below}/{key}")
    before = site.all()
    result = destroy(site.conf(), store=settings)
    assert result.returncode == 2 and f"another prefix lies below this one, {below}/" in one_line(result)
    assert site.all() == before


def test_what_blobs_share_goes_too(doomed, settings):
    site = doomed()
    shared = shared_name(b"x" * 32, 3)
    strange = f"site/objects/{shared}"
    for key in (object_key(shared), condemned_key(shared), reference_key(bytes(8), "1" * 32, shared), strange[5:]):
        site.put(f"site/{key}")
    told = document(destroy(site.conf(), "--dry-run", "--json", store=settings))
    assert (told["found"]["shared"]["blobs"], told["found"]["foreign_keys"]) == (1, [strange[5:]])
    assert "that equal blobs share" in destroy(site.conf(), "--dry-run", store=settings).stdout
    assert destroy(site.conf(), store=settings).returncode == 0 and site.all() == [strange]


@pytest.mark.parametrize("status", ["Enabled", "Suspended"])
def test_every_version_and_delete_marker_goes(doomed, settings, s3, status):
    s3.put_bucket_versioning(Bucket=settings.bucket, VersioningConfiguration={"Status": "Enabled"})
    site = doomed()
    dead = [key for key in site.keys() if "blobs/" in key][0]
    s3.delete_object(Bucket=settings.bucket, Key=dead)
    site.put(f"site/{MARKER}", s3.get_object(Bucket=settings.bucket, Key=f"site/{MARKER}")["Body"].read())
    site.put("site/notes")
    s3.put_bucket_versioning(Bucket=settings.bucket, VersioningConfiguration={"Status": status})
    # A blob, the first marker, and the witness that the fixture deleted.
    told = document(destroy(site.conf(), "--dry-run", "--json", store=settings))
    assert told["keeps_versions"] and (told["found"]["versions"]["blobs"], told["found"]["markers"]) == (3, 2)
    assert destroy(site.conf(), store=settings).returncode == 0
    assert site.all() == ["site/notes"]


def test_a_locked_version_is_told_with_its_date_and_the_marker_stays(doomed, s3, lockable):  # noqa: F811
    site = doomed(lockable)
    until = (datetime.now(UTC) + timedelta(days=3)).replace(microsecond=0)
    [key, *_] = [key for key in site.keys() if "blobs/" in key]
    version = s3.head_object(Bucket=lockable.bucket, Key=key)["VersionId"]
    named = {"Bucket": lockable.bucket, "Key": key, "VersionId": version}
    s3.put_object_retention(**named, Retention={"Mode": "GOVERNANCE", "RetainUntilDate": until})
    result = destroy(site.conf(), store=lockable)
    assert (
        result.returncode == 1 and f"kept until {until:%Y-%m-%dT%H:%M} UTC by retention (governance)" in result.stdout
    )
    assert [key for key in site.all() if WITNESS not in key] == [f"site/{MARKER}", key]
    told = document(destroy(site.conf(), "--json", store=lockable))
    assert [failure["locked_until"] for failure in told["failures"]] == [until.isoformat()]


def test_a_store_without_versions(doomed, settings, proxy):
    site = doomed()
    behind = dataclasses.replace(site.store, endpoint_url=proxy.endpoint_url)
    proxy.fail(faults.answer(501, "NotImplemented"), target="versioning")
    proxy.fail(faults.answer(501, "NotImplemented"), target="versions", times=100)
    assert destroy(site.conf(store=behind), store=settings).returncode == 0 and site.keys() == []


def test_credentials_that_may_not_list_versions(doomed, settings, proxy):
    site = doomed()
    behind = dataclasses.replace(site.store, endpoint_url=proxy.endpoint_url)
    proxy.fail(faults.answer(403, "AccessDenied"), target="version", times=100)
    result = destroy(site.conf(store=behind), store=settings)
    assert result.returncode == 2 and "s3:ListBucketVersions" in one_line(result) and len(site.keys()) == 4


def test_credentials_that_may_not_delete_stop_at_once(doomed, settings, proxy):
    """Not after an hour of asking for each of a million."""
    site = doomed()
    behind = dataclasses.replace(site.store, endpoint_url=proxy.endpoint_url)
    proxy.fail(faults.answer(403, "AccessDenied"), method="POST", target="delete", times=100)
    result = destroy(site.conf(store=behind), store=settings)
    assert result.returncode == 2 and "policy" in result.stderr.splitlines()[-1] and len(site.keys()) == 4


def test_a_deleted_marker_below_is_no_site(doomed, settings, s3):
    s3.put_bucket_versioning(Bucket=settings.bucket, VersioningConfiguration={"Status": "Enabled"})
    site = doomed()
    site.put(f"site/staging/{MARKER}")
    s3.delete_object(Bucket=settings.bucket, Key=f"site/staging/{MARKER}")
    assert destroy(site.conf(), "--everything", store=settings).returncode == 0 and site.all() == []


def many(site, count=3500):
    """So many objects that more than one request deletes them."""
    for number in range(count):
        site.put(f"site/gc-log/{number:06d}")


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_stopped_in_the_middle_and_run_again(doomed, settings, proxy, how):
    site = doomed()
    many(site)
    conf = site.conf(store=dataclasses.replace(site.store, endpoint_url=proxy.endpoint_url))
    command = [SCRIPT, "--config", conf, "destroy"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, env=keys_of(settings), **pipes)
    assert process.stderr.read(5) == "Type "
    proxy.round_trip(400)
    process.stdin.write(f"{OWNER}\n")
    process.stdin.flush()
    wait_until(lambda: any("delete" in line for line in proxy.lines), seconds=60)
    os.kill(process.pid, how)
    output, errors = process.communicate(timeout=60)
    proxy.round_trip(0)
    assert process.returncode == (130 if how == signal.SIGINT else -9), errors
    left = site.all()
    assert f"site/{MARKER}" in left
    if how == signal.SIGINT:
        assert "run it again to go on" in output and 0 < len(left) < 3504
    again = destroy(conf, store=settings)
    assert again.returncode == 0 and site.all() == []


@pytest.mark.parametrize(
    "wrong, says",
    [
        (["--what"], "No such option"),
        (["everything"], "unexpected extra argument"),
    ],
)
def test_a_wrong_command_line(doomed, settings, wrong, says):
    site = doomed()
    result = destroy(site.conf(), *wrong, store=settings)
    assert result.returncode == 2 and says in result.stderr and len(site.keys()) == 4


def test_a_read_only_configuration_is_refused(doomed, settings):
    site = doomed()
    result = destroy(site.conf("read-only on"), store=settings)
    assert result.returncode == 2 and "read-only is on" in one_line(result) and len(site.keys()) == 4


def test_wrong_credentials_are_one_line(doomed, settings):
    site = doomed()
    wrong = {**keys_of(settings), "SITE_SECRET_KEY": "wrong"}
    result = s3blobs("--config", site.conf(), "destroy", env=wrong, input=f"{OWNER}\n")
    assert result.returncode == 2 and "s3-secret-key" in one_line(result)
    assert raw_client(settings).list_objects_v2(Bucket=settings.bucket)["KeyCount"] == 4
