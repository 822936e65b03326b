"""From a store that was never asked to one that may be used: reachable, as configured, and ours to write.

The order is fixed: the bucket is asked, then the owner marker is read, and only when the prefix is not somebody else's
is anything written, the checks' own objects first, then the marker.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from typing import Any, TypeVar

from zope.interface import implementer
from zope.interface.interface import Method

from ..cache import BlobCache
from ..encryption.register import open_ring
from ..errors import ConfigurationError, Corrupt, EncryptionNotHonoured, Refused, S3BlobStorageError, Unavailable
from ..objectstore import S3ObjectStore, preflight
from ..objectstore.circuit import PROBE_EVERY
from ..objectstore.clock import Clock
from ..objectstore.interfaces import IObjectStore
from ..objectstore.patience import Patience
from ..overlay.interfaces import IOverlay
from ..settings import StorageSettings
from .owner import Marker, begin_sharing, cache_identity, open_prefix

logger = logging.getLogger(__name__)

T = TypeVar("T")

# Pauses while a site waits at its start for its store: both often start together.
STARTING = Patience(attempts=1, first_pause=0.5, longest_pause=5.0)

# Seconds between two tries to reach a store that was out at the start, each by a thread that wants a blob then; all
# others fail at once. As often as the circuit probes.
ASK_AGAIN = PROBE_EVERY

_NOT_YET = "The object store has not been reached since the start; blobs are unavailable until it answers."
_NOT_OURS = "The object store cannot be used as it is configured; the log says why."

VERBS = frozenset(name for name in IObjectStore if isinstance(IObjectStore[name], Method)) - {"close"}


def open_cache(settings: StorageSettings, store: Any, overlay: IOverlay, *, late: bool = False) -> BlobCache:
    """The cache of that store on this machine. ``late``: the store was not reached yet (``BlobCache.ring_opened``).

    Raises ConfigurationError where ``cache-dir`` is something else, or ``cache-encrypt`` has no keys, and what reading
    the active key raises.
    """
    ring = settings.cache_ring
    return BlobCache(
        settings.cache_dir,
        cache_identity(store.identity, settings.owner),
        size=settings.cache_size,
        min_free=settings.cache_min_free,
        fill_on_commit=settings.cache_fill_on_commit,
        staging_dir=settings.staging_dir,
        limit_commits=settings.commit_within_cache_size,
        part_threshold=settings.part_threshold,
        part_size=settings.part_size,
        completed=overlay.completed,
        ring=ring,
        # Keys that somebody else wraps are kept in the bucket.
        ring_later=late and ring is not None and any(provider.keeps for provider in ring.providers.values()),
    )


def open_once(store: S3ObjectStore, settings: StorageSettings, *, read_only: bool) -> Marker:
    """Preflight, bucket, owner and keys, one try of each. Runs in the thread that opens.

    Raises ConfigurationError, OwnerError, EncryptionNotHonoured, and Unavailable where trying again may help.
    """
    with keys_explained(store):
        marker = open_without_keys(store, settings, read_only=read_only)
    store.connect_ahead()
    encryption = store.encryption
    if encryption.ring is not None:
        open_ring(store.unencrypted(), encryption.ring, encryption.name, writable=not read_only)
    return marker


@contextmanager
def keys_explained(store: S3ObjectStore) -> Iterator[None]:
    """For the first look at a prefix: with SSE-C its marker cannot be read with another key than it was written with.
    Then say that, as a ConfigurationError, and not that the store refuses."""
    try:
        yield
    except (Refused, EncryptionNotHonoured, Corrupt):
        ring = store.encryption.ring
        if ring is not None:
            open_ring(store.unencrypted(), ring, store.encryption.name, writable=False)
        raise


def open_without_keys(store: S3ObjectStore, settings: StorageSettings, *, read_only: bool) -> Marker:
    """As ``open_once`` does it before it comes to the keys: for what is about to change the register itself."""
    marker = _looked_at(store, settings, read_only=read_only)
    if not settings.dedup or read_only:
        return marker
    if not (settings.preflight or marker.deduplicated):
        preflight.measure_conditions(store)
    if not store.conditional_put:
        raise ConfigurationError(
            "dedup is on, and the object store ignores If-None-Match, or does not say that it keeps it: of two that"
            " store the same file at one moment each would replace the other's object. Example: dedup off"
        )
    return begin_sharing(store, marker)


def _looked_at(store: S3ObjectStore, settings: StorageSettings, *, read_only: bool) -> Marker:
    if not settings.preflight:
        store.open_bucket(writable=not read_only)
        return open_prefix(store, settings.owner, read_only=read_only)
    with closing(preflight.run(store, writable=not read_only, thorough=False)) as findings:

        def go_on(until: str | None) -> None:
            for finding, error in findings:
                if error is not None:
                    raise error
                if finding.name == until:
                    return

        go_on(until=preflight.LAST_BEFORE_WRITING)
        marker = open_prefix(store, settings.owner, read_only=read_only, before_writing=lambda: go_on(until=None))
        go_on(until=None)
        return marker


def wait_for(opening: Callable[[], T], seconds: float, clock: Clock) -> T:
    """Call ``opening`` until it is not Unavailable, for so many seconds; then raise what it raised."""
    until = clock.monotonic() + seconds
    failures = 0
    while True:
        try:
            return opening()
        except Unavailable as error:
            failures += 1
            pause = STARTING.pause(failures)
            left = until - clock.monotonic()
            if pause > left:
                raise
            logger.warning("%s (tried again for another %.0f s, preflight-deadline)", error, left)
            clock.sleep(pause)


@implementer(IObjectStore)
class LateStore:
    """An object store whose opening is still to be done (``start-degraded on``).

    Before every verb the opening is done if it can be; until then all raise Unavailable, at most one thread every
    ``ASK_AGAIN`` seconds after asking the store. So nothing is read or written where the owner was not checked.
    """

    def __init__(self, store: IObjectStore, opening: Callable[[], Marker], clock: Clock) -> None:
        self._store = store
        self._opening = opening
        self._clock = clock
        self._asking = threading.Lock()  # held by the one thread that asks; nobody waits for it
        self._ask_at = clock.monotonic() + ASK_AGAIN
        self._open = False
        self._tell: Callable[[Marker], None] | None = None

    def when_open(self, tell: Callable[[Marker], None]) -> None:
        """Call ``tell`` with the prefix's marker, before the first verb goes through."""
        self._tell = tell

    def __repr__(self) -> str:
        return f"<LateStore of {self._store!r}, {'open' if self._open else 'not reached yet'}>"

    @property
    def reachable(self) -> bool:
        return self._open and self._store.reachable  # type: ignore[attr-defined]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "_store":
            raise AttributeError(name)
        asked = getattr(self._store, name)
        return partial(self._when_open, asked) if name in VERBS else asked

    def _when_open(self, verb: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if not self._open:
            self._try_to_open()
        return verb(*args, **kwargs)

    def _try_to_open(self) -> None:
        if not self._asking.acquire(blocking=False):
            raise Unavailable(_NOT_YET)
        try:
            # Only the holder of the lock writes these three; who comes after an opening finds it done.
            if self._open:
                return
            if self._clock.monotonic() < self._ask_at:
                raise Unavailable(_NOT_YET)
            try:
                marker = self._opening()
            except Unavailable:
                raise Unavailable(_NOT_YET) from None
            except S3BlobStorageError as error:
                # Its sentence is for the operator: whoever asks for a blob may be a visitor.
                logger.error("the object store answers, but: %s", error)
                raise Unavailable(_NOT_OURS) from None
            finally:
                self._ask_at = self._clock.monotonic() + ASK_AGAIN
            if self._tell is not None:
                self._tell(marker)
            self._open = True
            logger.warning("the object store is reached, blobs are available")
        finally:
            self._asking.release()
