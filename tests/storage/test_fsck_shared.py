"""``fsck`` of blobs that share their bytes: every kind of damage to objects, references and marks, and its repair."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import time

import pytest
from checked_sites import Checked
from command_line import document
from converted_blobs import begin_sharing, below, bytes_of, converted, own, references
from sites import as_ours, commit_blobs, read_blob
from test_cli_fsck import Command
from ZODB.utils import oid_repr

from collective.s3blobstorage.keys import condemned_key, object_key, read_key, reference_key, shared_name
from collective.s3blobstorage.storage import sharing

pytestmark = pytest.mark.clear  # nothing is shared where keys of ours encrypt

OWNED = {"owner": "www.example.org", "preflight": False, "gc_on_pack": "off"}
LOGO = os.urandom(5000)
NAME = shared_name(hashlib.sha256(LOGO).digest(), 0)
SHARED = object_key(NAME)


@pytest.fixture
def site(make_site, settings):
    """Three equal blobs that were converted, and one that nothing equals; all are in the cache."""
    made = make_site("filestorage", **OWNED)
    with Checked(made) as checked:
        commit_blobs(checked.db, one=LOGO, two=LOGO, three=LOGO, alone=b"alone" * 900)
        begin_sharing(settings)
        converted(checked.storage)
        made.close_all()
    with Checked(made) as checked:
        yield checked


@pytest.fixture
def named(make_site, settings):
    """The same, committed with ``dedup on``: the records of the three say which object they share."""
    made = make_site("filestorage", **OWNED, dedup=True)
    with Checked(made) as checked:
        commit_blobs(checked.db, one=LOGO, two=LOGO, three=LOGO)
        made.close_all()
    with Checked(made, dedup=False) as checked:
        commit_blobs(checked.db, alone=b"alone" * 900)
        assert sorted(str(each.object) for each in checked.kept()) == sorted([NAME, NAME, NAME, "None"])
        yield checked


def key_of(site, name):
    return reference_key(*read_key(site.key(name)), NAME)


def oid_of(site, name):
    return oid_repr(read_key(site.key(name))[0])


def test_nothing_is_wrong_and_each_object_is_read_once(site, settings, proxy):
    assert site.fsck(deep=True) == {}
    report = site.report
    assert (report.there.blobs, report.reading.objects.blobs, report.reading.by_record) == (4, 2, 2)
    assert dataclasses.asdict(report.shared) == {"objects": 1, "bytes": 5000, "references": 3, "broken": 0}
    assert report.foreign.blobs == 0 and report.orphaned.blobs == 0


@pytest.mark.parametrize("by_record", [False, True], ids=["converted", "named"])
@pytest.mark.parametrize("damage", ["missing", "truncated", "wrong-size", "wrong-bytes"])
def test_damage_of_a_shared_object_is_everybodys_and_mended_once(request, settings, damage, by_record):
    site = request.getfixturevalue("named" if by_record else "site")
    before = bytes_of(settings, site.kept())
    site.bucket.damage(SHARED, damage)
    assert site.fsck() == ({} if damage == "wrong-bytes" else {damage: 3})
    assert site.fsck(deep=True) == {damage: 3}
    assert {finding["key"] for finding in site.findings} == {SHARED}
    site.fsck(deep=True, repair=True, dry_run=True)
    assert site.report.repaired == {"would be repaired": 3}
    site.fsck(deep=True, repair=True)
    assert site.report.repaired == {"repaired": 3} and site.report.wrong == 0
    assert {finding["repair"]["origin"] for finding in site.findings} == {"cache"}
    assert site.fsck(deep=True) == {} and bytes_of(settings, site.kept()) == before
    assert len(own(settings)) == 1 and len(references(settings)) == 3
    site.site.close_all()
    site.site.cold()
    assert read_blob(site.site.db(), "three") == LOGO


def test_any_of_its_blobs_may_have_the_bytes_still(site, settings):
    """This machine's cache has that of the last one only."""
    kept = [revision for revision in site.kept() if revision.size == len(LOGO)]
    for revision in kept[:-1]:
        os.remove(site.storage.cache.get_text(revision.oid, revision.tid))
    site.bucket.damage(SHARED, "missing")
    site.fsck(repair=True)
    assert site.report.repaired == {"repaired": 3} and site.fsck(deep=True) == {}


def test_what_was_given_up_comes_back_as_objects_of_their_own(site, settings):
    """The name has a mark: a late delete of it may be under way, so it is never begun again."""
    before = bytes_of(settings, site.kept())
    with as_ours(settings) as store:
        store.put_bytes(condemned_key(NAME), b"")
    assert site.fsck(deep=True) == {}  # a mark alone is fine
    site.bucket.damage(SHARED, "missing")
    site.fsck(repair=True)
    assert site.report.repaired == {"repaired": 3}
    assert below(settings, "objects/") == [] and len(own(settings)) == 4
    assert bytes_of(settings, site.kept()) == before and site.fsck(deep=True) == {}
    assert site.report.shared.broken == 3 and site.report.orphaned.blobs == 0


def test_a_damaged_one_with_a_mark_is_replaced_where_it_is(named, settings):
    """Readers look there first, and what is there is in use: gc does not delete what has a reference."""
    with as_ours(settings) as store:
        store.put_bytes(condemned_key(NAME), b"")
    named.bucket.damage(SHARED, "wrong-bytes")
    named.fsck(deep=True, repair=True)
    assert named.report.repaired == {"repaired": 3} and named.fsck(deep=True) == {}
    assert below(settings, "objects/") == [SHARED]


