"""``maintenance/fsck``: every kind of damage, made on purpose, is found with its name, and mended where it can be."""

from __future__ import annotations

import dataclasses
import os
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from blob_sites import undo_last
from checked_sites import ENCRYPTIONS, ONE, TWO, Bucket, Checked, Quiet, encrypted
from rings import client_side, sse_c
from servers import faults
from sites import commit_blobs, connected, read_blob, wait_until
from store_time import ShiftedStore
from ZODB.blob import FilesystemHelper
from ZODB.Connection import TransactionMetaData
from ZODB.utils import oid_repr

from collective.s3blobstorage.errors import Unavailable
from collective.s3blobstorage.keys import blob_key, draw_name, foreign_keys
from collective.s3blobstorage.maintenance.fsck import mend, run
from collective.s3blobstorage.maintenance.fsck.told import told_by
from collective.s3blobstorage.maintenance.gc.control import read_control
from collective.s3blobstorage.maintenance.gc.lease import Lease, Taken, leased, take
from collective.s3blobstorage.maintenance.gc.margins import Margins
from collective.s3blobstorage.maintenance.gc.references import view_of
from collective.s3blobstorage.maintenance.gc.runs import Collection
from collective.s3blobstorage.maintenance.jobs import kept_findings
from collective.s3blobstorage.maintenance.jobs.board import Board
from collective.s3blobstorage.maintenance.jobs.jobs import Jobs
from collective.s3blobstorage.maintenance.rotate import rotate
from collective.s3blobstorage.maintenance.scope import Scope
from collective.s3blobstorage.objectstore.clock import Clock
from collective.s3blobstorage.overlay.interfaces import SourceOptions
from collective.s3blobstorage.overlay.settings import BlobDirSettings
from collective.s3blobstorage.status.status import Checks
from collective.s3blobstorage.storage.record import read_state, with_state

KINDS = ["filestorage", "sqlite-hp", "sqlite-hf", "postgresql-hp", "zeo-client"]
BY_LISTING = ("missing", "truncated", "wrong-size")
DAMAGES = (*BY_LISTING, "wrong-bytes", "wrong-metadata")
OWNED = {"owner": "www.example.org", "preflight": False, "gc_on_pack": "off"}


@pytest.fixture
def checked(make_site, settings, request, ca):
    """``checked(kind, encryption)``: an open site; ``required`` and keys as of ``encrypted``."""
    opened = []

    def tls():
        proxy = request.getfixturevalue("tls_proxy")
        return proxy.endpoint_url, ca.bundle

    def make(kind="filestorage", encryption="none", *, store=None, required=False, keys=None, **more):
        store = encrypted(store or settings, encryption, tls, required=required, **(keys or {}))
        opened.append(Checked(make_site(kind, store=store, **{**OWNED, **more})))
        return opened[-1]

    yield make
    for each in opened:
        each.bucket.close()


@pytest.fixture
def versioned(s3, settings):
    s3.put_bucket_versioning(Bucket=settings.bucket, VersioningConfiguration={"Status": "Enabled"})


def filled(site, names=DAMAGES):
    """A blob for each name, and one that stays right; the bytes of each."""
    blobs = {name.replace("-", "_"): os.urandom(3000 + 70_000 * (number % 2)) for number, name in enumerate(names)}
    commit_blobs(site.db, **blobs, right=b"right", empty=b"")
    return blobs


def damage_all(site, names=DAMAGES):
    """By kind, the key that was damaged."""
    keys = {name: site.key(name.replace("-", "_")) for name in names}
    for name, key in keys.items():
        site.bucket.damage(key, name)
    return keys


