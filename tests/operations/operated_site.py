"""A Plone site whose operator does what ``docs/operations.md`` says, word by word."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import payloads
from command_line import SCRIPT, environment
from documents import DOCS, Block, blocks, examples, section
from servers.process import free_port
from web_client import WebClient, json_file
from zope_instance import ZopeInstance

PAGE = (DOCS / "operations.md").read_text(encoding="utf-8")
PASSWORD = secrets.token_urlsafe(12)  # of all sites: they are copies of one

PLAIN = """\
instancehome {home}

<zodb_db main>
  mount-point /
  <filestorage>
    path {home}/var/Data.fs
    blob-dir {home}/var/blobs
  </filestorage>
</zodb_db>
"""


def plain_database(home: Path) -> Path:
    """Make a site without this package's section; its Data.fs."""
    zope = ZopeInstance(home, home / "cache", "", PASSWORD, zope_conf=PLAIN.format(home=home))
    zope.environment["SITES"] = "with"
    zope.make()
    assert not [path for path in (home / "var" / "blobs").rglob("*.blob")]
    return home / "var" / "Data.fs"


class OperatedSite:
    """The site of the page: its folder is ``/srv/plone`` there, its bucket ``plone-blobs``.

    ``names``: what stands in the page, and what it is here; a test adds its own. ``variables``: what the operator has
    in the environment, of Zope and of commands. ``files``: what editors put into it and did not take out.
    """

    def __init__(self, home: Path, database: Path | None, server: Any, bucket: str) -> None:
        self.home = home
        self.server = server
        self.bucket = bucket
        self.files: dict[str, payloads.Payload] = {}
        self.port = free_port()
        self.names = {
            "http://localhost:8080": f"http://localhost:{self.port}",
            "https://s3.example.org": server.endpoint_url,
            "/srv/plone": str(home),
            "plone-blobs": bucket,
        }
        self.variables = {"S3_ACCESS_KEY": server.access_key, "S3_SECRET_KEY": server.secret_key}
        (home / "cache").mkdir(parents=True)
        self.zope = ZopeInstance(home, home / "cache", "", PASSWORD, port=self.port, environment=self.variables)
        self.configure(blocks(section(PAGE, "The site of this page"))[0].text)
        if database is not None:
            shutil.copy(database, self.database)

    @property
    def database(self) -> Path:
        return self.home / "var" / "Data.fs"

    @property
    def editor(self) -> WebClient:
        return WebClient(self.port, "with", ("editor", PASSWORD))

    @property
    def admin(self) -> WebClient:
        """The Manager of the application root."""
        return WebClient(self.port, "", ("admin", PASSWORD))

    # what is configured

    def real(self, text: str) -> str:
        """A text of the page, with what its names are here; a longer one before one that is part of it."""
        for name in sorted(self.names, key=len, reverse=True):
            text = text.replace(name, self.names[name])
        return text

    def configure(self, text: str) -> None:
        """Make that the whole of zope.conf; it counts from the next start on."""
        self.zope.zope_conf = self.real(text)
        self.zope.configure()

    def add(self, lines: str) -> None:
        """Put them into ``<s3blobstorage>``, before the storage inside of it."""
        self.change("<filestorage>", f"{lines.strip()}\n    <filestorage>")

    def change(self, old: str, new: str) -> None:
        """Put ``new`` in the place of ``old``, which must be in zope.conf, once."""
        assert self.zope.zope_conf is not None
        assert self.zope.zope_conf.count(self.real(old)) == 1, self.zope.zope_conf
        self.zope.zope_conf = self.zope.zope_conf.replace(self.real(old), self.real(new))
        self.zope.configure()

    def remove(self, lines: str) -> None:
        """Take out of ``<s3blobstorage>`` what ``add`` put there."""
        self.change(f"{lines.strip()}\n    <filestorage>", "<filestorage>")

    # what is done

    def start(self) -> None:
        self.zope.start()

    def stop(self) -> None:
        self.zope.stop()

    @contextmanager
    def running(self) -> Iterator[None]:
        self.start()
        try:
            yield
        finally:
            self.stop()

    def environment(self) -> dict[str, str]:
        """Of a command that the operator types."""
        conf, temporary = str(self.home / "etc" / "zope.conf"), str(self.zope.temporary)
        env = environment(S3BLOBS_CONFIG=conf, TMPDIR=temporary, LANG="C.UTF-8", **self.variables)
        return {**env, "PATH": f"{SCRIPT.parent}{os.pathsep}{env['PATH']}"}

    def follow(self, title: str, names: Mapping[str, str] | None = None) -> Following:
        """Begin that section of the page. ``names``: those that only this section has."""
        self.names |= names or {}
        return Following(self, blocks(section(PAGE, title)))

    def pack(self) -> None:
        """All of the database's history goes, by the Management Interface; the site runs."""
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        answer = self.admin.request("POST", "Control_Panel/Database/main/manage_pack", b"days%3Afloat=0", form)
        assert answer.status in (200, 302), answer.body

    # what editors do, and see

    def upload(self, *names: str, kilobytes: int = 60) -> None:
        """Put files of these names into the folder, by REST; the site runs."""
        for name in names:
            payload = payloads.pdf(f"{name}.pdf", kilobytes)
            file = json_file(payload.data, payload.filename, payload.content_type)
            self.editor.add("files", "File", name, file=file)
            self.files[name] = payload

    def delete(self, name: str) -> None:
        self.editor.api("DELETE", f"files/{name}", expect=204)
        del self.files[name]

    def replace(self, name: str, payload: payloads.Payload) -> None:
        """Upload another file into the item of that name."""
        file = json_file(payload.data, payload.filename, payload.content_type)
        self.editor.api("PATCH", f"files/{name}", {"file": file}, expect=204)
        self.files[name] = payload

    def status_of(self, name: str) -> int:
        """Of the answer to somebody who downloads it."""
        return self.editor.get(f"files/{name}/@@download/file").status

    def assert_files_are_right(self) -> None:
        """Download each and compare all of its bytes; the site runs."""
        assert self.files
        for name, payload in self.files.items():
            answer = self.editor.get(f"files/{name}/@@download/file")
            assert answer.status == 200, (name, answer.status)
            assert payloads.fingerprint(answer.body) == payload.fingerprint, name

    def cached(self, payload: payloads.Payload) -> Path:
        """The cache's file with these bytes."""
        (found,) = (path for path in self.home.glob("cache/*/blobs/*/*.blob") if path.read_bytes() == payload.data)
        return found

    def empty_cache(self) -> None:
        """What is read afterwards can only come from the bucket, or from a source. The site is stopped."""
        shutil.rmtree(self.home / "cache")
        (self.home / "cache").mkdir()


class Following:
    """Takes the blocks of a section one by one: none is passed over, and at the end none may be left."""

    def __init__(self, site: OperatedSite, found: list[Block]) -> None:
        self._site = site
        self._left = found

    def run(self) -> list[str]:
        """The next one, of commands: run each, and hold it to what the page says it prints; what they printed."""
        text = self._site.real(self.text("console"))
        return [example.run(self._site.home, self._site.environment()) for example in examples(text)]

    def conf(self) -> str:
        """The next one, of zope.conf, as it stands in the page."""
        return self.text("zconfig")

    def text(self, language: str) -> str:
        assert self._left, f"the page has no more blocks, {language} was expected"
        assert self._left[0].language == language, f"{language} was expected: {self._left[0]}"
        return self._left.pop(0).text

    def end(self) -> None:
        """Raises AssertionError where the page says more than was done."""
        assert not self._left, self._left
