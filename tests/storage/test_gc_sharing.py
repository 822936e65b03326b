"""Shared objects: they go when nobody refers to them any more, in two steps, and not before."""

from __future__ import annotations

import dataclasses
import json
import logging
import time
from contextlib import closing

import pytest
from command_line import keys_of, s3blobs, section
from servers.faults import answer
from shared_blobs import begin_sharing, convert, name_of, refer
from sites import bucket_keys, commit_blobs, connected, read_blob
from store_time import DAY, HOUR
from test_cli_gc import OWNER, Command
from test_gc import OWNED, Collected
from test_gc_faults import killed_at
from ZODB.utils import maxtid, z64

from collective.s3blobstorage.errors import UnsafeError
from collective.s3blobstorage.keys import CONDEMNED, condemned_key, draw_name, object_key, reference_key
from collective.s3blobstorage.maintenance.gc.publish import LAST
from collective.s3blobstorage.maintenance.scope import Scope
from collective.s3blobstorage.objectstore import open_store
from collective.s3blobstorage.status import figures

pytestmark = pytest.mark.clear  # nothing is shared where keys of ours encrypt

AT_ONCE = {"grace": 0.0, "keep": 0.0}


class Shared(Collected):
    """A site whose prefix may have shared objects."""

    def __init__(self, site, **margins):
        super().__init__(site, **margins)
        self.bucket = self.storage.store_
        begin_sharing(self.bucket)

    def commit(self, **blobs):
        """Each becomes a shared object. Keys of the references, and of the objects, by name of the blob."""
        commit_blobs(self.db, **blobs)
        made = {}
        with connected(self.db) as connection:
            for name in blobs:
                blob = connection.root()[name]
                oid = blob._p_oid
                (key,) = [key for key in self.site.keys() if key.startswith(f"blobs/{oid.hex()}/") and "." not in key]
                made[name] = convert(self.bucket, key)
        return made

    def remove(self, *names):
        with connected(self.db) as connection:
            for name in names:
                del connection.root()[name]
            connection.transaction_manager.commit()
        self.db.pack(time.time() + 1)

    def there(self, prefix=""):
        kept = ("blobs/", "objects/", "condemned/")
        return {key for key in bucket_keys(self.site.settings.store) if key.startswith(prefix or kept)}


@pytest.fixture
def shared(make_site):
    return lambda kind="filestorage", **margins: Shared(make_site(kind, **OWNED), **margins)


@pytest.mark.parametrize("kind", ["filestorage", "sqlite-hp", "sqlite-hf"])
def test_one_goes_when_the_last_reference_is_gone_for_long_enough(shared, kind):
    site = shared(kind)
    made = site.commit(a=b"same", b=b"same", c=b"other")
    (reference_a, key), (reference_b, same), (_, other) = made.values()
    assert key == same != other
    site.remove("a")
    _, outcome = site.rounds()
    assert (outcome.deleted.blobs, outcome.marked_shared.blobs) == (1, 0)
    assert site.there() == {key for made_ in made.values() for key in made_} - {reference_a}
    for _ in range(3):  # however often and long: one refers to it still
        site.store.advance(8 * DAY)
        plan, outcome = site.round()
        assert (plan.tally.shared.used.blobs, plan.tally.shared.marking.blobs) == (2, 0)
    site.remove("b")
    _, outcome = site.rounds()
    assert reference_b not in site.there() and outcome.marked_shared.blobs == 0
    # The plan that saw the reference the last time says nothing of the object; the next one has it marked.
    plan, outcome = site.round()
    assert (plan.tally.shared.marking.blobs, outcome.marked_shared.bytes) == (1, 4)
    mark = condemned_key(name_of(b"same"))
    assert {key, mark} <= site.there()
    site.store.advance(DAY - HOUR)
    plan, outcome = site.round()
    assert (plan.tally.shared.waiting.blobs, outcome.deleted_shared.blobs) == (1, 0)
    assert plan.tally.next_due is not None
    site.store.advance(2 * HOUR)
    plan, outcome = site.round()
    assert (plan.tally.shared.condemned.blobs, outcome.deleted_shared.bytes, outcome.failed) == (1, 4, {})
    assert site.there() == {*made["c"], mark}
    log = [key for key in bucket_keys(site.site.settings.store) if key.startswith("gc-log/")][-1]
    [line] = site.bucket.get_bytes(log).decode().splitlines()[1:]
    assert json.loads(line)["key"] == key and json.loads(line)["kind"] == "shared"
    plan, _ = site.round()
    assert (plan.tally.shared.marks, plan.tally.shared.objects) == (1, 1)


