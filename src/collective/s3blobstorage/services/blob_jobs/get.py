"""``GET <site>/@blob-jobs[/<job>]``: all jobs, newest first, or one."""

from ...maintenance.jobs.interfaces import KINDS
from ..about import BlobService
from ..refusal import Refusal, bad_field
from .told import told


class Get(BlobService):
    """The list (``?kind=``) is batched, and has ``kinds``: what can be started here, and why not what cannot."""

    name = "@blob-jobs"
    of_kind = None  # the only kind that is told of; None: all

    def answer(self):
        jobs = self.operated().jobs()
        return self.one(jobs, job_of(self, jobs)) if self.path else self.many(jobs)

    def one(self, jobs, job):
        return told(self, job)

    def many(self, jobs):
        kind = self.of_kind or self.query.get("kind")
        if kind is not None and kind not in KINDS:
            raise bad_field("kind", f"is none of {', '.join(KINDS)}")
        start, size = self.window()
        found, total = jobs.list(kind, start=start, size=size)
        kinds = [
            {"name": one.name, "why_not": one.why_not or None, "options": dict(one.options)}
            for one in jobs.kinds()
            if kind is None or one.name == kind
        ]
        return self.batched([told(self, job) for job in found], total) | {"kinds": kinds}


def job_of(service, jobs):
    """The job that the address names. Raises Refusal where there is none."""
    [name] = service.path
    try:
        job = jobs.get(name)
    except KeyError:
        job = None
    if job is None or service.of_kind not in (None, job.kind):
        raise Refusal(404, "NotFound", "there is no such job")
    return job
