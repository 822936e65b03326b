#!/usr/bin/env python3
"""The commands of this repository: ``python3 run.py demo``, ``python3 run.py test`` and ``python3 run.py benchmark``.

One file of standard library. It needs nothing but Python: no pip, no ensurepip, no root. It fetches uv, and with uv
makes the environments under ``.venv`` that the rest runs in, from the pins in ``constraints*.txt``.

Written in syntax that any Python since 2.7 can parse, so that a wrong version ends in the sentence below and not in a
SyntaxError; therefore no annotations and no f-strings here.
"""

from __future__ import print_function

import sys

if not (3, 11) <= sys.version_info[:2] <= (3, 13):
    sys.stderr.write(
        "run.py needs Python 3.11, 3.12 or 3.13, and this is Python %d.%d: start it with one of those, "
        "for example `python3.12 run.py test`.\n" % sys.version_info[:2]
    )
    sys.exit(2)

import argparse
import base64
import configparser
import contextlib
import fcntl
import hashlib
import html.parser
import io
import json
import os
import platform
import re
import selectors
import shutil
import signal
import ssl
import subprocess
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent
ENVIRONMENTS = REPOSITORY / ".venv"

UV_VERSION = "0.13.8"  # what is fetched when there is none
UV_OLDEST = (0, 5, 0)  # a uv found on PATH must know `pip install --build-constraints` and `venv --clear`
DEFAULT_INDEX = "https://pypi.org/simple/"  # pip's and uv's own default, used when no configuration names another
INDEX_TIMEOUT = 60  # seconds per socket operation: the wheel of uv has 20 MB

# Plone 6.1: the last release and the packages of its day. Later ones ask for Plone 6.2.
PLONE_61 = "6.1.4"
PLONE_61_PYTHON = "3.12"
PLONE_61_NEWEST = "2026-01-15T21:00:00Z"
PLONE_61_YOUNGER = ["zodb-convert=2026-11-01"]  # of the tests' own, of which there was nothing useful by then
# The benchmark compares with zodb-s3blobs, which needs one of these.
BENCHMARK_PYTHONS = ("3.12", "3.13")
# plone.app.layout 7 is an alpha for Plone 7: Plone 6.2 does not start with it, and pip would take it.
PLONE_62_BOUNDS = ["plone.app.layout<7"]

SUITES = ("unit", "storage", "ceph", "ceph-https", "client-side", "sse-c", "plone", "operations", "plone61")
# Suites that are another one's folder once more. Those on Ceph, and those whose blobs are encrypted, take of the
# storage's tests what is worth it there, and of that the tier's share (tests/server_pass.py); quick is without them.
PASSES = {
    "ceph": ("Ceph", ["--s3", "ceph"]),
    "ceph-https": ("Ceph over https", ["--s3", "ceph-https"]),
    "client-side": ("blobs that are encrypted here", ["--encrypt", "client-side"]),
    "sse-c": ("blobs that the store encrypts with our keys", ["--encrypt", "sse-c"]),
}
ON_CEPH = ("ceph", "ceph-https")
LONGEST_FIRST = ("plone", "storage", "plone61", "unit", "ceph", "operations", "client-side", "sse-c", "ceph-https")
FOLDERS = dict(dict.fromkeys(PASSES, "storage"), plone61="plone")
DEMO_DOWNLOAD_MB = 111  # measured: the packages of its environment and of MiniStack's, without uv

# What apt-get installs for the tests on Debian as root: a program that shows that it is there, and the package.
SYSTEM_PACKAGES = (
    ("chromium", "chromium", "tests in a browser"),
    ("ceph-mon", "ceph-mon", "tests on Ceph"),
    ("ceph-osd", "ceph-osd", "tests on Ceph"),
    ("radosgw", "radosgw", "tests on Ceph"),
    ("ceph", "ceph-common", "tests on Ceph"),
    ("nginx", "nginx-light", "tests behind nginx"),
    ("pdftotext", "poppler-utils", "tests of the search in PDF files"),
)

# Root without these two reads and writes only what permissions allow, as any user does: ZODB's blob suite, which both
# check that a file without permission is refused, says nothing when the kernel lets root through.
FILE_OVERRIDE = "-dac_override,-dac_read_search"


class Stopped(Exception):
    """The work cannot go on; the message is one sentence for the person at the terminal."""


def say(text):
    print(text, flush=True)


# --- uv -------------------------------------------------------------------------------------------------------------