def test_a_plan_is_executed_later(shared):
    """As the command does it: marks by one execution, deletions by another."""
    site = shared(**AT_ONCE)
    made = site.commit(a=b"same", b=b"same", c=b"other")
    site.remove("a", "b")
    steps = []
    for _ in range(4):
        plan = site.plan()
        if plan.executable:
            outcome = site.collection.execute(LAST)[1]
            steps.append((outcome.deleted.blobs, outcome.marked_shared.blobs, outcome.deleted_shared.blobs))
    assert steps == [(2, 0, 0), (0, 1, 0), (0, 0, 1)]
    assert site.there() == {*made["c"], condemned_key(name_of(b"same"))}


def test_who_refers_to_a_marked_one_keeps_it(shared):
    """Whoever was there before the mark; and what is marked without need is no more than that."""
    site = shared(**AT_ONCE)
    made = site.commit(a=b"same", c=b"other")
    for name in (b"same", b"other"):
        site.bucket.put_bytes(condemned_key(name_of(name)), b"")
    for _ in range(4):
        plan, outcome = site.round()
        assert (plan.tally.shared.used.blobs, outcome.deleted_shared.blobs) == (2, 0)
    assert {*made["a"], *made["c"]} <= site.there()


def test_a_reference_of_a_transaction_under_way_keeps_it(shared):
    site = shared()
    made = site.commit(a=b"same")
    site.bucket.put_bytes(condemned_key(name_of(b"same")), b"")
    site.store.advance(30 * DAY)
    site.remove("a")
    site.rounds()
    assert site.there("blobs/") == set()
    reference, key = refer(site.bucket, bytes(7) + b"\7", draw_name(), b"same")
    assert key == made["a"][1]
    plan, outcome = site.round()
    assert (plan.tally.young.blobs, plan.tally.shared.used.blobs, outcome.deleted_shared.blobs) == (1, 1, 0)
    assert {reference, key} <= site.there()


def test_an_aborted_one_goes_with_its_reference(shared):
    site = shared()
    site.commit(a=b"kept")
    refer(site.bucket, bytes(7) + b"\7", draw_name(), b"never committed")
    site.rounds()
    site.round()
    site.store.advance(2 * DAY)
    _, outcome = site.round()
    assert outcome.deleted_shared.bytes == len(b"never committed")
    assert len(site.there("objects/")) == 1 and len(site.there("blobs/")) == 1


def test_generations_are_judged_one_by_one(shared):
    site = shared(**AT_ONCE)
    site.commit(a=b"kept")
    dead = [name_of(b"same", number) for number in (0, 1, 10)]
    kept = [name_of(b"same", number) for number in (2, 9, 11)]
    for number, name in enumerate([*dead, *kept]):
        site.bucket.put_bytes(object_key(name), b"same")
        site.bucket.put_bytes(condemned_key(name), b"")
        if name in kept:
            site.bucket.put_bytes(reference_key(bytes(7) + b"\7", f"{number:032x}", name), b"")
    site.collection.margins = dataclasses.replace(site.collection.margins, keep=DAY)  # of the references
    for _ in range(2):
        site.round()
    assert {key for key in site.there("objects/") if object_key(name_of(b"same"))[:79] in key} == set(
        map(object_key, kept)
    )


def test_unfinished_uploads_to_them_go_under_the_same_margins(shared, settings, s3):
    site = shared()
    site.commit(a=b"kept")
    s3.create_multipart_upload(Bucket=settings.bucket, Key=object_key(name_of(b"large")))
    _, outcome = site.rounds()
    assert outcome.aborted_uploads == 1 and list(site.bucket.list_uploads()) == []


# What is refused