def test_a_reference_that_is_missing_comes_back(named, settings):
    keys = [key_of(named, name) for name in ("one", "three")]
    for key in keys:
        named.bucket.delete(key)
    assert named.fsck() == {"missing-reference": 2}
    assert {finding["oid"] for finding in named.findings} == {oid_of(named, "one"), oid_of(named, "three")}
    assert "gc deletes" in named.findings[0]["detail"]
    named.fsck(repair=True, dry_run=True)
    assert named.report.repaired == {"would be repaired": 2} and len(references(settings)) == 1
    named.fsck(repair=True)
    assert named.report.repaired == {"repaired": 2} and {*keys} < {*references(settings)}
    assert named.fsck(deep=True) == {} and len(own(settings)) == 1


def test_all_references_are_missing(named, settings):
    """The object is no orphan: records name it."""
    for key in references(settings):
        named.bucket.delete(key)
    assert named.fsck() == {"missing-reference": 3} and named.orphans == []


def test_a_missing_reference_to_what_was_given_up(named, settings):
    """gc may have begun to delete it: the reference comes back, and an object of its own beside it."""
    named.bucket.delete(key_of(named, "one"))
    with as_ours(settings) as store:
        store.put_bytes(condemned_key(NAME), b"")
    named.fsck(repair=True)
    assert named.report.repaired == {"repaired": 1}
    assert named.key("one") in own(settings) and key_of(named, "one") in references(settings)
    named.bucket.delete(SHARED)  # the late delete
    assert named.fsck() == {"missing": 2}


def test_a_converted_blob_without_reference_is_missing(site, settings):
    """Nobody can tell that it shares: its record says nothing."""
    site.bucket.delete(key_of(site, "one"))
    assert site.fsck() == {"missing": 1} and site.findings[0]["key"] == site.key("one")
    site.fsck(repair=True)
    assert site.report.repaired == {"repaired": 1} and site.key("one") in own(settings)
    assert site.fsck(deep=True) == {}


def test_a_reference_to_other_bytes_is_none(site, settings):
    """Somebody's mistake: it names an object of other bytes than the record. The shared object is not touched."""
    other = shared_name(hashlib.sha256(b"other").digest(), 0)
    oid, name = read_key(site.key("one"))
    with as_ours(settings) as store:
        store.delete([key_of(site, "one")])
        store.put_bytes(object_key(other), b"o" * len(LOGO))
        store.put_bytes(reference_key(oid, name, other), b"")
    assert site.fsck() == {"missing": 1}
    site.fsck(repair=True)
    assert site.report.repaired == {"repaired": 1} and site.key("one") in own(settings)
    assert site.bucket.get(object_key(other))[0] == b"o" * len(LOGO) and site.fsck(deep=True) == {}


def test_orphans_of_every_sort(site, settings):
    name, unused = "ab" * 16, shared_name(bytes(32), 3)
    oid = read_key(site.key("one"))[0]
    wrong = ("objects/00/00/notes", "condemned/notes", f"objects/ff/ff/{NAME}")
    with as_ours(settings) as store:
        store.put_bytes(reference_key(oid, name, NAME), b"")  # without revision
        store.put_bytes(reference_key(oid, "cd" * 16, unused), b"")  # nor object
        store.put_bytes(object_key(shared_name(bytes(32), 4)), b"nobody's")
        store.put_bytes(condemned_key(unused), b"")
        for key in wrong:
            store.put_bytes(key, b"?")
    time.sleep(1.1)  # the store's clock has seconds: what is as new as the fsck may get its reference yet
    assert site.fsck() == {}
    expected = [
        reference_key(oid, name, NAME),
        reference_key(oid, "cd" * 16, unused),
        object_key(shared_name(bytes(32), 4)),
    ]
    assert site.orphans == sorted(expected) and site.report.orphaned.bytes == len(b"nobody's")
    assert site.report.shared.broken == 1 and sorted(site.report.foreign_keys) == sorted(wrong)


def test_a_repair_holds_the_lease_and_looks_after_the_references(site, settings, proxy, monkeypatch):
    """The mark comes while it puts the references: it is seen."""
    real = sharing.marked_generations

    def marked(store, sha256):
        store.put_bytes(condemned_key(NAME), b"")
        return real(store, sha256)

    monkeypatch.setattr(sharing, "marked_generations", marked)
    site.bucket.damage(SHARED, "missing")
    site.fsck(repair=True)
    assert below(settings, "objects/") == [] and len(own(settings)) == 4


def test_the_command_and_a_part_of_the_oids(site, settings, tmp_path):
    site.site.close_all()
    command = Command(site.site, settings, tmp_path)
    result = command.run("--deep")
    assert result.returncode == 0
    assert "shared          1 objects, 4.9 KB, to which 3 references" in result.stdout.splitlines()
    told = document(command.run("--json", "--oid-range", "0-1"))
    assert told["orphaned"]["blobs"] == 0 and told["shared"]["references"] == 1
    told = document(command.run("--deep", "--json", "--after", "objects/"))
    assert told["read"]["blobs"] == 1


def test_a_prefix_that_shares_nothing_is_asked_nothing_more(make_site, settings, proxy):
    made = make_site("filestorage", store=dataclasses.replace(settings, endpoint_url=proxy.endpoint_url), **OWNED)
    with Checked(made) as checked:
        commit_blobs(checked.db, one=LOGO, two=LOGO)
        proxy.reset()
        assert checked.fsck(deep=True) == {} and checked.report.shared is None
    assert not [line for line in proxy.lines if "objects" in line or "condemned" in line]
