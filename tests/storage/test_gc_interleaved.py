"""A commit that shares an object and garbage collection at one moment: two processes, stepped request by request.

The store is a real one. Every request of which the protocol of ``dedup`` speaks waits until the test lets it go:
reference, look for marks, bytes, look at the object on one side; marks, references, mark, marks again, deletion on the
other. What is never lost is the object that a committed record names; what never comes again is a generation that was
deleted.
"""

from __future__ import annotations

import json
import os
import queue
import random
import subprocess
import sys
import threading
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from servers.proxy import Proxy
from shared_blobs import name_of
from sites import bucket_keys, store_as_json
from ZODB.FileStorage import FileStorage

from collective.s3blobstorage.keys import OBJECTS, condemned_key, object_key, reference_key
from collective.s3blobstorage.objectstore import open_store
from collective.s3blobstorage.storage.record import read_state

pytestmark = pytest.mark.clear  # nothing is shared where keys of ours encrypt

WRITER, GC = "w", "g"
ROUNDS = 2  # of gc: what is to be marked by the first is to be deleted by the second
MOST = {WRITER: 7, GC: 8}  # steps that one takes
OF_INTEREST = ("condemned", "/objects/", "/blobs/", "?delete", "list-type=2&prefix=&")


class Stepped(Proxy):
    """Each request of interest waits for its turn, once ``stepping``."""

    def __init__(self, upstream, events):
        super().__init__(upstream)
        self.stepping = False
        self.turn = threading.Semaphore(0)
        self._events = events

    def note(self, head):
        noted = super().note(head)
        if self.stepping and any(part in head.target for part in OF_INTEREST):
            self._events.put(("request", head.line))
            self.turn.acquire()
        return noted


class Player:
    """A process, one thing after the other to do for it, and the request before which it waits."""

    def __init__(self, role, server, settings, site):
        self._events = queue.Queue()
        self.proxy = Stepped(server.endpoint_url, self._events)
        self.proxy.start()
        store = store_as_json(settings) | {"endpoint_url": self.proxy.endpoint_url}
        self._process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("sharing_process.py")],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        threading.Thread(target=self._read, daemon=True).start()
        self._left = []
        self.told = []
        self.waits = ""
        self._say({"role": role, "store": store, **site})
        assert self._next() == "ready"

    def _read(self):
        for line in self._process.stdout:
            self._events.put(("answer", json.loads(line)))
        self._events.put(("answer", "ended"))

    def _say(self, line):
        self._process.stdin.write(json.dumps(line) + "\n")
        self._process.stdin.flush()

    def _next(self):
        what, said = self._events.get(timeout=60)
        self.waits = said if what == "request" else ""
        return said

    def begin(self, *tasks):
        self._left, self.told = list(tasks), []
        self.proxy.stepping = True
        self._go_on()

    def _go_on(self):
        while self._left and not self.waits:
            self._say(self._left.pop(0))
            said = self._next()
            if not self.waits:
                self.told.append(said)

    def step(self):
        """Let one request go, and wait for the next one. Whether there was one."""
        if not self.waits:
            return False
        self.proxy.turn.release()
        said = self._next()
        if not self.waits:
            self.told.append(said)
            self._go_on()
        return True

    def at_once(self, *tasks):
        self.proxy.stepping = False
        for task in tasks:
            self._say(task)
            self._next()

    def close(self):
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()
        self.proxy.turn.release(100)
        self.proxy.close()


@dataclass
class Stage:
    """The two processes, the bucket, and the database."""

    writer: Player
    gc: Player
    bucket: object
    settings: object
    data_fs: str
    seen: list = field(default_factory=list)

    def run(self, order, task):
        """Both, in that order of steps; then the writer to its end, then gc. What the writer said."""
        self.writer.proxy.reset()
        self.writer.begin(task)
        self.gc.begin(*[{}] * ROUNDS)
        players = {WRITER: self.writer, GC: self.gc}
        for who in order:
            self.seen.append(players[who].waits)
            players[who].step()
        while self.writer.step() or self.gc.step():
            pass
        return self.writer.told[-1]

    def made(self):
        """The keys of shared objects that the writer made."""
        return [
            exchange.path[exchange.path.index(f"/{OBJECTS}") + 1 :]
            for exchange in self.writer.proxy.exchanges
            if exchange.method == "PUT" and f"/{OBJECTS}" in exchange.path and exchange.status == 200
        ]

    def keys(self, *folders):
        return {key for key in bucket_keys(self.settings) if key.startswith(folders)}

    def check(self, revision, data):
        """That the object is there which the record names, and its reference; its generation."""
        oid, tid = map(bytes.fromhex, revision)
        with closing(FileStorage(self.data_fs, read_only=True)) as base:
            state = read_state(base.loadSerial(oid, tid))
        generation = state.object.rpartition(".")[2]
        assert state.object == name_of(data, int(generation))
        assert self.bucket.get_bytes(object_key(state.object)) == data
        assert reference_key(oid, state.name, state.object) in self.keys("blobs/")
        return generation


