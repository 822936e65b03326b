"""The contract of jobs: gc, fsck, mirror, migrate, rotate, count and report, in the background of a site's process or
on the command line.

A job's state is an object of the bucket, so that every process and machine sees it. At most one of a kind runs for
each prefix. Who runs it says every few seconds that it lives; without that for ``INTERRUPTED_AFTER`` it is
*interrupted*, and the next start of its kind resumes it: what the work itself keeps (dates of the ledger, position of a
rotation, what is in the bucket already) is what it goes on from, so nothing is lost and nothing is done twice.

There is no daemon: a job is a thread of the process that started it, and ends with that process.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from zope.interface import Attribute, Interface

KINDS = ("gc", "fsck", "mirror", "migrate", "rotate", "count", "report")

# States. The first is that of a job whose process says that it lives; the others are final.
RUNNING = "running"
DONE = "done"  # to its end; ``result`` may tell of single blobs that failed
FAILED = "failed"  # ``error`` says why
CANCELLED = "cancelled"
INTERRUPTED = "interrupted"  # its process was killed, or cut off from the store

INTERRUPTED_AFTER = 300.0  # seconds without a sign of life, by the store's clock


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a job stands. ``phase``: a word for people such as ``listing``; totals are None where nobody can know."""

    phase: str = ""
    done: int = 0
    total: int | None = None
    done_bytes: int = 0
    total_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class LogLine:
    at: datetime
    level: str  # info, warning or error
    message: str


@dataclass(frozen=True, slots=True)
class Job:
    """One job as it was when it was last written. Never a secret in it.

    id: for addresses, ``{kind}-{number}``. options: what it was started with, plain values. host, pid: of the process
    that runs it, or ran it; process: which one that is, for ``process.is_dead``. started, beat, ended: the store's
    time. resumed: the id of the interrupted job that it goes on with. result: the report, plain values for JSON; None
    before the end. log: the last hundred lines.
    """

    id: str
    kind: str
    state: str
    options: Mapping[str, Any]
    started: datetime
    beat: datetime
    host: str = ""
    pid: int = 0
    process: str = ""
    by: str = ""  # who started it: a Plone user's id, or "" on the command line
    ended: datetime | None = None
    resumed: str | None = None
    cancelling: bool = False
    progress: Progress = Progress()
    log: tuple[LogLine, ...] = ()
    result: Mapping[str, Any] | None = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class Kind:
    """What can be started here. ``why_not``: why it cannot, in a sentence for the operator; "" where it can.

    options: their names with the values that they have where they are not given.
    """

    name: str
    why_not: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)


class IRunning(Interface):
    """What a job's work is given. In the thread that works; ``advance`` may be called by any."""

    stop = Attribute("threading.Event: asks it to stop after what is under way: cancelled, closed, or taken over")

    def phase(name, total=None, total_bytes=None):
        """A new phase begins, for people: ``listing``, ``copying``. Returns ``advance(count, bytes=0)``."""

    def log(message, level="info"):
        """A line for people. Never a secret, a key of the bucket at most."""

    def keep(findings):
        """Keep what an fsck found beside the job, as ``kept_findings.packed`` made it. One request. Whether it is kept:
        not where nobody but the command knows of the job, or the store does not take it."""


class IWork(Interface):
    """What a kind of job does: one for each of ``KINDS``, in ``maintenance/jobs/work.py``."""

    def __call__(operated, options, running):
        """Do it, in the thread of the caller, and return the result: plain values for JSON, with ``dry_run``.

        ``operated``: the ``Operated`` (``maintenance/operated.py``): store, base and what else a storage that is open
        in a site gives. The command line has the same engines without it. Returns early where ``running.stop`` is set.
        Raises S3BlobStorageError, whose sentence becomes the job's ``error``.
        """

    defaults = Attribute("dict: every option there is, with the value that it has where it is not given; its type too")

    def check(operated, options):
        """Raise ValueError, which names the option, where a value of the right type is none here. Makes no request."""

    def why_not(operated):
        """Why it cannot be done here, in a sentence that names the setting to change; "" where it can."""


class IJobs(Interface):
    """The jobs of one database: ``IDatabaseBlobs.jobs()``. Any thread. Each method makes requests to the store.

    Options by kind; ``dry_run`` is true where it is not given:

    gc: ``dry_run``; true makes a plan and writes it (as ``s3blobs gc``); false executes ``plan``, the id of a plan that
    is not older than 24 h. ``allow``: the share that may go, 0.2.
    fsck: ``dry_run``; true only looks, false also mends what it finds (``--repair``). ``repair``: with ``dry_run`` say
    what would be mended, and from where (false). ``deep``: read every object too (false), of which ``sample`` percent
    (100). ``limit_rate``.
    mirror: ``dry_run``, ``limit_rate``.
    migrate: ``dry_run``, ``limit_rate``, ``source``: the name of a ``<blobdirsource>`` of zope.conf, never a path; may
    be left out where there is only one.
    rotate: ``dry_run``, ``limit_rate``, ``convert`` (false).
    count: none; reads the whole listing and keeps the figures.
    report: ``report``: largest, growth or types (types); ``top``: of largest, how many (20). What it tells of is in its
    result, at most 200 lines.

    ``limit_rate``: bytes a second over all transfers of the job, 0: as fast as it goes.
    """

    def kinds():
        """A ``Kind`` for each of ``KINDS``, with why it cannot be started here (read-only, no source, no owner, no
        atomic conditional write, no keys)."""

    def start(kind, options, by=""):
        """Start it in a thread of this process, and return the ``Job``.

        Raises ConfigurationError where ``kinds`` says why not, ValueError for an unknown kind or options that there are
        not (the message names them), JobRuns (``UnsafeError``) with the running job where one of its kind runs.
        """

    def run(kind, options, work, *, stop=None, complain=None):
        """The same in the foreground, for the command line: ``work(running)`` is called in the thread of the caller.

        What it returns is the job's result, and returned. What it raises is raised, and makes the job failed. ``stop``:
        the ``threading.Event`` that ``running.stop`` shall be. Raises JobRuns. Where the credentials may not write the
        job's state the work is done without one, and ``complain`` is told so in a sentence. Where the store has no
        atomic conditional write it takes three seconds more to find out whether another one began at the same time; of
        two that did for longer the first one stops within seconds.
        """

    def close():
        """The storage closes: ask every job of this process to stop, and wait some seconds. They are interrupted."""

    def get(id):
        """The ``Job`` of that id. Raises KeyError."""

    def list(kind=None, *, start=0, size=25):
        """(jobs, newest first, of that kind or all; how many there are). Jobs end up deleted after 90 days, but for the
        last of each kind."""

    def latest():
        """{kind: (the newest ``Job`` of that kind that ended or None, the running one or None)}, for all kinds."""

    def cancel(id):
        """Ask it to stop: it ends within seconds after what is under way. Raises KeyError; no error where it ended."""

    def findings(job, *, start=0, size=25):
        """(what the fsck ``job`` found as plain dicts, how many are kept): all, up to 10,000. See
        ``fsck/finding.py``. One request where there are more than its report has."""

    def candidates(plan, *, start=0, size=25):
        """(candidates of a plan of gc as plain dicts with key, size, oid and since when, how many there are).

        Raises KeyError where there is no such plan.
        """
