"""The signed requests of an upload as JSON. No request is made to the store, but for what is not known of it yet."""

from datetime import UTC, datetime

from ...controlpanel.bounds import bounds_of
from ...settings import DeliverySettings
from ..refusal import Refusal, bad_field

FIRST_PARTS = 8  # come with the answer to the start: a browser sends some six at the same time
MOST_PARTS = 200  # of one request: about 100 KB of an answer
SINGLE = ("put", "post")


def single_request(context, area, ticket, method):
    """``method``: ``put``, or ``post`` for the form of a page."""
    ask = area.put_request if method == "put" else area.post_request
    return _told(ask(ticket.upload, seconds=_seconds(context, ticket)))


def part_requests(context, area, ticket, numbers):
    seconds = _seconds(context, ticket)
    return [
        {"part": number, "size": ticket.upload.size_of(number)}
        | _told(area.part_request(ticket.upload, number, seconds=seconds))
        for number in numbers
    ]


def chosen_parts(body, upload):
    """The numbers that a body asks for. Raises Refusal: each is one of the announced size's parts."""
    numbers = body.get("parts")
    if not isinstance(numbers, list) or not 1 <= len(numbers) <= MOST_PARTS:
        raise bad_field("parts", f"is no list of 1 to {MOST_PARTS} numbers")
    if not all(type(number) is int and 1 <= number <= upload.parts for number in numbers):
        raise bad_field("parts", f"has what is no number from 1 to {upload.parts}")
    if len(set(numbers)) != len(numbers):
        raise bad_field("parts", "has a number twice")
    return numbers


def chosen_single(body):
    method = body.get("method", "put")
    if method not in SINGLE:
        raise bad_field("method", f"is none of {', '.join(SINGLE)}: this upload goes in one request")
    return method


def only_known(body, names):
    for name in body:
        if name not in names:
            raise Refusal(400, "BadRequest", f"there is no {name}; there are: {', '.join(names)}", field=name)


def upload_told(service, token, ticket):
    """What every answer about an upload says of it."""
    upload = ticket.upload
    return {
        "@id": service.url(service.name, token),
        "id": token,
        "filename": ticket.announced.filename,
        "content-type": ticket.announced.content_type,
        "size": upload.size,
        "part-size": upload.part_size or None,
        "parts": upload.parts or None,
        "expires": _stamp(ticket.expires),
    }


def _told(request):
    return {
        "method": request.method,
        "url": request.url,
        "headers": dict(request.headers),
        "fields": dict(request.fields),
        "expires": _stamp(request.expires),
    }


def _seconds(context, ticket):
    """For how long requests are signed: as zope.conf allows (``presign-max-expiry``), and not after the upload."""
    bounds = bounds_of(context) or DeliverySettings()
    left = (ticket.expires - datetime.now(UTC)).total_seconds()
    return max(int(min(bounds.presign_max_expiry, left)), 1)


def _stamp(moment):
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"
