"""``GET <site>/@blob-fsck[/<job>]``: the last check that came to its end, or the one named, with its findings."""

from ...maintenance.fsck.told import RUNS, came_to_its_end
from ...maintenance.jobs.interfaces import RUNNING
from ..blob_jobs.get import Get
from ..blob_jobs.told import told


class GetFsck(Get):
    """``job`` is the check without its findings, which are in ``items``, batched: as many as a report names."""

    name = "@blob-fsck"
    of_kind = "fsck"

    def one(self, jobs, job):
        return self._found(job)

    def many(self, jobs):
        """``job`` is null where no check came to its end yet; ``running`` is the one that is under way."""
        found, _ = jobs.list(self.of_kind, size=RUNS)
        last = next((job for job in found if came_to_its_end(job)), None)
        running = next((job for job in found if job.state == RUNNING), None)
        return self._found(last) | {"running": running and told(self, running)["@id"]}

    def _found(self, job):
        document = None if job is None else told(self, job)
        findings = []
        if document and document["result"]:
            result = dict(document["result"])
            findings = result.pop("findings", [])
            document["result"] = result
        start, size = self.window()
        return {**self.batched(findings[start : start + size], len(findings)), "job": document}
