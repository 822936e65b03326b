"""How long other clients of a ZEO server wait while one commits a blob, or reads one that is not cached.

Compares our section inside the server with our section around each client::

    python benchmarks/zeo_waiting.py [--megabytes 32] [--round-trip 20]

Starts MiniStack (``S3BLOBS_MINISTACK``), a proxy that delays, and the ZEO server, and prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
os.environ["PYTHONPATH"] = str(REPOSITORY / "src")  # for the ZEO server
sys.path[:0] = [str(REPOSITORY / "tests"), str(REPOSITORY / "tests" / "storage"), str(REPOSITORY / "src")]

import boto3  # noqa: E402
import ZODB  # noqa: E402
from servers.ministack import MiniStack  # noqa: E402
from servers.proxy import Proxy  # noqa: E402
from sites import connected, run_zeo  # noqa: E402
from ZEO.ClientStorage import ClientStorage  # noqa: E402
from ZODB.blob import Blob  # noqa: E402

from collective.s3blobstorage.settings import StorageSettings, StoreSettings  # noqa: E402
from collective.s3blobstorage.storage import open_storage  # noqa: E402

SECTION = """
%import collective.s3blobstorage
<s3blobstorage main>
  bucket-name {bucket}
  s3-endpoint-url {endpoint}
  s3-region us-east-1
  s3-access-key {access}
  s3-secret-key {secret}
  cache-dir {folder}/server-cache
  <filestorage>
    path {folder}/Data.fs
  </filestorage>
</s3blobstorage>
"""
PLAIN = "<filestorage main>\n  path {folder}/Data.fs\n</filestorage>"


class Waits:
    """Commits without blobs, one after the other, in a thread; the longest of them in seconds."""

    def __init__(self, db: ZODB.DB):
        self.db, self.longest, self.count = db, 0.0, 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Waits:
        self._thread.start()
        return self

    def __exit__(self, *error: Any) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        with connected(self.db) as connection:
            while not self._stop.is_set():
                started = time.perf_counter()
                connection.root()["other"] = self.count
                connection.transaction_manager.commit()
                self.longest = max(self.longest, time.perf_counter() - started)
                self.count += 1
                time.sleep(0.01)


def measure(opened: list[ZODB.DB], cache: Path, data: bytes) -> tuple[Waits, Waits]:
    """Commit ``data`` by the first, empty ``cache``, read by the second, while the third commits what has no blobs."""
    writer, reader, other = opened
    with connected(writer) as connection:
        connection.root()["blob"] = Blob(b"")
        connection.transaction_manager.commit()
        with Waits(other) as writing:
            with connection.root()["blob"].open("w") as file:
                file.write(data)
            connection.transaction_manager.commit()
    shutil.rmtree(cache, ignore_errors=True)
    with connected(reader) as connection, Waits(other) as reading:
        assert connection.root()["blob"].open("r").read() == data
    return writing, reading


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--megabytes", type=int, default=32)
    arguments.add_argument("--round-trip", type=float, default=20.0, help="milliseconds (default: 20)")
    given = arguments.parse_args()
    data = os.urandom(given.megabytes * 1024 * 1024)
    print(f"{given.megabytes} MB, {given.round_trip:.0f} ms round trip to the store\n")
    print("| our section | other client's longest commit during the upload | during a cold read |")
    print("|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        server = MiniStack(Path(folder, "s3")).start()
        try:
            with Proxy(server.endpoint_url) as proxy:
                proxy.round_trip(given.round_trip)
                for name, inside in (("in the ZEO server", True), ("around each client", False)):
                    place = Path(folder, "inside" if inside else "around")
                    place.mkdir()
                    writing, reading = compare(server, proxy.endpoint_url, place, inside, data)
                    print(f"| {name} | {writing.longest * 1000:.0f} ms | {reading.longest * 1000:.0f} ms |")
        finally:
            server.stop()


def compare(server: MiniStack, endpoint: str, folder: Path, inside: bool, data: bytes) -> tuple[Waits, Waits]:
    bucket = f"bench-{'inside' if inside else 'around'}"
    keys = {"aws_access_key_id": server.access_key, "aws_secret_access_key": server.secret_key}
    boto3.client("s3", endpoint_url=server.endpoint_url, region_name=server.region, **keys).create_bucket(Bucket=bucket)
    store = StoreSettings(
        bucket=bucket,
        endpoint_url=endpoint,
        region=server.region,
        access_key=server.access_key,
        secret_key=server.secret_key,
    )
    values = {
        "bucket": bucket,
        "endpoint": endpoint,
        "access": server.access_key,
        "secret": server.secret_key,
        "folder": folder,
    }
    port, process = run_zeo(folder, (SECTION if inside else PLAIN).format(**values))

    def client(name: str) -> ZODB.DB:
        if inside:
            return ZODB.DB(ClientStorage(("127.0.0.1", port), "main", blob_dir=f"{folder}/{name}"))
        base = ClientStorage(("127.0.0.1", port), "main")
        return ZODB.DB(open_storage(base, StorageSettings(store=store, cache_dir=folder / name)))

    opened: list[ZODB.DB] = []
    try:
        opened += [client(name) for name in ("writer", "reader", "other")]
        return measure(opened, folder / ("server-cache" if inside else "reader"), data)
    finally:
        for db in opened:
            db.close()
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()
