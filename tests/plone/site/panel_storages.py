"""``IBlobStorages`` for a test's Zope: a status with a million blobs in it, and the real jobs on work that counts.

So a page is seen with figures that a test cannot have in a bucket, and a job is slow enough to be looked at.
"""

import math
from dataclasses import asdict
from datetime import UTC, datetime, timedelta

from counting_work import Counting
from zope.interface import implementer

from collective.s3blobstorage.interfaces import IBlobStorages
from collective.s3blobstorage.maintenance.jobs.interfaces import KINDS
from collective.s3blobstorage.maintenance.jobs.jobs import Jobs
from collective.s3blobstorage.objectstore.trial import trial
from collective.s3blobstorage.status.interfaces import IStatus
from collective.s3blobstorage.utilities import BlobStorages

BLOBS = 1_004_223
PLAN = "20261126T120000Z"
STEPS = 60  # of a job, a tenth of a second each: a person sees its bar move, and a test can cancel it

_MADE = {}


class Counted(Counting):
    """What a job of a kind does here, by the options that the kind has."""

    def __init__(self, kind):
        super().__init__(STEPS, pause=0.1)
        options = {
            "gc": {"plan": None, "allow": 0.2},
            "migrate": {"source": None},
            "rotate": {"convert": False},
            "fsck": {"deep": False, "repair": False},
        }
        self.defaults = {} if kind == "count" else {"dry_run": True, **options.get(kind, {})}
        self.kind = kind

    def why_not(self, operated):
        return "there is no <blobdirsource> in zope.conf" if self.kind == "migrate" else ""

    def check(self, operated, options):
        pass

    def __call__(self, operated, options, running):
        done = super().__call__(operated, options, running)
        plan = options.get("dry_run", False)
        if self.kind == "gc" and plan:
            used, going = {"blobs": BLOBS, "bytes": 913 * 10**9}, {"blobs": 30, "bytes": 435_000_000}
            share = {"judged": BLOBS + 30, "share": 30 / BLOBS}
            return {"dry_run": True, "plan": PLAN, "used": used, "condemned": going, **share, "refused": None}
        return {"dry_run": plan, "copied": {"blobs": done["counted"], "bytes": 123_456_789}}


class Shown(Jobs):
    """With a plan of cleaning up that has something to delete."""

    def candidates(self, plan, *, start=0, size=25):
        if plan != PLAN:
            raise KeyError(plan)
        places = range(start, min(start + size, 30))
        key = "blobs/{:016x}/0123456789abcdef0123456789abcdef"
        return [
            {"key": key.format(n), "oid": f"{n:016x}", "size": n * 10**6, "since": _iso(days=9)} for n in places
        ], 30


