"""MiniStack, the embedded S3 server of the demo and of most tests, as a process of its own.

It keeps objects on disk as they are written, but users, buckets' settings and multipart uploads only at an orderly
stop. So the first start makes the user and stops once: after that the keys survive SIGKILL like the objects.

The signatures of MiniStack's root key are not checked, those of an IAM user are: everything here but making users
goes through the user's key.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import sys
from pathlib import Path

from .process import ServerFailed, ServerProcess, free_port

REGION = "us-east-1"
ROOT_KEY = "test"  # MiniStack's own default
START_SECONDS = 30.0  # it takes half a second on an idle machine
USER = "s3blobs"
EVERYTHING = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}


def command() -> list[str]:
    """The command line of MiniStack.

    ``$S3BLOBS_MINISTACK`` (the program, or a Python that has the package), else ``ministack`` on PATH, else
    ``.venv-ministack`` at the top of the repository. Raises ServerFailed when there is none.
    """
    named = os.environ.get("S3BLOBS_MINISTACK")
    if named:
        if not os.access(named, os.X_OK):
            raise ServerFailed(f"S3BLOBS_MINISTACK={named}: no such program")
        return [named, "-m", "ministack"] if Path(named).name.startswith("python") else [named]
    beside = Path(__file__).resolve().parents[2] / ".venv-ministack" / "bin" / "ministack"
    found = shutil.which("ministack") or (str(beside) if os.access(beside, os.X_OK) else None)
    if found is None:
        raise ServerFailed(
            f"MiniStack is not installed: `pip install ministack` in an environment of its own at {beside.parents[1]}, "
            "or set S3BLOBS_MINISTACK to the program (it pins botocore, so not beside this package)"
        )
    return [found]


class MiniStack:
    """One MiniStack on 127.0.0.1 with its data in ``data_dir``; dies with the process that started it.

    A folder that an earlier MiniStack used is taken over with its objects and its user. Methods may be called from
    any thread, one at a time.

    :param data_dir: holds objects, state, credentials (mode 0600) and ``ministack.log``; created if missing
    :param port: where to listen; None takes a free one
    """

    region = REGION

    def __init__(self, data_dir: Path, port: int | None = None) -> None:
        self.data_dir = data_dir
        self.access_key = ""
        self.secret_key = ""
        self._wanted_port = port
        self.port = 0
        self._server: ServerProcess | None = None

    def __repr__(self) -> str:
        return f"<MiniStack {self.endpoint_url} in {self.data_dir}>"

    @property
    def endpoint_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int | None:
        """The server's process id, None while it does not run."""
        return self._server.pid if self._server else None

    def start(self) -> MiniStack:
        """Start it and wait until it answers. Raises ServerFailed with the tail of the log."""
        self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)  # the state holds secret keys
        for folder in ("s3", "state", "tmp"):
            (self.data_dir / folder).mkdir(exist_ok=True)
        self._listen()
        self._take_credentials()
        return self

    def stop(self) -> None:
        """End it in order: users and buckets' settings are saved."""
        if self._server:
            self._server.stop()

    def kill(self) -> None:
        """SIGKILL: what only an orderly stop saves is lost."""
        if self._server:
            self._server.kill()

    def restart(self) -> None:
        """Run again on the same port and data; ends a running one in order first."""
        self.stop()
        self._run()

    def create_user(self, name: str, policy: dict | None = None) -> tuple[str, str]:
        """Make an IAM user; returns access key and secret key.

        :param policy: an IAM policy document; None allows everything
        """
        import boto3

        iam = boto3.client(
            "iam",
            endpoint_url=self.endpoint_url,
            region_name=REGION,
            aws_access_key_id=ROOT_KEY,
            aws_secret_access_key=ROOT_KEY,
        )
        try:
            iam.create_user(UserName=name)
            iam.put_user_policy(UserName=name, PolicyName=name, PolicyDocument=json.dumps(policy or EVERYTHING))
            key = iam.create_access_key(UserName=name)["AccessKey"]
        finally:
            iam.close()
        return key["AccessKeyId"], key["SecretAccessKey"]

    def _listen(self) -> None:
        if self._wanted_port is not None:
            self.port = self._wanted_port
            self._run()
            return
        for attempt in range(3):  # another process may take the port between free_port() and bind
            self.port = free_port()
            try:
                self._run()
                return
            except ServerFailed:
                if attempt == 2 or self._server is None or "already in use" not in self._server.tail(5):
                    raise

    def _run(self) -> None:
        server = ServerProcess("MiniStack", command(), self._environment(), self.data_dir / "ministack.log")
        self._server = server
        server.start()
        server.wait_until(self._answers, START_SECONDS)

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/_ministack/ready")
            return connection.getresponse().status == 200
        except http.client.HTTPException:
            return False
        finally:
            connection.close()

    def _environment(self) -> dict[str, str]:
        # Nothing of ours is inherited but what a program needs: an AWS_* variable would change its root key.
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL") if name in os.environ}
        return kept | {
            "AUTH": "true",
            "BIND_HOST": "127.0.0.1",
            "HOME": str(self.data_dir / "tmp"),
            "GATEWAY_PORT": str(self.port),
            "IOT_MTLS_ENABLED": "0",
            "MINISTACK_REGION": REGION,
            "PERSIST_STATE": "1",
            "S3_DATA_DIR": str(self.data_dir / "s3"),
            "S3_PERSIST": "1",
            "SERVICES": "s3,iam,sts,kms",
            "SFTP_ENABLED": "0",
            "STATE_DIR": str(self.data_dir / "state"),
            "TMPDIR": str(self.data_dir / "tmp"),
        }

    def _take_credentials(self) -> None:
        path = self.data_dir / "credentials.json"
        if path.exists():
            self.access_key, self.secret_key = json.loads(path.read_text())
            return
        self.access_key, self.secret_key = self.create_user(USER)
        self.restart()  # an orderly stop writes the user to disk
        unfinished = path.with_suffix(".new")
        with open(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump([self.access_key, self.secret_key], file)
        unfinished.replace(path)


if __name__ == "__main__":  # python -m servers.ministack FOLDER: prints the endpoint, runs until Enter
    running = MiniStack(Path(sys.argv[1])).start()
    print(running.endpoint_url, running.access_key, running.pid, flush=True)
    sys.stdin.readline()
    running.stop()
