"""plone.namedfile's views, for sites with the add-on. What they check and which headers they set is all theirs."""

from plone.namedfile import browser, scaling

from .asked import conditions_of
from .delivering import deliver


class _Delivered:
    """Before a class of ``plone.namedfile.browser``. ``_getFile`` checks who may have it, there and here."""

    def __init__(self, context, request):
        super().__init__(context, request)
        self._conditions = conditions_of(request)

    def __call__(self):
        return deliver(self, self._conditions, self._checked, self.set_headers, super().__call__)

    def _checked(self):
        file = self._getFile()  # finds the name of the field, too
        return file, self.fieldname


class Download(_Delivered, browser.Download):
    """See ``plone.namedfile.browser.Download``."""


class DisplayFile(_Delivered, browser.DisplayFile):
    """See ``plone.namedfile.browser.DisplayFile``."""


class ImageScale(scaling.ImageScale):
    """See ``plone.namedfile.scaling.ImageScale``. ``validate_access`` checks who may have it, there and here."""

    def __init__(self, context, request, **info):
        super().__init__(context, request, **info)
        self._conditions = conditions_of(request)

    def index_html(self):
        """Answer GET."""
        return self._deliver(super().index_html)

    def HEAD(self, REQUEST, RESPONSE=None):
        """Answer HEAD."""
        return self._deliver(lambda: super(ImageScale, self).HEAD(REQUEST, RESPONSE))

    HEAD.__roles__ = ("Anonymous",)

    def _deliver(self, stream):
        return deliver(self, self._conditions, self._checked, lambda file: self.set_headers(), stream)

    def _checked(self):
        self.validate_access()
        return self.data, getattr(self.data, "fieldname", getattr(self, "fieldname", None))


class ImageScaling(scaling.ImageScaling):
    """See ``plone.namedfile.scaling.ImageScaling``."""

    _scale_view_class = ImageScale
