"""The site of the page before its files go into a bucket, and how "Install" of the page puts them there."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import payloads
from operated_site import PASSWORD, PLAIN, Following, OperatedSite
from web_client import WebClient, json_file
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
        read_configuration(self)

    def make_bucket(self, s3: Any) -> None:
        """As the provider does, and what "Install" says then; the site is restarted with the bucket."""
        s3.create_bucket(Bucket=self.bucket)
        self.install.run()
        self.stop()
        self.start()


@contextmanager
def plain_site(
    home: Path, database: Path, server: Any, s3: Any, bucket: str, name: str = "with"
) -> Iterator[PlainSite]:
    """One whose bucket, which the fixture made, is not there yet."""
    s3.delete_bucket(Bucket=bucket)
    site = PlainSite(home, database, server, bucket, name)
    try:
        yield site
    finally:
        site.stop()
        if bucket not in {each["Name"] for each in s3.list_buckets()["Buckets"]}:
            s3.create_bucket(Bucket=bucket)  # which the fixture deletes


@contextmanager
def editors_at_work(site: OperatedSite, prefix: str) -> Iterator[None]:
    """Upload a file, and read it, again and again until the block ends. What fails there fails the test."""
    stop = threading.Event()
    failures: list[BaseException] = []
    uploaded: dict[str, payloads.Payload] = {}  # the test may read ``files`` meanwhile

    def work() -> None:
        try:
            while not stop.is_set() or not uploaded:
                name = f"{prefix}-{len(uploaded)}"
                payload = payloads.pdf(f"{name}.pdf")
                file = json_file(payload.data, payload.filename, payload.content_type)
                site.editor.add("files", "File", name, file=file)
                assert site.status_of(name) == 200
                uploaded[name] = payload
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=work, name="editors")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    assert not failures, failures
    site.files |= uploaded


def put_into_place(site: OperatedSite, follow: Following) -> None:
    """A block of commands that copies configurations, with the site stopped; it counts from the next start on."""
    site.stop()
    follow.run()
    read_configuration(site)


def read_configuration(site: OperatedSite) -> None:
    """The site goes on with what a command has written into zope.conf."""
    site.zope.zope_conf = (site.home / "etc" / "zope.conf").read_text()


def empty_bucket(s3: Any, bucket: str) -> None:
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for found in page.get("Contents", ()):
            s3.delete_object(Bucket=bucket, Key=found["Key"])
