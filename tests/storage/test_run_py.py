"""run.py on machines that lack something: the right Python, pip, a home, a plain path, the right to write anywhere."""

from __future__ import annotations

import hashlib
import io
import os
import platform
import pwd
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from run_py import REPOSITORY, load

run = load()

FILES = (
    "run.py", "pyproject.toml", "setup.cfg", "README.md", "LICENSE.md",
    "constraints.txt", "constraints-6.1.txt", "requirements-ministack.txt", "src", "profiles",
)  # fmt: skip
VERSION_SENTENCE = "run.py needs Python 3.11, 3.12 or 3.13, and this is Python "


def copy_repository(target: Path) -> Path:
    """A checkout of its own, for run.py keeps its environments beside itself.

    It has one test, and of the test requirements only pytest: 300 packages would be the same, and take minutes.
    """
    target.mkdir(parents=True)
    for name in FILES:
        source = REPOSITORY / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target / name)
    project = (target / "pyproject.toml").read_text()
    small, replaced = re.subn(r"(?ms)^test = \[\n.*?^\]\n", 'test = ["pytest>=8"]\n', project)
    assert replaced == 1
    (target / "pyproject.toml").write_text(small)
    (target / "tests" / "unit").mkdir(parents=True)
    shutil.copy(REPOSITORY / "tests" / "tiers.toml", target / "tests")
    (target / "tests" / "conftest.py").write_text("def pytest_addoption(parser):\n    parser.addoption('--tier')\n")
    (target / "tests" / "unit" / "test_one.py").write_text("import collective.s3blobstorage\n\ndef test_one(): pass\n")
    return target


# --- the version of Python --------------------------------------------------------------------------------------------


def old_pythons() -> list[str]:
    """Interpreters of other versions that this machine has."""
    roots = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    candidates = [*map(str, roots.glob("*/bin/python"))]
    candidates += filter(None, map(shutil.which, ("python2", "python2.7", "python3.9", "python3.10", "python3.14")))
    question = "import sys; sys.stdout.write('%d %d' % sys.version_info[:2])"
    found = []
    for candidate in candidates:
        answer = subprocess.run([candidate, "-c", question], capture_output=True, text=True)
        if answer.returncode == 0 and not (3, 11) <= tuple(map(int, answer.stdout.split())) <= (3, 13):
            found.append(candidate)
    return found


def assert_one_sentence(answer) -> None:
    assert answer.returncode == 2
    assert answer.stdout == ""
    assert answer.stderr.startswith(VERSION_SENTENCE) and answer.stderr.count("\n") == 1


def test_another_python_is_told_in_one_sentence():
    pythons = old_pythons()
    if not pythons:
        pytest.skip("no Python older than 3.11 or newer than 3.13 on this machine")
    for python in pythons:
        command = [python, str(REPOSITORY / "run.py"), "test"]
        assert_one_sentence(subprocess.run(command, capture_output=True, text=True))


@pytest.mark.parametrize("version", [(2, 7, 18), (3, 10, 14), (3, 14, 0), (4, 0, 0)])
def test_the_check_of_the_version(version):
    """On this Python, which says that it is another one; only the check itself runs, for it ends the process."""
    code = f"import runpy, sys; sys.version_info = {version + ('final', 0)!r}; runpy.run_path({str(run.__file__)!r})"
    assert_one_sentence(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True))


def test_help():
    answer = subprocess.run([sys.executable, str(REPOSITORY / "run.py"), "--help"], capture_output=True, text=True)
    assert answer.returncode == 0
    assert "demo" in answer.stdout and "test" in answer.stdout


def test_an_unknown_option_of_demo_is_refused():
    command = [sys.executable, str(REPOSITORY / "run.py"), "demo", "--prot", "8080"]
    answer = subprocess.run(command, capture_output=True, text=True)
    assert answer.returncode == 2 and "--prot" in answer.stderr


# --- a fresh machine --------------------------------------------------------------------------------------------------


