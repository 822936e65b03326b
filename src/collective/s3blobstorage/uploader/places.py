"""Which content a field of a form belongs to: only forms that add or edit Dexterity content have the uploader."""

from dataclasses import dataclass
from typing import Any

from plone.base.interfaces import IPloneSiteRoot
from plone.dexterity.browser.add import DefaultAddForm
from plone.dexterity.browser.edit import DefaultEditForm
from plone.dexterity.interfaces import IDexterityContent
from plone.dexterity.utils import iterSchemata, iterSchemataForType
from z3c.form.interfaces import IGroup
from zope.schema import getFields

from ..uploading.places import FileField, file_fields


@dataclass(frozen=True, slots=True)
class FormPlace:
    """``context``: the container, or the content whose file is replaced. ``field``: as uploads name it."""

    context: Any
    portal_type: str
    field: FileField
    replaces: bool


def place_of(form, field):
    """The ``FormPlace`` of a field on a form, or in a group of one; None of all other forms.

    Also where two schemata of a type have a file of that name: of these an upload knows the first one only.
    In the request's thread; no request to a store.
    """
    while IGroup.providedBy(form):
        form = form.__parent__
    if isinstance(form, DefaultAddForm):
        context, portal_type, replaces = form.container, form.portal_type, False
        schemata = list(iterSchemataForType(portal_type)) if portal_type else []
    elif isinstance(form, DefaultEditForm):
        context, replaces = form.getContent(), True
        if not IDexterityContent.providedBy(context) or IPloneSiteRoot.providedBy(context):
            return None
        portal_type, schemata = context.portal_type, list(iterSchemata(context))
    else:
        return None
    name = field.__name__
    found = next((one for one in file_fields(schemata) if one.name == name), None)
    first = next((schema for schema in schemata if name in getFields(schema)), None)
    if found is None or first[name].interface is not field.interface:
        return None
    return FormPlace(context, portal_type, found, replaces)
