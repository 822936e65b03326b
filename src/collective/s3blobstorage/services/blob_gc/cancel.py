"""``DELETE <site>/@blob-gc/<job>``"""

from ..blob_jobs.cancel import Cancel


class CancelGc(Cancel):
    name = "@blob-gc"
    of_kind = "gc"
