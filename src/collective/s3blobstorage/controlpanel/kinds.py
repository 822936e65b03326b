"""Kinds and states of jobs, in words. Pure."""

from __future__ import annotations

from ..maintenance.jobs.interfaces import CANCELLED, DONE, FAILED, INTERRUPTED, RUNNING
from .judgement import BAD, GOOD, LOOK, UNKNOWN
from .messages import _

TITLES = {
    "gc": _("Clean up"),
    "fsck": _("Check every file"),
    "mirror": _("Copy from the sources"),
    "migrate": _("Bring a folder of blobs in"),
    "rotate": _("Change keys"),
    "count": _("Count"),
    "report": _("What takes the room"),
}

DESCRIPTIONS = {
    "gc": _(
        "Deletes from the bucket what nothing in the database referred to for a week, or for as long as gc-keep says."
    ),
    "fsck": _("Looks whether every file that the database needs is in the bucket, and names those that are not."),
    "mirror": _("Copies into the bucket what only the sources behind it have, so that a source can be switched off."),
    "migrate": _("Copies the files of a folder of blobs that zope.conf names into the bucket, while the site runs."),
    "rotate": _("Brings every file to the key that new files are encrypted with, so that an old key can be retired."),
    "count": _("Counts the files in the bucket, and how many are only in a source."),
    "report": _("Tells which files, which months or which types of content take the room. Changes nothing."),
}

STATES = {
    RUNNING: (_("running"), ""),  # neither good nor bad yet
    DONE: (_("done"), GOOD),
    FAILED: (_("failed"), BAD),
    CANCELLED: (_("cancelled"), UNKNOWN),
    INTERRUPTED: (_("interrupted"), LOOK),
}

# Findings of a check of every file.
WRONG = {
    "missing": _("missing"),
    "missing-reference": _("may be deleted by mistake"),
    "truncated": _("cut off"),
    "wrong-size": _("longer than it was"),
    "damaged-record": _("its record in the database cannot be read"),
    "wrong-encryption": _("cannot be decrypted"),
    "wrong-metadata": _("labelled wrongly"),
    "wrong-bytes": _("has other contents"),
}

REPAIRS = {
    "repaired": _("brought back"),
    "would be repaired": _("can be brought back"),
    "not repaired": _("cannot be brought back from here"),
    "changed meanwhile": _("changed meanwhile"),
}

# What starts at once: it changes nothing that a plan could show first.
WITHOUT_PLAN = frozenset({"count", "report"})

REPORTS = {"types": _("Types of content"), "largest": _("The largest files"), "growth": _("Growth by month")}
