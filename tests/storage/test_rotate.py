"""Rotation of keys: every object ends with the new key, whatever happens meanwhile, and nothing is ever unreadable."""

from __future__ import annotations

import dataclasses
import threading

import pytest
from rolling_keys import (
    BLOB,
    FOREIGN,
    ONE,
    OTHER,
    OURS,
    TWO,
    after,
    alone,
    before,
    blob_keys,
    fill,
    read,
    section,
    used,
)
from servers.faults import answer, reset
from store_time import DAY, ShiftedStore
from test_gc import OWNED, Collected

from collective.s3blobstorage.encryption.configured import configured
from collective.s3blobstorage.encryption.register import activate
from collective.s3blobstorage.encryption.register import read as read_entry
from collective.s3blobstorage.errors import ConfigurationError, ObjectMissing, Refused, Unavailable, UnsafeError
from collective.s3blobstorage.keys import MARKER, ROTATION
from collective.s3blobstorage.maintenance import rotate
from collective.s3blobstorage.maintenance.gc.control import read_control
from collective.s3blobstorage.maintenance.gc.lease import Taken, leased, take
from collective.s3blobstorage.maintenance.gc.margins import Margins
from collective.s3blobstorage.maintenance.pace import Pace
from collective.s3blobstorage.maintenance.rotate import Rotation
from collective.s3blobstorage.maintenance.usage import kept_figures
from collective.s3blobstorage.objectstore.clock import Clock

WITH_KEYS = ("client-side", "sse-c")


def rotated(store, **options):
    rotation = Rotation(store, **options)
    with rotation.leased() as lease, rotation.plan() as plan:
        return rotation.execute(plan, lease)


def counts(report):
    return {what: count.blobs for what, count in report.done.items()}


@pytest.mark.parametrize("mode", WITH_KEYS)
def test_everything_of_ours_needs_the_new_key_alone(stores, tmp_path, s3, settings, mode):
    wrote = fill(stores.open(before(mode)), tmp_path)
    s3.put_object(Bucket=settings.bucket, Key=f"p/{FOREIGN}", Body=b"theirs")
    theirs = s3.head_object(Bucket=settings.bucket, Key=f"p/{FOREIGN}")
    store = stores.open(after(mode))
    report = rotated(store)
    beside = 1 if mode == "sse-c" else 0  # the store encrypts what lies beside the blobs too
    assert counts(report) == {"rewrapped": len(OURS) + beside} | ({} if beside else {"current": 1})
    assert not report.failures.count and not report.stopped and not report.resumed
    assert used(store, OURS) == {(mode, "two")}
    last = stores.open(alone(mode))
    assert {key: read(last, key) for key in wrote} == wrote
    assert last.get_bytes(MARKER) == b"the marker"
    assert last.head(BLOB).metadata["oid"] == "1"
    now = s3.head_object(Bucket=settings.bucket, Key=f"p/{FOREIGN}")
    assert (now["ETag"], now["LastModified"]) == (theirs["ETag"], theirs["LastModified"])
    figures = kept_figures(store.unencrypted())
    [(_, count)] = figures.usage.content.items()
    assert count.blobs == len(OURS) and figures.usage.to_json() == report.usage.to_json()
    assert list(figures.usage.of_key("two")) == (["content", "beside"] if mode == "sse-c" else ["content"])
    assert figures.usage.of_key("one") == {}


@pytest.mark.parametrize("mode", WITH_KEYS)
def test_what_is_current_costs_one_request(stores, tmp_path, tls_proxy, mode):
    fill(stores.open(before(mode)), tmp_path, blob_keys(20))
    store = stores.open(after(mode))

    def asked():
        found = [exchange for exchange in tls_proxy.exchanges if "/blobs/" in exchange.path]
        tls_proxy.reset()
        methods = [exchange.method for exchange in found]
        return {method: methods.count(method) for method in methods}

    tls_proxy.reset()
    rotated(store)
    first = asked()
    if mode == "client-side":
        assert first == {"HEAD": 20, "PUT": 20}
    # Whose key it is, only a try tells: with SSE-C the new key is tried first, then the former one.
    elif store.provider.value("copies_encrypted"):
        assert first == {"HEAD": 40, "PUT": 20}
    # What a store does not copy goes through here, and its ETag proves nothing: it is looked at again.
    else:
        assert first == {"HEAD": 60, "GET": 20, "PUT": 20}
    rotated(store)
    assert asked() == {"HEAD": 20}


CHANGES = [
    ("none", "client-side"),
    ("none", "sse-c"),
    ("sse-c", "client-side"),
    ("client-side", "sse-c"),
    ("sse-c", "none"),
    ("client-side", "none"),
]


