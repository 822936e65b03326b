"""``POST <site>/@blob-gc``: a plan; with ``{"dry_run": false, "plan": …}`` its execution."""

from ..blob_jobs.start import Start


class StartGc(Start):
    """A dry run unless ``dry_run`` is JSON's ``false`` and ``plan`` names a finished plan not older than 24 hours."""

    name = "@blob-gc"

    def kind(self, body):
        return "gc"
