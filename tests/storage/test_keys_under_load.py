"""The keys of a site are changed while it runs: the command is killed again and again, and every read is right."""

from __future__ import annotations

import dataclasses
import hashlib
import random
import signal
import subprocess
import threading
import time

import pytest
import transaction
from command_line import SCRIPT, document, keys_of, section
from rolling_keys import after, alone, before, used
from sites import bucket_keys, connected, raw_client, read_blob, wait_until
from test_rotate import rotated
from ZODB.blob import Blob
from ZODB.POSException import ConflictError, UndoError

from collective.s3blobstorage.keys import LEASE

KB = 1024
PARTS = {"part_threshold": 256 * KB, "part_size": 64 * KB, "cache_size": 2 * KB**2}
LARGE = 600 * KB


def told(chance, size):
    """Bytes that begin with the hash of the rest: whoever reads them knows whether they are right."""
    body = chance.randbytes(size)
    return hashlib.sha256(body).digest() + body


def is_right(data):
    return hashlib.sha256(data[32:]).digest() == data[:32]


class Load:
    """Threads that use the site until they are ended; ``wrong`` has what was not as it must be."""

    def __init__(self, db, names):
        self.db = db
        self.names = names
        self.counts = {"read": 0, "by parts": 0, "committed": 0, "undone": 0, "packed": 0}
        self.wrong = []
        self._stop = threading.Event()
        works = (self._read, self._read, self._by_parts, self._commit, self._undo, self._pack)
        self._threads = [threading.Thread(target=self._run, args=(work, n)) for n, work in enumerate(works)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc_info):
        self._stop.set()
        for thread in self._threads:
            thread.join(120)
            assert not thread.is_alive()

    def _run(self, work, number):
        chance = random.Random(number)
        while not self._stop.is_set():
            try:
                work(chance)
            except Exception as error:
                self.wrong.append((work.__name__, repr(error)))
                return

    def _read(self, chance):
        name = chance.choice(self.names)
        if not is_right(read_blob(self.db, name)):
            self.wrong.append(("read", name))
        self.counts["read"] += 1

    def _by_parts(self, chance):
        """Slowly, so that its object is rotated between two parts."""
        with connected(self.db) as connection:
            name = chance.choice([name for name in self.names if name.startswith("large")])
            with connection.root()[name].open("r") as file:
                data = b""
                while piece := file.read(100 * KB):
                    data += piece
                    self._stop.wait(0.05)
        if not is_right(data):
            self.wrong.append(("by parts", name))
        self.counts["by parts"] += 1

    def _commit(self, chance):
        with connected(self.db) as connection:
            root = connection.root()
            try:
                root[f"new{chance.randrange(5)}"] = Blob(told(chance, chance.choice([10, 5000])))
                with root[chance.choice(self.names[:10])].open("w") as file:
                    file.write(told(chance, 3000))
                connection.transaction_manager.commit()
            except ConflictError:
                return
        self.counts["committed"] += 1
        self._stop.wait(0.05)

    def _undo(self, chance):
        self._stop.wait(0.2)
        manager = transaction.TransactionManager()
        try:
            [last] = self.db.undoLog(0, 1)
            self.db.undo(last["id"], manager.begin())
            manager.commit()
        except (UndoError, ConflictError):  # a pack is under way, or somebody committed meanwhile
            manager.abort()
            return
        self.counts["undone"] += 1

    def _pack(self, chance):
        self._stop.wait(0.5)
        self.db.pack(time.time() - 1)
        self.counts["packed"] += 1


def filled(make_site, secure, mode, count):
    """A site with so many blobs, as it is before its keys are changed; and their names."""
    site = make_site(
        "filestorage", store=dataclasses.replace(secure, encryption=before(mode)), owner="www.example.org", **PARTS
    )
    chance = random.Random(1)
    names = [f"b{number:04d}" for number in range(count)] + [f"large{number}" for number in range(3)]
    db = site.db()
    for start in range(0, len(names), 50):
        with connected(db) as connection:
            for name in names[start : start + 50]:
                size = LARGE if name.startswith("large") else chance.choice([0, 100, 4000])
                connection.root()[name] = Blob(told(chance, size))
            connection.transaction_manager.commit()
    site.close_all()
    site.cold()
    return site, names