def test_what_is_not_exactly_one_stays_and_is_told(shared):
    site = shared(**AT_ONCE)
    site.commit(a=b"kept")
    name = name_of(b"same")
    foreign = [
        f"objects/{name}",
        f"objects/00/00/{name}",
        f"{object_key(name)}0x",
        f"objects/{name[:2]}/{name[2:4]}/{name[:-1]}01",
        f"{CONDEMNED}{name}/x",
        f"{CONDEMNED}{name[:-2]}",
        f"{reference_key(bytes(8), '1' * 32, name)}.1",
    ]
    for key in foreign:
        site.bucket.put_bytes(key, b"x")
    for _ in range(4):
        plan, outcome = site.round()
        assert (outcome.marked_shared.blobs, outcome.deleted_shared.blobs, outcome.deleted.blobs) == (0, 0, 0)
    assert sorted(plan.tally.foreign_keys) == sorted(foreign)
    assert set(foreign) <= set(bucket_keys(site.site.settings.store))


def test_nothing_is_judged_where_the_marker_knows_of_none(make_site, settings):
    """References are foreign keys then, and stay, with what they refer to."""
    site = Collected(make_site("filestorage", **OWNED), **AT_ONCE)
    commit_blobs(site.db, a=b"1")
    reference, key = refer(site.storage.store_, bytes(7) + b"\7", draw_name(), b"same")
    for _ in range(3):
        plan, outcome = site.round()
        assert plan.tally.shared is None and outcome.deleted.blobs == 0
    assert sorted(plan.tally.foreign_keys) == sorted([reference, key])


def test_a_share_that_is_too_large_is_refused(shared):
    site = shared(share=0.25, **AT_ONCE)
    site.commit(a=b"1", b=b"2", c=b"3")
    names = [name_of(b"%d" % number) for number in (8, 9)]
    for name in names:
        site.bucket.put_bytes(object_key(name), b"x")
    with pytest.raises(UnsafeError, match=r"2 of 5 objects would go, 40%.*--allow 40%"):
        site.round()
    assert site.there(CONDEMNED) == set()
    plan = site.plan()
    assert plan.tally.share == 0.4
    with pytest.raises(UnsafeError, match="--allow 40%"):
        site.collection.execute(LAST)
    site.collection.margins = dataclasses.replace(site.collection.margins, share=0.4)
    assert site.collection.execute(LAST)[1].marked_shared.blobs == 2
    assert site.there(CONDEMNED) == set(map(condemned_key, names))


def test_a_part_of_the_prefix_says_nothing_of_them(shared):
    site = shared(**AT_ONCE)
    made = site.commit(a=b"same", b=b"same")
    site.remove("a", "b")
    commit_blobs(site.db, kept=b"kept")
    site.bucket.put_bytes(condemned_key(name_of(b"same")), b"")
    for _ in range(3):
        for scope in (Scope(z64, maxtid[:-1] + b"\0"), Scope(bytes(7) + b"\1", maxtid)):
            with site.collection.plan(scope) as plan:
                site.collection.publish(plan)
                assert plan.tally.shared is None and plan.deduplicated
                name = plan.executable
            if name is not None:
                site.collection.execute(name)
    # References are judged there as all that is of a revision.
    assert site.there("blobs/") == set(site.site.keys()) and len(site.site.keys()) == 1
    assert site.there("objects/") == {made["a"][1]}


def test_who_lost_its_mark_since_the_plan_is_spared(shared):
    site = shared(**AT_ONCE)
    site.commit(a=b"kept")
    names = [name_of(b"1"), name_of(b"2"), name_of(b"3")]
    for name in names:
        site.bucket.put_bytes(object_key(name), b"x")
        site.bucket.put_bytes(condemned_key(name), b"")
    site.store.advance(DAY)
    site.plan()
    site.bucket.delete([condemned_key(names[0])])
    site.bucket.put_bytes(condemned_key(names[1]), b"")  # is of now
    _, outcome = site.collection.execute(LAST)
    assert (outcome.deleted_shared.blobs, outcome.spared) == (1, 2)
    assert {object_key(name) for name in names[:2]} <= site.there() and object_key(names[2]) not in site.there()


