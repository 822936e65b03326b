"""A job as JSON."""

from ...maintenance.jobs.job import job_document


def told(service, job):
    """With its address at the service that was asked."""
    return {"@id": service.url(service.name, job.id), **job_document(job)}