@pytest.mark.parametrize("former, mode", CHANGES)
def test_convert(stores, tmp_path, former, mode):
    wrote = fill(stores.open(before(former)), tmp_path)
    store = stores.open(after(mode, former))
    report = rotated(store)
    beside = int("sse-c" in (former, mode))  # client-side encryption leaves what lies beside the blobs as it is
    assert counts(report) == {"left": len(OURS) + beside} | ({} if beside else {"current": 1})
    assert {key: read(store, key) for key in wrote} == wrote
    report = rotated(store, convert=True)
    assert counts(report) == {"converted": len(OURS) + beside} | ({} if beside else {"current": 1})
    modes = {found.mode for found in map(store.protection, OURS)}
    assert modes == {mode} or (mode == "none" and modes <= {"none", "sse-s3"})
    last = stores.open(alone(mode))
    assert {key: read(last, key) for key in wrote} == wrote and last.get_bytes(MARKER) == b"the marker"
    assert set(counts(rotated(last, convert=True))) == {"current"}


@pytest.mark.parametrize("mode", WITH_KEYS)
def test_a_run_goes_on_where_another_one_was_broken_off(stores, tmp_path, tls_proxy, mode, monkeypatch):
    keys = blob_keys(30)
    fill(stores.open(before(mode)), tmp_path, keys)
    store = stores.open(after(mode))
    stop = threading.Event()
    rotation = Rotation(store, concurrency=2, stop=stop)
    with rotation.leased() as lease, rotation.plan() as plan:
        assert plan.objects == 31
        seen = []
        report = rotation.execute(plan, lease, lambda count, size: seen.append(count) or len(seen) < 12 or stop.set())
    assert report.stopped and 12 <= report.count("rewrapped").blobs <= 14
    assert kept_figures(store.unencrypted()) is None  # not of everything
    tls_proxy.reset()
    again = rotated(store)
    assert again.resumed in keys[8:14]
    looked = {exchange.path.partition("/blobs/")[2] for exchange in tls_proxy.exchanges if exchange.method == "HEAD"}
    assert not looked & {key.removeprefix("blobs/") for key in keys if key <= again.resumed}
    # Both together, as if it had been one.
    assert again.done["rewrapped"].blobs == 30 + (mode == "sse-c")
    assert used(store, keys) == {(mode, "two")}
    [(_, count)] = kept_figures(store.unencrypted()).usage.content.items()
    assert count.blobs == 30
    # One that has ended is no place to go on from.
    assert rotated(store).resumed == ""


def test_another_key_begins_anew(stores, tmp_path):
    """What was done for one key says nothing of another one; nor without ``convert`` of a run with it."""
    keys = blob_keys(10)
    fill(stores.open(before("client-side")), tmp_path, keys)
    store = stores.open(after("client-side"))
    stop = threading.Event()
    rotation = Rotation(store, concurrency=1, stop=stop)
    with rotation.leased() as lease, rotation.plan() as plan:
        rotation.execute(plan, lease, lambda count, size: stop.set())
    assert store.unencrypted().get_bytes(ROTATION)
    assert Rotation(store, convert=True).plan().objects == 11
    activate(store.unencrypted(), "one")
    back = stores.open(before("client-side"), register=False)
    with Rotation(back).plan() as plan:
        assert plan.objects == 11 and plan.position.after == ""
    with Rotation(store).plan() as plan:
        assert plan.objects < 11


def test_a_key_that_is_missing_is_named_and_the_others_go_on(stores, tmp_path):
    third = bytes(range(2, 34))
    fill(stores.open(configured([section("client-side", "three", three=third)])), tmp_path, [BLOB])
    fill(stores.open(configured([section("client-side", "one", one=ONE, three=third)])), tmp_path, [OTHER])
    store = stores.open(after("client-side"))
    for _ in range(2):  # also where a run goes on that met it before
        report = rotated(store)
        assert report.failures.by_kind == {"EncryptionKeyMissing": 1}
        [failure] = report.failures.first
        assert failure["key"] == BLOB and failure["reason"] == "it needs the key three, which zope.conf does not have"
        assert used(store, [OTHER]) == {("client-side", "two")}
        assert kept_figures(store.unencrypted()) is None
    full = stores.open(configured([section("client-side", "two", one=ONE, two=TWO, three=third)]))
    assert rotated(full).count("rewrapped").blobs == 1
    assert used(full, [BLOB, OTHER]) == {("client-side", "two")}


