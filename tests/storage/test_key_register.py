"""What the bucket knows of the keys of a ring."""

from __future__ import annotations

import base64
import json
import logging
import os
import re
import runpy
import subprocess
import sys
from collections import Counter
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from key_register_process import as_json, ring_of
from store_time import DAY, ShiftedStore

from collective.s3blobstorage.encryption import register
from collective.s3blobstorage.encryption.envelope import DataKey, unwrap
from collective.s3blobstorage.encryption.register import Entry, activate, add, open_ring, read, read_all, retire
from collective.s3blobstorage.errors import ConfigurationError, ObjectMissing, RecordError, UnsafeError
from collective.s3blobstorage.objectstore import open_store

A, B, C = "2025-03", "2026-11", "2027-01"
KEYS = {A: "aa" * 32, B: "bb" * 32, C: "cc" * 32}
MODE = "client-side"
MAKE_VECTORS = Path(__file__).resolve().parents[1] / "data" / "encryption" / "make_vectors.py"


@pytest.fixture
def store(settings):
    with closing(open_store(settings)) as opened:
        yield opened


def ring(*ids: str, active: str | None = None, **other: str | None):
    """Of the keys of these ids; ``_2025_03="dd" * 32`` has other bytes than KEYS, None: wrapped by somebody else."""
    given = {name.strip("_").replace("_", "-"): value for name, value in other.items()}
    keys = {id: KEYS[id] for id in ids if id not in given} | given
    return ring_of(keys, active or next(iter(keys)))


def opened(store, keys, *, writable: bool = True, mode: str = MODE) -> dict[str, str]:
    """The states after an opening."""
    return {entry.id: entry.state for entry in open_ring(store, keys, mode, writable=writable)}


def states(store) -> dict[str, str]:
    return {entry.id: entry.state for entry in read_all(store)}


def whole(store) -> dict[str, bytes]:
    return {line.key: store.get_bytes(line.key) for line in store.list("keys/")}


# What is written


def test_the_first_opening_makes_the_entries(store):
    before = datetime.now(UTC) - timedelta(minutes=1)
    assert opened(store, ring(B, A)) == {B: "active", A: "added"}
    assert states(store) == {B: "active", A: "added"}
    entry = read(store, B)
    assert (entry.id, entry.mode, entry.version) == (B, MODE, ring(B).active.version)
    assert set(entry.since) == {"added", "active"} and before < entry.since["active"] < before + timedelta(minutes=10)
    assert entry.since["active"].tzinfo is not None and entry.kept is None


def test_nothing_of_a_key_is_in_the_bucket(store):
    opened(store, ring(B, A))
    told = b"".join(whole(store).values())
    for key in (bytes.fromhex(KEYS[A]), bytes.fromhex(KEYS[B])):
        for form in (key, key.hex().encode(), base64.b64encode(key), base64.urlsafe_b64encode(key)):
            assert form not in told


