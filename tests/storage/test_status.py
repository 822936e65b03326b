"""The status of a storage: what it tells, what it costs to look, and that nobody waits for a store that is away."""

from __future__ import annotations

import base64
import dataclasses
import json
import math
import shutil
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from rings import client_side
from servers.faults import answer, hang
from sites import bucket_keys, commit_blobs, raw_client, store_as_json, wait_until
from test_kill import Child
from ZODB.blob import Blob

from collective.s3blobstorage.cache.counters import Counters
from collective.s3blobstorage.errors import RecordError
from collective.s3blobstorage.maintenance.findings import Stopped
from collective.s3blobstorage.maintenance.jobs.job import job_document
from collective.s3blobstorage.objectstore import open_store, traffic
from collective.s3blobstorage.overlay.interfaces import SourceOptions
from collective.s3blobstorage.overlay.settings import S3Settings
from collective.s3blobstorage.settings import DeliverySettings
from collective.s3blobstorage.status import checked, figures
from collective.s3blobstorage.status.interfaces import CHECK, FIGURES, OUTSIDE, PATIENCE
from collective.s3blobstorage.status.reduced import PARTS

OWNED = {"owner": "www.example.org"}


@pytest.fixture
def site(make_site, settings, proxy):
    """Over FileStorage, its requests seen."""
    store = dataclasses.replace(settings, endpoint_url=proxy.endpoint_url, outage_patience=1.0)
    return make_site("filestorage", store=store, **OWNED)


def status_of(db, **more):
    return db.storage.status("main", **more)


def test_what_is_told_before_anything_was_counted(site, settings):
    db = site.db()
    document = status_of(db).document()
    assert set(document) == set(PARTS)
    assert (document["database"], document["base"]) == ("main", "filestorage")
    assert document["store"]["bucket"] == settings.bucket and document["store"]["owner"] == "www.example.org"
    assert document["store"]["region"] == settings.region and document["store"]["read_only"] is False
    assert (document["reachable"], document["read"] is not None) == (True, True)
    assert (document["figures"], document["outside"], document["check"], document["mirrored"]) == (None,) * 4
    assert document["encryption"]["mode"] == site.settings.store.encryption.name if settings.encryption else "none"
    assert document["cache"]["bound"] == site.settings.cache_size
    assert document["covers"]["processes"] == 1
    assert set(document["jobs"]) == {"gc", "fsck", "mirror", "migrate", "rotate", "count", "report"}
    json.dumps(document)


def test_requests_are_those_that_the_server_got(site, settings, proxy):
    db = site.db()
    commit_blobs(db, a=b"x" * 1000)
    db.storage.store_.get_bytes(next(iter(bucket_keys(settings))))
    seen = proxy.counts()
    document = status_of(db).document()
    told = document["requests"]["verbs"]
    assert told["put"]["requests"] >= seen["PutObject"] > 0
    assert told["get"]["requests"] >= seen["GetObject"] > 0
    assert document["requests"]["all"]["requests"] == sum(each["requests"] for each in told.values())
    for each in (*told.values(), document["requests"]["all"]):
        assert set(each) == {"requests", "errors", "bytes", "p50", "p95", "p99"}
        assert 0 < each["p50"] <= each["p95"] <= each["p99"]
    # Beside it, the cache's own counters are as they were.
    assert set(document["cache"]["counters"]) == set(Counters.names)
    assert document["cache"]["hour"] is not None and document["cache"]["history"]


def test_requests_of_all_processes_are_summed(site, make_site, settings):
    """Also of one that ended: here the same site is opened twice, each with a store of its own."""
    db = site.db()
    commit_blobs(db, a=b"x" * 1000)
    own = db.storage.store_.traffic.snapshot()
    db.close()
    again = site.db()
    told = status_of(again).document()["requests"]["verbs"]
    assert told["put"]["requests"] >= traffic.read(own)["put"].requests > 0
    counters = status_of(again).counters()
    assert counters["requests"]["put"].requests < told["put"]["requests"]  # this process's alone
    assert counters["bound"] == site.settings.cache_size
    assert (counters["uploads"], counters["reachable"], counters["circuit_open"]) == (0, True, False)