@pytest.fixture
def ordinary_user():
    """How to start a command as a user without rights and without a home: prefix, and a folder that is theirs."""
    folder = Path(tempfile.mkdtemp(prefix="s3blobs run ", dir="/tmp"))  # tmp_path is closed to other users
    folder.chmod(0o755)
    prefix = []
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("setpriv is missing: cannot become an ordinary user")
        nobody = pwd.getpwnam("nobody")
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        prefix = ["setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups", "--"]
    yield prefix, folder
    subprocess.run([*prefix, "rm", "-rf", *map(str, folder.iterdir())])
    shutil.rmtree(folder)


def python_for(prefix: list[str]) -> str:
    """An interpreter that the user behind ``prefix`` may start."""
    candidates = [sys.executable, *(f"/usr/bin/python3.{minor}" for minor in (11, 12, 13)), "/usr/local/bin/python3"]
    question = "import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))"
    for candidate in candidates:
        answer = subprocess.run([*prefix, candidate, "-I", "-c", question], capture_output=True, cwd="/")
        if answer.returncode == 0:
            return candidate
    pytest.skip("no Python 3.11 to 3.13 that an ordinary user may start")


def test_without_pip_and_home_as_ordinary_user_in_a_path_with_spaces(ordinary_user):
    prefix, folder = ordinary_user
    python = python_for(prefix)
    source = copy_repository(Path(tempfile.mkdtemp(prefix="s3blobs-", dir="/tmp")) / "checkout")
    subprocess.run(["chmod", "-R", "a+rX", str(source.parent)], check=True)
    subprocess.run([*prefix, "cp", "-r", str(source), str(folder / "my checkout")], check=True, cwd="/")
    shutil.rmtree(source.parent)
    bare = str(folder / "bare")  # neither pip nor ensurepip is asked for, and PEP 668's mark is not looked at
    subprocess.run([*prefix, python, "-I", "-m", "venv", "--without-pip", bare], check=True, cwd="/")
    programs = folder / "bin"  # a PATH without uv
    subprocess.run([*prefix, "mkdir", str(programs)], check=True)
    environ = {"PATH": str(programs), "HOME": "/nonexistent", "LANG": "C.UTF-8"}
    for name, value in os.environ.items():  # how this machine reaches the package index
        if name.lower() in ("https_proxy", "http_proxy", "no_proxy", "pip_index_url", "ssl_cert_file", "pip_cert"):
            environ[name] = value
    setpriv = [shutil.which(prefix[0]), *prefix[1:]] if prefix else []
    answer = subprocess.run(
        [*setpriv, f"{bare}/bin/python", str(folder / "my checkout" / "run.py"), "test", "--only", "unit"],
        cwd="/", env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert f"Fetching uv {run.UV_VERSION}" in answer.stdout
    assert "1 passed" in answer.stdout.splitlines()[-1]
    made = os.listdir(folder / "my checkout" / ".venv")
    assert "uv-cache" in made and f"uv-{run.UV_VERSION}" in made


def test_an_interrupted_environment_is_made_anew(tmp_path):
    """Killed while uv installs: what is there looks like an environment, and is not taken for one."""
    checkout = copy_repository(tmp_path / "checkout")
    make = [sys.executable, "-c", "import run; print(run.ministack().make().python)"]
    environ = {**os.environ, "PYTHONPATH": str(checkout)}
    python = checkout / ".venv" / "ministack" / "bin" / "python"
    first = subprocess.Popen(make, cwd=checkout, env=environ, start_new_session=True, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not python.exists() and first.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    assert python.exists()
    assert not (checkout / ".venv" / "ministack" / "stamp").exists()
    second = subprocess.run(make, cwd=checkout, env=environ, capture_output=True, text=True, timeout=120)
    assert second.returncode == 0, second.stderr
    assert "Making the environment" in second.stdout
    subprocess.run([str(python), "-c", "import ministack, hypercorn"], check=True)
    third = subprocess.run(make, cwd=checkout, env=environ, capture_output=True, text=True, timeout=120)
    assert third.stdout == f"{python}\n"  # nothing to do
    pins = checkout / "requirements-ministack.txt"
    pins.write_text(pins.read_text() + "# another set of pins\n")
    fourth = subprocess.run(make, cwd=checkout, env=environ, capture_output=True, text=True, timeout=120)
    assert "Making the environment" in fourth.stdout


# --- the package index ------------------------------------------------------------------------------------------------


class Index(BaseHTTPRequestHandler):
    """A package index with one wheel, for who knows the password."""

    wheel = b""
    claimed = ""
    page = ""

    def do_GET(self):
        if self.headers.get("Authorization") != "Basic bWU6YSBi":  # me:a b
            self.send_error(401)
            return
        body = self.wheel if self.path.endswith(".whl") else self.page.encode()
        self.send_response(200)
        json_page = self.page.startswith("{") and not self.path.endswith(".whl")
        self.send_header("Content-Type", "application/vnd.pypi.simple.v1+json" if json_page else "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def index():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Index)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://me:a%20b@127.0.0.1:{server.server_port}/simple"
    server.shutdown()
    thread.join()
    server.server_close()


def wheel_of_uv(machine: str) -> tuple[str, bytes]:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr(f"uv-{run.UV_VERSION}.data/scripts/uv", f"#!/bin/sh\necho uv {run.UV_VERSION} for a test\n")
    return f"uv-{run.UV_VERSION}-py3-none-manylinux_2_17_{machine}.manylinux2014_{machine}.whl", content.getvalue()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the index below has a wheel for glibc only")
@pytest.mark.parametrize("form", ["html", "json"])
def test_uv_comes_from_the_index_that_pip_is_told(index, form, tmp_path):
    """With the password of its address, a relative link, and the hash checked."""
    name, Index.wheel = wheel_of_uv(platform.machine())
    digest = hashlib.sha256(Index.wheel).hexdigest()
    if form == "html":
        page = '<a href="../../files/{name}#sha256={digest}">{name}</a><a href="uv-0.0.1.tar.gz">old</a>'
    else:
        file = '{{"filename": "{name}", "url": "../../files/{name}", "hashes": {{"sha256": "{digest}"}}}}'
        page = '{{"files": [' + file + "]}}"
    code = "import run, sys, pathlib; print(run.uv_by_urllib(pathlib.Path(sys.argv[1])))"
    environ = {"PATH": os.environ["PATH"], "PIP_INDEX_URL": index, "PYTHONPATH": str(REPOSITORY), "HOME": str(tmp_path)}
    command = [sys.executable, "-c", code, str(tmp_path)]
    Index.page = page.format(name=name, digest=digest)
    good = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60)
    assert good.returncode == 0, good.stderr
    assert run.uv_version(good.stdout.strip()) == tuple(map(int, run.UV_VERSION.split(".")))
    Index.page = page.format(name=name, digest="0" * 64)
    bad = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60)
    assert bad.returncode == 1 and "SHA-256" in bad.stderr


def test_an_index_that_does_not_answer_is_named_without_its_password(tmp_path):
    code = "import run, sys, pathlib; run.uv_by_urllib(pathlib.Path(sys.argv[1]))"
    environ = {
        "PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY), "HOME": str(tmp_path),
        "PIP_INDEX_URL": "http://me:hidden@127.0.0.1:9/simple",
    }  # fmt: skip
    answer = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], env=environ, capture_output=True, text=True, timeout=60
    )
    assert "Stopped: uv could not be fetched from http://127.0.0.1:9/simple" in answer.stderr
    assert "hidden" not in answer.stderr


