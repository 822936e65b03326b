"""``DELETE <site>/@blob-fsck/<job>``"""

from ..blob_jobs.cancel import Cancel


class CancelFsck(Cancel):
    name = "@blob-fsck"
    of_kind = "fsck"
