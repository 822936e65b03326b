"""What the page “Status” says of a document, and what it says where the document does not know."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collective.s3blobstorage.controlpanel import rows
from collective.s3blobstorage.controlpanel.kinds import DESCRIPTIONS, REPAIRS, STATES, TITLES, WRONG
from collective.s3blobstorage.controlpanel.results import LABELS, report_table, result_rows
from collective.s3blobstorage.controlpanel.words import Words
from collective.s3blobstorage.maintenance.findings import Findings, document
from collective.s3blobstorage.maintenance.fsck import finding, mend
from collective.s3blobstorage.maintenance.gc.report import Outcome, SharedTally, Tally
from collective.s3blobstorage.maintenance.jobs import interfaces as jobs
from collective.s3blobstorage.maintenance.rotate import Report, as_json
from collective.s3blobstorage.objectstore.traffic import VERBS
from collective.s3blobstorage.status.reduced import UNKNOWN, reduced

NOW = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
WORDS = Words("en", NOW)


def iso(**before):
    return (NOW - timedelta(**before)).isoformat()


def text(value):
    """A message or text as it is read, in English and with plain spaces."""
    told = str(value)
    for name, each in (getattr(value, "mapping", None) or {}).items():
        told = told.replace(f"${{{name}}}", text(each))
    return told.replace("\N{NO-BREAK SPACE}", " ")


def said(lines):
    return {text(row.label): text(row.value) for row in lines}


FIGURES = {
    "at": iso(hours=5),
    "by": "gc",
    "blobs": {"objects": 1_004_223, "bytes": 913 * 10**9},
    "zodb_s3blobs": {"objects": 0, "bytes": 0},
    "addons": {"objects": 12, "bytes": 4000},
    "direct_uploads": {"objects": 3, "bytes": 5 * 10**9, "unfinished": 2},
    "bookkeeping": {"objects": 41, "bytes": 400_000},
    "other": {"objects": 0, "bytes": 0},
    "total": {"objects": 1_004_276, "bytes": 913 * 10**9},
    "uploads": {"count": 2, "oldest": iso(hours=2)},
}
HISTORY = [{"at": iso(minutes=10 * slot), "hits": 9, "misses": 1, "downloads": 1, "bytes": 1} for slot in range(144)][
    ::-1
]


def test_files_that_were_counted():
    told = said(rows.file_rows({"figures": FIGURES}, WORDS))
    assert told == {
        "Files in the bucket": "1,004,223 (913 GB)",
        "Of add-ons": "12 (4 kB)",
        "Sent by browsers, and not completed": "3 (5 GB)",
        "Unfinished uploads of browsers": "2",
        "Notes of this add-on": "41 (400 kB)",
        "Counted": "5 h ago",
        "Uploads that are not finished": "2",
    }


def test_files_that_share():
    shared = {"shared": {"objects": 7, "bytes": 4000}, "references": {"objects": 1203, "bytes": 0}, "saved": 10**9}
    told = said(rows.file_rows({"figures": FIGURES | shared}, WORDS))
    assert told["Shared by equal files"] == "7 (4 kB)"
    assert (told["Files that share"], told["Saved by sharing"]) == ("1,203", "1 GB")


def test_files_that_nobody_counted():
    told = said(rows.file_rows({"figures": None, "outside": None, "sources": [{"name": "old"}]}, WORDS))
    assert set(told.values()) == {"not counted yet"}
    assert "Files that are only in a source" in told


def test_a_store_that_may_not_list_uploads():
    told = said(rows.file_rows({"figures": FIGURES | {"uploads": None}}, WORDS))
    assert told["Uploads that are not finished"] == "not known"


def test_the_bucket():
    store = dict.fromkeys(("prefix", "endpoint", "region", "provider", "owner"), None) | {
        "bucket": "b",
        "read_only": True,
    }
    told = said(rows.store_rows({"store": store, "database": "main", "base": "filestorage"}))
    assert told["Bucket"] == "b" and told["Address of the store"] == "Amazon S3"
    assert told["Region"] == told["Kind of store"] == "not known"
    assert "no owner" in told["Belongs to"] and "read-only" in told["Changes"]
    assert told["Database"] == "main (FileStorage)"


@pytest.mark.parametrize(("reachable", "word"), [(True, "yes"), (False, "no,"), (None, "not asked yet")])
def test_whether_the_store_answers(reachable, word):
    assert text(rows.health_rows({"reachable": reachable}, WORDS)[0].value).startswith(word)


ACTIVE = "active: new files are encrypted with it"
KEY = {"id": "k1", "state": "active", "in_configuration": True, "writes": True, "age_days": 400}


@pytest.mark.parametrize(
    ("key", "line"),
    [
        (
            KEY | {"objects": 7, "bytes": 7000},
            ("k1", ACTIVE, "400", "7", "7 kB"),
        ),
        (KEY, ("k1", ACTIVE, "400", "not counted yet", "not counted yet")),
        (
            KEY | {"in_configuration": False},
            ("k1", "missing in zope.conf", "400", "not counted yet", "not counted yet"),
        ),
        (
            KEY | {"in_configuration": False, "state": "retired", "age_days": None, "objects": 0, "bytes": 0},
            ("k1", "retired: no file needs it", "not known", "0", "0 bytes"),
        ),
    ],
)
def test_a_key(key, line):
    table = rows.key_table({"encryption": {"keys": [key], "key_max_age": 0}}, WORDS)
    assert tuple(text(cell) for cell in table.lines[0]) == line


def test_a_key_that_is_too_old_says_which_setting_says_so():
    table = rows.key_table({"encryption": {"keys": [KEY], "key_max_age": 86400.0}}, WORDS)
    assert "key-max-age" in text(table.lines[0][2])


def test_the_hit_rate_is_a_chart_and_a_table_with_the_same_figures():
    document = {"at": NOW.isoformat(), "cache": {"day": {"hits": 1296, "misses": 144}, "history": HISTORY}}
    rate = rows.rate_chart(document, WORDS, "day", str, str)
    assert rate["chart"].count("<rect") == len(rate["table"].lines) == 24
    assert sum(int(line[1]) for line in rate["table"].lines) == 1296
    assert {text(line[3]) for line in rate["table"].lines} == {text(rate["share"])} == {"90 %"}


def test_the_hour_has_the_hour_only():
    document = {"at": NOW.isoformat(), "cache": {"hour": {"hits": 63, "misses": 7}, "history": HISTORY}}
    assert len(rows.rate_chart(document, WORDS, "hour", str, str)["table"].lines) == 7


@pytest.mark.parametrize("told", [None, {"hits": 0, "misses": 0}])
def test_a_cache_that_nobody_read_has_no_rate(told):
    rate = rows.rate_chart({"cache": {"hour": told, "history": HISTORY}}, WORDS, "hour", str, str)
    assert (rate["chart"], rate["share"]) == ("", "") and text(rate["said"]) == "Nothing was read."


def test_requests():
    verbs = {
        "get": {"requests": 1200, "errors": 3, "bytes": 10**9, "p50": 0.02, "p95": 0.1, "p99": 1.5},
        "list": {"requests": 0, "errors": 0, "bytes": 0, "p50": None, "p95": None, "p99": None},
    }
    table = rows.request_table({"requests": {"verbs": verbs, "all": verbs["get"]}}, WORDS)
    assert [text(line[0]) for line in table.lines] == ["Reading", "All"]
    assert [text(cell) for cell in table.lines[0][1:]] == ["1,200", "3", "1 GB", "20 ms", "100 ms", "1.5 s"]
    assert rows.request_table({"requests": {"verbs": {}, "all": verbs["list"]}}, WORDS) is None


def test_every_verb_that_is_counted_has_a_word():
    assert set(rows.VERBS) == {*VERBS, "all"}


PARTS = (
    lambda document: rows.store_rows(document),
    lambda document: rows.health_rows(document, WORDS),
    lambda document: rows.file_rows(document, WORDS),
    lambda document: rows.encryption_rows(document, WORDS),
    lambda document: rows.cache_rows(document, WORDS),
    lambda document: rows.source_table(document),
    lambda document: rows.key_table(document, WORDS),
    lambda document: rows.request_table(document, WORDS),
    lambda document: rows.cache_meter(document, WORDS, str),
    lambda document: rows.rate_chart(document, WORDS, "day", str, str),
    lambda document: rows.covers(document, WORDS),
)


@pytest.mark.parametrize(
    ("told", "level", "word"),
    [
        ({}, "good", "all is there"),
        ({"deep": True}, "good", "all is there, and was read"),
        ({"unknown": 4}, "look", "could not be told: 4"),
        ({"wrong": 2, "unknown": 4}, "bad", "missing or damaged: 2"),
        ({"earlier": 3}, "bad", "nothing new; damaged, as one before it read: 3"),
    ],
)
def test_the_last_check_of_every_file(told, level, word):
    last = {"job": "fsck-7", "at": iso(hours=3), "deep": False, "wrong": 0, "unknown": 0, "earlier": 0, **told}
    row = rows.health_rows({"jobs": {}, "fsck": last}, WORDS)[-1]
    assert (text(row.label), text(row.value)) == ("Last check of every file", "3 h ago")
    assert (row.level, text(row.note)) == (level, word)


def test_no_check_of_every_file():
    assert said(rows.health_rows({"jobs": {}, "fsck": None}, WORDS))["Last check of every file"] == "none yet"
    assert "Last check of every file" not in said(rows.health_rows(reduced({"jobs": {}, "fsck": {}}), WORDS))


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("document", [UNKNOWN, reduced(UNKNOWN), {}])
def test_nothing_is_known(part, document):
    for row in part(document) or ():
        if isinstance(row, rows.Row):
            assert row.value != "" and row.value is not None


def test_every_kind_and_state_of_a_job_has_words():
    assert set(TITLES) == set(DESCRIPTIONS) == set(jobs.KINDS)
    assert set(STATES) == {jobs.RUNNING, jobs.DONE, jobs.FAILED, jobs.CANCELLED, jobs.INTERRUPTED}


def test_a_plan_of_cleaning_up_is_read_row_by_row():
    result = {
        "dry_run": True,
        "plan": "20261126",
        "used": {"blobs": 1_004_223, "bytes": 913 * 10**9},
        "young": {"blobs": 0, "bytes": 0},
        "condemned": {"blobs": 30, "bytes": 123_456_789},
        "uploads": 0,
        "judged": 1_004_253,
        "share": 0.00003,
        "next_due": None,
        "refused": None,
        "stopped": False,
    }
    assert said(result_rows(result, WORDS)) == {
        "Needed": "1,004,223 (913 GB)",
        "To be deleted": "30 (123 MB)",
        "Judged": "1,004,253",
        "Share that would go": "<1 %",
    }


def test_a_plan_tells_of_what_is_shared():
    shared = SharedTally(references=1203, marks=2, saved=10**9)
    shared.used.blobs, shared.used.bytes = 7, 4000
    shared.condemned.blobs, shared.condemned.bytes = 1, 1000
    assert said(result_rows({"shared": asdict(shared)}, WORDS)) == {
        "Shared by equal files": "7 (4 kB)",
        "Shared by nobody, to be deleted": "1 (1 kB)",
        "Files that share": "1,203",
        "Marks": "2",
        "Saved by sharing": "1 GB",
    }


def test_a_plan_that_is_refused_says_so_where_it_is_seen():
    (row,) = result_rows({"refused": "more than 20% would go"}, WORDS)
    assert (text(row.label), row.value, row.level) == ("Cannot be done", "more than 20% would go", "look")


def test_what_was_copied_and_what_failed():
    findings = document(Findings(), "copied")
    findings["copied"] = {"blobs": 3, "bytes": 3000}
    findings["found"]["wanted"] = {"blobs": 4, "bytes": 4000}
    findings["problems"] = [{"what": "failed"}]
    assert said(result_rows(findings | {"failed": {"AccessDenied": 2}, "new": 7}, WORDS)) == {
        "To be copied": "4 (4 kB)",
        "Copied": "3 (3 kB)",
        "Problems": "1",
        "Failed": "AccessDenied: 2",
        "new": "7",  # what has no words is not lost
    }


REPAIRED = (mend.REPAIRED, mend.WOULD, mend.NOT, mend.CHANGED)


def test_every_finding_and_repair_has_words():
    assert set(WRONG) == set(finding.KINDS) and set(REPAIRS) == set(REPAIRED)


def test_what_was_read_has_words():
    report = finding.Report(reading=finding.Reading(by_record=1, by_metadata=2, by_size=3, sample=5.0))
    report.reading.objects.add(1000)
    shown = said(result_rows(finding.document(report), WORDS))
    assert len(shown) == 5 and not [label for label in shown if "." in label or "_" in label], shown


def test_every_part_of_a_report_has_words():
    reports = [
        {**asdict(Tally(shared=SharedTally())), "judged": 1, "share": 0.1, "refused": ""},
        asdict(Outcome()),
        document(Findings(), "copied"),
        document(Findings(), "uploaded"),
        as_json(Report()),
        finding.document(finding.Report(repaired=dict.fromkeys(REPAIRED, 1))),
    ]
    without = (
        "foreign_keys",
        "failures",
        "usage",
        "versions",
        "resumed_after",
        "findings",
        "unknown_of",
        "after",
        "read",
    )
    for report in reports:
        for name, value in report.items():
            nested = name in ("found", "extra", "repaired", "shared")
            parts = [f"{name}.{part}" for part in value] if nested else [name]
            for part in parts:
                assert part in LABELS or part in without, part


plain = st.recursive(
    st.none() | st.booleans() | st.integers(0, 10**15) | st.floats(0, 10**9) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(min_size=1, max_size=8), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text(min_size=1, max_size=8), plain, max_size=4))
def test_any_report_can_be_shown(result):
    for row in result_rows(result, WORDS):
        assert row.value is not None


@pytest.mark.parametrize(
    ("result", "head", "lines"),
    [
        (
            {
                "report": "largest",
                "lines": [
                    {"bytes": 2000, "oid": "00000000000000a1", "committed": "2026-11-27T10:00:00+00:00", "type": "File",
                     "path": "/site/film"},
                    {"bytes": 1000, "oid": "0000000000000000", "committed": None},
                ],
            },
            ["Content", "Type", "Stored", "Size"],
            [["/site/film", "File", "2026-11-27", "2\xa0kB"], ["0x0", "", "", "1\xa0kB"]],
        ),
        (
            {
                "report": "growth",
                "lines": [
                    {"month": "2026-11", "blobs": 1200, "bytes": 2000, "history_blobs": 1, "history_bytes": 0,
                     "total_bytes": 4000},
                ],
            },
            ["Month", "Files", "Size", "Of it only in the history", "In all"],
            [["2026-11", "1,200", "2\xa0kB", "0\xa0bytes", "4\xa0kB"]],
        ),
        (
            {"report": "types", "lines": [{"type": "File", "blobs": 2, "bytes": 9, "history_bytes": 3}]},
            ["Type", "Files", "Size", "Of it only in the history"],
            [["File", "2", "9\xa0bytes", "3\xa0bytes"]],
        ),
    ],
)  # fmt: skip
def test_a_report_is_a_table(result, head, lines):
    made = report_table({**result, "tid": "04" * 8, "more": 0}, WORDS)
    assert (made["head"], made["lines"]) == (head, lines)
    [row] = result_rows({**result, "tid": "04" * 8, "more": 0}, WORDS)
    assert (row.label, row.code) == ("As of the transaction", True)
