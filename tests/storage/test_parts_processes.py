"""One large blob and several processes: each part downloaded once, kill -9, forks, memory."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from cache_state import Form, downloads_are_locked, stored_bytes
from part_source import FileSource
from rings import ring

from collective.s3blobstorage.cache import BlobCache
from collective.s3blobstorage.cache.prefetch import PARALLEL

KB = 1024
MB = 1024 * KB
PART = 64 * KB
KEY = bytes(8), bytes(8)
EACH_PART = [(at * PART, PART) for at in range(60)] + [(60 * PART, 1)]
TESTS = Path(__file__).parents[1]

PRELUDE = """
import hashlib, logging, os, random, sys, threading, time, warnings
from pathlib import Path
from cache_state import stored_bytes
from part_source import FileSource
from rings import ring
from collective.s3blobstorage.cache import BlobCache
RING = ring() if os.environ["CACHE_FORM"] == "encrypted" else None
logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
warnings.simplefilter("ignore")  # forking with threads: it is what is tested
KB, MB = 1024, 1024 * 1024
ROOT = Path(sys.argv[1])
KEY = bytes(8), bytes(8)
def say(*words):
    print(*words, flush=True)
def opened(**options):
    return BlobCache(ROOT / "cache", "store", **{"size": 1000 * MB, "part_threshold": 128 * KB, "part_size": 64 * KB,
                                                 "ring": RING, **options})
def completed(cache, blob):
    return stored_bytes(cache, cache.complete(*KEY, blob), *KEY)
def source(**options):
    return FileSource(ROOT / "blob", ROOT / "log", **options)
def lazily(cache, source):
    return cache.open_lazily(*KEY, source, name=Path("/name"))
