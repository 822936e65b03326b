"""The field. Only who may operate the blobs changes it: others see it, so that they know."""

from plone.autoform import directives
from plone.autoform.interfaces import IFormFieldProvider
from plone.supermodel import model
from zope import schema
from zope.i18nmessageid import MessageFactory
from zope.interface import provider

_ = MessageFactory("collective.s3blobstorage")


@provider(IFormFieldProvider)
class ILegalHold(model.Schema):
    """Enabled on a type by its name, ``collective.s3blobstorage.legal_hold``. No type has it by default."""

    model.fieldset("settings", fields=["legal_hold"])
    directives.write_permission(legal_hold="collective.s3blobstorage.Operate")
    legal_hold = schema.Bool(
        title=_("Legal hold"),
        description=_(
            "The files are kept in the object store whatever becomes of this item, until an operator releases them."
        ),
        required=False,
        default=False,
    )
