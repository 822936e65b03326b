"""The contract of the overlay: sources of blobs behind the bucket, and the chain of them.

A source has no way to write or to delete: nothing here has a verb for it, and an S3 source opens its bucket read-only.

Only "there is no such object" counts as missing. A source that refuses, fails, hangs or is not mounted cannot tell, and
says Unavailable: else a blob would look as if it were gone for good.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO

from zope.interface import Attribute, Interface

from ..cache.interfaces import IBlobSource

if TYPE_CHECKING:
    from ..objectstore.content import Openable
    from ..objectstore.interfaces import IObjectStore  # whose package imports boto3
    from ..storage.record import BlobState  # at run time the storage imports us


@dataclass(frozen=True, slots=True)
class Revision:
    """One revision of a blob, and what its record says of its data."""

    oid: bytes
    tid: bytes
    state: BlobState


# Stores a revision as the shared object that its record names, by what puts the bytes under the key it is given; False:
# it needs an object of its own.
Share = Callable[[Revision, Callable[[str], object]], bool]


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """What every source has, of whatever type. The chain keeps to it, the source itself need not.

    name: for messages and the log; unique in its section. fork_tid: only revisions up to this tid are looked up; None:
    all. negative_cache: seconds for which "not there" is remembered; 0: not at all. max_size: bytes of the largest blob
    that is taken from there; None: any. mirror: whether what was read whole from there comes into the bucket: ``on``,
    before the reader gets it; ``background``, afterwards; ``off``. type: of its section, for people.
    """

    name: str
    fork_tid: bytes | None = None
    negative_cache: float = 60.0
    max_size: int | None = None
    mirror: str = "background"
    type: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a source cannot be used now, and what to change."""

    detail: str
    mend: str


class ISource(Interface):
    """A place that may have blobs. Any thread may call any method at any time."""

    follows_undo = Attribute("bool: whether what the base's own undo brings back appears here, under the undo's tid")

    def blob(revision: Revision) -> IBlobSource:
        """That revision's bytes as they are here. Makes no request; what it returns does.

        Its methods raise, beside PreconditionFailed as ``IBlobSource.read`` has it:

        - BlobMissing where this source has no such revision, and knows it;
        - Unavailable where that cannot be told: refused, unreachable, too slow, not mounted;
        - Corrupt where the bytes are not those that the record, or the source itself, names.

        What ``read`` returns as validator has at most 300 bytes and no ``"`` in it.
        """

    def check() -> Trouble | None:
        """One look at whether the source can be used: what is in the way, or None.

        Called once after opening, in a thread of its own, for the log, and by ``s3blobs check``. A source that is down
        is no error: it does not stop the site.
        """

    def close() -> None:
        """Close connections. Idempotent."""


class ICopyingSource(ISource):
    """A source whose blobs the bucket's store can copy by itself."""

    def copy_into(revision: Revision, store: IObjectStore, key: str) -> int | None:
        """Have the store copy the revision under ``key``, and return its size in bytes.

        None where that cannot be done, or where nothing would prove that the copy has the right bytes: then they have
        to be read. Raises as the methods of what ``blob`` returns, and what the store raises.
        """


class ISourceSettings(Interface):
    """The settings of one source: what ``ISourceSection.settings`` returns. A frozen value, without secrets in its
    repr."""

    options = Attribute("SourceOptions")

    def open(base: Any, clock: Any) -> ISource:
        """The source. Makes no request. ``base`` is the storage inside ``<s3blobstorage>``; ``clock``: None is the
        machine's. Raises ConfigurationError where the settings cannot work, and nothing because a source is down."""


class ISourceSection(Interface):
    """What the ``datatype`` of a section of the abstract type ``collective.s3blobstorage.source`` makes of it."""

    uses_base = Attribute("bool: whether it reads the blobs that the storage inside keeps itself")

    def settings(environ: Mapping[str, str]) -> ISourceSettings:
        """The section's settings. Raises ConfigurationError where keys are missing or contradict each other."""


class IOverlay(Interface):
    """All sources of one storage, in order. Any thread may call any method at any time."""

    names = Attribute("tuple[str, ...]: of the sources, in order")
    forked = Attribute("bool: whether a source is asked only for revisions up to some tid")
    miss_level = Attribute("int: at which level of the log it is told that the bucket lacks an object")

    def behind(
        bucket: IBlobSource, revision: Revision, keys: tuple[str, ...] = (), last: IBlobSource | None = None
    ) -> IBlobSource:
        """The revision's bytes: the bucket's, or a source's where the bucket raises BlobMissing.

        ``last``: the bucket once more, where it takes a request more to find it; asked where no source has it.

        ``keys``: under which it may lie in the bucket. Where a listing of the bucket had none of them a moment ago, the
        sources are asked first (``overlay/lacking.py``).

        Makes no request. The bucket's errors go through, but for BlobMissing. A source that is unavailable, or whose
        bytes are not the right ones, is passed over where a later one has the blob; where none has it, what the first
        such source raised is raised, with the source's name. BlobMissing only where all said so. What was found in one
        place is read on from there for the life of the object.
        """

    def has(revision: Revision) -> bool:
        """Whether a source has it. Raises as ``behind`` where that cannot be told."""

    def which(revision: Revision) -> str | None:
        """The name of the first source that has it, None where none has. Raises as ``has``."""

    def copy_into(revision: Revision, store: IObjectStore, key: str) -> int | None:
        """Have the store copy it under ``key`` from the first source that has it; its size in bytes.

        None where it has to be fetched. Raises as ``behind``, and what the store raises.
        """

    def fetch(revision: Revision, file: BinaryIO) -> None:
        """Write the whole of it to ``file``, new and empty, from the first source that has it. The bucket is not asked.

        Raises as ``behind``."""

    def undone_by_base(revision: Revision) -> bool:
        """Whether the base's own undo brings that revision's bytes back, under the undo's tid. Raises as ``has``."""

    def look_into(store: IObjectStore) -> None:
        """From now on this bucket is listed in the background while it is asked for what only sources have."""

    def mirror_into(store: IObjectStore, share: Share = ...) -> None:
        """From now on what is read whole from sources is stored in this bucket, as their options say.

        ``share`` is ``BlobReader.share_again``: it stores what records name as shared objects.

        Called once, before the first read, and not at all where the storage is read-only.
        """

    def completed(oid: bytes, tid: bytes, file: str | Openable) -> None:
        """``file`` is the complete, checked file of that revision, just downloaded into the cache: a path, or where the
        cache is encrypted what gives its bytes.

        Called by the cache, in the thread that completed it. Raises nothing; may wait for an upload (``mirror on``).
        """

    def mirrored() -> dict[str, int]:
        """Counts of blobs since the opening, in this process: ``mirrored``; ``present``, another process was first;
        ``failed``, the bucket did not take it; ``skipped``, too many waited or the file was evicted meanwhile."""

    def close() -> None:
        """Join the threads and close the sources. Idempotent."""
