"""kill -9 of a process that commits, and of the S3 server: what was committed is there, the rest is swept."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import ZODB
from BTrees.OOBTree import OOBTree
from cache_state import downloads_are_locked
from fixtures_servers import s3_client
from servers.ministack import MiniStack
from sites import Site, as_ours, connected, store_as_json
from ZODB.blob import Blob

from collective.s3blobstorage.settings import StoreSettings
from collective.s3blobstorage.storage.record import read_state

HERE = Path(__file__).parent
THREADS = 4
SEED = 20261121  # the instants are random, and the same each time
OURS = re.compile(r"blobs/[0-9a-f]{16}/[0-9a-f]{32}")


class Child:
    """``committing.py``, or another script, in a process of its own; it imports while the test does other things."""

    def __init__(self, temporary: Path, *command: str):
        temporary.mkdir(exist_ok=True)
        environment = os.environ | {"TMPDIR": str(temporary), "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path])}
        self.process = subprocess.Popen(
            [sys.executable, *(command or (str(HERE / "committing.py"),))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def hear(self, expected: str) -> None:
        line = self.process.stdout.readline().strip()
        if line != expected:
            self.kill()
            raise AssertionError(f"{line!r} instead of {expected!r}: {self.process.stderr.read()}")

    def tell(self, line: str = "") -> None:
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def close(self) -> None:
        if self.process.poll() is None:
            self.kill()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            stream.close()

    def end(self) -> None:
        """Close its standard input, which tells it to finish, and let it."""
        _, error = self.process.communicate(timeout=120)
        assert self.process.returncode == 0, error


@pytest.fixture
def start(tmp_path) -> Iterator[Callable[..., Child]]:
    children: list[Child] = []

    def start_child(*command: str) -> Child:
        children.append(Child(tmp_path / "tmp", *command))
        return children[-1]

    yield start_child
    for child in children:
        child.close()


class Truth:
    """What the journals say: what each thread's tree must hold, and all that was or may have been committed."""

    def __init__(self) -> None:
        self.trees: list[dict[str, str]] = [{} for _ in range(THREADS)]
        self.in_doubt: dict[int, dict[str, str | None]] = {}
        self.committed: set[str] = set()  # SHA-256 in hex
        self.uncertain: set[str] = set()
        self.leftovers = 0  # how many objects at most nobody may mention
        self.done = self.undone = 0

    def read(self, journal: Path) -> None:
        """The journal of one process, which has ended."""
        self.in_doubt = {}
        for line in journal.read_text().splitlines() if journal.exists() else ():
            verb, number, _, *rest = line.split(" ", 3)
            thread = int(number)
            if verb == "intend":
                self.in_doubt[thread] = json.loads(rest[0])
                continue
            plan = self.in_doubt.pop(thread)
            if verb == "done":
                self.done += 1
                self.apply(thread, plan)
                self.committed |= self.hashes(plan)
            else:
                self.undone += 1
                self.leftovers += len(self.hashes(plan))
        for plan in self.in_doubt.values():
            self.uncertain |= self.hashes(plan)
            self.leftovers += len(self.hashes(plan))

    @staticmethod
    def hashes(plan: dict[str, str | None]) -> set[str]:
        return {digest for digest in plan.values() if digest is not None}

    def after(self, thread: int, plan: dict[str, str | None]) -> dict[str, str]:
        changed: dict[str, str | None] = {**self.trees[thread], **plan}
        changed.pop("shared", None)
        return {name: digest for name, digest in changed.items() if digest is not None}

    def apply(self, thread: int, plan: dict[str, str | None]) -> None:
        self.trees[thread] = self.after(thread, plan)

    def settle(self, thread: int, found: dict[str, str]) -> None:
        """``found`` is what a thread's tree holds: as before the commit in doubt or as after it, nothing between."""
        plan = self.in_doubt.pop(thread, None)
        if plan is not None and found == self.after(thread, plan) and found != self.trees[thread]:
            self.apply(thread, plan)
            self.committed |= self.hashes(plan)
        assert found == self.trees[thread], f"thread {thread}, in doubt {plan}"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def prepare(site: Site) -> None:
    db = site.db()
    with connected(db) as connection:
        for number in range(THREADS):
            connection.root()[f"tree{number}"] = OOBTree()
        connection.root()["shared"] = Blob(b"nobody's")
        connection.transaction_manager.commit()
    db.close()


def read_trees(db: ZODB.DB) -> list[dict[str, str]]:
    with connected(db) as connection:
        found = []
        for number in range(THREADS):
            tree = connection.root()[f"tree{number}"]
            found.append({name: sha256(blob.open("r").read()) for name, blob in tree.items()})
        assert connection.root()["shared"].open("r").read()
    return found


