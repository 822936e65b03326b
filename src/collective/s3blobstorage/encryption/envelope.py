"""The data key of a sealed object, and how it is kept in the object's metadata. Pure.

Each object has a key of its own, drawn at random. A key of the ring wraps it; the envelope goes into the metadata and
is bound to the object's key under the prefix (oid and name), so that nobody can put one object in another's place.
Rotation replaces the envelope and moves no byte. docs/encryption.md has the format, with test vectors.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ..errors import Corrupt
from .hidden import DIFFERENT, NONCE, bytes_of, decrypted, encrypted, opened, text_of
from .ring import KEY, KeyRing, RingKey, derived
from .secret import SecretBytes
from .segments import COMMITMENT, NEWER, SegmentCipher

SEALED = "sealed"  # names in the object's metadata
SEALED_SHA256 = "sealed-sha256"

_FORMAT = "1"
_NEWER = re.compile(r"(?!1 )[1-9][0-9]* .*", re.DOTALL)
_ENVELOPE = re.compile(r"1 ([A-Za-z0-9][A-Za-z0-9._-]{0,63}/[0-9a-f]{8}) ([A-Za-z0-9_-]{80})")


class DataKey:
    """Of one object: what encrypts its segments, what the header repeats, and what hides its hash."""

    __slots__ = ("_key", "cipher", "commitment")

    def __init__(self, key: bytes) -> None:
        self._key = SecretBytes(key)
        self.cipher = SegmentCipher(derived(key, "segments"))
        # AES-GCM alone would open with more than one key; this hash opens with one (RFC 9771, "key commitment").
        self.commitment = bytes(derived(key, "commitment", COMMITMENT))

    @classmethod
    def draw(cls) -> DataKey:
        return cls(SecretBytes(os.urandom(KEY)))

    def wrapped(self, by: RingKey, object_key: str) -> str:
        """The envelope, as metadata. ``object_key``: relative to the prefix."""
        sealed = encrypted(by.derived("wrap"), self._key, _bound(by.name, object_key))
        return f"{_FORMAT} {by.name} {text_of(sealed)}"

    def hide(self, sha256: bytes) -> str:
        """The SHA-256 of the plain text, as metadata: only who has the key can read or compare it."""
        # The key made for this encrypts nothing else, and an object has one hash: any nonce is used once.
        return text_of(AESGCM(derived(self._key, "sha256")).encrypt(bytes(NONCE), sha256, None))

    def unhide(self, text: str) -> bytes:
        """Raises Corrupt."""
        # Plain bytes: a hash is no key, and goes into ZODB records.
        return bytes(decrypted(derived(self._key, "sha256"), bytes(NONCE), bytes_of(text), None))


def key_name(metadata: Mapping[str, str]) -> str | None:
    """The ``RingKey.name`` of the key that an object is sealed with; None: it is not sealed. Raises Corrupt."""
    text = metadata.get(SEALED)
    return None if text is None else _parsed(text)[0]


def unwrap(ring: KeyRing, text: str, object_key: str) -> DataKey:
    """The data key in an envelope. Raises Corrupt, EncryptionKeyMissing, and what reading a key raises."""
    name, sealed = _parsed(text)
    by = ring.named(name)
    return DataKey(opened(by.derived("wrap"), sealed, _bound(name, object_key)))


def _parsed(text: str) -> tuple[str, bytes]:
    found = _ENVELOPE.fullmatch(text)
    if found is None:
        raise Corrupt(NEWER if _NEWER.fullmatch(text) else DIFFERENT)
    return found[1], bytes_of(found[2])


def _bound(key_name: str, object_key: str) -> bytes:
    return f"{_FORMAT}\0{key_name}\0{object_key}".encode()
