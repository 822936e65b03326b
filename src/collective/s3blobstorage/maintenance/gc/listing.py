"""The listing of a prefix, on the local disk: what is judged, in the order of keys, and what else there is.

A store lists a thousand keys at a time, and tells with each page where the next begins: so a listing waits for the
store most of its time. One that proves long is cut by oids into ranges, of which some are listed at a time, each into a
file of its own. Until then it is one listing: a small prefix costs one request.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain, islice

from ZODB.utils import maxtid, p64, u64

from ...keys import (
    BLOBS,
    OBJECTS,
    SCRATCH,
    is_addon_key,
    is_bookkeeping,
    is_key,
    is_reference_key,
    is_upload_key,
    read_condemned_key,
    read_foreign_key,
    read_key,
    read_object_key,
    read_reference_key,
)
from ...objectstore.interfaces import IListing, Listed
from ...status.figures import Objects
from ..findings import Count, Stopped
from ..scope import Scope
from .lines import Lines
from .report import LISTED, Tally

_PAGE = 1000  # keys that a request brings at most
_PROVEN = 10 * _PAGE  # keys after which a listing counts as long
_AT_ONCE = 4  # more do not pay: reading a page takes the interpreter for longer than a quarter of a store's answer
# Each range ends with a page of which some belongs to the next one, and ranges of oids differ in what they hold.
_PAGES_EACH = 8
_MOST_RANGES = 64  # each is an open file
_REPORT = 0.25  # seconds between two calls of ``listed`` while others list

Row = tuple[str, int, str, int]  # key, size, ETag, and when it was written, in seconds since 1970


@dataclass(frozen=True)
class Range:
    """Keys that begin with ``prefix``, after the one and up to the other; None: to the end."""

    prefix: str
    after: str
    until: str | None


@dataclass
class Part:
    """One range of a listing. ``seen``: how many keys; ``foreign_keys``: the first of them; ``objects``: all, by whose
    key it is; ``abandoned``: of what browsers sent what was stored before ``abandoned_before``; ``shared``: shared
    objects, where there are some, as ``lines``."""

    range: Range
    abandoned_before: datetime
    lines: Lines = field(default_factory=Lines)
    shared: Lines | None = None
    seen: int = 0
    objects: Objects = field(default_factory=Objects)
    old: Count = field(default_factory=Count)
    addons: Count = field(default_factory=Count)
    staged: Count = field(default_factory=Count)
    abandoned: Count = field(default_factory=Count)
    foreign: Count = field(default_factory=Count)
    foreign_keys: list[str] = field(default_factory=list)

    def listed(self, store: IListing) -> Iterator[list[Listed]]:
        """By pages."""
        until = self.range.until
        page: list[Listed] = []
        for line in store.list(self.range.prefix, start_after=self.range.after):
            if until is not None and line.key > until:
                break
            page.append(line)
            if len(page) == _PAGE:
                yield page
                page = []
        yield page

    def take(self, page: list[Listed], *, old_keys: bool, ours_only: bool, deduplicated: bool) -> None:
        """Keep what is judged, count the rest."""
        self.seen += len(page)
        blobs = size = 0
        kept, shared = [], []
        for line in page:
            if is_key(line.key):  # nearly all, or nearly all are references
                blobs += 1
                size += line.size
            else:
                self.objects.of(line.key).add(line.size)
                if deduplicated and is_reference_key(line.key):
                    pass
                elif deduplicated and read_object_key(line.key) is not None:
                    shared.append(_line_of(line))
                    continue
                elif ours_only or not self._is_judged(line, old_keys, deduplicated):
                    continue
            kept.append(_line_of(line))
        self.objects.blobs.objects += blobs
        self.objects.blobs.bytes += size
        self.lines.extend(kept)
        if shared:
            self.shared = self.shared or Lines()
            self.shared.extend(shared)

    def _is_judged(self, line: Listed, old_keys: bool, deduplicated: bool) -> bool:
        """Of one whose key is none of ours."""
        key = line.key
        if read_foreign_key(key) is not None:
            if not old_keys:
                self.old.add(line.size)
            return old_keys
        if key.startswith(SCRATCH):
            return key.isascii() and key.isprintable()
        if is_addon_key(key):
            self.addons.add(line.size)
        elif is_upload_key(key):
            self.staged.add(line.size)
            if line.last_modified < self.abandoned_before:
                self.abandoned.add(line.size)
        elif not is_bookkeeping(key) and not (deduplicated and read_condemned_key(key) is not None):
            self.foreign.add(line.size)
            if len(self.foreign_keys) < LISTED:
                self.foreign_keys.append(key)
        return False


def _line_of(line: Listed) -> str:
    return f"{line.key}\t{line.size}\t{line.etag}\t{int(line.last_modified.timestamp())}"


def row_of(line: str) -> Row:
    """Of one of the lines that ``Listing.folders`` gives."""
    key, size, etag, modified = line.split("\t")
    return key, int(size), etag, int(modified)


def _oid_in(key: str) -> bytes | None:
    """Of a revision's own key, or that of its reference."""
    found = read_key(key) or read_reference_key(key)
    return None if found is None else found[0]