class Records:
    """All blob records of the base, and the objects that they name; each object is read once."""

    def __init__(self, site: Site):
        self.site = site
        self.checked: set[str] = set()
        self.hashes = {sha256(b"nobody's")}
        self.keys: set[str] = set()

    def check(self, db: ZODB.DB) -> None:
        """Every object that a record names is in the bucket and is what the record says."""
        store = self.site.settings.store
        with as_ours(store) as ours:
            for recorded in db.storage.iterator():
                for record in recorded:
                    state = read_state(record.data)
                    if state is None:
                        continue
                    key = f"blobs/{record.oid.hex()}/{state.name}"
                    self.keys.add(key)
                    if key in self.checked:
                        continue
                    data = ours.get_bytes(key, limit=1 << 30)
                    assert (len(data), hashlib.sha256(data).digest()) == (state.size, state.sha256), key
                    self.checked.add(key)
                    self.hashes.add(sha256(data))

    def leftovers(self) -> set[str]:
        return set(self.site.keys()) - self.keys


def assert_swept(site: Site, temporary: Path, *, processes: int) -> None:
    """Nothing is left of dead processes: one folder per living one, with its lock and what it counted."""
    folders = list(site.settings.cache_dir.glob("*/processes/*"))
    assert len(folders) == processes
    for folder in folders:
        names = {path.name for path in folder.rglob("*") if path.is_file()}
        assert names - {"counters.json"} == {"lock"}, "staged or temporary files"
    assert not downloads_are_locked(site.settings.cache_dir)
    assert list(site.settings.cache_dir.glob("*/cache.json.*")) == []
    assert list(temporary.glob("s3blobs-*")) == []


def instants(count: int) -> Iterator[tuple[bool, float]]:
    """(from when it committed on, else from when it began to open; seconds). Most while it commits."""
    chance = random.Random(SEED)
    for _ in range(count):
        committing = chance.random() < 0.85
        yield committing, chance.uniform(0, 0.8 if committing else 0.3)


