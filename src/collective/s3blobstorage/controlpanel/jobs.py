"""“Jobs”: long work on the whole database. What changes something shows a plan first, and is done by that plan."""

import json

from zExceptions import NotFound
from zope.cachedescriptors.property import Lazy

from ..errors import JobRuns, S3BlobStorageError, StoreError
from ..maintenance.jobs.interfaces import DONE, RUNNING
from . import kinds
from .found import finding_line
from .judgement import BAD, LOOK
from .messages import _
from .page import JOBS, Page
from .results import report_table, result_rows
from .status import LEVELS, MARKS
from .words import moment_of

SIZE = 25  # jobs or candidates on a page
LOG_LEVELS = {"warning": LOOK, "error": BAD}


class Jobs(Page):
    """A list of what can be started and of what ran; with ``job`` in the address, that job.

    ``IJobs`` makes requests to the store: this page takes as long as they do, and no longer than a time-out.
    """

    name = JOBS
    title = _("Jobs")
    actions = {"plan": "plan", "do": "do", "cancel": "cancel"}
    marks = MARKS
    levels = LEVELS

    away = ""  # why nothing of jobs can be shown: the sentence of an error

    def __call__(self):
        self.must_operate()
        try:
            return super().__call__()
        except S3BlobStorageError as error:  # whatever was to be read or started
            self.away = str(error)
            self.request.response.setStatus(503)
            return self.index()

    # POST

    def plan(self):
        """Start what shows what would be done, and what changes nothing at all."""
        kind = self.request.form.get("kind")
        if kind not in kinds.TITLES:
            raise NotFound(kind)
        options = {} if kind in kinds.WITHOUT_PLAN else {"dry_run": True}
        for name in ("source",):
            if kind == "migrate" and self.request.form.get(name):
                options[name] = self.request.form[name]
        if kind == "rotate" and self.request.form.get("convert"):
            options["convert"] = True
        if kind == "report" and self.request.form.get("report") in kinds.REPORTS:
            options["report"] = self.request.form["report"]
        if kind == "fsck":
            options |= {"repair": True, "deep": bool(self.request.form.get("deep"))}
        return self._start(kind, options)

    def do(self):
        """Do what the plan of a job says: only of one that is done, and just what it was asked for."""
        job = self.job
        if not self.can_be_done:
            self.tell(_("This plan cannot be done any more. Make a new one."), "error")
            return self.go(self.url())
        options = {name: value for name, value in job.options.items() if name not in ("dry_run", "plan")}
        options["dry_run"] = False
        if job.kind == "gc":
            options["plan"] = job.result["plan"]
        return self._start(job.kind, options)

    def _start(self, kind, options):
        try:
            job = self.blobs.jobs().start(kind, options, by=self.user)
        except JobRuns as error:
            self.tell(_("A job of this kind runs already."), "warning")
            return self.go(self.url(job=error.id) if error.id else self.url())
        except StoreError:
            raise
        except (S3BlobStorageError, ValueError) as error:
            self.tell(str(error), "error")
            return self.go(self.url())
        return self.go(self.url(job=job.id))

    def cancel(self):
        job = self.job
        self.blobs.jobs().cancel(job.id)
        self.tell(_("The job is asked to stop. It ends what it is at, within seconds."))
        return self.go(self.url(job=job.id))

    # One job

    @Lazy
    def job(self):
        """Raises NotFound."""
        asked = self.request.form.get("job")
        try:
            return self.blobs.jobs().get(asked)
        except KeyError:
            raise NotFound(asked) from None

    @property
    def shows_job(self):
        return bool(self.request.form.get("job"))

    def described(self, job):
        """What is said of a job in a list and on its own page."""
        word, level = kinds.STATES[job.state]
        at = job.ended or job.started
        return {
            "id": job.id,
            "title": kinds.TITLES.get(job.kind, job.kind),
            "plan": bool(job.options.get("dry_run")),
            "state": word,
            "level": level,
            "at": at,
            "when": self.words.ago(at),
            "by": job.by or _("command line"),
            "url": self.url(job=job.id),
            "running": job.state == RUNNING,
            "took": self.words.seconds((at - job.started).total_seconds()) if job.ended else "",
        }

    def progress(self, job):
        """``share`` from 0 to 1, or None where nobody can know; ``said`` in words."""
        told = job.progress
        done, total, unit = told.done_bytes, told.total_bytes, self.words.size
        if not total:
            done, total, unit = told.done, told.total, self.words.number
        share = min(done / total, 1.0) if total else None
        if total:
            said = _("${done} of ${total}", mapping={"done": unit(done), "total": unit(total)})
        else:
            said = _("${done} so far", mapping={"done": self.words.number(told.done)})
        return {"share": share, "said": said, "phase": told.phase}

    @property
    def can_be_done(self):
        job = self.job
        return (
            job.state == DONE
            and bool(job.options.get("dry_run"))
            and not (job.result or {}).get("refused")
            and (job.kind != "gc" or self.candidates is not None)  # it had nothing to delete, was executed, is too old
            and (job.kind != "fsck" or bool((job.result or {}).get("findings")))
        )

    @property
    def log(self):
        return [
            {"at": line.at, "time": self.local(line.at), "level": LOG_LEVELS.get(line.level, ""), "text": line.message}
            for line in self.job.log
        ]

    @property
    def result(self):
        return result_rows(self.job.result or {}, self.words)

    @property
    def start(self):
        value = self.request.form.get("start", "0")
        return int(value) if isinstance(value, str) and value.isdecimal() and len(value) < 10 else 0

    @Lazy
    def candidates(self):
        """What a plan of gc would delete, a page of it; None where the job has no such plan."""
        job = self.job
        plan = (job.result or {}).get("plan")
        if job.kind != "gc" or not plan:
            return None
        try:
            found, count = self.blobs.jobs().candidates(plan, start=self.start, size=SIZE)
        except KeyError:
            return None
        return {
            "lines": [
                {**each, "size": self.words.size(each["size"]), "since": self.local(moment_of(each.get("since")))}
                for each in found
            ],
            "count": self.words.number(count),
            **self._batch(count, job=job.id),
        }

    @Lazy
    def findings(self):
        """What a check found, a page of it; None where the job is no check."""
        job = self.job
        if job.kind != "fsck" or not job.result:
            return None
        found, count = self.blobs.jobs().findings(job, start=self.start, size=SIZE)
        total = sum((job.result.get("found") or {}).values())
        return {
            "lines": [finding_line(each, self.context, self.blobs.name) for each in found],
            "count": self.words.number(total),
            "more": total > count,
            **self._batch(count, job=job.id),
        }

    @property
    def reports(self):
        """What a report can be about, by the name that the form sends."""
        return kinds.REPORTS

    @Lazy
    def report(self):
        """What a report tells; None where the job is none."""
        job = self.job
        if job.kind != "report" or not (job.result or {}).get("lines"):
            return None
        return report_table(job.result, self.words)

    def _batch(self, count, **query):
        start = self.start
        return {
            "earlier": self.url(start=max(start - SIZE, 0), **query) if start else None,
            "later": self.url(start=start + SIZE, **query) if start + SIZE < count else None,
            "said": _(
                "${first} to ${last} of ${count}",
                mapping={
                    "first": self.words.number(min(start + 1, count)),
                    "last": self.words.number(min(start + SIZE, count)),
                    "count": self.words.number(count),
                },
            ),
        }

    # All of them

    @Lazy
    def startable(self):
        running = {kind: told[1] for kind, told in self.blobs.jobs().latest().items() if told[1] is not None}
        return [
            {
                "name": kind.name,
                "title": kinds.TITLES[kind.name],
                "description": kinds.DESCRIPTIONS[kind.name],
                "why_not": kind.why_not,
                "options": kind.options,
                "planned": kind.name not in kinds.WITHOUT_PLAN,
                "running": self.described(running[kind.name]) if kind.name in running else None,
                "progress": self.progress(running[kind.name]) if kind.name in running else None,
            }
            for kind in self.blobs.jobs().kinds()
        ]

    @Lazy
    def history(self):
        found, count = self.blobs.jobs().list(start=self.start, size=SIZE)
        return {"jobs": [self.described(job) for job in found], "count": count, **self._batch(count)}


class JobState(Jobs):
    """The state of one job as JSON, for the script that moves the progress bars. GET only."""

    actions = {}

    def index(self):
        self.request.response.setHeader("Content-Type", "application/json")
        if self.away:
            return json.dumps({"error": self.away})
        job = self.job
        told = self.progress(job)
        return json.dumps(
            {
                "id": job.id,
                "running": job.state == RUNNING,
                "share": told["share"],
                "said": self.translate(told["said"]),
                "phase": told["phase"],
            }
        )
