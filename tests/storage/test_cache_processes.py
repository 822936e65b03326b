"""One cache folder and several processes: one download, kill -9, forks, permissions that are in the way."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time

import pytest
from cache_state import downloads_are_locked

from collective.s3blobstorage.cache import BlobCache
from collective.s3blobstorage.cache.counters import counted_since_made
from collective.s3blobstorage.cache.layout import Layout

MB = 1024 * 1024

PRELUDE = """
import logging, os, sys, threading, time
from pathlib import Path
from collective.s3blobstorage.cache import BlobCache
from collective.s3blobstorage.errors import Unavailable
logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
MB = 1024 * 1024
ROOT = Path(sys.argv[1])
def revision(number):
    return number.to_bytes(8, "big"), bytes(8)
def say(*words):
    print(*words, flush=True)
def opened(**options):
    return BlobCache(ROOT / "cache", "store", **{"size": 10 * MB, **options})
"""


def revision(number):
    return number.to_bytes(8, "big"), bytes(8)


def opened(tmp_path, **options):
    return BlobCache(tmp_path / "cache", "store", size=10 * MB, **options)


class Process:
    """A Python process that runs ``script``, told by lines on its standard input, telling by lines on its output."""

    def __init__(self, tmp_path, script, prefix=()):
        environment = dict(os.environ, TMPDIR=str(tmp_path / "elsewhere"), PYTHONPATH=os.pathsep.join(sys.path))
        (tmp_path / "elsewhere").mkdir(exist_ok=True)
        self.process = subprocess.Popen(
            [*prefix, sys.executable, "-c", PRELUDE + textwrap.dedent(script), str(tmp_path)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
            start_new_session=True,
        )  # fmt: skip

    def hear(self, expected):
        line = self.process.stdout.readline().strip()
        if line != expected:
            os.killpg(self.process.pid, signal.SIGKILL)
            raise AssertionError(f"{line!r} instead of {expected!r}: {self.process.communicate()[1]}")

    def tell(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def kill(self):
        """With the children that it forked: each holds the pipes."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()

    def end(self):
        """Its output and its log, after it ended by itself."""
        out, err = self.process.communicate(timeout=60)
        assert self.process.returncode == 0, err
        return out, err


@pytest.fixture
def start(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "elsewhere"))
    (tmp_path / "elsewhere").mkdir(exist_ok=True)
    processes = []

    def start_process(script, prefix=()):
        process = Process(tmp_path, script, prefix)
        processes.append(process)
        return process

    yield start_process
    for process in processes:
        if process.process.poll() is None:
            process.kill()


def folders_of_processes(tmp_path):
    return sorted(path.name for path in tmp_path.glob("cache/*/processes/*"))


def published(tmp_path):
    return sorted(path.name for path in tmp_path.glob("cache/*/blobs/*/*"))


HALF_A_DOWNLOAD = """
cache = opened()
(cache.staging() / "staged").write_bytes(b"x")
def download(file):
    file.write(b"x" * MB)
    say("half")
    sys.stdin.readline()
    file.write(b"y")
cache.fetch(*revision(1), download)
say("whole")
sys.stdin.readline()
cache.close()
"""


def test_forty_threads_of_four_processes_download_once(tmp_path, start):
    script = """
    cache = opened()
    def download(file):
        with open(ROOT / "downloads", "a") as log:
            log.write("%d\\n" % os.getpid())
        time.sleep(0.2)
        file.write(b"once" * 1000)
    def read():
        if cache.fetch(*revision(1), download).read_bytes() != b"once" * 1000:
            say("wrong")
    say("ready")
    sys.stdin.readline()
    threads = [threading.Thread(target=read) for _ in range(10)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    cache.close()
    """
    processes = [start(script) for _ in range(4)]
    for process in processes:
        process.hear("ready")
    for process in processes:
        process.tell()
    for process in processes:
        assert process.end() == ("", "")
    assert len((tmp_path / "downloads").read_text().splitlines()) == 1
    assert folders_of_processes(tmp_path) == []


