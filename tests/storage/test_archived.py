"""Blobs that somebody's rule moved into an archive: what a reader is told, and ``s3blobs restore-archived``."""

from __future__ import annotations

import dataclasses
import time

import pytest
import ZODB
from command_line import document, keys_of, s3blobs, section
from servers.faults import answer
from sites import commit_blobs, raw_client
from ZODB.FileStorage import FileStorage

from collective.s3blobstorage.errors import Archived
from collective.s3blobstorage.objectstore import open_store
from collective.s3blobstorage.objectstore.interfaces import Restoring
from collective.s3blobstorage.settings import StorageSettings
from collective.s3blobstorage.storage import open_storage


@pytest.fixture
def site(settings, bucket, tmp_path, s3_server):
    """Three blobs, of which two are in an archive; a database and a configuration."""
    if "ministack" not in type(s3_server).__name__.lower():
        pytest.skip("only MiniStack has an archive")
    written = StorageSettings(store=settings, owner="www.example.org", cache_dir=tmp_path / "cache")
    db = ZODB.DB(open_storage(FileStorage(str(tmp_path / "Data.fs")), written))
    commit_blobs(db, one=b"1" * 1000, two=b"2" * 2000, three=b"3" * 3000)
    db.close()
    client = raw_client(settings)
    prefix = f"{settings.prefix}/blobs/" if settings.prefix else "blobs/"
    listed = client.list_objects_v2(Bucket=bucket, Prefix=prefix)["Contents"]
    for line in listed:
        if line["Size"] > 1000:
            client.copy_object(
                Bucket=bucket,
                Key=line["Key"],
                CopySource={"Bucket": bucket, "Key": line["Key"]},
                StorageClass="DEEP_ARCHIVE" if line["Size"] == 3000 else "GLACIER",
                MetadataDirective="COPY",
            )
    path = tmp_path / "site.conf"
    base = f"<filestorage>\n  path {tmp_path}/Data.fs\n</filestorage>"
    path.write_text(
        "%import collective.s3blobstorage\n" + section(settings, tmp_path / "cache", base, "owner www.example.org")
    )
    return path


def command(path, settings, *arguments):
    return s3blobs("--config", path, "restore-archived", *arguments, env=keys_of(settings))


def keys_by_size(store):
    return {line.size: line.key for line in store.list("blobs/")}


def test_who_reads_one_is_told_what_to_do(site, settings, tmp_path):
    with pytest.raises(Archived, match="s3blobs restore-archived"):
        store = open_store(settings)
        store.get_bytes(keys_by_size(store)[2000])
    cold = StorageSettings(store=settings, owner="www.example.org", cache_dir=tmp_path / "other cache")
    db = ZODB.DB(open_storage(FileStorage(str(tmp_path / "Data.fs")), cold))
    with db.transaction() as connection:
        root = connection.root()
        assert root["one"].open().read() == b"1" * 1000
        for name in ("two", "three"):
            with pytest.raises(Archived) as caught, root[name].open() as file:
                file.read()
            assert settings.bucket not in str(caught.value)
    db.close()


def test_they_are_found_asked_for_and_read_again(site, settings):
    shown = command(site, settings, "--dry-run", "--json")
    told = document(shown)
    assert shown.returncode == 1 and told["archived"] == {"blobs": 2, "bytes": 5000}
    assert told["classes"] == {"GLACIER": 1, "DEEP_ARCHIVE": 1} and told["begun"]["blobs"] == 0
    asked = command(site, settings, "--days", "3")
    assert asked.returncode == 1, asked.stderr
    assert "2 blobs, 4.9 KB" in asked.stdout and "asked for" in asked.stdout
    store = open_store(settings)
    for _ in range(300):
        states = [store.restore(key, 3) for size, key in keys_by_size(store).items() if size > 1000]
        if set(states) == {Restoring.READABLE}:
            break
        assert set(states) <= {Restoring.UNDER_WAY, Restoring.READABLE}
        time.sleep(0.1)
    else:
        pytest.fail("the store did not restore them")
    again = command(site, settings)
    assert again.returncode == 0 and "readable" in again.stdout and "for 7 days from now" in again.stdout
    assert store.get_bytes(keys_by_size(store)[3000]) == b"3" * 3000
    assert store.restore(keys_by_size(store)[1000], 3) is Restoring.NOT_ARCHIVED
    store.close()


