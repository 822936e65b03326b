"""One contestant at one work, in a process of its own. The task comes as JSON, and what was measured leaves as JSON.

Only ZODB's public interface is used, as an application uses it, so that every storage does the same work.
"""

from __future__ import annotations

import json
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import transaction
import ZODB.config
from persistent.mapping import PersistentMapping
from ZODB.blob import Blob

from benchmarks.rows import BARE, BASE, BOTO3, DIRECTORY, PEER, SEALED
from benchmarks.scale import MB, Scale, blocks, small_blob
from benchmarks.timing import in_threads, settle_disk

# zodb-s3blobs' section and ours take the same keys; all else is each one's default.
S3_SECTION = """
%import {package}
<zodb>
  cache-size 10000
  pool-size 50
  <s3blobstorage>
    bucket-name {bucket}
    s3-endpoint-url {endpoint}
    s3-region {region}
    s3-access-key {access_key}
    s3-secret-key {secret_key}
    cache-dir {cache}
    cache-size 4GB
    {encryption}
    <filestorage>
      path {folder}/Data.fs
    </filestorage>
  </s3blobstorage>
</zodb>
"""
ENCRYPTION = """
    <client-side-encryption>
      <key one>
        value AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=
      </key>
    </client-side-encryption>
"""
FILE_SECTION = """
<zodb>
  cache-size 10000
  pool-size 50
  <filestorage>
    path {folder}/Data.fs
    {blob_dir}
  </filestorage>
</zodb>
"""

# Between two commits of the other writer: an editor's site, not a loop that takes the interpreter from the upload.
PAUSE = 0.005


@dataclass(frozen=True)
class Task:
    """What the driver asks for. ``folder`` is the contestant's own; ``cache`` is new for each task."""

    contestant: str
    work: str
    scale: Scale
    threads: int
    folder: str
    cache: str
    endpoint: str
    bucket: str
    region: str
    access_key: str
    secret_key: str

    @classmethod
    def from_json(cls, text: str) -> Task:
        values = json.loads(text)
        return cls(**values | {"scale": Scale(**values["scale"])})


def configuration(task: Task) -> str:
    if task.contestant in (BASE, DIRECTORY):
        blob_dir = f"blob-dir {task.folder}/blobs" if task.contestant == DIRECTORY else ""
        return FILE_SECTION.format(folder=task.folder, blob_dir=blob_dir)
    package = {PEER: "zodb_s3blobs"}.get(task.contestant, "collective.s3blobstorage")
    encryption = ENCRYPTION if task.contestant == SEALED else ""
    return S3_SECTION.format(package=package, encryption=encryption, **vars(task))


@contextmanager
def opened(task: Task) -> Iterator[ZODB.DB]:
    db = ZODB.config.databaseFromString(configuration(task))
    try:
        yield db
    finally:
        db.close()


@contextmanager
def connected(db: ZODB.DB) -> Iterator[Any]:
    manager = transaction.TransactionManager()
    connection = db.open(manager)
    try:
        yield connection
    finally:
        manager.abort()
        connection.close()


def read(blob: Blob) -> bytes:
    """Activate, open, read."""
    blob._p_activate()
    with blob.open("r") as file:
        return file.read()


def commit(connection: Any) -> float:
    """Seconds of the commit alone."""
    started = time.perf_counter()
    connection.transaction_manager.commit()
    return time.perf_counter() - started


# --- what works need -------------------------------------------------------------------------------------------------


def prepare_small(task: Task) -> dict[str, float]:
    with opened(task) as db, connected(db) as connection:
        blobs = [Blob(small_blob(task.scale, number)) for number in range(task.scale.warm)]
        connection.root()["small"] = blobs
        return {"seconds": commit(connection)}


def prepare_large(task: Task) -> dict[str, float]:
    return _commit_blob(task, "large", task.scale.large)


def prepare_huge(task: Task) -> dict[str, float]:
    return _commit_blob(task, "huge", task.scale.huge)


def prepare_objects(task: Task) -> dict[str, float]:
    with opened(task) as db, connected(db) as connection:
        objects = [PersistentMapping(number=number, text="x" * 100) for number in range(task.scale.loads)]
        connection.root()["objects"] = objects
        return {"seconds": commit(connection)}


def _commit_blob(task: Task, name: str, size: int) -> dict[str, float]:
    with opened(task) as db, connected(db) as connection:
        _write_blob(connection, name, task.scale, size)
        settle_disk()
        return {"seconds": commit(connection)}


def _write_blob(connection: Any, name: str, scale: Scale, size: int) -> None:
    blob = Blob()
    connection.add(blob)
    connection.root()[name] = blob
    with blob.open("w") as file:
        for block in blocks(scale, size):
            file.write(block)


# --- works -----------------------------------------------------------------------------------------------------------


def read_warm(task: Task) -> dict[str, float]:
    with opened(task) as db, connected(db) as connection:
        blobs = connection.root()["small"]
        for number, blob in enumerate(blobs):
            assert read(blob) == small_blob(task.scale, number)
        return {"seconds": min(_timed_reads(connection, blobs) for _ in range(task.scale.local_rounds))}


def _timed_reads(connection: Any, blobs: list[Blob]) -> float:
    connection.cacheMinimize()  # only ghosts are left: each blob is activated anew
    started = time.perf_counter()
    for blob in blobs:
        read(blob)
    return time.perf_counter() - started