@pytest.mark.parametrize("encryption", ENCRYPTIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_damage_is_found_with_its_name_and_mended(checked, kind, encryption):
    site = checked(kind, encryption)
    blobs = filled(site)
    assert site.fsck(deep=True) == {} and site.report.reading.by_record == len(blobs) + 2
    keys = damage_all(site)
    assert site.fsck() == dict.fromkeys(BY_LISTING, 1)
    assert site.fsck(deep=True) == dict.fromkeys(DAMAGES, 1)
    found = {finding["kind"]: finding for finding in site.findings}
    kept = {revision.key: revision for revision in site.kept()}
    for name, key in keys.items():
        finding, revision = found[name], kept[key]
        size = len(blobs[name.replace("-", "_")])
        assert (finding["key"], finding["oid"], finding["record_size"]) == (key, oid_repr(revision.oid), size)
        assert abs(time.time() - time.mktime(time.strptime(finding["date"][:19], "%Y-%m-%dT%H:%M:%S"))) < 86400
        assert finding["detail"] and finding["repair"] is None
    before = {key: site.bucket.get(key) for name, key in keys.items() if name != "missing"}
    # Said, and nothing done.
    site.fsck(deep=True, repair=True, dry_run=True)
    assert site.report.repaired == {"would be repaired": len(DAMAGES)} and site.report.wrong == len(DAMAGES)
    assert {key: site.bucket.get(key) for key in before} == before
    # Done, from the cache, which commits filled; what only says wrong things of itself from its own bytes.
    site.fsck(deep=True, repair=True)
    assert site.report.repaired == {"repaired": len(DAMAGES)} and site.report.wrong == 0
    origins = {finding["kind"]: finding["repair"]["origin"] for finding in site.findings}
    assert origins == {**dict.fromkeys(DAMAGES, "cache"), "wrong-metadata": "object"}
    assert {finding["repair"]["proof"] for finding in site.findings} == {"sha256"}
    assert site.fsck(deep=True) == {}
    site.site.close_all()
    site.site.cold()
    db = site.site.db()
    for name, data in blobs.items():
        assert read_blob(db, name) == data


@pytest.mark.parametrize("encryption", ENCRYPTIONS)
def test_an_older_version_comes_back(checked, versioned, encryption):
    site = checked(encryption=encryption)
    blobs = filled(site)
    keys = damage_all(site)
    site.site.close_all()
    site.site.cold()
    again = Checked(site.site)
    with again:
        again.fsck(deep=True, repair=True)
        assert again.report.repaired == {"repaired": len(DAMAGES)}, again.findings
        origins = {finding["kind"]: finding["repair"]["origin"].split()[0] for finding in again.findings}
        assert origins == {**dict.fromkeys(DAMAGES, "version"), "wrong-metadata": "object"}
        assert again.fsck(deep=True) == {} and set(keys.values()) <= set(again.site.keys())
        for name, data in blobs.items():
            assert read_blob(again.db, name) == data


def test_of_versions_only_the_right_bytes_come_back(checked, versioned):
    site = checked()
    commit_blobs(site.db, blob=b"x" * 3000)
    key = site.key("blob")
    data, metadata = site.bucket.get(key)
    site.bucket.put(key, b"y" * 3000, metadata)
    site.bucket.put(key, b"short")
    site.bucket.delete(key)
    site.site.close_all()
    site.site.cold()
    with Checked(site.site) as again:
        again.fsck(repair=True)
        [finding] = again.findings
        versions = [version for version in again.bucket.opened.list_versions(key) if not version.is_marker]
        assert len(versions) == 4 and again.bucket.get(key)[0] == data
        assert finding["repair"]["origin"] == f"version {versions[3].version}"


def test_without_any_origin_it_says_what_to_do(checked):
    site = checked()
    commit_blobs(site.db, blob=b"x" * 3000)
    site.bucket.damage(site.key("blob"), "missing")
    site.site.close_all()
    site.site.cold()
    with Checked(site.site) as again:
        again.fsck(repair=True)
        [finding] = again.findings
        assert finding["repair"]["what"] == "not repaired" and "<s3source>" in finding["repair"]["detail"]
        assert again.report.wrong == 1 and again.site.keys() == []


def test_a_cache_with_other_bytes_repairs_nothing(checked):
    """A file that rotted on the disk: its size and time are right, its bytes are not."""
    site = checked()
    commit_blobs(site.db, blob=b"x" * 3000)
    [revision] = site.kept()
    path = site.storage.cache.get_text(revision.oid, revision.tid)
    status = os.stat(path)
    os.chmod(path, 0o600)
    with open(path, "r+b") as file:
        file.write(b"y")
    os.chmod(path, 0o400)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    site.bucket.damage(revision.key, "truncated")
    assert site.fsck(repair=True) == {"truncated": 1}
    [finding] = site.findings
    assert finding["repair"]["what"] == "not repaired" and "cache: " in finding["repair"]["detail"]
    assert site.bucket.get(revision.key)[0] == b"x" * 1500


def test_what_was_changed_meanwhile_stays(checked, monkeypatch):
    """Between the look and the repair somebody else brought the object back: it is not overwritten."""
    site = checked()
    blobs = filled(site, ("truncated", "missing"))
    keys = damage_all(site, ("truncated", "missing"))
    put = mend.Mender._put

    def somebody_else_is_faster(self, findings, content, sha256):
        site.bucket.put(findings[0].key, b"somebody else's")
        put(self, findings, content, sha256)

    monkeypatch.setattr(mend.Mender, "_put", somebody_else_is_faster)
    site.fsck(repair=True)
    assert site.report.repaired == {"changed meanwhile": 2} and site.report.wrong == 2
    assert {site.bucket.get(key)[0] for key in keys.values()} == {b"somebody else's"} and blobs


def test_a_repair_whose_answer_was_lost_is_one(checked, settings, proxy):
    site = checked(store=dataclasses.replace(settings, endpoint_url=proxy.endpoint_url))
    filled(site, ("missing", "truncated"))
    keys = damage_all(site, ("missing", "truncated"))
    for key in keys.values():
        proxy.fail(faults.reset("answer"), method="PUT", target=key)
    site.fsck(repair=True)
    assert site.report.repaired == {"repaired": 2} and site.report.wrong == 0, site.findings
    assert site.fsck(deep=True) == {}


def test_one_writer_of_maintenance_at_a_time(checked):
    """Where another holds the lease a repair ends before hours of reading, and not behind them."""
    site = checked()
    filled(site, ("missing",))
    damage_all(site, ("missing",))
    store, margins = site.bucket.opened, Margins()
    with leased(store, margins, Clock(), read_control(store)):
        assert site.fsck() == {"missing": 1}
        assert site.fsck(repair=True, dry_run=True) == {"missing": 1}
        running = Quiet()
        with pytest.raises(Taken):
            site.fsck(running, repair=True)
        assert running.phases == []
    site.fsck(repair=True)
    assert site.report.repaired == {"repaired": 1}
    assert read_control(store).leases and not any(line.size for line in read_control(store).leases.values())


@pytest.fixture
def before_the_lease(monkeypatch):
    """``before_the_lease(do)``: done once, when the findings are looked at and named, and nobody holds the lease."""

    def make(do):
        looked = run._Fsck._content_of_findings
        once = [do]

        def then(self, base):
            found = looked(self, base)
            while once:
                once.pop()()
            return found

        monkeypatch.setattr(run._Fsck, "_content_of_findings", then)

    return make


@pytest.mark.parametrize("kind", ["filestorage", "sqlite-hp", "zeo-client"])
def test_what_gc_collected_meanwhile_is_not_brought_back(checked, before_the_lease, kind):
    """A pack and a real gc between the look and the repair: its revisions are gone, and so are their objects."""
    site = checked(kind)
    blobs = filled(site, ("missing", "truncated"))
    keys = damage_all(site, ("missing", "truncated"))
    commit_blobs(site.db, missing=b"newer", truncated=b"newer", right=b"right", more=b"more")

    def collect():
        site.db.pack(time.time() + 1)
        margins = Margins(grace=0.0, keep=0.0, share=1.0)
        collection = Collection(site.bucket.opened, lambda: view_of(site.storage._base), margins)
        for _ in range(2):  # what the first one dates the second one condemns
            with collection.plan() as plan:
                collection.publish(plan)
        _, outcome = collection.execute(plan.id)
        assert outcome.deleted.blobs == 2  # the truncated one, and that of `right`; the missing one was gone already
        assert not set(keys.values()) & set(site.site.keys())

    before_the_lease(collect)
    assert site.fsck(repair=True) == {} and site.report.repaired == {}
    assert site.report.gone == 2 and site.findings == []
    assert not set(keys.values()) & set(site.site.keys()) and blobs
    assert site.report.wrong == 0


def test_what_a_rotation_wrote_meanwhile_stays_with_its_key(checked, before_the_lease):
    """It gives each object a new envelope and leaves its bytes, so that the ETag is the same."""
    first = checked(encryption="client-side", keys={"one": ONE})
    blobs = filled(first, ("missing", "truncated", "wrong-bytes"))
    damage_all(first, ("missing", "truncated", "wrong-bytes"))
    first.site.close_all()

    def reopened(**keys):
        store = dataclasses.replace(first.site.settings.store, encryption=_made("client-side", **keys))
        first.site.settings = dataclasses.replace(first.site.settings, store=store)
        return Checked(first.site)

    with reopened(two=TWO, one=ONE) as both:
        before_the_lease(lambda: rotate(both.bucket.opened, False, 4, None, Quiet()))
        both.fsck(deep=True, repair=True)
        assert both.report.repaired == {"repaired": 3}, both.findings
        both.site.close_all()
    with reopened(two=TWO) as alone:
        assert alone.fsck(deep=True) == {} and alone.report.waiting.blobs == 0
        alone.site.close_all()
        alone.site.cold()
        db = alone.site.db()
        for name, data in blobs.items():
            assert read_blob(db, name) == data


def test_what_somebody_else_repaired_meanwhile_is_not_written_again(checked, versioned, before_the_lease):
    site = checked()
    filled(site, ("missing", "wrong-bytes"))
    right = {name: site.bucket.get(site.key(name.replace("-", "_"))) for name in ("missing", "wrong-bytes")}
    keys = damage_all(site, ("missing", "wrong-bytes"))
    before_the_lease(lambda: [site.bucket.put(key, *right[name]) for name, key in keys.items()])
    site.fsck(deep=True, repair=True)
    assert site.report.repaired == {"changed meanwhile": 2}
    assert {finding["repair"]["detail"] for finding in site.findings} == {"it is right by now"}
    for key in keys.values():
        assert len([version for version in site.bucket.opened.list_versions(key) if not version.is_marker]) <= 3
        assert site.bucket.get(key) in right.values()


@pytest.mark.parametrize("releases", [False, True])
def test_a_lease_that_another_took_while_it_read(checked, before_the_lease, monkeypatch, releases):
    """It is waited for; after that what was found is told all the same, and nothing is written."""
    site = checked()
    filled(site, ("missing", "truncated"))
    keys = damage_all(site, ("missing", "truncated"))
    store, margins = site.bucket.opened, Margins()
    taken = []
    before_the_lease(lambda: taken.append(take(store, margins, Clock(), read_control(store))))
    monkeypatch.setattr(run, "_PATIENCE", 0.3)
    monkeypatch.setattr(run._Fsck, "_pause", lambda self: releases and taken[0].release())
    assert site.fsck(repair=True) == {"missing": 1, "truncated": 1}
    if releases:
        assert site.report.repaired == {"repaired": 2}
        return
    assert site.report.repaired == {"not repaired": 2} and site.report.wrong == 2
    assert all("another gc" in finding["repair"]["detail"] for finding in site.findings)
    assert site.bucket.get(keys["truncated"])[0] and keys["missing"] not in site.site.keys()


def test_a_lease_that_is_lost_ends_the_repair_and_no_report(checked, monkeypatch):
    site = checked()
    filled(site, ("missing", "truncated", "wrong-size"))
    damage_all(site, ("missing", "truncated", "wrong-size"))
    asked = []

    def lost_at_the_second(self):
        asked.append(1)
        if len(asked) > 1:
            raise Taken("the lease was held for too long")

    monkeypatch.setattr(Lease, "check", lost_at_the_second)
    assert sum(site.fsck(repair=True, concurrency=1).values()) == 3
    assert site.report.repaired == {"repaired": 1, "not repaired": 2}
    assert len(site.findings) == 3


# Encryption


@pytest.mark.parametrize("encryption", ["client-side", "sse-c"])
def test_what_is_encrypted_otherwise(checked, make_site, encryption):
    """Another key, and none: no finding where it can be read, but a count of what `keys rotate` would change."""
    clear = checked()
    commit_blobs(clear.db, clear=b"c" * 3000)
    clear.site.close_all()
    with_one = checked(encryption=encryption, keys={"one": ONE})
    with_one.site.folder = clear.site.folder  # the same database
    with_one.site.close_all()
    first = Checked(with_one.site)
    commit_blobs(first.db, one=b"1" * 3000)
    one = first.key("one")
    first.site.close_all()
    with_one.site.settings = dataclasses.replace(
        with_one.site.settings,
        store=dataclasses.replace(with_one.site.settings.store, encryption=_made(encryption, two=TWO, one=ONE)),
    )
    with Checked(with_one.site) as both:
        commit_blobs(both.db, two=b"2" * 3000)
        assert both.fsck() == {} and both.report.waiting.blobs == (1 if encryption == "client-side" else 0)
        assert both.fsck(deep=True) == {} and both.report.waiting.blobs == 2
        both.site.close_all()
    with_one.site.settings = dataclasses.replace(
        with_one.site.settings,
        store=dataclasses.replace(with_one.site.settings.store, encryption=_made(encryption, required=True, two=TWO)),
    )
    with Checked(with_one.site) as strict:
        clear_key = strict.key("clear")
        # A listing tells what is in clear, but not whose key an object has.
        assert strict.fsck() == ({"wrong-encryption": 1} if encryption == "client-side" else {})
        assert strict.fsck(deep=True) == {"wrong-encryption": 2}
        assert {finding["key"] for finding in strict.findings} == {clear_key, one}
        assert strict.fsck(deep=True, repair=True) == {"wrong-encryption": 2}
        # This machine's cache has one of them, and the store tells of it without its key unless that is for SSE-C.
        mended = {finding["key"]: finding["repair"]["what"] for finding in strict.findings}
        assert mended == {clear_key: "not repaired", one: "repaired" if encryption == "client-side" else "not repaired"}
        strict.site.close_all()
    strict.site.cold()
    if encryption == "client-side":
        assert read_blob(strict.site.db(), "one") == b"1" * 3000


def test_of_a_lost_key_comes_back_what_a_directory_has(checked, tmp_path):
    """Also where the record has no hash, as after a migration; the others stay as they are, for the key to be found."""
    site = checked(encryption="client-side", keys={"one": ONE})
    blobs = {"lost": b"l" * 3000, "kept": b"k" * 70_000, "plain": b"p" * 100}
    commit_blobs(site.db, **blobs)
    (plain,) = [revision for revision in site.kept() if revision.key == site.key("plain")]
    _forget_hash(site, plain.oid, plain.tid)
    site.db.pack(time.time() + 1)
    keys = {name: site.key(name) for name in blobs}
    kept = {revision.key: revision for revision in site.kept()}
    files = FilesystemHelper(str(tmp_path / "blobs"))
    files.create()
    for name in ("kept", "plain"):
        path = Path(files.getBlobFilename(kept[keys[name]].oid, kept[keys[name]].tid))
        path.parent.mkdir(parents=True)
        path.write_bytes(blobs[name])
    before = site.bucket.get(keys["lost"])
    site.site.close_all()
    site.site.cold()
    store = dataclasses.replace(site.site.settings.store, encryption=_made("client-side", two=TWO))
    source = BlobDirSettings(SourceOptions("old"), tmp_path / "blobs")
    old = Bucket(site.site.settings.store)
    site.site.settings = dataclasses.replace(site.site.settings, store=store, sources=(source,))
    with closing(old), Checked(site.site) as without:
        commit_blobs(without.db, new=b"n")
        assert without.fsck(deep=True, repair=True) == {"wrong-encryption": 3}
        assert without.report.repaired == {"repaired": 2, "not repaired": 1}
        told = {finding["key"]: finding["repair"] for finding in without.findings}
        assert told[keys["kept"]]["proof"] == "sha256"
        assert told[keys["plain"]]["proof"] == "size"
        assert told[keys["lost"]]["detail"].startswith("it is not damaged: ")
        assert old.get(keys["lost"]) == before
        assert without.fsck(deep=True) == {"wrong-encryption": 1}


def test_what_lost_its_key_and_was_given_another_meanwhile_stays(checked, before_the_lease, tmp_path):
    """By somebody who still has it: the ETag is the same, and what an origin has is proven by its size alone."""
    site = checked(encryption="client-side", keys={"one": ONE})
    commit_blobs(site.db, blob=b"r" * 3000)
    (revision,) = [revision for revision in site.kept() if revision.key == site.key("blob")]
    _forget_hash(site, revision.oid, revision.tid)
    site.db.pack(time.time() + 1)
    (revision,) = [revision for revision in site.kept() if revision.key == site.key("blob")]
    files = FilesystemHelper(str(tmp_path / "blobs"))
    files.create()
    path = Path(files.getBlobFilename(revision.oid, revision.tid))
    path.parent.mkdir(parents=True)
    path.write_bytes(b"w" * 3000)
    site.site.close_all()
    site.site.cold()
    store = site.site.settings.store
    both = dataclasses.replace(store, encryption=_made("client-side", two=TWO, one=ONE))
    alone = dataclasses.replace(store, encryption=_made("client-side", two=TWO))
    source = BlobDirSettings(SourceOptions("old"), tmp_path / "blobs")
    site.site.settings = dataclasses.replace(site.site.settings, store=alone, sources=(source,))
    with closing(Bucket(both)) as other, Checked(site.site) as without:
        before_the_lease(lambda: rotate(other.opened, False, 4, None, Quiet()))
        without.fsck(deep=True, repair=True)
        assert without.report.repaired == {"changed meanwhile": 1}, without.findings
        assert without.fsck(deep=True) == {}
        without.site.close_all()
        without.site.cold()
        assert read_blob(without.site.db(), "blob") == b"r" * 3000


@pytest.mark.parametrize("told", [True, False])
def test_what_is_in_clear_and_whole_is_replaced_by_proven_bytes_only(checked, tmp_path, told):
    """``require-encryption`` came later: nothing is lost, and a file with rotten bytes must not take its place."""
    site = checked()
    commit_blobs(site.db, blob=b"r" * 3000)
    (revision,) = [revision for revision in site.kept() if revision.key == site.key("blob")]
    _forget_hash(site, revision.oid, revision.tid)
    site.db.pack(time.time() + 1)
    (revision,) = [revision for revision in site.kept() if revision.key == site.key("blob")]
    key = revision.key
    if not told:  # as zodb-s3blobs writes it
        site.bucket.put(key, b"r" * 3000)
    before = site.bucket.get(key)
    files = FilesystemHelper(str(tmp_path / "blobs"))
    files.create()
    path = Path(files.getBlobFilename(revision.oid, revision.tid))
    path.parent.mkdir(parents=True)
    path.write_bytes(b"w" * 3000)
    site.site.close_all()
    site.site.cold()
    strict = dataclasses.replace(site.site.settings.store, encryption=_made("client-side", required=True, one=ONE))
    source = BlobDirSettings(SourceOptions("old"), tmp_path / "blobs")
    site.site.settings = dataclasses.replace(site.site.settings, store=strict, sources=(source,))
    with Checked(site.site) as again:
        assert again.fsck(repair=True) == {"wrong-encryption": 1}
        assert again.report.repaired == {"not repaired": 1}, again.findings
        assert site.bucket.get(key) == before
        path.write_bytes(b"r" * 3000)
        again.fsck(repair=True)
        assert again.report.repaired == {"repaired" if told else "not repaired": 1}, again.findings


def test_what_a_source_has_with_other_bytes_is_a_finding(old_site, checked):
    """The bucket has not got it, and the source only a part of it."""
    source = old_site()
    source.blobs.mkdir(parents=True, exist_ok=True)
    site = checked()
    commit_blobs(site.db, blob=b"b" * 3000)
    (revision,) = [revision for revision in site.kept() if revision.key == site.key("blob")]
    files = FilesystemHelper(str(source.blobs))
    files.create()
    path = Path(files.getBlobFilename(revision.oid, revision.tid))
    path.parent.mkdir(parents=True)
    path.write_bytes(b"b" * 1000)
    site.bucket.delete(site.key("blob"))
    site.site.close_all()
    settings = BlobDirSettings(SourceOptions("old"), source.blobs)
    site.site.settings = dataclasses.replace(site.site.settings, sources=(settings,))
    with Checked(site.site) as again:
        assert again.fsck() == {"missing": 1}
        assert "old" in again.findings[0]["detail"]
        assert again.fsck(repair=True) == {"missing": 1}
        assert again.report.repaired == {"repaired": 1}, "from the cache"


def test_a_source_that_goes_away_before_the_repair_is_no_outage(checked, before_the_lease, tmp_path):
    site = checked()
    filled(site, ("missing", "truncated"))
    damage_all(site, ("missing", "truncated"))
    site.site.close_all()
    FilesystemHelper(str(tmp_path / "blobs")).create()
    source = BlobDirSettings(SourceOptions("old", negative_cache=0), tmp_path / "blobs")
    site.site.settings = dataclasses.replace(site.site.settings, sources=(source,))
    with Checked(site.site) as again:
        before_the_lease(lambda: (tmp_path / "blobs").rename(tmp_path / "away"))
        assert again.fsck(repair=True) == {"missing": 1, "truncated": 1}
        assert again.report.repaired == {"repaired": 2} and not again.report.outage


@pytest.mark.parametrize(
    ("fault", "target"), [(faults.answer(503), "list-type"), (faults.answer(403, "AccessDenied"), "gc/lease/")]
)
def test_where_the_lease_cannot_be_had_what_was_found_is_told(
    checked, settings, proxy, before_the_lease, fault, target
):
    store = dataclasses.replace(settings, endpoint_url=proxy.endpoint_url, download_max_attempts=1, outage_patience=0.5)
    site = checked(store=store)
    filled(site, ("missing", "truncated"))
    damage_all(site, ("missing", "truncated"))
    before_the_lease(lambda: proxy.fail(fault, target=target, times=10**6))
    assert site.fsck(repair=True) == {"missing": 1, "truncated": 1}
    assert len(site.findings) == 2 and "repaired" not in (site.report.repaired or {})
    assert site.report.outage or all("refuse" in finding["repair"]["detail"] for finding in site.findings)


def _made(mode, **keys):
    required = keys.pop("required", False)
    return {"client-side": client_side, "sse-c": sse_c}[mode](required=required, active=next(iter(keys)), **keys)


def test_sealed_objects_and_a_configuration_without_keys(checked):
    sealed = checked(encryption="client-side")
    commit_blobs(sealed.db, blob=b"x" * 3000)
    sealed.site.close_all()
    sealed.site.settings = dataclasses.replace(
        sealed.site.settings, store=dataclasses.replace(sealed.site.settings.store, encryption=None)
    )
    with Checked(sealed.site) as without:
        assert without.fsck() == {"wrong-encryption": 1}
        assert "the key one" in without.findings[0]["detail"]


def test_a_sealed_object_that_lost_its_metadata_comes_back(checked):
    site = checked(encryption="client-side")
    commit_blobs(site.db, blob=b"x" * 3000)
    key = site.key("blob")
    data, _ = site.bucket.get(key)
    site.bucket.put(key, data)
    assert site.fsck() == {}
    assert site.fsck(deep=True, repair=True) == {"wrong-metadata": 1}
    assert site.report.repaired == {"repaired": 1} and site.findings[0]["repair"]["origin"] == "cache"
    assert site.fsck(deep=True) == {}


# What proves nothing


def _another_blobs(site):
    """The object of a blob whose record has neither size nor hash, replaced by one of another blob, metadata included;
    its key."""
    data, metadata = site.bucket.get(site.key("b"))
    key = site.key("a")
    site.bucket.put(key, data, metadata)
    return key


def test_another_blobs_object_is_not_taken_for_the_right_one(old_site, checked, versioned):
    """Its bytes have the SHA-256 of its metadata: but these are of another blob."""
    old = old_site()
    db = old.db()
    commit_blobs(db, a=b"a" * 3000, b=b"b" * 3000)
    db.close()
    site = checked(sources=(BlobDirSettings(SourceOptions("files", mirror="on"), old.blobs),))
    site.site.close_all()
    site.site.folder = old.folder
    with Checked(site.site) as filling:
        assert read_blob(filling.db, "a") == b"a" * 3000 and read_blob(filling.db, "b") == b"b" * 3000
        filling.site.close_all()
        filling.site.cold()
    site.site.settings = dataclasses.replace(site.site.settings, sources=())
    with Checked(site.site) as again:
        right = again.bucket.get(again.key("a"))
        key = _another_blobs(again)
        other = again.bucket.get(key)
        # Only the older version is of this blob, and it is the one that comes back.
        assert again.fsck(deep=True, repair=True, dry_run=True) == {"wrong-metadata": 1}
        origin = again.findings[0]["repair"]["origin"]
        assert origin.startswith("version ")
        again.bucket.delete(key, VersionId=origin.split()[1])
        assert again.fsck(deep=True, repair=True) == {"wrong-metadata": 1}
        assert again.report.repaired == {"not repaired": 1} and again.bucket.get(key) == other
        # Nor is it, where nothing is there any more and it is an older version.
        again.bucket.delete(key)
        assert again.fsck(repair=True) == {"missing": 1}
        assert again.report.repaired == {"not repaired": 1}, again.findings
        assert "another blob" in again.findings[0]["repair"]["detail"]
        again.bucket.put(key, *right)
        assert again.fsck(deep=True) == {}


# Beside a site


@pytest.mark.parametrize("kind", KINDS)
def test_a_healthy_site_that_is_written_to_packed_and_undone(checked, kind, tier):
    site = checked(kind)
    for number in range(30):
        commit_blobs(site.db, **{f"blob{number}": os.urandom(100)})
    stop, failures = threading.Event(), []

    def write():
        number = 0
        while not stop.is_set():
            try:
                commit_blobs(site.db, **{f"blob{number % 40}": os.urandom(100)})
                if number % 5 == 0 and site.db.supportsUndo():
                    commit_blobs(site.db, undone=os.urandom(50))
                    undo_last(site.db)
                if number % 7 == 0:
                    site.db.pack(time.time())
            except Exception as error:
                failures.append(error)
                return
            number += 1

    thread = threading.Thread(target=write)
    thread.start()
    try:
        until = time.monotonic() + 5 * tier["race_seconds"]
        rounds = 0
        while time.monotonic() < until or rounds < 3:
            found = site.fsck(deep=rounds % 2 == 1)
            assert found == {} and not site.report.unknown, site.findings
            rounds += 1
    finally:
        stop.set()
        thread.join()
    assert failures == []


def test_between_the_listing_and_the_end_a_blob_came_and_a_pack_took_one_away(checked):
    site = checked()
    commit_blobs(site.db, blob=b"first")
    commit_blobs(site.db, blob=b"second")
    first = next(revision for revision in site.kept() if revision.size == 5)
    site.bucket.damage(first.key, "missing")
    running = Quiet()
    phase = running.phase

    def at(name, *totals):
        if name == "looking again":
            commit_blobs(site.db, other=b"came meanwhile")
            site.db.pack(time.time() + 1)
        return phase(name, *totals)

    running.phase = at
    assert site.fsck(running) == {}
    assert (site.report.gone, site.report.unknown) == (1, 0) and "looking again" in running.phases


def test_an_object_that_nothing_needs_yet_is_no_orphan_once_its_transaction_is_there(checked, monkeypatch):
    site = checked()
    commit_blobs(site.db, blob=b"first")
    stray = blob_key(bytes(7) + b"\x77", draw_name())
    site.bucket.put(stray, b"never committed")
    assert site.fsck() == {} and site.orphans == [stray]
    assert (site.report.orphaned.blobs, site.report.orphaned.bytes) == (1, 15)
    store = site.storage.store_
    listed = store.list

    def committed_before(*arguments, **options):
        """The database is read by now, and its own objects are listed after that."""
        monkeypatch.setattr(store, "list", listed)
        commit_blobs(site.db, late=b"late")
        return listed(*arguments, **options)

    monkeypatch.setattr(store, "list", committed_before)
    assert site.fsck() == {} and site.orphans == [stray]
    assert site.report.revisions == 1 and len(site.kept()) == 2


# Revisions


def test_each_revision_that_needs_a_wrong_object_is_named_and_the_object_is_read_once(checked, settings, proxy):
    site = checked(store=dataclasses.replace(settings, endpoint_url=proxy.endpoint_url))
    commit_blobs(site.db, blob=b"first" * 100)
    commit_blobs(site.db, blob=b"second" * 100)
    undo_last(site.db)
    first = min(site.kept(), key=lambda revision: revision.tid)
    assert [revision.key for revision in site.kept()].count(first.key) == 2
    proxy.reset()
    assert site.fsck(deep=True) == {} and proxy.counts(first.key) == {"HeadObject": 1, "GetObject": 1}
    site.bucket.damage(first.key, "wrong-bytes")
    assert site.fsck(deep=True) == {"wrong-bytes": 2}
    assert len({finding["tid"] for finding in site.findings}) == 2
    proxy.reset()
    site.fsck(deep=True, repair=True)
    assert site.report.repaired == {"repaired": 2} and site.report.wrong == 0
    assert proxy.counts(first.key)["PutObject"] == 1
    assert site.fsck(deep=True) == {}


def test_nothing_is_asked_for_a_blob_alone(checked, settings, proxy):
    site = checked(store=dataclasses.replace(settings, endpoint_url=proxy.endpoint_url))
    for first in range(0, 300, 50):
        commit_blobs(site.db, **{f"blob{number}": b"x" for number in range(first, first + 50)})
    proxy.reset()
    assert site.fsck() == {} and site.report.revisions == 300
    counts = proxy.counts("")
    assert "HeadObject" not in counts and "GetObject" not in counts and sum(counts.values()) <= 5, counts


def test_a_record_that_is_damaged(checked):
    site = checked()
    commit_blobs(site.db, blob=b"x" * 100)
    [revision] = site.kept()
    base = site.storage._base
    record = base.loadSerial(revision.oid, revision.tid)
    transaction = TransactionMetaData()
    base.tpc_begin(transaction)
    damaged = record.replace(revision.name.encode(), b"../../../../../etc/passwd\0\0\0\0\0\0\0")
    base.store(revision.oid, revision.tid, damaged, "", transaction)
    base.tpc_vote(transaction)
    base.tpc_finish(transaction)
    assert site.fsck(repair=True) == {"damaged-record": 1}
    [finding] = site.findings
    assert finding["key"] is None and finding["repair"]["what"] == "not repaired"
    assert site.report.orphaned.blobs == 0  # the object may be that record's


# Sources


def test_what_is_only_in_a_source_is_elsewhere_and_a_wrong_object_comes_back_from_there(old_site, checked, settings):
    old = old_site()
    db = old.db()
    commit_blobs(db, a=b"a" * 3000, b=b"b" * 4000, c=b"c" * 5000)
    db.close()
    source = BlobDirSettings(SourceOptions("files", mirror="on"), old.blobs)
    site = checked(sources=(source,))
    site.site.close_all()
    site.site.folder = old.folder
    again = Checked(site.site)
    with again:
        assert again.fsck() == {} and again.report.elsewhere.blobs == 3
        assert read_blob(again.db, "a") == b"a" * 3000 and read_blob(again.db, "b") == b"b" * 4000
        assert again.fsck() == {} and again.report.elsewhere.blobs == 1
        key = again.key("a")
        data, metadata = again.bucket.get(key)
        again.bucket.put(key, b"other" * 600, metadata)  # of a record that has neither size nor hash
        again.site.close_all()
        again.site.cold()
    with Checked(again.site) as last:
        assert last.fsck() == {}
        assert last.fsck(deep=True, repair=True) == {"wrong-bytes": 1}
        assert last.findings[0]["repair"]["origin"] == "files", last.findings
        assert last.findings[0]["repair"]["proof"] == "sha256" and last.bucket.get(key)[0] == data


def test_a_source_that_is_away_leaves_it_unknown(old_site, checked):
    old = old_site()
    db = old.db()
    commit_blobs(db, a=b"a" * 3000)
    db.close()
    site = checked(sources=(BlobDirSettings(SourceOptions("files", mirror="off"), old.blobs),))
    site.site.close_all()
    site.site.folder = old.folder
    with Checked(site.site) as again:
        old.blobs.rename(old.folder / "away")
        assert again.fsck() == {} and again.report.unknown == 1
        assert "files" in again.report.unknown_of[0]["reason"]


def test_objects_of_zodb_s3blobs_are_read_where_they_are(old_site, checked, settings):
    old = old_site()
    db = old.db()
    commit_blobs(db, a=b"a" * 3000, b=b"b" * 4000)
    db.close()
    theirs = Bucket(settings)
    for (oid, tid), data in old.files().items():
        theirs.put(foreign_keys(oid, tid)[len(data) == 4000], data)
    theirs.close()
    site = checked()
    site.site.close_all()
    site.site.folder = old.folder
    with Checked(site.site) as again:
        assert again.fsck() == {} and (again.report.old.blobs, again.report.orphaned.blobs) == (2, 0)
        assert again.fsck(deep=True) == {} and again.report.reading.by_size == 2
        first = next(revision for revision in again.kept() if again.key("a") == revision.key)
        again.bucket.delete(foreign_keys(first.oid, first.tid)[0])
        assert again.fsck(deep=True) == {"missing": 1} and again.report.reading.by_size == 1


# What lies beside


def test_what_is_not_ours_is_counted(checked):
    site = checked()
    commit_blobs(site.db, blob=b"x")
    for key in ("readme.txt", "blobs/readme.txt", "blobs/zzz", "zzz", "addons/some.addon/thing", "a"):
        site.bucket.put(key, b"12345")
    site.bucket.put("blobs/1f/3f0.blob", b"theirs")
    site.bucket.opened.begin_upload("blobs/unfinished")
    assert site.fsck() == {}
    assert sorted(site.report.foreign_keys) == ["a", "blobs/readme.txt", "blobs/zzz", "readme.txt", "zzz"]
    assert (site.report.foreign.bytes, site.report.not_adopted.blobs, site.report.uploads) == (25, 1, 1)


# Outages, and being stopped


def test_no_finding_is_made_of_an_outage(checked, settings, proxy):
    store = dataclasses.replace(settings, endpoint_url=proxy.endpoint_url, download_max_attempts=1, outage_patience=0.5)
    site = checked(store=store)
    filled(site)
    proxy.fail(faults.answer(503), target="list-type", times=10**6)
    with pytest.raises(Unavailable):
        site.fsck()


def test_nor_of_one_while_objects_are_read(checked, settings, proxy):
    store = dataclasses.replace(settings, endpoint_url=proxy.endpoint_url, download_max_attempts=1, outage_patience=0.5)
    site = checked(store=store)
    filled(site)
    proxy.fail(faults.answer(503), method="GET", target="/blobs/", nth=3, times=10**6)
    site.fsck(deep=True, concurrency=1)
    assert site.findings == [] and site.report.outage and site.report.after
    assert site.report.reading.by_record == 2


def test_after_an_outage_nothing_that_was_found_is_passed_over(checked, settings, proxy):
    store = dataclasses.replace(settings, endpoint_url=proxy.endpoint_url, download_max_attempts=1, outage_patience=0.5)
    site = checked(store=store)
    filled(site)
    keys = sorted(revision.key for revision in site.kept())
    site.bucket.damage(keys[1], "wrong-metadata")
    proxy.fail(faults.answer(503), method="GET", target=keys[4], times=10**6)
    site.fsck(deep=True, concurrency=1)
    assert site.report.outage and site.report.after == keys[0]


def test_stopped_in_the_middle_it_goes_on_where_it_was(checked):
    site = checked()
    commit_blobs(site.db, **{f"blob{number}": os.urandom(200) for number in range(40)})
    keys = sorted(revision.key for revision in site.kept())
    for key in (keys[3], keys[35]):
        site.bucket.damage(key, "wrong-bytes")
    running = Quiet()
    phase, read = running.phase, []

    def counted(name, *totals):
        advance = phase(name, *totals)
        if name != "reading":
            return advance

        def moved(count, size=0):
            read.append(count)
            if sum(read) == 20:
                running.stop.set()

        return moved

    running.phase = counted
    assert site.fsck(running, deep=True, concurrency=3) == {"wrong-bytes": 1}
    assert site.report.stopped and keys[15] < site.report.after < keys[30]
    first, after = site.report.reading.objects.blobs, site.report.after
    assert site.fsck(deep=True, after=after) == {"wrong-bytes": 1} and site.findings[0]["key"] == keys[35]
    assert not site.report.stopped and 40 <= first + site.report.reading.objects.blobs <= 43


def test_a_sample_and_a_part(checked):
    site = checked()
    commit_blobs(site.db, **{f"blob{number}": b"x" for number in range(200)})
    assert site.fsck(deep=True, sample=20.0) == {} and 5 < site.report.reading.objects.blobs < 100
    oids = sorted(revision.oid for revision in site.kept())
    site.fsck(deep=True, scope=Scope(first=oids[50], last=oids[99]))
    assert site.report.reading.objects.blobs == site.report.revisions == 50 and site.report.orphaned.blobs == 0


def test_objects_that_no_credentials_may_read_are_unknown(checked, settings, proxy):
    site = checked(store=dataclasses.replace(settings, endpoint_url=proxy.endpoint_url))
    filled(site)
    proxy.fail(faults.answer(403, "AccessDenied"), method="GET", target="/blobs/", times=10**6)
    assert site.fsck(deep=True) == {} and site.report.unknown == len(DAMAGES) + 2


def test_credentials_that_end_meanwhile_make_no_findings(checked, settings, proxy):
    """Some could be read, and then everything is refused: also what was read before."""
    site = checked(store=dataclasses.replace(settings, endpoint_url=proxy.endpoint_url))
    filled(site)
    for method in ("GET", "HEAD"):
        proxy.fail(faults.answer(403, "AccessDenied"), method=method, target="/blobs/", nth=3, times=10**6)
    assert site.fsck(deep=True, concurrency=1) == {}, site.findings
    assert site.report.reading.by_record == 2 and site.report.unknown == len(DAMAGES)


def test_an_object_that_alone_is_refused_is_a_finding(checked, settings, proxy):
    site = checked(store=dataclasses.replace(settings, endpoint_url=proxy.endpoint_url))
    filled(site)
    for method in ("GET", "HEAD"):
        proxy.fail(faults.answer(403, "AccessDenied"), method=method, target=site.key("right"), times=10**6)
    assert site.fsck(deep=True) == {"wrong-encryption": 1} and site.report.unknown == 0


def test_where_the_bucket_takes_no_object_findings_are_told_all_the_same(checked, settings, proxy):
    site = checked(store=dataclasses.replace(settings, endpoint_url=proxy.endpoint_url))
    filled(site, ("missing", "truncated"))
    damage_all(site, ("missing", "truncated"))
    proxy.fail(faults.answer(403, "AccessDenied"), method="PUT", target="/blobs/", times=10**6)
    assert site.fsck(repair=True) == {"missing": 1, "truncated": 1}
    assert site.report.repaired == {"not repaired": 2}
    assert all("does not take it" in finding["repair"]["detail"] for finding in site.findings)


def test_what_only_the_size_proves_is_counted_as_such(checked):
    """Of a blob whose record and metadata have no hash, as a direct upload or another tool's copy leaves it."""
    site = checked()
    commit_blobs(site.db, blob=b"x" * 3000, other=b"y" * 3000)
    for name in ("blob", "other"):
        key = site.key(name)
        with connected(site.db) as connection:
            oid, tid = connection.root()[name]._p_oid, site.kept()[-1].tid
        _forget_hash(site, oid, tid)
        data, metadata = site.bucket.get(key)
        if name == "blob":
            metadata = {}
        site.bucket.put(key, data, metadata)
    site.db.pack(time.time() + 1)
    assert site.fsck(deep=True) == {}
    reading = site.report.reading
    assert (reading.by_record, reading.by_metadata, reading.by_size) == (0, 1, 1)


def _forget_hash(site, oid, tid):
    base = site.storage._base
    record = base.loadSerial(oid, tid)
    state = dataclasses.replace(read_state(record), sha256=None)
    transaction = TransactionMetaData()
    base.tpc_begin(transaction)
    base.store(oid, tid, with_state(record, state), "", transaction)
    base.tpc_vote(transaction)
    base.tpc_finish(transaction)


def test_findings_have_the_content_that_they_belong_to(checked):
    site = checked()
    commit_blobs(site.db, picture=b"x" * 3000, right=b"right")
    site.bucket.damage(site.key("picture"), "missing")
    running = Quiet()
    assert site.fsck(running) == {"missing": 1}
    assert site.findings[0]["content"]["path"] == "/picture"
    assert site.fsck(quiet := Quiet()) and "finding their content" in quiet.phases
    site.fsck(repair=True)
    quiet = Quiet()
    assert site.fsck(quiet) == {} and "finding their content" not in quiet.phases


@pytest.mark.parametrize("encryption", ["none", "client-side"])
def test_a_job_tells_the_bucket_no_paths_that_encryption_keeps_from_it(checked, encryption):
    site = checked(encryption=encryption)
    filled(site, ("missing",))
    damage_all(site, ("missing",))
    jobs = site.storage.jobs()
    job = jobs.start("fsck", {})
    wait_until(lambda: jobs.get(job.id).state != "running", 60)
    [finding] = jobs.get(job.id).result["findings"]
    assert (finding["content"] is None) == (encryption == "client-side")
    assert site.fsck() == {"missing": 1} and site.findings[0]["content"]["path"] == "/missing"
    stored = b"".join(site.bucket.get(line.key)[0] for line in site.bucket.opened.list("jobs/"))
    assert (b"/missing" in stored) == (encryption == "none")


def test_a_job_of_the_site(checked):
    site = checked()
    filled(site, ("missing", "wrong-bytes"))
    damage_all(site, ("missing", "wrong-bytes"))
    jobs = site.storage.jobs()
    assert {kind.name: kind.why_not for kind in jobs.kinds()}["fsck"] == ""

    def ended(**options):
        job = jobs.start("fsck", options)
        wait_until(lambda: jobs.get(job.id).state != "running", 60)
        job = jobs.get(job.id)
        assert job.state == "done", job.error
        return job.result

    told = ended()
    assert told["dry_run"] and told["found"]["missing"] == 1 and told["repaired"] is None
    assert [line["kind"] for line in ended(deep=True, sample=100)["findings"]] == ["missing", "wrong-bytes"]
    told = ended(deep=True, repair=True)  # which says from where, and changes nothing
    assert told["dry_run"] and told["repaired"] == {"would be repaired": 2}
    assert {line["repair"]["origin"] for line in told["findings"]} == {"cache"} and len(site.fsck(deep=True)) == 2
    told = ended(deep=True, dry_run=False)
    assert told["repaired"] == {"repaired": 2} and site.fsck(deep=True) == {}
    for options, message in (({"sample": 0}, "sample"), ({"limit_rate": -1}, "limit_rate"), ({"path": "x"}, "path")):
        with pytest.raises(ValueError, match=message):
            jobs.start("fsck", options)
    last, running = jobs.latest()["fsck"]
    assert last.result["found"]["wrong-bytes"] == 1 and running is None


@pytest.fixture
def lost(checked):
    """``lost(encryption)``: a site whose 230 blobs are all gone from the bucket, and the job that found it."""

    def make(encryption="none"):
        site = checked(encryption=encryption)
        commit_blobs(site.db, **{f"blob{number}": b"x" for number in range(230)})
        for key in site.site.keys():
            site.bucket.delete(key)
        return site, checking(site)

    return make


def checking(site):
    jobs = site.storage.jobs()
    job = jobs.start("fsck", {})
    wait_until(lambda: jobs.get(job.id).state != "running", 60)
    job = jobs.get(job.id)
    assert job.state == "done", job.error
    return job


@pytest.mark.parametrize("encryption", ["none", "client-side"])
def test_a_job_keeps_all_that_it_found(lost, encryption):
    """Its own object has the first 200; pages, items and `told_by` know the rest too."""
    site, job = lost(encryption)
    jobs = site.storage.jobs()
    assert (job.result["found"]["missing"], job.result["findings_kept"], len(job.result["findings"])) == (230, 230, 200)
    page, total = jobs.findings(job, start=190, size=25)
    rest, _ = jobs.findings(job, start=215, size=100)
    assert (len(page), len(rest), total) == (25, 15, 230)
    assert page[:10] == job.result["findings"][190:] and jobs.findings(job, start=230) == ([], 230)
    assert all((each["content"] is None) == (encryption == "client-side") for each in [*page, *rest])
    stored = b"".join(site.bucket.get(line.key)[0] for line in site.bucket.opened.list("jobs/"))
    assert (b"/blob" in stored) == (encryption == "none")
    assert site.fsck() == {"missing": 230}
    assert {(each["oid"], each["tid"]) for each in site.findings} == set(
        told_by(Board(site.bucket.opened).newest_first("fsck", 1), Board(site.bucket.opened).findings).findings
    )


def test_they_are_read_once_for_all_who_look(lost, checked, settings, proxy):
    site, _ = lost()
    site.site.close_all()
    site.site.settings = dataclasses.replace(
        site.site.settings, store=dataclasses.replace(settings, endpoint_url=proxy.endpoint_url)
    )
    with Checked(site.site) as again:
        checks = Checks(again.storage.store_)
        proxy.reset()
        assert len(checks.told().findings) == 230 and proxy.counts(".findings") == {"GetObject": 1}
        assert checks.told() is checks.told() and proxy.counts(".findings") == {"GetObject": 1}
        before = checks.told()
        checking(again)
        assert checks.told() is not before and proxy.counts(".findings")["GetObject"] == 3  # of both runs


def test_of_more_than_are_kept_the_first_are(lost, monkeypatch):
    monkeypatch.setattr(kept_findings, "KEPT", 210)
    site, job = lost()
    assert (job.result["found"]["missing"], job.result["findings_kept"]) == (230, 210)
    assert site.storage.jobs().findings(job, size=1000)[1] == 210


def test_where_they_are_gone_the_first_of_the_report_are_told(lost):
    site, job = lost()
    site.bucket.delete("jobs/fsck/000000000001.findings")
    assert site.storage.jobs().findings(job, size=1000) == (job.result["findings"], 200)


def test_they_go_with_their_job(lost):
    site, job = lost()
    store = ShiftedStore(site.bucket.opened)
    jobs = Jobs(store)
    jobs.run("fsck", {}, lambda running: {})
    assert "jobs/fsck/000000000001.findings" in {line.key for line in store.list("jobs/")}
    store.advance(91 * 86400)
    jobs.run("fsck", {}, lambda running: {})
    assert {line.key for line in store.list("jobs/fsck/")} == {f"jobs/fsck/00000000000{number}" for number in (2, 3)}
    assert job.id == "fsck-1"


def test_what_the_store_does_not_keep_is_no_reason_to_lose_the_report(checked, settings, proxy):
    site = checked(store=dataclasses.replace(settings, endpoint_url=proxy.endpoint_url))
    commit_blobs(site.db, **{f"blob{number}": b"x" for number in range(230)})
    for key in site.site.keys():
        site.bucket.delete(key)
    proxy.fail(faults.answer(403, "AccessDenied"), method="PUT", target=".findings", times=10**6)
    job = checking(site)
    assert (job.result["found"]["missing"], job.result["findings_kept"]) == (230, 200)
    assert any("could be kept" in line.message for line in job.log)
