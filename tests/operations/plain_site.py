"""The site of the page before its files go into a bucket, and how "Install" of the page puts them there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from operated_site import PASSWORD, PLAIN, OperatedSite
from web_client import WebClient
from zope_instance import ZopeInstance

KEEPING = "--blobs-stay --keep-in-base on"  # what a site without files leaves out


def database_without_the_add_on(home: Path) -> Path:
    """Make a site in which nobody installed anything, and no file is; its Data.fs."""
    zope = ZopeInstance(home, home / "cache", "", PASSWORD, zope_conf=PLAIN.format(home=home))
    zope.environment["SITES"] = "without"
    zope.make()
    return home / "var" / "Data.fs"


def in_plone_site(site: OperatedSite, name: str = "with") -> WebClient:
    """The Manager of the application root, on the pages of the Plone site."""
    return WebClient(site.port, name, ("admin", PASSWORD))


class PlainSite(OperatedSite):
    """``name``: of the Plone site in ``database``. ``bucket``: not there yet."""

    def __init__(self, home: Path, database: Path, server: Any, bucket: str, name: str = "with") -> None:
        super().__init__(home, database, server, bucket)
        self.name = name
        self.zope.probe = f"/{name}/files"
        self.install = self.follow("Install")
        self.configure(self.install.conf())

    @property
    def editor(self) -> WebClient:
        return WebClient(self.port, self.name, ("editor", PASSWORD))

    @property
    def operator(self) -> WebClient:
        return in_plone_site(self, self.name)

    @property
    def blobs(self) -> list[Path]:
        """The files in the blob directory."""
        return sorted((self.home / "var" / "blobs").rglob("*.blob"))

    def change_the_configuration(self) -> None:
        """Do what "Install" says, up to the check that finds no bucket; the site runs on with what it had."""
        for _ in range(4):
            self.install.run()
        self.read_configuration()

    def read_configuration(self) -> None:
        """The site goes on with what a command has written into zope.conf."""
        self.zope.zope_conf = (self.home / "etc" / "zope.conf").read_text()

    def make_bucket(self, s3: Any) -> None:
        """As the provider does, and what "Install" says then; the site is restarted with the bucket."""
        s3.create_bucket(Bucket=self.bucket)
        self.install.run()
        self.stop()
        self.start()
