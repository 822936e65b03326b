"""What metadata hide from whoever reads the bucket without the keys. Pure."""

from __future__ import annotations

import base64
import binascii
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ..errors import Corrupt
from .secret import SecretBytes

NONCE = 12
_DIFFERENT = "The metadata of an encrypted object are damaged, or are those of another object."


def hide(key: bytes, value: bytes, object_key: str) -> str:
    """As metadata. ``key``: 32 bytes for this purpose; a nonce is drawn at random, for at most 2^32 values
    (NIST SP 800-38D, 8.3). Bound to the object's key."""
    nonce = os.urandom(NONCE)
    return text_of(nonce + AESGCM(key).encrypt(nonce, value, object_key.encode()))


def find(key: bytes, text: str, object_key: str) -> bytes:
    """The reverse of ``hide``. Raises Corrupt."""
    data = bytes_of(text)
    return decrypted(key, data[:NONCE], data[NONCE:], object_key.encode())


def decrypted(key: bytes, nonce: bytes, sealed: bytes, bound: bytes | None) -> bytes:
    """Raises Corrupt."""
    try:
        return SecretBytes(AESGCM(key).decrypt(nonce, sealed, bound))
    except (InvalidTag, ValueError):
        raise Corrupt(_DIFFERENT) from None


def text_of(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def bytes_of(text: str) -> bytes:
    """The reverse of ``text_of``. Raises Corrupt."""
    try:
        data = base64.urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
    except (ValueError, binascii.Error):
        raise Corrupt(_DIFFERENT) from None
    if text_of(data) != text:  # base64 can be written in many ways, and only one of them is ours
        raise Corrupt(_DIFFERENT)
    return data
