"""Whose folder it is: the marker, foreign folders, several stores in one cache-dir."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time

import pytest

from collective.s3blobstorage.cache import BlobCache
from collective.s3blobstorage.cache.layout import FORMAT, Layout
from collective.s3blobstorage.errors import ConfigurationError

MB = 1024 * 1024
REVISION = bytes(8), bytes(8)


def open_cache(root, identity="store"):
    return BlobCache(root, identity, size=MB)


def only_store(root):
    (folder,) = (path for path in root.iterdir() if path.name != "cleaner.lock")
    return folder


def test_stores_with_other_identities_share_a_folder_without_mixing(tmp_path):
    one, two = open_cache(tmp_path, "one"), open_cache(tmp_path, "two")
    one.fetch(*REVISION, lambda file: file.write(b"one"))
    assert two.get(*REVISION) is None
    two.fetch(*REVISION, lambda file: file.write(b"two"))
    assert one.get(*REVISION).read_bytes() == b"one"
    assert two.get(*REVISION).read_bytes() == b"two"
    one.close()
    assert two.get(*REVISION).read_bytes() == b"two"
    two.close()


def test_the_folder_is_found_again(tmp_path):
    cache = open_cache(tmp_path)
    cache.fetch(*REVISION, lambda file: file.write(b"kept"))
    cache.close()
    cache = open_cache(tmp_path)
    assert cache.get(*REVISION).read_bytes() == b"kept"
    cache.close()
    assert json.loads((only_store(tmp_path) / "cache.json").read_text())["format"] == FORMAT


def test_a_blob_directory_of_zodb_is_refused(tmp_path):
    (tmp_path / ".layout").write_text("bushy\n")
    with pytest.raises(ConfigurationError, match="cache-dir .* ZODB blob directory"):
        open_cache(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".layout"]


def test_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigurationError, match="cache-dir .* is a file"):
        open_cache(tmp_path / "file")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (json.dumps({"kind": "collective.s3blobstorage cache", "format": FORMAT + 1}), "cache-dir .*newer release"),
        (json.dumps({"kind": "something else", "format": 1}), "cache-dir .* marked as something else"),
        (json.dumps({"format": 1}), "cache-dir .* marked as something else"),
        (json.dumps([1]), "cache-dir .* marked as something else"),
        ("", "cache-dir .* marked as something else"),
    ],
)
def test_a_marker_that_is_not_ours_is_refused(tmp_path, text, message):
    open_cache(tmp_path).close()
    (only_store(tmp_path) / "cache.json").write_text(text)
    with pytest.raises(ConfigurationError, match=message):
        open_cache(tmp_path)


def test_a_folder_with_files_and_no_marker_is_refused(tmp_path):
    open_cache(tmp_path).close()
    (only_store(tmp_path) / "cache.json").unlink()
    with pytest.raises(ConfigurationError, match="cache-dir .*holds files but no cache.json"):
        open_cache(tmp_path)


def test_a_marker_that_a_crash_left_half_made(tmp_path):
    open_cache(tmp_path).close()
    old, young = (only_store(tmp_path) / f"cache.json.{name}" for name in ("old", "young"))
    old.write_text("{")
    young.write_text("{")
    os.utime(old, (time.time() - 7200,) * 2)
    (only_store(tmp_path) / "cache.json").unlink()
    (only_store(tmp_path) / "history.json").unlink(missing_ok=True)  # which is written later
    for name in ("blobs", "processes"):
        shutil.rmtree(only_store(tmp_path) / name)
    cache = open_cache(tmp_path)
    cache.clean()
    assert cache.fetch(*REVISION, lambda file: file.write(b"x")).read_bytes() == b"x"
    cache.close()
    assert not old.exists() and young.exists()
    assert (only_store(tmp_path) / "cache.json").exists()


def test_other_files_beside_ours_are_left_alone(tmp_path):
    """zodb-s3blobs' own cache may lie there: its users change one word of their configuration."""
    other = tmp_path / "00" / "old.blob"
    other.parent.mkdir()
    other.write_bytes(b"x" * 2 * MB)
    cache = open_cache(tmp_path)
    cache.clean()
    cache.close()
    assert other.exists()


def test_many_may_make_the_folder_at_once(tmp_path):
    errors = []
    barrier = threading.Barrier(8)

    def prepare():
        barrier.wait()
        try:
            Layout(tmp_path / "new" / "deep", "store").prepare()
        except BaseException as error:
            errors.append(error)

    for _ in range(20):
        threads = [threading.Thread(target=prepare) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        (folder,) = (tmp_path / "new" / "deep").iterdir()
        assert sorted(path.name for path in folder.iterdir()) == ["blobs", "cache.json", "processes"]
        shutil.rmtree(tmp_path / "new")
