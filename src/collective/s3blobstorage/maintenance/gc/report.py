"""What a plan found and what came of it: one structure for terminal, JSON, log and tests."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..findings import Count

LISTED = 1000  # of foreign keys and the like, each is named up to so many


@dataclass
class VersionTally:
    """What a plan found below ``blobs/`` beside what readers get: versions and delete markers, see ``versions``.

    ``past``: all of them; ``waiting``: until ``gc-keep`` is over; ``locked``: kept by Object Lock, as an earlier
    execution met it, with markers above such, the first until ``locked_until`` and the last until
    ``locked_until_last``, seconds since 1970; ``condemned``. ``keys``: hidden ones that no kept
    revision uses, and ``condemned_keys`` of them. ``needed``: hidden keys that a kept revision uses: somebody deleted
    what the database needs. They stay, so that it can be brought back.
    """

    past: Count = field(default_factory=Count)
    waiting: Count = field(default_factory=Count)
    locked: Count = field(default_factory=Count)
    locked_until: int | None = None
    locked_until_last: int | None = None
    condemned: Count = field(default_factory=Count)
    keys: int = 0
    condemned_keys: int = 0
    needed: int = 0
    needed_keys: list[str] = field(default_factory=list)

    def keep(self, size: int, until: int) -> None:
        self.locked.add(size)
        self.locked_until = min(until, self.locked_until or until)
        self.locked_until_last = max(until, self.locked_until_last or until)


@dataclass
class SharedTally:
    """What a plan of the whole prefix found of shared objects, see ``sharing``.

    ``used``: somebody refers to them. Nobody does to the others: ``young`` ones are younger than ``gc-grace``,
    ``marking``: an execution marks them, ``waiting``: their mark is younger than ``gc-grace``, ``condemned``: an
    execution may delete them. ``references``: of revisions that are in use or not. ``marks``: also those of what is
    gone long ago. ``saved``: how many bytes more there would be if nothing was shared.
    """

    used: Count = field(default_factory=Count)
    young: Count = field(default_factory=Count)
    marking: Count = field(default_factory=Count)
    waiting: Count = field(default_factory=Count)
    condemned: Count = field(default_factory=Count)
    references: int = 0
    marks: int = 0
    saved: int = 0

    @property
    def objects(self) -> int:
        return sum(count.blobs for count in (self.used, self.young, self.marking, self.waiting, self.condemned))

    @property
    def going(self) -> int:
        """Of ``objects`` those of the larger of two steps: each object takes one after the other."""
        return max(self.marking.blobs, self.condemned.blobs)


@dataclass
class Tally:
    """What a plan found below the prefix.

    ``used`` by a kept revision; ``young``: nothing uses it, and it is younger than ``gc-grace``; ``waiting``: until
    ``gc-keep`` is over; ``condemned``: an execution may delete it, and ``unseen`` are those of them that no earlier
    plan saw in use. ``uploads``: unfinished multipart uploads, ``waiting_uploads`` and ``condemned_uploads``.
    ``staged``: what browsers sent and is not completed, and ``staged_uploads``, multipart uploads of theirs; of these
    ``abandoned`` and ``abandoned_uploads`` are too old to be completed, and any execution deletes them.
    ``old``: objects of zodb-s3blobs, which are judged only after ``s3blobs
    adopt``. ``addons``: objects of add-ons, which are never judged. ``foreign``: everything else under the prefix,
    which is never deleted. ``versions``: where they were asked for. A reference to a shared object is judged as an
    object of its revision; ``shared``: these objects, of the whole of a prefix that may have some.
    """

    used: Count = field(default_factory=Count)
    young: Count = field(default_factory=Count)
    waiting: Count = field(default_factory=Count)
    condemned: Count = field(default_factory=Count)
    unseen: Count = field(default_factory=Count)
    old: Count = field(default_factory=Count)
    addons: Count = field(default_factory=Count)
    foreign: Count = field(default_factory=Count)
    foreign_keys: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    uploads: int = 0
    waiting_uploads: int = 0
    condemned_uploads: int = 0
    staged: Count = field(default_factory=Count)
    staged_uploads: int = 0
    abandoned: Count = field(default_factory=Count)
    abandoned_uploads: int = 0
    next_due: int | None = None  # when the first of those that wait may go, seconds since 1970
    versions: VersionTally | None = None
    shared: SharedTally | None = None

    def wait_for(self, due: int) -> None:
        if self.next_due is None or due < self.next_due:
            self.next_due = due

    @property
    def judged(self) -> int:
        """Objects of ours, whatever became of them, and hidden keys."""
        hidden = self.versions.keys if self.versions else 0
        return hidden + sum(count.blobs for count in (self.used, self.young, self.waiting, self.condemned))

    @property
    def going(self) -> int:
        """Of ``judged`` those that are condemned. Overwritten versions are not among them: the database does not decide
        about these."""
        return self.condemned.blobs + (self.versions.condemned_keys if self.versions else 0)

    @property
    def shared_shares(self) -> tuple[int, int]:
        """How many shared objects take a step towards their end, and how many objects with bytes of blobs there are.

        Counted by themselves: with their references in one number half of a database could go unnoticed.
        """
        if self.shared is None:
            return 0, 0
        return self.shared.going, self.judged - self.shared.references + self.shared.objects

    @property
    def share(self) -> float:
        """The part of what was judged that is condemned: by the database, or of shared objects, the larger."""
        return max(going / of if of else 0.0 for going, of in ((self.going, self.judged), self.shared_shares))


@dataclass
class Outcome:
    """What an execution did. ``spared``: condemned by the plan, and in use, gone or too young when it came to it.
    ``swept`` and ``swept_uploads``: what browsers sent and never completed. ``marked_shared``: shared objects that have
    their mark now, ``deleted_shared``: those that are gone.

    A failure has ``key`` and the store's ``code``, and of a version ``version``, with ``locked_until`` and ``mode``, or
    ``legal_hold``, where Object Lock keeps it.
    """

    deleted: Count = field(default_factory=Count)
    deleted_versions: Count = field(default_factory=Count)
    marked_shared: Count = field(default_factory=Count)
    deleted_shared: Count = field(default_factory=Count)
    aborted_uploads: int = 0
    spared: int = 0
    swept: Count = field(default_factory=Count)
    swept_uploads: int = 0
    markers: int = 0  # of ``deleted``: the bucket keeps versions, so they are hidden and still take room
    failed: dict[str, int] = field(default_factory=dict)  # by the store's code
    failures: list[dict[str, Any]] = field(default_factory=list)
    stopped: bool = False

    def fail(self, key: str, code: str, count: int = 1, **more: Any) -> None:
        """``count``: of how many; ``key`` is then what theirs begin with."""
        self.failed[code] = self.failed.get(code, 0) + count
        if len(self.failures) < LISTED:
            self.failures.append({"key": key, "code": code, **more})
