"""Three sorted streams brought together, and what is said of each kept revision."""

from __future__ import annotations

import threading
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collective.s3blobstorage.keys import blob_key
from collective.s3blobstorage.maintenance.blobdir import BlobFile
from collective.s3blobstorage.maintenance.bucket import BlobObject
from collective.s3blobstorage.maintenance.compare import (
    Extra,
    OutOfOrder,
    Place,
    Verdict,
    for_bucket,
    for_directory,
    for_mirror,
    matched,
)
from collective.s3blobstorage.maintenance.findings import LISTED, Findings, Stopped, examine, settle
from collective.s3blobstorage.maintenance.kept import KeptRevision
from collective.s3blobstorage.maintenance.migrate import Plan, plan
from collective.s3blobstorage.maintenance.spool import Spool

NAME, OTHER = "a" * 32, "b" * 32


def eight(number: int) -> bytes:
    return number.to_bytes(8, "big")


def kept(oid: int, tid: int, name: str | None = None, size: int | None = None, **more) -> KeptRevision:
    return KeptRevision(eight(oid), eight(tid), name, size, **more)


def stored(oid: int, name: str | int, size: int) -> BlobObject:
    name = eight(name).hex() if isinstance(name, int) else name
    return BlobObject(eight(oid), name, size, blob_key(eight(oid), name))


def old(oid: int, tid: int, size: int) -> BlobObject:
    return BlobObject(eight(oid), "", size, f"blobs/{oid:x}/{tid:x}.blob", eight(tid))


def file(oid: int, tid: int, size: int) -> BlobFile:
    return BlobFile(eight(oid), eight(tid), size)


DAMAGED = {"damaged": "it is damaged"}


@pytest.mark.parametrize(
    "revision, objects, files, in_bucket, in_directory",
    [
        # nameless, as a blob directory's
        (kept(1, 5), [], [file(1, 5, 10)], Verdict.WANTED, Verdict.THERE),
        (kept(1, 5), [stored(1, 5, 10)], [file(1, 5, 10)], Verdict.THERE, Verdict.THERE),
        (kept(1, 5), [stored(1, 5, 10)], [], Verdict.THERE, Verdict.WANTED),
        (kept(1, 5), [stored(1, 5, 11)], [file(1, 5, 10)], Verdict.DIFFERENT, Verdict.DIFFERENT),
        (kept(1, 5), [], [], Verdict.MISSING, Verdict.WANTED),
        (kept(1, 5), [stored(1, 6, 10)], [file(1, 4, 10)], Verdict.MISSING, Verdict.WANTED),
        (kept(1, 5), [stored(1, NAME, 10)], [], Verdict.MISSING, Verdict.WANTED),
        # under zodb-s3blobs' key: read there, and the file gets a key of its own
        (kept(1, 5), [old(1, 5, 10)], [], Verdict.OLD, Verdict.WANTED),
        (kept(1, 5), [old(1, 5, 10)], [file(1, 5, 10)], Verdict.WANTED, Verdict.THERE),
        (kept(1, 5), [old(1, 5, 11)], [file(1, 5, 10)], Verdict.DIFFERENT, Verdict.DIFFERENT),
        (kept(1, 5), [old(1, 6, 10)], [], Verdict.MISSING, Verdict.WANTED),
        (kept(1, 5, NAME, 10), [old(1, 5, 10)], [], Verdict.MISSING, Verdict.WANTED),
        # with a name
        (kept(1, 5, NAME, 10), [stored(1, NAME, 10)], [], Verdict.THERE, Verdict.WANTED),
        (kept(1, 5, NAME, 10), [stored(1, 5, 10)], [], Verdict.MISSING, Verdict.WANTED),
        (kept(1, 5, NAME, 10), [stored(1, OTHER, 10)], [file(1, 5, 10)], Verdict.WANTED, Verdict.THERE),
        (kept(1, 5, NAME, 10), [stored(1, NAME, 9)], [], Verdict.DIFFERENT, Verdict.DIFFERENT),
        (kept(1, 5, NAME, 10), [], [file(1, 5, 9)], Verdict.DIFFERENT, Verdict.DIFFERENT),
        (kept(1, 5, NAME, 10), [stored(1, NAME, 10)], [file(1, 5, 9)], Verdict.DIFFERENT, Verdict.DIFFERENT),
        (kept(1, 5, NAME, 0), [], [file(1, 5, 0)], Verdict.WANTED, Verdict.THERE),
        # in the record
        (kept(1, 5, None, 3, inline=True), [], [], Verdict.INLINE, Verdict.WANTED),
        (kept(1, 5, None, 3, inline=True), [], [file(1, 5, 3)], Verdict.INLINE, Verdict.THERE),
        (kept(1, 5, None, 3, inline=True), [], [file(1, 5, 4)], Verdict.DIFFERENT, Verdict.DIFFERENT),
        (kept(1, 5, **DAMAGED), [stored(1, 5, 10)], [file(1, 5, 10)], Verdict.DAMAGED, Verdict.DAMAGED),
    ],
)
def test_verdicts(revision, objects, files, in_bucket, in_directory):
    [place] = [found for found in matched([revision], objects, files) if isinstance(found, Place)]
    assert (for_bucket(place), for_directory(place)) == (in_bucket, in_directory)


