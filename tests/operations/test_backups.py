"""docs/operations.md, "Back up", "Restore to a point in time", "The bucket is lost"."""

from __future__ import annotations

import time

import payloads
import pytest
from backups import Backups
from servers.ministack import MiniStack


@pytest.fixture
def backups(site, tmp_path):
    elsewhere = MiniStack(tmp_path / "elsewhere").start()
    yield Backups(site, tmp_path / "backup", elsewhere)
    elsewhere.stop()


def test_backed_up_and_restored(site, backups, s3):
    follow = site.follow("Back up")
    site.add(follow.conf())
    site.start()
    site.upload("first", "second")
    follow.run()
    backups.take(follow)
    assert "blobs          2, " in backups.night()
    site.upload("third")
    rclone = backups.folder / "rclone.conf"
    rclone.rename(backups.folder / "away")
    assert backups.run().returncode == 1
    (backups.folder / "away").rename(rclone)
    site.upload("fourth")
    assert "blobs          4, " in backups.night()
    night = time.time()
    assert backups.objects(backups.there, backups.bucket) == backups.objects(s3, site.bucket)
    backups.write_conf()
    follow.run()
    key = key_of(s3, site, site.files["first"])
    rewrapped = s3.head_object(Bucket=site.bucket, Key=key)["Metadata"] | {"key": "another"}  # as by a rotation
    source = {"Bucket": site.bucket, "Key": key}
    s3.copy_object(**source, CopySource=source, Metadata=rewrapped, MetadataDirective="REPLACE")
    assert backups.objects(backups.there, backups.bucket) != backups.objects(s3, site.bucket)
    follow.run()
    assert backups.objects(backups.there, backups.bucket) == backups.objects(s3, site.bucket)
    follow.run()
    follow.end()
    written = [payloads.fingerprint(path.read_bytes()) for path in (backups.folder / "blobs").rglob("*.blob")]
    assert sorted(written) == sorted(payload.fingerprint for payload in site.files.values())

    site.stop()
    site.start()  # so that it tells the bucket soon what it knows: a process does so at its first blob, and then hourly
    files = dict(site.files)
    site.upload("later")
    for name in ("first", "second"):
        site.delete(name)
    site.pack()
    site.stop()
    date = time.strftime("%Y-%m-%d-%H-%M-%S", time.gmtime(night))
    follow = site.follow("Restore to a point in time", {"2026-11-27-02-15-00": date})
    site.files = files
    follow.run()
    follow.run()
    follow.run()
    site.empty_cache()
    with site.running():
        site.assert_files_are_right()
        assert site.status_of("later") == 404

    keys = {name: key_of(s3, site, files[name]) for name in ("first", "second")}
    site.empty_cache()
    s3.delete_object(Bucket=site.bucket, Key=keys["first"])  # as gc does it, after gc-keep
    s3.put_bucket_versioning(Bucket=site.bucket, VersioningConfiguration={"Status": "Enabled"})
    s3.delete_object(Bucket=site.bucket, Key=keys["second"])
    follow.run()
    follow.run()
    source = follow.conf()
    site.add(source)
    follow.run()
    site.empty_cache()
    with site.running():
        site.assert_files_are_right()
    follow.run()
    follow.end()
    site.remove(source)
    backups.elsewhere.stop()
    site.empty_cache()
    with site.running():
        site.assert_files_are_right()


def test_the_bucket_is_lost(site, backups, s3):
    follow = site.follow("Back up")
    site.add(follow.conf())
    follow.text("console")
    backups.take(follow)
    site.start()
    site.upload("first", "second")
    backups.night()
    site.upload("kept", "lost")
    cached = site.cached(site.files["lost"])
    site.stop()
    cached.unlink()
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=site.bucket):
        for entry in page["Contents"]:
            s3.delete_object(Bucket=site.bucket, Key=entry["Key"])
    s3.delete_bucket(Bucket=site.bucket)

    follow = site.follow("The bucket is lost")
    backups.write_rclone("admin", site.server, site.server.access_key, site.server.secret_key)
    follow.run()
    source = follow.conf()
    site.add(source)
    site.start()
    lost = site.files.pop("lost")
    site.assert_files_are_right()
    assert site.status_of("lost") >= 400
    assert s3.list_objects_v2(Bucket=site.bucket, Prefix="blobs/")["KeyCount"] == 0, "read from cache or copied soon"
    follow.run()
    site.replace("lost", lost)
    follow.run()
    site.stop()
    site.remove(source)
    backups.elsewhere.stop()
    site.empty_cache()
    with site.running():
        site.assert_files_are_right()
    follow.run()
    follow.end()


def key_of(s3, site, payload):
    """Of the object that has a file, found by its bytes."""
    for entry in s3.list_objects_v2(Bucket=site.bucket, Prefix="blobs/")["Contents"]:
        if s3.get_object(Bucket=site.bucket, Key=entry["Key"])["Body"].read() == payload.data:
            return entry["Key"]
    raise AssertionError(payload)
