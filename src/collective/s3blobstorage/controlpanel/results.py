"""The report of a job, which is plain values for JSON, as rows that people can read. Pure.

What is nothing is left out: a report names a dozen things that mostly did not happen. What has no words here is shown
under its own name, so that nothing of a report is lost.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..maintenance.fsck.finding import KINDS as FSCK_KINDS
from ..maintenance.reporting import GROWTH, LARGEST
from .judgement import LOOK
from .kinds import REPORTS
from .messages import _
from .rows import Row
from .words import Words

# Said by the page otherwise, or too long for it: REST and the command line have all of it.
_LEFT_OUT = frozenset(
    {"dry_run", "plan", "owner", "usage", "failures", "foreign_keys", "objects.total"}
    | {"findings", "findings_kept", "unknown_of", "after", "read.sample"}
    | {"report", "lines", "more"}
)

LABELS = {
    # gc
    "used": _("Needed"),
    "young": _("Too young to be judged"),
    "waiting": _("Not needed, but not for long enough yet"),
    "condemned": _("To be deleted"),
    "unseen": _("Of these, never seen in use"),
    "old": _("Of zodb-s3blobs, and not judged"),
    "addons": _("Of add-ons"),
    "foreign": _("Not of this add-on"),
    "damaged": _("Damaged"),
    "uploads": _("Uploads that are not finished"),
    "waiting_uploads": _("Unfinished uploads, not old enough yet"),
    "condemned_uploads": _("Unfinished uploads to be removed"),
    "staged": _("Sent by browsers, and not completed"),
    "staged_uploads": _("Unfinished uploads of browsers"),
    "abandoned": _("Abandoned by browsers, to be deleted"),
    "abandoned_uploads": _("Unfinished uploads of browsers to be removed"),
    "shared.used": _("Shared by equal files"),
    "shared.young": _("Shared by nobody, too young"),
    "shared.marking": _("Shared by nobody, to be marked"),
    "shared.waiting": _("Shared by nobody, marked"),
    "shared.condemned": _("Shared by nobody, to be deleted"),
    "shared.references": _("Files that share"),
    "shared.marks": _("Marks"),
    "shared.saved": _("Saved by sharing"),
    "judged": _("Judged"),
    "share": _("Share that would go"),
    "next_due": _("The next may go from"),
    "refused": _("Cannot be done"),
    "deleted": _("Deleted"),
    "deleted_versions": _("Old versions deleted"),
    "marked_shared": _("Shared by nobody, marked"),
    "deleted_shared": _("Shared by nobody, deleted"),
    "aborted_uploads": _("Unfinished uploads removed"),
    "swept": _("Abandoned by browsers, and deleted"),
    "swept_uploads": _("Unfinished uploads of browsers removed"),
    "spared": _("Needed again, and spared"),
    "markers": _("Only hidden, since the bucket keeps versions"),
    "failed": _("Failed"),
    "stopped": _("Stopped before its end"),
    # mirror, migrate
    "kept_revisions": _("Files that the database knows"),
    "found.inline": _("In the database itself"),
    "found.damaged": _("With a damaged record"),
    "found.different": _("Of another size than the database says"),
    "found.there": _("In the bucket already"),
    "found.old": _("Written by zodb-s3blobs"),
    "found.repeated": _("The same as another file"),
    "found.wanted": _("To be copied"),
    "found.missing": _("Found nowhere"),
    "copied": _("Copied"),
    "uploaded": _("Copied"),
    "extra.files": _("In the folder, and not needed"),
    "extra.objects": _("In the bucket, and not needed"),
    "gone": _("Gone from the database meanwhile"),
    "missing": _("Found nowhere"),
    "different": _("Of another size than the database says"),
    "problems": _("Problems"),
    "sources": _("Sources"),
    "source": _("Source"),
    "complete_up_to": _("Complete up to the transaction"),
    # rotate
    "rewrapped": _("Brought to the key"),
    "converted": _("Encrypted in the new way"),
    "current": _("With the right key already"),
    "left": _("Encrypted in another way, and left so"),
    # fsck
    "there": _("In the bucket"),
    "inline": _("In the database itself"),
    "zodb_s3blobs": _("Written by zodb-s3blobs"),
    "elsewhere": _("Files that are only in a source"),
    "found.damaged-record": _("With a damaged record"),
    "found.missing-reference": _("May be deleted by mistake"),
    "found.truncated": _("Cut off"),
    "found.wrong-size": _("Longer than the database says"),
    "found.wrong-encryption": _("Cannot be decrypted"),
    "found.wrong-metadata": _("Labelled wrongly"),
    "found.wrong-bytes": _("With other contents"),
    "unknown": _("Could not be told"),
    "read.blobs": _("Files that were read"),
    "read.bytes": _("Size of what was read"),
    "read.proven.record": _("Right, by the checksum in the database"),
    "read.proven.metadata": _("Right, by the checksum in the bucket"),
    "read.proven.size_only": _("Right, as far as the size tells"),
    "waiting_for_rotate": _("Not encrypted as new files are"),
    "orphaned": _("In the bucket, and not needed"),
    "not_adopted": _("Written by zodb-s3blobs, and not read"),
    "unfinished_uploads": _("Uploads that are not finished"),
    "repaired.repaired": _("Brought back"),
    "repaired.would be repaired": _("Can be brought back"),
    "repaired.not repaired": _("Cannot be brought back from here"),
    "repaired.changed meanwhile": _("Changed meanwhile"),
    "outage": _("Ended early"),
    # count
    "objects.blobs": _("Files in the bucket"),
    "objects.shared": _("Shared by equal files"),
    "objects.references": _("Files that share"),
    "saved": _("Saved by sharing"),
    "objects.zodb_s3blobs": _("Written by zodb-s3blobs"),
    "objects.addons": _("Of add-ons"),
    "objects.direct_uploads": _("Sent by browsers, and not completed"),
    "objects.bookkeeping": _("Notes of this add-on"),
    "objects.other": _("Not of this add-on"),
    "outside": _("Files that are only in a source"),
    # report
    "tid": _("As of the transaction"),
}
_TO_LOOK_AT = frozenset(
    {"refused", "failed", "damaged", "missing", "different", "problems", "stopped", "unknown", "outage"}
    | {"repaired.not repaired", *(f"found.{kind}" for kind in FSCK_KINDS)}
)
_COUNTS = ({"blobs", "bytes"}, {"objects", "bytes"})


def result_rows(result: Mapping[str, Any], words: Words) -> list[Row]:
    """One row for each value that is something, in the report's order."""
    return list(_rows(result, words, ""))


