"""A site with direct upload whose store browsers reach through a proxy that can fail, and files to send there."""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import secrets
import uuid
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from command_line import s3blobs
from fixtures_servers import s3_client
from front import Front
from servers.proxy import Proxy
from web_client import WebClient
from zope_instance import SECTION, ZopeInstance

from collective.s3blobstorage.directupload.interfaces import Swept
from collective.s3blobstorage.directupload.sweeping import LATE, sweep
from collective.s3blobstorage.objectstore import open_store
from collective.s3blobstorage.settings import StoreSettings

PREFIX = "collective.s3blobstorage."
# Records of the site that tests change, as they are in the site otherwise.
RECORDS = {
    f"{PREFIX}upload_enabled": True,
    f"{PREFIX}upload_maximum_size": 0,
    f"{PREFIX}upload_mime_types": [],
    f"{PREFIX}upload_portal_types": [],
    "plone.available_languages": ["en"],
    "plone.default_language": "en",
}
MB = 1024 * 1024


@dataclass(frozen=True)
class Chosen:
    """A file as an editor has it on the own disk."""

    path: Path
    size: int
    sha256: str


def file_of(path: Path, size: int, start: bytes = b"") -> Chosen:
    """Made there: ``start`` and random bytes behind it, ``size`` in all, a megabyte at a time."""
    digest, left = hashlib.sha256(), size
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        while left:
            piece = (start + os.urandom(min(MB, left)))[:left]
            start = b""
            digest.update(piece)
            file.write(piece)
            left -= len(piece)
    return Chosen(path, size, digest.hexdigest())


class EditorSite:
    """One Zope with the site ``with``; browsers see it at ``front.origin``, and the store at ``proxy.endpoint_url``.

    ``editor`` may add and edit in ``files``, ``manager`` is the Manager; both ask Zope itself.
    """

    def __init__(self, home: Path, cache: Path, server: Any) -> None:
        self.bucket = f"editor-{uuid.uuid4().hex[:20]}"
        self.proxy = Proxy(server.endpoint_url)
        self._server = server
        self.store = s3_client(server)  # past the package and the proxy
        section = SECTION.format(bucket=self.bucket, server=server, cache_dir=cache, home=home)
        section = section.replace("owner tests", f"owner tests\n    s3-public-endpoint-url {self.proxy.endpoint_url}")
        password = secrets.token_urlsafe(12)
        self.zope = ZopeInstance(home, cache, section, password=password, environment={"SITES": "with"})

    def __enter__(self) -> EditorSite:
        self.proxy.start()
        self.zope.make()
        self.zope.start()
        self.front = Front(self.zope.port)
        self.front.__enter__()
        self.let_pages_send(self.front.origin)
        self.set_records({})
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.front.__exit__()
        self.zope.stop()
        self.proxy.close()
        self.store.close()

    def let_pages_send(self, origin: str) -> None:
        """As an administrator does: the command writes the bucket's rule."""
        done = s3blobs("--config", self.zope.home / "etc" / "zope.conf", "cors", "--origin", origin, "--yes")
        assert done.returncode == 0, done.stderr

    def set_records(self, values: dict[str, Any]) -> None:
        """These records of the registry, and the others of ``RECORDS`` as they are in the site otherwise."""
        self.manager.api("PATCH", "@registry", RECORDS | values, expect=204)

    def speak(self, language: str) -> None:
        """The site is in that language."""
        self.set_records({"plone.available_languages": [language], "plone.default_language": language})

    def as_it_was(self) -> None:
        """No faults, no policy, nothing counted, its records as they were."""
        self.proxy.up()
        self.proxy.forgive()
        self.proxy.reset()
        self.front.reset()
        self.front.policy = ""
        self.set_records({})

    def new_folder(self) -> str:
        """An empty folder in which the editor may add; its path in the site."""
        return self.editor.add("files", "Folder", f"folder-{secrets.token_hex(4)}")

    def staged(self) -> tuple[list[str], int]:
        """Keys of objects that wait below ``uploads/``, and the number of multipart uploads that are not completed."""
        listing = self.store.list_objects_v2(Bucket=self.bucket, Prefix="plone/site/uploads/")
        unfinished = self.store.list_multipart_uploads(Bucket=self.bucket)
        return [entry["Key"] for entry in listing.get("Contents", ())], len(unfinished.get("Uploads", ()))

    def sweep(self) -> Swept:
        """As it happens to what waits there, when it has expired and an hour has passed."""
        settings = StoreSettings(
            self.bucket, "plone/site", self._server.endpoint_url, region=self._server.region, addressing_style="path",
            access_key=self._server.access_key, secret_key=self._server.secret_key,
        )  # fmt: skip
        with closing(open_store(settings)) as store:
            return sweep(store, -LATE - 60.0)

    @property
    def editor(self) -> WebClient:
        return WebClient(self.zope.port, "with", ("editor", self.zope.password))

    @property
    def manager(self) -> WebClient:
        return WebClient(self.zope.port, "with", ("admin", self.zope.password))

    def token(self) -> str:
        """The editor's login as Volto has it."""
        login = {"login": "editor", "password": self.zope.password}
        return self.editor.api("POST", "@login", login, expect=200)["token"]

    def sent_to_store(self) -> int:
        """Bytes of bodies that browsers sent to the store, those of requests that broke off too."""
        return sum(exchange.bytes_up for exchange in self.proxy.exchanges if exchange.method in ("PUT", "POST"))

    def parts_that_came(self) -> list[int]:
        """Numbers of the parts that the store took, in the order in which they were begun; twice what it took twice."""
        return [
            int(re.search(r"partNumber=(\d+)", exchange.line)[1])
            for exchange in self.proxy.exchanges
            if exchange.operation == "UploadPart" and exchange.status == 200
        ]

    def found(self, path: str, field: str = "file") -> tuple[int, str]:
        """Size and SHA-256 of what a download has, read piece by piece. ``path``: of content, in the site."""
        connection = http.client.HTTPConnection("127.0.0.1", self.zope.port, timeout=300)
        try:
            connection.request("GET", f"/with/{path}/@@download/{field}", headers=self._login())
            answer = connection.getresponse()
            assert answer.status == 200, (answer.status, path)
            digest, size = hashlib.sha256(), 0
            while piece := answer.read(MB):
                digest.update(piece)
                size += len(piece)
            return size, digest.hexdigest()
        finally:
            connection.close()

    def holds(self, path: str, file: Chosen, field: str = "file") -> None:
        """Fails unless a download has the file, byte for byte."""
        assert self.found(path, field) == (file.size, file.sha256)

    def custom_type(self) -> str:
        """The id of a type that somebody made in Site Setup, with the fields ``recording`` and ``poster``."""
        if self.manager.request("GET", "@types/film", headers={"Accept": "application/json"}).status != 200:
            self.manager.api("POST", "@controlpanels/dexterity-types", {"title": "Film"}, expect=201)
            for factory, title in (("File Upload", "Recording"), ("Image", "Poster")):
                self.manager.api("POST", "@types/film", {"factory": factory, "title": title}, expect=201)
        return "film"

    def _login(self) -> dict[str, str]:
        return {"Host": f"localhost:{self.zope.port}", "Authorization": f"Bearer {self.token()}"}