def test_revisions_with_one_key_need_one_upload_from_whichever_file_is_there():
    revisions = [kept(1, 5, NAME, 10), kept(1, 6, OTHER, 4), kept(1, 7, NAME, 10)]
    places = list(matched(revisions, [], [file(1, 6, 4), file(1, 7, 10)]))
    assert [for_bucket(place) for place in places] == [Verdict.WANTED, Verdict.WANTED, Verdict.REPEATED]
    assert places[0].sources == (eight(7),)
    # A file that is not what its record says is nobody's source.
    places = list(matched(revisions, [], [file(1, 5, 9), file(1, 6, 4)]))
    assert [for_bucket(place) for place in places] == [Verdict.DIFFERENT, Verdict.WANTED, Verdict.MISSING]


@pytest.mark.parametrize(
    "revision, objects, verdict",
    [
        (kept(1, 5, NAME, 10), [stored(1, NAME, 10)], Verdict.THERE),
        (kept(1, 5, NAME, 10), [stored(1, NAME, 9)], Verdict.DIFFERENT),
        (kept(1, 5, NAME, 10), [stored(1, OTHER, 10)], Verdict.WANTED),
        (kept(1, 5), [old(1, 5, 3)], Verdict.OLD),
        (kept(1, 5), [], Verdict.WANTED),
        (kept(1, 5, None, 3, inline=True), [], Verdict.INLINE),
        (kept(1, 5, **DAMAGED), [], Verdict.DAMAGED),
    ],
)
def test_what_is_to_be_mirrored(revision, objects, verdict):
    [place] = [found for found in matched([revision], objects, ()) if isinstance(found, Place)]
    assert for_mirror(place) is verdict


def test_revisions_with_one_key_are_mirrored_once():
    places = list(matched([kept(1, 5, NAME, 10), kept(1, 6, OTHER, 4), kept(1, 7, NAME, 10)], [], ()))
    assert [for_mirror(place) for place in places] == [Verdict.WANTED, Verdict.WANTED, Verdict.REPEATED]


def test_what_no_revision_needs_is_extra():
    revisions = [kept(2, 5), kept(2, 6, NAME, 1), kept(2, 7, None, 3, inline=True)]
    objects = [stored(1, 5, 1), old(2, 5, 1), old(2, 6, 1), stored(2, 6, 1), stored(2, 7, 1), stored(2, NAME, 1)]
    files = [file(2, 4, 1), file(2, 5, 1), file(3, 5, 1)]
    extra = [found.found for found in matched(revisions, objects, files) if isinstance(found, Extra)]
    keys = {found.key for found in extra if isinstance(found, BlobObject)}
    # Of zodb-s3blobs' keys the named revision's and the inline one's are nobody's.
    assert keys == {objects[0].key, objects[2].key, objects[3].key, objects[4].key}
    assert [found for found in extra if isinstance(found, BlobFile)] == [files[0], files[2]]


