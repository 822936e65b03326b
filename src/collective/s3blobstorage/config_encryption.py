"""The encryption sections inside ``<s3blobstorage>`` and ``<s3source>``, to what they ask for together.

ZConfig makes a section object of each while it parses; what they say is put together with the storage's settings, and
again before the storage is opened. Everything runs in the thread that parses or opens; no key is read from a file, a
program or a server here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from zope.interface import implementer

from . import config_keys, datatypes
from . import encryption_keys as keys
from .config_values import checked, required
from .encryption.configured import (
    NO_ENCRYPTION,
    ClientSideMode,
    CustomerKeysMode,
    Encryption,
    StoreMode,
    configured,
)
from .encryption.interfaces import (
    IEncryptionMode,
    IEncryptionSection,
    IKeyProvider,
    IKeySection,
    IServerSideEncryption,
)
from .encryption.key_sources import CommandKey, FileKey, KMSKey, ValueKey
from .encryption.managed import SSEKMS, SSES3
from .encryption.ring import is_key_id
from .errors import ConfigurationError

# The id of the key that s3-sse-customer-key gives, which has none of its own.
CUSTOMER_KEY = "customer-key"


def encryption_settings(section: Any, environ: Mapping[str, str], endpoint: str | None) -> Encryption | None:
    """What the encryption sections of a bucket's section, ``require-encryption`` and ``s3-sse-customer-key`` ask for.

    None where there is nothing of it. ``endpoint``: the store's address, where it is not AWS. Raises
    ConfigurationError where they contradict each other, or where a key would travel without TLS.
    """
    types = [each.type for each in section.encryption]
    twice = next((type for type in types if types.count(type) > 1), None)
    if twice is not None:
        raise ConfigurationError(f"<{twice}> is there twice; give it once, with all its keys in it")
    modes = [_mode(each, environ) for each in section.encryption]
    if section.s3_sse_customer_key is not None:
        # Last: beside a section it is how objects were written before.
        key = checked(section.s3_sse_customer_key, config_keys.s3_sse_customer_key, datatypes.key_bytes)
        provider = ValueKey(CUSTOMER_KEY, key, config_keys.s3_sse_customer_key.name)
        modes.append(CustomerKeysMode((provider,), CUSTOMER_KEY))
    if not modes and not section.require_encryption:
        return None
    found = configured(modes, required=section.require_encryption)
    for reader in (found.server_side, *found.readers):
        if reader.needs_tls:
            _check_tls(section, endpoint, f"<{reader.name}>" if reader.name in types else "s3-sse-customer-key")
    return found


def _mode(section: IEncryptionSection, environ: Mapping[str, str]) -> IEncryptionMode:
    try:
        return section.settings(environ)
    except ConfigurationError as error:
        raise ConfigurationError(f"<{section.type}>: {error}") from None


def _check_tls(section: Any, endpoint: str | None, what: str) -> None:
    without_tls = f"{what} sends the key with each request and so needs TLS, but"
    if not section.s3_use_ssl:
        raise ConfigurationError(f"{without_tls} s3-use-ssl is off. Example: s3-use-ssl on")
    if endpoint is not None and not endpoint.lower().startswith("https://"):
        key = config_keys.s3_endpoint_url
        raise ConfigurationError(
            f"{without_tls} the endpoint is {key.show(endpoint)}. Example: {key.name} {key.example}"
        )


class _Section:
    """What all have. ``config`` is ZConfig's."""

    def __init__(self, config: Any) -> None:
        self.config = config

    @property
    def type(self) -> str:
        return str(self.config.getSectionType())


# How objects are encrypted


@implementer(IEncryptionSection)
class NoEncryptionSection(_Section):
    """``<no-encryption>``"""

    def settings(self, environ: Mapping[str, str]) -> IEncryptionMode:
        return NO_ENCRYPTION


@implementer(IEncryptionSection)
class SSES3Section(_Section):
    """``<sse-s3>``"""

    def settings(self, environ: Mapping[str, str]) -> IEncryptionMode:
        return StoreMode("sse-s3", lambda required: SSES3(required=required))


