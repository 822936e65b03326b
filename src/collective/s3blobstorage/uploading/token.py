"""The token of an upload: a ``Ticket`` as text, which only this site can write.

It is a segment of a path. Whoever has it can do nothing by that alone: each use compares the user, the site, the
database and the container with the ticket, and asks whether the upload is still open.

Format 1: base64url, without ``=``, of the byte 1, 32 bytes of HMAC-SHA256 over all that follows, and a JSON array. The
key is made of a secret of the site's key ring (plone.keyring, ``_system``) and a label, so that nothing else that the
ring signs can be taken for a token. Older secrets of the ring are good as long as the ring has them.

In the request's thread; no request to a store.
"""

import base64
import binascii
import hashlib
import hmac
import json
from datetime import UTC, datetime

from plone.keyring.interfaces import IKeyManager
from zope.component import getUtility
from zope.i18nmessageid import MessageFactory

from ..directupload.interfaces import Upload
from .interfaces import Announced, Ticket, UploadRefused

_ = MessageFactory("collective.s3blobstorage")

_FORMAT = b"\x01"
_LABEL = b"collective.s3blobstorage direct upload"
_MAC = hashlib.sha256().digest_size
LONGEST = 8192  # characters; what proxies take as a line of a request


def sign(ticket):
    """The token, with the ring's current secret. ValueError where it were too long for an address."""
    upload, announced = ticket.upload, ticket.announced
    values = [
        upload.id,
        upload.size,
        upload.part_size,
        upload.multipart,
        _seconds(upload.begun),
        upload.sha256.hex() if upload.sha256 else "",
        announced.filename,
        announced.content_type,
        announced.portal_type,
        announced.field,
        announced.replaces,
        ticket.user,
        ticket.database,
        ticket.site,
        ticket.container,
        _seconds(ticket.expires),
    ]
    if announced.size != upload.size:
        raise ValueError("what was announced is not what was begun")
    payload = json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode()
    key = _key(getUtility(IKeyManager).secret())
    text = base64.urlsafe_b64encode(_FORMAT + _mac(key, payload) + payload).rstrip(b"=").decode("ascii")
    if len(text) > LONGEST:
        raise ValueError("the token is too long for an address")
    return text


def read(text, *, now=None):
    """The ``Ticket``. UploadRefused of kind ``token`` for what is no token of this site, ``expired`` after its time.

    :param now: with a zone; None: this machine's clock
    """
    payload = _verified(text)
    if payload is None:
        raise UploadRefused(_("There is no such upload here."), "token")
    ticket = _ticket(json.loads(payload))
    if ticket.expires <= (now or datetime.now(UTC)):
        raise UploadRefused(_("The time for this upload is over. Please begin it again."), "expired")
    return ticket


def _verified(text):
    """The bytes that were signed; None where they were not. Nothing of them is looked at before."""
    if len(text) > LONGEST or not text.isascii():
        return None
    try:
        raw = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    # One token has one form: bits that base64 does not use, or its other alphabet, make another text of the same bytes.
    if base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii") != text or raw[:1] != _FORMAT:
        return None
    mac, payload = raw[1 : 1 + _MAC], raw[1 + _MAC :]
    secrets = [secret for secret in getUtility(IKeyManager)["_system"] if secret]
    # All of them each time: how long it takes does not tell which one it was.
    good = [hmac.compare_digest(mac, _mac(_key(secret), payload)) for secret in secrets]
    return payload if any(good) else None


def _ticket(values):
    (id, size, part_size, multipart, begun, sha256, filename, content_type, portal_type, field, replaces,
     user, database, site, container, expires) = values  # fmt: skip
    return Ticket(
        Upload(id, size, part_size, multipart, _time(begun), bytes.fromhex(sha256) or None),
        Announced(filename, size, content_type, portal_type, field, replaces),
        user,
        database,
        site,
        container,
        _time(expires),
    )


def _key(secret):
    return hmac.digest(secret.encode(), _LABEL, "sha256")


def _mac(key, payload):
    return hmac.digest(key, _FORMAT + payload, "sha256")


def _seconds(moment):
    """Whole ones: no time of a ticket needs more."""
    return int(moment.timestamp())


def _time(seconds):
    return datetime.fromtimestamp(seconds, UTC)