def test_of_a_blob_with_a_damaged_record_no_object_is_extra():
    found = list(matched([kept(1, 5, **DAMAGED)], [stored(1, NAME, 1)], [file(1, 5, 1)]))
    assert [for_bucket(place) for place in found] == [Verdict.DAMAGED]


OIDS = st.integers(0, 5)


@given(
    st.sets(st.tuples(OIDS, st.integers(0, 3))),
    st.sets(st.tuples(OIDS, st.integers(0, 3))),
    st.sets(st.tuples(OIDS, st.integers(0, 3))),
)
def test_nothing_is_lost_between_the_streams(revisions, objects, files):
    found = list(
        matched(
            [kept(*each) for each in sorted(revisions)],
            [stored(*each, 1) for each in sorted(objects)],
            [file(*each, 1) for each in sorted(files)],
        )
    )
    places = [item for item in found if isinstance(item, Place)]
    number = int.from_bytes
    assert {(number(place.revision.oid), number(place.revision.tid)) for place in places} == revisions
    for place in places:
        at = number(place.revision.oid), number(place.revision.tid)
        assert (place.object_size is not None) == (at in objects) and (place.file_size is not None) == (at in files)
    extra = [item.found for item in found if isinstance(item, Extra)]
    assert len(extra) == len(objects - revisions) + len(files - revisions)


@pytest.mark.parametrize("stream", range(3))
def test_a_stream_out_of_order_is_no_ground_for_a_judgement(stream):
    streams = [[], [], []]
    streams[stream] = [[kept(2, 1), kept(1, 1)], [stored(2, 1, 1), stored(1, 1, 1)], [file(2, 1, 1), file(1, 1, 1)]][
        stream
    ]
    with pytest.raises(OutOfOrder):
        list(matched(*streams))


def test_problems_are_all_counted_and_some_are_listed():
    findings = Findings()
    found = (Place(kept(number, 1, NAME, 2), 1) for number in range(LISTED + 5))
    assert len(list(examine(found, for_bucket, findings, threading.Event()))) == LISTED + 5
    assert findings.bad == {"different": LISTED + 5} and len(findings.problems) == LISTED
    assert findings.problems[0].detail == "the record says 2 bytes, the object has 1 bytes"
    assert findings.revisions == LISTED + 5


def test_stopping():
    stop = threading.Event()
    stop.set()
    with pytest.raises(Stopped):
        list(examine([Place(kept(1, 1))], for_bucket, Findings(), stop))


def test_what_a_pack_removed_is_not_missing():
    findings = Findings()
    settle([(eight(1), eight(1)), (eight(2), eight(1))], lambda oid, tid: oid == eight(2), findings, "nowhere")
    assert (findings.gone, findings.bad, findings.problems[0].oid) == (1, {"missing": 1}, "0x02")


def test_what_came_after_the_listing_is_not_missing():
    findings = Findings()
    doubtful = [(eight(1), eight(1)), (eight(2), eight(1))]
    settle(doubtful, lambda oid, tid: True, findings, "nowhere", lambda oid, tid: oid == eight(1))
    assert (findings.gone, findings.bad, findings.problems[0].oid) == (0, {"missing": 1}, "0x02")


def test_memory_does_not_grow_with_the_number_of_blobs():
    """A third is there, a third is to be uploaded, a third is nowhere; names, sizes and files as a site has them."""
    count = 9_000
    with Spool() as spool:
        planned = Plan(spool)
        found = matched(
            (kept(number, 5, NAME, number, sha256=bytes(32)) for number in range(count)),
            (stored(number, NAME, number) for number in range(0, count, 3)),
            (file(number, 5, number) for number in range(1, count, 3)),
        )
        tracemalloc.start()
        plan(planned, found, threading.Event(), comparing=False, keep_there=True)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert [len(table) for table in (planned.wanted, planned.there, planned.doubtful)] == [count // 3] * 3
    assert peak < 1_200_000, peak  # the revisions alone would take 2,400,000