def test_an_entry_by_hand(store):
    """As docs/encryption.md says, with the second implementation's derivation."""
    opened(store, ring(B))
    told = json.loads(store.get_bytes(f"keys/{B}"))
    derived = runpy.run_path(str(MAKE_VECTORS))["derived"]
    key, canary = bytes.fromhex(KEYS[B]), base64.b64decode(told["canary"])
    assert told["version"] == derived(key, "version", 4).hex()
    plain = AESGCM(derived(key, "canary")).decrypt(canary[:12], canary[12:], f"1\0{B}\0{MODE}".encode())
    assert plain == b"s3blobs canary"
    document = (MAKE_VECTORS.parents[3] / "docs" / "encryption.md").read_text()
    chapter = document.partition("## What the bucket knows of a key")[2].partition("\n## ")[0]
    fields = re.findall(r"^\| (`.+?) \|", chapter, re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", " ".join(fields))) == told.keys() | {"kept"}


def test_what_is_known_costs_one_request_a_key_and_no_write(proxy, settings, store):
    opened(store, ring(C, B, A))
    before = whole(store)
    with closing(open_store(replace(settings, endpoint_url=proxy.endpoint_url))) as counted:
        for _ in range(2):
            proxy.reset()
            assert opened(counted, ring(C, B, A)) == {C: "active", B: "added", A: "added"}
            assert proxy.methods() == Counter(GET=3)
    assert whole(store) == before


def test_the_time_is_the_stores(store):
    shifted = ShiftedStore(store)
    opened(shifted, ring(A))
    shifted.advance(400 * DAY)
    opened(shifted, ring(B, A))
    now, old, new = datetime.now(UTC), read(store, A), read(store, B)
    assert old.since["superseded"] == new.since["active"] > now + timedelta(days=399)
    assert old.since["active"] < now + timedelta(minutes=10) and old.state == "superseded"


# Another key becomes the active one


def test_the_active_key_supersedes_the_one_before(store):
    opened(store, ring(A))
    assert opened(store, ring(A, B, active=A)) == {A: "active", B: "added"}  # every process reads with it first
    opened(store, ring(A, B, active=B))
    assert states(store) == {A: "superseded", B: "active"}
    opened(store, ring(C))  # the others are not in this zope.conf at all
    assert states(store) == {A: "superseded", B: "superseded", C: "active"}


def test_two_are_never_active_at_one_moment(store):
    """Also where the process is killed between two writes: the next one that opens makes its key active."""
    opened(store, ring(A, B, active=A))

    class Killed:
        puts = 0

        def __getattr__(self, name):
            return getattr(store, name)

        def put_bytes(self, key, data):
            self.puts += 1
            if self.puts == 2:
                raise KeyboardInterrupt
            return store.put_bytes(key, data)

    with pytest.raises(KeyboardInterrupt):
        opened(Killed(), ring(A, B, active=B))
    assert states(store) == {A: "superseded", B: "added"}
    opened(store, ring(A, B, active=A))  # a late process does not come in between
    assert opened(store, ring(A, B, active=B)) == {B: "active", A: "superseded"}


def test_a_process_that_is_late_does_not_turn_it_back(store, caplog):
    opened(store, ring(A, B, active=A))
    opened(store, ring(A, B, active=B))
    before = whole(store)
    caplog.clear()
    keys = ring(A, B, active=A)
    assert opened(store, keys) == {A: "superseded", B: "active"}
    (said,) = [record for record in caplog.records if record.name == register.__name__]
    assert said.levelno == logging.WARNING and f"s3blobs keys activate {A}" in said.getMessage()
    assert whole(store) == before
    # it writes on, and others read it
    assert unwrap(ring(B, A), DataKey.draw().wrapped(keys.active, "blobs/1/2"), "blobs/1/2")
    assert activate(store, A).state == "active"
    caplog.clear()
    assert opened(store, keys) == {A: "active", B: "superseded"}
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_of_two_that_are_active_the_later_one_counts(store, caplog):
    opened(store, ring(A))
    shifted = ShiftedStore(store)
    shifted.advance(60.0)
    add(shifted, ring(B), B, MODE)
    both = read(store, B).reached("active", shifted.now())  # as two processes leave it that opened at one time
    store.put_bytes(both.key, both.to_json())
    before = whole(store)
    opened(store, ring(A, B, active=A))
    assert "another key has superseded this one" in caplog.text and whole(store) == before
    opened(store, ring(A, B, active=B))
    assert states(store) == {A: "superseded", B: "active"}


def test_one_that_opens_while_another_key_becomes_active(store):
    """It sees the new one active, or itself superseded, whatever the clocks say: it never turns it back."""
    ahead = ShiftedStore(store)
    ahead.advance(3600.0)
    opened(ahead, ring(C, B, active=C))

    class Between:
        """Another process opens between the two looks at the entries."""

        looks = 0

        def __getattr__(self, name):
            return getattr(store, name)

        def get_bytes(self, key):
            self.looks += 1
            if self.looks == 2:
                opened(store, ring(C, B, active=B))
            return store.get_bytes(key)

    between = Between()
    opened(between, ring(C, B, active=C))
    assert between.looks == 2 and states(store) == {B: "active", C: "superseded"}


# A wrong key


def refused(error, store, keys, *said: str, **more) -> None:
    before = whole(store)
    with pytest.raises(error) as raised:
        opened(store, keys, **more)
    message = str(raised.value)
    assert all(part in message for part in said) and "\n" not in message, message
    assert not any(key in message for key in KEYS.values())
    assert whole(store) == before


@pytest.mark.parametrize("writable", [True, False])
def test_a_wrong_key_is_one_sentence(store, writable):
    opened(store, ring(B, A))
    wrong = ring(B, active=B, _2025_03="dd" * 32)
    today = f"{read(store, A).since['added']:%Y-%m-%d}"
    refused(ConfigurationError, store, wrong, A, f"given for {A}", today, f"<key {A}-b>", writable=writable)
    refused(ConfigurationError, store, ring(_2026_11="dd" * 32), B, f"given for {B}", today, writable=writable)
    # two files that were taken for each other
    mixed = ring(active=B, _2026_11=KEYS[A], _2025_03=KEYS[B])
    refused(ConfigurationError, store, mixed, "is not the one that the bucket knows", writable=writable)


def test_nothing_is_written_where_a_key_is_wrong(store):
    opened(store, ring(A))
    refused(ConfigurationError, store, ring(C, B, active=C, _2025_03="dd" * 32), A)


def test_a_retired_key_does_not_write(store):
    opened(store, ring(B, A, active=B))
    retire(store, A)
    refused(ConfigurationError, store, ring(A), A, "retired on", "active-key")
    assert opened(store, ring(A), writable=False) == {A: "retired"}
    assert opened(store, ring(B, A)) == {B: "active", A: "retired"}  # there it only reads


def test_a_key_of_another_section_does_not_write(store):
    """The store has seen those of SSE-C."""
    opened(store, ring(A), mode="sse-c")
    refused(ConfigurationError, store, ring(A, B, active=A), "added for sse-c", "active-key", A)
    assert opened(store, ring(B, A, active=B)) == {B: "active", A: "superseded"}
    assert opened(store, ring(A), mode="sse-c", writable=False) == {A: "superseded"}


# Damage


def change(store, key: str, /, **fields) -> None:
    told = json.loads(store.get_bytes(f"keys/{key}"))
    told |= fields
    data = {name: value for name, value in told.items() if value is not ...}
    store.put_bytes(f"keys/{key}", json.dumps(data).encode())


DAMAGES = [
    {"format": 0},
    {"format": "1"},
    {"format": True},
    {"format": ...},
    {"id": A},
    {"id": ["x"]},
    {"version": "1234567"},
    {"version": "00000000"},
    {"version": 5},
    {"mode": ...},
    {"mode": 5},
    {"mode": "sse-c"},
    {"mode": "\ud800"},
    {"state": "lost"},
    {"state": ["active"]},
    {"state": "superseded"},  # and since nothing is said of that
    {"since": {}},
    {"since": "2026-11-26"},
    {"since": {"added": "2026-11-26T00:00:00", "active": "2026-11-26T00:00:00"}},  # of no zone
    {"since": {"added": "yesterday", "active": "2026-11-26T00:00:00+00:00"}},
    {"since": {"added": 5, "active": 6}},
    {"canary": ""},
    {"canary": "no base 64!"},
    {"canary": base64.b64encode(bytes(42)).decode()},
    {"canary": base64.b64encode(bytes(5)).decode()},
    {"canary": ["x"]},
    {"kept": None},
    {"kept": "?"},
]


@pytest.mark.parametrize("fields", DAMAGES, ids=str)
def test_a_damaged_entry(store, fields):
    opened(store, ring(B))
    change(store, B, **fields)
    refused(RecordError, store, ring(B), f"keys/{B}", "damaged", "older version")


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b"5", b"\xff\xfe", b"[" * 100_000, b"[]" * 9])
def test_something_else_in_its_place(store, data):
    opened(store, ring(B))
    store.put_bytes(f"keys/{B}", data)
    refused(RecordError, store, ring(B), f"keys/{B}", "damaged")
    with pytest.raises(RecordError):
        read_all(store)


