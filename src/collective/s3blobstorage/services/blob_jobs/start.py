"""``POST <site>/@blob-jobs`` with ``{"kind": …, options}``"""

from AccessControl import getSecurityManager

from ...errors import ConfigurationError, JobRuns
from ...maintenance.jobs.interfaces import KINDS
from ..about import BlobService
from ..refusal import Refusal, bad_field
from .options import options_of
from .told import told


class Start(BlobService):
    """Starts a job in a thread of this process: 202, the job, and where it is seen (``Location``)."""

    depth = 0
    name = "@blob-jobs"

    def answer(self):
        jobs = self.to_change().jobs()
        body = self.body()
        kind = self.kind(body)
        known = {one.name: one for one in jobs.kinds()}
        options = options_of(known[kind], body)
        if kind == "gc" and options.get("dry_run") is False:
            _must_be_kept(jobs, options["plan"])
        try:
            job = jobs.start(kind, options, by=getSecurityManager().getUser().getId() or "")
        except ConfigurationError:  # which is a ValueError too
            raise
        except JobRuns as error:
            more = {"job": self.url(self.name, error.id)} if error.id else {}
            raise Refusal(409, "Conflict", str(error), **more) from None
        except (ValueError, KeyError) as error:
            # An option is of the right type and there is no such thing, as a plan or a source.
            raise Refusal(400, "BadRequest", str(error.args[0] if error.args else error)) from None
        self.request.response.setStatus(202)
        self.request.response.setHeader("Location", self.url(self.name, job.id))
        return told(self, job)

    def kind(self, body):
        """Takes the kind out of the body."""
        kind = body.pop("kind", None)
        if kind not in KINDS:
            raise bad_field("kind", f"is none of {', '.join(KINDS)}")
        return kind


def _must_be_kept(jobs, plan):
    """Said now, and not by a job that fails. The job looks again, under its lease."""
    try:
        jobs.candidates(plan, start=0, size=1)
    except KeyError:
        raise bad_field("plan", "names no finished plan that is not older than 24 hours") from None
