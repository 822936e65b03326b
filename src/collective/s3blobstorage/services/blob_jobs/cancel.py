"""``DELETE <site>/@blob-jobs/<job>``"""

from ..about import BlobService
from ..refusal import Refusal
from .get import job_of
from .told import told


class Cancel(BlobService):
    """Asks a job to stop, and answers with 202 and the job: it ends within seconds, after what is under way.

    No error where it has ended already. Nothing that a job is known by is deleted.
    """

    name = "@blob-jobs"
    of_kind = None

    def answer(self):
        jobs = self.to_change().jobs()
        if not self.path:
            raise Refusal(404, "NotFound", "name the job that is to stop")
        job = job_of(self, jobs)
        jobs.cancel(job.id)
        self.request.response.setStatus(202)
        return told(self, jobs.get(job.id))
