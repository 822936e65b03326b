"""Debian's nginx in front of Zope, with the configuration of ``examples/nginx``."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from urllib.parse import urlsplit

from .process import ServerProcess, free_port

PROGRAM = "/usr/sbin/nginx"
EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "nginx" / "x-accel.conf"
START_SECONDS = 20.0

CONF = """\
{user}daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr info;
events {{ worker_connections 256; }}
http {{
    access_log {folder}/access.log;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
        {example}
    }}
}}
"""


def available() -> bool:
    return os.access(PROGRAM, os.X_OK)


class Nginx:
    """One nginx on 127.0.0.1:``port``.

    :param folder: of its files
    :param zope: the port of Zope
    :param store: URL of the S3 server, http
    """

    def __init__(self, folder: Path, zope: int, store: str) -> None:
        self.port = free_port()
        example = EXAMPLE.read_text()
        for documented, here in (
            ("http://127.0.0.1:8080", f"http://127.0.0.1:{zope}"),
            ("https://$s3blobs_store", "http://$s3blobs_store"),
            ("s3.example.org", urlsplit(store).netloc),
        ):
            assert documented in example, documented
            example = example.replace(documented, here)
        conf = folder / "nginx.conf"
        user = "user root;\n" if os.geteuid() == 0 else ""  # else its folders become nobody's, and stay for ever
        conf.write_text(CONF.format(folder=folder, port=self.port, example=example, user=user))
        self._process = ServerProcess(
            "nginx", [PROGRAM, "-c", str(conf), "-p", str(folder)], os.environ, folder / "error.log"
        )

    def start(self) -> Nginx:
        self._process.start()
        self._process.wait_until(self._listens, START_SECONDS)
        return self

    def stop(self) -> None:
        self._process.stop()

    def log(self) -> str:
        return self._process.tail(100)

    def _listens(self) -> bool:
        socket.create_connection(("127.0.0.1", self.port), timeout=5).close()
        return True
