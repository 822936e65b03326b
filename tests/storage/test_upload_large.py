"""A direct upload beyond what one request copies: its bytes go to the store, inside the store, and nowhere else."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from contextlib import closing

import pytest
from browser import send
from sites import bucket_keys, raw_client, unfinished_uploads
from test_large import MINISTACK_MB, ceph_store
from test_streamed_copy import Made, peak, reset_peak

from collective.s3blobstorage.directupload.area import UploadArea
from collective.s3blobstorage.keys import blob_key
from collective.s3blobstorage.objectstore import open_store
from collective.s3blobstorage.settings import UploadSettings

MB = 1024 * 1024
TARGET = blob_key(b"\0" * 7 + b"\1", "a" * 32)


def bytes_of(store):
    """Data that this process sent to the store and got from it."""
    return sum(value for name, value in store.traffic.snapshot().items() if name.endswith(".bytes"))


@pytest.mark.large
@pytest.mark.clear
def test_from_the_browser_to_a_blob(request, tier):
    """Above 5 GiB (tier full, on Ceph) by a multipart copy. This process gets a few kilobytes of it."""
    size = tier["upload_mb"] * MB + 12345
    if size <= MINISTACK_MB * MB:
        settings = request.getfixturevalue("settings")
    else:
        free = shutil.disk_usage(tempfile.gettempdir()).free
        if free < 3 * size:  # Ceph's disk, with the upload and its copy
            pytest.skip(f"{3 * size // MB} MB of disk are needed, {free // MB} MB are free")
        settings = ceph_store(request.getfixturevalue("ceph"), "large-uploads")
    made = Made(size)
    with closing(open_store(settings)) as store:
        area = UploadArea(store, UploadSettings())
        upload = area.begin(size)
        assert upload.parts > 1
        digest = hashlib.sha256()
        reset_peak()
        before = peak()
        for number in range(1, upload.parts + 1):
            start, length = (number - 1) * upload.part_size, upload.size_of(number)
            data = b"".join(made.read(MB, at) for at in range(start, start + length, MB))[:length]
            digest.update(data)
            assert send(area.part_request(upload, number, seconds=600), data) == 200
        before_finish = bytes_of(store)
        staged = area.finish(upload)
        assert staged.beginning() == made.read(4096, 0)
        copied = staged.copy_to(TARGET, {"oid": "0000000000000001"})
        assert copied.size == size
        assert bytes_of(store) - before_finish == 4096  # and nothing else came here or was sent from here
        found = hashlib.sha256()
        store.get_range(TARGET, 0, size, found.update, size=size)
        assert found.digest() == digest.digest()
        area.drop(upload)
        assert peak() - before < 200 * MB
    assert bucket_keys(settings) == [TARGET]
    assert unfinished_uploads(settings) == []
    raw_client(settings).delete_object(Bucket=settings.bucket, Key=TARGET)
