"""Every check of one database's storage, in the order in which a person would look: the machine, the store, the prefix,
then writing, the bucket's rules, uploads of browsers, and the sources at the end.

For ``s3blobs check`` and for whoever looks at a site. Nothing is written, not even an object of the checks, before the
owner marker said that the prefix is ours.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import chain

from ..errors import StoreError
from ..messages import mend as mend_of
from ..messages import one_line
from ..objectstore import S3ObjectStore
from ..objectstore.preflight import AT_OPEN, DEEPER, LAST_BEFORE_WRITING, Finding, checks
from ..settings import StorageSettings
from .bucket_checks import bucket_checks
from .local_checks import LocalChecks, Result
from .source_checks import Opened, source_checks
from .upload_checks import upload_checks

_NOT_ASKED: Result = (None, "not tried: the bucket cannot be read", "")


@dataclass(frozen=True)
class Base:
    """How the database is looked at. ``what``: the section, for people. ``look``: what came of it, and its last
    transaction. ``opened``: it, for sources that read in it; None where that is not to be done."""

    what: str
    look: Callable[[], tuple[Result, bytes | None]]
    opened: Opened | None


def findings(
    settings: StorageSettings,
    store: S3ObjectStore,
    base: Base,
    *,
    writable: bool,
    started: float,
    until: float | None = None,
) -> Iterator[Finding]:
    """Each finding as it is made, in the thread of the caller. Raises nothing of the store's. To be closed.

    ``store`` is for this alone: what is measured corrects it. ``started``: when the configuration was begun to be read,
    by the monotonic clock. ``until``: when nothing more is asked of the store and of sources, by the same one; what was
    not tried by then is told all the same.
    """
    yield Finding("configuration", True, time.monotonic() - started, base.what, "")
    local = LocalChecks(settings, store, base.look)
    yield _timed("cache-dir", local.cache_dir)
    yield _timed("staging-dir", local.staging_dir)
    yield _timed("cache space", local.cache_space)
    yield _timed("one file system", local.one_file_system)
    yield _timed("database", local.base)
    yield _timed("local clock", local.local_clock)
    yield _timed("garbage", local.garbage)
    if settings.metrics_token_file is not None:
        yield _timed("metrics token", local.metrics_token)
    reached = late = False
    with closing(checks(store, writable=writable, thorough=True, forbidden=lambda: local.not_ours)) as remote:
        for finding in remote:
            reached = reached or (finding.name == "bucket" and finding.ok is True)
            yield finding
            if finding.name == LAST_BEFORE_WRITING:
                yield _timed("owner", local.owner if reached else lambda: _NOT_ASKED)
                yield _timed("keys", local.keys if reached else lambda: _NOT_ASKED)
            late = until is not None and time.monotonic() > until
            if late:
                break
    if late:
        yield from _too_slow(finding.name)
    why_not = local.not_ours if reached else _NOT_ASKED[1]
    rules = bucket_checks(settings, store, "" if reached else _NOT_ASKED[1])
    if not writable:
        why_not = "not tried: opened for reading only"
    last = chain(rules, upload_checks(settings, store, why_not), source_checks(settings.sources, base.opened))
    for name, asked in last:
        late = until is not None and time.monotonic() > until
        yield _untried(name) if late else _timed(name, asked)


def _too_slow(last: str) -> Iterator[Finding]:
    """The store's checks after ``last``. The first of them says what is wrong: until then all may have been well."""
    names = AT_OPEN + DEEPER
    left = names[names.index(last) + 1 :]
    if left:
        mend = "s3-endpoint-url: see whether the network or the store is slow; s3blobs check takes the time it needs"
        yield Finding(left[0], False, 0.0, "not tried: the checks before it took too long", mend)
    yield from map(_untried, left[1:])


def _untried(name: str) -> Finding:
    return Finding(name, None, 0.0, "not tried: the checks before it took too long", "")


def _timed(name: str, asked: Callable[[], Result]) -> Finding:
    begun = time.monotonic()
    try:
        ok, detail, mend = asked()
    except StoreError as error:
        ok, detail, mend = False, one_line(error), mend_of(error)
    return Finding(name, ok, time.monotonic() - begun, detail, mend)