def test_many_revisions_at_once_in_any_order(tmp_path, start):
    """Lock files are made and removed all the time: none is locked twice, none is left."""
    script = """
    import random
    cache = opened()
    def download_of(number):
        def download(file):
            # exclusive: fails where two download the same revision at a time
            mark = os.open(ROOT / ("now-%d" % number), os.O_CREAT | os.O_EXCL)
            file.write(b"%d" % number)
            os.unlink(ROOT / ("now-%d" % number))
            os.close(mark)
        return download
    say("ready")
    sys.stdin.readline()
    def read(seed):
        random_ = random.Random(seed)
        for _ in range(150):
            number = random_.randrange(8)
            path = cache.fetch(*revision(number), download_of(number))
            try:
                assert path.read_bytes() == b"%d" % number
                if random_.random() < 0.5:
                    os.unlink(path)
            except FileNotFoundError:
                pass  # another one was faster
    errors = []
    def guarded(seed):
        try:
            read(seed)
        except BaseException as error:
            errors.append(error)
    threads = [threading.Thread(target=guarded, args=(seed,)) for seed in range(3)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    cache.close()
    say(errors, cache.counters.snapshot()["errors"])
    """
    processes = [start(script) for _ in range(3)]
    for process in processes:
        process.hear("ready")
    for process in processes:
        process.tell()
    for process in processes:
        assert process.end() == ("[] 0\n", "")
    assert not downloads_are_locked(tmp_path)


def test_killed_in_the_middle_of_a_download(tmp_path, start):
    process = start(HALF_A_DOWNLOAD)
    process.hear("half")
    assert downloads_are_locked(tmp_path)
    process.kill()
    assert not downloads_are_locked(tmp_path)
    left = folders_of_processes(tmp_path)
    assert len(left) == 1 and published(tmp_path) == []
    cache = opened(tmp_path)
    assert cache.get(*revision(1)) is None
    cache.clean()
    assert left[0] not in folders_of_processes(tmp_path)
    assert cache.fetch(*revision(1), lambda file: file.write(b"next")).read_bytes() == b"next"
    cache.close()
    assert folders_of_processes(tmp_path) == []


def test_the_lock_of_a_killed_process_is_free_at_once(tmp_path, start):
    process = start(HALF_A_DOWNLOAD)
    process.hear("half")
    waiter = start(
        """
        cache = opened()
        say("waits")
        say(cache.fetch(*revision(1), lambda file: file.write(b"mine")).read_bytes())
        cache.close()
        """
    )
    waiter.hear("waits")
    time.sleep(0.2)
    process.kill()
    assert waiter.end() == ("b'mine'\n", "")


def test_what_belongs_to_a_living_process_is_not_swept(tmp_path, start):
    process = start(HALF_A_DOWNLOAD)
    process.hear("half")
    dead = start(HALF_A_DOWNLOAD.replace("revision(1)", "revision(2)"))
    dead.hear("half")
    dead.kill()
    cache = opened(tmp_path)
    cache.clean()
    assert len(folders_of_processes(tmp_path)) == 2  # the living one's and ours
    assert len(list(tmp_path.glob("cache/*/processes/*/staging/staged"))) == 1
    process.tell()
    process.hear("whole")
    assert cache.get(*revision(1)).stat().st_size == MB + 1
    process.tell()
    process.end()
    cache.close()


def test_a_staging_folder_of_its_own_is_swept_too(tmp_path, start):
    script = """
    cache = opened(staging_dir=ROOT / "staging")
    (cache.staging() / "staged").write_bytes(b"x")
    say("staged")
    sys.stdin.readline()
    """
    dead, living = start(script), start(script)
    dead.hear("staged")
    living.hear("staged")
    dead.kill()
    cache = opened(tmp_path, staging_dir=tmp_path / "staging")
    cache.clean()
    assert len(list((tmp_path / "staging").glob("*/staged"))) == 1
    living.kill()
    cache.clean()
    assert list((tmp_path / "staging").iterdir()) == []
    cache.close()


