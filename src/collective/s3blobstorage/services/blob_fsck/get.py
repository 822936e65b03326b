"""``GET <site>/@blob-fsck[/<job>]``: the last check that came to its end, or the one named, with its findings."""

from ...maintenance.fsck.told import RUNS, came_to_its_end
from ...maintenance.jobs.interfaces import RUNNING
from ..blob_jobs.get import Get
from ..blob_jobs.told import told


class GetFsck(Get):
    """``job`` is the check without its findings, which are in ``items``, batched: as many as are kept of it."""

    name = "@blob-fsck"
    of_kind = "fsck"

    def one(self, jobs, job):
        return self._found(jobs, job)

    def many(self, jobs):
        """``job`` is null where no check came to its end yet; ``running`` is the one that is under way."""
        found, _ = jobs.list(self.of_kind, size=RUNS)
        last = next((job for job in found if came_to_its_end(job)), None)
        running = next((job for job in found if job.state == RUNNING), None)
        return self._found(jobs, last) | {"running": running and told(self, running)["@id"]}

    def _found(self, jobs, job):
        start, size = self.window()
        if job is None or job.result is None:
            return {**self.batched([], 0), "job": job and told(self, job)}
        document = told(self, job)
        document["result"] = {name: value for name, value in job.result.items() if name != "findings"}
        return {**self.batched(*jobs.findings(job, start=start, size=size)), "job": document}