def report_table(result: Mapping[str, Any], words: Words) -> dict[str, Any]:
    """What a report of what takes the room tells: its title, the heads of its columns, and its lines."""
    kind, size, number = result["report"], words.size, words.number
    if kind == LARGEST:
        head = [_("Content"), _("Type"), _("Stored"), _("Size")]
        lines = [
            [
                each.get("path") or f"0x{each['oid'].lstrip('0') or '0'}",
                each.get("type") or "",
                (each["committed"] or "")[:10],
                size(each["bytes"]),
            ]
            for each in result["lines"]
        ]
    else:
        head = [_("Month") if kind == GROWTH else _("Type"), _("Files"), _("Size"), _("Of it only in the history")]
        lines = []
        for each in result["lines"]:
            name = each.get("month") or each.get("type")
            in_all = [size(each["total_bytes"])] if kind == GROWTH else []
            lines.append([name, number(each["blobs"]), size(each["bytes"]), size(each["history_bytes"]), *in_all])
        if kind == GROWTH:
            head.append(_("In all"))
    return {"title": REPORTS[kind], "head": head, "lines": lines, "more": result["more"]}


def _rows(values: Mapping[str, Any], words: Words, before: str) -> Iterator[Row]:
    for key, value in values.items():
        name = f"{before}{key}"
        if name in _LEFT_OUT or _is_nothing(value):
            continue
        if isinstance(value, Mapping) and set(value) not in _COUNTS and name != "failed":
            yield from _rows(value, words, f"{name}.")
            continue
        yield Row(
            LABELS.get(name, name), _value(name, value, words), level=LOOK if name in _TO_LOOK_AT else "",
            code=name in ("complete_up_to", "tid"),
        )  # fmt: skip


def _is_nothing(value: Any) -> bool:
    if isinstance(value, Mapping):
        return not any(not _is_nothing(each) for each in value.values())
    return not value


def _value(name: str, value: Any, words: Words) -> Any:
    if isinstance(value, Mapping):
        if name == "failed":  # by the store's code
            return ", ".join(f"{code}: {count}" for code, count in value.items())
        count = value["blobs"] if "blobs" in value else value["objects"]
        return _("${count} (${size})", mapping={"count": words.number(count), "size": words.size(value["bytes"])})
    if value is True:
        return _("yes")
    if name == "share":
        return words.share(value)
    if isinstance(value, (int, float)):
        return (
            words.size(value)
            if name.endswith(("bytes", "saved"))
            else words.number(value, 0 if isinstance(value, int) else 2)
        )
    if isinstance(value, (list, tuple)):
        if any(isinstance(each, (Mapping, list, tuple)) for each in value):
            return words.number(len(value))
        return ", ".join(str(each) for each in value)
    return str(value)
