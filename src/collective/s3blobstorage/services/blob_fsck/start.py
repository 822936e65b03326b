"""``POST <site>/@blob-fsck``: a check; with ``repair`` what could be brought back, or, without dry run, bringing it."""

from ..blob_jobs.start import Start
from ..refusal import bad_field


class StartFsck(Start):
    """Nothing is changed unless ``repair`` is JSON's ``true`` and ``dry_run`` its ``false``."""

    name = "@blob-fsck"

    def kind(self, body):
        # For the job itself no dry run is a repair already. Here both have to be said.
        if body.get("dry_run") is False and body.get("repair") is not True:
            raise bad_field("repair", "is not true: without it nothing is changed, and a dry run is all there is")
        return "fsck"
