"""A process that opens, commits, reads, fails and closes, with the root logger at DEBUG, and keeps all that is told.

Run by ``test_secrets.py``: a JSON of settings on standard input, the secrets in the environment only. What is logged,
and each error with its traceback and the local variables of every frame, goes into the file that the JSON names.
"""

from __future__ import annotations

import io
import json
import logging
import math
import os
import shutil
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ZConfig
import ZODB
from servers.ca import CertificateAuthority
from servers.faults import Fault, answer, flip, reset
from servers.proxy import Proxy
from sites import connected
from ZODB.blob import Blob
from ZODB.config import getStorageSchema
from ZODB.POSException import ConflictError

from collective.s3blobstorage.errors import S3BlobStorageError
from collective.s3blobstorage.objectstore.patience import Clock
from collective.s3blobstorage.storage import open_storage

SECTION = """
%import collective.s3blobstorage
<s3blobstorage>
  bucket-name {bucket}
  s3-prefix {prefix}
  s3-endpoint-url {endpoint}
  s3-region {region}
  s3-ca-bundle {bundle}
  s3-access-key $(TOLD_ACCESS_KEY)
  s3-secret-key $(TOLD_SECRET_KEY)
  {token}
  {sse}
  s3-download-connect-timeout 1
  s3-download-read-timeout 1
  s3-connect-timeout 1
  s3-read-timeout 3
  cache-dir {folder}/cache
  <filestorage>
    path {folder}/Data.fs
  </filestorage>
</s3blobstorage>
"""


ENCRYPTIONS = {
    "": "",
    "sse-c": "s3-sse-customer-key $(TOLD_SSE_KEY)",
    "client-side": """
  <client-side-encryption>
    <key told>
      value $(TOLD_SSE_KEY)
    </key>
  </client-side-encryption>
  cache-encrypt on
""",
}


class Told(logging.Handler):
    """Formats every record at once, as a handler of a file does, and shows what a handler of its own could show."""

    def __init__(self, file: Any) -> None:
        super().__init__(logging.DEBUG)
        self.file = file
        self.setFormatter(logging.Formatter("%(name)s %(levelname)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        self.file.write(self.format(record) + "\n")
        self.file.write("".join(map(repr, (record.msg, record.args, record.exc_info, record.exc_text))) + "\n")

    def error(self, error: BaseException) -> None:
        """All that a report of errors may gather."""
        gathered = traceback.TracebackException.from_exception(error, capture_locals=True)
        self.file.write("ERROR " + "".join(gathered.format()))
        self.file.write("\n".join([str(error), repr(error), repr(error.args), repr(vars(error))]) + "\n")


class Site:
    def __init__(self, given: dict[str, Any], proxy: Proxy, bundle: Path, told: Told) -> None:
        self.proxy, self.told = proxy, told
        self.folder = Path(given["folder"])
        self.text = SECTION.format(
            **{name: given[name] for name in ("bucket", "prefix", "region", "folder")},
            endpoint=proxy.endpoint_url,
            bundle=bundle,
            token="s3-session-token $(TOLD_TOKEN)" if given["token"] else "",
            sse=ENCRYPTIONS[given["sse"]],
        )
        self.errors: list[str] = []

    def opened(self) -> ZODB.DB:
        parsed, _ = ZConfig.loadConfigFile(getStorageSchema(), io.StringIO(self.text))
        factory = parsed.storage
        offset = [0.0]

        def sleep(seconds: float) -> None:  # patience ends soon
            offset[0] += 20 * seconds

        clock = Clock(lambda: time.monotonic() + offset[0], sleep)
        storage = open_storage(factory.config.base.open(), factory.settings, clock=clock)
        for shown in (factory, factory.config, factory.settings, storage, storage.store_, storage.cache):
            self.told.file.write(f"{shown!r} {shown!s} {vars(shown) if hasattr(shown, '__dict__') else ''!r}\n")
        return ZODB.DB(storage)

    def tried(self, work: Callable[[], Any]) -> None:
        try:
            work()
        except S3BlobStorageError as error:
            self.told.error(error)
            self.errors.append(type(error).__name__)

    def commit(self, db: ZODB.DB, name: str, data: bytes) -> None:
        with connected(db) as connection:
            connection.root()[name] = Blob(data)
            connection.transaction_manager.savepoint()
            connection.transaction_manager.commit()

    def read(self, db: ZODB.DB, name: str) -> None:
        shutil.rmtree(self.folder / "cache", ignore_errors=True)
        with connected(db) as connection, connection.root()[name].open("r") as file:
            file.read()

    def conflict(self, db: ZODB.DB) -> None:
        with connected(db) as one, connected(db) as two:
            for connection in (one, two):
                with connection.root()["small"].open("w") as file:
                    file.write(b"changed")
            one.transaction_manager.commit()
            try:
                two.transaction_manager.commit()
            except ConflictError as error:
                self.told.error(error)
                two.transaction_manager.abort()

    def meeting(self, fault: Fault, method: str, work: Callable[[], Any]) -> None:
        self.proxy.fail(fault, method=method, times=math.inf)
        self.tried(work)
        self.proxy.forgive()

    def run(self) -> None:
        db = self.opened()
        self.commit(db, "small", b"small")
        self.commit(db, "large", bytes(17_000_000))
        self.read(db, "small")
        self.read(db, "large")
        self.conflict(db)
        denied, broken = answer(403, "AccessDenied"), answer(500, "InternalError")
        for method in ("PUT", "POST"):
            self.meeting(denied, method, lambda: self.commit(db, "failed", bytes(17_000_000)))
        for fault in (denied, broken, reset("answer")):
            self.meeting(fault, "PUT", lambda: self.commit(db, "failed", b"x"))
            self.meeting(fault, "GET", lambda: self.read(db, "small"))
            self.meeting(fault, "DELETE", lambda: self.conflict(db))
            db.storage.uploads.settle()
        self.commit(db, "between", b"x")  # an answer, which closes the circuit
        self.meeting(flip(2), "GET", lambda: self.read(db, "small"))
        self.proxy.down()
        self.tried(lambda: self.read(db, "small"))
        self.tried(lambda: self.commit(db, "failed", b"x"))
        self.proxy.up()
        self.meeting(denied, "HEAD", lambda: db.storage.reader.find(self.location(db)))
        db.close()
        self.meeting(denied, "HEAD", lambda: self.opened().close())
        self.meeting(broken, "HEAD", lambda: self.opened().close())
        for name in ("TOLD_SECRET_KEY", "TOLD_SSE_KEY"):
            if name in os.environ:
                right, os.environ[name] = os.environ[name], os.environ["WRONG_" + name]
                self.tried(self.reading_after_opening)
                os.environ[name] = right

    def location(self, db: ZODB.DB) -> Any:
        with connected(db) as connection:
            blob = connection.root()["small"]
            blob._p_activate()
            return db.storage.locate(blob._p_oid, blob._p_serial)

    def reading_after_opening(self) -> None:
        db = self.opened()
        try:
            self.read(db, "large")
        finally:
            db.close()


def main() -> None:
    given = json.loads(sys.stdin.read())
    ca = CertificateAuthority(Path(given["folder"]) / "ca")
    with open(given["told"], "w") as file:
        told = Told(file)
        root = logging.getLogger()
        root.setLevel(logging.DEBUG)
        root.addHandler(told)
        with Proxy(given["upstream"], ca=ca, upstream_ca=given["upstream_ca"]) as proxy:
            site = Site(given, proxy, ca.bundle, told)
            site.run()
    print(json.dumps(site.errors))


if __name__ == "__main__":
    main()