@pytest.fixture
def stage(s3_server, settings, tmp_path):
    with ExitStack() as stack:
        site = {"data_fs": str(tmp_path / "Data.fs"), "cache": str(tmp_path / "cache")}
        bucket = stack.enter_context(closing(open_store(settings)))
        writer = stack.enter_context(closing(Player("writer", s3_server, settings, site)))
        writer.at_once({"name": "first", "data": b"so that no database is empty".hex()})
        gc = stack.enter_context(closing(Player("gc", s3_server, settings, site)))
        yield Stage(writer, gc, bucket, settings, site["data_fs"])


def orders(count):
    """All in which one comes to a point and then the other goes to its end; and some of all others, always the same."""
    whole = {WRITER: WRITER * MOST[WRITER], GC: GC * MOST[GC]}
    fixed = [
        first * number + whole[second] for first, second in (WRITER + GC, GC + WRITER) for number in range(MOST[first])
    ]
    drawn = random.Random(20261127)
    mixed = []
    while len(fixed) + len(mixed) < count:
        order = list(whole[WRITER] + whole[GC])
        drawn.shuffle(order)
        mixed.append("".join(order))
    if count >= len(fixed):
        return fixed + mixed
    return [fixed[round(number * (len(fixed) - 1) / max(count - 1, 1))] for number in range(count)]


def before(stage, state, data):
    """What is in the bucket of those bytes when the two begin."""
    if state == "nothing":
        return
    stage.bucket.put_bytes(object_key(name_of(data)), data)
    if state == "marked":
        stage.bucket.put_bytes(condemned_key(name_of(data)), b"")


@pytest.mark.parametrize("state", ["nothing", "unmarked", "marked"])
@pytest.mark.parametrize("ends", ["committed", "aborted"])
def test_no_order_of_requests_loses_what_is_committed(stage, tier, state, ends):
    generations = set()
    for number, order in enumerate(orders(tier["interleavings"])):
        data = f"{state} {ends} {number}".encode()
        before(stage, state, data)
        there = stage.keys(OBJECTS)
        revision = stage.run(order, {"name": f"blob{number}", "data": data.hex(), "abort": ends == "aborted"})
        # One that was there is never made again: where it went, it went for good.
        made = [key for key in stage.made() if name_of(data)[:64] in key]
        assert len(made) <= 1 and not set(made) & there, order
        expected = set()
        if ends == "committed":
            generation = stage.check(revision, data)
            generations.add(generation)
            expected = {object_key(name_of(data, int(generation)))}
        stage.gc.at_once({}, {})
        if ends == "committed":
            stage.check(revision, data)
        assert {key for key in stage.keys(OBJECTS) if name_of(data)[:64] in key} == expected, order
    if ends == "committed" and tier["interleavings"] > 10:
        # Both ends were met: that the object was there in time, and that it was given up.
        assert generations == {"nothing": {"0"}, "unmarked": {"0", "1"}, "marked": {"1"}}[state]


def test_the_two_really_take_turns(stage):
    """Each request of the protocol was one that waited: else the test above would test nothing."""
    data = b"of interest"
    before(stage, "unmarked", data)
    stage.run(GC * MOST[GC] + WRITER * MOST[WRITER], {"name": "a", "data": data.hex()})
    waited = " ".join(stage.seen)
    for line in (
        "PUT /",
        "/blobs/",
        "prefix=condemned",
        "/objects/",
        "HEAD /",
        "?delete",
        "list-type=2&prefix=&",
        "/condemned/",
    ):
        assert line in waited, line
    assert sum("list-type=2&prefix=condemned%2F&" in line for line in stage.seen) >= ROUNDS
