"""What small objects and a large one cost with each client: time, and processor time of the client's process.

::

    python benchmarks/clients.py [--rounds 5] [--megabytes 256] [clients …]

Starts MiniStack (``S3BLOBS_MINISTACK``) on this machine and prints a table in Markdown. Each client runs in a process
of its own, in rounds that take turns, and the best of all rounds counts: other work on the machine disturbs only
upwards. ``awscrt`` and ``obstore`` are left out where they are not installed; a folder with them may be on PYTHONPATH.
"""

from __future__ import annotations

import argparse
import filecmp
import importlib.util
import io
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPOSITORY / "tests"), str(REPOSITORY / "src")]

import boto3  # noqa: E402
import botocore.session  # noqa: E402
from botocore.config import Config  # noqa: E402
from servers.ministack import MiniStack  # noqa: E402

from collective.s3blobstorage.objectstore import open_store  # noqa: E402
from collective.s3blobstorage.settings import StoreSettings  # noqa: E402

KB = 1024
MB = 1024 * KB
SMALL = 64 * KB
OBJECTS = 64  # small objects in the bucket, read in turn
REQUESTS = 256  # of each measurement with small objects
RANGES = (4 * MB, 32 * MB)  # the large object is read in ranges of these sizes
THREADS = 8


@dataclass(frozen=True)
class Place:
    """Where the server is, and the size of the large object."""

    endpoint: str
    region: str
    access: str
    secret: str
    folder: str
    megabytes: int

    @property
    def size(self) -> int:
        return self.megabytes * MB

    @property
    def upload(self) -> str:
        """The file of ``size`` random bytes that is uploaded."""
        return f"{self.folder}/upload"


@dataclass
class Client:
    """What is measured; None where the client has no such call."""

    get: Callable[[str], Any] | None = None  # a small object into memory
    put: Callable[[str, bytes], Any] | None = None
    range: Callable[[int, int, int], Any] | None = None  # into the file at its place: (descriptor, start, length)
    download: Callable[[str], Any] | None = None  # the large object into a new file, by the client's own threads
    upload: Callable[[str], Any] | None = None  # the file ``Place.upload`` to this key


