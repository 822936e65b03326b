"""What the page “Status” says, section by section: rows of a label and a value, from a status document. Pure.

Every value that is not known is said in words, never as an empty place or a zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from .charts import Bar, bars, meter
from .judgement import BAD, GOOD, LOOK, UNKNOWN, is_old
from .messages import _
from .words import Words, moment_of

NOT_KNOWN = _("not known")
NOT_COUNTED = _("not counted yet")


@dataclass(frozen=True, slots=True)
class Row:
    """``code``: the value is a name as zope.conf has it. ``level``: as of a ``judgement.Sign``, "" for none.

    ``at``: the moment that ``value`` tells the age of.
    """

    label: Any
    value: Any
    code: bool = False
    level: str = ""
    note: Any = ""
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """``head`` and ``lines`` of cells; the first of each line is its heading."""

    caption: Any
    head: tuple[Any, ...]
    lines: tuple[tuple[Any, ...], ...]


MODES = {
    "none": _("as the bucket does it by itself"),
    "sse-s3": _("by the store, with its own keys (SSE-S3)"),
    "sse-kms": _("by the store, with keys of a key management service (SSE-KMS)"),
    "sse-c": _("by the store, with keys of yours (SSE-C)"),
    "client-side": _("on this server, before they leave it"),
}

STATES = {
    "added": _("added, not used yet"),
    "active": _("active: new files are encrypted with it"),
    "superseded": _("superseded: older files may need it"),
    "retired": _("retired: no file needs it"),
}

SOURCES = {
    "s3source": _("another bucket"),
    "blobdirsource": _("a folder of blobs"),
    "basesource": _("the database’s own blobs"),
}

MIRRORS = {
    "on": _("what is read from it is copied into the bucket at once"),
    "background": _("what is read from it is copied into the bucket later"),
    "off": _("nothing is copied into the bucket by itself"),
}

VERBS = {
    "get": _("Reading"),
    "put": _("Writing"),
    "head": _("Looking up"),
    "list": _("Listing"),
    "delete": _("Deleting"),
    "copy": _("Copying"),
    "other": _("Parts and batches"),
    "all": _("All"),
}

# How zope.conf's and Plone's words for the database below ours are said.
BASES = {"filestorage": "FileStorage", "relstorage": "RelStorage", "zeoclient": "ZEO", "demostorage": "DemoStorage"}


def store_rows(document: Mapping[str, Any]) -> list[Row]:
    store = document.get("store")
    if not store:
        return []
    base = document.get("base") or ""
    rows = [
        Row(_("Bucket"), store["bucket"], code=True),
        Row(_("Folder in the bucket"), store["prefix"], code=True)
        if store["prefix"]
        else Row(_("Folder in the bucket"), _("none: the files are at its top")),
        Row(_("Address of the store"), store["endpoint"], code=True)
        if store["endpoint"]
        else Row(_("Address of the store"), "Amazon S3"),
        Row(_("Region"), store["region"], code=True) if store["region"] else Row(_("Region"), NOT_KNOWN),
        Row(_("Kind of store"), store["provider"] or NOT_KNOWN),
        Row(_("Belongs to"), store["owner"], code=True)
        if store["owner"]
        else Row(_("Belongs to"), _("nobody: zope.conf has no owner"), level=LOOK),
        Row(_("Database"), f"{document.get('database')} ({BASES.get(base, base)})" if base else document["database"]),
    ]
    if store["read_only"]:
        rows.append(Row(_("Changes"), _("none: zope.conf says read-only"), level=LOOK))
    return rows


def health_rows(document: Mapping[str, Any], words: Words) -> list[Row]:
    answers = {
        True: Row(_("The store answers"), _("yes, when it was asked last"), level=GOOD),
        False: Row(_("The store answers"), _("no, not when it was asked last"), level=BAD),
        None: Row(_("The store answers"), _("not asked yet since this server was started"), level=UNKNOWN),
    }
    check = document.get("check")
    if not check:
        last = Row(_("Last check"), _("none yet"), level=UNKNOWN)
    else:
        at = moment_of(check["at"])
        well = check["ok"]
        last = Row(
            _("Last check"),
            words.ago(at) if at else NOT_KNOWN,
            level=GOOD if well else BAD,
            note=_("all is well") if well else _("there is something to mend"),
            at=at,
        )
    return [answers[document.get("reachable")], last, *_fsck_rows(document, words)]


def _fsck_rows(document: Mapping[str, Any], words: Words) -> list[Row]:
    if document.get("jobs") is None:  # not known, or not for this user
        return []
    last = document.get("fsck")
    if last is None:
        return [Row(_("Last check of every file"), _("none yet"), level=UNKNOWN)]
    at = moment_of(last["at"])
    level, note = fsck_result(last, words)
    return [Row(_("Last check of every file"), words.ago(at) if at else NOT_KNOWN, level=level, note=note, at=at)]


def fsck_result(last: Mapping[str, Any], words: Words) -> tuple[str, Any]:
    """Level, and what came of the last check of every file: ``fsck`` of a status document."""
    if last["wrong"]:
        return BAD, _("missing or damaged: ${count}", mapping={"count": words.number(last["wrong"])})
    if last["earlier"]:
        return BAD, _(
            "nothing new; damaged, as one before it read: ${count}", mapping={"count": words.number(last["earlier"])}
        )
    if last["unknown"]:
        return LOOK, _("could not be told: ${count}", mapping={"count": words.number(last["unknown"])})
    if last["deep"]:
        return GOOD, _("all is there, and was read")
    return GOOD, _("all is there")


def finding_level(ok: bool | None) -> str:
    return {True: GOOD, False: BAD, None: UNKNOWN}[ok]


FINDINGS = {GOOD: _("Good"), BAD: _("To be mended"), UNKNOWN: _("Not tried"), LOOK: _("Look at this")}


def file_rows(document: Mapping[str, Any], words: Words) -> list[Row]:
    """Of the bucket, as it was counted last."""

    def amount(count: Mapping[str, Any] | None) -> Any:
        if count is None:
            return NOT_COUNTED
        return _(
            "${count} (${size})",
            mapping={"count": words.number(count["objects"]), "size": words.size(count["bytes"])},
        )

    figures = document.get("figures")
    rows = [Row(_("Files in the bucket"), amount(figures and figures["blobs"]))]
    if figures:
        if (figures.get("shared") or {}).get("objects"):
            rows.append(Row(_("Shared by equal files"), amount(figures["shared"])))
            rows.append(Row(_("Files that share"), words.number(figures["references"]["objects"])))
            rows.append(Row(_("Saved by sharing"), words.size(figures["saved"])))
        if (figures.get("zodb_s3blobs") or {}).get("objects"):
            rows.append(Row(_("Written by zodb-s3blobs"), amount(figures["zodb_s3blobs"])))
        if (figures.get("addons") or {}).get("objects"):
            rows.append(Row(_("Of add-ons"), amount(figures["addons"])))
        direct = figures.get("direct_uploads") or {}
        if direct.get("objects"):
            rows.append(Row(_("Sent by browsers, and not completed"), amount(direct)))
        if direct.get("unfinished"):
            rows.append(Row(_("Unfinished uploads of browsers"), words.number(direct["unfinished"])))
        if figures.get("bookkeeping"):
            rows.append(Row(_("Notes of this add-on"), amount(figures["bookkeeping"])))
        if (figures.get("other") or {}).get("objects"):
            rows.append(Row(_("Not of this add-on"), amount(figures["other"])))
        at = moment_of(figures["at"])
        rows.append(Row(_("Counted"), words.ago(at) if at else NOT_KNOWN, at=at))
    uploads = figures and figures.get("uploads")
    if not uploads:
        rows.append(Row(_("Uploads that are not finished"), NOT_KNOWN if figures else NOT_COUNTED))
    elif not uploads["count"]:
        rows.append(Row(_("Uploads that are not finished"), _("none")))
    else:
        oldest = moment_of(uploads.get("oldest"))
        rows.append(
            Row(
                _("Uploads that are not finished"),
                words.number(uploads["count"]),
                note=_("the oldest was begun ${when}", mapping={"when": words.ago(oldest)}) if oldest else "",
            )
        )
    if document.get("sources"):
        outside = document.get("outside")
        at = moment_of(outside and outside["at"])
        rows.append(
            Row(
                _("Files that are only in a source"),
                amount(outside),
                level=LOOK if outside and outside["objects"] else GOOD if outside else UNKNOWN,
                note=_("counted ${when}", mapping={"when": words.ago(at)}) if at else "",
            )
        )
    return rows


def source_table(document: Mapping[str, Any]) -> Table | None:
    sources = document.get("sources")
    if not sources:
        return None
    return Table(
        _("Sources behind the bucket, in the order in which they are asked"),
        (_("Name"), _("What it is"), _("Copying")),
        tuple(
            (each["name"], SOURCES.get(each["type"], each["type"]), MIRRORS.get(each["mirror"], each["mirror"]))
            for each in sources
        ),
    )


def encryption_rows(document: Mapping[str, Any], words: Words) -> list[Row]:
    told = document.get("encryption")
    if not told:
        return []
    rows = [Row(_("Files are encrypted"), MODES.get(told["mode"], told["mode"]))]
    if told.get("required"):
        rows.append(Row(_("Files that are not encrypted so"), _("are not read (require-encryption)")))
    if told.get("active_key"):
        rows.append(Row(_("Key for new files"), told["active_key"], code=True))
    if told.get("error"):
        rows.append(Row(_("Keys"), told["error"], level=LOOK))
    at = moment_of(told.get("counted"))
    if told.get("keys"):
        rows.append(Row(_("Keys counted"), words.ago(at) if at else NOT_COUNTED, at=at))
    return rows


def key_table(document: Mapping[str, Any], words: Words) -> Table | None:
    told = document.get("encryption") or {}
    keys = told.get("keys")
    if not keys:
        return None

    def age(key: Mapping[str, Any]) -> Any:
        if key.get("age_days") is None:
            return NOT_KNOWN
        days = {"days": words.number(key["age_days"])}
        if key["writes"] and is_old(key, told):
            return _("${days}: older than key-max-age allows", mapping=days)
        return days["days"]

    def state(key: Mapping[str, Any]) -> Any:
        if not key["in_configuration"] and key["state"] != "retired":
            return _("missing in zope.conf")
        return STATES.get(key["state"] or "", _("not in the bucket yet"))

    return Table(
        _("Keys, and how many files need them"),
        (_("Key"), _("State"), _("Age in days"), _("Files"), _("Size")),
        tuple(
            (
                key["id"],
                state(key),
                age(key),
                NOT_COUNTED if key.get("objects") is None else words.number(key["objects"]),
                NOT_COUNTED if key.get("bytes") is None else words.size(key["bytes"]),
            )
            for key in keys
        ),
    )


def cache_rows(document: Mapping[str, Any], words: Words) -> list[Row]:
    cache = document.get("cache")
    if not cache:
        return []
    counters = cache.get("counters") or {}
    rows = [
        Row(_("Folder"), cache["folder"], code=True),
        Row(_("Copies kept"), words.number(cache["files"]) if cache["files"] is not None else NOT_KNOWN),
    ]
    since = moment_of(cache.get("since"))
    for name, label in _COUNTERS.items():
        if name in counters:
            rows.append(Row(label, words.size(counters[name]) if name == "bytes" else words.number(counters[name])))
    if since:
        rows.append(Row(_("Counted since"), words.ago(since), at=since))
    return rows


_COUNTERS = {
    "downloads": _("Files fetched from the bucket"),
    "bytes": _("Bytes written to the disk"),
    "evictions": _("Copies removed to make room"),
    "errors": _("Errors of the disk"),
}


def cache_meter(document: Mapping[str, Any], words: Words, translate: Any) -> dict[str, Any] | None:
    """How full it is. ``translate`` makes text of a message."""
    cache = document.get("cache") or {}
    used, bound = cache.get("used"), cache.get("bound")
    if used is None or not bound:
        return None
    share = used / bound
    said = _(
        "${used} of ${bound} are used (${share})",
        mapping={"used": words.size(used), "bound": words.size(bound), "share": words.share(share)},
    )
    title = translate(_("How full the cache is"))
    return {"said": said, "chart": meter("s3b-cache-used", title, translate(said), share)}


def rate_chart(document: Mapping[str, Any], words: Words, span: str, local: Any, translate: Any) -> dict[str, Any]:
    """The share of reads that the cache answered, over the last ``hour`` or ``day``, as a chart and as a table.

    ``local`` writes a moment as the site does; ``translate`` makes text of a message.
    """
    cache = document.get("cache") or {}
    told = cache.get(span)
    reads = told["hits"] + told["misses"] if told else 0
    title = _("The last hour") if span == "hour" else _("The last day")
    if not reads:
        return {"title": title, "said": _("Nothing was read."), "chart": "", "table": None, "share": ""}
    slots = _slots(cache.get("history") or (), span, moment_of(document.get("at")))
    said = _(
        "${hits} of ${reads} reads were answered by this server’s own disk",
        mapping={"hits": words.number(told["hits"]), "reads": words.number(reads)},
    )
    lines = tuple(
        (
            local(slot["at"]),
            words.number(slot["hits"]),
            words.number(slot["misses"]),
            words.share(slot["hits"] / (slot["hits"] + slot["misses"])) if slot["hits"] + slot["misses"] else "–",
        )
        for slot in slots
    )
    values = [
        Bar(
            slot["hits"] / (slot["hits"] + slot["misses"]) if slot["hits"] + slot["misses"] else None,
            f"{line[0]}: {line[3]}",
        )
        for slot, line in zip(slots, lines, strict=True)
    ]
    return {
        "title": title,
        "said": said,
        "share": words.share(told["hits"] / reads),
        "chart": bars(f"s3b-rate-{span}", translate(title), translate(said), values),
        "table": Table(title, (_("From"), _("From the disk"), _("From the bucket"), _("Share")), lines),
    }


_SPANS = {"hour": 3600.0, "day": 86400.0}
_MOST_BARS = 24  # a phone shows so many that can be told apart


def _slots(history: Any, span: str, now: datetime | None) -> list[dict[str, Any]]:
    """Those of the span, put together so that there are at most ``_MOST_BARS``."""
    slots = [{"at": moment_of(slot["at"]), "hits": slot["hits"], "misses": slot["misses"]} for slot in history]
    if now is not None:
        slots = [slot for slot in slots if slot["at"] and (now - slot["at"]).total_seconds() <= _SPANS[span]]
    each = -(-len(slots) // _MOST_BARS) or 1
    groups = [slots[start : start + each] for start in range(0, len(slots), each)]
    return [
        {
            "at": group[0]["at"],
            "hits": sum(slot["hits"] for slot in group),
            "misses": sum(slot["misses"] for slot in group),
        }
        for group in groups
    ]


def request_table(document: Mapping[str, Any], words: Words) -> Table | None:
    requests = document.get("requests")
    if not requests:
        return None
    counted = {**(requests.get("verbs") or {}), "all": requests.get("all") or {}}

    def seconds(value: float | None) -> Any:
        return "–" if value is None else words.seconds(value)

    lines = tuple(
        (
            VERBS.get(verb, verb),
            words.number(told.get("requests") or 0),
            words.number(told.get("errors") or 0),
            words.size(told.get("bytes") or 0),
            *(seconds(told.get(percentile)) for percentile in ("p50", "p95", "p99")),
        )
        for verb, told in counted.items()
        if told.get("requests")
    )
    if not lines:
        return None
    return Table(
        _("Requests to the bucket, and after how long the answer began"),
        (
            _("What"),
            _("Requests"),
            _("Failed"),
            _("Bytes"),
            _("Half within"),
            _("95 % within"),
            _("99 % within"),
        ),
        lines,
    )


def covers(document: Mapping[str, Any], words: Words) -> Any:
    """Whose counters the page shows, as a message; "" where that is not told."""
    told = document.get("covers")
    if not told:
        return ""
    return _(
        "Cache and requests: of all processes on ${host} that share the cache folder (now: ${processes}). "
        "Files, checks and jobs: of the bucket, whichever server did them.",
        mapping={"processes": words.number(told["processes"]), "host": told["host"]},
    )