def test_a_range_of_oids(site, settings):
    store = open_store(settings)
    oid = keys_by_size(store)[3000].split("/")[1]
    store.close()
    told = document(command(site, settings, "--dry-run", "--json", "--oid-range", f"{oid}-{oid}"))
    assert told["archived"] == {"blobs": 1, "bytes": 3000}


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (answer(403, "AccessDenied"), "allow s3:RestoreObject"),
        (answer(501, "NotImplemented"), "has no archive"),
    ],
)
def test_stores_that_refuse_say_why(site, settings, proxy, tmp_path, fault, says):
    path = tmp_path / "by-proxy.conf"
    path.write_text(site.read_text().replace(settings.endpoint_url, proxy.endpoint_url))
    proxy.fail(fault, target="restore", times=9)
    result = command(path, dataclasses.replace(settings, endpoint_url=proxy.endpoint_url))
    assert result.returncode == 1 and says in result.stdout


def test_others_are_exported_and_verified_all_the_same(site, settings, tmp_path):
    exported = s3blobs("--config", site, "export", "--to", tmp_path / "out", "--json", env=keys_of(settings))
    assert exported.returncode == 1, exported.stderr
    told = document(exported)
    assert told["written"]["blobs"] == 1 and told["failed"] == 2 and told["missing"] == 0
    assert {problem["detail"] for problem in told["problems"]} == {str(Archived())}
    verifying = ("migrate", "--from", tmp_path / "out", "--compare", "--verify", "--json")
    verified = s3blobs("--config", site, *verifying, env=keys_of(settings))
    assert verified.returncode == 1, verified.stderr
    told = document(verified)
    assert told["verified"]["blobs"] == 1 and told["failed"] == 2


def test_files_of_a_directory_stay_while_the_bucket_has_blobs_in_an_archive(site, settings, tmp_path):
    s3blobs("--config", site, "export", "--to", tmp_path / "out", env=keys_of(settings))
    files = [path for path in (tmp_path / "out").rglob("*.blob")]
    purge = ("migrate", "--from", tmp_path / "out", "--purge-source")
    result = s3blobs("--config", site, *purge, env=keys_of(settings), input="www.example.org\n")
    assert result.returncode == 1 and "nothing was deleted: 2 blobs of the bucket lie in an archive" in result.stderr
    assert len(files) == 1 and files[0].exists()


def test_what_is_gone_meanwhile_or_in_no_archive_any_more_is_waited_for_by_nobody(site, settings, proxy, tmp_path):
    path = tmp_path / "by-proxy.conf"
    path.write_text(site.read_text().replace(settings.endpoint_url, proxy.endpoint_url))
    proxy.fail(answer(404, "NoSuchKey"), target="restore", times=1)
    proxy.fail(answer(403, "InvalidObjectState"), target="restore", nth=2, times=1)
    result = command(path, dataclasses.replace(settings, endpoint_url=proxy.endpoint_url), "--json")
    assert document(result)["gone"]["blobs"] == 2 and result.returncode == 0


def test_a_check_takes_none_for_damaged_and_brings_none_back(site, settings):
    store = open_store(settings)
    before = {line.key: (line.etag, line.last_modified, line.storage_class) for line in store.list("blobs/")}
    checked = s3blobs("--config", site, "fsck", "--deep", "--repair", "--json", env=keys_of(settings))
    told = document(checked)
    assert checked.returncode == 2 and set(told["found"].values()) == {0} and told["unknown"] == 2
    assert {each["reason"] for each in told["unknown_of"]} == {str(Archived())}
    assert {line.key: (line.etag, line.last_modified, line.storage_class) for line in store.list("blobs/")} == before
    store.close()


def test_where_the_owner_marker_lies_there_too_it_is_asked_for_first(site, settings, bucket):
    client, key = raw_client(settings), f"{settings.prefix}/.s3blobs.json".lstrip("/")
    client.copy_object(
        Bucket=bucket,
        Key=key,
        CopySource={"Bucket": bucket, "Key": key},
        StorageClass="GLACIER",
        MetadataDirective="COPY",
    )
    told = document(command(site, settings, "--dry-run", "--json"))
    assert told["beside"] and told["archived"]["blobs"] == 1 and told["begun"]["blobs"] == 0
    asked = command(site, settings, "--json")
    assert asked.returncode == 1 and "run it again when it can be read" in asked.stderr
    assert document(asked)["begun"]["blobs"] == 1
    deadline = time.monotonic() + 30
    while (told := document(command(site, settings, "--json")))["beside"] and time.monotonic() < deadline:
        time.sleep(0.1)
    assert told["archived"]["blobs"] == 2 and told["begun"]["blobs"] == 2