def test_a_mark_that_another_gc_made_since_the_plan_stays_as_old_as_it_is(shared):
    site = shared(**AT_ONCE)
    site.commit(a=b"kept")
    site.bucket.put_bytes(object_key(name_of(b"1")), b"x")
    site.plan()
    site.bucket.put_bytes(condemned_key(name_of(b"1")), b"by another gc")
    _, outcome = site.collection.execute(LAST)
    assert (outcome.marked_shared.blobs, outcome.failed) == (1, {})
    assert site.bucket.get_bytes(condemned_key(name_of(b"1"))) == b"by another gc"


def test_marks_that_are_refused_are_told(make_site, settings, proxy):
    site = Shared(
        make_site("filestorage", store=dataclasses.replace(settings, endpoint_url=proxy.endpoint_url), **OWNED),
        **AT_ONCE,
    )
    site.commit(a=b"kept")
    for data in (b"1", b"2"):
        site.bucket.put_bytes(object_key(name_of(data)), data)
    proxy.fail(answer(403, "AccessDenied"), method="PUT", target=f"condemned/{name_of(b'1')[:9]}", times=99)
    _, outcome = site.round()
    assert (outcome.marked_shared.blobs, outcome.failed) == (1, {"Refused": 1})
    assert outcome.failures[0]["key"] == condemned_key(name_of(b"1"))
    proxy.forgive()
    _, outcome = site.round()
    assert outcome.marked_shared.blobs == 1 and len(site.there(CONDEMNED)) == 2


# Figures, and how many requests


def test_a_plan_keeps_what_a_count_would(shared):
    site = shared()
    site.commit(a=b"same", b=b"same", c=b"same", d=b"other")
    commit_blobs(site.db, own=b"own")
    site.bucket.put_bytes(condemned_key(name_of(b"gone")), b"")
    counted = figures.count(site.bucket)
    assert (counted.objects.shared.objects, counted.objects.references.objects, counted.saved) == (2, 4, 8)
    plan = site.plan()
    assert plan.figures == counted and plan.tally.shared.saved == 8
    kept = figures.read(site.bucket)
    assert (kept["saved"], kept["shared"]) == (8, {"objects": 2, "bytes": 9})
    assert site.storage.status("main").document()["figures"] == kept


def test_figures_that_were_kept_before_there_were_any_are_read(shared):
    site = shared()
    site.commit(a=b"same")
    site.plan()
    told = json.loads(site.bucket.get_bytes("status/figures"))
    for name in ("shared", "references", "saved"):
        del told[name]
    site.bucket.put_bytes("status/figures", json.dumps(told).encode())
    kept = figures.read(site.bucket)
    assert (kept["saved"], kept["shared"]) == (0, {"objects": 0, "bytes": 0}) and kept["blobs"]["objects"] == 0


def test_without_shared_objects_not_a_request_more_is_made(make_site, settings, proxy):
    """With them one: the listing of the marks; and one before each batch of deletions."""
    through = dataclasses.replace(settings, endpoint_url=proxy.endpoint_url)
    site = Collected(make_site("filestorage", store=through, **OWNED), **AT_ONCE)
    commit_blobs(site.db, a=b"1", b=b"1")
    site.storage.witness.finish()  # no request of its own
    proxy.reset()
    site.round()
    without = proxy.lines
    assert not any("condemned" in line or "objects%2F" in line or "objects/" in line for line in without)
    begin_sharing(site.storage.store_)
    proxy.reset()
    site.round()
    asked = [line for line in proxy.lines if "list-type=2" in line]
    assert len(proxy.lines) == len(without) + 1
    # The marks before the references: all of the protocol hangs on that.
    assert [line.partition("prefix=")[2].partition("&")[0] for line in asked] == ["gc%2F", "condemned%2F", ""]
    name = name_of(b"dead")
    for key in (object_key(name), condemned_key(name)):
        site.storage.store_.put_bytes(key, b"dead")
    proxy.reset()
    _, outcome = site.round()
    assert outcome.deleted_shared.blobs == 1
    assert len([line for line in proxy.lines if "condemned" in line]) == 2


# Behind a pack


