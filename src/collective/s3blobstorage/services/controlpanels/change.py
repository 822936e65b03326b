"""``PATCH <site>/@controlpanels/s3blobstorage``: all that was sent, or nothing."""

from plone.registry.interfaces import IRegistry
from plone.restapi.deserializer import json_body
from plone.restapi.interfaces import IDeserializeFromJson
from zExceptions import BadRequest, Forbidden
from zope.component import adapter, getUtility
from zope.i18n import translate
from zope.interface import implementer
from zope.schema import getFieldNames
from zope.schema.interfaces import ValidationError

from ...controlpanel.bounds import bounds_of, upload_bounds_of
from ..guard import guard
from ..refusal import Refusal
from .interfaces import IDeliveryPanel
from .values import trouble


@implementer(IDeserializeFromJson)
@adapter(IDeliveryPanel)
class ChangeDelivery:
    """Writes what differs. Raises BadRequest with a message for each field that is wrong, as plone.restapi's own."""

    def __init__(self, panel):
        self.panel = panel
        self.context = panel.context
        self.request = panel.request

    def __call__(self, mask_validation_errors=True):
        if self.panel.schema is None:
            self.panel.update([])  # raises
        try:
            guard(self.request, self.context)
        except Refusal as refusal:
            raise (BadRequest if refusal.status == 415 else Forbidden)(refusal.message) from None
        sent = json_body(self.request)
        schema = self.panel.schema
        values, errors = {}, []
        for name in sent:
            if name not in schema:
                errors.append({"field": name, "message": f"{name} is none of the settings"})
        for name in getFieldNames(schema):
            if name in sent:
                try:
                    values[name] = _read(schema[name], sent[name])
                except ValidationError as error:
                    message = error.doc() or type(error).__name__
                    errors.append({"field": name, "message": translate(message, context=self.request)})
        for name, message in trouble(values, bounds_of(self.context), upload_bounds_of(self.context)).items():
            errors.append({"field": name, "message": translate(message, context=self.request)})
        if errors:
            raise BadRequest([error | {"error": "ValidationError"} for error in errors])
        records = getUtility(IRegistry).forInterface(schema, prefix=self.panel.schema_prefix)
        for name, value in values.items():
            if getattr(records, name) != value:
                setattr(records, name, value)


def _read(field, value):
    if isinstance(value, list):
        value = tuple(value)
    elif isinstance(value, dict) and "token" in value:  # as plone.restapi tells a choice
        value = value["token"]
    if value is None and not field.required:
        value = field.missing_value if field.missing_value is not None else field.default
    field.validate(value)
    return value