def test_two_databases_that_share_cache_dir_share_its_bound(make_site, settings):
    """Whether the cache is full depends on both; files and counters are each one's own."""
    folder = make_site("filestorage").settings.cache_dir
    dbs = [
        make_site("filestorage", store=dataclasses.replace(settings, prefix=name), owner=name).db(cache_dir=folder)
        for name in ("one", "two")
    ]
    commit_blobs(dbs[0], a=b"x" * 300_000)
    commit_blobs(dbs[1], a=b"x" * 1000, b=b"y" * 1000)
    caches = [status_of(db).document()["cache"] for db in dbs]
    assert [cache["files"] for cache in caches] == [1, 2]
    assert min(cache["used"] for cache in caches) >= 300_000  # what processes keep beside it changes meanwhile
    assert [cache["counters"]["bytes"] for cache in caches] == [300_000, 2000]


def test_an_upload_under_way_is_counted(site, proxy):
    db = site.db()
    proxy.fail(hang("before", seconds=1.0), method="PUT", times=1)
    blob = Blob(b"x" * 1000)
    connection = db.open()
    connection.root()["held"] = blob
    thread = threading.Thread(target=connection.transaction_manager.commit)
    thread.start()
    wait_until(lambda: status_of(db).counters()["uploads"] == 1)
    thread.join()
    assert status_of(db).counters()["uploads"] == 0
    connection.close()


def test_what_is_broken_is_read_behind_and_seldom(site, settings, proxy):
    """However many pages are viewed. Known at once where this process ran the check."""
    db = site.db()
    commit_blobs(db, a=b"x" * 1000, b=b"y" * 1000)
    assert status_of(db).broken() == {}  # before anybody looked
    lost = next(key for key in bucket_keys(settings) if key.startswith("blobs/"))
    prefix = f"{settings.prefix}/" if settings.prefix else ""
    raw_client(settings).delete_object(Bucket=settings.bucket, Key=prefix + lost)
    jobs = db.storage.jobs()
    job = jobs.start("fsck", {})
    wait_until(lambda: jobs.get(job.id).state != "running", 30)
    wait_until(lambda: status_of(db).broken())
    ((_, finding),) = status_of(db).broken().items()
    assert finding["kind"] == "missing"
    document = status_of(db).document()
    assert (document["fsck"]["job"], document["fsck"]["wrong"]) == (job.id, 1)
    proxy.reset()
    for _ in range(1000):
        assert len(status_of(db).broken()) == 1
    assert proxy.exchanges == []
    # Another process has it within a minute, by a listing and a GET of each run until one that read everything.
    db.storage._known.broken.forget()
    proxy.reset()
    for _ in range(100):
        status_of(db).broken()
        time.sleep(0.01)
    assert dict(proxy.counts()) == {"ListObjectsV2": 1, "GetObject": 1}
    jobs.start("fsck", {"dry_run": False})
    wait_until(lambda: status_of(db).broken() == {}, 30)


def test_a_cache_that_is_broken_tells_of_this_process(site):
    db = site.db()
    commit_blobs(db, a=b"x" * 1000)
    shutil.rmtree(db.storage.cache.layout.folder)
    document = status_of(db).document()
    assert document["cache"] is None
    assert document["requests"]["verbs"]["put"]["requests"] > 0


def test_figures_are_counted_once_and_kept(site, settings):
    db = site.db()
    commit_blobs(db, a=b"four", b=b"", c=b"x" * 1000)
    storage = db.storage
    counted = figures.count(storage.store_)
    assert counted.objects.blobs.objects == 3
    figures.keep(storage.store_, counted, "a test")
    figures.keep_outside(storage.store_, 7, 700, "a test")
    document = status_of(db).document()
    told = document["figures"]
    assert told["blobs"]["objects"] == 3 and told["by"] == "a test" and told["uploads"] == {"count": 0, "oldest": None}
    assert told["total"]["objects"] == sum(told[name]["objects"] for name in figures._PARTS)
    if not settings.encryption:
        assert told["blobs"]["bytes"] == 1004
    assert {name: document["outside"][name] for name in ("objects", "bytes")} == {"objects": 7, "bytes": 700}


def test_a_look_makes_few_requests_and_none_is_a_listing_of_blobs(site, proxy):
    db = site.db()
    commit_blobs(db, **{f"b{number}": b"x" for number in range(20)})
    figures.keep(db.storage.store_, figures.count(db.storage.store_), "a test")
    proxy.reset()
    status = status_of(db)
    status.document()
    assert len(proxy.exchanges) <= 12, proxy.lines
    assert not [
        line for line in proxy.lines if "list-type" in line and "prefix=jobs" not in line and "keys" not in line
    ]
    before = len(proxy.exchanges)
    for _ in range(20):
        status_of(db).document()
    assert len(proxy.exchanges) == before  # remembered for a while


