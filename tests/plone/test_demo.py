"""``run.py demo``, from what run.py becomes when its environment is there: start, look, Ctrl-C, start again."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import os
import re
import selectors
import signal
import stat
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from urllib.parse import urlsplit

import boto3
import pytest
from command_line import environment
from servers.process import free_port

REPOSITORY = Path(__file__).resolve().parents[2]
START_SECONDS = 240.0
END_SECONDS = 40.0

pytestmark = pytest.mark.skipif(
    metadata.version("Products.CMFPlone") < "6.2", reason="the demo is a Plone 6.2 site, and runs in its environment"
)


class Demo:
    """One run of the demo in ``var``, as in a terminal: a session of its own, its output read."""

    def __init__(self, var: Path, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(REPOSITORY / "demo"), "--var", str(var), *arguments],
            cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        self.output = ""

    def wait_for(self, text: str) -> None:
        """Read until ``text`` was printed; fails when the demo ends or hangs before."""
        deadline = time.monotonic() + START_SECONDS
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while text not in self.output:
                assert selector.select(max(0, deadline - time.monotonic())), f"hangs after:\n{self.output}"
                chunk = os.read(self.process.stdout.fileno(), 65536)
                assert chunk, f"ended:\n{self.output}"
                self.output += chunk.decode()

    def ended(self) -> int:
        """Its exit status; fails when it does not end."""
        rest, _ = self.process.communicate(timeout=END_SECONDS)
        self.output += rest.decode()
        return self.process.returncode

    def children(self) -> dict[int, str]:
        """Command lines of the servers, by process id."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue  # it ended meanwhile
            if parent == self.process.pid:
                found[int(folder.name)] = command
        return found

    @property
    def port(self) -> int:
        return int(re.search(r"http://localhost:(\d+)", self.output)[1])


@pytest.fixture
def started():
    """``Demo`` that is ended with the test, whatever happens."""
    demos = []

    def start(*arguments) -> Demo:
        demos.append(Demo(*arguments))
        return demos[-1]

    yield start
    for demo in demos:
        if demo.process.poll() is None:
            demo.process.kill()  # the kernel ends its servers
        demo.process.wait()
        demo.process.stdout.close()