def find_uv():
    """The path of a uv that is new enough: one on PATH, else one fetched before, else fetched now."""
    beside = os.path.join(os.path.dirname(sys.executable), "uv")
    for candidate in (shutil.which("uv"), beside):
        if candidate and (uv_version(candidate) or (0,)) >= UV_OLDEST:
            return candidate
    fetched = ENVIRONMENTS / ("uv-" + UV_VERSION) / "uv"
    if uv_version(fetched) is None:
        with locked("uv"):
            if uv_version(fetched) is None:  # another run.py may have fetched it while this one waited
                fetch_uv(fetched)
    return str(fetched)


def uv_version(program):
    """The version of ``program`` as a tuple of numbers, or None when it does not run (a pyenv shim, say)."""
    try:
        answer = subprocess.run(
            [str(program), "--version"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.match(r"uv (\d+)\.(\d+)\.(\d+)", answer.stdout)
    return tuple(map(int, found.groups())) if found and answer.returncode == 0 else None


def fetch_uv(target):
    """Put uv at ``target``: by pip if there is one, which knows the person's proxies and keyrings, else by urllib."""
    say("Fetching uv %s (20 MB) ..." % UV_VERSION)
    ENVIRONMENTS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="uv-", dir=str(ENVIRONMENTS)) as folder:
        program = uv_by_pip(Path(folder)) or uv_by_urllib(Path(folder))
        if uv_version(program) is None:
            raise Stopped("uv %s was fetched, but does not run on this machine: install uv by hand." % UV_VERSION)
        target.parent.mkdir(exist_ok=True)
        os.replace(str(program), str(target))  # whole or not at all


def uv_by_pip(folder):
    """uv installed by pip into ``folder``, or None. ``--target`` is allowed by PEP 668's externally-managed mark."""
    arguments = ["install", "--quiet", "--target", str(folder), "--no-deps", "--only-binary", ":all:"]
    command = [sys.executable, "-m", "pip"] + arguments + ["uv==" + UV_VERSION]
    try:
        answer = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=600
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    program = folder / "bin" / "uv"
    return program if answer.returncode == 0 and program.exists() else None


def uv_by_urllib(folder):
    """uv from the wheel in the package index, its SHA-256 checked against the index."""
    index, failure = package_index(), None
    page = index.rstrip("/") + "/uv/"
    try:
        body, content_type, final = read_url(page, "application/vnd.pypi.simple.v1+json, text/html;q=0.5")
        address, expected = uv_wheel(json_links(body) if "json" in content_type else html_links(body))
        wheel = read_url(with_password_of(index, urllib.parse.urljoin(final, address)), "*/*")[0]
    except (OSError, ValueError) as error:
        failure = error
    if failure:
        raise Stopped(
            "uv could not be fetched from %s (%s): set PIP_INDEX_URL to the package index to use, HTTPS_PROXY to the "
            "proxy, or SSL_CERT_FILE to the certificates, or install uv by hand." % (without_password(index), failure)
        )
    if hashlib.sha256(wheel).hexdigest() != expected:
        raise Stopped("The wheel of uv is not the one that the package index names (SHA-256): try again.")
    with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
        member = next(name for name in archive.namelist() if name.endswith(".data/scripts/uv"))
        program = folder / "uv"
        program.write_bytes(archive.read(member))
    program.chmod(0o755)
    return program


def package_index():
    """The address of the package index that the person's uv or pip would use."""
    for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL"):
        if os.environ.get(name):
            return re.sub(r"^[\w.-]+=", "", os.environ[name])  # uv allows NAME=ADDRESS
    return pip_setting("index-url") or DEFAULT_INDEX


def pip_setting(name):
    """A setting of pip's configuration files, the most specific one; None when no file has it."""
    home = Path(os.path.expanduser("~"))
    shared = os.environ.get("XDG_CONFIG_DIRS", "/etc/xdg").split(":")
    own = os.environ.get("XDG_CONFIG_HOME") or str(home / ".config")
    files = [Path(folder) / "pip" / "pip.conf" for folder in shared]
    files += [Path("/etc/pip.conf"), home / ".pip" / "pip.conf", Path(own) / "pip" / "pip.conf"]
    files += [Path(sys.prefix) / "pip.conf"]
    if os.environ.get("PIP_CONFIG_FILE"):
        files.append(Path(os.environ["PIP_CONFIG_FILE"]))
    value = None
    for path in files:
        parser = configparser.RawConfigParser()
        try:
            parser.read(str(path))
        except (OSError, configparser.Error, UnicodeDecodeError):
            continue
        for section in ("global", "install"):
            value = parser.get(section, name, fallback=value)
    return value


def read_url(address, accept):
    """Body, content type and final address of ``address``; a name and password in it are sent as basic auth."""
    parts = urllib.parse.urlsplit(address)
    request = urllib.request.Request(without_password(address), headers={"Accept": accept})
    if parts.username:
        pair = urllib.parse.unquote(parts.username) + ":" + urllib.parse.unquote(parts.password or "")
        request.add_unredirected_header("Authorization", "Basic " + base64.b64encode(pair.encode()).decode())
    context = None
    if parts.scheme == "https":
        context = ssl.create_default_context(cafile=certificates())
    with urllib.request.urlopen(request, timeout=INDEX_TIMEOUT, context=context) as answer:
        return answer.read(), answer.headers.get("Content-Type", ""), answer.geturl()


def without_password(address):
    parts = urllib.parse.urlsplit(address)
    return urllib.parse.urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def with_password_of(index, address):
    """``address`` with the name and password of ``index``, when both are on the same host."""
    ours, theirs = urllib.parse.urlsplit(index), urllib.parse.urlsplit(address)
    same = (ours.scheme, ours.hostname, ours.port) == (theirs.scheme, theirs.hostname, theirs.port)
    return urllib.parse.urlunsplit(theirs._replace(netloc=ours.netloc)) if same else address


def certificates():
    """The file of certificate authorities that the person configured for pip or OpenSSL; None is the system's."""
    for name in ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE"):
        if os.environ.get(name):
            return os.environ[name]
    return pip_setting("cert")


class Links(html.parser.HTMLParser):
    def __init__(self):
        super(Links, self).__init__()
        self.found = []

    def handle_starttag(self, tag, attributes):
        address = dict(attributes).get("href")
        if tag == "a" and address:
            self.found.append(address)


def html_links(body):
    """(file name, address, SHA-256) of each file on a page of the simple API (PEP 503)."""
    parser = Links()
    parser.feed(body.decode("utf-8", "replace"))
    for found in parser.found:
        address, fragment = urllib.parse.urldefrag(found)
        digest = urllib.parse.parse_qs(fragment).get("sha256", [None])[0]
        yield urllib.parse.unquote(address.rpartition("/")[2]), address, digest


def json_links(body):
    """The same from the simple API's JSON (PEP 691)."""
    for file in json.loads(body)["files"]:
        yield file["filename"], file["url"], file.get("hashes", {}).get("sha256")


def uv_wheel(links):
    """Address and SHA-256 of the wheel of uv for this machine. Raises ValueError when there is none."""
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine().lower())
    if sys.platform == "darwin":
        wanted = r"macosx_\d+_\d+_%s" % {"aarch64": "arm64"}.get(machine, machine)
    else:
        library = "manylinux" if "CS_GNU_LIBC_VERSION" in os.confstr_names and platform.libc_ver()[0] else "musllinux"
        wanted = r"%s_\d+_\d+_%s" % (library, machine)
    for name, address, digest in links:
        if name.startswith("uv-%s-py3-none-" % UV_VERSION) and re.search(r"[-.]%s[-.]" % wanted, name) and digest:
            return address, digest
    raise ValueError("no wheel of uv %s for %s %s with a SHA-256" % (UV_VERSION, sys.platform, machine))


