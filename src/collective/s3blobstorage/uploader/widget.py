"""The widget of a file or an image: Plone's own, and on forms of content inside the element of an uploader.

Only the input is wrapped: what Plone shows of the file that is there, its choices and its input are Plone's own markup,
also where a site has its own template of it, and are what works without JavaScript. In the request's thread.
"""

import json

from plone.formwidget.namedfile.utils import is_file_upload
from plone.formwidget.namedfile.widget import NamedFileWidget, NamedImageWidget
from plone.namedfile.interfaces import INamed, INamedBlobFileField, INamedBlobImageField
from Products.Five.browser.pagetemplatefile import ViewPageTemplateFile
from z3c.form.interfaces import INPUT_MODE, NO_VALUE, IDataManager, IFieldWidget
from z3c.form.widget import FieldWidget
from zope.component import adapter, getMultiAdapter
from zope.interface import implementer, implementer_only

from ..layer import IS3BlobStorageLayer
from ..messages import byte_count
from .chosen import uploader_for
from .field import ChosenUpload
from .interfaces import IUploaderImageWidget, IUploaderWidget
from .places import place_of
from .resources import Resources
from .settings import common, direct_policy, told_type

_VALIDATIONS = ("kss_z3cform_inline_validation", "z3cform_validate_field")


class _Uploader:
    """What both widgets have beside Plone's."""

    _extracted = None
    element = ViewPageTemplateFile("field.pt")

    @property
    def place(self):
        """A ``FormPlace``; None where the form is none of content."""
        return place_of(self.form, self.field)

    @property
    def chosen(self):
        """A ``ChosenUpload`` that the form was sent with, and that is still good; else None."""
        value = self._extracted
        return value if value is not None and value.good else None

    @property
    def chosen_size(self):
        return byte_count(self.chosen.size)

    def extract(self, default=NO_VALUE):
        form = self.request.form
        if form.get(f"{self.name}.action") != "direct" or self.request.getURL().endswith(_VALIDATIONS):
            return super().extract(default)
        token = form.get(f"{self.name}.upload")
        if self._extracted is None:  # asked for when the form is made, and when its values are
            self._extracted = ChosenUpload(token if isinstance(token, str) else "")
        return self._extracted

    def render(self):
        place = self.place if self.mode == INPUT_MODE else None
        extracted, self.value = self.value, self._stored_or_sent()
        try:
            self.plone_markup = super().render()
            if place is None or not uploader_for(place.portal_type):
                return self.plone_markup
            self.settings = json.dumps(self._settings(place))
            self.resources = Resources(place.context, self.request)
            return self.element()
        finally:
            self.value = extracted

    def _stored_or_sent(self):
        """Plone's markup knows no upload: with one it shows the file that is there."""
        if not isinstance(self.value, ChosenUpload):
            return self.value
        if self.ignoreContext:
            return None
        return getMultiAdapter((self.context, self.field), IDataManager).query(None)

    def _settings(self, place):
        policy = direct_policy(place.context)
        chosen = self.chosen
        return common(place.context, self.request, policy) | {
            "kind": "field",
            "type": told_type(self.request, place.portal_type, place.field, policy),
            "replaces": place.replaces,
            "input": self.name,
            "accept": list(getattr(self.field, "accept", None) or ()),
            "required": bool(self.field.required),
            "chosen": chosen and {"upload": chosen.token, "name": chosen.filename, "size": chosen.size},
        }

    def action(self):
        """With an upload too: the script takes it off again by what Plone had chosen, and without the script the
        button of the upload is the last one that is checked, which holds."""
        return super().action() if self._extracted is None else "nochange"

    @property
    def file_upload_id(self):
        """Plone keeps a file that came with a form which is shown again in the database, as a whole, and so it does
        with the file that the content has. That one stays where it is, and what is in the staging area does too."""
        value = self.value
        if is_file_upload(value) or (INamed.providedBy(value) and value._p_jar is None):
            return super().file_upload_id
        return ""


@implementer_only(IUploaderWidget)
class UploaderFileWidget(_Uploader, NamedFileWidget):
    """Of a file in a blob."""


@implementer_only(IUploaderImageWidget)
class UploaderImageWidget(_Uploader, NamedImageWidget):
    """Of an image in a blob."""


@implementer(IFieldWidget)
@adapter(INamedBlobFileField, IS3BlobStorageLayer)
def uploader_file_widget(field, request):
    return FieldWidget(field, UploaderFileWidget(request))


@implementer(IFieldWidget)
@adapter(INamedBlobImageField, IS3BlobStorageLayer)
def uploader_image_widget(field, request):
    return FieldWidget(field, UploaderImageWidget(request))
