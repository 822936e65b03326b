"""A key source for collective.s3blobstorage: keys that the transit engine of HashiCorp Vault (or OpenBao) wraps.

    %import vault_key
    …
      <client-side-encryption>
        <vault-key 2026-11>
          transit-key plone-blobs
          token-file /run/secrets/vault-token
        </vault-key>
      </client-side-encryption>

Vault makes a key once, the bucket keeps it as Vault wrapped it, and each process asks Vault for it when it starts. The
token's policy needs ``update`` on ``transit/datakey/plaintext/plone-blobs`` (only where keys are added) and on
``transit/decrypt/plone-blobs``.

Protocol: Vault's HTTP API, "Transit secrets engine": "Generate data key" and "Decrypt data".
"""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from typing import Any

from zope.interface import implementer

from collective.s3blobstorage.encryption.interfaces import IKeyProvider, IKeySection
from collective.s3blobstorage.encryption.secret import SecretBytes
from collective.s3blobstorage.errors import ConfigurationError, Unavailable

SECONDS = 10.0  # while a storage opens: Vault answers within milliseconds, or not at all


@implementer(IKeySection)
class VaultKeySection:
    """What ZConfig makes of ``<vault-key ID>``."""

    def __init__(self, config: Any) -> None:
        self.config = config

    def settings(self, environ: Mapping[str, str]) -> IKeyProvider:
        config = self.config
        # Not refused here where it is missing: zope.conf's <environment> is set between parsing and opening.
        address = config.address or environ.get("VAULT_ADDR") or ""
        return VaultKey(config.getSectionName() or "", address, config.mount, config.transit_key, config.token_file)


@implementer(IKeyProvider)
class VaultKey:
    keeps = True

    def __init__(self, id: str, address: str, mount: str, transit_key: str, token_file: str) -> None:
        self.id = id
        self.source = f"Vault {mount}/{transit_key}"
        self._address = address.rstrip("/")
        self._mount = mount
        self._transit_key = transit_key
        self._token_file = token_file

    def __repr__(self) -> str:
        return f"<VaultKey {self.id} {self.source}>"

    def make(self) -> bytes:
        return self._ask("datakey/plaintext", {"bits": 256})["ciphertext"].encode("ascii")

    def material(self, kept: bytes | None) -> bytes:
        if kept is None:
            raise ConfigurationError(f"<vault-key {self.id}>: the bucket has no such key; s3blobs keys add {self.id}")
        return SecretBytes(base64.b64decode(self._ask("decrypt", {"ciphertext": kept.decode("ascii")})["plaintext"]))

    def _ask(self, what: str, body: Mapping[str, Any]) -> dict[str, Any]:
        where = f"<vault-key {self.id}>: {self.source}"
        if not self._address:
            raise ConfigurationError(f"{where}: address is missing, and VAULT_ADDR is not set")
        try:
            with open(self._token_file, encoding="ascii") as file:
                token = file.read().strip()
        except OSError as error:
            raise ConfigurationError(f"{where}: token-file cannot be read: {error.strerror}") from None
        request = urllib.request.Request(
            f"{self._address}/v1/{self._mount}/{what}/{urllib.parse.quote(self._transit_key, safe='')}",
            data=json.dumps(body).encode(),
            headers={"X-Vault-Token": token, "Content-Type": "application/json"},
            method="POST",
        )
        try:
            with urllib.request.urlopen(request, timeout=SECONDS) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            if error.code >= 500 or error.code == 429:  # sealed, standby, too many requests
                raise Unavailable(f"{where} answers {error.code}") from None
            raise ConfigurationError(
                f"{where} answers {error.code}; correct transit-key, or let the token's policy allow it"
            ) from None
        except (OSError, ValueError, KeyError) as error:
            raise Unavailable(f"{where} cannot be asked ({type(error).__name__})") from None
