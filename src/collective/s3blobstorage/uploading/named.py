"""A file in the staging area as the value of a field: its blob gets it inside the store.

plone.restapi makes the field's value of it, as of a file that came in the request: so permissions, constraints,
validators and invariants are asked as for any. A form makes a value whose blob gets it when it is set on content
(``uploader/saving.py``).
"""

from plone.dexterity.interfaces import IDexterityContent
from plone.namedfile.interfaces import IBlobby, INamedField, INamedImage, IStorage, NotStorable
from plone.restapi.deserializer.dxfields import NamedFieldDeserializer
from plone.restapi.interfaces import IFieldDeserializer
from zope.component import adapter
from zope.interface import Invalid, directlyProvidedBy, directlyProvides, implementer
from zope.publisher.interfaces.browser import IBrowserRequest
from zope.schema.interfaces import ValidationError

from ..storage.attaching import attach
from ..storage.lending import lend


class ICompletingRequest(IBrowserRequest):
    """A request that completes an upload: no other one's fields are made by ``DirectFileDeserializer``."""


def mark(request):
    """In front of the layers of add-ons: a deserializer of theirs would not know a ``DirectFile``."""
    if not ICompletingRequest.providedBy(request):
        directlyProvides(request, ICompletingRequest, directlyProvidedBy(request))


class DirectFile:
    """Stands for the bytes of what was uploaded. Made by ``completing`` alone: nothing in a request can become one.

    :param staged: an ``IStagedObject``
    :param connection: of the database that the content is in, or will be
    :param content_type: that it is stored under, whatever its name says

    ``value``: what a field made of it; None as long as none did.
    """

    def __init__(self, staged, connection, content_type, filename):
        self.staged = staged
        self.connection = connection
        self.content_type = content_type
        self.filename = filename
        self.value = None

    def __repr__(self):
        return f"<{type(self).__name__} of {self.staged.size} bytes>"


class LentFile(DirectFile):
    """The same, of which nothing is copied before ``attach_lent``."""


def value_of(field, direct):
    """The value of that field, of which nothing was asked yet. ValueError where the field has no blobs.

    Of an image the first bytes are asked for, and all of it where it has to be turned. Raises what ``attach`` raises.
    """
    if not IBlobby.implementedBy(field._type):
        raise ValueError("The field keeps its file outside of blobs.")
    # Under this type even where the name of the file promises another one, as plone.namedfile would have it.
    made = field._type(data=direct, contentType=direct.content_type, filename=direct.filename)
    made.contentType = direct.content_type
    if not INamedImage.providedBy(made):
        # It would be told by opening the blob, for which a request is made. An image was opened, and turned maybe.
        vars(made)["size"] = direct.staged.size
    return made


@implementer(IStorage)
class DirectFileStorable:
    """Named as the class, by which plone.namedfile looks it up. Raises what ``attach`` raises."""

    def store(self, data, blob):
        if not isinstance(data, DirectFile):
            raise NotStorable("Could not store data (not a DirectFile).")
        attach(blob, data.connection, data.staged)


@implementer(IStorage)
class LentFileStorable:
    """Raises what ``lend`` raises."""

    def store(self, data, blob):
        if not isinstance(data, LentFile):
            raise NotStorable("Could not store data (not a LentFile).")
        lend(blob, data.staged)


@implementer(IFieldDeserializer)
@adapter(INamedField, IDexterityContent, ICompletingRequest)
class DirectFileDeserializer(NamedFieldDeserializer):
    """Of any other value, what plone.restapi makes of it. In the request's thread.

    ValidationError and ValueError where the field does not take it; what ``attach`` raises.
    """

    def __call__(self, value):
        if not isinstance(value, DirectFile):
            return super().__call__(value)
        made = value_of(self.field, value)
        try:
            self.field.validate(made)
        except ValidationError:
            raise
        except Invalid as error:  # of a constraint or a validator; plone.restapi takes no other for one
            raise ValueError(str(error)) from None
        value.value = made
        return made
