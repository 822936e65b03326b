"""A job as an object of the bucket, and as JSON for people's tools. Pure."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from ...errors import RecordError
from ...keys import JOBS
from .interfaces import KINDS, Job, LogLine, Progress

FORMAT = 1
CANCEL = ".cancel"  # behind a job's key: it is to stop
FINDINGS = ".findings"  # behind a job's key: ``kept_findings.py``

_DIGITS = 12  # of a job's number, so that a listing sorts by it
_PLAIN = ("id", "kind", "state", "host", "pid", "by", "resumed", "cancelling", "error")


def job_key(kind: str, number: int) -> str:
    return f"{JOBS}{kind}/{number:0{_DIGITS}d}"


def read_job_key(key: str) -> tuple[str, int, str] | None:
    """(kind, number, "" or ``CANCEL`` or ``FINDINGS``) of a key below ``jobs/``; None where it is none of ours."""
    kind, _, name = key.removeprefix(JOBS).partition("/")
    digits, what = name[:_DIGITS], name[_DIGITS:]
    if not key.startswith(JOBS) or kind not in KINDS or len(digits) != _DIGITS or not _is_number(digits):
        return None
    return (kind, int(digits), what) if what in ("", CANCEL, FINDINGS) else None


def job_id(kind: str, number: int) -> str:
    return f"{kind}-{number}"


def read_job_id(id: str) -> tuple[str, int]:
    """Kind and number. Raises KeyError where it is no id."""
    kind, _, number = id.partition("-")
    if kind not in KINDS or not _is_number(number) or len(number) > _DIGITS or number != str(int(number)):
        raise KeyError(id)
    return kind, int(number)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def job_document(job: Job) -> dict[str, Any]:
    """Plain values for JSON. Dates as ISO 8601, in UTC."""
    progress = job.progress
    return {
        **{name: getattr(job, name) for name in _PLAIN},
        "options": dict(job.options),
        "started": _text(job.started),
        "beat": _text(job.beat),
        "ended": _text(job.ended),
        "progress": {
            "phase": progress.phase,
            "done": progress.done,
            "total": progress.total,
            "done_bytes": progress.done_bytes,
            "total_bytes": progress.total_bytes,
        },
        "log": [{"at": _text(line.at), "level": line.level, "message": line.message} for line in job.log],
        "result": None if job.result is None else dict(job.result),
    }


def to_json(job: Job) -> bytes:
    # The token, for the case that the answer to a conditional PUT is lost: what is found then is one's own, or not.
    told = {"format": FORMAT, "token": secrets.token_hex(8), "process": job.process, **job_document(job)}
    return json.dumps(told).encode()


def from_json(data: bytes) -> Job:
    """Raises RecordError where it is damaged, or of a newer format."""
    try:
        told = json.loads(data)
        version = int(told["format"])
    except (ValueError, KeyError, TypeError):
        raise _damaged() from None
    if version > FORMAT:
        raise RecordError(
            f"an object below {JOBS} was written by a newer release of collective.s3blobstorage: upgrade this one"
        )
    try:
        return Job(
            id=str(told["id"]),
            kind=str(told["kind"]),
            state=str(told["state"]),
            options=dict(told["options"]),
            started=_date(told["started"]),
            beat=_date(told["beat"]),
            host=str(told["host"]),
            pid=int(told["pid"]),
            process=str(told["process"]),
            by=str(told["by"]),
            ended=None if told["ended"] is None else _date(told["ended"]),
            resumed=None if told["resumed"] is None else str(told["resumed"]),
            cancelling=bool(told["cancelling"]),
            progress=_progress(told["progress"]),
            log=tuple(LogLine(_date(line["at"]), str(line["level"]), str(line["message"])) for line in told["log"]),
            result=None if told["result"] is None else dict(told["result"]),
            error=str(told["error"]),
        )
    except (ValueError, KeyError, TypeError):
        raise _damaged() from None


def _progress(told: Mapping[str, Any]) -> Progress:
    def number(name: str) -> int | None:
        return None if told[name] is None else int(told[name])

    return Progress(
        str(told["phase"]), int(told["done"]), number("total"), int(told["done_bytes"]), number("total_bytes")
    )


def seen(job: Job, beat: datetime, *, cancelling: bool) -> Job:
    """As it was written, with the store's date of that, and whether somebody asked it to stop since."""
    return replace(job, beat=beat, cancelling=job.cancelling or cancelling)


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat(timespec="seconds")


def _date(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("a date without a zone")
    return moment


def _damaged() -> RecordError:
    return RecordError(f"an object below {JOBS} is damaged: delete it")