def boto_client(place: Place, **more: Any) -> Any:
    config = Config(
        signature_version="s3v4",
        max_pool_connections=50,
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    return boto3.client(
        "s3",
        endpoint_url=place.endpoint,
        region_name=place.region,
        aws_access_key_id=place.access,
        aws_secret_access_key=place.secret,
        config=config,
        **more,
    )


def opened(place: Place) -> Any:
    return open_store(
        StoreSettings(
            bucket="bench",
            endpoint_url=place.endpoint,
            region=place.region,
            access_key=place.access,
            secret_key=place.secret,
        )
    )


def with_boto3(place: Place) -> Client:
    """get_object and put_object."""
    client = boto_client(place)

    def a_range(descriptor: int, start: int, length: int) -> None:
        got = client.get_object(Bucket="bench", Key="large", Range=f"bytes={start}-{start + length - 1}")
        position = start
        for block in got["Body"].iter_chunks(256 * KB):
            position += os.pwrite(descriptor, block, position)

    return Client(
        get=lambda key: client.get_object(Bucket="bench", Key=key)["Body"].read(),
        put=lambda key, data: client.put_object(Bucket="bench", Key=key, Body=data),
        range=a_range,
    )


def with_s3transfer(place: Place) -> Client:
    """boto3's managed transfers, which zodb-s3blobs uses."""
    client = boto_client(place)
    return Client(
        get=lambda key: client.download_fileobj("bench", key, io.BytesIO()),
        put=lambda key, data: client.upload_fileobj(io.BytesIO(data), "bench", key),
        download=lambda path: client.download_file("bench", "large", path),
        upload=lambda key: client.upload_file(place.upload, "bench", key),
    )


def with_awscrt(place: Place) -> Client:
    """s3transfer over awscrt, which takes the endpoint from the request when it is not asked for by boto3."""
    from s3transfer.crt import (
        BotocoreCRTCredentialsWrapper,
        BotocoreCRTRequestSerializer,
        CRTTransferManager,
        create_s3_crt_client,
    )

    session = botocore.session.Session()
    session.set_credentials(place.access, place.secret)
    provider = BotocoreCRTCredentialsWrapper(session.get_credentials()).to_crt_credentials_provider()
    config = Config(s3={"addressing_style": "path"})
    arguments = {"region_name": place.region, "endpoint_url": place.endpoint, "config": config}
    serializer = BotocoreCRTRequestSerializer(session, arguments)
    crt = create_s3_crt_client(place.region, crt_credentials_provider=provider, use_ssl=False)
    manager = CRTTransferManager(crt, serializer)
    return Client(
        get=lambda key: manager.download("bench", key, io.BytesIO()).result(),
        put=lambda key, data: manager.upload(io.BytesIO(data), "bench", key).result(),
        download=lambda path: manager.download("bench", "large", path).result(),
        upload=lambda key: manager.upload(place.upload, "bench", key).result(),
    )


def with_obstore(place: Place) -> Client:
    """The object_store crate of Rust."""
    import obstore
    from obstore.store import S3Store

    store = S3Store(
        "bench",
        endpoint=place.endpoint,
        region=place.region,
        access_key_id=place.access,
        secret_access_key=place.secret,
        virtual_hosted_style_request=False,
        client_options={"allow_http": True},
    )

    def a_range(descriptor: int, start: int, length: int) -> None:
        os.pwrite(descriptor, obstore.get_range(store, "large", start=start, length=length), start)

    return Client(
        get=lambda key: bytes(obstore.get(store, key).bytes()),
        put=lambda key, data: obstore.put(store, key, data, use_multipart=False),
        range=a_range,
        upload=lambda key: obstore.put(store, key, Path(place.upload), max_concurrency=THREADS),
    )


def with_signed(place: Place) -> Client:
    """objectstore/signed.py alone."""
    signed = opened(place).connection.signed_reader

    def a_range(descriptor: int, start: int, length: int) -> None:
        got = signed.get_object(Bucket="bench", Key="large", Range=f"bytes={start}-{start + length - 1}")
        position = start
        with got["Body"] as body:
            while block := body.read1(256 * KB):
                position += os.pwrite(descriptor, block, position)

    def get(key: str) -> bytes:
        with signed.get_object(Bucket="bench", Key=key)["Body"] as body:
            return body.read()

    return Client(
        get=get,
        put=lambda key, data: signed.put_object(Bucket="bench", Key=key, Body=data),
        range=a_range,
    )


def with_store(place: Place) -> Client:
    """The verbs of this package: retries, checks of size, MD5 and SHA-256 included."""
    store = opened(place)

    def a_range(descriptor: int, start: int, length: int) -> None:
        position = start

        def write(block: bytes | memoryview) -> None:
            nonlocal position
            position += os.pwrite(descriptor, block, position)

        store.get_range("large", start, length, write, size=place.size)

    return Client(
        get=lambda key: store.get_file(key, io.BytesIO()),
        put=lambda key, data: store.put_bytes(key, data),
        range=a_range,
        upload=lambda key: store.put_file(key, Path(place.upload), metadata={}),
    )


CLIENTS: dict[str, Callable[[Place], Client]] = {
    "boto3": with_boto3,
    "s3transfer": with_s3transfer,
    "awscrt": with_awscrt,
    "obstore": with_obstore,
    "signed": with_signed,
    "store": with_store,
}
NEEDS = {"awscrt": "awscrt", "obstore": "obstore"}


def timed(work: Callable[[], Any]) -> tuple[float, float]:
    """Seconds by the clock, and of this process on a processor."""
    started, used = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - started, time.process_time() - used


def one_round(client: Client, place: Place) -> dict[str, tuple[float, float]]:
    """Milliseconds per small object, seconds per large one; (clock, processor)."""
    found: dict[str, tuple[float, float]] = {}
    data = random.Random(1).randbytes(SMALL)
    keys = [f"small-{number % OBJECTS}" for number in range(REQUESTS)]

    def small(name: str, call: Callable[[str], Any]) -> None:
        call(keys[0])
        for threads in (1, THREADS):
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(call, keys[: 2 * threads]))  # connections are made
                clock, used = timed(lambda pool=pool: list(pool.map(call, keys)))
            found[f"{name} {threads}"] = clock / REQUESTS * 1000, used / REQUESTS * 1000

    if client.get is not None:
        small("get", client.get)
    put = client.put
    if put is not None:
        small("put", lambda key: put(key, data))
    target = f"{place.folder}/{os.getpid()}"
    if client.range is not None:
        read = client.range
        for length in RANGES:
            with open(target, "wb") as file, ThreadPoolExecutor(THREADS) as pool:

                def one(start: int, length: int = length, descriptor: int = file.fileno()) -> None:
                    read(descriptor, start, length)

                starts = range(0, place.size, length)
                found[f"read {length // MB}"] = timed(lambda pool=pool, one=one, at=starts: list(pool.map(one, at)))
            check(target, place)
    elif client.download is not None:
        found["read"] = timed(lambda: client.download(target))
        check(target, place)
    if client.upload is not None:
        found["write"] = timed(lambda: client.upload("written"))
    return found