# --- running pytest ---------------------------------------------------------------------------------------------------


SUMMARIES = [
    ([("=== 3 passed in 0.12s ===", 0)], "3 passed", 0),
    ([("== 3 passed, 1 skipped in 75.20s (0:01:15) ==", 0), ("= 2 passed, 1 warning in 1.00s =", 0)],
     "5 passed, 1 skipped, 1 warning", 0),
    ([("== 1 failed, 2 passed, 3 errors in 0.12s ==", 1), ("= 2 passed in 1.00s =", 0)],
     "1 failed, 4 passed, 3 errors", 1),
    ([("== 5 deselected in 0.12s ==", 5), ("= 2 passed, 1 deselected in 1.00s =", 0)], "2 passed, 6 deselected", 0),
    ([("== no tests ran in 0.12s ==", 5)], "no tests ran", 5),
    ([("2 passed, 3 subtests passed in 0.12s", 0)], "2 passed, 3 subtests passed", 0),
    ([("== 2 passed in 0.12s ==", 0), ("Segmentation fault", -11)], "2 passed, 1 error", 1),
]  # fmt: skip


@pytest.mark.parametrize("runs, line, status", SUMMARIES)
def test_the_last_line_is_the_sum_of_all_suites(runs, line, status, capsys):
    counts = run.Counts()
    for number, (text, ended) in enumerate(runs):
        counts.add(str(number), ended, f"tests/test_x.py ...\n{text}\n")
    assert counts.close() == status
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.strip("= ").startswith(f"{line} in ") and last[0] == last[-1] == "="


