"""Starts MiniStack and Zope for the demo, and stops both. Run by ``python3 run.py demo``.

Everything is kept in one folder (``--var``): ``Data.fs``, the S3 server's objects in ``s3``, the configuration in
``etc``, the blob cache in ``cache``, logs in ``log``, and the password. Both servers are children that the kernel ends
when this process dies, whatever it dies of; Ctrl-C, SIGTERM and SIGHUP stop them in order.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import http.client
import os
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "tests"))  # where the S3 server's launcher is

from configuration import ADMIN, BUCKET, Folders, write_configuration, write_secret  # noqa: E402
from ports import PortTaken, site_port  # noqa: E402
from servers.ministack import MiniStack  # noqa: E402
from servers.process import ServerFailed, ServerProcess  # noqa: E402

SITE_SECONDS = 300.0  # making the site takes 15 s on two idle cores
CORS_SECONDS = 60.0  # takes two on an idle machine
STOP_SECONDS = 15.0  # Zope closes its database within one


class Stopped(Exception):
    """The demo cannot run; the message is one sentence for the person at the terminal."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="run.py demo")
    parser.add_argument("--var", type=Path, required=True)
    parser.add_argument("--port", type=int)
    parser.add_argument("--reset", action="store_true")
    options = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    folders = Folders(options.var)
    options.var.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        with alone(folders):
            if options.reset:
                reset(folders)
            serve(folders, options.port)
    except (Stopped, PortTaken, ServerFailed) as error:
        print(f"run.py demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped. `python3 run.py demo` starts it again with the same site.", flush=True)
    return 0


@contextlib.contextmanager
def alone(folders: Folders) -> Iterator[None]:
    """Hold the folder's lock: two demos would write one Data.fs and one set of objects."""
    with open(folders.lock, "a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise Stopped(f"it runs already: process {file.read().strip()}, stop that one first") from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def reset(folders: Folders) -> None:
    """Remove everything but the lock that is held."""
    for path in folders.var.iterdir():
        if path == folders.lock:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def serve(folders: Folders, wanted_port: int | None) -> None:
    """Start both servers, say where the site is, wait until one ends or a signal comes; stop both."""
    port = site_port(wanted_port)
    first = not folders.data_fs.exists()
    folders.log.mkdir(exist_ok=True)
    store = MiniStack(folders.objects)
    zope: ServerProcess | None = None
    try:
        say("Starting the S3 server ...")
        store.start()
        write_configuration(folders, store, port)
        password = the_password(folders)
        say("Making the Plone site, which takes half a minute once ..." if first else "Starting Plone ...")
        started = time.monotonic()
        zope = ServerProcess("Plone", zope_command(folders, port), zope_environment(folders), folders.log / "zope.log")
        zope.start()
        zope.wait_until(lambda: answers(port), SITE_SECONDS)
        let_pages_send(folders)
        say(f"Ready after {time.monotonic() - started:.0f} s.")
        print(greeting(folders, store, port, password), flush=True)
        while zope.running() and store.pid is not None:
            time.sleep(0.2)
        ended, log = ("Plone", zope.log) if not zope.running() else ("The S3 server", folders.objects / "ministack.log")
        raise Stopped(f"{ended} ended by itself; {log} says why")
    finally:
        # A second Ctrl-C must not leave a server behind; both stops are bounded in time.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        if zope is not None:
            zope.stop(STOP_SECONDS)
        store.stop()


def zope_command(folders: Folders, port: int) -> list[str]:
    return [sys.executable, str(Path(__file__).with_name("serve_site.py")), str(folders.zope_conf), str(port)]


def zope_environment(folders: Folders) -> dict[str, str]:
    # zope.conf says everything: a person's AWS_PROFILE or endpoint must not lead the demo elsewhere.
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return kept | {"PYTHONUNBUFFERED": "1", "S3BLOBS_DEMO_PASSWORD_FILE": str(folders.password)}


def let_pages_send(folders: Folders) -> None:
    """Write the bucket's CORS rule, as an operator does once: here the port may be new, and MiniStack forgets it when
    it is killed. Without it direct upload fails and nothing else, so that the demo goes on."""
    command = [Path(sys.executable).with_name("s3blobs"), "--config", folders.zope_conf, "cors", "--yes"]
    try:
        done = subprocess.run(
            command, env=zope_environment(folders), stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=CORS_SECONDS,
        )  # fmt: skip
        trouble = done.stderr.strip() if done.returncode else ""
    except subprocess.TimeoutExpired:
        trouble = f"s3blobs cors does not end within {CORS_SECONDS:.0f} s"
    if trouble:
        say(f"Browsers cannot upload to the bucket themselves: {trouble}")


def the_password(folders: Folders) -> str | None:
    """The password of the site's administrator, drawn for a new site; None where somebody removed the file."""
    if folders.password.exists():
        return folders.password.read_text().strip()
    if folders.data_fs.exists():
        return None
    password = secrets.token_urlsafe(12)
    write_secret(folders.password, password)
    return password


def answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET", "/", headers={"Host": f"localhost:{port}"})
        return connection.getresponse().status == 200
    except http.client.HTTPException:
        return False
    finally:
        connection.close()


def greeting(folders: Folders, store: MiniStack, port: int, password: str | None) -> str:
    shown = password or "the one you set (its file is gone; --reset begins anew)"
    listing = f"{typed(Path(sys.executable))} {typed(Path(__file__).with_name('objects.py'))}"
    return f"""
  The site       http://localhost:{port}
  Log in         http://localhost:{port}/login
                 user {ADMIN}, password {shown}
  The bucket     {BUCKET} on {store.endpoint_url}

  What to try
    - Upload a file or an image, then list the bucket in another terminal:
          {listing}
    - Drop files, large ones too, on http://localhost:{port}/files/@@upload-files
      They go from the browser to the bucket. What Zope gets of them is in its log, a line for each request:
          tail -f {typed(folders.log / "zope.log")}
    - Stop the demo, remove the cache ({typed(folders.cache)}), start it again: every file is still there.
    - Read the configuration: {typed(folders.zope_conf)}

  Ctrl-C stops everything; the site and the objects stay in {typed(folders.var)}.
"""


def typed(path: Path) -> str:
    """``path`` as one types it here: relative inside the current folder, and quoted for a shell."""
    here = Path.cwd()
    return shlex.quote(str(path.relative_to(here) if path.is_relative_to(here) else path))


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
