"""Jobs as every process sees them in the bucket: begun once, cancelled, killed, cut off, taken over."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import signal
import time
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from counting_work import Counting
from servers.faults import answer
from sites import bucket_keys, in_two_threads, store_as_json, wait_until
from test_kill import Child

from collective.s3blobstorage.errors import ConfigurationError, JobRuns, RecordError, S3BlobStorageError
from collective.s3blobstorage.keys import JOBS
from collective.s3blobstorage.maintenance.jobs import board, process
from collective.s3blobstorage.maintenance.jobs.board import Board
from collective.s3blobstorage.maintenance.jobs.interfaces import (
    CANCELLED,
    DONE,
    FAILED,
    INTERRUPTED,
    KINDS,
    RUNNING,
)
from collective.s3blobstorage.maintenance.jobs.job import job_document, job_key
from collective.s3blobstorage.maintenance.jobs.jobs import Jobs
from collective.s3blobstorage.objectstore import open_store

SOON = 4.0  # seconds without a sign of life, in place of five minutes


@pytest.fixture
def opened(settings):
    """Opens a store and its jobs with a work that counts, and closes them after the test."""
    ended = []

    def open_(counting=None, after=SOON, **changes):
        store = open_store(dataclasses.replace(settings, outage_patience=0.5, **changes))
        jobs = Jobs(store, (counting or Counting(5)).for_all(), interrupted_after=after)
        ended.append((jobs, store))
        return jobs

    yield open_
    for jobs, store in ended:
        jobs.close()
        store.close()


@pytest.fixture
def start_child(tmp_path):
    """Processes of ``job_child.py``."""
    started = []

    def start(settings, *, steps, after=SOON):
        child = Child(tmp_path / "tmp", str(Path(__file__).with_name("job_child.py")))
        started.append(child)
        child.tell(json.dumps({"store": store_as_json(settings), "steps": steps, "after": after}))
        child.hear("ready")
        return child

    yield start
    for child in started:
        child.kill()
        child.close()


def ended(jobs, id, seconds=20):
    wait_until(lambda: jobs.get(id).state != RUNNING, seconds)
    return jobs.get(id)


def test_a_job_from_its_beginning_to_its_end(opened, settings):
    counting = Counting(150)
    jobs, elsewhere = opened(counting), opened()
    job = jobs.start("count", {"share": 1}, by="an.operator")
    assert (job.id, job.state, job.by, job.host, job.pid) == (
        "count-1",
        RUNNING,
        "an.operator",
        os.uname().nodename,
        os.getpid(),
    )
    assert job.options == {"dry_run": True, "share": 1, "plan": None}
    # Another process sees its progress.
    wait_until(lambda: elsewhere.get("count-1").progress.done > 0)
    seen = elsewhere.get("count-1")
    assert (seen.state, seen.progress.phase, seen.progress.total) == (RUNNING, "counting", 150)
    assert seen.progress.done_bytes == seen.progress.done * 10
    assert elsewhere.latest()["count"][1].id == "count-1"
    job = ended(elsewhere, "count-1")
    assert (job.state, job.result, job.error) == (DONE, {"counted": 150}, "")
    assert [line.message for line in job.log] == ["counting"]
    assert job.started <= job.ended and job.progress.done == 150
    assert elsewhere.latest() == {**dict.fromkeys(KINDS, (None, None)), "count": (job, None)}
    assert elsewhere.list() == ([job], 1) == elsewhere.list("count")
    assert elsewhere.list("gc") == ([], 0)
    assert bucket_keys(settings) == [job_key("count", 1)]
    assert json.loads(json.dumps(job_document(job)))["result"] == {"counted": 150}


def test_one_of_a_kind(opened):
    jobs, elsewhere = opened(Counting(500)), opened(Counting(500))
    jobs.start("count", {})
    for others in (jobs, elsewhere):
        with pytest.raises(
            JobRuns, match=r"the job count-1 runs on .* since .* UTC: wait until it has ended"
        ) as caught:
            others.start("count", {})
        assert caught.value.id == "count-1"
    elsewhere.start("mirror", {})  # of another kind
    assert {job.id for job in jobs.list()[0]} == {"count-1", "mirror-1"}


def test_of_two_processes_that_start_at_once_one_does(settings, start_child):
    children = [start_child(settings, steps=20) for _ in range(3)]
    for child in children:
        child.tell()
    said = sorted(child.process.stdout.readline().strip() for child in children)
    assert said == ["count-1", "refused count-1", "refused count-1"]


def test_of_threads_that_start_at_once_one_does(opened):
    jobs, began = opened(Counting(200)), []

    def start(number):
        try:
            began.append(jobs.start("count", {}).id)
        except JobRuns:
            pass

    in_two_threads(start)
    assert began == ["count-1"]


def test_cancelled_by_its_own_process_and_by_another(opened):
    jobs, elsewhere = opened(Counting(3000)), opened()
    jobs.start("count", {})
    jobs.cancel("count-1")
    assert ended(jobs, "count-1", 5).state == CANCELLED
    jobs.start("count", {})
    elsewhere.cancel("count-2")
    assert elsewhere.get("count-2").cancelling
    job = ended(elsewhere, "count-2")
    assert (job.state, 0 < job.result["counted"] < 3000) == (CANCELLED, True)
    assert not [key for key in bucket_keys_of(elsewhere) if key.endswith(".cancel")]
    elsewhere.cancel("count-2")  # it has ended: no error, and nothing is left
    assert not [key for key in bucket_keys_of(elsewhere) if key.endswith(".cancel")]
    for wrong in ("count-99", "count-0", "count-01", "nothing-1", "count", "../gc-1", "count-²"):
        with pytest.raises(KeyError):
            elsewhere.cancel(wrong)
        with pytest.raises(KeyError):
            elsewhere.get(wrong)


def bucket_keys_of(jobs):
    return [line.key for line in jobs._store.list(JOBS)]


def test_what_fails_says_why(opened):
    jobs = opened(Counting(1, error=ConfigurationError("read-only is on: set it off")))
    jobs.start("count", {})
    job = ended(jobs, "count-1")
    assert (job.state, job.error, job.result) == (FAILED, "read-only is on: set it off", None)
    jobs = opened(Counting(1, error=ZeroDivisionError("a secret")))
    jobs.start("count", {})
    job = ended(jobs, "count-2")
    assert job.state == FAILED and "ZeroDivisionError" in job.error and "secret" not in repr(job)
    assert job.resumed is None  # it ended


def test_options_that_there_are_not(opened, settings):
    jobs = opened()
    for options, message in (
        ({"dryrun": True}, "there is no option 'dryrun'; there are: dry_run, share, plan"),
        ({"dry_run": 0}, "dry_run is true or false, and not 0"),
        ({"dry_run": "false"}, "dry_run is true or false"),
        ({"share": True}, "share is a number"),
        ({"share": 2.0}, "share is at most 1"),
        ({"plan": 3}, "plan is a text"),
    ):
        with pytest.raises(ValueError, match=message):
            jobs.start("count", options)
    with pytest.raises(ValueError, match="kind is one of gc, fsck, mirror"):
        jobs.start("format", {})
    assert bucket_keys(settings) == []


def test_where_nothing_can_be_started(opened, settings):
    jobs = opened()
    jobs._writable = False
    with pytest.raises(ConfigurationError, match="read-only off"):
        jobs.start("count", {})
    assert all("read-only" in kind.why_not for kind in jobs.kinds())
    jobs._writable = True
    jobs._store.conditional_put = False
    with pytest.raises(ConfigurationError, match="no atomic conditional write.*`s3blobs keys rotate`"):
        jobs.start("rotate", {})
    assert bucket_keys(settings) == []


@pytest.fixture
def uncertain(opened):
    """Opens jobs on a store that does not keep ``If-None-Match``."""

    def open_():
        jobs = opened()
        jobs._store.conditional_put = False
        return jobs

    return open_


def test_without_the_condition_the_command_line_runs_one(uncertain):
    jobs, elsewhere = uncertain(), uncertain()
    results = []

    def run(number):
        try:
            results.append((jobs, elsewhere)[number].run("rotate", {}, lambda running: {"of": number}))
        except JobRuns as error:
            results.append(str(error))

    in_two_threads(run)
    [refused] = [result for result in results if isinstance(result, str)]
    [done] = [result for result in results if not isinstance(result, str)]
    assert "began just now" in refused or "the job rotate-1 runs on" in refused
    job = jobs.get("rotate-1")
    assert (job.state, job.result) == (DONE, done) and jobs.list()[1] == 1
    assert elsewhere.run("rotate", {}, lambda running: {"of": 2}) == {"of": 2}


def test_without_the_condition_one_that_was_overwritten_stops(uncertain):
    """As by a process that stood still between its look and its write."""
    jobs, elsewhere = uncertain(), uncertain()

    def work(running):
        other = dataclasses.replace(elsewhere.get("rotate-1"), host="another", process="")
        Board(elsewhere._store).write(other, 1)
        assert running.stop.wait(20)
        return {"stopped": True}

    assert jobs.run("rotate", {}, work) == {"stopped": True}
    job = elsewhere.get("rotate-1")
    assert (job.host, job.state, job.result) == ("another", RUNNING, None)


@pytest.mark.parametrize("here", [True, False], ids=["on this machine", "elsewhere"])
def test_a_killed_one_is_interrupted_and_the_next_resumes_it(opened, settings, start_child, monkeypatch, here):
    after = 300.0 if here else SOON
    child = start_child(settings, steps=100_000)
    child.tell()
    child.hear("count-1")
    jobs = opened(after=after)
    if not here:  # whose processes nobody can ask
        monkeypatch.setattr(process, "_place", lambda: "another boot")
    wait_until(lambda: jobs.get("count-1").progress.done > 0)
    child.kill()
    if not here:
        with pytest.raises(JobRuns):
            jobs.start("count", {})
    job = ended(jobs, "count-1", 1 if here else SOON + 10)
    assert (job.state, job.ended) == (INTERRUPTED, job.beat)
    assert jobs.latest()["count"][0].state == INTERRUPTED
    assert jobs.start("count", {}).resumed == "count-1"
    assert ended(jobs, "count-2").state == DONE
    assert jobs.get("count-1").state == INTERRUPTED
    stored = json.loads(jobs._store.get_bytes(job_key("count", 1)))
    assert stored["state"] == INTERRUPTED


def test_one_that_slept_is_taken_over_and_stops_when_it_wakes(opened, settings, start_child):
    child = start_child(settings, steps=100_000)
    child.tell()
    child.hear("count-1")
    jobs = opened(Counting(100))
    child.process.send_signal(signal.SIGSTOP)
    wait_until(lambda: jobs.get("count-1").state == INTERRUPTED, SOON + 10)
    assert jobs.start("count", {}).resumed == "count-1"
    child.process.send_signal(signal.SIGCONT)
    assert child.process.stdout.readline().startswith("ended after ")  # long before it has counted all
    assert ended(jobs, "count-2").state == DONE
    assert jobs.get("count-1").state == INTERRUPTED


def test_one_that_is_cut_off_stops_before_another_may_begin(opened, settings, proxy):
    counting = Counting(100_000)
    jobs = opened(counting, endpoint_url=proxy.endpoint_url)
    jobs.start("count", {})
    elsewhere = opened()
    wait_until(lambda: elsewhere.get("count-1").progress.done > 0)
    rule = proxy.fail(answer(503), times=math.inf)
    wait_until(lambda: not jobs.running_here, 30)
    stopped = time.monotonic()
    wait_until(lambda: elsewhere.get("count-1").state == INTERRUPTED, SOON + 10)
    assert rule.hits
    assert time.monotonic() >= stopped
    assert counting.done < 100_000


def test_an_outage_that_passes_is_no_matter(opened, proxy):
    jobs = opened(Counting(250), after=60.0, endpoint_url=proxy.endpoint_url)
    jobs.start("count", {})
    rule = proxy.fail(answer(503), times=3)
    job = ended(jobs, "count-1")
    assert rule.hits == 3
    assert (job.state, job.result) == (DONE, {"counted": 250})


@pytest.mark.slow
def test_uploads_that_take_every_lane_do_not_silence_it(opened, tmp_path):
    """Slow ones do, as with --limit-rate: a sign of life must not wait for them."""
    file = tmp_path / "file"
    file.write_bytes(b"x" * (2 << 20))
    jobs, elsewhere = opened(upload_concurrency=1), opened()
    seen = []

    def look(sent):
        time.sleep(1.0)
        seen.append((sent, elsewhere.get("migrate-1").state))

    def work(running):
        jobs._store.put_file("blobs/0000000000000001/" + "a" * 32, file, metadata={}, progress=look)
        return {"stopped": running.stop.is_set()}

    assert jobs.run("migrate", {}, work) == {"stopped": False}
    assert len(seen) > 2 * SOON, "the upload has to last for longer than a job may be silent"
    assert {state for _, state in seen} == {RUNNING}
    assert jobs.get("migrate-1").state == DONE


def test_the_storage_closes(opened):
    jobs, elsewhere = opened(Counting(100_000)), opened()
    jobs.start("count", {})
    jobs.close()
    job = elsewhere.get("count-1")
    assert (job.state, job.ended is not None) == (INTERRUPTED, True)
    assert elsewhere.start("count", {}).resumed == "count-1"
    with pytest.raises(ConfigurationError, match="closed"):
        jobs.start("mirror", {})


def test_in_the_foreground(opened):
    jobs, elsewhere = opened(), opened()

    def work(running):
        assert elsewhere.get("gc-1").state == RUNNING
        running.log("half of it is done", "warning")
        return {"is": "done"}

    assert jobs.run("gc", {"dry_run": True}, work) == {"is": "done"}
    job = elsewhere.get("gc-1")
    assert (job.state, job.result, job.by) == (DONE, {"is": "done"}, "")
    assert [(line.level, line.message) for line in job.log] == [("warning", "half of it is done")]

    def fail(running):
        raise S3BlobStorageError("it cannot be done")

    with pytest.raises(S3BlobStorageError):
        jobs.run("gc", {}, fail)
    assert elsewhere.get("gc-2").error == "it cannot be done"


def test_no_secret_of_the_store_is_noted(opened, settings):
    """Whatever a source's, or a key provider's, error says."""
    jobs = opened()

    def fail(running):
        running.log(f"asked with {settings.secret_key}")
        raise S3BlobStorageError(f"{settings.secret_key} was refused")

    with pytest.raises(S3BlobStorageError):
        jobs.run("gc", {}, fail)
    document = jobs._store.get_bytes(job_key("gc", 1)).decode()
    assert "[hidden] was refused" in document and "asked with [hidden]" in document
    assert settings.secret_key not in document


def test_credentials_that_may_not_write_jobs(opened, proxy, settings):
    jobs = opened(endpoint_url=proxy.endpoint_url)
    proxy.fail(answer(403, "AccessDenied"), method="PUT", target="jobs/", times=math.inf)
    told = []
    assert jobs.run("gc", {}, lambda running: {"done": True}, complain=told.append) == {"done": True}
    assert len(told) == 1 and "jobs/" in told[0]


def test_what_is_old_goes_but_for_the_last(opened, settings, monkeypatch):
    jobs = opened(Counting(1))
    for _ in range(3):
        ended(jobs, jobs.start("count", {}).id)
    ended(jobs, jobs.start("gc", {}).id)
    monkeypatch.setattr(board, "KEPT", timedelta(seconds=0.5))
    time.sleep(2.5)  # the store's dates have seconds
    ended(jobs, jobs.start("count", {}).id)
    assert [job.id for job in jobs.list("count")[0]] == ["count-4", "count-3"]
    assert [job.id for job in jobs.list("gc")[0]] == ["gc-1"]


def test_the_newest_come_first_in_pages(opened):
    jobs = opened(Counting(1, pause=0))
    for _ in range(5):
        ended(jobs, jobs.start("count", {}).id)
    first, count = jobs.list(size=2)
    second, _ = jobs.list(start=2, size=2)
    assert count == 5
    assert [job.id for job in first + second] == ["count-5", "count-4", "count-3", "count-2"]


def test_a_page_waits_for_few_round_trips(opened, proxy):
    """Who opens the page waits for it: jobs are read side by side."""
    jobs = opened(Counting(0), endpoint_url=proxy.endpoint_url)
    for _ in range(8):
        ended(jobs, jobs.start("count", {}).id)
    for kind in ("gc", "mirror", "rotate"):
        ended(jobs, jobs.start(kind, {}).id)
    jobs.list()  # connections are open
    proxy.round_trip(200)
    one = _seconds(lambda: jobs.get("count-8"))  # a listing and a job
    assert _seconds(jobs.list) < 4 * one  # a listing and eleven, in two rounds, and connections; one by one it is six


def _seconds(work):
    started = time.monotonic()
    work()
    return time.monotonic() - started


def test_what_another_release_wrote_or_nobody(opened, settings, s3, bucket):
    jobs = opened()
    ended(jobs, jobs.start("count", {}).id)
    with closing(open_store(settings)) as store:
        store.put_bytes(f"{JOBS}count/readme.txt", b"somebody's")
        store.put_bytes(f"{JOBS}other/000000000001", b"{}")
        assert [job.id for job in jobs.list()[0]] == ["count-1"]
        store.put_bytes(job_key("gc", 1), b'{"format": 2}')
        with pytest.raises(RecordError, match="newer release"):
            jobs.get("gc-1")
        store.put_bytes(job_key("gc", 1), b'{"format": 1, "id": 3')
        with pytest.raises(RecordError, match="damaged"):
            jobs.get("gc-1")
        # It hides no other one.
        assert [job.id for job in jobs.list()[0]] == ["count-1"]
        assert jobs.latest()["count"][0].id == "count-1"
        assert jobs.latest()["gc"] == (None, None)
        store.put_bytes(job_key("gc", 1), b"x" * (5 << 20))
        assert jobs.latest()["gc"] == (None, None)
    assert ended(jobs, jobs.start("count", {}).id).state == DONE


def test_a_beat_is_two_requests(opened, settings, proxy):
    jobs = opened(Counting(300), after=100.0, endpoint_url=proxy.endpoint_url)
    jobs.start("count", {})
    wait_until(lambda: jobs.running_here)
    proxy.reset()
    ended(jobs, "count-1")
    # Some six seconds: at 2 s, 4 s and perhaps 6 s, and the end. Whoever waits for it asks twice.
    counts = proxy.methods()
    assert 3 <= counts["PUT"] <= 5, proxy.lines
    assert counts["GET"] <= counts["PUT"] - 1 + 4, proxy.lines
    assert counts["DELETE"] == 0


def test_an_older_one_that_says_it_runs_was_taken_over(opened):
    jobs = opened(Counting(1))
    ended(jobs, jobs.start("count", {}).id)
    ended(jobs, jobs.start("count", {}).id)
    Board(jobs._store).write(dataclasses.replace(jobs.get("count-1"), state=RUNNING), 1)
    assert jobs.get("count-1").state == INTERRUPTED
    assert jobs.latest()["count"][0].id == "count-2"
