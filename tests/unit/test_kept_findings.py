"""Findings that are kept beside their job, as an object."""

from __future__ import annotations

import json

import pytest

from collective.s3blobstorage.errors import RecordError
from collective.s3blobstorage.maintenance.jobs import kept_findings
from collective.s3blobstorage.maintenance.jobs.job import CANCEL, FINDINGS, job_key, read_job_key
from collective.s3blobstorage.maintenance.jobs.kept_findings import packed, unpacked

FOUND = [{"oid": f"0x{number:x}", "kind": "missing", "path": "größe\u2028\n"} for number in range(5)]


def lines():
    return (json.dumps(each, ensure_ascii=False) for each in FOUND)


def test_they_come_back():
    data, count = packed(lines())
    assert (unpacked(data), count) == (FOUND, 5)
    assert unpacked(packed([])[0]) == []


def test_up_to_the_bound(monkeypatch):
    monkeypatch.setattr(kept_findings, "KEPT", 3)
    data, count = packed(lines())
    assert (unpacked(data), count) == (FOUND[:3], 3)


@pytest.mark.parametrize(
    "damaged",
    [
        *(b"", b"[]\n", b"7\n", b"{}\n", b'{"format":1,"findings":1}\n7\n'),
        *(packed(lines())[0][:-10], packed(lines())[0] + b"{}\n"),
    ],
)
def test_one_that_is_damaged_or_cut_is_none(damaged):
    with pytest.raises(RecordError, match="damaged"):
        unpacked(damaged)


def test_one_of_a_newer_release_says_so():
    with pytest.raises(RecordError, match="newer release"):
        unpacked(b'{"format": 2, "findings": 0}\n')


def test_their_key_is_the_jobs():
    key = job_key("fsck", 12)
    assert [read_job_key(key + what) for what in ("", CANCEL, FINDINGS, ".else", "0")] == [
        ("fsck", 12, ""), ("fsck", 12, CANCEL), ("fsck", 12, FINDINGS), None, None,
    ]  # fmt: skip