def test_what_failed_is_tried_again_by_the_run_that_goes_on(stores, tmp_path, tls_proxy):
    keys = blob_keys(12)
    fill(stores.open(before("client-side")), tmp_path, keys)
    store = stores.open(after("client-side"))
    stop = threading.Event()
    tls_proxy.fail(answer(403, "AccessDenied"), method="PUT", target=keys[1].removeprefix("blobs/"), times=1000)
    rotation = Rotation(store, concurrency=1, stop=stop)
    with rotation.leased() as lease, rotation.plan() as plan:
        seen = []
        report = rotation.execute(plan, lease, lambda count, size: seen.append(count) or len(seen) < 6 or stop.set())
    assert report.failures.by_kind == {"Refused": 1}
    tls_proxy.forgive()
    with Rotation(store).plan() as plan:
        assert plan.position.failed == [keys[1]] and plan.position.after > keys[1]
    again = rotated(store)
    assert again.resumed > keys[1] and not again.failures.count
    assert used(store, keys) == {("client-side", "two")}


def test_a_policy_in_the_way_ends_it(stores, tmp_path, tls_proxy, monkeypatch):
    monkeypatch.setattr(rotate, "_REFUSED_ALL", 5)
    keys = blob_keys(12)
    fill(stores.open(before("client-side")), tmp_path, keys)
    store = stores.open(after("client-side"))
    tls_proxy.fail(answer(403, "AccessDenied"), method="PUT", target="/blobs/", times=1000)
    with pytest.raises(Refused, match="allow s3:GetObject and s3:PutObject"):
        rotated(store, concurrency=1)
    tls_proxy.forgive()
    assert used(store, keys) == {("client-side", "one")}


def test_what_vanishes_meanwhile_is_no_failure(stores, tmp_path, monkeypatch):
    keys = blob_keys(6)
    fill(stores.open(before("client-side")), tmp_path, keys)
    store = stores.open(after("client-side"))
    store.delete(keys[:1])
    rotation = Rotation(store, concurrency=1)
    with rotation.leased() as lease, rotation.plan() as plan:
        store.delete(keys[1:2])  # listed, and gone before it is looked at
        looked = store.as_stored

        def late(key, version=""):
            found = looked(key, version)
            if key == keys[2]:
                store.delete([key])  # gone before it is copied
            return found

        monkeypatch.setattr(store, "as_stored", late)
        report = rotation.execute(plan, lease)
    assert counts(report) == {"gone": 2, "rewrapped": 3, "current": 1} and not report.failures.count
    with pytest.raises(ObjectMissing):
        store.get_bytes(keys[2])


def test_an_outage_ends_it_and_the_next_run_does_the_rest(stores, tmp_path, tls_proxy):
    keys = blob_keys(20)
    wrote = fill(stores.open(before("client-side")), tmp_path, keys)
    stores.settings = dataclasses.replace(stores.settings, outage_patience=0.0, download_max_attempts=1)
    store = stores.open(after("client-side"))
    rotation = Rotation(store, concurrency=2, save_every=0.0)
    with rotation.leased() as lease, rotation.plan() as plan:
        seen = []

        def advance(count, size):
            seen.append(count)
            if len(seen) == 5:
                tls_proxy.fail(answer(503, "ServiceUnavailable"), method="HEAD", times=1000)

        with pytest.raises(Unavailable):
            rotation.execute(plan, lease, advance)
        tls_proxy.forgive()
    report = rotated(store)
    assert report.resumed and not report.failures.count
    assert used(store, keys) == {("client-side", "two")} and {key: read(store, key) for key in keys} == wrote


@pytest.mark.parametrize("mode", WITH_KEYS)
def test_faults_on_the_way_change_nothing(stores, tmp_path, tls_proxy, mode):
    keys = blob_keys(12)
    wrote = fill(stores.open(before(mode)), tmp_path, keys)
    store = stores.open(after(mode))
    tls_proxy.fail(answer(503, "SlowDown"), target="/blobs/", times=3)
    tls_proxy.fail(reset("answer"), method="PUT", target="/blobs/", times=2)
    report = rotated(store)
    assert not report.failures.count and used(store, keys) == {(mode, "two")}
    assert {key: read(store, key) for key in keys} == wrote


# Not beside others


def test_one_at_a_time(stores, tmp_path):
    fill(stores.open(before("client-side")), tmp_path, blob_keys(4))
    first, second = Rotation(stores.open(after("client-side"))), Rotation(stores.open(after("client-side")))
    with first.leased() as lease, first.plan() as plan:
        with pytest.raises(Taken, match="or a rotation of its keys, is running"), second.leased():
            raise AssertionError("two at once")
        assert first.execute(plan, lease).count("rewrapped").blobs == 4
    with second.leased() as lease, second.plan() as plan:
        assert second.execute(plan, lease).count("current").blobs == 5