# --- environments ---------------------------------------------------------------------------------------------------


class Environment(object):
    """One virtual environment under ``.venv``, made anew whenever what it is made from changes.

    :param name: its folder, without the Python version
    :param python: the interpreter
    :param arguments: what follows ``uv pip install``, relative to the repository
    :param inputs: the files of the repository whose content decides what gets installed
    """

    def __init__(self, name, python, arguments, inputs):
        self.name = name
        self.interpreter = python
        self.arguments = arguments
        self.inputs = inputs
        self.folder = ENVIRONMENTS / name

    @property
    def python(self):
        return str(self.folder / "bin" / "python")

    def fresh(self):
        """True when it is complete and made from what is asked for now."""
        try:
            return (self.folder / "stamp").read_text() == self.stamp() and os.path.exists(self.python)
        except OSError:
            return False

    def stamp(self):
        # The repository's path is in: an environment cannot be moved.
        digest = hashlib.sha256(repr((str(REPOSITORY), self.interpreter, self.arguments)).encode())
        for name in self.inputs:
            digest.update((REPOSITORY / name).read_bytes())
        return digest.hexdigest()

    def make(self):
        """Make it unless it is fresh. Its stamp is written last: one whose making was interrupted is made anew."""
        with locked(self.name):
            if self.fresh():
                return self
            uv = find_uv()
            say("Making the environment .venv/%s ..." % self.name)
            started = time.monotonic()
            shutil.rmtree(str(self.folder), ignore_errors=True)
            run_uv([uv, "venv", "--quiet", "--no-project", "--python", self.interpreter, str(self.folder)])
            install = [uv, "pip", "install", "--python", self.python, "--compile-bytecode"]
            run_uv(install + self.arguments)
            unfinished = self.folder / "stamp.new"
            unfinished.write_text(self.stamp())
            os.replace(str(unfinished), str(self.folder / "stamp"))
            say("Made .venv/%s in %.0f s." % (self.name, time.monotonic() - started))
        return self