def test_an_entry_in_anothers_place(store):
    opened(store, ring(A, B))
    store.put_bytes(f"keys/{B}", store.get_bytes(f"keys/{A}"))
    refused(RecordError, store, ring(A, B), f"keys/{B}")


def test_a_newer_format_and_fields_of_a_newer_release(store):
    opened(store, ring(A, B))
    change(store, A, format=2)
    refused(RecordError, store, ring(A, B), f"keys/{A}", "upgrade this process")
    change(store, A, format=1, rotation={"every": 90})
    opened(store, ring(A, B, active=B))
    kept = json.loads(store.get_bytes(f"keys/{A}"))
    assert kept["state"] == "superseded" and kept["rotation"] == {"every": 90}


def test_an_entry_is_what_was_written(store):
    moment = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
    entry = Entry("x", "0a0b0c0d", MODE, "active", {"added": moment, "active": moment}, b"\0\1", b"\2\3", {"new": [1]})
    assert Entry.from_json("x", entry.to_json()) == entry
    assert "\\x00\\x01" not in repr(entry) and "\\x02" not in repr(entry)


def test_other_objects_there_are_passed_over(store):
    opened(store, ring(A))
    store.put_bytes("keys/.hidden", b"x")
    store.put_bytes("keys/a/b", b"x")
    assert states(store) == {A: "active"}


