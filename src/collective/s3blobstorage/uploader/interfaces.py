"""The contract between the pages that have an uploader and the script that is one.

A page has an element for each, which holds what works without JavaScript, and which the script replaces::

    <div data-s3blobs-uploader='{"kind": "page", …}'> … the plain form … </div>

with the script and the style of ``++resource++collective.s3blobstorage.uploader`` beside it. There is no inline script,
so that it works under a strict Content-Security-Policy. The attribute is a JSON object, an ``UploaderSettings``:

``kind``: ``page``, or ``field`` of a form
``place``: address of the container, or of the content whose file is replaced, with ``++api++``: ``@blob-upload`` and
    plone.restapi are asked there. In an add form: of the container
``send``: address of ``@@upload-file`` of the same place, which takes a file the normal way
``authenticator``: that ``@@upload-file`` wants as ``_authenticator``
``maximum-size``: bytes that direct upload takes; null where nobody has set a bound
``normal-maximum-size``: bytes that Zope takes in one request, whose files all count (``form-disk-limit``)
``mime-types``: as ``video/mp4`` or ``video/*``, of direct upload; empty: all
``language``: of the user, as ``de`` or ``pt-br``; ``rtl``: whether it is written from right to left
``user``: a text that differs between users and sites, and says nothing of them: what the browser remembers of an
    unfinished upload is kept under it
``login``: address of the login form
``words``: texts by the names that ``words.py`` has, in the user's language, with ``${name}`` for what differs

Of a ``page`` besides:

``types``: the types of content that a file can become here, in the order of the site, each ``{"name", "title", "field",
    "image": whether its field takes pictures only, "mode"}``
``folders``: name of the type of content that a dropped folder becomes; null where the user may add none

Of a ``field`` besides:

``type``: ``{"name", "title", "field", "image", "mode"}`` of the content and this field
``replaces``: whether ``place`` is the content whose file is replaced
``input``: name of the file's input in the form, as ``form.widgets.file``
``accept``: what the field accepts, as ``["image/*", ".svg"]``; empty: all
``required``: whether the form wants a file
``chosen``: ``{"upload", "name", "size"}`` (token, text, bytes) of an upload that the form was sent with, and that is
    still good, where it is shown again because of another error; null else. Nothing is sent anew then: the field shows
    that file as uploaded, with the two inputs below. Without the script, a radio button with its hidden input does

``mode`` is ``direct`` where the site has direct upload on for that type of content, else ``normal``: then the file goes
through Zope, with the form or to ``@@upload-file``, and it all looks the same.

A field of mode ``direct`` uploads at once. When all is sent, the script puts the upload's token into a hidden input
``{input}.upload`` and sets ``{input}.action`` to ``direct``; until then the form is not sent. The token is what
``@blob-upload`` gave for this user, place, type and field, and the form completes the upload (``field.py``).
"""

from plone.formwidget.namedfile.interfaces import INamedFileWidget, INamedImageWidget
from zope import schema
from zope.i18nmessageid import MessageFactory
from zope.interface import Interface

_ = MessageFactory("collective.s3blobstorage")


class IUploaderSettings(Interface):
    """What a site's owner decides about the uploader, in the registry. It changes no way that a file goes."""

    uploader_enabled = schema.Bool(
        title=_("Show the uploader on pages and forms"),
        description=_("Folders have a page “Upload files”, and file fields show progress. Off: Plone’s own fields."),
        default=True,
        required=False,
    )
    uploader_portal_types = schema.Tuple(
        title=_("Content types that have the uploader"),
        description=_("Empty: all types with a file or an image."),
        value_type=schema.ASCIILine(),
        default=(),
        missing_value=(),
        required=False,
    )


class IUploaderWidget(INamedFileWidget):
    """Plone's widget of a file, inside the element of an uploader on forms that add or edit content."""


class IUploaderImageWidget(IUploaderWidget, INamedImageWidget):
    """The same of an image."""