def read_cold(task: Task) -> dict[str, float]:
    scale = task.scale
    contents: dict[int, bytes] = {}
    with opened(task) as db:
        connections = [db.open(transaction.TransactionManager()) for _ in range(task.threads)]

        def reader(number: int) -> Callable[[], None]:
            blobs = connections[number].root()["small"]

            def work() -> None:
                for index in range(number, scale.cold, task.threads):
                    contents[index] = read(blobs[index])

            return work

        seconds = in_threads([reader(number) for number in range(task.threads)])
        for connection in connections:
            connection.close()
    assert all(contents[index] == small_blob(scale, index) for index in range(scale.cold))
    return {"seconds": seconds}


def commit_small(task: Task) -> dict[str, float]:
    """The best of several commits on a storage that has committed before, as a site's has."""
    scale = task.scale
    with opened(task) as db, connected(db) as connection:

        def once(number: int) -> float:
            first = number * scale.committed
            blobs = [Blob(small_blob(scale, first + index)) for index in range(scale.committed)]
            connection.root()["committed"] = blobs
            settle_disk()
            return commit(connection)

        once(0)
        return {"seconds": min(once(number) for number in range(1, scale.rounds + 1))}


def commit_large(task: Task) -> dict[str, float]:
    return _commit_blob(task, "committed", task.scale.large)


def read_large(task: Task) -> dict[str, float]:
    with opened(task) as db, connected(db) as connection:
        blob = connection.root()["large"]
        started = time.perf_counter()
        expected = blocks(task.scale, task.scale.large)
        blob._p_activate()
        with blob.open("r") as file:
            while block := file.read(MB):
                assert block[:8] == next(expected)[:8] and len(block) == MB
        seconds = time.perf_counter() - started
        assert next(expected, None) is None
        return {"seconds": seconds}


def read_tail(task: Task) -> dict[str, float]:
    with opened(task) as db, connected(db) as connection:
        blob = connection.root()["large"]
        started = time.perf_counter()
        blob._p_activate()
        with blob.open("r") as file:
            file.seek(-task.scale.tail, 2)
            tail = file.read()
        seconds = time.perf_counter() - started
        assert tail == b"".join(blocks(task.scale, task.scale.large))[-task.scale.tail :]
        return {"seconds": seconds}


def read_size(task: Task) -> dict[str, float]:
    with opened(task) as db, connected(db) as connection:
        blob = connection.root()["large"]
        started = time.perf_counter()
        blob._p_activate()
        with blob.open("r") as file:
            assert file.seek(0, 2) == file.tell() == task.scale.large
        return {"seconds": time.perf_counter() - started}


def commit_beside(task: Task) -> dict[str, float]:
    """``seconds``: the longest commit of another writer that overlaps that of the large blob."""
    commits: list[tuple[float, float]] = []
    stop = threading.Event()
    with opened(task) as db, connected(db) as connection, connected(db) as other:

        def write() -> None:
            target = other.root()["objects"][0]
            while not stop.is_set():
                target["number"] += 1
                started = time.perf_counter()
                commits.append((started, started + commit(other)))
                stop.wait(PAUSE)

        _write_blob(connection, "committed", task.scale, task.scale.large)
        settle_disk()
        writer = threading.Thread(target=write)
        writer.start()
        time.sleep(10 * PAUSE)
        begin = time.perf_counter()
        end = begin + commit(connection)
        stop.set()
        writer.join()
    worst = max(finish - start for start, finish in commits if finish > begin and start < end)
    through = sum(start >= begin and finish <= end for start, finish in commits)
    return {"seconds": worst, "through": through, "commit": end - begin}


def commit_objects(task: Task) -> dict[str, float]:
    with opened(task) as db, connected(db) as connection:
        objects = connection.root()["objects"]

        times = []
        for number in range(task.scale.commits * task.scale.rounds):
            objects[number % len(objects)]["number"] += 1
            times.append(commit(connection))
        # Not their sum, which is made by the few that wait for what else the disk does: FileStorage syncs each commit.
        return {"seconds": statistics.median(times) * task.scale.commits}


def load_objects(task: Task) -> dict[str, float]:
    with opened(task) as db, connected(db) as connection:
        objects = connection.root()["objects"]

        def once() -> float:
            connection.cacheMinimize()
            started = time.perf_counter()
            for one in objects:
                one._p_activate()
            return time.perf_counter() - started

        return {"seconds": min(once() for _ in range(task.scale.local_rounds))}


def write_huge(task: Task) -> dict[str, float]:
    with opened(task) as db, connected(db) as connection:
        return peak(lambda: (_write_blob(connection, "huge", task.scale, task.scale.huge), commit(connection)))


def read_huge(task: Task) -> dict[str, float]:
    with opened(task) as db, connected(db) as connection:
        blob = connection.root()["huge"]

        def work() -> None:
            left = task.scale.huge
            with blob.open("r") as file:
                while block := file.read(MB):
                    left -= len(block)
            assert not left

        return peak(work)


def peak(work: Callable[[], object]) -> dict[str, float]:
    """How far this process's resident memory rises during ``work`` above what it is with the database open."""
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak (proc(5))
    idle = status("VmRSS")
    started = time.perf_counter()
    work()
    return {"seconds": time.perf_counter() - started, "above_idle": status("VmHWM") - idle, "idle": idle}


def status(name: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name + ":"))
    return int(line.split()[1]) * 1024


def main(task: Task) -> None:
    if task.contestant in (BARE, BOTO3):
        from benchmarks import bare as works
    else:
        works = sys.modules[__name__]  # type: ignore[assignment]
    print(json.dumps(getattr(works, task.work)(task)))


if __name__ == "__main__":
    main(Task.from_json(sys.stdin.read()))