def wait_until_gone(pids) -> list[int]:
    """Wait for the processes; returns those that stay."""
    deadline = time.monotonic() + 10
    left = list(pids)
    while left and time.monotonic() < deadline:
        left = [pid for pid in left if runs(pid)]
        time.sleep(0.05)
    return left


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def get(port: int, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("localhost", port, timeout=60)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def token(port: int, password: str) -> int:
    """The status of a login through plone.restapi."""
    connection = http.client.HTTPConnection("localhost", port, timeout=60)
    body = json.dumps({"login": "admin", "password": password})
    try:
        connection.request("POST", "/@login", body, {"Content-Type": "application/json", "Accept": "application/json"})
        return connection.getresponse().status
    finally:
        connection.close()


def upload_directly(port: int, password: str, var: Path) -> None:
    """As a browser does, which first asks the store whether pages of the demo may send to it."""
    login = {"Authorization": "Basic " + base64.b64encode(f"admin:{password}".encode()).decode()}
    data = os.urandom(3 * 1024 * 1024)
    asked = {"@type": "File", "filename": "drop.bin", "size": len(data)}
    status, begun = send("POST", f"http://localhost:{port}/files/@blob-upload", login, asked)
    assert status == 201, begun
    parts = urlsplit(begun["requests"][0]["url"])
    for origin, allowed in ((f"http://localhost:{port}", True), ("https://elsewhere.example", False)):
        question = {"Origin": origin, "Access-Control-Request-Method": "PUT"}
        connection = http.client.HTTPConnection(parts.netloc, timeout=60)
        connection.request("OPTIONS", parts.path, headers=question)
        assert (connection.getresponse().getheader("Access-Control-Allow-Origin") == origin) is allowed
        connection.close()
    connection = http.client.HTTPConnection(parts.netloc, timeout=60)
    connection.request("PUT", f"{parts.path}?{parts.query}", data)
    assert connection.getresponse().status == 200
    connection.close()
    status, content = send("POST", f"http://localhost:{port}/files/@blob-upload/{begun['id']}", login, {})
    assert status == 201 and hashlib.sha256(data).hexdigest() in objects(var).values()
    brought = re.findall(r"POST /files/@blob-upload\S* brings (\d+) bytes", (var / "log" / "zope.log").read_text())
    assert len(brought) == 2 and sum(map(int, brought)) < 1000


def send(method: str, url: str, headers: dict[str, str], body: dict) -> tuple[int, dict]:
    """A call of plone.restapi, and its answer."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=60)
    declared = {"Accept": "application/json", "Content-Type": "application/json"}
    try:
        connection.request(method, parts.path, json.dumps(body), {**headers, **declared})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def s3blobs(*arguments: str | Path) -> str:
    """What the command prints; it must end with 0 and say nothing on standard error."""
    command = [Path(sys.executable).with_name("s3blobs"), *arguments]
    result = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=120)
    assert (result.returncode, result.stderr) == (0, ""), result.stdout
    return result.stdout


def objects(var: Path) -> dict[str, str]:
    """SHA-256 of each blob's object, by key."""
    known = json.loads((var / "etc" / "bucket.json").read_text())
    bucket = known.pop("bucket")
    client = boto3.client("s3", **known)
    found = {}
    for entry in client.list_objects_v2(Bucket=bucket)["Contents"]:
        if entry["Key"].startswith("blobs/"):
            body = client.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read()
            found[entry["Key"]] = hashlib.sha256(body).hexdigest()
    client.close()
    return found


def test_demo(started, tmp_path):
    var = tmp_path / "my var" / "demo"
    first = started(var)
    first.wait_for("Ctrl-C stops everything")
    port = first.port
    status, page = get(port, "/")
    assert status == 200 and b"<h1" in page and b"barceloneta" in page and b"Welcome" in page
    status, report = get(port, "/files/report/@@download/file/report.pdf")
    assert status == 200 and report.startswith(b"%PDF-")
    status, picture = get(port, "/pictures/dusk/@@download/image/dusk.jpg")
    assert status == 200 and picture.startswith(b"\xff\xd8")
    assert get(port, "/moved")[0] == 200
    kept = objects(var)
    assert {hashlib.sha256(report).hexdigest(), hashlib.sha256(picture).hexdigest()} <= set(kept.values())

    password = re.search(r"user admin, password (\S+)", first.output)[1]
    assert token(port, password) == 200
    assert token(port, password + "x") == 401
    for secret in ("password", "etc/secret-key", "etc/bucket.json"):
        assert stat.S_IMODE((var / secret).stat().st_mode) == 0o600
    assert password not in (var / "log" / "zope.log").read_text()

    listing = subprocess.run(
        [sys.executable, str(REPOSITORY / "demo" / "objects.py"), str(var)], capture_output=True, text=True, timeout=60
    )
    assert all(key in listing.stdout for key in kept), listing.stderr

    assert f"http://localhost:{port}/files/@@upload-files" in first.output
    assert f'href="http://localhost:{port}/files/@@upload-files"'.encode() in page
    upload_directly(port, password, var)
    kept = objects(var)

    # Every verb of the command beside the running site.
    configuration = var / "etc" / "zope.conf"
    told = json.loads(s3blobs("--config", configuration, "status", "--json"))
    assert (told["objects"]["blobs"]["objects"], told["owner"], told["base"]) == (len(kept), "demo", "filestorage")
    found = json.loads(s3blobs("--config", configuration, "check", "--json"))
    assert "last transaction" in {row["name"]: row for row in found["findings"]}["database"]["detail"]
    warmed = json.loads(s3blobs("--config", configuration, "warm", "--json"))
    assert (warmed["cached_before"] + warmed["fetched"], warmed["failed"]) == (len(kept), [])
    text = configuration.read_text()
    assert "+    cache-size 2GB" in s3blobs("zope-conf", "--dry-run", configuration, "--cache-size", "2GB").splitlines()
    assert configuration.read_text() == text

    second = started(var)
    assert second.ended() == 1 and "runs already" in second.output

    servers = first.children()
    assert len(servers) == 2
    os.killpg(first.process.pid, signal.SIGINT)  # what Ctrl-C in a terminal does
    assert first.ended() == 0, first.output
    assert wait_until_gone(servers) == []

    # The same site with the same files, also without the cache, on a port of one's choice; until Zope dies.
    for path in sorted((var / "cache").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    wanted = free_port()
    third = started(var, "--port", str(wanted))
    third.wait_for("Ctrl-C stops everything")
    assert third.port == wanted
    assert get(wanted, "/files/report/@@download/file/report.pdf") == (200, report)
    assert get(wanted, "/pictures/dusk/@@download/image/dusk.jpg") == (200, picture)
    assert f"password {password}" in third.output and token(wanted, password) == 200
    assert kept.items() <= objects(var).items()
    servers = third.children()
    (zope,) = (pid for pid, command in servers.items() if "serve_site.py" in command)
    os.kill(zope, signal.SIGKILL)
    assert third.ended() == 1 and "ended by itself" in third.output
    assert wait_until_gone(servers) == []

    # --reset begins anew; and whatever the demo dies of, its servers die with it.
    fourth = started(var, "--reset")
    fourth.wait_for("Ctrl-C stops everything")
    assert password not in fourth.output
    assert not kept.keys() & objects(var).keys()
    servers = fourth.children()
    assert len(servers) == 2
    fourth.process.kill()
    assert wait_until_gone(servers) == []


def test_a_port_that_is_taken_is_refused_in_one_sentence(started, tmp_path):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        demo = started(tmp_path / "demo", "--port", str(taken.getsockname()[1]))
        assert demo.ended() == 1
    assert demo.output.startswith("run.py demo: port ") and demo.output.count("\n") == 1