@pytest.mark.parametrize("fault", [answer(503), hang("before")], ids=["503", "hangs"])
def test_nobody_waits_for_a_store_that_is_away(site, proxy, fault):
    db = site.db()
    figures.keep(db.storage.store_, figures.count(db.storage.store_), "a test")
    status = status_of(db)
    assert status.document()["figures"] is not None
    proxy.fail(fault, times=math.inf)
    db.storage._known.kept.forget()
    began = time.monotonic()
    document = status.document()
    # A ratio would say nothing: it is a promise in seconds, and a request alone would take as long as its time-outs.
    assert time.monotonic() - began < PATIENCE + 1
    assert document["figures"] is not None  # as it was known
    wait_until(lambda: status.document()["reachable"] is False)
    proxy.forgive()
    proxy.down()  # ends what hangs
    proxy.up()


def test_a_store_that_is_away_at_the_start(make_site, settings, proxy):
    store = dataclasses.replace(settings, endpoint_url=proxy.endpoint_url)
    site = make_site("filestorage", store=store, start_degraded=True, preflight_deadline=0.0, **OWNED)
    proxy.down()
    db = site.db()
    document = status_of(db).document()
    assert (document["reachable"], document["figures"], document["read"]) == (False, None, None)
    assert document["store"]["bucket"] == settings.bucket
    before = len(proxy.exchanges)
    counters = status_of(db).counters()
    assert (counters["reachable"], counters["circuit_open"], counters["uploads"]) == (False, False, 0)
    assert sum(each.errors["unavailable"] for each in counters["requests"].values()) > 0
    assert len(proxy.exchanges) == before


def test_a_check_is_kept_for_all(site, settings, make_site):
    db = site.db()
    told = status_of(db).check()
    assert told["ok"], [finding for finding in told["findings"] if finding["ok"] is False]
    names = [finding["name"] for finding in told["findings"]]
    assert {"configuration", "cache-dir", "database", "owner", "write", "presigned GET"} <= set(names)
    assert not [key for key in bucket_keys(settings) if key.startswith(".s3blobs-check/")]
    assert status_of(db).document()["check"] == told
    with closing(open_store(settings)) as store:
        kept = checked.read(store)
    assert kept["findings"] == told["findings"]
    # Below a DemoStorage nothing is written, and its own process shows what was found.
    told = status_of(db, writable=False).check()
    assert {finding["name"]: finding["ok"] for finding in told["findings"]}["write"] is None
    with closing(open_store(settings)) as store:
        assert checked.read(store) == kept


def test_a_check_of_a_store_that_is_away(site, proxy):
    db = site.db()
    status = status_of(db)
    proxy.down()
    told = status.check()
    assert not told["ok"]
    assert [finding["name"] for finding in told["findings"] if finding["ok"] is False] == ["endpoint"]
    assert status.document()["check"] == told


def test_a_trial(site, settings, proxy):
    db = site.db()
    steps = status_of(db).trial()
    expected = [True, True, None, None, True] if db.storage.store_.own_keys else [True] * 5
    assert [step["ok"] for step in steps] == expected, steps
    assert not [key for key in bucket_keys(settings) if key.startswith(".s3blobs-check/")]
    assert {step["ok"] for step in status_of(db, writable=False).trial()} == {None}
    proxy.down()
    steps = status_of(db).trial()
    assert [step["ok"] for step in steps] == [False, None, None, None, None]


def test_a_read_only_site(make_site, settings):
    site = make_site("filestorage", **OWNED)
    site.db().close()
    db = site.db(read_only=True)
    keys = bucket_keys(settings)
    status = status_of(db)
    assert status.document()["store"]["read_only"] is True
    assert {step["ok"] for step in status.trial()} == {None}
    status.check()
    assert bucket_keys(settings) == keys


@pytest.mark.parametrize("kind", ["sqlite-hp", "zeo-client"])
def test_other_bases(make_site, kind):
    db = make_site(kind, **OWNED).db()
    document = status_of(db).document()
    assert document["base"] == {"sqlite-hp": "relstorage", "zeo-client": "zeoclient"}[kind]
    assert status_of(db).check()["ok"]


