"""What the storages are compared with: requests without a storage, by boto3 or by nothing but ``http.client``.

Works of the same names as in worker.py, on the same bytes.
"""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import boto3

from benchmarks.rows import BOTO3
from benchmarks.scale import Scale, blocks, small_blob
from benchmarks.timing import in_threads, settle_disk

if TYPE_CHECKING:
    from benchmarks.worker import Task


def client(task: Task) -> Any:
    """boto3 as its documentation has it, but for more connections than its ten and the signature that is checked."""
    return boto3.client(
        "s3",
        endpoint_url=task.endpoint,
        region_name=task.region,
        aws_access_key_id=task.access_key,
        aws_secret_access_key=task.secret_key,
        config=boto3.session.Config(signature_version="s3v4", max_pool_connections=50),
    )


class Bare:
    """One kept connection; requests are presigned before they are timed."""

    def __init__(self, task: Task):
        parts = urlsplit(task.endpoint)
        self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port)

    def close(self) -> None:
        self._connection.close()

    def request(self, method: str, url: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> bytes:
        parts = urlsplit(url)
        self._connection.request(method, f"{parts.path}?{parts.query}", body, headers or {})
        response = self._connection.getresponse()
        data = response.read()
        if response.status not in (200, 206):
            raise OSError(f"{method} was answered with {response.status}")
        return data


def presigned(task: Task, verb: str, keys: list[str]) -> list[str]:
    made = client(task)
    return [made.generate_presigned_url(verb, Params={"Bucket": task.bucket, "Key": key}) for key in keys]


def small_keys(count: int, of: str = "small") -> list[str]:
    return [f"blobs/{of}/{number}" for number in range(count)]


# --- what works need -------------------------------------------------------------------------------------------------


def prepare_small(task: Task) -> dict[str, float]:
    made = client(task)
    for number, key in enumerate(small_keys(task.scale.cold)):
        made.put_object(Bucket=task.bucket, Key=key, Body=small_blob(task.scale, number))
    return {}


def prepare_large(task: Task) -> dict[str, float]:
    client(task).upload_file(_large_file(task), task.bucket, "blobs/large")
    return {}


def _large_file(task: Task) -> str:
    path = Path(task.folder, "large")
    with path.open("wb") as file:
        for block in blocks(task.scale, task.scale.large):
            file.write(block)
    return str(path)


# --- works -----------------------------------------------------------------------------------------------------------


def read_cold(task: Task) -> dict[str, float]:
    """As many GETs as there are blobs. One thread has its connection before; several make theirs, as storages do."""
    urls = presigned(task, "get_object", small_keys(task.scale.cold))
    if task.threads > 1:
        return _read_by_several(task, urls)
    with closing(Bare(task)) as bare:
        bare.request("GET", urls[0])
        started = time.perf_counter()
        contents = [bare.request("GET", url) for url in urls]
        seconds = time.perf_counter() - started
    assert all(data == small_blob(task.scale, number) for number, data in enumerate(contents))
    return {"seconds": seconds}


def _read_by_several(task: Task, urls: list[str]) -> dict[str, float]:
    contents: dict[int, bytes] = {}

    def reader(number: int) -> Callable[[], None]:
        def work() -> None:
            with closing(Bare(task)) as bare:
                for index in range(number, len(urls), task.threads):
                    contents[index] = bare.request("GET", urls[index])

        return work

    seconds = in_threads([reader(number) for number in range(task.threads)])
    assert all(contents[number] == small_blob(task.scale, number) for number in range(len(urls)))
    return {"seconds": seconds}


def commit_small(task: Task) -> dict[str, float]:
    """As many PUTs at once as there are blobs, the best of several rounds on connections that are made before."""
    sender = _boto3_sender if task.contestant == BOTO3 else _bare_sender
    send, close = sender(task)
    try:
        _round(task.scale, send, 0)
        return {"seconds": min(_round(task.scale, send, number) for number in range(1, task.scale.rounds + 1))}
    finally:
        close()


def _round(scale: Scale, send: Callable[[int, bytes], object], number: int) -> float:
    bodies = [small_blob(scale, number * scale.committed + index) for index in range(scale.committed)]
    return in_threads([lambda index=index, body=body: send(index, body) for index, body in enumerate(bodies)])


def _boto3_sender(task: Task) -> tuple[Callable[[int, bytes], object], Callable[[], None]]:
    made = client(task)
    keys = small_keys(task.scale.committed, "committed")
    return lambda index, body: made.put_object(Bucket=task.bucket, Key=keys[index], Body=body), made.close


def _bare_sender(task: Task) -> tuple[Callable[[int, bytes], object], Callable[[], None]]:
    urls = presigned(task, "put_object", small_keys(task.scale.committed, "committed"))
    connections = [Bare(task) for _ in urls]

    def close() -> None:
        for connection in connections:
            connection.close()

    return lambda index, body: connections[index].request("PUT", urls[index], body), close


def commit_large(task: Task) -> dict[str, float]:
    path, made = _large_file(task), client(task)
    settle_disk()
    started = time.perf_counter()
    made.upload_file(path, task.bucket, "blobs/committed")
    return {"seconds": time.perf_counter() - started}


def read_large(task: Task) -> dict[str, float]:
    made, path = client(task), Path(task.cache)
    path.mkdir()
    started = time.perf_counter()
    made.download_file(task.bucket, "blobs/large", str(path / "large"))
    seconds = time.perf_counter() - started
    assert (path / "large").stat().st_size == task.scale.large
    return {"seconds": seconds}


def read_tail(task: Task) -> dict[str, float]:
    """Two round trips and one part: a GET of one byte, and one of the last part."""
    (url,) = presigned(task, "get_object", ["blobs/large"])
    size, part = task.scale.large, task.scale.part
    with closing(Bare(task)) as bare:
        bare.request("GET", url, headers={"Range": "bytes=0-0"})
        started = time.perf_counter()
        bare.request("GET", url, headers={"Range": "bytes=0-0"})
        data = bare.request("GET", url, headers={"Range": f"bytes={size - part}-{size - 1}"})
        seconds = time.perf_counter() - started
    assert len(data) == part
    return {"seconds": seconds}