def check(target: str, place: Place) -> None:
    """The large object is there whole; away with it."""
    if not filecmp.cmp(target, place.upload, shallow=False):
        raise RuntimeError("other bytes arrived than were stored")
    os.unlink(target)


def measured(name: str, place: Place) -> dict[str, list[float]]:
    """One round in a process of its own."""
    arguments = json.dumps(asdict(place))
    done = subprocess.run([sys.executable, __file__, "--one", name], input=arguments, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{name}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clients", nargs="*", default=[], metavar="client", help=f"of {', '.join(CLIENTS)}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--megabytes", type=int, default=256, help="of the large object")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        place = Place(**json.load(sys.stdin))
        print(json.dumps(one_round(CLIENTS[arguments.one](place), place)), flush=True)
        os._exit(0)  # the threads of awscrt and obstore need not be waited for
    names = arguments.clients or [
        name for name in CLIENTS if name not in NEEDS or importlib.util.find_spec(NEEDS[name]) is not None
    ]
    with tempfile.TemporaryDirectory(prefix="s3blobs-bench-") as folder:
        server = MiniStack(Path(folder) / "ministack").start()
        try:
            keys = (server.access_key, server.secret_key)
            place = Place(server.endpoint_url, server.region, *keys, folder, arguments.megabytes)
            fill(place)
            best: dict[str, dict[str, list[float]]] = {name: {} for name in names}
            for number in range(arguments.rounds):
                for name in names:
                    print(f"round {number + 1} of {arguments.rounds}: {name}", file=sys.stderr, flush=True)
                    for what, pair in measured(name, place).items():
                        now = best[name].setdefault(what, pair)
                        best[name][what] = [min(old, new) for old, new in zip(now, pair, strict=True)]
        finally:
            server.stop()
    print_table(best, place)


def fill(place: Place) -> None:
    client = boto_client(place)
    client.create_bucket(Bucket="bench")
    for number in range(OBJECTS):
        client.put_object(Bucket="bench", Key=f"small-{number}", Body=random.Random(number).randbytes(SMALL))
    with open(place.upload, "wb") as file:
        for number in range(place.megabytes):
            file.write(random.Random(number).randbytes(MB))
    client.upload_file(place.upload, "bench", "large")


def print_table(best: dict[str, dict[str, list[float]]], place: Place) -> None:
    columns = ["get 1", "get 8", "put 1", "put 8", "read", *(f"read {length // MB}" for length in RANGES), "write"]
    heads = ["GET, 1 thread", "GET, 8", "PUT, 1", "PUT, 8", "read"]
    heads += [f"read by {length // MB} MB" for length in RANGES] + ["write"]
    print(f"Clock / processor: {SMALL // KB} KB in ms each, {place.megabytes} MB in s.\n")
    print("| client | " + " | ".join(heads) + " |")
    print("|---|" + "---:|" * len(heads))
    for name, found in best.items():
        cells = ["{:.2f} / {:.2f}".format(*found[column]) if column in found else "–" for column in columns]
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