@pytest.mark.parametrize("mode", ["client-side", "sse-c"])
def test_a_rotation_that_is_killed_under_load(make_site, secure, tls_proxy, tier, tmp_path, mode):
    count = tier["rotated_blobs"]
    site, names = filled(make_site, secure, mode, count)
    store = dataclasses.replace(secure, encryption=after(mode))
    site.settings = dataclasses.replace(site.settings, store=store)
    conf = tmp_path / "site.conf"
    base = f"<filestorage>\n  path {site.folder}/Data.fs\n</filestorage>"
    text = section(store, tmp_path / "command-cache", base, "owner www.example.org")
    conf.write_text(f"%import collective.s3blobstorage\n{text}")
    command = [SCRIPT, "--config", conf, "keys", "rotate", "--json"]
    killed = 0
    with Load(site.db(), names) as load:
        for share in (0.2, 0.3):
            tls_proxy.reset()
            process = subprocess.Popen(command, env=keys_of(store), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            wait_until(lambda share=share, process=process: done(tls_proxy) > share * count or process.poll(), 300)
            process.send_signal(signal.SIGKILL)
            out, err = process.communicate()
            killed += process.returncode == -signal.SIGKILL
            release(store)
        result = to_its_end(command, store)
        report = document(result)
        wait_until(lambda: all(load.counts.values()), 60)
    assert killed, "it was faster than it could be killed"
    assert result.returncode == 0, result.stderr
    assert report["failed"] == {} and not report["stopped"]
    assert load.wrong == []
    # By a process without a file of it, and without the former key.
    site.close_all()
    site.cold()
    opened = dataclasses.replace(store, encryption=alone(mode))
    site.settings = dataclasses.replace(site.settings, store=opened)
    db = site.db()
    assert used(db.storage.store_, site_keys(db)) == {(mode, "two")}
    assert all(is_right(read_blob(db, name)) for name in names)


def to_its_end(command, store):
    """Run it again as long as it meets the gc behind a pack, which has the lease for a moment."""
    for _ in range(20):
        result = subprocess.run(command, env=keys_of(store), capture_output=True, text=True, timeout=900)
        if "another gc of this prefix" not in result.stderr:
            return result
        assert result.returncode == 2
    raise AssertionError("refused again and again")


def release(store):
    """An operator waits for ten minutes until the lease of a process that was killed ends."""
    client = raw_client(store)
    leases = [key for key in bucket_keys(store) if key.startswith(LEASE)]
    client.put_object(Bucket=store.bucket, Key=f"{store.prefix}/{max(leases)}", Body=b"")


def done(proxy):
    """How many objects were written; those of the site's own commits are few."""
    operations = ("CopyObject", "PutObject")
    return sum(exchange.operation in operations and "/blobs/" in exchange.path for exchange in proxy.exchanges)


def site_keys(db):
    return [line.key for line in db.storage.store_.list("blobs/")]


@pytest.mark.parametrize("mode", ["client-side", "sse-c"])
@pytest.mark.parametrize("whole", [False, True])
def test_a_reader_whose_object_is_rotated_in_the_middle(make_site, secure, mode, whole):
    """``whole``: it is read to the end, which compares the SHA-256; else the last part alone."""
    site, _ = filled(make_site, secure, mode, 0)
    store = dataclasses.replace(secure, encryption=after(mode))
    site.settings = dataclasses.replace(site.settings, store=store)
    db = site.db()
    with connected(db) as connection, connection.root()["large0"].open("r") as file:
        first = file.read(70 * KB)
        rotated(db.storage.store_)
        file.seek(70 * KB if whole else LARGE)
        rest = file.read()
    site.cold()
    data = read_blob(db, "large0")
    assert is_right(data) and data[: 70 * KB] == first and data.endswith(rest) and len(rest) > 10
    assert used(db.storage.store_, site_keys(db)) == {(mode, "two")}


@pytest.mark.parametrize("mode", ["client-side", "sse-c"])
def test_parts_that_are_here_from_before(make_site, secure, mode):
    """A process that was ended in the middle left parts of the object as it was."""
    site, _ = filled(make_site, secure, mode, 0)
    db = site.db()
    with connected(db) as connection, connection.root()["large1"].open("r") as file:
        file.read(70 * KB)
    site.close_all()
    site.settings = dataclasses.replace(site.settings, store=dataclasses.replace(secure, encryption=after(mode)))
    db = site.db()
    rotated(db.storage.store_)
    assert is_right(read_blob(db, "large1"))
