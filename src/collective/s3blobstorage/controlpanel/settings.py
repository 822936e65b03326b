"""“Settings”: what a site's owner decides about delivery and uploads, within what zope.conf allows."""

from plone.registry.interfaces import IRegistry
from zope.cachedescriptors.property import Lazy
from zope.component import getUtility
from zope.i18n import translate

from ..delivery.interfaces import PREFIX
from ..settings import MODES
from . import chosen_uploads
from .bounds import bounds_of
from .chosen import EXPIRIES, longest, no_addresses, read, why_not
from .messages import _
from .page import SETTINGS, Page
from .reasons import DESCRIPTIONS, TITLES
from .schema import ISiteSettings
from .upload_part import UploadPart
from .uploader_part import TYPES, UploaderPart


class Settings(Page):
    """The form, and its POST. A form with a mistake in it is shown again as it was sent, and nothing is saved."""

    name = SETTINGS
    title = _("Settings")
    actions = {"save": "save"}

    wrong = {}

    def save(self):
        form = self.request.form
        values, self.wrong = read(form, bounds_of(self.context), self._allowed_types("delivery_portal_types"))
        if not self.upload.why_not:
            types = self._allowed_types("upload_portal_types")
            sent, wrong = chosen_uploads.read(form, self.upload.bounds, types)
            values, self.wrong = values | sent, self.wrong | wrong
        sent, wrong = self.uploader.read(form, self._allowed_types(TYPES))
        values, self.wrong = values | sent, self.wrong | wrong
        if self.wrong:
            self.tell(_("Nothing was saved: see below what to mend."), "error")
            return self.index()
        for name, value in values.items():
            self._registry[f"{PREFIX}.{name}"] = value
        self.tell(_("The settings are saved. They hold from the next request on."))
        return self.go(self.url())

    @property
    def _registry(self):
        return getUtility(IRegistry)

    def saved(self, name):
        return self._registry.get(f"{PREFIX}.{name}", ISiteSettings[name].default)

    def value(self, name):
        """What a field shows: what was sent, where it has to be mended, else what is saved."""
        return self.request.form.get(name, "") if self.wrong else self.saved(name)

    @Lazy
    def upload(self):
        return UploadPart(self)

    @Lazy
    def uploader(self):
        return UploaderPart(self)

    # Modes

    @property
    def modes(self):
        bounds = bounds_of(self.context)
        chosen = self.value("delivery_mode")
        if why_not(chosen, bounds):
            chosen = "stream"  # which is what such a site does
        return [
            {
                "name": mode,
                "title": TITLES[mode],
                "description": DESCRIPTIONS[mode],
                "why_not": why_not(mode, bounds),
                "checked": mode == chosen,
            }
            for mode in MODES
        ]

    @property
    def overruled(self):
        """Why what is saved does not hold; "" where it does."""
        saved = self.saved("delivery_mode")
        why = why_not(saved, bounds_of(self.context)) if saved in MODES else ""
        return why and _(
            "This site is set to “${mode}”, which does not work here, so files go another way. ${why}",
            mapping={"mode": TITLES[saved], "why": why},
        )

    # For which files

    @property
    def types(self):
        return self.boxes("delivery_portal_types", self._titles())

    def boxes(self, name, titles):
        """Types to tick, for a field that has their ids: those of ``titles``, and what is chosen already."""
        chosen = self.value(name) or ()
        chosen = {chosen} if isinstance(chosen, str) else set(chosen)
        known = sorted((translate(title, context=self.request), id) for id, title in titles.items())
        shown = [(id, title) for title, id in known]
        shown += [(id, _("${type} (this site has no such type)", mapping={"type": id}))
                  for id in sorted(chosen - set(titles))]  # fmt: skip
        return [{"name": id, "title": title, "checked": id in chosen} for id, title in shown]

    def _titles(self):
        """Content that people add, by its type's id. Types that are not searched are Plone's own."""
        types = self.context.portal_types
        skipped = set(self._registry.get("plone.types_not_searched") or ())
        return {info.getId(): info.Title() for info in types.listTypeInfo() if info.getId() not in skipped}

    def _allowed_types(self, name):
        # What is saved may stay: a type may be gone for a while, as while its add-on is updated.
        return {*self.context.portal_types.objectIds(), *self.saved(name)}

    def lines(self, name):
        """What a field with one thing a line shows."""
        value = self.value(name)
        return value if isinstance(value, str) else "\n".join(value or ())

    @property
    def mime_types(self):
        return self.lines("delivery_mime_types")

    @property
    def anonymous_only(self):
        return bool(self.value("delivery_anonymous_only"))

    # For how long

    @property
    def expiries(self):
        bounds = bounds_of(self.context)
        most = longest(bounds)
        disabled = no_addresses(bounds)
        shown = []
        for name in EXPIRIES:
            field = ISiteSettings[name]
            saved = self.saved(name)
            note = bound = ""
            if disabled:
                note = _("No way that zope.conf allows needs an address in the bucket.")
            else:
                bound = _("zope.conf allows up to ${most} (presign-max-expiry).", mapping={"most": most})
                if saved > most:
                    note = _(
                        "${saved} is saved, but zope.conf allows ${most} at most (presign-max-expiry).",
                        mapping={"saved": saved, "most": most},
                    )
            shown.append(self.number(field, disabled=disabled, most=most, note=note, bound=bound))
        return shown

    def number(self, field, *, disabled=False, most=None, note="", bound=""):
        """A field with a number, for the macro ``numbers``. ``note``: why it is not as it was set."""
        name = field.getName()
        return {
            "name": name,
            "title": field.title,
            "description": field.description,
            "value": self.saved(name) if disabled else self.value(name),
            "least": field.min,
            "most": most,
            "disabled": disabled,
            "note": note,
            "bound": bound,
            "wrong": self.wrong.get(name),
        }
