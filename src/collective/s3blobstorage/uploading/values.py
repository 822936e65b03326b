"""What plone.restapi says of values that content does not take, in words for the editor."""

from plone.dexterity.utils import iterSchemataForType
from zope.i18n import translate
from zope.schema import getFields

from ..services.refusal import Refusal


def refusal_of_values(error, portal_type, request):
    """The ``Refusal`` for a BadRequest of plone.restapi about content of that type: each field by its title, in the
    language of the request; and the names of the fields for programs, as ``fields``."""
    given = error.args[0] if error.args else ()
    wrong = [each for each in given if isinstance(each, dict)] if isinstance(given, (list, tuple)) else []
    titles = {
        name: field.title for schema in iterSchemataForType(portal_type) for name, field in getFields(schema).items()
    }
    texts = []
    for each in wrong:
        title = translate(titles.get(each.get("field")) or "", context=request)
        message = translate(each.get("message") or "", context=request)
        texts.append(f"{title}: {message}" if title else str(message))
    fields = [each["field"] for each in wrong if each.get("field")]
    return Refusal(400, "BadRequest", " ".join(texts) or str(error), fields=fields)
