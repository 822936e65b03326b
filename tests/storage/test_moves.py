"""A site moves from its blob directory into a bucket, into another bucket and back, while it is read and written."""

from __future__ import annotations

import dataclasses
import os
import random
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable

import pytest
import ZODB
from blob_sites import files_of, names, stock
from command_line import SCRIPT, document, keys_of, s3blobs
from sites import bucket_keys, commit_blobs, connected
from test_cli_migrate import switched
from test_cli_mirror import bucket, directory

OWNER = "owner www.example.org"


class Traffic:
    """Two readers and a writer, until the end of the block. What the writer commits is added to ``blobs``."""

    def __init__(self, db: ZODB.DB, blobs: dict[str, bytes], label: str) -> None:
        self._db = db
        self._blobs = blobs
        self._label = label
        self._still = sorted(blobs)  # the writer leaves these alone
        self._stop = threading.Event()
        self._errors: list[BaseException] = []
        self.reads = self.commits = 0
        works = [lambda: self._read(1), lambda: self._read(2), self._write]
        self._threads = [threading.Thread(target=self._guarded, args=(work,)) for work in works]

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            self._errors.append(error)

    def _read(self, seed: int) -> None:
        chance = random.Random(seed)
        while not self._stop.wait(0.005):
            name = chance.choice(self._still)
            with connected(self._db) as connection, connection.root()[name].open("r") as file:
                assert file.read() == self._blobs[name], name
            self.reads += 1

    def _write(self) -> None:
        chance = random.Random(3)
        while not self._stop.wait(0.02):
            name = f"{self._label}-{chance.randrange(10)}"  # new ones, and some of them changed again
            data = os.urandom(chance.randrange(1, 3000))
            commit_blobs(self._db, **{name: data})
            self._blobs[name] = data
            self.commits += 1

    def __enter__(self) -> Traffic:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
        assert self._errors == [] and not any(thread.is_alive() for thread in self._threads)


def killed_on_the_way(arguments: list, env: dict, counted: Callable[[], int], aims: list[int]) -> None:
    """Start the command, and kill it when so many are there, once for each of ``aims``."""
    for aim in aims:
        process = subprocess.Popen([SCRIPT, *arguments], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while counted() < aim and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert process.poll() is None, "it ended before it was killed"
        process.send_signal(signal.SIGKILL)
        process.wait()


def test_there_further_and_back_under_load(old_site, settings, proxy, tmp_path, monkeypatch, tier):
    count, kills = tier["moved_blobs"], tier["kills_of_moves"]
    aims = [count * (number + 1) // (kills + 1) for number in range(kills)]
    chance = random.Random(7)
    blobs = {f"b{number}": chance.randbytes(chance.choice([0, 10, 1000, 60_000])) for number in range(count)}
    site = old_site()
    old = site.db()
    for start in range(0, count, 50):
        commit_blobs(old, **dict(list(blobs.items())[start : start + 50]))
    old.close()
    env = keys_of(settings)
    first = dataclasses.replace(settings, endpoint_url=proxy.endpoint_url, prefix="first")
    second = dataclasses.replace(first, prefix="second")
    proxy.round_trip(10)

    def leg(label: str, target, source: str, there: Callable[[], int]) -> None:
        """The site with the source behind ``target`` is used while the command copies; without it all is there."""
        conf = site.conf(target, OWNER, source.replace("\n</", "\n  mirror off\n</"))
        db = switched(conf, target, monkeypatch)
        with Traffic(db, blobs, label) as traffic:
            killed_on_the_way(["--config", conf, "mirror", "--concurrency", "4"], env, there, aims)
            told = document(s3blobs("--config", conf, "mirror", "--json", "--verify", env=env))
            commits, reads = traffic.commits, traffic.reads
        db.close()
        assert told["complete_up_to"] and told["problems"] == [], told
        assert commits and reads, "there was no load"

    def cold(target) -> ZODB.DB:
        shutil.rmtree(site.folder / "cache")
        return switched(site.conf(target, OWNER), target, monkeypatch)

    leg("one", first, directory(site.blobs), lambda: len(bucket_keys(first)))
    site.blobs.rename(tmp_path / "not needed any more")
    db = cold(first)
    assert names(db) == blobs
    db.close()

    leg("two", second, bucket(first), lambda: len(bucket_keys(second)))
    db = cold(second)
    in_second = len(bucket_keys(second))
    assert names(db) == blobs

    target = tmp_path / "back"
    conf = site.conf(second, OWNER)
    export = ["--config", conf, "export", "--to", target, "--concurrency", "4"]
    with Traffic(db, blobs, "three") as traffic:
        killed_on_the_way(export, env, lambda: len(files_of(target)) if target.exists() else 0, aims)
        assert s3blobs(*export, env=env).returncode == 0
    assert traffic.reads and traffic.commits
    db.close()
    assert s3blobs(*export, env=env).returncode == 0  # what was committed until the site stopped
    revisions = list(stock(site, target, tmp_path / "Copy.fs"))
    assert len(revisions) >= in_second - 2 and {data for _, _, data in revisions} >= set(blobs.values())
    target.rename(site.blobs)
    plain = site.db()
    assert names(plain) == blobs
    plain.close()


@pytest.mark.parametrize("verb", ["mirror", "export"])
def test_nothing_is_told_to_be_complete_where_the_site_has_more(old_site, settings, monkeypatch, tmp_path, verb):
    """What is committed while a command runs is the site's own, and is not in its report."""
    site = old_site()
    old = site.db()
    commit_blobs(old, a=b"first")
    old.close()
    conf = site.conf(settings, OWNER, directory(site.blobs))
    db = switched(conf, settings, monkeypatch)
    arguments = ["mirror"] if verb == "mirror" else ["export", "--to", tmp_path / "to"]
    before = db.lastTransaction()
    told = document(s3blobs("--config", conf, *arguments, "--json", env=keys_of(settings)))
    tid = commit_blobs(db, later=b"later")
    db.close()
    assert told["kept_revisions"] == 1 and tid > before
    if verb == "mirror":
        assert told["complete_up_to"] == before.hex()
