"""``maintenance/manifest.py``: the format that docs/manifest.md describes, and that no byte of one can be changed."""

from __future__ import annotations

import hashlib
import io
import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collective.s3blobstorage.errors import RecordError
from collective.s3blobstorage.maintenance.content import Content
from collective.s3blobstorage.maintenance.kept import KeptRevision
from collective.s3blobstorage.maintenance.manifest import Entry, Header, Manifest, write

DOCUMENT = (Path(__file__).parents[2] / "docs" / "manifest.md").read_text()
[VECTOR] = re.findall(r"```ndjson\n(.*?)```", DOCUMENT, re.DOTALL)

TID, EARLIER = bytes.fromhex("040d4acf813bf0cc"), bytes.fromhex("040d4acc00000000")
HEADER = Header("www.example.org", "main", TID, datetime(2026, 11, 27, 8, 5, tzinfo=UTC), "1.0.0")
ENTRIES = [
    Entry(
        KeptRevision(bytes(7) + b"\x07", TID, "5e0c" * 8, 1234, bytes(range(32))),
        f"blobs/{7:016x}/{'5e0c' * 8}",
        "2026/0a1b2c3d",
        Content("/Plone/news/größe", "Image", "image", False),
    ),
    Entry(KeptRevision(bytes(7) + b"\x09", EARLIER, None, None, None), f"blobs/{9:016x}/{EARLIER.hex()}", missing=True),
    Entry(
        KeptRevision(bytes(7) + b"\x0a", EARLIER, None, 4, hashlib.sha256(b"tiny").digest(), True),
        content=Content(None, "File", "file", True),
        data=b"tiny",
    ),
    Entry(KeptRevision(bytes(7) + b"\x0b", EARLIER, None, None, None, damaged="its name is '../x'")),
]


def written(header=HEADER, entries=ENTRIES):
    file = io.BytesIO()
    return file, write(file, header, entries)


def test_the_document_shows_what_is_written_and_it_is_read_again():
    file, totals = written()
    assert file.getvalue().decode() == VECTOR
    whole = Manifest.opened(file, "m")
    assert (whole.header, whole.totals, list(whole.entries())) == (HEADER, totals, ENTRIES)
    assert (totals.blobs, totals.bytes, totals.missing, totals.damaged) == (4, 1238, 1, 1)


def test_the_shared_object_of_a_record_is_told_and_nothing_else_is_taken_for_one():
    shared = f"{bytes(32).hex()}.12"
    revision = KeptRevision(bytes(7) + b"\x07", TID, "5e0c" * 8, 1234, bytes(32), object=shared)
    entry = Entry(revision, f"objects/00/00/{shared}")
    file, _ = written(entries=[entry])
    assert list(Manifest.opened(file, "m").entries()) == [entry]
    assert entry.to_json()["object"] == shared and "object" not in ENTRIES[0].to_json()
    for wrong in ("../x", f"{bytes(32).hex()}", f"{bytes(32).hex()}.012", 1):
        with pytest.raises(ValueError):
            Entry.from_json({**entry.to_json(), "object": wrong})


def test_the_digest_is_over_all_but_itself():
    """As ``head -c -78 FILE | sha256sum`` tells it."""
    data = written()[0].getvalue()
    assert data[-78:].decode() == f',"sha256":"{hashlib.sha256(data[:-78]).hexdigest()}"}}\n'
    assert "head -c -78" in DOCUMENT


@pytest.mark.parametrize("entries", [[], ENTRIES], ids=["empty", "four"])
def test_no_byte_can_be_changed(entries):
    """Each bit of each byte; whatever it then looks like, none is taken for a whole one."""
    data = written(entries=entries)[0].getvalue()
    for place in range(len(data)):
        for bit in range(8):
            changed = data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :]
            with pytest.raises(RecordError, match="cannot be used"):
                Manifest.opened(io.BytesIO(changed), "m")


def test_none_can_be_left_out_or_be_too_many():
    data = written()[0].getvalue()
    for place in range(len(data)):
        for changed in (data[:place], data[:place] + data[place + 1 :], data[:place] + b" " + data[place:]):
            with pytest.raises(RecordError, match="cannot be used"):
                Manifest.opened(io.BytesIO(changed), "m")


def test_a_count_that_is_wrong_is_refused_also_with_a_digest_of_its_own():
    data = written()[0].getvalue()
    counts = data[:-78].replace(b'{"blobs":4', b'{"blobs":3')
    changed = counts + b',"sha256":"%s"}\n' % hashlib.sha256(counts).hexdigest().encode()
    with pytest.raises(RecordError, match="says that it has 3 blobs, and has 4"):
        Manifest.opened(io.BytesIO(changed), "m")


@given(st.lists(st.text(max_size=20), max_size=5))
def test_any_path_is_read_again(paths):
    entries = [
        replace(ENTRIES[0], revision=replace(ENTRIES[0].revision, oid=number.to_bytes(8, "big")), content=content)
        for number, content in enumerate(Content(path, "Image", "image", False) for path in paths)
    ]
    file, _ = written(entries=entries)
    assert list(Manifest.opened(file, "m").entries()) == entries