# Read-only


def test_read_only_nothing_is_written(store, settings):
    keys = ring(B, A)
    with closing(open_store(settings, read_only=True)) as reading:
        assert opened(reading, keys, writable=False) == {}
    assert whole(store) == {} and keys.active.id == B
    opened(store, ring(A))
    before = whole(store)
    with closing(open_store(settings, read_only=True)) as reading:
        assert opened(reading, ring(B, A), writable=False) == {A: "active"}
    assert whole(store) == before


# Keys that somebody else wraps


def test_a_wrapped_key_is_made_once_and_kept(store):
    first, second = ring(_2026_11=None), ring(_2026_11=None)
    assert opened(store, first) == opened(store, second) == {B: "active"}
    assert first.active.name == second.active.name and bytes(first.active.material) == bytes(second.active.material)
    assert first.providers[B].made == 1 and second.providers[B].made == 0
    assert read(store, B).kept
    opened(store, ring(A, active=A, _2026_11=None))
    again = ring(_2026_11=None)
    opened(store, again, writable=False)
    assert again.active.name == first.active.name  # its state was written, and the key is still there


def test_a_ring_asks_the_bucket_later_too(store):
    opened(store, ring(_2026_11=None))
    late = ring(A)
    opened(store, late)
    assert late.kept_of(B) == read(store, B).kept and late.kept_of(C) is None


def test_a_wrapped_key_is_not_made_read_only(store):
    refused(ConfigurationError, store, ring(_2026_11=None), f"s3blobs keys add {B}", "read-only", writable=False)


def test_a_wrapped_key_is_not_made_at_a_start_without_conditional_writes(store):
    store.conditional_put = False
    refused(ConfigurationError, store, ring(_2026_11=None), f"s3blobs keys add {B}", "conditional")
    keys = ring(_2026_11=None)
    assert add(store, keys, B, MODE).state == "added"
    assert opened(store, keys) == {B: "active"}
    assert opened(store, ring(B, A, active=A, _2026_11=None)) == {A: "active", B: "superseded"}


def test_a_wrapped_key_by_the_id_of_one_that_is_not(store):
    opened(store, ring(B))
    refused(ConfigurationError, store, ring(_2026_11=None), "nobody wraps", f"<key {B}-b>")


def test_another_wrapped_key_in_its_place(store):
    """As somebody may put it there who can write into the bucket, and once could have keys wrapped."""
    opened(store, ring(_2026_11=None))
    other = ring(_2026_11=None).providers[B].make()
    change(store, B, kept=base64.b64encode(other).decode())
    refused(ConfigurationError, store, ring(_2026_11=None), "is not the one that the bucket knows")


# Several processes


def at_once(settings, givens: list[tuple[dict[str, str | None], str]]) -> list[dict]:
    program = [sys.executable, Path(__file__).with_name("key_register_process.py")]
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path))
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
    started = [subprocess.Popen(program, env=environment, **pipes) for _ in givens]
    try:
        for process, (keys, active) in zip(started, givens, strict=True):
            process.stdin.write(json.dumps({"store": as_json(settings), "keys": keys, "active": active}) + "\n")
        for process in started:
            assert process.stdout.readline() == "ready\n"
        for process in started:
            process.stdin.write("go\n")
        return [json.loads(process.communicate(timeout=60)[0]) for process in started]
    finally:
        for process in started:
            process.kill()
            process.wait()


