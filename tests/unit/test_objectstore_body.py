"""A window on a file as the body of a request."""

from __future__ import annotations

import os

import pytest

from collective.s3blobstorage.objectstore.body import FileWindow
from collective.s3blobstorage.objectstore.content import FileContent
from collective.s3blobstorage.objectstore.interfaces import Cancelled

DATA = bytes(range(200))


@pytest.fixture
def descriptor(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(DATA)
    opened = os.open(path, os.O_RDWR)
    yield opened
    os.close(opened)


def test_reads_its_part_only(descriptor):
    window = FileWindow(FileContent(descriptor).reader(), 50, 100)
    assert len(window) == 100
    assert window.read(30) == DATA[50:80]
    assert window.tell() == 30
    assert window.read() == DATA[80:150]
    assert window.read() == window.read(5) == b""
    window.seek(0)
    assert window.read(-1) == DATA[50:150]
    assert window.seek(0, os.SEEK_END) == 100
    assert window.seek(-10, os.SEEK_CUR) == 90
    assert window.read() == DATA[140:150]


def test_an_empty_body_is_a_body(descriptor):
    window = FileWindow(FileContent(descriptor).reader(), 0, 0)
    assert window and len(window) == 0 and window.read() == b""


def test_two_windows_share_a_descriptor(descriptor):
    first, second = (
        FileWindow(FileContent(descriptor).reader(), 0, 100),
        FileWindow(FileContent(descriptor).reader(), 100, 100),
    )
    assert first.read(10) + second.read(10) + first.read(10) == DATA[:10] + DATA[100:110] + DATA[10:20]


def test_progress_counts_what_is_sent_and_takes_back_a_failed_attempt(descriptor):
    counted: list[int] = []
    window = FileWindow(FileContent(descriptor).reader(), 0, 200, progress=counted.append)
    window.read()  # for the signature
    window.seek(0)
    assert counted == []
    window.sending()
    window.read(120)
    window.read(50)
    assert counted == [120, 50]
    window.take_back()
    window.take_back()
    assert counted == [120, 50, -170]


def test_cancelled_between_blocks(descriptor):
    answers = iter([False, True])
    window = FileWindow(FileContent(descriptor).reader(), 0, 200, cancelled=lambda: next(answers))
    assert len(window.read(10)) == 10
    with pytest.raises(Cancelled):
        window.read(10)
    assert isinstance(window.stopped, Cancelled)


def test_a_file_that_became_shorter_is_an_error_not_an_endless_wait(descriptor):
    window = FileWindow(FileContent(descriptor).reader(), 0, 200)
    window.read(100)
    os.ftruncate(descriptor, 100)
    with pytest.raises(OSError, match="shorter"):
        window.read(10)
    assert isinstance(window.stopped, OSError)
