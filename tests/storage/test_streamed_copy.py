"""Copies that the store cannot make pass through this process: in flat memory, and nothing of them on its disk."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import sys
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from rings import client_side, sse_c
from servers.faults import answer, reset
from sites import bucket_keys, unfinished_uploads

from collective.s3blobstorage.encryption.none import NoEncryption
from collective.s3blobstorage.errors import Corrupt, PreconditionFailed, Refused
from collective.s3blobstorage.objectstore import open_store

MB = 1024 * 1024
KEY = hashlib.sha256(b"the key of these tests").digest()
SOURCE = "uploads/" + "1" * 32
TARGET = "blobs/0000000000000001/" + "a" * 32
BLOCK = os.urandom(MB)

pytestmark = pytest.mark.clear  # each test chooses its encryption

_opened = []  # what this process opened for writing while it is watched
_watching = False


def _watch(event, arguments):
    if _watching and event == "open" and (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        _opened.append(arguments[0])


sys.addaudithook(_watch)


@contextmanager
def no_file():
    """Fails where a file is opened for writing meanwhile, in any thread."""
    global _watching
    _opened.clear()
    _watching = True
    try:
        yield
    finally:
        _watching = False
    assert _opened == []


def peak() -> int:
    """Bytes of resident memory at its highest since ``reset_peak``: proc(5), VmHWM."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


def reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


class Made:
    """``size`` bytes that differ from megabyte to megabyte, and lie nowhere: what ``put_file`` takes."""

    def __init__(self, size):
        self.size = size

    @contextmanager
    def opened(self):
        yield self

    def reader(self):
        return self.read

    def read(self, amount, start):
        number, at = divmod(start, MB)
        count = min(amount, self.size - start, MB - at)
        beginning = number.to_bytes(8, "big")[at : at + count]
        return beginning + BLOCK[at + len(beginning) : at + count]

    def sha256(self):
        digest = hashlib.sha256()
        for start in range(0, self.size, MB):
            digest.update(self.read(MB, start))
        return digest.digest()


class Sink:
    """A file whose bytes are only hashed."""

    def __init__(self):
        self.digest = hashlib.sha256()

    def write(self, block):
        self.digest.update(block)
        return len(block)

    def seek(self, offset):
        return offset

    def truncate(self, size):
        self.digest = hashlib.sha256()
        return size


@pytest.fixture(params=["client-side", "sse-c"])
def store(request, secure):
    """A store that has to encrypt what lies in clear by itself, or cannot copy into its encryption."""
    mode = {"client-side": client_side, "sse-c": sse_c}[request.param]
    with closing(open_store(dataclasses.replace(secure, encryption=mode(KEY)))) as store:
        store.open_bucket(True)
        store.measured(copies_encrypted=False)
        yield store


@pytest.fixture
def clear(store):
    return store.encrypted_with(NoEncryption())


@pytest.mark.large
def test_memory_stays_flat_and_nothing_is_on_the_disk(store, clear, tls_proxy, secure, s3_server):
    made = Made(112 * MB + 12345)
    plain = dataclasses.replace(secure, endpoint_url=s3_server.endpoint_url)  # faster than TLS
    with closing(open_store(plain)) as sender:
        source = sender.put_file(SOURCE, made, metadata={})
    sent = []
    tls_proxy.reset()
    reset_peak()
    before = peak()
    with no_file():
        copied = store.copy(SOURCE, TARGET, source_store=clear, if_match=source.etag, progress=sent.append)
    grown = peak() - before
    print(f"{made.size // MB} MB: {grown / MB:.1f} MB of memory")
    assert grown < 100 * MB < made.size
    assert (copied.size, copied.sha256) == (made.size, made.sha256())
    assert sum(sent) == made.size
    brought = sum(each.bytes_down for each in tls_proxy.exchanges if each.operation == "GetObject")
    assert made.size <= brought < made.size * 1.02  # each byte once
    assert store.head(TARGET).size == made.size
    assert unfinished_uploads(secure) == []