INTERRUPTED = """
import time
try:
    print("begun", flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    time.sleep(0.3)
    print("torn down", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_run_tears_its_servers_down(number):
    """Whatever ends run.py reaches pytest once, as Ctrl-C, and its last words are still shown."""
    code = (
        "import run, sys; run.interruptible(); run.run_suites("
        f"[('x', 'X', [sys.executable, '-c', {INTERRUPTED!r}])], 1, None, run.Counts())"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert [process.stdout.readline() for _ in range(2)] == ["X\n", "begun\n"]
    process.send_signal(number)
    output, errors = process.communicate(timeout=30)
    assert output == "torn down\n"
    assert process.returncode != 0 and "KeyboardInterrupt" in errors


ONE_OF_TWO = """
import pathlib, sys, time
mine, other = map(pathlib.Path, sys.argv[1:])
for number in range(20):
    print(mine.name, number, flush=True)
    mine.touch()
    while not other.exists():
        time.sleep(0.01)
print("FAILED tests/x.py::test_" + mine.name, "- assert 0", flush=True)
print("=== 1 failed, 2 passed in 0.12s ===", flush=True)
raise SystemExit(1)
"""


def test_two_suites_at_the_same_time_do_not_mix_their_lines(tmp_path, capfdbinary):
    """Each waits for the other: one after the other, neither would end. What failed stands before the last line."""
    counts, (one, two) = run.Counts(), (str(tmp_path / name) for name in ("one", "two"))
    commands = [
        (name, f"--- {name} ---", [sys.executable, "-c", ONE_OF_TWO, *paths])
        for name, paths in (("one", (one, two)), ("two", (two, one)), ("late", (one, two)))
    ]
    run.run_suites(commands, 2, None, counts)
    assert counts.close() == 1
    lines = capfdbinary.readouterr().out.decode().splitlines()
    heads = [lines.index(f"--- {name} ---") for name in ("one", "two", "late")]
    assert heads == [0, 23, 46]
    assert lines[-4:-1] == [
        "FAILED tests/x.py::test_one - assert 0 (one)",
        "FAILED tests/x.py::test_two - assert 0 (two)",
        "FAILED tests/x.py::test_one - assert 0 (late)",
    ]
    assert lines[-1].strip("= ").startswith("3 failed, 6 passed in ")


def test_paths_are_sorted_into_suites(monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    here = "tests/storage/test_run_py.py::test_help"
    assert run.paths_of("storage", ["-k", "x", here]) == ([str(REPOSITORY / here)], ["-k", "x"])
    assert run.paths_of("unit", [here]) == ([], [])
    assert run.paths_of("plone61", ["tests"]) == ([str(REPOSITORY / "tests" / "plone")], [])
    assert run.paths_of("unit", ["-x"]) == ([str(REPOSITORY / "tests" / "unit")], ["-x"])


ALL_SUITES = ["unit", "storage", "ceph", "ceph-https", "client-side", "sse-c", "plone", "operations", "plone61"]


@pytest.mark.parametrize(
    "arguments, suites",
    [
        ([], ["unit", "storage", "plone", "operations", "plone61"]),
        (["--tier", "ci"], ALL_SUITES),
        (["--tier", "full"], ALL_SUITES),
        (["--tier", "ci", "--s3", "ceph"], ["unit", "storage", "plone", "operations", "plone61"]),
        (["--tier", "ci", "--only", "unit"], ["unit"]),
        (["--only", "ceph-https"], ["ceph-https"]),
    ],
)
def test_which_suites_run(arguments, suites, monkeypatch, capsys):
    """And each of Ceph's, and of encrypted blobs, is a pass of its own over the storage tests, whose failure is the
    whole run's."""
    commands = []
    answers = {"ceph-https": ("== 1 failed, 2 passed in 1.00s ==", 1)}

    def run_suites(plans, jobs, environ, counts):
        assert jobs == (1 if "full" in arguments else min(2, os.cpu_count()))
        for name, title, command in plans:
            [server] = {"ceph", "ceph-https", "client-side", "sse-c"} & set(command) if "--s3-pass" in command else [""]
            assert (server or name) == name and title.strip("\n").startswith("----- tests/")
            commands.append((server, Path(command[-1]).name))
            text, status = answers.get(server, ("== 3 passed in 1.00s ==", 0))
            counts.add(name, status, f"...\n{text}\n")

    monkeypatch.delenv("S3BLOBS_TIER", raising=False)
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr(run, "run_suites", run_suites)
    monkeypatch.setattr(run, "install_system_packages", lambda: None)
    monkeypatch.setattr(run.Environment, "make", lambda self: self)
    monkeypatch.setattr(run, "find_python", lambda version: sys.executable)
    status = run.test(*run.parse(["test", *arguments]))
    servers = {"ceph", "ceph-https", "client-side", "sse-c"}
    folders = {**dict.fromkeys(servers, "storage"), "plone61": "plone"}
    wanted = [(suite if suite in servers else "", folders.get(suite, suite)) for suite in suites]
    assert sorted(commands) == sorted(wanted)
    last = capsys.readouterr().out.splitlines()[-1].strip("= ")
    failed = "ceph-https" in suites
    assert status == (1 if failed else 0)
    assert last.startswith(f"1 failed, {3 * len(suites) - 1} passed in " if failed else f"{3 * len(suites)} passed in ")


