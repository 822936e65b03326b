"""Which content a blob belongs to, over every base, by records alone: no class of the database is there any more."""

from __future__ import annotations

import tracemalloc

import plone_like
import pytest
from sites import PERSISTENT
from ZODB.utils import p64

from collective.s3blobstorage.maintenance.content import Contents, content_of
from collective.s3blobstorage.maintenance.kept import kept_revisions
from collective.s3blobstorage.maintenance.scope import Scope
from collective.s3blobstorage.maintenance.spool import Spool

WITH_EARLIER = ["filestorage", "sqlite-hp", "postgresql-hp"]


def blobs_of(db, kept):
    """The data of each kept revision, by oid."""
    found = {}
    with plone_like.connected(db) as connection:
        for revision in kept:
            with db.storage.openCommittedBlobFile(revision.oid, revision.tid) as file:
                found[revision.oid] = file.read()
        connection.transaction_manager.abort()
    return found


@pytest.mark.parametrize("kind", PERSISTENT)
def test_paths_types_and_fields(make_site, kind):
    site = make_site(kind)
    db = site.db()
    with plone_like.classes() as kinds:
        plone_like.fill(db, kinds, many=200)
        before = list(kinds.made)
    base, seen = site.another_base(), []
    with Spool() as spool:
        data = blobs_of(db, kept_revisions(base, Scope(), spool))
        found = content_of(base, data, spool, seen.append)
    base.close()
    told = {data[oid]: (str(content), content.portal_type, content.field) for oid, content in found.items()}
    many = {b"%d" % n: (f"/Plone/large/f{n}", "File", "file") for n in range(200)}
    earlier = plone_like.EARLIER if kind in WITH_EARLIER else {}
    assert {name: told.get(name) for name in {**plone_like.EXPECTED, **earlier}} == {**plone_like.EXPECTED, **earlier}
    assert {name: told[name] for name in many} == many
    assert not plone_like.NOWHERE & set(told)
    assert sum(seen) >= 600  # each record once, also those without a blob
    assert kinds.made == before  # reading made no object of the database's classes


def test_no_oid_costs_nothing():
    with Spool() as spool:
        assert content_of(None, [], spool) == {}


def add(contents, *records):
    for tid, (oid, record) in enumerate(records, 1):
        contents.add(p64(oid), p64(tid), record)


def test_cycles_and_damage_are_not_found(make_site):
    """A ``__parent__`` that leads back, containers in each other, a record that is cut: no path, and no exception."""
    site = make_site("filestorage")
    db = site.db()
    with plone_like.classes() as kinds, plone_like.connected(db) as connection:
        one, other = plone_like.folder(kinds, "one"), plone_like.folder(kinds, "other")
        one._tree["other"], other._tree["one"] = other, one
        one._tree["file"] = plone_like.file(kinds, "file", b"in a cycle")
        itself = plone_like.file(kinds, "itself", b"its own parent")
        itself.__parent__ = itself
        deep = plone_like.file(kinds, "deep", b"too deep")
        for number in range(150):
            deep = plone_like.made(kinds.Folder, id=f"d{number}", _tree={deep.id: deep})
        cut = plone_like.file(kinds, "cut", b"of a damaged record")
        connection.root()["Application"] = plone_like.made(kinds.Folder, list=[one, itself, deep], cut=cut)
        connection.transaction_manager.commit()
        damaged = cut._p_oid
    base = site.another_base()
    with Spool() as spool:
        contents = Contents(spool)

        def other_record(oid, tid, record):
            contents.add(oid, tid, record[:-20] if oid == damaged else record)

        kept = list(kept_revisions(base, Scope(), spool, other=other_record))
        assert len(kept) == 4
        assert [contents.of(revision.oid) for revision in kept] == [None] * len(kept)
    base.close()


def test_what_leads_nowhere_in_many_revisions_is_followed_once():
    """Folders in each other, of which each has a hundred revisions and the outermost is in nothing."""
    folder = b"\x80\x03cno.such\nFolder\n.\x80\x03}(X\x02\0\0\0idX\x02\0\0\0f%dX\x02\0\0\0f%dC\x08%bQu."
    with Spool() as spool:
        contents, asked = Contents(spool), []
        for number in range(1, 8):
            for tid in range(1, 101):
                contents.add(p64(number), p64(tid), folder % (number, number + 1, p64(number + 1)))
        edges_to = contents._edges_to

        def counted(*of):
            asked.append(of)
            assert len(asked) < 1000
            return edges_to(*of)

        contents._edges_to = counted
        assert contents.of(p64(8)) is None


def test_memory_does_not_grow():
    """Four times as many content objects take as much memory: what refers to what is on disk."""
    peaks = [peak(10_000), peak(40_000)]
    assert peaks[1] < peaks[0] * 1.1, peaks


def peak(count):
    """Bytes of Python's memory at most for a folder of so many files; asked for each."""
    record = (
        b"\x80\x03cvanished.addon\nItem\n.\x80\x03}(X\x02\0\0\0idX\x04\0\0\0same"
        b"X\x0b\0\0\0portal_typeX\x04\0\0\0FileX\x04\0\0\0fileC\x08%bQX\x0a\0\0\0__parent__C\x08%bQu."
    )
    root = b"\x80\x03cvanished.addon\nMapping\n.\x80\x03}X\x05\0\0\0PloneC\x08%bQs." % p64(1)
    site = b"\x80\x03cvanished.addon\nFolder\n.\x80\x03}X\x02\0\0\0idX\x05\0\0\0Plones."
    tracemalloc.start()
    try:
        with Spool() as spool:
            contents = Contents(spool)
            contents.add(p64(0), p64(1), root)
            contents.add(p64(1), p64(1), site)
            for number in range(2, 2 * count, 2):
                contents.add(p64(number), p64(1), record % (p64(number + 1), p64(1)))
            for number in range(2, 2 * count, 2):
                assert contents.of(p64(number + 1)).path == "/Plone/same"
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
