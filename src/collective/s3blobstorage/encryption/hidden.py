"""What is encrypted under a key and bound to its place: hidden metadata, envelopes, canaries, machine keys. Pure."""

from __future__ import annotations

import base64
import binascii
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ..errors import Corrupt
from .secret import SecretBytes

NONCE = 12
DIFFERENT = "The metadata of an encrypted object are damaged, or are those of another object."


def hide(key: bytes, value: bytes, object_key: str) -> str:
    """As metadata. ``key``: 32 bytes for this purpose; a nonce is drawn at random, for at most 2^32 values
    (NIST SP 800-38D, 8.3). Bound to the object's key."""
    return text_of(encrypted(key, value, object_key.encode()))


def find(key: bytes, text: str, object_key: str) -> bytes:
    """The reverse of ``hide``. Raises Corrupt."""
    return opened(key, bytes_of(text), object_key.encode())


def encrypted(key: bytes, value: bytes, bound: bytes) -> bytes:
    """AES-256-GCM under a nonce drawn at random, which stands in front; bound to ``bound``."""
    nonce = os.urandom(NONCE)
    return nonce + AESGCM(key).encrypt(nonce, value, bound)


def opened(key: bytes, data: bytes, bound: bytes) -> bytes:
    """The reverse of ``encrypted``. Raises Corrupt."""
    return decrypted(key, data[:NONCE], data[NONCE:], bound)


def decrypted(key: bytes, nonce: bytes, sealed: bytes, bound: bytes | None) -> bytes:
    """Raises Corrupt."""
    try:
        return SecretBytes(AESGCM(key).decrypt(nonce, sealed, bound))
    except (InvalidTag, ValueError):
        raise Corrupt(DIFFERENT) from None


def text_of(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def bytes_of(text: str) -> bytes:
    """The reverse of ``text_of``. Raises Corrupt."""
    try:
        data = base64.urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
    except (ValueError, binascii.Error):
        raise Corrupt(DIFFERENT) from None
    if text_of(data) != text:  # base64 can be written in many ways, and only one of them is ours
        raise Corrupt(DIFFERENT)
    return data
