"""What a plan found and what came of it: one structure for terminal, JSON, log and tests."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..findings import Count

LISTED = 1000  # of foreign keys and the like, each is named up to so many


@dataclass
class Tally:
    """What a plan found below the prefix.

    ``used`` by a kept revision; ``young``: nothing uses it, and it is younger than ``gc-grace``; ``waiting``: until
    ``gc-keep`` is over; ``condemned``: an execution may delete it, and ``unseen`` are those of them that no earlier
    plan saw in use. ``uploads``: unfinished multipart uploads, ``waiting_uploads`` and ``condemned_uploads``.
    ``scratch``: what checks of the store left. ``old``: objects of zodb-s3blobs, which are judged only after ``s3blobs
    adopt``. ``foreign``: everything else under the prefix, which is never deleted.
    """

    used: Count = field(default_factory=Count)
    young: Count = field(default_factory=Count)
    waiting: Count = field(default_factory=Count)
    condemned: Count = field(default_factory=Count)
    unseen: Count = field(default_factory=Count)
    old: Count = field(default_factory=Count)
    foreign: Count = field(default_factory=Count)
    foreign_keys: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    uploads: int = 0
    waiting_uploads: int = 0
    condemned_uploads: int = 0
    next_due: int | None = None  # when the first of those that wait may go, seconds since 1970

    @property
    def judged(self) -> int:
        """Objects of ours, whatever became of them."""
        return sum(count.blobs for count in (self.used, self.young, self.waiting, self.condemned))

    @property
    def share(self) -> float:
        """The part of what was judged that is condemned."""
        return self.condemned.blobs / self.judged if self.judged else 0.0


@dataclass
class Outcome:
    """What an execution did. ``spared``: condemned by the plan, and in use, gone or too young when it came to it."""

    deleted: Count = field(default_factory=Count)
    aborted_uploads: int = 0
    spared: int = 0
    markers: int = 0  # of ``deleted``: the bucket keeps versions, so they are hidden and still take room
    failed: dict[str, int] = field(default_factory=dict)  # by the store's code
    failures: list[dict[str, Any]] = field(default_factory=list)
    stopped: bool = False

    def fail(self, key: str, code: str) -> None:
        self.failed[code] = self.failed.get(code, 0) + 1
        if len(self.failures) < LISTED:
            self.failures.append({"key": key, "code": code})