def plone_62(extra):
    """The environment of Plone 6.2 for this Python, with ``extra`` of pyproject.toml (not on 3.13.0)."""
    pins = ["-c", "constraints.txt", "--build-constraints", "constraints.txt"]
    version, python = "%d.%d" % sys.version_info[:2], sys.executable
    if sys.version_info[:3] == (3, 13, 0):
        # Its pickler's persistent_id cannot be set (gh-125631, mended in 3.13.1): Plone cannot keep versions.
        found = [(other, find_python(other)) for other in ("3.12", "3.11")]
        version, python = next((pair for pair in found if pair[1]), (None, None))
        if python is None:
            raise Stopped("Plone does not run on Python 3.13.0, only from 3.13.1 on: start run.py with another Python.")
    name = ("plone-6.2-py" if extra == "test" else "demo-py") + version
    return Environment(name, python, ["-e", ".[%s]" % extra] + pins, ["pyproject.toml", "constraints.txt"])


def plone_61(python):
    """The environment of Plone 6.1. plone.api is named: there Plone itself does not depend on it."""
    pins = ["-c", "constraints-6.1.txt", "--build-constraints", "constraints-6.1.txt"]
    arguments = ["-e", ".[test]", "plone.api"] + pins
    return Environment("plone-6.1-py" + PLONE_61_PYTHON, python, arguments, ["pyproject.toml", "constraints-6.1.txt"])


def benchmark_environment():
    """What all contestants of the benchmark run in: one Python, one ZODB, one boto3."""
    found = [(version, find_python(version)) for version in BENCHMARK_PYTHONS]
    version, python = next((pair for pair in found if pair[1]), (None, None))
    if python is None:
        raise Stopped("The benchmark needs Python 3.12 or 3.13 on PATH: zodb-s3blobs does not run on older ones.")
    pins = ["-c", "constraints.txt", "--build-constraints", "constraints.txt"]
    arguments = ["-e", ".[benchmark]"] + pins
    return Environment("benchmark-py" + version, python, arguments, ["pyproject.toml", "constraints.txt"])


def ministack():
    """MiniStack's environment, of its own because it pins botocore."""
    arguments = ["--require-hashes", "-r", "requirements-ministack.txt"]
    return Environment("ministack", sys.executable, arguments, ["requirements-ministack.txt"])