def test_processes_that_start_at_once_make_one_entry(settings, store):
    came = at_once(settings, [({B: KEYS[B], A: KEYS[A]}, B)] * 4)
    assert len({json.dumps(told, sort_keys=True) for told in came}) == 1 and "error" not in came[0]
    assert states(store) == {A: "added", B: "active"}


def test_processes_that_start_at_once_make_one_wrapped_key(settings, store):
    if not store.conditional_put:
        pytest.skip("this store has no conditional writes")
    came = at_once(settings, [({B: None}, B)] * 4)
    assert {told["keys"][0] for told in came} == {f"{B}/{read(store, B).version}"}


def test_of_two_keys_by_one_id_one_process_starts(settings, store):
    came = at_once(settings, [({B: KEYS[B]}, B), ({B: KEYS[C]}, B)])
    errors = [told["error"] for told in came if "error" in told]
    assert len(errors) == 1 and "is not the one that the bucket knows" in errors[0]
    assert [told["versions"] for told in came if "versions" in told] == [{B: read(store, B).version}]


def test_two_active_keys_at_once_end_with_one(settings, store):
    opened(store, ring(A))
    both = {A: KEYS[A], B: KEYS[B]}
    came = at_once(settings, [(both, A), (both, B), (both, A), (both, B)])
    assert not any("error" in told for told in came)
    assert states(store) == {A: "superseded", B: "active"}


def test_without_conditional_writes_the_entry_that_is_there_counts(store, settings):
    """Both wrote; what the later one reads is what both go on with."""
    store.conditional_put = False

    class Overtaken:
        """While it asks whether there is an entry, another process makes one; the store keeps no condition."""

        def __getattr__(self, name):
            return getattr(store, name)

        def put_bytes(self, key, data, *, if_absent=False, **more):
            if if_absent:
                store.put_bytes(key, data, **more)
                with closing(open_store(settings)) as other:
                    other.conditional_put = False
                    other.put_bytes(key, others)
                return None
            return store.put_bytes(key, data, **more)

    opened(store, ring(B))
    others = store.get_bytes(f"keys/{B}")
    store.delete([f"keys/{B}"])
    assert opened(Overtaken(), ring(B)) == {B: "active"}
    assert store.get_bytes(f"keys/{B}") == others
    store.delete([f"keys/{B}"])
    with pytest.raises(ConfigurationError, match="is not the one that the bucket knows"):
        opened(Overtaken(), ring(_2026_11=KEYS[C]))


# The changes of the command


def test_add(store):
    keys = ring(A, B)
    opened(store, ring(A))
    assert add(store, keys, B, MODE).state == "added" and states(store) == {A: "active", B: "added"}
    with pytest.raises(ConfigurationError, match=f"knows the key {B} since .* already: it is added"):
        add(store, keys, B, MODE)
    with pytest.raises(ConfigurationError, match=f"no key {C} in zope.conf"):
        add(store, keys, C, MODE)


def test_activate(store):
    opened(store, ring(A, B, C))
    retire(store, C)
    assert activate(store, B) == read(store, B) and states(store) == {A: "superseded", B: "active", C: "retired"}
    before = whole(store)
    assert activate(store, B) == read(store, B) and whole(store) == before
    assert activate(store, A).state == "active" and states(store)[B] == "superseded"
    with pytest.raises(ConfigurationError, match="retired on"):
        activate(store, C)
    for unknown in ("nobody", "../x", ""):
        with pytest.raises(ConfigurationError, match="s3blobs keys list"):
            activate(store, unknown)


def test_retire(store):
    opened(store, ring(A, B))
    with pytest.raises(UnsafeError, match="active-key"):
        retire(store, A)
    assert retire(store, B) == read(store, B) and states(store) == {A: "active", B: "retired"}
    before = whole(store)
    assert retire(store, B).state == "retired" and whole(store) == before
    with pytest.raises(ConfigurationError, match="s3blobs keys list"):
        retire(store, C)
    with pytest.raises(ObjectMissing):
        store.get_bytes(f"keys/{C}")
