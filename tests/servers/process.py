"""A server process that cannot outlive the process that started it, and ports for it to listen on."""

from __future__ import annotations

import os
import queue
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path

LEASH = Path(__file__).with_name("leash.py")

# Below Linux' ephemeral ports (32768 and up): between stop and restart no outgoing connection can take the port.
PORTS = range(20000, 32000)

_launches: queue.SimpleQueue[tuple[Future, Callable[[], subprocess.Popen]]] = queue.SimpleQueue()
_launcher_lock = threading.Lock()
_launcher: threading.Thread | None = None


class ServerFailed(RuntimeError):
    """A server did not start, or not in time. The message ends with the tail of its log."""


def free_port() -> int:
    """A TCP port of 127.0.0.1 on which nothing listens now.

    Another process may take it before the caller does: who starts a server tries again with another one.
    """
    for port in random.sample(PORTS, 200):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise ServerFailed(f"no free port found between {PORTS.start} and {PORTS.stop}")


class ServerProcess:
    """One server process, its output in a log file.

    ``start`` may be called again after ``stop`` or ``kill``. Methods may be called from any thread, one at a time.
    """

    def __init__(self, name: str, command: list[str], environment: Mapping[str, str], log: Path) -> None:
        self.name = name
        self.command = command
        self.environment = dict(environment)
        self.log = log
        self._process: subprocess.Popen | None = None

    @property
    def pid(self) -> int | None:
        """The process id, or None while it does not run."""
        return self._process.pid if self.running() else None

    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        if self.running():
            raise ServerFailed(f"{self.name} runs already")
        command = [sys.executable, "-I", "-S", str(LEASH), str(os.getpid()), *self.command]

        def launch() -> subprocess.Popen:
            with open(self.log, "ab") as log:
                # A session of its own: Ctrl-C in a terminal reaches the tests, which then stop the server in order.
                return subprocess.Popen(
                    command,
                    env=self.environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )

        self._process = _in_launcher(launch)

    def wait_until(self, ready: Callable[[], bool], seconds: float) -> None:
        """Return when ``ready()`` is true; it is asked every 50 ms and may raise OSError for "not yet".

        Raises ServerFailed when the process ends before, or after ``seconds`` (the process is then killed).
        """
        deadline = time.monotonic() + seconds
        while True:
            try:
                if ready():
                    return
            except OSError:
                pass  # refused or reset: it does not listen yet
            if not self.running():
                raise ServerFailed(f"{self.name} ended with status {self._status()} at start.\n{self.tail()}")
            if time.monotonic() > deadline:
                self.kill()
                raise ServerFailed(f"{self.name} did not answer within {seconds:g} s.\n{self.tail()}")
            time.sleep(0.05)

    def stop(self, seconds: float = 10.0) -> None:
        """SIGTERM, and SIGKILL when it still runs after ``seconds``."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """SIGKILL; returns when the process is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def tail(self, lines: int = 30) -> str:
        """The last lines of its log."""
        try:
            text = self.log.read_text(errors="replace")
        except OSError as error:
            return f"(no log: {error})"
        return "\n".join(text.splitlines()[-lines:])

    def _status(self) -> int | None:
        return self._process.returncode if self._process else None


def _in_launcher(launch: Callable[[], subprocess.Popen]) -> subprocess.Popen:
    """Start a process from the launcher thread.

    The kernel sends the parent-death signal when the *thread* that forked ends. The launcher thread ends only with
    the process, so that a server started by a short-lived thread lives on.
    """
    global _launcher
    with _launcher_lock:
        if _launcher is None or not _launcher.is_alive():  # not alive in a forked child
            _launcher = threading.Thread(target=_launch_all, name="server-launcher", daemon=True)
            _launcher.start()
    started: Future = Future()
    _launches.put((started, launch))
    return started.result()


def _launch_all() -> None:
    while True:
        started, launch = _launches.get()
        try:
            started.set_result(launch())
        except BaseException as error:
            started.set_exception(error)
