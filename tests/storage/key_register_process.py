"""A process that opens a key ring, as ``test_key_register.py`` starts several of at one moment.

It reads one line of JSON: ``store``; ``keys``, from id to 64 hex digits, or to null for a key that somebody wraps;
``active``. It prints ``ready``, waits for a line, opens, and prints what came of it as JSON.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from rings import GivenKey
from zope.interface import implementer

from collective.s3blobstorage.encryption.interfaces import IKeyProvider
from collective.s3blobstorage.encryption.register import open_ring
from collective.s3blobstorage.encryption.ring import KeyRing
from collective.s3blobstorage.errors import S3BlobStorageError
from collective.s3blobstorage.objectstore import open_store
from collective.s3blobstorage.settings import StoreSettings


@implementer(IKeyProvider)
class Wrapping:
    """Somebody who wraps keys, as a KMS does: here with a key of the tests'. ``made``: how many."""

    keeps = True

    def __init__(self, id: str) -> None:
        self.id = id
        self.source = "vault of the tests"
        self.made = 0
        self._cipher = AESGCM(b"w" * 32)

    def material(self, kept: bytes | None) -> bytes:
        assert kept is not None
        return self._cipher.decrypt(kept[:12], kept[12:], self.id.encode())

    def make(self) -> bytes:
        self.made += 1
        nonce = os.urandom(12)
        return nonce + self._cipher.encrypt(nonce, os.urandom(32), self.id.encode())


def ring_of(keys: dict[str, str | None], active: str) -> KeyRing:
    given = (GivenKey(id, bytes.fromhex(key), f"given for {id}") if key else Wrapping(id) for id, key in keys.items())
    return KeyRing(list(given), active)


def as_json(settings: StoreSettings) -> dict[str, Any]:
    given = {
        "bucket": settings.bucket,
        "prefix": settings.prefix,
        "endpoint_url": settings.endpoint_url,
        "region": settings.region,
        "access_key": settings.access_key,
        "secret_key": settings.secret_key,
    }
    return given | ({"ca_bundle": str(settings.ca_bundle)} if settings.ca_bundle else {})


def main() -> None:
    given = json.loads(sys.stdin.readline())
    store = given["store"] | {name: Path(path) for name, path in given["store"].items() if name == "ca_bundle"}
    ring = ring_of(given["keys"], given["active"])
    with closing(open_store(StoreSettings(**store))) as opened:
        print("ready", flush=True)
        sys.stdin.readline()
        try:
            entries = open_ring(opened, ring, "client-side", writable=True)
        except S3BlobStorageError as error:
            print(json.dumps({"error": str(error)}), flush=True)
            return
        told = {"keys": [key.name for key in ring], "versions": {entry.id: entry.version for entry in entries}}
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
