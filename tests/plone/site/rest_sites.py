"""A Zope with three databases: ``main`` with the sites one, two and restricted, ``second``, whose section has
site-operations on, and ``plain``, which is a FileStorage and no more."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Any

from web_client import Answer, WebClient
from zope_instance import MAKE_SECONDS, ZopeInstance

MAKE = Path(__file__).with_name("make_rest_sites.py")
ROLES = ("Member", "Editor", "Site Administrator", "Manager")
SITES = {"one": "main", "two": "main", "restricted": "main", "second/site": "second", "plain/site": "plain"}

SECTION = """\
<zodb_db {name}>
  mount-point {mount}
  <s3blobstorage>
    bucket-name {bucket}
    s3-prefix {name}
    s3-endpoint-url {server.endpoint_url}
    s3-region {server.region}
    s3-access-key {server.access_key}
    s3-secret-key {server.secret_key}
    s3-addressing-style path
    create-bucket on
    owner {name}.example.org
    site-operations {operations}
    metrics-token-file {home}/{name}.token
    delivery-modes stream redirect
    presign-max-expiry 10m
    cache-dir {home}/cache
    <filestorage>
      path {home}/var/{name}.fs
    </filestorage>
  </s3blobstorage>
</zodb_db>
"""
PLAIN = """\
<zodb_db plain>
  mount-point /plain
  <filestorage>
    path {home}/var/plain.fs
    blob-dir {home}/var/blobs
  </filestorage>
</zodb_db>
"""


class RestSites:
    """The instance; ``as_user(site, role)`` is a client, of ``root`` for the application root's Manager."""

    def __init__(self, home: Path, server: Any, bucket: str) -> None:
        self.bucket = bucket
        values = {"bucket": bucket, "server": server, "home": home}
        conf = "\n".join(
            [
                "%import collective.s3blobstorage",
                f"instancehome {home}",
                SECTION.format(name="main", mount="/", operations="off", **values),
                SECTION.format(name="second", mount="/second", operations="on", **values),
                PLAIN.format(home=home),
            ]
        )
        self.instance = ZopeInstance(
            home, home / "cache", "", password=secrets.token_urlsafe(12), probe="/@@s3blobstorage-ready",
            zope_conf=conf,
        )  # fmt: skip

    def write_tokens(self) -> None:
        """Tokens for the metrics that nobody knows."""
        for name in ("main", "second"):
            file = self.instance.home / f"{name}.token"
            file.unlink(missing_ok=True)
            file.touch(mode=0o600)
            file.write_text(secrets.token_hex(16))

    def start(self) -> RestSites:
        self.instance.configure()
        self.write_tokens()
        run = subprocess.run(
            [sys.executable, "-m", "Zope2.utilities.zconsole", "run", self.instance.home / "etc" / "zope.conf",
             MAKE, self.instance.password],
            env=self.instance._environment(), capture_output=True, text=True, timeout=MAKE_SECONDS,
        )  # fmt: skip
        assert run.returncode == 0, run.stdout + run.stderr
        self.instance.start()
        return self

    def stop(self) -> None:
        self.instance.stop()

    def as_user(self, site: str, role: str | None) -> WebClient:
        user = None if role is None else (role, self.instance.password)
        return WebClient(self.instance.port, site, user)

    def ask(
        self, site: str, role: str | None, method: str, path: str, body: Any = None, **headers: str | None
    ) -> Answer:
        """A call of plone.restapi as a program makes it. A header that is None is left out, bytes are sent as is."""
        sent = {"Accept": "application/json", "Content-Type": "application/json"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        present = {name: value for name, value in sent.items() if value is not None}
        return self.as_user(site, role).request(method, path, data, present)


# What a page of another origin can have a browser send, or what tells that it did.
FOREIGN = [
    {"Content_Type": "text/plain"},
    {"Content_Type": "application/x-www-form-urlencoded"},
    {"Content_Type": "multipart/form-data; boundary=x"},
    {"Content_Type": None},
    {"Origin": "https://evil.example.com"},
    {"Origin": "null"},
    {"Sec_Fetch_Site": "cross-site"},
    {"Sec_Fetch_Site": "same-site"},
]
