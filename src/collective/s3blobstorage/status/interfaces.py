"""The contract of a storage's status: what the control panel, REST and metrics show.

Nothing is counted when somebody looks. Figures of the bucket are kept in it, under ``status/``, by whoever reads the
whole listing anyway (a gc's plan, ``s3blobs status``, the job ``count``); the result of a check by whoever ran one.
What the processes of this machine did is counted in memory and kept beside the cache (``cache/counters.py``).

A look never waits for a store that is away: what the bucket keeps is read in a thread behind, and remembered for
``FRESH`` seconds; who looks gets what is known, and when it was read.
"""

from __future__ import annotations

from zope.interface import Interface

FRESH = 15.0  # seconds
PATIENCE = 1.0  # seconds for which a look waits, at most, where nothing is known yet

FIGURES = "status/figures"  # keys
OUTSIDE = "status/outside"
CHECK = "status/check"


class IStatus(Interface):
    """The status of one database's storage: ``IDatabaseBlobs.status()``. Any thread."""

    def document():
        """Plain values for JSON, in this form; every part that is not known is None. Never a secret, never a key.

        Waits ``PATIENCE`` at most for the store.

        ::

            {"database": "main", "base": "filestorage", "at": ISO 8601,
             "store": {"bucket", "prefix", "endpoint", "region", "provider", "owner", "read_only"},
             "reachable": true | false | None,          # by this process's last request, or by one that gets no answer
             "read": ISO 8601 | None,                   # when what is kept in the bucket was read
             "encryption": {"mode", "required", "active_key", "keys": [as `s3blobs keys list --json`], "counted",
                            "usage", "error", "key_max_age"},          # the last in seconds; 0: never too old
             "sources": [{"name", "type", "mirror"}],
             "mirrored": {"complete_up_to", "sources"} | None,
             "check": {"at", "ok", "seconds", "findings": [{"name", "ok", "seconds", "detail", "mend"}]} | None,
             "figures": {"at", "by", "blobs": {"objects", "bytes"}, "zodb_s3blobs": {…}, "addons": {…},
                         "shared": {…}, "references": {…}, "saved",    # dedup: what equal blobs share, in bytes saved
                         "direct_uploads": {"objects", "bytes", "unfinished"},  # the last None: may not be listed
                         "bookkeeping": {…}, "other": {…}, "total": {…},
                         "uploads": {"count", "oldest"} | None} | None,
             "outside": {"at", "by", "objects", "bytes"} | None,   # blobs that only a source has, as counted last
             "cache": {"folder", "files", "used", "bound", "since", "counters": {…},
                       # files and counters of this database; used and bound of all that share cache-dir
                       "hour": {"hits", "misses", "rate"}, "day": {…},
                       "history": [{"at", "hits", "misses", "downloads", "bytes"}, …]},  # the last 24 h, a slot each
             "requests": {"since", "verbs": {"get": {"requests", "errors", "bytes", "p50", "p95", "p99"}, …},
                          "all": {…}},                  # latencies in seconds, to the first byte
             "jobs": {kind: {"last": as ``job_document`` | None, "running": … | None}},
             "fsck": {"job", "at", "deep", "found": {kind: number}, "repaired", "wrong", "unknown", "earlier"} | None,
                # of the last one that came to its end: ``wrong`` of what it found is so still, of ``unknown`` it could
                # not tell; ``earlier``: of what one before it read, and nobody read again since
             "covers": {"host", "processes"}}           # whose counters these are
        """

    def check():
        """Run the preflight now, in the thread of the caller, and keep its result: ``document()["check"]``.

        Writes and deletes a few small objects where the storage may write. Takes seconds; at most half a minute where
        the store is away. Raises nothing of the store's.
        """

    def trial():
        """Send one small object on its whole way now, in the thread of the caller: ``objectstore/trial.py``.

        A plain dict for each step, with ``name``, ``ok`` (None: not tried), ``seconds`` and ``detail``. Where the
        storage may not write, below a DemoStorage too, nothing is tried. Raises nothing of the store's.
        """

    def broken():
        """What the last fsck found, and nobody repaired since: {(oid, tid): as in ``findings`` of its report}, with
        both as ``oid_repr`` and ``tid_repr`` write them; of as many as are kept of a check (10,000).

        For every view of a page: makes no request and waits for nothing. What is known is read behind, at most once a
        minute, and is empty until then.
        """

    def counters():
        """What this process counted, for metrics. Makes no request, and none to the cache's disk.

        ::

            {"cache": {counter: number},                   # cache/counters.py
             "used": bytes, "bound": bytes,                # of cache-dir, about
             "requests": {verb: ``traffic.Counted``},      # objectstore/traffic.py
             "reachable": bool, "circuit_open": bool,
             "uploads": number,                            # blobs on their way
             "jobs": {kind: number}}                       # that this process runs
        """
