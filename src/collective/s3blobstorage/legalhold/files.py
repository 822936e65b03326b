"""The blobs of an item's fields, whoever may see them."""

from Acquisition import aq_base
from plone.dexterity.utils import iterSchemata
from plone.namedfile.interfaces import IBlobby
from zope.schema import getFieldsInOrder

from .behavior import ILegalHold


def named_files_of(content):
    """(name of the field, file) of each field that has a file in a blob."""
    for schema in iterSchemata(content):
        for name, _ in getFieldsInOrder(schema):
            file = getattr(aq_base(content), name, None)
            if IBlobby.providedBy(file):
                yield name, file


def blobs_of(content):
    """(name of the field, oid) of each that is committed."""
    for name, file in named_files_of(content):
        if file._blob._p_oid is not None:
            yield name, file._blob._p_oid


def is_wanted(content):
    """What the item's field says; None where its type has not the behaviour."""
    if not ILegalHold.providedBy(content):
        return None
    return bool(getattr(aq_base(content), "legal_hold", False))
