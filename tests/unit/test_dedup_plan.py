"""Which blobs ``s3blobs dedup`` takes for equal: as few lines that hold all in memory say, in flat memory."""

from __future__ import annotations

import hashlib
import os
import threading
import tracemalloc
from collections import Counter
from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st
from ZODB.utils import p64

from collective.s3blobstorage.errors import ObjectMissing
from collective.s3blobstorage.maintenance import dedup
from collective.s3blobstorage.maintenance.spool import Spool


def digest(number: int) -> bytes:
    return hashlib.sha256(b"%d" % number).digest()


class Planned(dedup._Dedup):
    """A dry run over blobs that are given, without database and bucket. ``hidden``: by oid, what a request tells."""

    def __init__(self, spool: Spool, hidden: dict[bytes, bytes | None] | None = None) -> None:
        run = SimpleNamespace(spool=spool, store=None)
        super().__init__(run, dedup.Wish(dry_run=True, concurrency=2), SimpleNamespace(stop=threading.Event()))
        self._advance = self.advanced
        self.hidden = hidden or {}
        self.told = 0
        self.batches: list[tuple[int, bytes, bool, list[bytes]]] = []

    def advanced(self, count: int, size: int = 0) -> None:
        self.told += count

    def _digest(self, row):
        if row[1] not in self.hidden:
            raise ObjectMissing("it went")
        return self.hidden[row[1]]

    def _would(self, batch):
        content = batch.content
        oids = [oid for oid, _ in batch.revisions]
        self.batches.append((content.size, content.sha256, content.exists, oids))
        super()._would(batch)

    def go(self) -> dedup.Report:
        self._contents = dedup._Sought(self._plan.objects.rows("size DESC", "sha256"))
        for window, _ in self._windows():
            for known in self._digested(window):
                for batch in self._batches(known):
                    self._would(batch)
        return self.report


SIZES = st.integers(1, 4)
CONTENTS = st.tuples(SIZES, st.integers(0, 3))  # equal contents have equal sizes: the number is told apart by its size
BLOBS = st.lists(st.tuples(CONTENTS, st.sampled_from(["record", "metadata", "nowhere", "gone"])), max_size=30)


@given(BLOBS, st.sets(CONTENTS, max_size=6), st.sampled_from([1, 3, 10_000]), st.sampled_from([1, 2, 100]))
def test_equal_are_those_of_one_content_and_nothing_is_counted_twice(blobs, shared, window, batch):
    sha = {content: digest(content[0] * 100 + content[1]) for content in {c for c, _ in blobs} | shared}
    before = dedup._WINDOW, dedup._BATCH
    dedup._WINDOW, dedup._BATCH = window, batch
    try:
        with Spool() as spool:
            hidden = {}
            for number, (content, told) in enumerate(blobs):
                if told in ("metadata", "nowhere"):
                    hidden[p64(number)] = sha[content] if told == "metadata" else None
            work = Planned(spool, hidden)
            for number, (content, told) in enumerate(blobs):
                known = sha[content] if told == "record" else None
                work._plan.own.add(content[0], p64(number), bytes(8), f"{number:032x}", known)
            for content in shared:
                work._plan.objects.add(content[0], sha[content])
            report = work.go()
    finally:
        dedup._WINDOW, dedup._BATCH = before
    # What is alone in its size is not asked for.
    sizes = Counter(content[0] for content, _ in blobs)
    asked = [(c, told) for c, told in blobs if sizes[c[0]] > 1 or any(s[0] == c[0] for s in shared)]
    counts = Counter(content for content, told in asked if told in ("record", "metadata"))
    equal = {content: count for content, count in counts.items() if count > 1 or content in shared}
    assert report.equal.blobs == report.converted.blobs == sum(equal.values())
    assert report.equal.bytes == sum(content[0] * count for content, count in equal.items())
    assert report.made.blobs == len(set(equal) - shared)
    assert report.unhashed.blobs == sum(told == "nowhere" for _, told in asked)
    assert report.gone.blobs == sum(told == "gone" for _, told in asked)
    every = (report.equal, report.single, report.unhashed, report.gone)
    assert sum(count.blobs for count in every) == len(blobs) == work.told
    found: dict[bytes, list[bytes]] = {}
    for _, sha256, _, oids in work.batches:
        assert len(oids) <= batch
        found.setdefault(sha256, []).extend(oids)
    assert {sha256: len(oids) for sha256, oids in found.items()} == {sha[c]: n for c, n in equal.items()}
    assert [size for size, *_ in work.batches] == sorted((size for size, *_ in work.batches), reverse=True)


def test_memory_does_not_grow_with_the_number_of_blobs():
    """30,000 blobs of 10,000 contents, which as rows in memory are some 10 MB."""
    with Spool() as spool:
        work = Planned(spool)
        for number in range(30_000):
            size = 200_000 + number % 10_000
            work._plan.own.add(size, p64(number), bytes(8), os.urandom(16).hex(), digest(number % 10_000))
        work._would = lambda batch: dedup._Dedup._would(work, batch)
        tracemalloc.start()
        report = work.go()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert report.converted.blobs == 30_000 and report.made.blobs == 10_000
    assert peak < 2 * 1024 * 1024, peak
