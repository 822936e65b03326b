"""“Settings”: what a site's owner decides about delivery, within what zope.conf allows."""

from plone.registry.interfaces import IRegistry
from zope.component import getUtility
from zope.i18n import translate

from ..delivery.interfaces import PREFIX, IDeliverySettings
from ..settings import MODES
from .bounds import bounds_of
from .chosen import EXPIRIES, longest, no_addresses, read, why_not
from .messages import _
from .page import SETTINGS, Page
from .reasons import DESCRIPTIONS, TITLES


class Settings(Page):
    """The form, and its POST. A form with a mistake in it is shown again as it was sent, and nothing is saved."""

    name = SETTINGS
    title = _("Settings")
    actions = {"save": "save"}

    wrong = {}

    def save(self):
        values, self.wrong = read(self.request.form, bounds_of(self.context), self._allowed_types())
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

    def _saved(self, name):
        return self._registry.get(f"{PREFIX}.{name}", IDeliverySettings[name].default)

    def value(self, name):
        """What a field shows: what was sent, where it has to be mended, else what is saved."""
        return self.request.form.get(name, "") if self.wrong else self._saved(name)

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
        saved = self._saved("delivery_mode")
        why = why_not(saved, bounds_of(self.context)) if saved in MODES else ""
        return why and _(
            "This site is set to “${mode}”, which does not work here, so files go another way. ${why}",
            mapping={"mode": TITLES[saved], "why": why},
        )

    # For which files

    @property
    def types(self):
        chosen = self.value("delivery_portal_types") or ()
        chosen = {chosen} if isinstance(chosen, str) else set(chosen)
        titles = self._titles()
        known = sorted((translate(title, context=self.request), name) for name, title in titles.items())
        shown = [(name, title) for title, name in known]
        shown += [(name, _("${type} (this site has no such type)", mapping={"type": name}))
                  for name in sorted(chosen - set(titles))]  # fmt: skip
        return [{"name": name, "title": title, "checked": name in chosen} for name, title in shown]

    def _titles(self):
        """Content that people add, by its type's id. Types that are not searched are Plone's own."""
        types = self.context.portal_types
        skipped = set(self._registry.get("plone.types_not_searched") or ())
        return {info.getId(): info.Title() for info in types.listTypeInfo() if info.getId() not in skipped}

    def _allowed_types(self):
        # What is saved may stay: a type may be gone for a while, as while its add-on is updated.
        return {*self.context.portal_types.objectIds(), *self._saved("delivery_portal_types")}

    @property
    def mime_types(self):
        value = self.value("delivery_mime_types")
        return value if isinstance(value, str) else "\n".join(value or ())

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
            field = IDeliverySettings[name]
            saved = self._saved(name)
            note = ""
            if disabled:
                note = _("No way that zope.conf allows needs an address in the bucket.")
            elif saved > most:
                note = _(
                    "${saved} is saved, but zope.conf allows ${most} at most (presign-max-expiry).",
                    mapping={"saved": saved, "most": most},
                )
            shown.append(
                {
                    "name": name,
                    "title": field.title,
                    "description": field.description,
                    "value": self.value(name) if not disabled else saved,
                    "least": field.min,
                    "most": most,
                    "disabled": disabled,
                    "note": note,
                    "wrong": self.wrong.get(name),
                }
            )
        return shown