@implementer(IStatus)
class Figures:
    """Of a site as large as they come, whose key is too old and which still reads from a source."""

    def __init__(self, store):
        self._store = store
        self.checked = _iso(minutes=12)

    def document(self):
        history = [_slot(number) for number in range(143, -1, -1)]
        return {
            "database": "main",
            "base": "filestorage",
            "at": _iso(),
            "store": {
                "bucket": "my-site-blobs",
                "prefix": "plone/site",
                "endpoint": "https://s3.example.org",
                "region": "eu-central-1",
                "provider": "Ceph RGW",
                "owner": "production",
                "read_only": False,
            },
            "reachable": True,
            "read": _iso(seconds=8),
            "encryption": {
                "mode": "client-side",
                "required": False,
                "active_key": "2025-10",
                "keys": [_key("2025-10", "active", 400, BLOBS - 12), _key("2024-02", "superseded", 1000, 12)],
                "counted": _iso(hours=5),
                "usage": None,
                "error": None,
                "key_max_age": 365 * 86400.0,
            },
            "sources": [{"name": "old-disk", "type": "blobdirsource", "mirror": "on"}],
            "mirrored": None,
            "check": {"at": self.checked, "ok": True, "seconds": 1.2, "findings": FINDINGS},
            "figures": {
                "at": _iso(hours=5),
                "by": "gc",
                "blobs": {"objects": BLOBS, "bytes": 913 * 10**9},
                "zodb_s3blobs": {"objects": 0, "bytes": 0},
                "addons": {"objects": 12, "bytes": 4000},
                "bookkeeping": {"objects": 41, "bytes": 400_000},
                "other": {"objects": 0, "bytes": 0},
                "total": {"objects": BLOBS + 53, "bytes": 913 * 10**9 + 404_000},
                "uploads": {"count": 2, "oldest": _iso(hours=2)},
            },
            "fsck": {
                "job": "fsck-3",
                "at": _iso(hours=30),
                "deep": True,
                "found": {},
                "repaired": 0,
                "wrong": 0,
                "unknown": 0,
                "earlier": 0,
            },
            "outside": {"at": _iso(hours=5), "by": "count", "objects": 312, "bytes": 10**9},
            "cache": {
                "folder": "/var/cache/plone/blobs",
                "files": 18_233,
                "used": 7_400_000_000,
                "bound": 10_000_000_000,
                "since": _iso(days=12),
                "counters": {"downloads": 99_999, "bytes": 10**11, "evictions": 77, "errors": 0},
                "hour": _sum(history[-6:]),
                "day": _sum(history),
                "history": history,
            },
            "requests": {
                "since": _iso(days=1),
                "verbs": {
                    "get": _verb(120_333, 3, 10**11, 0.021, 0.08, 0.4),
                    "put": _verb(3301, 0, 10**9, 0.031, 0.09, 0.2),
                    "head": _verb(20, 0, 0, 0.01, 0.02, 0.03),
                },
                "all": _verb(123_654, 3, 101 * 10**9, 0.022, 0.08, 0.4),
            },
            "jobs": {kind: {"last": None, "running": None} for kind in KINDS},
            "covers": {"host": "plone-1", "processes": 4},
        }

    def broken(self):
        return {}

    def check(self):
        self.checked = _iso()

    def trial(self):
        return [asdict(step) for step in trial(self._store)]

    def counters(self):
        return {}


FINDINGS = [
    {"name": "endpoint", "ok": True, "seconds": 0.012, "detail": "answers within 12 ms", "mend": ""},
    {"name": "form upload", "ok": None, "seconds": 0.0, "detail": "not with keys of your own", "mend": ""},
]


def _iso(**before):
    return (datetime.now(UTC) - timedelta(**before)).isoformat()


def _slot(number):
    hits, misses = int(60 + 40 * math.sin(number / 9)), int(8 + 8 * math.sin(number / 5))
    return {
        "at": _iso(minutes=10 * number),
        "hits": hits,
        "misses": misses,
        "downloads": misses,
        "bytes": misses * 10**6,
    }


def _sum(slots):
    hits, misses = (sum(slot[name] for slot in slots) for name in ("hits", "misses"))
    return {"hits": hits, "misses": misses, "rate": hits / (hits + misses)}


def _verb(requests, errors, size, p50, p95, p99):
    return {"requests": requests, "errors": errors, "bytes": size, "p50": p50, "p95": p95, "p99": p99}


def _key(id, state, days, objects):
    return {
        "id": id,
        "state": state,
        "age_days": days,
        "in_configuration": True,
        "writes": state == "active",
        "objects": objects,
        "bytes": objects * 900_000,
    }


@implementer(IBlobStorages)
class Storages(BlobStorages):
    def for_context(self, context):
        return _with(super().for_context(context))

    def get(self, name="main"):
        return _with(super().get(name))

    def all(self):
        return [(name, _with(blobs)) for name, blobs in super().all()]


def _with(blobs):
    if blobs.available:
        if blobs.name not in _MADE:
            store = blobs._storage.store_
            _MADE[blobs.name] = Shown(store, {kind: Counted(kind) for kind in KINDS}), Figures(store)
        jobs, status = _MADE[blobs.name]
        blobs.jobs, blobs.status = lambda: jobs, lambda: status
    return blobs
