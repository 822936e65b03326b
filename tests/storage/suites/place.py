"""Where the suites run: the S3 server, PostgreSQL, and the folder and prefix of the test at hand.

Upstream suites call factories with fixed arguments, so what a factory needs besides is kept here. One test runs at a
time, in the main thread.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fixtures_servers import s3_client
from rings import encrypted, section_of, variables_of
from servers.ministack import MiniStack
from servers.postgresql import PostgreSQL

from collective.s3blobstorage.settings import StorageSettings, StoreSettings
from collective.s3blobstorage.storage import open_storage

BUCKET = "upstream-suites"

_numbers = itertools.count(1)


class Place:
    """The servers of the session, and what belongs to the running test."""

    def __init__(self) -> None:
        self.s3: MiniStack | None = None
        self.postgresql: PostgreSQL | None = None
        self.endpoint_url = ""
        self.ca_bundle: Path | None = None
        self.encrypt: str | None = None  # see --encrypt
        self.folder = Path()
        self.cache_encrypt = False
        self._prefix = ""
        self._databases: dict[str, str] = {}
        self._cleanups = contextlib.ExitStack()

    @contextlib.contextmanager
    def of_test(self, folder: Path) -> Iterator[Path]:
        """A folder and a prefix of their own for one run of one upstream test; what it leaves open is closed."""
        number = next(_numbers)
        self.folder = folder / str(number)
        self.folder.mkdir()
        self._prefix = f"run-{number}"
        self._databases = {}
        try:
            yield self.folder
        finally:
            self._cleanups.close()

    def close_later(self, thing: Any) -> Any:
        """Close ``thing`` when the test is over: a failed test leaves its storages open. Errors of that are ignored."""
        self._cleanups.callback(self.quietly, thing.close)
        return thing

    def later(self, call: Any, *arguments: Any) -> None:
        """Call it when the test is over, last come first served."""
        self._cleanups.callback(self.quietly, call, *arguments)

    def database(self, name: str) -> str:
        """The running test's PostgreSQL database of that name; made at the first call, dropped after the test."""
        if name not in self._databases:
            self._databases[name] = self.postgresql.create_database()
            self.later(self.postgresql.drop_database, self._databases[name])
        return self._databases[name]

    @staticmethod
    def quietly(call: Any, *arguments: Any) -> None:
        with contextlib.suppress(Exception):
            call(*arguments)

    def ours(self, base: Any, name: str = "data") -> Any:
        """Our storage around ``base``: one prefix and cache folder per test and name, as one zope.conf would say.

        ``base`` is closed after the test even where opening ours fails.
        """
        store = StoreSettings(
            bucket=BUCKET,
            prefix=f"{self._prefix}/{name}",
            endpoint_url=self.endpoint_url,
            region=self.s3.region,
            access_key=self.s3.access_key,
            secret_key=self.s3.secret_key,
            addressing_style="path",
            ca_bundle=self.ca_bundle,
            encryption=self._encryption(),
        )
        # One test opens nearly 800 storages within its two minutes; what the preflight finds is tested elsewhere.
        settings = StorageSettings(
            store=store,
            cache_dir=self.folder / f"cache-{name}",
            cache_encrypt=self.cache_encrypt,
            preflight=False,
        )
        self.close_later(base)
        return self.close_later(open_storage(base, settings))

    def _encryption(self) -> Any:
        mode = self.encrypt or ("client-side" if self.cache_encrypt else None)  # a cache takes the keys of its section
        return encrypted(mode) if mode else None

    def _section(self) -> str:
        """A server in a process of its own has no environment of ours: the keys stand in its section."""
        if not self.encrypt:
            return ""
        encryption = encrypted(self.encrypt)
        lines = section_of(encryption)
        for name, value in variables_of(encryption).items():
            lines = lines.replace(f"$({name})", value)
        return lines

    def objects(self, name: str) -> list[str]:
        """The keys of the blobs that the running test's storage of that name has in the bucket."""
        prefix = f"{self._prefix}/{name}/blobs/"
        client = s3_client(self.s3)
        try:
            return [found["Key"] for found in client.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", ())]
        finally:
            client.close()

    def section(self, base: str, name: str = "data") -> str:
        """The same as a section of a ZEO server's configuration (its storage "1"), around the base's section."""
        return f"""
        %import collective.s3blobstorage
        <s3blobstorage 1>
          bucket-name {BUCKET}
          s3-prefix {self._prefix}/{name}
          s3-endpoint-url {self.endpoint_url}
          s3-region {self.s3.region}
          s3-access-key {self.s3.access_key}
          s3-secret-key {self.s3.secret_key}
          s3-addressing-style path
          {f"s3-ca-bundle {self.ca_bundle}" if self.ca_bundle else ""}
          {self._section()}
          cache-dir {self.folder}/cache-{name}
          preflight off
          {base}
        </s3blobstorage>
        """


place = Place()