def test_what_is_kept_and_damaged_or_newer(site):
    db = site.db()
    store = db.storage.store_
    for damaged in (
        b"",
        b"[]",
        b"{}",
        b'{"format": 1, "at": "now"}',
        b'{"format": 1, "at": "2026-01-01", "by": 1}',
        b"\xff",
    ):
        for key in (FIGURES, OUTSIDE, CHECK):
            store.put_bytes(key, damaged)
        assert (figures.read(store), figures.read_outside(store), checked.read(store)) == (None, None, None)
    store.put_bytes(FIGURES, b'{"format": 2}')
    with pytest.raises(RecordError, match="newer release"):
        figures.read(store)
    assert status_of(db).document()["figures"] is None


def test_counting_stops(site):
    db = site.db()
    stop = threading.Event()
    stop.set()
    store = db.storage.store_
    assert figures.count(store, stop=stop).objects.total.objects  # fewer than a page
    for number in range(3):
        store.put_bytes(f"gc-log/{number}", b"")
    figures_step = figures._STEP
    try:
        figures._STEP = 2
        with pytest.raises(Stopped):
            figures.count(store, stop=stop)
    finally:
        figures._STEP = figures_step


@pytest.mark.clear
def test_no_secret_is_told(make_site, settings, tmp_path):
    """Not of the store, a source, a CDN, a key, or the metrics' token; in no document, check, trial, job or object."""
    key = bytes(range(200, 232))
    token = tmp_path / "token"
    token.write_text("a-token-of-the-metrics")
    token.chmod(0o600)
    elsewhere = dataclasses.replace(
        settings, prefix="elsewhere", secret_key="the-secret-of-a-source", session_token=None
    )
    db = make_site(
        "filestorage",
        store=dataclasses.replace(settings, encryption=client_side(key)),
        delivery=DeliverySettings(cdn_url_base="https://cdn.example.org", cdn_private_key="the-private-key-of-a-cdn"),
        sources=(S3Settings(SourceOptions("elsewhere", mirror="off"), elsewhere, "ours"),),
        metrics_token_file=token,
        **OWNED,
    ).db()
    commit_blobs(db, a=b"a")
    status, jobs = status_of(db), db.storage.jobs()
    told = [status.check(), status.trial()]
    job = jobs.start("count", {})
    wait_until(lambda: not jobs.running_here)
    told += [job_document(jobs.get(job.id)), status.document(), repr(status.counters()), repr(db.storage.settings)]
    raw = raw_client(settings)
    for name in bucket_keys(settings):
        if name.startswith(("jobs/", "status/", "keys/")):
            told.append(raw.get_object(Bucket=settings.bucket, Key=name)["Body"].read().decode())
    text = json.dumps(told, default=str)
    secrets = [settings.secret_key, "the-secret-of", "the-private-key", "a-token-of", key.hex()]
    secrets += [base64.b64encode(key).decode(), base64.urlsafe_b64encode(key).decode().rstrip("="), repr(key)[2:-1]]
    assert [secret for secret in secrets if secret in text] == []
    assert "elsewhere" in text and "client-side" in text


@pytest.mark.parametrize("ends", [True, False], ids=["that end", "that are killed"])
def test_counters_are_of_all_processes_of_the_machine(make_site, settings, tmp_path, ends):
    site = make_site("filestorage", **OWNED)
    db = site.db()
    before = status_of(db).document()
    script = str(Path(__file__).with_name("status_child.py"))
    children = [Child(tmp_path / "tmp", script) for _ in range(2)]
    for child in children:
        given = {"store": store_as_json(settings), "cache_dir": str(site.settings.cache_dir), "heads": 40, "ends": ends}
        child.tell(json.dumps({**given, **OWNED}))
    for child in children:
        child.hear("ready")
    during = status_of(db).document()
    assert during["covers"]["processes"] == before["covers"]["processes"] + 2
    heads = [document["requests"]["verbs"]["head"]["requests"] for document in (before, during)]
    assert heads[1] >= heads[0] + 80
    for child in children:
        child.tell()
        if ends:
            child.end()
        else:
            child.kill()
        child.close()
    db.storage.cache.clean()  # which sweeps after the dead
    after = status_of(db).document()
    assert after["requests"]["verbs"]["head"]["requests"] >= heads[1]
    assert after["covers"]["processes"] == before["covers"]["processes"]
