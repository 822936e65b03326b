"""The keys of a storage: one that writes, others that still read.

What a key is given for (wrapping data keys, hiding hashes, proving itself by a canary) never uses its bytes as they
are: HKDF (RFC 5869, SHA-256) makes a key of its own for each purpose. Only SSE-C sends the bytes themselves, since that
is its protocol.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ..errors import ConfigurationError, EncryptionKeyMissing
from .interfaces import IKeyProvider
from .secret import SecretBytes

KEY = 32

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_DOMAIN = b"collective.s3blobstorage/1/"


def is_key_id(text: str) -> bool:
    """Whether it may be the id of a key: it becomes part of metadata and of an object's key."""
    return _ID.fullmatch(text) is not None


def derived(key: bytes, purpose: str, size: int = KEY) -> SecretBytes:
    """A key for one purpose: HKDF-SHA256 without salt (the input is uniformly random), the purpose as its info."""
    made = HKDF(algorithm=hashes.SHA256(), length=size, salt=None, info=_DOMAIN + purpose.encode()).derive(key)
    return SecretBytes(made)


class RingKey:
    """One key of 32 bytes. Constant, from any thread.

    ``version``: 8 hex digits made of the bytes, which say nothing about them: two keys that were given one id by
    mistake are told apart by it.
    """

    def __init__(self, id: str, material: bytes) -> None:
        material = SecretBytes(material)  # before anything is raised: reports of errors show local variables
        if len(material) != KEY:
            raise ConfigurationError(f"the key {id} has {len(material)} bytes, and must have {KEY}")
        self.id = id
        self.material = material
        self._derived: dict[str, SecretBytes] = {}  # threads may make one twice, and it is the same

    def __repr__(self) -> str:
        return f"<RingKey {self.name}>"

    @cached_property
    def version(self) -> str:
        return derived(self.material, "version", 4).hex()

    @property
    def name(self) -> str:
        """Id and version, as objects name it."""
        return f"{self.id}/{self.version}"

    def derived(self, purpose: str) -> SecretBytes:
        made = self._derived.get(purpose)
        if made is None:
            made = self._derived[purpose] = derived(self.material, purpose)
        return made


class KeyRing:
    """The keys that a section names, each read when it is first needed, or all by ``load``. From any thread.

    ``active``: the id of the one that writes. ``modes``: for each id the name of the encryption that it is for, where
    they are not all for one. ``kept_of(id)`` gives what the bucket keeps for a key whose bytes are
    wrapped by somebody else (``IKeyProvider.keeps``), None where it keeps nothing; set by whoever opens the store.
    """

    def __init__(self, providers: Sequence[IKeyProvider], active: str, modes: Mapping[str, str] | None = None) -> None:
        self.providers = {provider.id: provider for provider in providers}
        self.active_id = active
        self.modes = dict(modes or {})
        self.kept_of: Callable[[str], bytes | None] = _nothing
        self.on_load: Callable[[RingKey], None] = _ignored  # told of each key as soon as it is read
        self._keys: dict[str, RingKey] = {}
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<KeyRing {self.active_id} of {' '.join(self.providers)}>"

    @property
    def ids(self) -> tuple[str, ...]:
        """The active one first, then in the order of the section."""
        return (self.active_id, *(id for id in self.providers if id != self.active_id))

    def key(self, id: str) -> RingKey:
        """Raises EncryptionKeyMissing where the ring has no such key, and what its provider raises."""
        found = self._keys.get(id)
        if found is not None:
            return found
        provider = self.providers.get(id)
        if provider is None:
            raise EncryptionKeyMissing(id)
        with self._lock:
            if id not in self._keys:
                read = RingKey(id, provider.material(self.kept_of(id) if provider.keeps else None))
                self._check_new(read)
                self.on_load(read)
                self._keys[id] = read
            return self._keys[id]

    def _check_new(self, read: RingKey) -> None:
        """A key under two ids: rotating from the one to the other would change nothing, and retire what is in use."""
        same = next((id for id, key in self._keys.items() if key.material == read.material), None)
        if same is not None:
            raise ConfigurationError(
                f"the keys {same} and {read.id} are the same; give each id a key of its own, made with:"
                " s3blobs keys generate"
            )

    @property
    def active(self) -> RingKey:
        return self.key(self.active_id)

    def load(self) -> None:
        """Read every key now: before the first request, a file that is missing is a sentence at start."""
        for id in self.providers:
            self.key(id)

    def __iter__(self) -> Iterator[RingKey]:
        """The active key first."""
        return map(self.key, self.ids)

    def named(self, name: str) -> RingKey:
        """The key of that ``RingKey.name``. Raises EncryptionKeyMissing also where the id is another key's by now."""
        id, _, version = name.partition("/")
        found = self.key(id)
        if found.version != version:
            raise EncryptionKeyMissing(id, other=True)
        return found


def _nothing(id: str) -> bytes | None:
    return None


def _ignored(key: RingKey) -> None:
    return None
