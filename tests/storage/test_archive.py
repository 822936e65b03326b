"""``s3blobs archive``: blobs go to a cheaper class or into a source, and every reader goes on."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import threading
import time
from contextlib import closing
from datetime import timedelta

import pytest
import ZODB
from command_line import SCRIPT, document, keys_of, one_line, s3blobs, section
from locked_buckets import lockable, versions
from servers import faults
from sites import bucket_keys, commit_blobs, connected, read_blob
from ZODB.FileStorage import FileStorage

from collective.s3blobstorage.cli.archive import ACCESS_KEY, SECRET_KEY
from collective.s3blobstorage.errors import Refused
from collective.s3blobstorage.keys import MIRRORED
from collective.s3blobstorage.maintenance import archive as archiving
from collective.s3blobstorage.maintenance.archive import Places, Wish, make_plan, to_class, to_source
from collective.s3blobstorage.maintenance.gc.margins import Margins
from collective.s3blobstorage.maintenance.jobs.running import Running
from collective.s3blobstorage.maintenance.kept import kept_revisions
from collective.s3blobstorage.maintenance.rotate import held
from collective.s3blobstorage.maintenance.spool import Spool
from collective.s3blobstorage.objectstore import open_store
from collective.s3blobstorage.objectstore.clock import Clock
from collective.s3blobstorage.overlay.interfaces import SourceOptions
from collective.s3blobstorage.overlay.settings import S3Settings
from collective.s3blobstorage.settings import StorageSettings
from collective.s3blobstorage.storage import open_storage
from collective.s3blobstorage.storage.mirrored import read_mirrored, read_moved, write_mirrored

OLD = Wish(older_than=0.0)
CLASS = "STANDARD_IA"
BLOBS = {f"b{number:02}": b"%d" % number * (number + 1) for number in range(20)}


class Archived:
    """A site with a source for what is archived; ``moved`` runs as the command does, in this process."""

    def __init__(self, folder, settings):
        self.folder = folder
        self.warm = settings
        self.cold = dataclasses.replace(settings, prefix="cold")
        source = S3Settings(SourceOptions("cold", negative_cache=60.0, mirror="off"), self.cold)
        self.settings = StorageSettings(
            store=settings, owner="www.example.org", cache_dir=folder / "cache", sources=(source,), preflight=False
        )
        self.opened = []

    def db(self, cache="cache"):
        settings = dataclasses.replace(self.settings, cache_dir=self.folder / cache)
        db = ZODB.DB(open_storage(FileStorage(str(self.folder / "Data.fs")), settings))
        self.opened.append(db)
        return db

    def plan(self, store, wish):
        with Spool() as spool, closing(FileStorage(str(self.folder / "Data.fs"), read_only=True)) as base:
            return make_plan(store, kept_revisions(base, wish.scope, spool), wish, threading.Event())

    def moved(self, wish=OLD, store=None, target=None, **options):
        options = {"concurrency": 4, **options}
        with closing(open_store(store or self.warm)) as ours:
            with held(ours, Margins(), Clock()) as lease, self.plan(ours, wish) as plan:
                running = Running(ours.now)
                if wish.storage_class is not None:
                    return plan, to_class(ours, plan, wish.storage_class, lease, running, **options)
                with (
                    closing(open_store(target or self.cold)) as there,
                    closing(open_store(self.cold, read_only=True)) as reader,
                ):
                    places = Places(ours, there, reader)
                    return plan, to_source(places, plan, lease, running, told=0.0, **options)

    def keys(self, prefix=""):
        store = self.cold if prefix else self.warm
        return sorted(key for key in bucket_keys(store) if key.startswith("blobs/"))

    def close(self):
        for db in self.opened:
            db.close()


@pytest.fixture
def site(settings, bucket, tmp_path):
    made = Archived(tmp_path, settings)
    yield made
    made.close()


@pytest.fixture
def has_classes(s3_server):
    """Ceph has the storage classes of its placement, of which a new one has none but STANDARD."""
    if "ministack" not in type(s3_server).__name__.lower():
        pytest.skip("this store has one storage class")


def classes(store):
    with closing(open_store(store)) as opened:
        return {line.key: line.storage_class or "STANDARD" for line in opened.list("blobs/")}


def test_a_class_is_what_the_store_says_afterwards(site, settings, has_classes):
    db = site.db()
    commit_blobs(db, **BLOBS)
    before = site.keys()
    plan, report = site.moved(Wish(older_than=0.0, storage_class=CLASS))
    assert (report.moved.blobs, report.failures.count, report.gone.blobs) == (20, 0, 0)
    assert classes(settings) == dict.fromkeys(before, CLASS)
    assert {name: read_blob(db, name) for name in BLOBS} == BLOBS
    plan, report = site.moved(Wish(older_than=0.0, storage_class=CLASS))
    assert (plan.there.blobs, plan.wanted.blobs, report.moved.blobs) == (20, 0, 0)


@pytest.mark.parametrize("size", [5, 20_000_000])
def test_what_is_told_of_an_object_stays(site, settings, size, has_classes):
    """Its bytes, its metadata, and how it is encrypted."""
    db = site.db()
    data = os.urandom(size)
    commit_blobs(db, a=data)
    [key] = site.keys()
    with closing(open_store(settings)) as store:
        before = store.stored(key)
        site.moved(Wish(older_than=0.0, storage_class=CLASS))
        after = store.stored(key)
        assert after.info.storage_class == CLASS
        assert (after.info.metadata, after.info.size) == (before.info.metadata, before.info.size)
        assert after.protection == before.protection
    site.close()
    assert read_blob(site.db("another"), "a") == data


def test_a_store_without_the_class_is_told_at_the_first_object(site, s3_server, settings, front):
    """One that takes the header and forgets it: one object was copied, and no other."""
    db = site.db()
    commit_blobs(db, **BLOBS)
    front.strange.ignores = ("x-amz-storage-class",)
    deaf = dataclasses.replace(settings, endpoint_url=front.endpoint_url, ca_bundle=None)
    with pytest.raises(Exception, match="it has no such class"):
        site.moved(Wish(older_than=0.0, storage_class=CLASS), store=deaf)
    assert set(classes(settings).values()) == {"STANDARD"}
    assert read_blob(db, "b05") == BLOBS["b05"]


def test_into_a_source_and_everything_is_read_from_there(site):
    db = site.db()
    commit_blobs(db, **BLOBS)
    keys = site.keys()
    plan, report = site.moved()
    assert (report.moved.blobs, report.failures.first) == (20, [])
    assert site.keys() == [] and site.keys("cold") == keys
    site.close()
    db = site.db("another")
    assert {name: read_blob(db, name) for name in BLOBS} == BLOBS
    assert site.keys() == []


def test_what_object_lock_keeps_stays(settings, s3, tmp_path):
    """In the source nothing would keep it, and here it would take its room still."""
    with lockable(s3) as bucket:
        site = Archived(tmp_path, dataclasses.replace(settings, bucket=bucket))
        try:
            db = site.db()
            commit_blobs(db, held=b"held", dated=b"dated", free=b"free")
            with closing(open_store(site.warm)) as store:
                keys = {store.get_bytes(key): key for key in site.keys()}
                store.hold(keys[b"held"], True)
                store.lock(keys[b"dated"], "GOVERNANCE", store.now() + timedelta(hours=1))
                _, report = site.moved()
                assert report.moved.blobs == 1 and report.failures.by_kind == {"Refused": 2}
                assert site.keys() == sorted([keys[b"held"], keys[b"dated"]]) and len(site.keys("cold")) == 1
                assert {read_blob(db, name) for name in ("held", "dated", "free")} == {b"held", b"dated", b"free"}
        finally:
            site.close()


def test_what_only_the_bucket_has_is_not_deleted_where_the_copy_is_wrong(site, settings):
    """Other bytes lie under that key there: nothing is overwritten, and nothing deleted."""
    db = site.db()
    commit_blobs(db, a=b"right", b=b"right too")
    with closing(open_store(site.cold)) as cold:
        wrong = next(key for key in site.keys() if cold.head(key) is None)
        cold.put_bytes(wrong, b"wrong")
        plan, report = site.moved()
        assert (report.moved.blobs, report.failures.count) == (1, 1)
        assert site.keys() == [wrong] and cold.get_bytes(wrong) == b"wrong"
    site.close()
    db = site.db("another")
    assert (read_blob(db, "a"), read_blob(db, "b")) == (b"right", b"right too")


def test_what_lies_in_both_places_is_compared_and_deleted(site):
    """As a run that was killed before a deletion leaves it."""
    db = site.db()
    commit_blobs(db, **BLOBS)
    with closing(open_store(site.warm)) as warm, closing(open_store(site.cold)) as cold:
        for key in site.keys()[:7]:
            cold.put_bytes(key, warm.get_bytes(key))
    plan, report = site.moved()
    assert report.moved.blobs == 20 and site.keys() == []


def test_a_class_that_the_store_does_not_know_is_told_at_the_first_object(site, settings):
    db = site.db()
    commit_blobs(db, **BLOBS)
    with pytest.raises(Refused, match="--class NO_SUCH_CLASS: the object store refuses it"):
        site.moved(Wish(older_than=0.0, storage_class="NO_SUCH_CLASS"))
    assert set(classes(settings).values()) == {"STANDARD"}


@pytest.mark.parametrize("where", ["class", "source"])
def test_a_reader_beside_it_reads_everything_at_every_instant(site, where, request):
    """Cold each time: what it reads comes from the bucket or the source."""
    if where == "class":
        request.getfixturevalue("has_classes")
    db = site.db()
    commit_blobs(db, **BLOBS)
    site.close()
    problems, reads, done = [], [], threading.Event()

    def reading():
        # Another machine: a copy of the database, and a cache of its own that keeps nothing.
        number = 0
        while not done.is_set() or number < 2:
            number += 1
            db = site.db(f"reader{number}")
            try:
                for name, data in BLOBS.items():
                    if read_blob(db, name) != data:
                        problems.append(name)
                    reads.append(name)
            except Exception as error:
                problems.append(repr(error))
                return
            finally:
                site.opened.remove(db)
                db.close()

    thread = threading.Thread(target=reading, daemon=True)
    thread.start()
    while len(reads) < 20 and not problems:
        time.sleep(0.01)
    wish = OLD if where == "source" else Wish(older_than=0.0, storage_class=CLASS)
    plan, report = site.moved(wish, concurrency=1, limit_rate=None)
    assert report.moved.blobs == 20
    done.set()
    thread.join(60)
    assert not thread.is_alive() and problems == [] and len(reads) >= 40


def test_a_stop_in_the_middle_and_another_run(site):
    db = site.db()
    commit_blobs(db, **BLOBS)
    with closing(open_store(site.warm)) as ours, closing(open_store(site.cold)) as cold:
        running = Running(ours.now)
        with held(ours, Margins(), Clock()) as lease, site.plan(ours, OLD) as plan:
            deleting = ours.delete_each

            def stops(doomed):
                running.stop.set()
                return deleting(doomed)

            ours.delete_each = stops
            report = to_source(Places(ours, cold, cold), plan, lease, running, concurrency=1, told=0.0)
    assert report.stopped and 0 < report.moved.blobs < 20
    assert len(site.keys()) == 20 - report.moved.blobs
    plan, report = site.moved()
    assert site.keys() == [] and len(site.keys("cold")) == 20


def test_what_does_not_go(site, settings):
    db = site.db()
    commit_blobs(db, large=b"1" * 5000, small=b"2" * 10)
    commit_blobs(db, large=b"3" * 5000)
    db.pack(time.time() + 1)  # what was overwritten is gc's
    with closing(open_store(settings)) as store:
        store.put_bytes("blobs/3/7.blob", b"of zodb-s3blobs")

        def planned(**wish):
            with site.plan(store, Wish(**wish)) as plan:
                return {name: count["blobs"] for name, count in plan.as_json().items() if count["blobs"]}

        unused = {"unused": 1} if len(site.keys()) == 4 else {}
        assert planned(older_than=3600.0) == {"young": 2, "other": 1, **unused}
        assert planned(larger_than=1000) == {"wanted": 1, "small": 1, "other": 1, **unused}
        assert planned(older_than=0.0, storage_class="STANDARD") == {"there": 2, "other": 1, **unused}


def test_who_hands_out_addresses_hears_of_it(site, settings):
    """What was seen in the bucket before does not count any more, and nothing is said to be only there."""
    db = site.db()
    commit_blobs(db, a=b"a1")
    storage = db.storage

    def address():
        with connected(db) as connection:
            blob = connection.root()["a"]
            blob._p_activate()
            record = storage.read_record(blob._p_oid, blob._p_serial)
            return storage.addresses.of(blob._p_oid, blob._p_serial, record)

    assert address() is not None  # and remembered in the cache folder
    with closing(open_store(settings)) as store:
        write_mirrored(store, b"\xff" * 8, ["cold"])
    site.moved()
    with closing(open_store(settings)) as store:
        assert read_mirrored(store) is None and read_moved(store)
        write_mirrored(store, b"\1" * 8, ["cold"])
        assert read_moved(store)
        moved = read_moved(store)
    storage.addresses._asked = None  # a minute later
    assert address() is None
    site.moved()
    with closing(open_store(settings)) as store:
        assert read_moved(store) == moved  # nothing was to be moved
        assert store.head(MIRRORED) is not None


def test_the_first_deletion_waits_until_all_have_heard(site):
    db = site.db()
    commit_blobs(db, a=b"a1")
    slept = []

    def sleep(seconds):
        assert site.keys() and site.keys("cold") == []
        slept.append(seconds)

    sleepless = Clock(lambda: sum(slept), sleep)
    with closing(open_store(site.warm)) as ours, closing(open_store(site.cold)) as cold:
        with held(ours, Margins(), Clock()) as lease, site.plan(ours, OLD) as plan:
            to_source(Places(ours, cold, cold), plan, lease, Running(ours.now), concurrency=1, clock=sleepless)
    assert sum(slept) >= archiving.ASK_AGAIN + 10 and site.keys() == []


# The command


@pytest.fixture
def conf(site, tmp_path, settings):
    base = f"<filestorage>\n  path {tmp_path}/Data.fs\n</filestorage>"

    def write(*more, mirror="off"):
        store = site.cold
        source = "\n".join(
            [
                "<s3source cold>",
                f"  bucket-name {store.bucket}",
                f"  s3-prefix {store.prefix}",
                f"  s3-endpoint-url {store.endpoint_url}",
                f"  s3-region {store.region}",
                *([f"  s3-ca-bundle {store.ca_bundle}"] if store.ca_bundle else []),
                "  s3-access-key $(SITE_ACCESS_KEY)",
                "  s3-secret-key $(SITE_SECRET_KEY)",
                f"  mirror {mirror}",
                "</s3source>",
            ]
        )
        path = tmp_path / "site.conf"
        owned = ("owner www.example.org", "preflight off")
        path.write_text(
            "%import collective.s3blobstorage\n" + section(settings, tmp_path / "cache", base, source, *owned, *more)
        )
        return path

    return write


def run(path, settings, *arguments, **variables):
    return s3blobs("--config", path, "archive", *arguments, env={**keys_of(settings), **variables})


def test_the_command(site, conf, settings, has_classes):
    if settings.encryption is not None:
        pytest.skip("the source's section would have to name the keys too")
    db = site.db()
    commit_blobs(db, **BLOBS)
    site.close()
    path = conf()
    told = document(run(path, settings, "--older-than", "0", "--class", CLASS, "--dry-run", "--json"))
    assert (told["wanted"]["blobs"], told["dry_run"], "moved" in told) == (20, True, False)
    shown = run(path, settings, "--larger-than", "10", "--class", CLASS)
    assert shown.returncode == 0 and "into STANDARD_IA" in shown.stdout, shown
    assert sorted(set(classes(settings).values())) == ["STANDARD", CLASS]
    refused = run(path, settings, "--older-than", "0", "--to-source", "cold")
    assert refused.returncode == 2 and ACCESS_KEY in one_line(refused) and "read only" in one_line(refused)
    # Ctrl-C, while it waits for every process to have heard of it.
    writing = {ACCESS_KEY: settings.access_key, SECRET_KEY: settings.secret_key}
    env = {**keys_of(settings), **writing}
    arguments = [SCRIPT, "--config", str(path), "archive", "--older-than", "0", "--to-source", "cold", "--json"]
    with subprocess.Popen(arguments, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        with closing(open_store(settings)) as store:
            while not read_moved(store):
                assert process.poll() is None
                time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 130 and len(site.keys()) == 20


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--class", CLASS], "--older-than, --larger-than, --unread-for"),
        (["--older-than", "1y"], "--class or --to-source"),
        (["--older-than", "1y", "--class", CLASS, "--to-source", "cold"], "--class or --to-source"),
        (["--older-than", "1y", "--class", "GLACIER"], "--needs-restore"),
        (["--older-than", "1y", "--class", "cheap"], "is not a storage class"),
        (["--older-than", "1w", "--class", CLASS], "is not an interval"),
        (["--unread-for", "3y", "--class", CLASS], "is too long"),
        (["--older-than", "1y", "--to-source", "other"], "no such source (it has: cold)"),
        (["--unread-for", "2d", "--class", CLASS], "nobody noted what was read"),
    ],
)
def test_what_is_refused(site, conf, settings, arguments, said):
    db = site.db()
    commit_blobs(db, a=b"a1")
    site.close()
    result = run(conf(), settings, *arguments)
    assert result.returncode == 2 and said in result.stderr, result.stderr
    assert set(classes(settings).values()) == {"STANDARD"}


def test_a_source_that_mirrors_is_refused(site, conf, settings):
    db = site.db()
    commit_blobs(db, a=b"a1")
    site.close()
    result = run(conf(mirror="background"), settings, "--older-than", "0", "--to-source", "cold")
    assert result.returncode == 2 and "<s3source cold> needs mirror off" in one_line(result)


def test_a_bucket_that_keeps_versions_is_told_of(site, conf, settings, s3, bucket, has_classes):
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    db = site.db()
    commit_blobs(db, a=b"a1")
    site.close()
    result = run(conf(), settings, "--older-than", "0", "--class", CLASS)
    assert result.returncode == 0 and "takes its room until gc --versions" in result.stdout
    assert len(versions(s3, bucket, f"{settings.prefix}/blobs/".lstrip("/"))) == 2


def test_where_everything_is_kept_nothing_is_moved(site, conf, settings):
    db = site.db()
    commit_blobs(db, a=b"a1")
    site.close()
    result = run(conf("retention governance 1d"), settings, "--older-than", "0", "--class", CLASS)
    assert result.returncode == 2 and "s3blobs lifecycle --move" in one_line(result)


@pytest.mark.slow
def test_a_kill_at_any_request_loses_nothing(site, proxy, settings):
    """Each request of a run in turn is the last one that the store answers."""
    commit_blobs(site.db(), a=b"a1" * 100, b=b"b1" * 100)
    site.close()
    behind = dataclasses.replace(settings, endpoint_url=proxy.endpoint_url, outage_patience=0.0)
    caught = None
    for number in range(1, 60):
        proxy.fail(faults.answer(403, "AccessDenied"), nth=number, times=10_000)
        try:
            site.moved(
                store=behind, target=dataclasses.replace(site.cold, endpoint_url=proxy.endpoint_url), concurrency=1
            )
        except Exception as error:
            caught = error
        proxy.forgive()
        with closing(open_store(settings)) as store:
            store.delete([line.key for line in store.list("gc/")])  # the lease of what was killed
        db = site.db(f"reader{number}")
        assert (read_blob(db, "a"), read_blob(db, "b")) == (b"a1" * 100, b"b1" * 100), (number, caught)
        site.close()
        site.opened = []
        if site.keys() == []:
            break
    assert site.keys() == [] and number > 7


@pytest.mark.slow
def test_kill_9_in_the_middle(site, conf, settings, has_classes):
    """The process is killed while it moves; everything can be read, and the next run moves the rest."""
    if settings.encryption is not None:
        pytest.skip("the source's section would have to name the keys too")
    data = {f"b{number:02}": os.urandom(2000) for number in range(20)}
    commit_blobs(site.db(), **data)
    site.close()
    site.opened = []
    path = conf()
    arguments = [SCRIPT, "--config", str(path), "archive", "--older-than", "0", "--class", CLASS]
    slowly = ["--concurrency", "1", "--limit-rate", "4000"]
    with subprocess.Popen([*arguments, *slowly], env=keys_of(settings), stdout=subprocess.PIPE) as process:
        while list(classes(settings).values()).count(CLASS) < 3:
            assert process.poll() is None
            time.sleep(0.05)
        process.kill()
    assert 3 <= list(classes(settings).values()).count(CLASS) < 20
    db = site.db("reader")
    assert {name: read_blob(db, name) for name in data} == data
    site.close()
    waits = run(path, settings, "--older-than", "0", "--class", CLASS)
    assert waits.returncode == 2 and "is running" in one_line(waits)  # as long as the lease of the dead lives
    with closing(open_store(settings)) as store:
        store.delete([line.key for line in store.list("gc/lease/")])
    assert run(path, settings, "--older-than", "0", "--class", CLASS).returncode == 0
    assert set(classes(settings).values()) == {CLASS}


def test_fsck_and_gc_afterwards(site, conf, settings):
    """What lies in a source alone is no problem, as it is not where a site begins with one."""
    if settings.encryption is not None:
        pytest.skip("the source's section would have to name the keys too")
    commit_blobs(site.db(), **BLOBS)
    site.close()
    site.moved()
    env = keys_of(settings)
    looked = s3blobs("--config", conf(), "fsck", "--json", env=env)
    told = document(looked)
    assert (looked.returncode, told["elsewhere"]["blobs"], told["findings"]) == (0, 20, []), told
    told = document(s3blobs("--config", conf(), "gc", "--dry-run", "--json", env=env))
    assert (told["used"]["blobs"], told["condemned"]["blobs"], told["judged"]) == (0, 0, 0)