@pytest.mark.parametrize("kind", ["filestorage", "sqlite-hp", "zeo-client"])
def test_a_process_that_commits_is_killed(make_site, start, tmp_path, monkeypatch, tier, kind):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    # all of them over FileStorage, a quarter over the others
    kills = tier["kills_of_client"] if kind == "filestorage" else max(2, tier["kills_of_client"] // 4)
    site = make_site(kind)
    child = start()
    prepare(site)
    given = {
        "kind": kind,
        "folder": str(site.folder),
        "cache_dir": str(site.settings.cache_dir),
        "zeo_port": site._zeo and site._zeo[0],
        "store": store_as_json(site.settings.store),
        "threads": THREADS,
    }
    truth, records = Truth(), Records(site)
    swept = False
    # Few kills may all miss the moment in which a file is staged: then some more, else the test shows nothing.
    for number, (committing, seconds) in enumerate(instants(kills + 30)):
        if number >= kills and swept and truth.done:
            break
        journal = tmp_path / f"journal{number}"
        child.hear("imported")
        child.tell(json.dumps(given | {"journal": str(journal), "seed": number, "large": 0.5 * (number % 3 == 2)}))
        if committing:
            child.hear("ready")
        time.sleep(seconds)
        child.kill()
        child.close()
        child = start()  # which imports meanwhile
        swept = swept or any(path.name != "lock" for path in site.folder.glob("cache/*/processes/*/staging/*"))
        truth.read(journal)
        db = site.db()
        for thread, found in enumerate(read_trees(db)):  # through the cache that the dead process left
            truth.settle(thread, found)
        records.check(db)
        db.storage.cache.clean()
        assert_swept(site, tmp_path / "tmp", processes=1)
        db.close()
        assert_swept(site, tmp_path / "tmp", processes=0)
    print(f"{kind}: {number} kills, {truth.done} commits, {truth.undone} aborts, {len(records.leftovers())} leftovers")
    assert truth.done > 0
    assert swept, "no kill left a staged file: the test shows nothing"
    # Every revision that was acknowledged has its record, and no record has anything else.
    assert truth.committed <= records.hashes
    assert records.hashes - {sha256(b"nobody's")} <= truth.committed | truth.uncertain
    leftovers = records.leftovers()
    assert len(leftovers) <= truth.leftovers
    assert all(OURS.fullmatch(key) for key in leftovers)
    site.cold()
    db = site.db()
    assert read_trees(db) == truth.trees
    db.close()


def test_the_server_is_killed(tmp_path, make_site, start, monkeypatch, tier, request, settings):
    """It comes back on the same data and port; the process that commits never ends."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    own = None  # a MiniStack that no other test uses: it forgets unfinished uploads
    try:
        if request.config.getoption("--s3") == "ministack":
            server = own = MiniStack(tmp_path / "ministack").start()
            s3_client(server).create_bucket(Bucket="kills")
            keys = {"access_key": server.access_key, "secret_key": server.secret_key}
            store = StoreSettings(bucket="kills", endpoint_url=server.endpoint_url, region=server.region, **keys)
        else:
            server, store = request.getfixturevalue("s3_server"), settings
        site = make_site("filestorage", store=store)
        child = start()
        prepare(site)
        journal = tmp_path / "journal"
        child.hear("imported")
        given = {"kind": "filestorage", "folder": str(site.folder), "cache_dir": str(site.settings.cache_dir)}
        given |= {"store": store_as_json(store), "threads": THREADS}
        child.tell(json.dumps(given | {"journal": str(journal), "seed": 1, "large": 0.03}))
        child.hear("ready")
        chance = random.Random(SEED)
        kills = tier["kills_of_server"]
        for _ in range(kills):
            time.sleep(chance.uniform(0, 1.0))
            server.kill()
            time.sleep(chance.choice((0, chance.uniform(0, 1.0))))
            server.restart()
        child.end()
        truth, records = Truth(), Records(site)
        truth.read(journal)
        assert truth.in_doubt == {}, "the process ended in order"
        site.cold()
        db = site.db()
        for thread, found in enumerate(read_trees(db)):
            truth.settle(thread, found)
        records.check(db)
        db.close()
        print(f"{kills} kills, {truth.done} commits, {truth.undone} aborts, {len(records.leftovers())} leftovers")
        assert truth.done > 0
        assert records.hashes - {sha256(b"nobody's")} == truth.committed
        leftovers = records.leftovers()
        assert len(leftovers) <= truth.leftovers
        assert all(OURS.fullmatch(key) for key in leftovers)
        assert_swept(site, tmp_path / "tmp", processes=0)
    finally:
        if own is not None:
            own.stop()


HOLDING = """
import json, sys, transaction, ZODB
from ZODB.blob import Blob
from committing import opened

class Pause:
    "Sorts before the database: asked to vote when the storage has staged its blobs and has not voted."
    transaction_manager = None
    def sortKey(self):
        return ""
    def tpc_vote(self, transaction):
        print("staged", flush=True)
        sys.stdin.readline()
    def nothing(self, transaction):
        pass
    abort = tpc_begin = commit = tpc_finish = tpc_abort = nothing

given = json.loads(sys.stdin.readline())
db = ZODB.DB(opened(given))
one, two = transaction.TransactionManager(), transaction.TransactionManager()
savepoint, committing = db.open(one), db.open(two)
savepoint.root()["savepoint"] = Blob(b"kept by a savepoint")
one.savepoint()
committing.root()["tree0"][given["name"]] = Blob(b"staged by a commit")
two.get().join(Pause())
two.commit()
assert committing.root()["tree0"][given["name"]].open("r").read() == b"staged by a commit"
assert savepoint.root()["savepoint"].open("r").read() == b"kept by a savepoint"
one.abort()
print("committed", flush=True)
sys.stdin.readline()
savepoint.close(), committing.close(), db.close()
"""


def test_no_process_sweeps_what_belongs_to_another(make_site, start, tmp_path):
    """One cache-dir: a process lives in the middle of a commit, one is killed there, a third opens and closes."""
    site = make_site("zeo-client")
    living, killed = start("-c", HOLDING), start("-c", HOLDING)
    prepare(site)
    given = {"kind": "zeo-client", "folder": str(site.folder), "cache_dir": str(site.settings.cache_dir)}
    given |= {"zeo_port": site._zeo[0], "store": store_as_json(site.settings.store)}
    for child, name in ((living, "living"), (killed, "killed")):
        child.tell(json.dumps(given | {"name": name}))
        child.hear("staged")

    def staged(child: Child) -> set[Path]:
        folders = site.settings.cache_dir.glob(f"*/processes/{child.process.pid}-*")
        return {path for folder in folders for path in folder.rglob("*") if path.is_file()}

    of_living, of_killed = staged(living), staged(killed)
    assert len(of_living) >= 3 and len(of_killed) >= 3  # a lock, a savepoint's blob, a staged blob
    killed.kill()
    assert staged(killed) == of_killed
    db = site.db()
    db.storage.cache.clean()
    assert staged(killed) == set()
    assert staged(living) == of_living
    db.close()
    assert staged(living) == of_living
    living.tell()
    living.hear("committed")
    db = site.db()
    with connected(db) as connection:
        assert connection.root()["tree0"]["living"].open("r").read() == b"staged by a commit"
        assert "killed" not in connection.root()["tree0"]
    db.storage.cache.clean()
    db.close()
    living.tell()
    living.end()
    assert_swept(site, tmp_path / "tmp", processes=0)