def test_private_files_of_a_killed_process_are_swept(tmp_path, start):
    script = """
    cache = BlobCache(Path("/proc/no-such-folder"), "store", size=MB)
    cache.fetch(*revision(1), lambda file: file.write(b"x"))
    say("read")
    sys.stdin.readline()
    """
    dead, living = start(script), start(script)
    dead.hear("read")
    living.hear("read")
    dead.kill()
    (tmp_path / "elsewhere" / "somebody-elses").mkdir()
    cache = opened(tmp_path)
    cache.clean()
    assert len(list((tmp_path / "elsewhere").glob("s3blobs-*"))) == 1
    assert (tmp_path / "elsewhere" / "somebody-elses").exists()
    cache.close()


def test_killed_at_any_instant(tmp_path, start):
    """Whatever the instant, every file under its name is whole and the next process goes on."""
    script = """
    cache = opened(protect=0.0)
    say("ready")
    number = 0
    while True:
        number += 1
        cache.fetch(*revision(number % 40), lambda file: [file.write(b"%d" % (number % 40) * 20000) for _ in range(8)])
        staged = cache.staging() / "staged"
        staged.write_bytes(b"%d" % (number % 40) * 160000)
        cache.adopt(*revision(100 + number % 40), staged)
    """
    for instant in range(15):
        process = start(script)
        process.hear("ready")
        time.sleep(0.004 * instant)
        process.kill()
        for path in tmp_path.glob("cache/*/blobs/*/*"):
            number = int(path.name[:16], 16) % 100
            assert path.read_bytes() == b"%d" % number * 160000
    cache = opened(tmp_path)
    cache.clean()
    assert len(folders_of_processes(tmp_path)) == 1
    for number in range(40):
        data = b"%d" % number * 160000
        with cache.open(*revision(number), lambda file, data=data: file.write(data)) as file:
            assert file.read() == data
    cache.close()


def test_a_forked_child_has_a_folder_of_its_own(tmp_path, start):
    process = start(
        """
        import warnings
        warnings.simplefilter("ignore")  # forking with threads: it is what is tested
        cache = opened()
        cache.fetch(*revision(1), lambda file: file.write(b"parent"))
        staged = cache.staging() / "staged"
        staged.write_bytes(b"parent")
        pid = os.fork()
        if pid == 0:
            try:
                ok = cache.get(*revision(1)).read_bytes() == b"parent"
                ok = ok and cache.staging() != staged.parent
                ok = ok and cache.fetch(*revision(2), lambda file: file.write(b"child")).read_bytes() == b"child"
                ok = ok and "s3blobs-cache-cleaner" in [thread.name for thread in threading.enumerate()]
                cache.clean()
                cache.close()
            except BaseException as error:
                say(repr(error))
                ok = False
            os._exit(0 if ok else 1)
        say(os.waitpid(pid, 0)[1])
        say(staged.read_bytes(), cache.get(*revision(2)).read_bytes())
        cache.fetch(*revision(3), lambda file: file.write(b"parent"))
        cache.close()
        """
    )
    assert process.end() == ("0\nb'parent' b'child'\n", "")
    assert folders_of_processes(tmp_path) == []


def test_a_child_does_not_keep_alive_what_its_killed_parent_held(tmp_path, start):
    process = start(
        """
        import warnings
        warnings.simplefilter("ignore")
        cache = opened()
        (cache.staging() / "staged").write_bytes(b"x")
        def download(file):
            pid = os.fork()
            if pid == 0:
                say("child", os.getpid())
                time.sleep(60)
                os._exit(0)
            time.sleep(60)
        cache.fetch(*revision(1), download)
        """
    )
    word, child = process.process.stdout.readline().split()
    assert word == "child"
    try:
        process.process.send_signal(signal.SIGKILL)
        process.process.wait()
        cache = opened(tmp_path, patience=5.0)
        cache.clean()
        assert len(folders_of_processes(tmp_path)) == 1  # ours
        path = cache.fetch(*revision(1), lambda file: file.write(b"next"))
        assert tmp_path / "cache" in path.parents
        cache.close()
    finally:
        os.kill(int(child), signal.SIGKILL)


