"""What each kind of job does, in a site's process as on the command line: the engines of ``maintenance``, and reports
of a bounded size.

In a site's process they share the machine with visitors, and the store's connections with their requests: few at a
time, so that neither waits. Whoever wants it faster uses the command line.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, replace
from typing import Any

from zope.interface import implementer

from ...errors import ConfigurationError
from ...overlay.settings import BlobDirSettings
from ...status import figures
from ...storage.owner import Marker, read_marker
from .. import reporting
from .. import rotate as rotation
from ..blobdir import BlobDirectory
from ..bringing import Wish, from_directory, from_sources, note_mirrored
from ..comparing import Comparison
from ..findings import Findings, Stopped, document
from ..fsck import finding as fsck_finding
from ..fsck import run as fsck
from ..gc.candidate import date
from ..gc.plan import Plan as Planned
from ..gc.publish import LAST
from ..gc.report import Outcome
from ..migrate import Plan as Copies
from ..mirror import plan
from ..operated import Operated
from ..scope import Scope
from ..spool import Spool
from .interfaces import IWork
from .kept_findings import packed
from .running import begun_later

# Of a report's lines what an encrypted bucket must not tell.
_CONTENT = frozenset({"type", "field", "path"})

LISTED = 200  # problems or keys in a report: nobody mends more by hand, and a job's object stays small

# Blobs or objects at a time: of sixteen requests that a process sends at once (upload-concurrency) a quarter.
AT_ONCE = 4


def found(findings: Findings, done: str, *, dry_run: bool) -> dict[str, Any]:
    """The report of what was compared and copied."""
    return {"dry_run": dry_run, **document(findings, done, listed=LISTED)}


def mirrored(findings: Findings, names: list[str], complete: bytes | None, *, dry_run: bool) -> dict[str, Any]:
    """The report of what came from sources."""
    told = found(findings, "copied", dry_run=dry_run)
    return {**told, "sources": names, "complete_up_to": None if complete is None else complete.hex()}


def planned(plan: Planned | None, allow: float) -> dict[str, Any]:
    """The report of a plan of gc; None: somebody stopped before there was one."""
    if plan is None:
        return {"dry_run": True, "plan": None, "stopped": True}
    tally = plan.tally
    told = asdict(tally)
    told["foreign_keys"], told["damaged"] = tally.foreign_keys[:LISTED], tally.damaged[:LISTED]
    if tally.versions is not None:
        told["versions"]["needed_keys"] = tally.versions.needed_keys[:LISTED]
    return {
        "dry_run": True,
        "plan": plan.executable,
        "owner": plan.owner,
        **told,
        "judged": tally.judged,
        "share": round(tally.share, 4),
        "next_due": date(tally.next_due),
        "refused": _refused(plan, allow),
        "stopped": False,
    }


def _refused(plan: Planned, allow: float) -> str | None:
    if plan.owner is None:
        return "nothing is noted or deleted without owner in the configuration"
    if plan.tally.share > allow:
        return f"{plan.tally.share:.0%} of what was judged is more than {allow:.0%}, which may go"
    return None


def executed(name: str | None, outcome: Outcome) -> dict[str, Any]:
    """The report of an execution of gc."""
    told = asdict(outcome)
    told["failures"] = outcome.failures[:LISTED]
    return {"dry_run": False, "plan": name, **told}


def rotated(report: rotation.Report, *, dry_run: bool = False) -> dict[str, Any]:
    """The report of a rotation."""
    told = rotation.as_json(report)
    return {"dry_run": dry_run, **told, "failures": told["failures"][:LISTED]}


def checked(report: fsck_finding.Report, running: Any, *, dry_run: bool, sealed: bool) -> dict[str, Any]:
    """The report of an fsck. While its spool is open. ``sealed``: blobs are encrypted before they are sent, and a job's
    objects are not: then they have no paths of content, which manifests are encrypted for. Where there are more
    findings than it names, ``running`` keeps them, as many as ``findings_kept`` says."""
    told = {"dry_run": dry_run, **fsck_finding.document(report, listed=LISTED)}
    kept = len(told["findings"])
    if sum(report.found.values()) > kept:
        findings, count = packed(map(_without_content, report.each()) if sealed else report.each())
        if running.keep(findings):
            kept = count
    if sealed:
        for finding in told["findings"]:
            finding["content"] = None
    return {**told, "findings_kept": kept}


def _without_content(line: str) -> str:
    return json.dumps({**json.loads(line), "content": None}, ensure_ascii=False)


def _nothing_wrong(operated: Operated, options: Mapping[str, Any]) -> None:
    return None


def _marker(operated: Operated) -> Marker:
    """As it is now: since the site was opened another process may have begun to share blobs."""
    return read_marker(operated.store) or operated.marker


def _rate(options: Mapping[str, Any]) -> int | None:
    """Bytes a second; None: as fast as it goes. Raises ValueError."""
    rate: int = options["limit_rate"]
    if rate < 0:
        raise ValueError("limit_rate is a number of bytes a second, as 1000000; 0: as fast as it goes")
    return rate or None


@implementer(IWork)
class Gc:
    """A plan, or the execution of one that is not older than a day."""

    defaults: Mapping[str, Any] = {"dry_run": True, "plan": None, "allow": 0.2}

    def check(self, operated: Operated, options: Mapping[str, Any]) -> None:
        if not 0 < options["allow"] <= 1:
            raise ValueError("allow is a share above 0 and up to 1, as 0.2")
        if options["dry_run"] and options["plan"] is not None:
            raise ValueError("plan is for what is executed: give dry_run false too, or leave it out")
        # Nor the newest one, which whoever asks may not have looked at.
        if not options["dry_run"] and options["plan"] in (None, "", LAST):
            raise ValueError("plan has to name a finished plan that is not older than 24 h")

    def why_not(self, operated: Operated) -> str:
        if operated.settings.owner is None:
            return "owner is not set in zope.conf, and nothing is ever deleted from a prefix that is nobody's"
        return ""

    def __call__(self, operated: Operated, options: Mapping[str, Any], running: Any) -> dict[str, Any]:
        collection = operated.collection()
        collection = replace(collection, margins=replace(collection.margins, share=options["allow"]))
        if not options["dry_run"]:
            working = replace(collection, stop=running.stop, deleted=running.phase("deleting"))
            return executed(*working.execute(options["plan"]))
        listed, judged = running.phase("listing the bucket"), begun_later(running, "asking the database")
        working = replace(collection, stop=running.stop, listed=listed, judged=judged)
        try:
            made = working.plan()
        except Stopped:
            return planned(None, options["allow"])
        with made:
            working.publish(made)
            return planned(made, options["allow"])


@implementer(IWork)
class Fsck:
    """Whether everything that the database needs is there; without ``dry_run`` what is not is brought back, and with
    ``repair`` a dry run says from where it would be."""

    defaults: Mapping[str, Any] = {"dry_run": True, "deep": False, "sample": 100.0, "repair": False, "limit_rate": 0}

    def check(self, operated: Operated, options: Mapping[str, Any]) -> None:
        if not 0 < options["sample"] <= 100:
            raise ValueError("sample is a share in percent above 0 and up to 100, as 5")
        _rate(options)

    def why_not(self, operated: Operated) -> str:
        return ""

    def __call__(self, operated: Operated, options: Mapping[str, Any], running: Any) -> dict[str, Any]:
        dry_run = options["dry_run"]
        with Spool() as spool:
            run = Comparison(operated.look, operated.store, _marker(operated), None, Scope(), spool)
            wish = fsck.Wish(
                deep=options["deep"],
                sample=options["sample"],
                repair=options["repair"] or not dry_run,
                dry_run=dry_run,
                concurrency=AT_ONCE,
                limit_rate=_rate(options),
            )
            report = fsck.fsck(
                run,
                wish,
                running,
                lambda base: nullcontext(operated.overlay),
                lambda sources: nullcontext(operated.cache),
            )
            return checked(report, running, dry_run=dry_run, sealed=operated.store.encryption.seals)


@implementer(IWork)
class Mirror:
    """From the sources of zope.conf."""

    defaults: Mapping[str, Any] = {"dry_run": True, "limit_rate": 0}

    def check(self, operated: Operated, options: Mapping[str, Any]) -> None:
        _rate(options)

    def why_not(self, operated: Operated) -> str:
        if not operated.settings.sources:
            return "zope.conf has no source behind this bucket"
        return ""

    def __call__(self, operated: Operated, options: Mapping[str, Any], running: Any) -> dict[str, Any]:
        store, dry_run = operated.store, options["dry_run"]
        names = [source.options.name for source in operated.settings.sources]
        with Spool() as spool:
            run = Comparison(operated.look, store, _marker(operated), None, Scope(), spool)
            copies = Copies(spool)
            wish = Wish(dry_run=dry_run, concurrency=AT_ONCE, limit_rate=_rate(options))
            seen = from_sources(
                run,
                copies,
                wish,
                running,
                lambda base: nullcontext(operated.overlay),
                lambda sources: nullcontext(operated.cache),
            )
            findings = copies.findings
            complete = None
            if not dry_run:
                complete = note_mirrored(store, findings, seen, names, whole=True)
            elif not findings.stopped:
                figures.keep_outside(store, findings.wanted.blobs, findings.wanted.bytes, "mirror")
            return mirrored(findings, names, complete, dry_run=dry_run)


@implementer(IWork)
class Migrate:
    """From a blob directory that zope.conf names as a source."""

    defaults: Mapping[str, Any] = {"dry_run": True, "source": None, "limit_rate": 0}

    def check(self, operated: Operated, options: Mapping[str, Any]) -> None:
        _rate(options)
        _directory(operated, options["source"])

    def why_not(self, operated: Operated) -> str:
        if not _directories(operated):
            return "zope.conf has no <blobdirsource> behind this bucket"
        return ""

    def __call__(self, operated: Operated, options: Mapping[str, Any], running: Any) -> dict[str, Any]:
        dry_run = options["dry_run"]
        source = _directory(operated, options["source"])
        if source is None:
            raise ConfigurationError("zope.conf has no <blobdirsource> behind this bucket")
        with Spool() as spool:
            directory = BlobDirectory.at(source.path)
            run = Comparison(operated.look, operated.store, _marker(operated), directory, Scope(), spool)
            copies = Copies(spool)
            wish = Wish(dry_run=dry_run, concurrency=AT_ONCE, limit_rate=_rate(options))
            from_directory(run, copies, wish, running)
            return {**found(copies.findings, "uploaded", dry_run=dry_run), "source": source.options.name}


def _directories(operated: Operated) -> dict[str, BlobDirSettings]:
    found = (source for source in operated.settings.sources if isinstance(source, BlobDirSettings))
    return {source.options.name: source for source in found}


def _directory(operated: Operated, name: str | None) -> BlobDirSettings | None:
    """None where there is none at all, which ``why_not`` says. Raises ValueError."""
    known = _directories(operated)
    if name is None and len(known) <= 1:
        return next(iter(known.values()), None)
    if name is None or name not in known:
        raise ValueError(f"source is the name of a <blobdirsource> of zope.conf: {', '.join(known) or 'there is none'}")
    return known[name]


@implementer(IWork)
class Rotate:
    """To the key that is written with now."""

    defaults: Mapping[str, Any] = {"dry_run": True, "convert": False, "limit_rate": 0}

    def check(self, operated: Operated, options: Mapping[str, Any]) -> None:
        _rate(options)

    def why_not(self, operated: Operated) -> str:
        if operated.store.encryption.name == "none":
            return "zope.conf has no section that encrypts, such as <client-side-encryption>"
        return ""

    def __call__(self, operated: Operated, options: Mapping[str, Any], running: Any) -> dict[str, Any]:
        store, convert = operated.store, options["convert"]
        if options["dry_run"]:
            return rotated(rotation.look(store, convert, AT_ONCE, running), dry_run=True)
        return rotated(rotation.rotate(store, convert, AT_ONCE, _rate(options), running))


@implementer(IWork)
class CountAll:
    """Of everything under the prefix, and, where there are sources, of what only they have."""

    defaults: Mapping[str, Any] = {}
    check = staticmethod(_nothing_wrong)

    def why_not(self, operated: Operated) -> str:
        return ""

    def __call__(self, operated: Operated, options: Mapping[str, Any], running: Any) -> dict[str, Any]:
        store = operated.store
        counted = figures.count(store, running.phase("listing the bucket"), running.stop)
        figures.keep(store, counted, "count")
        told: dict[str, Any] = {"objects": {**asdict(counted.objects), "total": asdict(counted.objects.total)}}
        told["saved"] = counted.saved
        if operated.settings.sources:
            told |= self._outside(operated, running)
        return told

    def _outside(self, operated: Operated, running: Any) -> dict[str, Any]:
        with Spool() as spool, operated.look() as base:
            run = Comparison(operated.look, operated.store, _marker(operated), None, Scope(), spool)
            copies = Copies(spool)
            streams = run.streams(base, running.phase("reading the database"), running.stop)
            plan(copies, streams, running.stop, comparing=False, keep_there=False)
            wanted = copies.findings.wanted
            figures.keep_outside(operated.store, wanted.blobs, wanted.bytes, "count")
            return {"outside": {"objects": wanted.blobs, "bytes": wanted.bytes}}


@implementer(IWork)
class ReportAll:
    """What takes the room: the largest blobs, the growth by month, the types of content."""

    defaults: Mapping[str, Any] = {"report": reporting.TYPES, "top": 20}

    def check(self, operated: Operated, options: Mapping[str, Any]) -> None:
        if options["report"] not in reporting.REPORTS:
            raise ValueError(f"report is one of {', '.join(reporting.REPORTS)}")
        if not 1 <= options["top"] <= LISTED:
            raise ValueError(f"top is a number from 1 to {LISTED}: s3blobs report tells of more")
        if options["report"] == reporting.TYPES and operated.store.encryption.seals:
            # A job lies in the bucket as it is, and whoever reads that is not to learn what kinds of content there are.
            raise ValueError("types of content are not written into a bucket that is encrypted: s3blobs report types")

    def why_not(self, operated: Operated) -> str:
        return ""

    def __call__(self, operated: Operated, options: Mapping[str, Any], running: Any) -> dict[str, Any]:
        kind = options["report"]
        with Spool() as spool:
            try:
                made = reporting.report(
                    operated.look, operated.store, _marker(operated), spool, kind, options["top"], running
                )
            except Stopped:
                return {"report": kind, "stopped": True}
        lines = made.as_json()
        if operated.store.encryption.seals:
            lines = [{name: value for name, value in line.items() if name not in _CONTENT} for line in lines]
        # Months are listed from the last one, since of many the first ones are left out.
        listed = lines[-LISTED:] if kind == reporting.GROWTH else lines[:LISTED]
        return {"report": kind, "tid": made.tid.hex(), "lines": listed, "more": len(lines) - len(listed)}


WORKS: dict[str, IWork] = {
    "gc": Gc(),
    "fsck": Fsck(),
    "mirror": Mirror(),
    "migrate": Migrate(),
    "rotate": Rotate(),
    "count": CountAll(),
    "report": ReportAll(),
}
