"""What somebody chose in the settings form: read, and judged by the schema and by what zope.conf allows. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from zope import schema
from zope.schema.interfaces import TooBig, TooSmall, ValidationError

from ..delivery.interfaces import IDeliverySettings
from ..delivery.policy import REDIRECT, STREAM, X_ACCEL
from ..settings import MODES, DeliverySettings
from .messages import _

EXPIRIES = ("delivery_expiry", "delivery_media_expiry")
_NUMBERS = ("delivery_minimum_size", *EXPIRIES)
_MIME_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]*/(?:\*|[a-z0-9][a-z0-9!#$&^_.+-]*)")


def why_not(mode: str, bounds: DeliverySettings | None) -> Any:
    """Why zope.conf rules a mode out, as a message; "" where it does not. ``bounds``: None where there is no bucket."""
    if mode == STREAM:
        return ""
    if bounds is None:
        return _("The files of this site are not in a bucket.")
    if mode not in bounds.modes:
        return _("zope.conf forbids it: add ${mode} to delivery-modes.", mapping={"mode": mode})
    if mode == X_ACCEL and bounds.x_accel_location is None:
        return _("zope.conf names no such nginx: set x-accel-location.")
    return ""


def longest(bounds: DeliverySettings | None) -> int:
    """Seconds for which an address may be good: the least of the schema's bound and of zope.conf's."""
    most = IDeliverySettings["delivery_expiry"].max
    return most if bounds is None else min(most, int(bounds.presign_max_expiry))


def no_addresses(bounds: DeliverySettings | None) -> bool:
    """Whether no mode that is allowed gives addresses in the bucket, so that their expiry says nothing."""
    return all(why_not(mode, bounds) for mode in (REDIRECT, X_ACCEL))


def read(
    form: Mapping[str, Any], bounds: DeliverySettings | None, types: Iterable[str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """(values by the names of ``IDeliverySettings``, messages by the same names): what is wrong has no value.

    ``types``: ids that may be chosen. What the form shows disabled is left out, as browsers leave it out.
    """
    values: dict[str, Any] = {}
    wrong: dict[str, Any] = {}
    mode = form.get("delivery_mode")
    if mode not in MODES:
        wrong["delivery_mode"] = _("Choose one of them.")
    elif why_not(mode, bounds):
        wrong["delivery_mode"] = why_not(mode, bounds)
    else:
        values["delivery_mode"] = mode
    for name in _NUMBERS:
        if name in EXPIRIES and no_addresses(bounds):
            continue
        most = longest(bounds) if name in EXPIRIES else None
        number, trouble = read_number(IDeliverySettings[name], form.get(name), most)
        if not trouble and most is not None and number > most:
            trouble = _("zope.conf allows ${most} at most (presign-max-expiry).", mapping={"most": most})
        if trouble:
            wrong[name] = trouble
        else:
            values[name] = number
    read_lists(form, "delivery", types, values, wrong)
    values["delivery_anonymous_only"] = bool(form.get("delivery_anonymous_only"))
    return values, wrong


def read_number(field: schema.Int, given: Any, most: int | None = None) -> tuple[int, Any]:
    """(number, what is wrong with it by the schema, else ""); ``most`` is what a message names as the bound."""
    text = str(given or "").strip()
    if not re.fullmatch(r"-?[0-9]{1,18}", text):
        return 0, _("Write a whole number.")
    number = int(text)
    try:
        field.validate(number)
    except TooSmall:
        return 0, _("At least ${least}.", mapping={"least": field.min})
    except TooBig:
        return 0, _("At most ${most}.", mapping={"most": field.max if most is None else most})
    except ValidationError as error:
        return 0, error.doc()
    return number, ""


def read_lists(
    form: Mapping[str, Any], part: str, types: Iterable[str], values: dict[str, Any], wrong: dict[str, Any]
) -> None:
    """The content types and MIME types of a part of the form, into ``values`` or ``wrong``.

    ``part``: what the names of its fields begin with, as ``delivery``.
    """
    read_types(form, part, types, values, wrong)
    lines = str(form.get(f"{part}_mime_types") or "").split()
    mime_types = tuple(dict.fromkeys(line.strip(",;").lower() for line in lines))
    if unfit := [name for name in mime_types if not _MIME_TYPE.fullmatch(name)]:
        wrong[f"{part}_mime_types"] = _(
            "${type} is no MIME type: write them as video/mp4 or video/*, one a line.", mapping={"type": unfit[0]}
        )
    else:
        values[f"{part}_mime_types"] = mime_types


def read_types(
    form: Mapping[str, Any], part: str, types: Iterable[str], values: dict[str, Any], wrong: dict[str, Any]
) -> None:
    """The content types alone, as ``read_lists``."""
    known = set(types)
    chosen = tuple(name for name in _listed(form.get(f"{part}_portal_types")) if name)
    if unknown := [name for name in chosen if name not in known]:
        wrong[f"{part}_portal_types"] = _("This site has no content type ${type}.", mapping={"type": unknown[0]})
    else:
        values[f"{part}_portal_types"] = chosen


def _listed(given: Any) -> list[str]:
    """A field that browsers send once for each choice; what else arrives is none."""
    if isinstance(given, str):
        return [given]
    return [str(each) for each in given] if isinstance(given, (list, tuple)) else []