# Several databases in one folder

OTHER = """
def other(**options):
    return BlobCache(ROOT / "cache", "other", **{"size": 10 * MB, **options})
"""


def counted(tmp_path, identity="store"):
    counters, _ = counted_since_made(Layout(tmp_path / "cache", identity))
    return {name: value for name, value in counters.items() if value}


def test_a_process_of_one_database_evicts_what_those_of_another_read(tmp_path, start):
    """Four processes of two databases read and clean with bounds far too small: no byte is wrong, the bound holds."""
    script = OTHER + textwrap.dedent("""
    cache = {open}(size=2 * MB, protect=0.0)
    data = [b"{letter}%d" % number * 30_000 for number in range(30)]
    say("ready")
    sys.stdin.readline()
    wrong = 0
    for turn in range(300):
        number = turn * 7 % 30
        with cache.open(*revision(number), lambda file: file.write(data[number])) as file:
            wrong += file.read() != data[number]
    cache.clean()
    say(wrong, cache.counters.snapshot()["errors"])
    cache.close()
    """)
    processes = [
        start(script.replace("{open}", open_).replace("{letter}", letter))
        for open_, letter in (("opened", "a"), ("other", "b"), ("opened", "a"), ("other", "b"))
    ]
    for process in processes:
        process.hear("ready")
    for process in processes:
        process.tell()
    for process in processes:
        assert process.end() == ("0 0\n", "")
    taken = sum(path.stat().st_blocks * 512 for path in tmp_path.glob("cache/*/blobs/*/*.blob"))
    assert taken <= 2 * MB
    sums = [counted(tmp_path, identity) for identity in ("store", "other")]
    assert all(of_one["hits"] + of_one["misses"] >= 600 for of_one in sums)
    # One at a time cleans for all: which of the databases it belongs to is a matter of timing.
    assert sum(of_one.get("evictions", 0) for of_one in sums) > 0
    assert folders_of_processes(tmp_path) == []


def test_a_killed_process_of_another_database_is_swept_and_its_counters_stay(tmp_path, start):
    dead = start(OTHER + HALF_A_DOWNLOAD.replace("opened()", "other()"))
    dead.hear("half")
    dead.kill()
    assert len(list(tmp_path.glob("cache/*/processes/*/staging/staged"))) == 1
    cache = opened(tmp_path)
    cache.clean()
    assert len(folders_of_processes(tmp_path)) == 1  # ours
    assert list(tmp_path.glob("cache/*/processes/*/staging/staged")) == []
    cache.close()


COUNTED = """
from collective.s3blobstorage.cache import cleaner
cleaner._TICK = 0.02
cache = opened()
for number in range(5):
    cache.fetch(*revision(number), lambda file: file.write(b"12345"))
for _ in range(95):
    cache.get(*revision(1))
say("counted")
sys.stdin.readline()
"""


def test_counters_survive_kill_9(tmp_path, start):
    dead = start(COUNTED)
    dead.hear("counted")
    living = start(COUNTED.replace("range(5)", "range(10, 13)").replace("95", "7"))
    living.hear("counted")
    time.sleep(0.5)  # 25 ticks
    dead.kill()
    sums = {"hits": 102, "misses": 8, "downloads": 8, "bytes": 40}
    assert counted(tmp_path) == sums
    cache = opened(tmp_path)
    cache.clean()
    cache.close()
    assert counted(tmp_path) == sums
    living.kill()
    cache = opened(tmp_path)
    cache.clean()
    cache.close()
    assert counted(tmp_path) == sums


