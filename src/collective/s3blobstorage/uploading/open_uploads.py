"""A site's register of direct uploads: which are open, how much one user has open, and what became of the others.

It is in the annotations of the site, from the first upload on. The module and the class are named in databases: they
stay where they are.

``days`` has a tree for each day on which uploads expire, by their ids: (user, bytes, seconds since 1970 when it
expires, result). A result is "" as long as it is open, "-" where it was ended, else the UID of the content. The token
follows where the client was not given it, and knows the id alone. All are plain values that have an order, so that
BTrees settle changes of different ids by themselves; two changes of one id conflict, and Zope does the later one again,
which then sees what the first one did. Nothing is deleted but whole days that are over.

What is counted is what is open. Who has a request that was signed before an upload ended can still send that file once
more, as long as ``presign-max-expiry`` says: it lies in the staging area until it is swept, and nothing refers to it.
"""

from datetime import UTC, datetime

from BTrees.LOBTree import LOBTree
from BTrees.OOBTree import OOBTree
from persistent import Persistent
from zope.annotation.interfaces import IAnnotations
from zope.i18nmessageid import MessageFactory

from ..messages import byte_count
from .interfaces import UploadRefused

_ = MessageFactory("collective.s3blobstorage")

KEY = "collective.s3blobstorage.uploads"  # of the annotation
_DAY = 86400  # seconds
_OPEN, _ENDED = "", "-"


class Register(Persistent):
    """What is kept. Everything else is ``OpenUploads``."""

    def __init__(self):
        self.days = LOBTree()


class OpenUploads:
    """The register of one site, in the request's thread and transaction. Reading writes nothing.

    :param now: with a zone; None: this machine's clock
    """

    def __init__(self, site, *, now=None):
        self._site = site
        self._now = (now or datetime.now(UTC)).timestamp()

    def check(self, user, size, limits):
        """Raise UploadRefused of kind ``quota`` where an upload of so many bytes would be too much.

        ``limits``: an ``uploading.policy.SitePolicy``. Two that begin at the same moment do not see one another, so
        that a user may get as many uploads too many as the site has threads.
        """
        count, taken, all_taken = self.usage(user)
        if count >= limits.user_count:
            raise UploadRefused(
                _(
                    "You have ${count} unfinished uploads. Please finish or cancel some of them.",
                    mapping={"count": str(count)},
                ),
                "quota",
            )
        if taken + size > limits.user_size:
            raise UploadRefused(
                _(
                    "Your unfinished uploads would be ${size} together, and ${limit} are allowed.",
                    mapping={"size": byte_count(taken + size), "limit": byte_count(limits.user_size)},
                ),
                "quota",
            )
        if all_taken + size > limits.site_size:
            raise UploadRefused(_("Too much is being uploaded to this site. Please try again later."), "quota")

    def usage(self, user):
        """(number, bytes) of the user's open uploads, and the bytes of all open ones of the site."""
        count = taken = all_taken = 0
        for day in self._living_days():
            for whose, size, expires, result, *_token in day.values():
                if result == _OPEN and expires > self._now:
                    all_taken += size
                    if whose == user:
                        count += 1
                        taken += size
        return count, taken, all_taken

    def begin(self, ticket, limits, *, token=None):
        """Note an upload that was begun. UploadRefused as ``check``; then nothing is noted.

        :param token: where the client is not given it: kept, so that its ticket is known by its id
        """
        self.check(ticket.user, ticket.upload.size, limits)
        days = self._made().days
        expires = int(ticket.expires.timestamp())
        day = days.get(expires // _DAY)
        if day is None:
            day = days[expires // _DAY] = OOBTree()
        kept = () if token is None else (token,)
        day[ticket.upload.id] = (ticket.user, ticket.upload.size, expires, _OPEN, *kept)
        for over in list(days.keys(max=int(self._now) // _DAY - 1)):
            del days[over]

    def token(self, id):
        """What ``begin`` was given to keep, also of what has expired this very day; None where there is nothing."""
        for day in self._living_days():
            if id in day:
                _user, _size, _expires, _result, *token = day[id]
                return token[0] if token else None
        return None

    def is_open(self, id):
        """Whether it was begun here, and has neither expired, nor ended, nor been finished."""
        entry = self._entry(id)
        return entry is not None and entry[3] == _OPEN

    def check_open(self, id):
        """Raise UploadRefused of kind ``ended`` where it is not."""
        if not self.is_open(id):
            raise UploadRefused(_("This upload was cancelled, or is over. Please begin it again."), "ended")

    def result(self, id):
        """The UID of what it became; None where it became nothing, or has expired."""
        entry = self._entry(id)
        return None if entry is None or entry[3] in (_OPEN, _ENDED) else entry[3]

    def end(self, id):
        """It became nothing, and will not. No error where it is not open."""
        if self.is_open(id):
            self._settle(id, _ENDED)

    def finish(self, ticket, uid):
        """It became the content of that UID. UploadRefused of kind ``ended`` where it is not open any more."""
        self.check_open(ticket.upload.id)
        self._settle(ticket.upload.id, uid)

    def _settle(self, id, result):
        for day in self._living_days():
            if id in day:
                user, size, expires, _result, *token = day[id]
                day[id] = (user, size, expires, result, *token)

    def _entry(self, id):
        for day in self._living_days():
            entry = day.get(id)
            if entry is not None and entry[2] > self._now:
                return entry
        return None

    def _living_days(self):
        register = IAnnotations(self._site).get(KEY)
        return [] if register is None else register.days.values(min=int(self._now) // _DAY)

    def _made(self):
        annotations = IAnnotations(self._site)
        if KEY not in annotations:
            annotations[KEY] = Register()
        return annotations[KEY]


def forget(site):
    """The register, when the add-on is removed. What is in the staging area is swept as it expires."""
    annotations = IAnnotations(site)
    if KEY in annotations:
        del annotations[KEY]