NO_CEPH = """
import servers.ceph
servers.ceph.available = lambda: "Ceph is not installed (radosgw missing)"
servers.ceph.install = lambda: None
"""


def test_a_pass_without_its_server_says_by_name_what_it_skipped(tmp_path):
    (tmp_path / "no_ceph.py").write_text(NO_CEPH)
    command = [sys.executable, "-m", "pytest", "-p", "no_ceph", "--tier", "full", "--s3", "ceph-https", "--s3-pass"]
    modules = ("test_undo.py", "test_address.py", "test_proxy.py")
    command += [str(REPOSITORY / "tests" / "storage" / name) for name in modules]
    environ = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(REPOSITORY / "tests")])}
    answer = subprocess.run(command, cwd=REPOSITORY, env=environ, capture_output=True, text=True, timeout=120)
    assert answer.returncode == 0
    lines = answer.stdout.splitlines()
    title = next(number for number, line in enumerate(lines) if "not run on ceph-https: Ceph is not installed" in line)
    assert lines[title + 1].startswith("tests/storage/test_address.py: test_")
    assert lines[title + 2].startswith("tests/storage/test_undo.py: test_")
    assert "test_comparison_sees_differences" not in answer.stdout  # it uses no server
    assert "test_proxy" not in answer.stdout.replace(" ".join(command), "")
    assert " skipped" in lines[-1] and " passed" not in lines[-1]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has the file override")
def test_root_runs_the_tests_without_its_file_override(tmp_path):
    closed = tmp_path / "closed"
    closed.write_text("kept")
    closed.chmod(0o400)
    command = run.without_file_override([sys.executable, "-c", f"open({str(closed)!r}, 'r+')"])
    answer = subprocess.run(command, capture_output=True, text=True)
    assert "PermissionError" in answer.stderr
    assert closed.read_text() == "kept"
