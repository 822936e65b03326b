"""What of a status may be seen by whoever manages one site of a database that has several. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Every part of ``IStatus.document``.
PARTS = (
    "database", "base", "at", "store", "reachable", "read", "encryption", "sources", "mirrored", "check", "figures",
    "outside", "cache", "requests", "jobs", "fsck", "covers",
)  # fmt: skip
UNKNOWN: dict[str, Any] = dict.fromkeys(PARTS)


def reduced(document: Mapping[str, Any]) -> dict[str, Any]:
    """The same with None for every part that is left out, so that whoever shows it needs no second form.

    What stays: the name of the database, which zope.conf gives it; whether the store answers and whether the last
    check found it well, and when: the site's files depend on that; how blobs are encrypted, which the owner of the
    files has to know.

    What goes: names of bucket, prefix, endpoint, region, owner, keys, sources, folders and hosts, which lead to the
    other sites' files, or tell what to attack. Findings of the check and errors, whose sentences have such names.
    Figures of the bucket and jobs, which are those of all sites. Rates and counters of cache and requests too: they are
    of every database that shares the folder, and would tell when another site is busy.
    """
    encryption, check = document.get("encryption"), document.get("check")
    return UNKNOWN | {
        "database": document.get("database"),
        "at": document.get("at"),
        "reachable": document.get("reachable"),
        "read": document.get("read"),
        "encryption": encryption and {"mode": encryption.get("mode"), "required": encryption.get("required")},
        "check": check and {"at": check.get("at"), "ok": check.get("ok")},
    }
