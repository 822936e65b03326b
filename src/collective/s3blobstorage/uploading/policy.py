"""What a site allows to be uploaded directly: its own records within zope.conf's bounds, then policies of add-ons.

Records are read anew at each use, in the request's thread. A record may be missing, or have been set by whatever code:
what cannot be used is as if it were not set. ``SitePolicy`` is pure.
"""

import re
import unicodedata
from dataclasses import dataclass, replace

from plone.registry.interfaces import IRegistry
from zope.component import getUtility, queryUtility, subscribers
from zope.i18nmessageid import MessageFactory

from ..interfaces import IBlobStorages, IUploadPolicy
from ..messages import byte_count
from .interfaces import UploadRefused

_ = MessageFactory("collective.s3blobstorage")

_PREFIX = "collective.s3blobstorage.upload_"  # of the records' names
_MB = 1024 * 1024
LONGEST_NAME = 255  # bytes of a file name in UTF-8: what file systems take, to which somebody will save it
# They make a browser show another ending than the one the name has.
_TURNS_AROUND = re.compile("[\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True, slots=True)
class SitePolicy:
    """What one site's owner set. Sizes in bytes; ``user_*`` and ``site_size`` are of unfinished uploads."""

    enabled: bool = False
    maximum_size: int | None = None  # None: what zope.conf allows
    portal_types: frozenset[str] = frozenset()  # empty: all
    mime_types: frozenset[str] = frozenset()  # as video/mp4 or video/*; empty: all
    user_count: int = 50
    user_size: int = 100 * 1024 * _MB
    site_size: int = 1024 * 1024 * _MB

    @classmethod
    def of_records(cls, records):
        """From values by the names of ``IUploadSettings``, without ``upload_``."""

        def number(name, otherwise, times=1):
            value = records.get(name)
            return value * times if type(value) is int and value > 0 else otherwise

        def names(name):
            value = records.get(name)
            value = value if isinstance(value, (tuple, list, set, frozenset)) else ()
            return frozenset(one.strip() for one in value if isinstance(one, str) and one.strip())

        unset = cls()
        return cls(
            enabled=records.get("enabled") is True,
            maximum_size=number("maximum_size", None, _MB),
            portal_types=names("portal_types"),
            mime_types=frozenset(name.lower() for name in names("mime_types")),
            user_count=number("user_count", unset.user_count),
            user_size=number("user_size", unset.user_size, _MB),
            site_size=number("site_size", unset.site_size, _MB),
        )

    def within(self, bounds):
        """The same within zope.conf's ``UploadSettings``, which hold whatever the site says."""
        most = bounds.most_size if self.maximum_size is None else min(self.maximum_size, bounds.most_size)
        return replace(self, enabled=self.enabled and bounds.allowed, maximum_size=most)

    def check(self, announced):
        """Raise UploadRefused where the site does not take that. To be called on what ``within`` gave."""
        if not self.enabled:
            raise UploadRefused(_("Files are not uploaded directly to the store in this site."), "off")
        if announced.size < 1:
            raise UploadRefused(_("The file is empty."), "empty")
        if announced.size > self.maximum_size:
            raise UploadRefused(
                _(
                    "The file is ${size}; this site takes up to ${limit}.",
                    mapping={"size": byte_count(announced.size), "limit": byte_count(self.maximum_size)},
                ),
                "too-large",
            )
        if self.portal_types and announced.portal_type not in self.portal_types:
            raise UploadRefused(
                _(
                    "Files of the type of content ${type} are not uploaded directly.",
                    mapping={"type": announced.portal_type},
                ),
                "portal-type",
            )
        if not self.takes(announced.content_type):
            raise UploadRefused(
                _("Files of the type ${type} are not taken here.", mapping={"type": announced.content_type}), "type"
            )
        check_filename(announced.filename)

    def takes(self, content_type):
        """By the site's types of files."""
        main, slash, _sub = content_type.partition("/")
        return not self.mime_types or bool(self.mime_types & {content_type, f"{main}{slash}*", "*/*"})


def check_filename(name):
    """Raise UploadRefused for what is no plain name of a file. Pure."""
    wrong = None
    if not name.strip(" .") or "/" in name or "\\" in name:
        wrong = _("The file needs a name, without a folder.")
    elif any(unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") for letter in name) or _TURNS_AROUND.search(name):
        wrong = _("The name of the file has characters in it that cannot be seen.")
    elif len(name.encode()) > LONGEST_NAME:
        wrong = _("The name of the file is too long.")
    if wrong is not None:
        raise UploadRefused(wrong, "filename")


def site_policy(bounds):
    """That of the site of this request, within zope.conf's ``bounds``, an ``UploadSettings``."""
    registry = queryUtility(IRegistry)
    names = ("enabled", "maximum_size", "portal_types", "mime_types", "user_count", "user_size", "site_size")
    records = {} if registry is None else {name: registry.get(_PREFIX + name) for name in names}
    return SitePolicy.of_records(records).within(bounds)


def check_start(context, request, announced):
    """Whether this may be uploaded to this place: raises UploadRefused, with a message for the editor, where not.

    ConfigurationError where the context's database has no bucket. Whether this user may add or change something here is
    asked elsewhere (``places.py``), and how much the user has open too (``open_uploads.py``).
    """
    site_policy(getUtility(IBlobStorages).for_context(context).uploads().settings).check(announced)
    for policy in subscribers((context, request), IUploadPolicy):
        policy.check_start(announced)


def check_completed(context, request, announced, reader, sniffed):
    """Ask the add-ons about what is there: see ``IUploadPolicy.check_completed``. Each reads from the beginning on.

    To be called after ``check_start``, which asks for everything that can have changed since the upload began.
    """
    for policy in subscribers((context, request), IUploadPolicy):
        reader.seek(0)
        policy.check_completed(announced, reader, sniffed)