class Listing:
    """A whole one: its ranges in the order of keys. ``old_keys``: those of zodb-s3blobs are judged, too.

    ``deduplicated``: so are references, and shared objects are given by ``shared``; where not, such keys are foreign.
    ``abandoned_before``: what browsers sent before is not completed any more. ``at_once``: whether ranges are listed at
    the same time, which is of no use where nothing is waited for.
    """

    def __init__(
        self,
        store: IListing,
        scope: Scope,
        stop: threading.Event,
        listed: Callable[[int], None],
        *,
        old_keys: bool,
        abandoned_before: datetime,
        deduplicated: bool = False,
        at_once: bool = True,
    ) -> None:
        self._deduplicated = deduplicated
        self._abandoned_before = abandoned_before
        self._proven = _PROVEN if at_once else math.inf
        self._store = store
        self._scope = scope
        self._stop = stop
        self._listed = listed
        self._old_keys = old_keys
        self._parts: list[Part] = []
        self._reported = 0
        self._failures: list[BaseException] = []  # of several threads; the first one is why the others end
        with ExitStack() as stack:
            stack.callback(self.close)
            self._make()
            stack.pop_all()

    def folders(self) -> Iterator[tuple[str, list[str]]]:
        """What is judged, by the part of the key before its last slash: there are all objects of one blob.

        As lines, which begin with key, tab, size, tab; ``row_of`` reads the whole of one. Of nearly all no more is
        read.
        """
        folder, rows = "", []
        for line in chain.from_iterable(part.lines for part in self._parts):
            key = line[: line.index("\t")]
            found = key[: key.rfind("/")]
            if found != folder:
                if rows:
                    yield folder, rows
                folder, rows = found, [line]
            else:
                rows.append(line)
        if rows:
            yield folder, rows

    def shared(self) -> Iterator[Row]:
        """The shared objects, in the order of their keys."""
        return map(row_of, chain.from_iterable(part.shared for part in self._parts if part.shared is not None))

    def count(self, tally: Tally) -> None:
        """Add what is not judged."""
        for part in self._parts:
            for count, more in (
                (tally.old, part.old),
                (tally.addons, part.addons),
                (tally.staged, part.staged),
                (tally.abandoned, part.abandoned),
                (tally.foreign, part.foreign),
            ):
                count.blobs += more.blobs
                count.bytes += more.bytes
            tally.foreign_keys += part.foreign_keys[: LISTED - len(tally.foreign_keys)]

    def objects(self) -> Objects:
        """All that was listed."""
        return Objects.sum(part.objects for part in self._parts)

    def close(self) -> None:
        for part in self._parts:
            part.lines.close()
            if part.shared is not None:
                part.shared.close()

    def __enter__(self) -> Listing:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    # Listing

    def _make(self) -> None:
        scope = self._scope
        if scope.whole:
            first = Range("", "", None)
        else:
            first = Range(BLOBS, f"{BLOBS}{scope.first.hex()}/", f"{BLOBS}{scope.last.hex()}/~")
        part, proven = self._part(first), self._proven
        began: bytes | None = None  # the oid of the first key of a blob
        for page in part.listed(self._store):
            self._take(part, page)
            self._report()
            if len(page) < _PAGE:
                return  # it was the last one
            oids = [oid for line in (page[0], page[-1]) if (oid := _oid_in(line.key)) is not None]
            began = began or (oids[0] if oids else None)
            last = page[-1].key
            if part.seen >= proven and began is not None and (found := _oid_in(last)) is not None:
                proven = 2 * part.seen
                ranges = self._ranges(first, last, u64(began), u64(found), part.seen)
                if ranges:
                    self._at_once([self._part(each) for each in ranges])
                    return

    def _part(self, range_: Range) -> Part:
        part = Part(range_, self._abandoned_before)
        self._parts.append(part)
        return part

    def _take(self, part: Part, page: list[Listed]) -> None:
        if self._stop.is_set() or self._failures:
            raise Stopped
        part.take(page, old_keys=self._old_keys, ours_only=not self._scope.whole, deduplicated=self._deduplicated)

    def _report(self) -> None:
        seen = sum(part.seen for part in self._parts)
        if seen > self._reported:
            self._listed(seen - self._reported)
            self._reported = seen

    def _ranges(self, whole: Range, last: str, began: int, at: int, seen: int) -> list[Range]:
        """What is left after the key ``last``, whose oid is ``at``, cut by oids; none where that would not pay."""
        end = self._end(whole, at, max(at - began, 1))
        pages = (end - at) * seen // max(at - began, 1) // _PAGE
        count = min(_MOST_RANGES, pages // _PAGES_EACH, end - at)
        if count < 2:
            return []
        cuts = [f"{BLOBS}{p64(at + (end - at) * number // count).hex()}/" for number in range(1, count)]
        if self._deduplicated and self._scope.whole:
            cuts += self._cuts_of_shared()
        return [
            Range(whole.prefix, after, until)
            for after, until in zip([last, *cuts], [*cuts, whole.until], strict=True)
            if until is None or until > after
        ]

    def _cuts_of_shared(self) -> list[str]:
        """Where to cut the shared objects. Their names are hashes: how far a page gets tells how many there are."""
        page = list(islice(self._store.list(OBJECTS), _PAGE))
        name = read_object_key(page[-1].key) if len(page) == _PAGE else None
        if name is None:
            return []
        pages = 16**8 // (int(name[:8], 16) + 1)
        count = min(_MOST_RANGES // 2, pages // _PAGES_EACH)
        return [f"{OBJECTS}{256 * number // count:02x}/" for number in range(1, count)]

    def _end(self, whole: Range, at: int, step: int) -> int:
        """An oid above which there is no key of ours: at most about twice as far as the last one is.

        Steps double, and whatever is found is the next beginning, so these are some ten requests for one key each.
        """
        most = u64(self._scope.last) if not self._scope.whole else u64(maxtid)
        while (beyond := at + step) < most:
            after = f"{BLOBS}{p64(beyond).hex()}/"
            found = next(iter(self._store.list(BLOBS, start_after=after, page_size=1)), None)
            named = _oid_in(found.key) if found is not None else None
            if named is None:
                return beyond
            at, step = max(beyond, u64(named)), step * 2
        return most

    def _at_once(self, parts: list[Part]) -> None:
        def make(part: Part) -> None:
            try:
                for page in part.listed(self._store):
                    self._take(part, page)
            except BaseException as error:
                self._failures.append(error)
                raise

        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="s3blobs-listing") as pool:
            running: set[Future[None]] = {pool.submit(make, part) for part in parts}
            try:
                while running and not self._failures:
                    _, running = wait(running, timeout=_REPORT, return_when=FIRST_EXCEPTION)
                    self._report()
            except BaseException as error:  # an interruption: leaving this block waits for the others
                self._failures.append(error)
            if self._failures:
                pool.shutdown(wait=False, cancel_futures=True)
                raise self._failures[0]
