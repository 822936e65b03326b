"""docs/operations.md, "Roll back": with keep-in-base on, and when the blob directory has nothing any more."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from documents import Example
from plain_site import editors_at_work, empty_bucket, in_plone_site, plain_site, put_into_place, read_configuration

# Of a Python in which this package cannot be found, as if it were not installed.
HIDDEN = """\
import importlib.metadata
import sys
NAME = "collective.s3blobstorage"
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name == NAME:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Hidden())
found = importlib.metadata.distributions
importlib.metadata.distributions = lambda: [one for one in found() if one.metadata["Name"] != NAME]
"""


@contextmanager
def without_the_package(site) -> Iterator[None]:
    """Plone as anybody has it, running on the site's database."""
    folder = site.home / "hidden"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(HIDDEN)
    site.variables["PYTHONPATH"] = str(folder)
    site.start()
    del site.variables["PYTHONPATH"]  # commands have the package
    try:
        yield
    finally:
        site.stop()


@pytest.fixture
def site(made_database, s3_server, s3, bucket, tmp_path):
    with plain_site(tmp_path / "plone", made_database, s3_server, s3, bucket) as operated:
        yield operated


def test_there_and_back_twice(site, s3, bucket):
    site.start()
    site.upload("old-1", "old-2")
    site.change_the_configuration()
    site.make_bucket(s3)
    site.upload("both-1", "both-2")
    follow = site.follow("Roll back")

    follow.run()
    put_into_place(site, follow)
    empty_bucket(s3, bucket)
    site.empty_cache()
    with site.running():
        site.assert_files_are_right()
        site.upload("plain-1")

    shutil.copy(site.home / "etc" / "zope.conf.s3", site.home / "etc" / "zope.conf")
    read_configuration(site)
    migrate = Example(f"s3blobs migrate --from {site.home}/var/blobs", "… 5 blobs, …")
    migrate.run(site.home, site.environment())
    site.change("keep-in-base on", "keep-in-base off")
    site.change("      blob-dir /srv/plone/var/blobs\n", "")
    site.change("    <blobdirsource>\n      path /srv/plone/var/blobs\n    </blobdirsource>\n", "")
    shutil.rmtree(site.home / "var" / "blobs")  # it was purged
    site.start()
    with editors_at_work(site, "bucket"):
        site.assert_files_are_right()
        follow.run()
    site.upload("last")
    in_plone_site(site).api("POST", "@addons/collective.s3blobstorage/uninstall", expect=204)
    put_into_place(site, follow)
    site.empty_cache()
    with without_the_package(site):
        site.assert_files_are_right()
        follow.run()
        follow.end()
        empty_bucket(s3, bucket)
        site.upload("plain-2")
        site.assert_files_are_right()