def test_rounds_behind_packs_say_what_became_of_them(make_site, caplog):
    """Over what a site with ``dedup on`` commits."""
    caplog.set_level(logging.INFO)
    site = make_site(
        "filestorage", **{**OWNED, "gc_on_pack": "execute", "gc_grace": 0.0, "gc_keep": 0.0, "dedup": True}
    )
    db = site.db()
    commit_blobs(db, a=b"same", b=b"same", **{f"kept{number}": b"%d" % number for number in range(20)})
    commit_blobs(db, a=b"other", b=b"other")
    for _ in range(4):
        db.pack(time.time() + 1)
    told = [record.getMessage() for record in caplog.records if "gc after the pack, " in record.getMessage()]
    assert ["shared" in line for line in told] == [False, False, True, True]
    assert "2 objects deleted" in told[1] and "1 shared objects marked" in told[2]
    assert "1 shared objects deleted (4 bytes)" in told[3]
    keys = bucket_keys(site.settings.store)
    assert object_key(name_of(b"same")) not in keys and object_key(name_of(b"other")) in keys
    assert read_blob(db, "a") == read_blob(db, "b") == b"other"


# The command


def test_the_command_says_what_becomes_of_them(shared, settings, tmp_path, capsys, monkeypatch):
    for name, value in keys_of(settings).items():
        monkeypatch.setenv(name, value)
    site = shared()
    site.commit(a=b"same", b=b"same", c=b"other")
    site.bucket.put_bytes(object_key(name_of(b"dead")), b"dead")
    site.site.close_all()
    base = f"<filestorage>\n  path {site.site.folder}/Data.fs\n</filestorage>"
    conf = tmp_path / "s3blobs.conf"
    conf.write_text("%import collective.s3blobstorage\n" + section(settings, tmp_path / "cache", base, OWNER))
    command = Command(site.site, conf, capsys, monkeypatch)
    assert "1 blobs, 4 bytes too young" in command()[1]
    command.time.advance(2 * DAY)
    status, said, errors = command("--allow", "50%")
    assert (status, errors) == (0, "")
    assert "by 3 references, which saves 4 bytes" in said and "to be marked: nothing refers to them" in said
    found = command.plan("--allow", "50%")
    assert found["shared"]["marking"] == {"blobs": 1, "bytes": 4} and found["plan"]
    assert "shared  not judged" in command("--oid-range", "0-ff")[1]
    assert "that nothing begins to share any more" in command("--execute", "last", "--allow", "50%")[1]
    assert "they were marked within gc-grace" in command()[1]
    command.time.advance(2 * DAY)
    assert "4 bytes may go" in command("--allow", "50%")[1]
    assert "4 bytes deleted" in command("--execute", "last", "--allow", "50%")[1]
    status = s3blobs("--config", conf, "status", env=keys_of(settings))
    assert (status.returncode, status.stderr) == (0, "")
    assert "which 3 blobs refer to; that saves 4 bytes" in status.stdout


# Kills


REQUESTS = 24  # of two rounds, in each of which something is marked or deleted


@pytest.mark.slow
def test_killed_at_each_request(make_site, settings, proxy, tier):
    """Whatever it had come to: what is in use can be read, and all else goes in the end."""
    store = dataclasses.replace(settings, endpoint_url=proxy.endpoint_url, outage_patience=2.0)
    site = make_site("filestorage", store=store, **OWNED)
    shared = Shared(site)
    used = {key for keys in shared.commit(a=b"same", b=b"same", c=b"other").values() for key in keys}
    site.close_all()
    count = tier["gc_kills"]
    numbers = sorted({1 + round(step * (REQUESTS - 1) / max(count - 1, 1)) for step in range(count)})
    reached, marks = 0, set()
    for number in numbers:
        dead = [f"{what} {number}".encode() for what in ("unmarked", "marked", "referred")]
        with closing(open_store(settings)) as bucket:
            for data in dead[:2]:
                bucket.put_bytes(object_key(name_of(data)), data)
            bucket.put_bytes(condemned_key(name_of(dead[1])), b"")
            refer(bucket, bytes(7) + bytes([number]), draw_name(), dead[2])
        marks |= {condemned_key(name_of(data)) for data in dead}
        reached += killed_at(number, site, proxy)
        site.cold()
        shared = Shared(site, **AT_ONCE)
        assert [read_blob(shared.db, name) for name in "abc"] == [b"same", b"same", b"other"]
        shared.store.advance(HOUR)  # its lease has ended
        for _ in range(5):
            shared.round()
        assert shared.there() == used | marks
        site.close_all()
    assert reached > len(numbers) / 2
