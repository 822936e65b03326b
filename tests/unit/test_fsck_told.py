"""What the reports of several runs say is wrong now: the newest first, as the bucket has them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from collective.s3blobstorage.maintenance.fsck.told import RUNS, told_by
from collective.s3blobstorage.maintenance.jobs.interfaces import CANCELLED, DONE, FAILED, RUNNING, Job

AT = datetime(2026, 11, 27, 8, 30, tzinfo=UTC)


def finding(oid, kind="missing", tid="0x01", repair=None):
    return {"oid": oid, "tid": tid, "kind": kind, "repair": repair and {"what": repair}}


def run(number, *findings, state=DONE, deep=False, sample=100.0, unknown=0, **more):
    found: dict[str, int] = {"missing": 0}
    repaired: dict[str, int] = {}
    for each in findings:
        found[each["kind"]] = found.get(each["kind"], 0) + 1
        if each["repair"]:
            repaired[each["repair"]["what"]] = repaired.get(each["repair"]["what"], 0) + 1
    result = {"found": found, "findings": list(findings), "repaired": repaired or None, "unknown": unknown}
    options = {"deep": deep, "sample": sample} | ({"after": more.pop("after")} if "after" in more else {})
    ended = None if state == RUNNING else AT
    return Job(f"fsck-{number}", "fsck", state, options, AT, AT, ended=ended, result={**result, **more})


def wrong(*jobs):
    return sorted(oid for oid, _ in told_by(jobs).findings)


def test_nobody_looked():
    for jobs in ([], [run(1, finding("0x1"), state=RUNNING)], [run(1, finding("0x1"), state=FAILED)]):
        told = told_by(jobs)
        assert told.last is None and not told.findings


def test_the_last_one_that_came_to_its_end_counts():
    jobs = [
        run(4, finding("0x4"), state=CANCELLED, stopped=True),
        run(3, finding("0x3"), outage="the store was out"),
        run(2, finding("0x1"), finding("0x2", "truncated", repair="not repaired"), unknown=5),
        run(1, finding("0x9")),
    ]
    told = told_by(jobs)
    assert wrong(*jobs) == ["0x1", "0x2"]
    assert told.last == {
        "job": "fsck-2", "at": "2026-11-27T08:30:00+00:00", "deep": False, "read": 0,
        "found": {"missing": 1, "truncated": 1}, "repaired": 0, "wrong": 2, "unknown": 5, "earlier": 0,
    }  # fmt: skip


def test_what_was_repaired_is_not_told_and_what_would_be_is():
    jobs = [run(1, finding("0x1", repair="repaired"), finding("0x2", repair="would be repaired"))]
    assert wrong(*jobs) == ["0x2"]
    assert (told_by(jobs).last["wrong"], told_by(jobs).last["repaired"]) == (1, 1)


def test_also_by_a_run_that_was_stopped():
    jobs = [
        run(2, finding("0x1", repair="repaired"), finding("0x7"), state=CANCELLED, stopped=True),
        run(1, finding("0x1"), finding("0x2")),
    ]
    assert wrong(*jobs) == ["0x2"]


@pytest.mark.parametrize("later", [{}, {"deep": True, "sample": 5.0}, {"deep": True, "after": "blobs/00/a"}])
def test_what_only_reading_tells_stays_until_all_is_read(later):
    deep = run(1, finding("0x1", "wrong-bytes"), finding("0x2", "missing"), deep=True)
    jobs = [run(2, finding("0x3"), **later), deep]
    assert wrong(*jobs) == ["0x1", "0x3"]
    assert (told_by(jobs).last["wrong"], told_by(jobs).last["earlier"]) == (1, 1)
    assert wrong(run(3, deep=True), *jobs) == []
    assert wrong(run(3, finding("0x1", "wrong-bytes", repair="repaired"), **later), *jobs) == []


def test_another_revision_is_another_one():
    told = told_by([run(2, finding("0x1", tid="0x02", repair="repaired"), deep=True)])
    assert not told.findings
    jobs = [
        run(2, finding("0x1", "wrong-bytes", tid="0x02", repair="repaired")),
        run(1, finding("0x1", "wrong-bytes"), deep=True),
    ]
    assert list(told_by(jobs).findings) == [("0x1", "0x01")]


def test_no_run_is_read_behind_one_that_read_everything():
    def jobs():
        yield run(3, deep=True)
        raise AssertionError("an older one was asked for")

    assert told_by(jobs()).last["job"] == "fsck-3" and RUNS > 1


@pytest.mark.parametrize(
    "result", [{}, {"findings": None}, {"findings": [{}], "found": {}}, {"findings": [], "found": 7}]
)
def test_a_report_of_something_else_hides_no_other(result):
    odd = Job("fsck-2", "fsck", DONE, {}, AT, AT, ended=AT, result=result)
    assert wrong(odd, run(1, finding("0x1"))) == ["0x1"]


def test_all_findings_of_a_run_count_also_those_that_its_report_does_not_have():
    jobs = [run(2, finding("0x1"), findings_kept=3), run(1, finding("0x9"))]
    more = {"fsck-2": [finding("0x1"), finding("0x2"), finding("0x3", repair="repaired")]}
    told = told_by(jobs, lambda job: more.get(job.id) or job.result["findings"])
    assert sorted(oid for oid, _ in told.findings) == ["0x1", "0x2"]
