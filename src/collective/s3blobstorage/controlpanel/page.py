"""What the pages have in common: one head with tabs, one database that they speak of, one language."""

from datetime import UTC, datetime
from urllib.parse import urlencode

from AccessControl import getSecurityManager
from plone.protect import CheckAuthenticator
from Products.Five.browser import BrowserView
from Products.statusmessages.interfaces import IStatusMessage
from zExceptions import Forbidden, NotFound
from zope.cachedescriptors.property import Lazy
from zope.component import getMultiAdapter, getUtility
from zope.i18n import translate
from zope.interface import Interface, implementer

from ..interfaces import IBlobStorages
from ..permissions import OPERATE, may_change, may_operate, may_view
from .messages import _
from .words import Words

STATUS = "@@s3blobstorage-controlpanel"
SETTINGS = "@@s3blobstorage-settings"
TRY = "@@s3blobstorage-try"
JOBS = "@@s3blobstorage-jobs"


class IPanel(Interface):
    """A page of the control panel: style and script of ours are on these pages and nowhere else."""


@implementer(IPanel)
class Page(BrowserView):
    """In the thread of a request. GET changes nothing; POST is answered by the method that its field ``action`` names.

    ``name``: its own name as a view. ``title``: of the tab.
    """

    name = ""
    title = ""
    actions = {}  # what a POST may ask for: names of methods

    def __call__(self):
        self.request.response.setHeader("Cache-Control", "no-store")  # what is shown is so now, and for this user
        if self.request.method == "POST":
            # No object of the database changes, so plone.protect does not look by itself.
            CheckAuthenticator(self.request)
            action = self.actions.get(self.request.form.get("action"))
            if action is None:
                raise NotFound(self.request.form.get("action"))
            return getattr(self, action)()
        return self.index()

    # The database

    @Lazy
    def databases(self):
        """(name, its blobs): the site's own, and every other one that this user may operate."""
        storages = getUtility(IBlobStorages)
        own = storages.for_context(self.context)
        others = [
            (name, blobs)
            for name, blobs in storages.all()
            if name != own.name and blobs.available and may_operate(self.context, blobs)
        ]
        return [(own.name, own), *others]

    @Lazy
    def blobs(self):
        """Of the database that the address names, else of the site's own. Raises NotFound for one that is not shown."""
        asked = self.request.form.get("database")
        if not asked:
            return self.databases[0][1]
        for name, blobs in self.databases:
            if name == asked:
                return blobs
        raise NotFound(asked)

    @property
    def database(self):
        return self.blobs.name

    # The user

    @Lazy
    def operates(self):
        return may_operate(self.context, self.blobs)

    def must_operate(self):
        """Raises Forbidden; NotFound where there is no bucket to operate."""
        if not self.blobs.available:
            raise NotFound(self.name)
        if not self.operates:
            raise Forbidden(OPERATE)

    @property
    def user(self):
        return getSecurityManager().getUser().getId() or ""

    # The head

    @property
    def tabs(self):
        shown = (
            (STATUS, _("Status"), may_view(self.context, self.blobs)),
            (SETTINGS, _("Settings"), may_change(self.context, self.blobs)),
            (TRY, _("Try it"), may_view(self.context, self.blobs)),
            (JOBS, _("Jobs"), self.operates and self.blobs.available),
        )
        return [
            {"title": title, "url": self.url(name), "current": name == self.name}
            for name, title, may in shown
            if may or name == self.name
        ]

    @property
    def shown_databases(self):
        """To choose from, where there are several."""
        if len(self.databases) < 2:
            return []
        return [
            {
                "name": name,
                "url": f"{self.context.absolute_url()}/{self.name}?{urlencode({'database': name})}",
                "current": name == self.database,
            }
            for name, _blobs in self.databases
        ]

    def url(self, name=None, **query):
        """Of a page of ours, for the database that this one speaks of."""
        if self.database and self.request.form.get("database"):
            query["database"] = self.database
        return f"{self.context.absolute_url()}/{name or self.name}" + (f"?{urlencode(query)}" if query else "")

    # Words

    @Lazy
    def now(self):
        return datetime.now(UTC)

    @Lazy
    def words(self):
        state = getMultiAdapter((self.context, self.request), name="plone_portal_state")
        return Words(state.language(), self.now)

    def local(self, moment):
        """Date and time of day, as the site writes them; "" where there is none."""
        if moment is None:
            return ""
        plone = getMultiAdapter((self.context, self.request), name="plone")
        return plone.toLocalizedTime(moment.astimezone(), long_format=True)

    def translate(self, message):
        return translate(message, context=self.request)

    def tell(self, message, kind="info"):
        IStatusMessage(self.request).add(message, kind)

    def go(self, url):
        """The answer to a POST, so that a reload does not repeat it."""
        self.request.response.redirect(url, 303)
        return ""
