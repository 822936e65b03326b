"""Several uploads at once, their bound, and memory."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import random
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from servers.faults import answer, trickle
from sites import store_as_json

from collective.s3blobstorage.errors import Refused
from collective.s3blobstorage.objectstore import open_store

MB = 1024 * 1024


@pytest.fixture
def files(tmp_path):
    def make(count: int, size: int):
        made = []
        for number in range(count):
            data = random.Random(number * 1000 + size % 1000).randbytes(size)
            path = tmp_path / f"{size}-{number}.blob"
            path.write_bytes(data)
            made.append((path, data))
        return made

    return make


def put_all(store, made, callers: int):
    with ThreadPoolExecutor(callers) as pool:
        running = [
            pool.submit(store.put_file, f"blobs/{path.name}", path, metadata={}, if_absent=True) for path, _ in made
        ]
        return [future.result(timeout=120) for future in running]


@pytest.mark.parametrize("lanes", [1, 2, 8])
def test_large_and_small_files_at_once(settings, files, tmp_path, lanes):
    """More callers than lanes, each with parts of its own: nobody waits for ever, and all bytes arrive."""
    store = open_store(dataclasses.replace(settings, upload_concurrency=lanes))
    made = files(3, 16 * MB + 1) + files(12, 70_000) + files(2, 2 * MB)
    stored = put_all(store, made, callers=len(made))
    for (path, data), info in zip(made, stored, strict=True):
        assert info.sha256 == hashlib.sha256(data).digest()
        with open(tmp_path / "read", "w+b") as target:
            store.get_file(f"blobs/{path.name}", target, size=len(data), sha256=info.sha256)
    assert list(store.list_uploads()) == []
    store.close()


def test_one_file_that_fails_stops_no_other(settings, proxy, files):
    store = open_store(dataclasses.replace(settings, endpoint_url=proxy.endpoint_url, upload_concurrency=2))
    made = files(4, 16 * MB + 1)
    proxy.fail(answer(403, "AccessDenied"), method="PUT", target=f"{made[1][0].name}?", times=1)
    with ThreadPoolExecutor(4) as pool:
        running = [pool.submit(store.put_file, path.name, path, metadata={}) for path, _ in made]
        failed = [future.exception(timeout=120) for future in running]
    assert [type(error) for error in failed] == [type(None), Refused, type(None), type(None)]
    assert [line.key for line in store.list()] == [made[number][0].name for number in (0, 2, 3)]
    assert list(store.list_uploads()) == []
    store.close()


def test_no_more_requests_send_at_once_than_allowed(settings, proxy, files):
    store = open_store(dataclasses.replace(settings, endpoint_url=proxy.endpoint_url, upload_concurrency=3))
    made = files(2, 32 * MB) + files(6, 500_000)
    proxy.fail(trickle(50 * MB, "request"), method="PUT", times=1000)
    most: list[int] = []
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.01):
            most.append(sum(seen.method == "PUT" and seen.status is None for seen in proxy.exchanges))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        put_all(store, made, callers=8)
    finally:
        done.set()
        watcher.join()
    assert max(most) == 3
    store.close()


def test_threads_end_with_the_store(settings, files):
    before = set(threading.enumerate())
    store = open_store(settings)
    put_all(store, files(2, 16 * MB + 1), callers=2)
    started = [thread for thread in threading.enumerate() if thread not in before]
    assert started and all(thread.name.startswith("s3blobs-upload") for thread in started)
    store.close()
    deadline = time.monotonic() + 5
    while set(threading.enumerate()) - before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert set(threading.enumerate()) <= before


GROWTH = """
import hashlib, json, resource, sys
from pathlib import Path
from collective.s3blobstorage.objectstore import open_store
from collective.s3blobstorage.settings import StoreSettings

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

arguments = json.load(sys.stdin)
folder, size = Path(arguments.pop("folder")), arguments.pop("size")
store = open_store(StoreSettings(**arguments))
small = folder / "small"
small.write_bytes(b"x" * 1000)
store.put_file("small", small, metadata={})
with open(folder / "read", "w+b") as target:
    store.get_file("small", target)
before = peak()
stored = store.put_file("large", folder / "large", metadata={})
uploaded = peak()
with open(folder / "read", "w+b") as target:
    store.get_file("large", target, size=size, sha256=stored.sha256)
print(json.dumps({"upload": uploaded - before, "both": peak() - before, "sha256": stored.sha256.hex()}))
store.close()
"""


def test_memory_does_not_grow_with_the_file(tier, request, pytestconfig, settings, s3_server, s3, bucket, tmp_path):
    """A process of its own uploads and downloads one file; its peak grows by less than 100 MB."""
    size = tier["memory_blob_mb"] * MB
    if size > 600 * MB and pytestconfig.getoption("--s3") == "ministack":
        pytest.skip("the embedded server holds whole objects in memory: run with --s3 ceph")
    with open(tmp_path / "large", "wb") as file:
        digest = hashlib.sha256()
        block = random.Random(1).randbytes(MB)
        for number in range(size // MB):
            changed = number.to_bytes(8, "big") + block[8:]
            digest.update(changed)
            file.write(changed)
    arguments = store_as_json(settings) | {"folder": str(tmp_path), "size": size}
    done = subprocess.run(
        [sys.executable, "-c", GROWTH], input=json.dumps(arguments), capture_output=True, text=True, check=True
    )
    grown = json.loads(done.stdout)
    assert grown["sha256"] == digest.hexdigest()
    assert grown["upload"] < 100 and grown["both"] < 100, grown