def test_processes_that_sweep_at_once_count_each_dead_one_once(tmp_path, start):
    dead = [start(COUNTED.replace("range(5)", f"range({number}, {number + 1})")) for number in range(4)]
    for process in dead:
        process.hear("counted")
    time.sleep(0.3)
    for process in dead:
        process.kill()
    before = counted(tmp_path)
    assert before["downloads"] == 4 and before["bytes"] == 20
    script = """
    say("ready")
    sys.stdin.readline()
    cache = opened()
    for _ in range(20):
        cache.clean()
    cache.close()
    """
    sweepers = [start(script) for _ in range(3)]
    for process in sweepers:
        process.hear("ready")
    for process in sweepers:
        process.tell()
    for process in sweepers:
        assert process.end() == ("", "")
    assert counted(tmp_path) == before
    assert folders_of_processes(tmp_path) == []


# As an ordinary user: root overrides permissions, so its power to do that is taken from the process.


def as_ordinary_user():
    if os.geteuid() != 0:
        return ()
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        pytest.skip("root without setpriv (util-linux) cannot give up overriding permissions")
    return (setpriv, "--bounding-set=-dac_override,-dac_read_search")


def test_a_folder_without_permission_from_the_start(tmp_path, start):
    (tmp_path / "cache").mkdir(mode=0o500)
    process = start(
        """
        cache = opened()
        for number in range(5):
            path = cache.fetch(*revision(number), lambda file: file.write(b"read"))
            assert path.read_bytes() == b"read" and ROOT / "elsewhere" in path.parents
        assert ROOT / "elsewhere" in cache.staging().parents
        cache.clean()
        os.chmod(ROOT / "cache", 0o700)
        assert ROOT / "cache" in cache.fetch(*revision(9), lambda file: file.write(b"x")).parents
        cache.close()
        """,
        as_ordinary_user(),
    )
    out, log = process.end()
    assert len(log.splitlines()) == 1 and "cache-dir" in log
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize("folder", ["blobs", "downloads.lock", "processes/*", "."])
def test_a_folder_that_loses_its_permission(tmp_path, start, folder):
    process = start(
        f"""
        cache = opened()
        cache.clean()
        here = cache.fetch(*revision(1), lambda file: file.write(b"here"))
        (folder,) = (path for path in (ROOT / "cache").glob("*/{folder}") if path.name != "cleaner.lock")
        for mode in (0o500, 0o000):
            os.chmod(folder, mode)
            for number in (1, 2):
                data = b"%d" % number if number > 1 else b"here"
                with cache.open(*revision(number), lambda file: file.write(data)) as file:
                    assert file.read() == data
            staged = cache.staging() / "staged"
            staged.write_bytes(b"commit")
            cache.adopt(*revision(3), staged)
            cache.clean()
        os.chmod(folder, 0o700)
        assert cache.get(*revision(1)) == here
        assert ROOT / "cache" in cache.fetch(*revision(4), lambda file: file.write(b"x")).parents
        cache.close()
        """,
        as_ordinary_user(),
    )
    out, log = process.end()
    assert len(log.splitlines()) == 1 and "cache-dir" in log


def test_closing_where_the_folder_lost_its_permission(tmp_path, start):
    process = start(
        """
        cache = opened()
        cache.fetch(*revision(1), lambda file: file.write(b"x"))
        (folder,) = (ROOT / "cache").glob("*/processes")
        os.chmod(folder, 0o000)
        cache.close()
        os.chmod(folder, 0o700)
        """,
        as_ordinary_user(),
    )
    process.end()


def test_a_file_that_cannot_be_opened(tmp_path, start):
    process = start(
        """
        cache = opened()
        os.chmod(cache.fetch(*revision(1), lambda file: file.write(b"bytes")), 0o000)
        with cache.open(*revision(1), lambda file: file.write(b"bytes")) as file:
            say(file.read())
        cache.close()
        """,
        as_ordinary_user(),
    )
    out, log = process.end()
    assert out == "b'bytes'\n"
    assert len(log.splitlines()) == 1 and "cache-dir" in log