def test_a_gc_and_a_rotation_are_not_at_the_same_time(make_site, tmp_path):
    site = Collected(make_site("filestorage", **OWNED))
    rotation = Rotation(site.store)
    with rotation.leased():
        with pytest.raises(Taken, match="or a rotation of its keys, is running"):
            site.round()
    control = read_control(site.store)
    with leased(site.store, Margins(), Clock(), control), pytest.raises(Taken), rotation.leased():
        raise AssertionError("beside a gc")
    site.store.advance(DAY)
    assert rotated(site.store).count("current").blobs


def test_a_lease_that_was_left_ends(stores, tmp_path):
    fill(stores.open(before("client-side")), tmp_path, blob_keys(2))
    store = ShiftedStore(stores.open(after("client-side")))
    take(store, Margins(), Clock(), read_control(store))  # its process was killed
    with pytest.raises(Taken), Rotation(store).leased():
        raise AssertionError("the lease lives")
    store.advance(Margins().lease_life + 2)
    assert rotated(store).count("rewrapped").blobs == 2


def test_nothing_is_written_once_the_lease_may_be_lost(stores, tmp_path):
    keys = blob_keys(6)
    fill(stores.open(before("client-side")), tmp_path, keys)
    store = stores.open(after("client-side"))
    now = [0.0]
    rotation = Rotation(store, concurrency=1, clock=Clock(monotonic=lambda: now[0]))
    with rotation.leased() as lease, rotation.plan() as plan:

        def advance(count, size):
            now[0] += 300.0  # the machine slept

        with pytest.raises(Taken, match="too long without a sign of life"):
            rotation.execute(plan, lease, advance)
    assert used(store, keys) == {("client-side", "one"), ("client-side", "two")}


def test_not_to_a_key_that_others_have_superseded(stores, tmp_path):
    fill(stores.open(before("client-side")), tmp_path, blob_keys(2))
    late = stores.open(before("client-side"))
    store = stores.open(after("client-side"))
    with pytest.raises(UnsafeError, match="active-key one: this key is superseded"), Rotation(late).leased():
        raise AssertionError("back")
    activate(store.unencrypted(), "one")
    assert read_entry(store.unencrypted(), "one").state == "active"
    assert rotated(late).count("current").blobs == 3


def test_not_to_a_key_that_nobody_registered(stores, tmp_path):
    store = stores.open(after("client-side"), register=False)
    with pytest.raises(ConfigurationError, match="run `s3blobs keys add two` first"), Rotation(store).leased():
        raise AssertionError("unknown")


def test_what_comes_through_here_has_no_name(stores, tmp_path):
    """So nothing is left of it after a kill, which would be a file in clear."""
    fill(stores.open(before("none")), tmp_path)
    folder = tmp_path / "on their way"
    folder.mkdir()
    seen = []

    class Watching(Pace):
        def take(self, count):
            seen.append(sorted(folder.iterdir()))

    report = rotated(stores.open(after("client-side", "none")), convert=True, folder=folder, pace=Watching(None))
    assert report.count("converted").blobs == len(OURS) and seen and not any(seen)


def test_a_lot_of_failures_do_not_pass_for_done(stores, tmp_path, tls_proxy, monkeypatch):
    """Of so many not each is remembered: the next run begins before the first that is not."""
    monkeypatch.setattr(rotate, "_FAILED_KEPT", 2)
    keys = blob_keys(12)
    fill(stores.open(before("client-side")), tmp_path, keys)
    store = stores.open(after("client-side"))
    for key in keys[1:6]:
        tls_proxy.fail(answer(403, "AccessDenied"), method="PUT", target=key.removeprefix("blobs/"), times=1000)
    stop = threading.Event()
    rotation = Rotation(store, concurrency=1, stop=stop, save_every=0.0)
    with rotation.leased() as lease, rotation.plan() as plan:
        seen = []
        report = rotation.execute(plan, lease, lambda count, size: seen.append(count) or len(seen) < 10 or stop.set())
    assert report.stopped and report.failures.count == 5
    tls_proxy.forgive()
    with Rotation(store).plan() as plan:
        assert plan.position.failed == keys[1:3] and plan.position.after == keys[2]
    again = rotated(store)
    assert not again.failures.count and used(store, keys) == {("client-side", "two")}
    assert again.count("rewrapped").blobs + again.count("current").blobs == 13  # each once: no figure is too high
