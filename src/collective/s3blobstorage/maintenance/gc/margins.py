"""Every margin of safety of garbage collection, and why it is there. Pure."""

from __future__ import annotations

from dataclasses import dataclass

MINUTE = 60.0
HOUR = 3600.0
DAY = 86400.0


@dataclass(frozen=True, slots=True)
class Margins:
    """Times in seconds, by the store's clock; ages of objects are what its listing says.

    ``grace`` (``gc-grace``): younger objects are never judged. An object is uploaded before the transaction commits
    that refers to it; until then nothing does. A day is longer than any upload, and than any pair of clocks is apart.

    ``keep`` (``gc-keep``): an object goes only when nothing has referred to it for so long, as the ledger says. A
    database that is restored from a backup finds the blobs of that day, so it has to be as long as backups are kept.

    ``upload_expiry`` (``upload-expiry``): what a browser sent to the staging area is needed until its upload is
    completed, which cannot be done after this time. ``directupload/sweeping.py`` adds an hour.

    ``share``: a plan that condemns more than this part of what it judged is not executed: more likely than so much
    garbage is a database that is not this prefix's. ``--allow`` raises it for one run.

    ``plan_life``: a plan is executed within this time, so that what a person looked at is what is done.

    ``lease_life``: a lease that was not renewed for so long is free for another process: its holder was killed. The
    holder itself stops ``lease_margin`` earlier, by its own monotonic clock.

    ``claim_wait``: where the store has no atomic conditional write, so long between a claim and the look at all claims:
    longer than a listing's timestamps are coarse (1 s), so that of two claims of one second both see both.

    ``inventory_lag``: how late S3 Inventory may be. Of what was written or deleted shortly before a report, AWS says
    that it may be missing or still there, and not for how long; a day is as long as it takes to write one.

    ``skew``: how far the clock of a machine that commits may be off. S3 refuses requests that are 15 minutes off.
    """

    grace: float = DAY
    keep: float = 7 * DAY
    upload_expiry: float = DAY
    share: float = 0.2
    plan_life: float = DAY
    lease_life: float = 10 * MINUTE
    lease_margin: float = 2 * MINUTE
    claim_wait: float = 3.0
    inventory_lag: float = DAY
    skew: float = 20 * MINUTE

    @property
    def witness_life(self) -> float:
        """How long a witness counts. An object that was dated when it was written may go after ``keep``; and a site
        that has a shorter one still has processes that write hourly."""
        return max(self.keep, DAY)
