"""docs/operations.md, "Install": a site with files, and one without."""

from __future__ import annotations

from dataclasses import replace

import pytest
from documents import examples
from plain_site import KEEPING, database_without_the_add_on, plain_site, read_configuration

ADD_ON = "collective.s3blobstorage"


@pytest.fixture(scope="module")
def untouched(tmp_path_factory):
    return database_without_the_add_on(tmp_path_factory.mktemp("untouched"))


@pytest.fixture
def site(untouched, s3_server, s3, bucket, tmp_path):
    with plain_site(tmp_path / "plone", untouched, s3_server, s3, bucket, "without") as operated:
        yield operated


def test_a_site_with_files(site, s3):
    site.start()
    site.upload("old-1", "old-2")
    site.change_the_configuration()
    site.upload("old-3")  # the site runs on with what it had
    site.assert_files_are_right()
    site.make_bucket(s3)
    assert site.operator.get("@@s3blobstorage-controlpanel").status == 404
    site.operator.api("POST", f"@addons/{ADD_ON}/install", expect=204)
    assert site.operator.get("@@s3blobstorage-controlpanel").status == 200
    before = len(site.blobs)
    site.upload("new-1")
    assert len(site.blobs) == before + 1  # stored in both
    site.assert_files_are_right()
    site.install.run()
    site.install.end()
    site.stop()
    site.empty_cache()
    with site.running():
        site.assert_files_are_right()


def test_a_site_without_files(site, s3):
    """The same, without the words that the page says to leave out: then the bucket alone has the files."""
    [version, preview, change] = (site.install.text("console") for _ in range(3))
    for text in (version, preview, change):
        for example in examples(site.real(text)):
            shown = "…" if "--dry-run" in example.command else example.printed
            written = replace(example, command=example.command.replace(KEEPING, ""), printed=shown)
            written.run(site.home, site.environment())
    read_configuration(site)
    assert "source" not in site.zope.zope_conf and "keep-in-base" not in site.zope.zope_conf
    site.install.run()
    site.make_bucket(s3)
    site.upload("new-1")
    assert site.blobs == []
    site.stop()
    site.empty_cache()
    with site.running():
        site.assert_files_are_right()