"""


@pytest.fixture(autouse=True, params=["plain", "encrypted"])
def form(request, monkeypatch):
    """Everything here holds whether the files are encrypted or not."""
    monkeypatch.setattr(Form, "ring", ring() if request.param == "encrypted" else None)
    monkeypatch.setenv("CACHE_FORM", request.param)


def opened(tmp_path):
    options = {"size": 1000 * MB, "part_threshold": 2 * PART, "part_size": PART}
    return BlobCache(tmp_path / "cache", "store", ring=Form.ring, **options)


@pytest.fixture
def blob(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "blob").write_bytes(random.Random(1).randbytes(60 * PART + 1))
    return FileSource(tmp_path / "blob", tmp_path / "log")


@pytest.fixture
def start(tmp_path, blob):
    processes = []

    def start_process(script, *arguments):
        environment = dict(
            os.environ,
            TMPDIR=str(tmp_path / "elsewhere"),
            PYTHONPATH=os.pathsep.join([str(TESTS), *sys.path]),
        )
        process = subprocess.Popen(
            [sys.executable, "-c", PRELUDE + textwrap.dedent(script), str(tmp_path), *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip
        processes.append(process)
        return process

    yield start_process
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.communicate()


def hear(process, expected):
    line = process.stdout.readline().strip()
    if line != expected:
        process.kill()
        raise AssertionError(f"{line!r} instead of {expected!r}: {process.communicate()[1]}")


def go(processes):
    for process in processes:
        hear(process, "ready")
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()


def end(process):
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return out, err


def files(tmp_path):
    return sorted(path.suffix for path in tmp_path.glob("cache/*/blobs/*/*"))


READING = {
    "whole": """
        with lazily(cache, blob) as reader:
            while piece := reader.read(50000):
                digest.update(piece)
        """,
    "complete": """
        digest.update(completed(cache, blob))
        """,
    "randomly": """
        data = (ROOT / "blob").read_bytes()
        randomly = random.Random(os.getpid())
        with lazily(cache, blob) as reader:
            for _ in range(60):
                at = randomly.randrange(len(data))
                reader.seek(at)
                assert reader.read(100_000) == data[at:at + 100_000], "a wrong byte"
            reader.seek(0)
            digest.update(reader.read())
        """,
}


@pytest.mark.parametrize("how", READING)
def test_eight_processes_download_each_part_once(tmp_path, start, blob, how):
    script = f"""
    cache, blob, digest = opened(), source(pause=0.01), hashlib.sha256()
    def read(digest):
        {textwrap.indent(textwrap.dedent(READING[how]), "        ").strip()}
    say("ready")
    sys.stdin.readline()
    digests = [hashlib.sha256(), hashlib.sha256()]
    threads = [threading.Thread(target=read, args=(digest,)) for digest in digests]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    cache.close()
    say(*[digest.digest() == blob.sha256 for digest in digests], cache.counters.snapshot()["errors"])
    """
    processes = [start(script) for _ in range(8)]
    go(processes)
    for process in processes:
        assert end(process) == ("True True 0\n", "")
    assert sorted(blob.delivered()) == EACH_PART
    if how == "randomly":
        assert len(blob.readers()) > 1, "the processes did not share the work"
    else:
        # A run is asked for once, and once more for a process that began within it: six of them make a whole sequential
        # read, five complete a file.
        assert len(blob.reads()) <= 2 * 6
    assert files(tmp_path) == [".blob"]
    assert not downloads_are_locked(tmp_path)
    assert list(tmp_path.glob("cache/*/processes/*")) == []


@pytest.mark.parametrize("first", [0, 7, 30])
def test_two_processes_that_read_side_by_side(tmp_path, start, blob, first):
    """The second one begins at another part, so that its runs cross those of the first one."""
    processes = [
        start(
            """
            cache, blob = opened(), source(pause=0.005)
            data, at = (ROOT / "blob").read_bytes(), int(sys.argv[2]) * 64 * KB
            say("ready")
            sys.stdin.readline()
            with lazily(cache, blob) as reader:
                reader.seek(at)
                while piece := reader.read(50_000):
                    assert piece == data[at:at + len(piece)], "a wrong byte"
                    at += len(piece)
            cache.close()
            say(cache.counters.snapshot()["errors"])
            """,
            str(at),
        )
        for at in (0, first)
    ]
    go(processes)
    for process in processes:
        assert end(process) == ("0\n", "")
    assert sorted(blob.delivered()) == EACH_PART
    # Each makes at most one request per run, and one more where the other one was within it.
    assert len(blob.reads()) <= 2 * 6


@pytest.mark.parametrize("how", ["whole", "complete"])
def test_killed_in_the_middle_and_the_next_one_uses_its_parts(tmp_path, start, blob, how):
    process = start(
        f"""
        cache, blob, digest = opened(), source(pause=0.02), hashlib.sha256()
        {textwrap.indent(textwrap.dedent(READING[how]), "        ").strip()}
        """
    )
    while len(blob.delivered()) < 30:
        assert process.poll() is None, process.communicate()
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(blob.delivered()) < 61
    cache = opened(tmp_path)
    with cache.open_lazily(*KEY, blob, name=Path("/name")) as reader:
        assert reader.read() == blob.path.read_bytes()
    # Only what was under way is fetched again: one part of each request.
    assert len(blob.delivered()) <= 61 + PARALLEL
    assert sorted(set(blob.delivered())) == EACH_PART
    assert stored_bytes(cache, cache.complete(*KEY, blob), *KEY) == blob.path.read_bytes()
    cache.clean()
    assert not downloads_are_locked(tmp_path)
    cache.close()
    assert files(tmp_path) == [".blob"]


def test_killed_at_any_instant(tmp_path, start, blob):
    """Whatever the instant: the next one reads the right bytes, and no file under a final name is anything else."""
    data = blob.path.read_bytes()
    for instant in range(12):
        process = start(
            """
            cache, blob = opened(), source()
            say("ready")
            while True:
                with lazily(cache, blob) as reader:
                    reader.read()
                cache.complete(*KEY, blob).unlink()
            """
        )
        hear(process, "ready")
        time.sleep(0.007 * instant)
        process.kill()
        process.wait()
        cache = opened(tmp_path)
        for path in tmp_path.glob("cache/*/blobs/*/*.blob"):
            assert stored_bytes(cache, path, *KEY) == data
        with cache.open_lazily(*KEY, blob, name=Path("/name")) as reader:
            assert reader.read() == data
        cache.close()
        assert ".blob" in files(tmp_path)
        for path in tmp_path.glob("cache/*/blobs/*/*.blob"):
            path.unlink()


def test_a_part_of_a_process_that_is_killed_is_taken_over_at_once(tmp_path, start, blob):
    process = start(
        """
        cache, blob = opened(), source(pause=60)
        lazily(cache, blob).read(1)
        """
    )
    while not blob.reads():
        time.sleep(0.005)
    waiter = start(
        """
        cache, blob = opened(), source()
        say("ready")
        sys.stdin.readline()
        say(lazily(cache, blob).read(10) == (ROOT / "blob").read_bytes()[:10])
        cache.close()
        """
    )
    go([waiter])
    time.sleep(0.2)
    assert blob.reads() == [(0, PART)]
    process.kill()
    assert end(waiter) == ("True\n", "")


def test_a_forked_child_reads_on_and_so_does_its_parent(tmp_path, start, blob):
    process = start(
        """
        data = (ROOT / "blob").read_bytes()
        cache, blob = opened(), source(pause=0.005)
        reader = lazily(cache, blob)
        right = reader.read(300_000) == data[:300_000]  # parts are being fetched ahead now
        pid = os.fork()
        right = right and reader.read(900_000) == data[300_000:1_200_000]
        reader.seek(-1000, os.SEEK_END)
        right = right and reader.read() == data[-1000:]
        right = right and completed(cache, blob) == data
        right = right and os.pread(reader.fileno(), 1000, 0) == data[:1000]
        reader.close()
        cache.close()
        if pid == 0:
            os._exit(0 if right else 1)
        say(right, os.waitpid(pid, 0)[1])
        """
    )
    assert end(process) == ("True 0\n", "")
    assert sorted(blob.delivered()) == EACH_PART, (
        "the child did not use the parts of its parent, or the parent those of its child"
    )


GROWTH = """
def status(name):
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * KB
blob = source()
cache = BlobCache(Path(sys.argv[2]), "store", size=4000 * MB, ring=RING)
small = cache.open_lazily(bytes(8), b"another.", blob, name=Path("/small"))
small.read(1)  # so that everything is imported
small.close()
Path("/proc/self/clear_refs").write_text("5")
before = status("VmRSS")
with lazily(cache, blob) as reader:
    while reader.read(256 * KB):
        pass
say(status("VmHWM") - before)
cache.close()
"""


@pytest.mark.parametrize("root, allowed", [("{folder}/cache", 8 * MB), ("/proc/no-such-folder", 16 * MB)])
def test_memory_does_not_grow_with_the_blob(tmp_path, start, blob, root, allowed):
    """Without a disk one part of 4 MB is in memory, grown as it arrives."""
    with blob.path.open("wb") as file:
        for number in range(256):
            file.write(random.Random(number).randbytes(MB))
    out, log = end(start(GROWTH, root.format(folder=tmp_path)))
    assert int(out) < allowed
    blob.path.unlink()
