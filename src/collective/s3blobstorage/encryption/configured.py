"""What the encryption sections of a storage or source ask for: each by itself a mode, and all together. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zope.interface import implementer

from .. import keys
from ..errors import ConfigurationError, EncryptionNotHonoured
from .customer_key import CustomerKey
from .interfaces import IEncryption, IEncryptionMode, IKeyProvider, IServerSideEncryption
from .none import NoEncryption
from .ring import KeyRing


@implementer(IEncryptionMode)
@dataclass(frozen=True, slots=True)
class StoreMode:
    """Objects are written as the store is asked to, and whoever may read them needs no key.

    ``made``: called with whether ``require-encryption`` is on.
    """

    name: str
    made: Callable[[bool], IServerSideEncryption]
    providers: tuple[IKeyProvider, ...] = ()
    active: str | None = None
    seals: bool = False

    def server_side(self, ring: KeyRing | None, required: bool) -> IServerSideEncryption:
        return self.made(required)

    def readers(self, ring: KeyRing | None) -> tuple[IServerSideEncryption, ...]:
        return ()


NO_ENCRYPTION = StoreMode("none", lambda required: NoEncryption())


@implementer(IEncryptionMode)
@dataclass(frozen=True, slots=True)
class CustomerKeysMode:
    """The store encrypts with keys of ours, which it is sent with each request (SSE-C)."""

    providers: tuple[IKeyProvider, ...]
    active: str
    name: str = "sse-c"
    seals: bool = False

    def server_side(self, ring: KeyRing, required: bool) -> IServerSideEncryption:
        return CustomerKey(ring, self.active)

    def readers(self, ring: KeyRing) -> tuple[IServerSideEncryption, ...]:
        ids = [provider.id for provider in self.providers]
        return tuple(CustomerKey(ring, id) for id in sorted(ids, key=lambda id: id != self.active))


@implementer(IEncryptionMode)
@dataclass(frozen=True, slots=True)
class ClientSideMode:
    """Blobs are sealed here, so that the store needs to know nothing of it."""

    providers: tuple[IKeyProvider, ...]
    active: str
    name: str = "client-side"
    seals: bool = True

    def server_side(self, ring: KeyRing, required: bool) -> IServerSideEncryption:
        return NoEncryption()

    def readers(self, ring: KeyRing) -> tuple[IServerSideEncryption, ...]:
        return ()


@implementer(IServerSideEncryption)
class ExceptBlobs:
    """Another encryption, for what is not a blob: with ``require-encryption``, how bookkeeping may have been written.

    Owner marker and gc's notes stay as they were written, in an earlier way or in clear. They hold no content, and a
    storage that could not read them would not open.
    """

    def __init__(self, encryption: IServerSideEncryption) -> None:
        self._encryption = encryption

    def __repr__(self) -> str:
        return f"<ExceptBlobs {self._encryption!r}>"

    def __getattr__(self, name: str) -> Any:
        return getattr(self._encryption, name)

    def check_read(self, key: str, response: Mapping[str, Any]) -> None:
        if key.startswith(keys.BYTES):
            raise EncryptionNotHonoured(
                "An object is not encrypted as the first encryption section asks for, and require-encryption is on."
            )
        self._encryption.check_read(key, response)


@implementer(IEncryption)
@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Encryption:
    """See ``IEncryption``; made by ``configured``. Two of them are never equal, since their rings are not."""

    name: str
    server_side: IServerSideEncryption
    readers: tuple[IServerSideEncryption, ...]
    ring: KeyRing | None
    seals: bool
    required: bool

    def __repr__(self) -> str:
        ids = [] if self.ring is None else list(self.ring.ids)
        return f"<{' '.join(['Encryption', self.name, *ids, *(['required'] if self.required else [])])}>"


def configured(modes: Sequence[IEncryptionMode], *, required: bool = False) -> Encryption:
    """Of the sections in their order. ``required``: ``require-encryption``. Reads no key.

    Raises ConfigurationError where they contradict each other.
    """
    first = modes[0] if modes else NO_ENCRYPTION
    if required and first.name == NO_ENCRYPTION.name:
        why = "the first section is <no-encryption>" if modes else "no section says how blobs are encrypted"
        raise ConfigurationError(
            f"require-encryption is on, but {why}; add one before everything else, or set require-encryption off."
            " Example: <sse-s3/>"
        )
    ring = _ring(modes)
    server_side = first.server_side(ring, required)
    readers = list(first.readers(ring)) or [server_side]
    for mode in modes[1:]:
        earlier = mode.readers(ring)
        readers += map(ExceptBlobs, earlier) if required and mode.name != first.name else earlier
    if all(reader.own_key for reader in readers):
        # Asked without a key an object shows itself, be it in clear, sealed, or encrypted by the store's own keys.
        readers.append(ExceptBlobs(NoEncryption()) if required else NoEncryption())
    return Encryption(first.name, server_side, tuple(readers), ring, first.seals, required)


def _ring(modes: Sequence[IEncryptionMode]) -> KeyRing | None:
    providers = [provider for mode in modes for provider in mode.providers]
    ids = [provider.id for provider in providers]
    twice = next((id for id in ids if ids.count(id) > 1), None)
    if twice is not None:
        raise ConfigurationError(
            f"two keys have the id {twice!r}: objects name the key that they need, so give each an id of its own."
            " Example: <key 2026-11>"
        )
    active = next((mode.active for mode in modes if mode.providers), None)
    modes_of = {provider.id: mode.name for mode in modes for provider in mode.providers}
    return None if active is None else KeyRing(providers, active, modes_of)
