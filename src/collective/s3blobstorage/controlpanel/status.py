"""“Status”: in one look whether the files are safe and served fast; below it all that is known, and since when."""

from zope.cachedescriptors.property import Lazy

from ..errors import S3BlobStorageError
from ..maintenance.jobs.interfaces import KINDS
from ..permissions import status_for
from . import kinds, rows
from .judgement import BAD, GOOD, LOOK, UNKNOWN, judge
from .messages import _
from .page import JOBS, STATUS, Page
from .words import moment_of

HEADLINES = {
    GOOD: _("The files are safe and served fast."),
    UNKNOWN: _("Nothing is wrong, but not everything is known yet."),
    LOOK: _("The files are there; something could be better."),
    BAD: _("Something is wrong with the files."),
}

# Beside each colour, for who does not see it.
MARKS = {GOOD: "✓", UNKNOWN: "?", LOOK: "!", BAD: "✗"}
LEVELS = {GOOD: _("Good"), UNKNOWN: _("Not known"), LOOK: _("Look at this"), BAD: _("Wrong")}


class Status(Page):
    """Reads one document and shows it: no request to the store is made for a look, beside what ``IStatus`` allows."""

    name = STATUS
    title = _("Status")
    actions = {"check": "check", "count": "count"}
    marks = MARKS
    levels = LEVELS

    # POST

    def check(self):
        """Run the preflight. Takes seconds; half a minute where the store is away."""
        self.must_operate()
        self.blobs.status().check()
        return self.go(self.url() + "#s3b-health")

    def count(self):
        """Start the job, and go to it."""
        self.must_operate()
        try:
            job = self.blobs.jobs().start("count", {}, by=self.user)
        except (S3BlobStorageError, ValueError) as error:
            self.tell(str(error), "error")
            return self.go(self.url())
        return self.go(self.url(JOBS, job=job.id))

    # GET

    @Lazy
    def document(self):
        return status_for(self.context, self.blobs)

    @Lazy
    def judgement(self):
        return judge(self.document, self.words, self.now)

    @property
    def headline(self):
        return HEADLINES[self.judgement.level]

    @Lazy
    def sections(self):
        """Each with an id, a title and its rows; what there is nothing to say of is left out."""
        document, words = self.document, self.words
        told = (
            ("s3b-health", _("Health"), rows.health_rows(document, words)),
            ("s3b-files", _("Files"), rows.file_rows(document, words) if self.operates else []),
            ("s3b-store", _("Bucket"), rows.store_rows(document)),
            ("s3b-encryption", _("Encryption"), rows.encryption_rows(document, words)),
        )
        return [{"id": id, "title": title, "rows": lines} for id, title, lines in told if lines]

    @property
    def findings(self):
        return [
            {**finding, "level": rows.finding_level(finding["ok"]), "took": self.words.seconds(finding["seconds"])}
            for finding in (self.document.get("check") or {}).get("findings") or ()
        ]

    finding_words = rows.FINDINGS

    @property
    def sources(self):
        return rows.source_table(self.document)

    @property
    def keys(self):
        return rows.key_table(self.document, self.words)

    @property
    def requests(self):
        return rows.request_table(self.document, self.words)

    @property
    def cache(self):
        return rows.cache_rows(self.document, self.words)

    @property
    def cache_meter(self):
        return rows.cache_meter(self.document, self.words, self.translate)

    @property
    def rates(self):
        if not self.document.get("cache"):
            return []
        return [
            rows.rate_chart(self.document, self.words, span, self.local, self.translate) for span in ("hour", "day")
        ]

    @property
    def covers(self):
        return rows.covers(self.document, self.words)

    @property
    def read(self):
        """When what the bucket keeps was read, which is not at each look."""
        return moment_of(self.document.get("read"))

    @property
    def long_work(self):
        """What ran last, of each kind, and what runs."""
        jobs = self.document.get("jobs")
        if not jobs:
            return []
        return [self._work(kind, jobs.get(kind) or {}) for kind in KINDS if kind != "count"]

    def _work(self, kind, told):
        last, running = told.get("last"), told.get("running")
        shown = {
            "title": kinds.TITLES[kind],
            "running": running and self.url(JOBS, job=running["id"]),
            "when": _("never"),
            "state": "",
            "level": "",
            "at": None,
            "url": None,
        }
        if last:
            at = moment_of(last.get("ended") or last.get("started"))
            word, level = kinds.STATES[last["state"]]
            shown.update(
                when=self.words.ago(at),
                at=at,
                state=_("${state} (plan)", mapping={"state": word})
                if (last.get("options") or {}).get("dry_run")
                else word,
                level=level,
                url=self.url(JOBS, job=last["id"]),
            )
            found = self.document.get("fsck")
            if found and found["job"] == last["id"]:
                shown["level"], shown["state"] = rows.fsck_result(found, self.words)
        return shown
