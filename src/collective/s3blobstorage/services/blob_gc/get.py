"""``GET <site>/@blob-gc[/<job>]``: collections, newest first, or one with the candidates of its plan."""

from ..blob_jobs.get import Get
from ..blob_jobs.told import told


class GetGc(Get):
    name = "@blob-gc"
    of_kind = "gc"

    def one(self, jobs, job):
        """The job with its report, and in ``items`` the candidates of the plan that it made or executes, batched.

        Plans are kept for a while only: later ``items_total`` is null.
        """
        plan = (job.result or {}).get("plan") or job.options.get("plan")
        candidates = {"items_total": None, "items": []}
        if plan:
            start, size = self.window()
            try:
                candidates = self.batched(*jobs.candidates(plan, start=start, size=size))
            except KeyError:
                pass
        return {**told(self, job), **candidates}
