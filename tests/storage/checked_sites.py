"""Sites whose objects are damaged on purpose, and what an fsck says of them."""

from __future__ import annotations

import dataclasses
import json
import threading
from collections import Counter
from contextlib import nullcontext
from typing import Any

from rings import client_side, sse_c
from sites import Site, connected

from collective.s3blobstorage.maintenance.comparing import Comparison
from collective.s3blobstorage.maintenance.fsck.finding import Report
from collective.s3blobstorage.maintenance.fsck.run import Wish, fsck
from collective.s3blobstorage.maintenance.kept import KeptRevision, kept_revisions
from collective.s3blobstorage.maintenance.looks import looked_at
from collective.s3blobstorage.maintenance.scope import Scope
from collective.s3blobstorage.maintenance.spool import Spool
from collective.s3blobstorage.objectstore import open_store
from collective.s3blobstorage.settings import StoreSettings

ENCRYPTIONS = ("none", "client-side", "sse-c")
ONE, TWO = bytes(range(32)), bytes(range(1, 33))


def encrypted(store: StoreSettings, mode: str, tls: Any, *, required: bool = False, **keys: bytes) -> StoreSettings:
    """``tls``: tells the address with https, by which customers' keys have to go, and whom to trust."""
    if mode == "none":
        return store
    made = {"client-side": client_side, "sse-c": sse_c}[mode]
    store = dataclasses.replace(store, encryption=made(required=required, **(keys or {"one": ONE})))
    if mode == "sse-c":
        endpoint_url, ca_bundle = tls()
        return dataclasses.replace(store, endpoint_url=endpoint_url, ca_bundle=ca_bundle)
    return store


class Bucket:
    """Objects as they are stored, with the key that the store wants for SSE-C."""

    def __init__(self, store: StoreSettings) -> None:
        self.opened = open_store(store)
        self._encryption = self.opened.connection.encryption
        self._client = self.opened.connection.writer

    def _named(self, key: str) -> dict[str, Any]:
        return self.opened.connection.object(key)

    def get(self, key: str) -> tuple[bytes, dict[str, str]]:
        found = self._client.get_object(**self._named(key), **self._encryption.read_parameters())
        return found["Body"].read(), found["Metadata"]

    def put(self, key: str, data: bytes, metadata: dict[str, str] | None = None, **more: Any) -> None:
        written = more or self._encryption.write_parameters()
        self._client.put_object(**self._named(key), **written, Body=data, Metadata=metadata or {})

    def delete(self, key: str, **more: str) -> None:
        self._client.delete_object(**self._named(key), **more)

    def damage(self, key: str, kind: str) -> None:
        """So that an fsck finds it as that kind."""
        data, metadata = self.get(key)
        if kind == "missing":
            self.delete(key)
        elif kind == "truncated":
            self.put(key, data[: len(data) // 2], metadata)
        elif kind == "wrong-size":
            self.put(key, data + b"more", metadata)
        elif kind == "wrong-bytes":
            middle = len(data) // 2
            self.put(key, data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :], metadata)
        elif kind == "wrong-metadata":
            self.put(key, data, {**metadata, "oid": "00000000000000ff"})
        else:
            raise ValueError(kind)

    def close(self) -> None:
        self.opened.close()


class Checked:
    """A site that is open, with what its database needs; ``report`` and ``findings`` are of the last fsck."""

    def __init__(self, site: Site, **changes: Any) -> None:
        self.site = site
        self.db = site.db(**changes)
        self.storage = self.db.storage
        self.bucket = Bucket(site.settings.store)
        self.report = Report()
        self.findings: list[dict[str, Any]] = []
        self.orphans: list[str] = []

    def __enter__(self) -> Checked:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.bucket.close()

    def kept(self) -> list[KeptRevision]:
        with looked_at(self.storage._base) as base, Spool() as spool:
            return list(kept_revisions(base, Scope(), spool))

    def key(self, name: str) -> str:
        """Of the current revision of that blob of the root."""
        with connected(self.db) as connection:
            oid = connection.root()[name]._p_oid
        return [revision for revision in self.kept() if revision.oid == oid][-1].key

    def fsck(self, running: Any = None, **wish: Any) -> Counter[str]:
        """Findings by their kind. Everything else is in ``report``."""
        on = self.storage.operated()
        with Spool() as spool:
            run = Comparison(on.look, on.store, on.marker, None, wish.pop("scope", Scope()), spool)
            self.report = fsck(
                run,
                Wish(**wish),
                running or Quiet(),
                lambda base: nullcontext(on.overlay),
                lambda sources: nullcontext(on.cache),
            )
            self.findings = [json.loads(line) for line in self.report.each()]
            self.orphans = [key for key, _ in self.report.orphans()]
        return Counter({kind: number for kind, number in self.report.found.items() if number})


class Quiet:
    """An ``IRunning`` that tells nobody."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.phases: list[str] = []

    def phase(self, name, total=None, total_bytes=None):
        self.phases.append(name)
        return lambda count, size=0: None

    def log(self, message, level="info"):
        pass
