"""Work for jobs that counts, until it has counted enough or is asked to stop."""

from __future__ import annotations

import time
from typing import Any

from collective.s3blobstorage.maintenance.jobs.interfaces import KINDS


class Counting:
    """An ``IWork``. ``pause``: seconds for each step."""

    def __init__(self, steps: int, pause: float = 0.02, error: BaseException | None = None) -> None:
        self.defaults = {"dry_run": True, "share": 0.2, "plan": None}
        self.steps, self.pause, self.error = steps, pause, error
        self.done = 0

    def for_all(self) -> dict[str, Counting]:
        return dict.fromkeys(KINDS, self)

    def why_not(self, operated: Any) -> str:
        return ""

    def check(self, operated: Any, options: Any) -> None:
        if options["share"] > 1:
            raise ValueError("share is at most 1")

    def __call__(self, operated: Any, options: Any, running: Any) -> dict[str, Any]:
        advance = running.phase("counting", self.steps)
        for _ in range(self.steps):
            if running.stop.is_set():
                break
            time.sleep(self.pause)
            self.done += 1
            advance(1, 10)
        if self.error is not None:
            raise self.error
        return {"counted": self.done}