@contextlib.contextmanager
def locked(name):
    """Hold ``.venv/NAME.lock``: two run.py at once make an environment once, the second waits."""
    ENVIRONMENTS.mkdir(exist_ok=True)
    with open(str(ENVIRONMENTS / (name + ".lock")), "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("Waiting for another run.py that makes .venv/%s ..." % name)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def run_uv(command):
    """Run uv and show what it does, without the list of all packages at the end."""
    process = subprocess.Popen(
        command, cwd=str(REPOSITORY), env=uv_environ(), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    for line in process.stderr:
        if not line.startswith((b" + ", b" ~ ")):
            sys.stderr.write(line.decode("utf-8", "replace"))
            sys.stderr.flush()
    if process.wait():
        raise Stopped("uv failed with status %d; what it wrote above says why." % process.returncode)


def uv_environ():
    """The process environment for uv: pip's index and certificates, which uv by itself does not read."""
    environ = clean_environ()
    environ["UV_PYTHON_DOWNLOADS"] = "never"
    for name in ("UV_CONSTRAINT", "UV_OVERRIDE", "UV_EXCLUDE_NEWER", "UV_PROJECT_ENVIRONMENT", "UV_VENV_SEED"):
        environ.pop(name, None)  # they would change what the pins say
    if not any(environ.get(name) for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL")) and package_index() != DEFAULT_INDEX:
        environ["UV_DEFAULT_INDEX"] = package_index()
    if certificates():
        environ.setdefault("SSL_CERT_FILE", certificates())
    else:
        environ.setdefault("UV_NATIVE_TLS", "true")  # the system's store, where a company's own authority is
    if "UV_CACHE_DIR" not in environ and not home_writable():
        environ["UV_CACHE_DIR"] = str(ENVIRONMENTS / "uv-cache")
    return environ


def home_writable():
    """True when uv can keep its cache in the home directory; a system user often has none."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache"))
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return os.access(str(folder), os.W_OK | os.X_OK)


def clean_environ():
    """This process' environment without what points to another Python."""
    hidden = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PYTHONSTARTUP", "__PYVENV_LAUNCHER__")
    return {name: value for name, value in os.environ.items() if name not in hidden}


# --- test -----------------------------------------------------------------------------------------------------------


def test(options, arguments):
    """Make the environments, run the suites, print the sum of their counts; returns the exit status."""
    chosen = options.only or default_suites(options)
    plans = []
    for suite in SUITES:
        paths, others = paths_of(suite, arguments)
        if suite in chosen and paths:
            plans.append((suite, paths, others))
    if not plans:
        raise Stopped("No test folder matches: --only and the paths given exclude each other.")
    suites = [suite for suite, paths, others in plans]
    python_61 = None
    if "plone61" in suites:
        python_61 = find_python(PLONE_61_PYTHON)
        if python_61 is None:
            say("Plone 6.1 is skipped: it needs Python %s, and there is none on PATH." % PLONE_61_PYTHON)
            plans = [plan for plan in plans if plan[0] != "plone61"]
    environments = {}
    environ = clean_environ()
    # The tests start hundreds of processes: each would compile the package and the tests' modules anew.
    environ.pop("PYTHONDONTWRITEBYTECODE", None)
    if set(suites) - {"plone61"}:
        environments["6.2"] = plone_62("test").make()
    if python_61:
        environments["6.1"] = plone_61(python_61).make()
    if set(suites) - {"unit"}:
        environ["S3BLOBS_MINISTACK"] = str(Path(ministack().make().python).with_name("ministack"))
        install_system_packages()
    counts = Counts()
    commands = []
    for suite, paths, others in plans:
        python = environments["6.1" if suite == "plone61" else "6.2"].python
        command = [python, "-m", "pytest", "--tier", options.tier]
        if suite in PASSES:
            command += PASSES[suite][1] + ["--s3-pass"]
        if options.s3 and suite not in ON_CEPH:
            command += ["--s3", options.s3]
        if sys.stdout.isatty():
            command.append("--color=yes")
        place = "Plone " + ("6.1" if suite == "plone61" else "6.2")
        place = PASSES[suite][0] if suite in PASSES else place
        title = "\n----- tests/%s on %s -----" % (FOLDERS.get(suite, suite), place)
        commands.append((suite, title, without_file_override(command + others + paths)))
    commands.sort(key=lambda one: LONGEST_FIRST.index(one[0]))  # what is long and begins last would run alone
    run_suites(commands, options.jobs or default_jobs(options), environ, counts)
    if "plone61" in suites and not python_61:
        counts.summary["skipped"] = counts.summary.get("skipped", 0) + 1
    return counts.close()


def default_suites(options):
    """All of them; storage's once more not in quick, and not where ``--s3`` says what all tests run on."""
    return [suite for suite in SUITES if suite not in PASSES or (options.tier != "quick" and not options.s3)]


def paths_of(suite, arguments):
    """What pytest runs of ``suite``: the paths among ``arguments`` in it, all of it if none is named; and the rest."""
    folder = REPOSITORY / "tests" / FOLDERS.get(suite, suite)
    named, others = [], []
    for argument in arguments:
        path = Path(argument.split("::")[0])
        if not argument.startswith("-") and path.exists():
            named.append((path.resolve(), argument))
        else:
            others.append(argument)
    if not named:
        return ([str(folder)] if folder.is_dir() else []), others
    mine = []
    for path, argument in named:
        if path == folder or folder in path.parents:
            mine.append(str(path) + argument[len(argument.split("::")[0]) :])
        elif path in folder.parents and folder.is_dir():
            mine.append(str(folder))
    return mine, others


def interruptible():
    """Make the end of the terminal and a kill what Ctrl-C is; and Ctrl-C too where a shell's ``&`` switched it off."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)


def default_jobs(options):
    """How many suites run at the same time. In full one, since what its tests measure is quoted."""
    return 1 if options.tier == "full" else min(2, os.cpu_count() or 1)


class Suite(object):
    """A pytest that runs: its output so far that was not shown, and the end of all of it.

    It has a session of its own: Ctrl-C reaches only run.py, which passes it on once, and pytest tears its servers down
    undisturbed.
    """

    KEPT = 65536  # bytes of the end, in which the summary is, with the names of what failed

    def __init__(self, name, title, command, environ):
        self.name = name
        self.held = (title + "\n").encode("utf-8")
        self.tail = b""
        self.process = subprocess.Popen(
            command,
            cwd=str(REPOSITORY),
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )

    def read(self):
        """Take over what it has written; False at its end."""
        chunk = os.read(self.process.stdout.fileno(), 65536)
        self.held += chunk
        self.tail = (self.tail + chunk)[-self.KEPT :]
        return bool(chunk)

    def show(self):
        held, self.held = self.held, b""
        sys.stdout.buffer.write(held)
        sys.stdout.buffer.flush()

    def text(self):
        return re.sub(r"\x1b\[[0-9;]*m", "", self.tail.decode("utf-8", "replace"))


def run_suites(commands, jobs, environ, counts):
    """Run what ``commands`` has (name, title, command), ``jobs`` of them at the same time, and count.

    The output of one passes as it comes, that of another when the first has ended. Raises KeyboardInterrupt when it was
    interrupted, after all that were running have ended; a second Ctrl-C ends them at once.
    """
    waiting, running, interrupts = list(commands), [], 0
    selector = selectors.DefaultSelector()
    while running or (waiting and not interrupts):
        try:
            while waiting and not interrupts and sum(not ended for _, ended in running) < jobs:
                suite = Suite(*waiting.pop(0), environ=environ)
                running.append([suite, False])
                selector.register(suite.process.stdout, selectors.EVENT_READ, running[-1])
            for key, _ in selector.select():
                if not key.data[0].read():
                    selector.unregister(key.fileobj)
                    key.data[1] = True
            while running and running[0][1]:
                suite = running.pop(0)[0]
                suite.show()
                status = suite.process.wait()
                if not interrupts:
                    counts.add(suite.name, status, suite.text())
            if running:
                running[0][0].show()
        except KeyboardInterrupt:
            interrupts += 1
            for suite, _ in running:
                suite.process.send_signal(signal.SIGINT) if interrupts == 1 else suite.process.kill()
    if interrupts:
        raise KeyboardInterrupt


class Counts(object):
    """The sum of several runs of pytest."""

    ORDER = ("failed", "passed", "skipped", "deselected", "xfailed", "xpassed", "warnings", "errors")

    def __init__(self):
        self.started = time.monotonic()
        self.summary = {}
        self.status = {}
        self.wrong = []

    def add(self, suite, status, tail):
        """Take over one run: its exit status, and the counts in the summary line at the end of its output."""
        self.status[suite] = status
        self.wrong += [
            "%s (%s)" % (line, suite) for line in re.findall(r"^(?:FAILED|ERROR) tests/.*", tail, re.MULTILINE)
        ]
        found = re.findall(r"^=*\s*((?:\d+ [a-z ]+, )*\d+ [a-z ]+|no tests ran) in \d[\d.]*s", tail, re.MULTILINE)
        if not found:
            self.summary["errors"] = self.summary.get("errors", 0) + 1
            say("%s ended with status %s and without a summary." % (suite, status))
            return
        for number, word in re.findall(r"(\d+) ([a-z ]+)", found[-1]):
            word = {"error": "errors", "warning": "warnings"}.get(word, word)
            self.summary[word] = self.summary.get(word, 0) + int(number)

    def close(self):
        """Print what failed and the line that pytest would print for all of it; returns the exit status of all."""
        texts = []
        for word in sorted(self.summary, key=lambda word: (self.ORDER + (word,)).index(word)):
            number = self.summary[word]
            if number:
                texts.append("%d %s" % (number, word[:-1] if number == 1 and word in ("warnings", "errors") else word))
        line = " %s in %.2fs " % (", ".join(texts) or "no tests ran", time.monotonic() - self.started)
        failed = [status for status in self.status.values() if status not in (0, 5)]
        say("\n" + "\n".join(self.wrong + [line.center(100, "=")]))
        if failed:
            return failed[0] if failed[0] in (1, 2) else 1
        # 5: no test was chosen. In one of several suites that is what -k does; in all of them it is an error.
        return 5 if self.status and set(self.status.values()) == {5} else 0


def without_file_override(command):
    """``command`` as root without the file override, so that permissions count; as another user, itself."""
    program = shutil.which("setpriv")
    if os.geteuid() != 0 or program is None:
        return command
    prefix = [program, "--bounding-set=" + FILE_OVERRIDE, "--inh-caps=" + FILE_OVERRIDE, "--"]
    # In a container root may lack the right to drop capabilities; then it mostly has not got these two either.
    tried = subprocess.run(prefix + ["true"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return prefix + command if tried.returncode == 0 else command


def find_python(version):
    """An interpreter of exactly ``version`` (``3.12``), or None: this one, one on PATH, one of pyenv's."""
    candidates = [sys.executable]
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        candidates.append(os.path.join(folder, "python" + version))
    root = Path(os.environ.get("PYENV_ROOT") or os.path.join(os.path.expanduser("~"), ".pyenv"))
    candidates += map(str, sorted((root / "versions").glob(version + ".*/bin/python" + version), reverse=True))
    question = "import sys; print('%d.%d' % sys.version_info[:2])"
    for candidate in candidates:
        try:
            # Asked, not only looked at: pyenv's shim is there for versions that it then refuses to start.
            answer = subprocess.run(
                [candidate, "-I", "-c", question], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
            )
        except (OSError, subprocess.TimeoutExpired):
            continue
        if answer.returncode == 0 and answer.stdout.strip() == version:
            return candidate
    return None


def install_system_packages():
    """Chromium and Ceph by apt-get where we are root on Debian; elsewhere say which tests are skipped without them."""
    missing = [row for row in SYSTEM_PACKAGES if shutil.which(row[0]) is None]
    if missing and os.geteuid() == 0 and shutil.which("apt-get") and os.path.exists("/etc/debian_version"):
        packages = [package for program, package, what in missing]
        say("Installing with apt-get: %s ..." % " ".join(packages))
        environ = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
        install = ["apt-get", "install", "-q", "-y", "--no-install-recommends"] + packages
        for command in (["apt-get", "update", "-q"], install):
            with tempfile.TemporaryFile() as output:
                answer = subprocess.run(
                    command, env=environ, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
                )
                if answer.returncode:
                    output.seek(0)
                    say(output.read().decode("utf-8", "replace")[-2000:])
                    say("apt-get failed with status %d." % answer.returncode)
        missing = [row for row in SYSTEM_PACKAGES if shutil.which(row[0]) is None]
    for what in sorted(set(row[2] for row in missing)):
        packages = " ".join(package for program, package, needed_by in missing if needed_by == what)
        say("Without Debian's %s, %s are skipped." % (packages, what))


# --- demo, benchmark and pins ---------------------------------------------------------------------------------------


def demo(options):
    """Become the demo: the process that starts MiniStack and Zope and stops them again."""
    site, store = plone_62("plone"), ministack()
    if not (site.fresh() and store.fresh()):
        say("This first run downloads up to %d MB of Python packages (not what uv has in its cache)" % DEMO_DOWNLOAD_MB)
        say("and takes one to two minutes. Everything goes into .venv and var/demo of this checkout.")
    site.make()
    store.make()
    environ = clean_environ()
    environ["S3BLOBS_MINISTACK"] = str(Path(store.python).with_name("ministack"))
    command = [site.python, str(REPOSITORY / "demo"), "--var", str(REPOSITORY / "var" / "demo")]
    if options.port:
        command += ["--port", str(options.port)]
    if options.reset:
        command.append("--reset")
    os.execve(command[0], command, environ)


def benchmark(arguments):
    """Become the benchmark: the process that starts MiniStack and the contestants."""
    contestants, store = benchmark_environment().make(), ministack().make()
    environ = clean_environ()
    environ["S3BLOBS_MINISTACK"] = str(Path(store.python).with_name("ministack"))
    scripts = {name: name + ".py" for name in ("moving", "garbage", "fsck", "sharing")} | {"scale": "scale_plan.py"}
    named = arguments[:1] in [[name] for name in scripts]
    script = scripts[arguments[0]] if named else "storage.py"
    command = [contestants.python, str(REPOSITORY / "benchmarks" / script)] + arguments[named:]
    os.execve(command[0], command, environ)


def pins():
    """Resolve constraints.txt, constraints-6.1.txt and requirements-ministack.txt anew."""
    uv = find_uv()
    compile_ = [uv, "pip", "compile", "--quiet", "--upgrade", "--no-header", "--no-annotate"]
    project_ = ["pyproject.toml", "--all-extras"]
    with tempfile.TemporaryDirectory() as folder:

        def written(name, lines):
            path = Path(folder) / name
            path.write_text("".join(line + "\n" for line in lines))
            return str(path)

        bounds = written("bounds.txt", PLONE_62_BOUNDS)
        run_uv(compile_ + project_ + ["--universal", "--python-version", "3.11", "-c", bounds, "-o", "constraints.txt"])
        bounds = written("bounds-6.1.txt", ["Products.CMFPlone==" + PLONE_61])
        named = written("named-6.1.in", ["plone.api"])
        day = ["--python-version", PLONE_61_PYTHON, "--exclude-newer", PLONE_61_NEWEST]
        day += ["--exclude-newer-package=" + younger for younger in PLONE_61_YOUNGER]
        # Not the extra of the benchmark: zodb-s3blobs 1.2.1 is younger than that day.
        tested = ["pyproject.toml", "--extra", "plone", "--extra", "test"]
        run_uv(compile_ + tested + [named, "-c", bounds, "-o", "constraints-6.1.txt"] + day)
        lines = (REPOSITORY / "requirements-ministack.txt").read_text().splitlines()
        wanted = [line.rstrip(" \\") for line in lines if line.startswith("ministack==")]
        hashed = ["--universal", "--python-version", "3.11", "--generate-hashes", "-o", "requirements-ministack.txt"]
        run_uv(compile_ + [written("ministack.in", wanted)] + hashed)
    say("Written: constraints.txt, constraints-6.1.txt, requirements-ministack.txt.")


# --- the command line -----------------------------------------------------------------------------------------------


def parse(arguments):
    parser = argparse.ArgumentParser(
        prog="run.py", description="collective.s3blobstorage: its demo, tests and benchmark."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="demo | test | benchmark | pins")
    one = commands.add_parser(
        "demo",
        help="a Plone site whose files and images live in a local S3 server",
        description="Make and serve a Plone site whose files and images live in a local S3 server. Ctrl-C stops it.",
    )
    one.add_argument("--port", type=port, help="the site's port; default: the next free one from 8080")
    one.add_argument("--reset", action="store_true", help="remove the demo's site and objects first, and begin anew")
    one = commands.add_parser(
        "test",
        help="all tests",
        description="Make the environments and run all tests. Further arguments go to pytest.",
        allow_abbrev=False,
    )
    default = "ci" if os.environ.get("CI") == "true" else "quick"
    one.add_argument(
        "--tier",
        choices=("quick", "ci", "full"),
        default=os.environ.get("S3BLOBS_TIER") or default,
        help="how often tests repeat things; default: %(default)s (ci where CI=true)",
    )
    one.add_argument(
        "--s3",
        choices=("ministack",) + ON_CEPH,
        help="the S3 server of all tests; default: ministack, and Ceph for the suites of that name",
    )
    one.add_argument(
        "--jobs",
        type=int,
        choices=(1, 2, 3, 4),
        help="how many suites run at the same time; default: 2 where there are two cores, and 1 for the tier full",
    )
    one.add_argument("--only", choices=SUITES, action="append", help="only this suite; may be repeated")
    commands.add_parser(
        "benchmark",
        help="compare with ZODB's blob directory, zodb-s3blobs and boto3",
        description="Make the environment and run benchmarks/storage.py, or with the word moving, garbage, fsck,"
        " sharing or scale benchmarks/moving.py, garbage.py, fsck.py, sharing.py or scale_plan.py, which takes all"
        " further arguments.",
        add_help=False,
        allow_abbrev=False,
    )
    commands.add_parser(
        "pins",
        help="resolve the constraints anew",
        description="Resolve constraints.txt, constraints-6.1.txt and requirements-ministack.txt anew.",
    )
    options, rest = parser.parse_known_args(arguments)
    if rest and options.command not in ("test", "benchmark"):
        parser.error("unrecognized arguments: " + " ".join(rest))
    return options, rest


def port(text):
    number = int(text)
    if not 1 <= number <= 65535:
        raise argparse.ArgumentTypeError("a port is a number from 1 to 65535, for example 8080")
    return number


def main(arguments):
    options, rest = parse(arguments)
    interruptible()
    try:
        if options.command == "test":
            return test(options, rest)
        if options.command == "benchmark":
            return benchmark(rest)
        if options.command == "pins":
            return pins()
        return demo(options)
    except Stopped as error:
        sys.stderr.write("run.py: %s\n" % error)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