@pytest.mark.parametrize("size", [0, 1, MB, MB + 1, 16 * MB, 16 * MB + 1, 33 * MB + 7])
def test_each_size(store, clear, size):
    made = Made(size)
    clear.put_file(SOURCE, made, metadata={"word": "kept"})
    with no_file():
        copied = store.copy(SOURCE, TARGET, source_store=clear)
    assert (copied.size, copied.sha256) == (size, made.sha256())
    told = store.head(TARGET)
    assert (told.size, told.metadata["word"]) == (size, "kept")
    sink = Sink()
    store.get_file(TARGET, sink)
    assert sink.digest.digest() == made.sha256()


def test_a_source_that_is_changed_on_the_way(store, clear, secure):
    """Of six parts four are held at a time: the fifth is read when something of the first ones was sent."""
    source = clear.put_file(SOURCE, Made(82 * MB), metadata={})
    changed = []

    def progress(count):
        if not changed:
            changed.append(clear.put_bytes(SOURCE, b"another object"))

    with pytest.raises(PreconditionFailed):
        store.copy(SOURCE, TARGET, source_store=clear, if_match=source.etag, progress=progress)
    assert bucket_keys(secure) == [SOURCE]
    assert unfinished_uploads(secure) == []


def test_what_is_not_what_was_stored_is_not_stored_again(store, clear, secure):
    """The hash that the source's metadata have is compared before the last bytes are sent."""
    made = Made(20 * MB)
    wrong = hashlib.sha256(b"of other bytes").digest()
    clear.put_file(SOURCE, made, metadata={}, sha256=wrong)
    assert clear.head(SOURCE).metadata["sha256"] == wrong.hex()
    with pytest.raises(Corrupt):
        store.copy(SOURCE, TARGET, source_store=clear)
    assert bucket_keys(secure) == [SOURCE]
    assert unfinished_uploads(secure) == []


@pytest.mark.parametrize("where", ["request", "answer"])
def test_connections_that_break_on_the_way(store, clear, tls_proxy, where):
    made = Made(33 * MB)
    clear.put_file(SOURCE, made, metadata={})
    reading = tls_proxy.fail(reset("response"), method="GET", target=SOURCE, nth=2)
    sending = tls_proxy.fail(reset(where), method="PUT", target="partNumber", nth=2)
    with no_file():
        copied = store.copy(SOURCE, TARGET, source_store=clear)
    assert reading.hits == 1 and sending.hits == 1
    assert copied.sha256 == made.sha256()
    sink = Sink()
    store.get_file(TARGET, sink)
    assert sink.digest.digest() == made.sha256()


def test_an_object_takes_its_own_place(secure, tls_proxy):
    """As a rotation of keys on a store that copies nothing of a customer's: until all has arrived it is as it was."""
    keys = {"one": KEY, "two": bytes(range(32))}
    made = Made(40 * MB)
    with (
        closing(open_store(dataclasses.replace(secure, encryption=sse_c(active="one", **keys)))) as before,
        closing(open_store(dataclasses.replace(secure, encryption=sse_c(active="two", **keys)))) as after,
    ):
        before.put_file(TARGET, made, metadata={"word": "kept"})
        after.measured(copies_encrypted=False)
        last = tls_proxy.fail(answer(403, "AccessDenied"), method="PUT", target="partNumber=3")
        with no_file(), pytest.raises(Refused):
            after.protect(TARGET, convert=False)
        assert last.hits == 1
        assert unfinished_uploads(secure) == []
        assert before.protection(TARGET).key == before.encryption.ring.active.name
        with no_file():
            assert after.protect(TARGET, convert=False).what == "rewrapped"
        assert after.protection(TARGET).key == after.encryption.ring.active.name
        sink = Sink()
        assert after.get_file(TARGET, sink).metadata["word"] == "kept"
        assert sink.digest.digest() == made.sha256()
