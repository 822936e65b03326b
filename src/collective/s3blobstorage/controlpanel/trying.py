"""“Try it”: one small object on its whole way, and which way the files of one item go to visitors, and why."""

from dataclasses import replace
from urllib.parse import unquote, urlsplit

from AccessControl import Unauthorized, getSecurityManager
from Acquisition import aq_base
from plone.dexterity.interfaces import IDexterityContent
from zExceptions import NotFound
from zope.cachedescriptors.property import Lazy

from ..delivery.delivering import site_policy, wanted_of
from ..delivery.policy import REDIRECT, STREAM, X_ACCEL, decide
from ..delivery.revision import revision_of
from ..services.blob_url.files import fields_of
from .judgement import BAD, GOOD, UNKNOWN
from .messages import _
from .page import TRY, Page
from .reasons import OWN_KEYS, REASONS, TITLES
from .status import LEVELS, MARKS

STEPS = {
    "upload": _("Upload a small object"),
    "read": _("Read it"),
    "sign": _("Sign an address for it"),
    "fetch": _("Fetch it by that address, as a visitor’s browser would"),
    "delete": _("Delete it"),
}
_RESULTS = {True: GOOD, False: BAD, None: UNKNOWN}

# What an address in a browser has behind the item's own.
_NOT_CONTENT = ("@", "+")
_LAST = frozenset({"view", "edit", "folder_contents"})


class Trying(Page):
    """The trial is a POST, since it writes; the question about an item is a GET, since it does not."""

    name = TRY
    title = _("Try it")
    actions = {"try": "try_out"}
    marks = MARKS
    levels = LEVELS

    steps = ()

    def try_out(self):
        """In the thread of the request; takes as long as five requests to the store, or their time-outs."""
        self.must_operate()
        self.steps = [
            {
                "title": STEPS[step["name"]],
                "level": _RESULTS[step["ok"]],
                "took": self.words.seconds(step["seconds"]) if step["ok"] is not None else "",
                "detail": step["detail"],
            }
            for step in self.blobs.status().trial()
        ]
        return self.index()

    @property
    def verdict(self):
        """(level, message) of the trial."""
        levels = {step["level"] for step in self.steps}
        if BAD in levels:
            return BAD, _("Something does not work: the first step that failed says what.")
        if levels == {UNKNOWN}:
            return UNKNOWN, _("Nothing was tried.")
        return GOOD, _("It works.")

    # One item

    @property
    def asked(self):
        value = self.request.form.get("item")
        return value.strip() if isinstance(value, str) else ""

    @Lazy
    def item(self):
        """The content that the address names; None where there is none that this user may view."""
        segments = [unquote(segment) for segment in self._path().split("/") if segment]
        if segments and segments[-1] in _LAST:
            segments.pop()
        if any(segment.startswith(_NOT_CONTENT) or segment == ".." for segment in segments):
            return None
        try:
            found = self.context.restrictedTraverse([str(segment) for segment in segments], None)
        except (Unauthorized, NotFound, KeyError, AttributeError):
            return None  # what traversal says of what is not there depends on what it passes
        if not IDexterityContent.providedBy(found):
            return None
        return found if getSecurityManager().checkPermission("View", found) else None

    def _path(self):
        """Within the site: of an address as a browser shows it, or of a path."""
        try:
            path = urlsplit(self.asked).path
        except ValueError:  # as of http://[
            path = self.asked
        path = path.partition("/@@")[0].partition("/++")[0]
        own = urlsplit(self.context.absolute_url()).path.rstrip("/")
        return path[len(own) :] if path == own or path.startswith(f"{own}/") else path

    @Lazy
    def answers(self):
        """For each file of the item: which way it goes to whom, and why."""
        return [
            {
                "field": name,
                "filename": file.filename or "",
                "size": self.words.size(file.getSize()),
                "type": file.contentType,
                "ways": self._ways(file),
            }
            for name, file in fields_of(self.item)
        ]

    def _ways(self, file):
        revision = revision_of(file)
        if revision is None:
            return [{"who": _("Everybody"), "title": TITLES[STREAM], "why": _("The file is not a committed blob.")}]
        visitor = replace(wanted_of(self.item, file, revision), logged_in=False)
        told = [self._way(each, revision) for each in (visitor, replace(visitor, logged_in=True))]
        if told[0] == told[1]:
            return [{"who": _("Everybody"), **told[0]}]
        return [
            {"who": _("Visitors who are not logged in"), **told[0]},
            {"who": _("Whoever is logged in"), **told[1]},
        ]

    def _way(self, wanted, revision):
        decision = decide(site_policy(), wanted, revision.bounds)
        mode, why = decision.mode, REASONS[decision.why]
        if mode in (REDIRECT, X_ACCEL) and revision.address.store.own_keys:
            mode, why = "proxy", OWN_KEYS
        return {
            "title": TITLES[mode],
            "mode": mode,
            "why": why,
            "good_for": self.words.seconds(decision.seconds) if decision.seconds and mode == decision.mode else "",
        }

    @property
    def portal_type(self):
        return getattr(aq_base(self.item), "portal_type", "")