@implementer(IEncryptionSection)
class SSEKMSSection(_Section):
    """``<sse-kms>``"""

    def settings(self, environ: Mapping[str, str]) -> IEncryptionMode:
        config = self.config
        if config.dsse and config.bucket_key:
            raise ConfigurationError(
                "bucket-key and dsse are both on, and DSSE has no bucket keys; set one of them off."
                " Example: bucket-key off"
            )

        def made(required: bool) -> IServerSideEncryption:
            return SSEKMS(
                config.kms_key_id,
                config.encryption_context or {},
                bucket_key=config.bucket_key,
                dsse=config.dsse,
                required=required,
            )

        return StoreMode("sse-kms", made)


@implementer(IEncryptionSection)
class SSECSection(_Section):
    """``<sse-c>``"""

    def settings(self, environ: Mapping[str, str]) -> IEncryptionMode:
        return CustomerKeysMode(*_ring(self.config, environ))


@implementer(IEncryptionSection)
class ClientSideSection(_Section):
    """``<client-side-encryption>``"""

    def settings(self, environ: Mapping[str, str]) -> IEncryptionMode:
        return ClientSideMode(*_ring(self.config, environ))


def _ring(config: Any, environ: Mapping[str, str]) -> tuple[tuple[IKeyProvider, ...], str]:
    """The section's keys, and the id of the active one."""
    providers = tuple(section.settings(environ) for section in config.keys)
    if not providers:
        raise ConfigurationError(
            f"it has no key; add a section <key 2026-11> to it, with one of file, value and command. {keys.file.advice}"
        )
    ids = [provider.id for provider in providers]
    wrong = next((id for id in ids if not is_key_id(id)), None)
    if wrong is not None:
        raise ConfigurationError(
            f"a key has the id {wrong!r}: objects name the key that they need, by 1 to 64 lower-case letters, digits,"
            " dots, hyphens and underscores, a letter or digit first. Example: <key 2026-11>"
        )
    active = config.active_key
    if active is None and len(ids) > 1:
        raise ConfigurationError(f"active-key is missing, and there are the keys {', '.join(ids)}. {_advice(ids)}")
    if active is not None and active not in ids:
        raise ConfigurationError(
            f"active-key {active!r} is none of the section's keys: {', '.join(ids)}. {_advice(ids)}"
        )
    return providers, active or ids[0]


def _advice(ids: Sequence[str]) -> str:
    return f"Example: active-key {ids[0]}"


# Where a key comes from


class _KeySection(_Section):
    @property
    def id(self) -> str:
        """The section's name, which ZConfig gives in lower case; whether it may be one is looked at with the others."""
        return self.config.getSectionName() or ""

    def placed(self, reason: str) -> ConfigurationError:
        return ConfigurationError(f"<{self.type} {self.id}>: {reason}")


@implementer(IKeySection)
class KeySection(_KeySection):
    """``<key ID>``"""

    def settings(self, environ: Mapping[str, str]) -> IKeyProvider:
        config, id = self.config, self.id
        given = [name for name in ("file", "value", "command") if getattr(config, name) is not None]
        if len(given) != 1:
            there = f"{' and '.join(given)} are given" if given else "none of file, value and command is given"
            raise self.placed(f"{there}; a key comes from one of them. Example: {keys.file.name} {keys.file.example}")
        try:
            if config.value is not None:
                return ValueKey(
                    id, checked(config.value, keys.value, datatypes.key_bytes), "value of the configuration"
                )
            if config.command is not None:
                return CommandKey(id, checked(config.command, keys.command, datatypes.words))
        except ConfigurationError as error:
            raise self.placed(str(error)) from None
        return FileKey(id, config.file)


@implementer(IKeySection)
class KMSKeySection(_KeySection):
    """``<kms-key ID>``"""

    def settings(self, environ: Mapping[str, str]) -> IKeyProvider:
        config, id = self.config, self.id
        try:
            kms_key_id = required(config.kms_key_id, keys.kms_key_id)
        except ConfigurationError as error:
            raise self.placed(str(error)) from None
        return KMSKey(id, kms_key_id, region=config.region, endpoint_url=config.endpoint_url, profile=config.profile)
