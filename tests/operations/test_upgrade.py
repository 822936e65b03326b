"""docs/operations.md, "Upgrade a running cluster"."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace

import pytest
from cluster import behind_zeo
from documents import matches
from older_release import REPOSITORY, commit_of_profile_1000, installed
from operated_site import OperatedSite
from servers.process import ServerFailed

ADDON = "@addons/collective.s3blobstorage"


@pytest.fixture
def older(tmp_path):
    """Where the older release is."""
    commit = commit_of_profile_1000()
    if commit is None:
        pytest.skip("this checkout has no history, or no git: an older release is built from one")
    return str(installed(commit, tmp_path / "older"))


def test_a_cluster_is_upgraded(older, s3, s3_server, bucket, tmp_path):
    site = OperatedSite(tmp_path / "plone", None, s3_server, bucket)
    site.variables |= {"PYTHONPATH": older, "SITES": "with"}
    site.zope.make()
    assert site.database.exists()
    with behind_zeo(site, tmp_path / "second") as second:
        follow = site.follow("Upgrade a running cluster")
        site.start()
        second.start()
        site.upload("one-of-the-older")
        second.upload("two-of-the-older", kilobytes=9000)
        assert upgrade_of(site) == ("1000", "1000", False)

        site.stop()
        del site.variables["PYTHONPATH"]
        follow.run()
        site.start()
        # Each reads the other's from the bucket, then from the cache that the other one has filled.
        for each, name in ((site, "newer"), (second, "older")):
            each.upload(f"{name}-beside-the-other")
            each.upload(f"{name}-large", kilobytes=9000)
        for first, other in ((site, second), (second, site)):
            forget(site)
            first.assert_files_are_right()
            other.assert_files_are_right()

        second.stop()
        del second.variables["PYTHONPATH"]
        second.start()
        follow.run()
        # What the page of add-ons offers, and does.
        assert upgrade_of(site) == ("1000", "1003", True)
        in_site(site).api("POST", f"{ADDON}/upgrade", expect=204)
        assert upgrade_of(site) == ("1003", "1003", False)
        site.upload("after-the-upgrade")
        second.assert_files_are_right()

        # Back
        second.stop()
        second.variables["PYTHONPATH"] = older
        second.start()
        second.upload("back")
        forget(site)
        second.assert_files_are_right()
        site.assert_files_are_right()
        second.stop()

        # Of a later release, which there is not yet.
        marker = s3.get_object(Bucket=bucket, Key=".s3blobs.json")["Body"].read()
        s3.put_object(Bucket=bucket, Key=".s3blobs.json", Body=json.dumps({**json.loads(marker), "format": 2}))
        assert_refused(second, follow)
        s3.put_object(Bucket=bucket, Key=".s3blobs.json", Body=marker)
        (path,) = (site.home / "cache").glob("*/cache.json")
        path.chmod(0o600)
        path.write_text(json.dumps({**json.loads(path.read_text()), "format": 2}))
        assert_refused(second, follow)
        follow.end()


def test_all_formats_are_1():
    """As the page says. Whoever makes a second one has to say there in which order processes are upgraded."""
    source = REPOSITORY / "src" / "collective" / "s3blobstorage"
    found = [
        value
        for path in source.rglob("*.py")
        for value in re.findall(r"^_?FORMAT = (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert len(found) > 15 and set(found) <= {"1", '"1"', r'b"\x01"'}, found


def assert_refused(site, follow):
    """It does not start, and the last line of its log has the sentence of the page."""
    with pytest.raises(ServerFailed) as failed:
        site.start()
    assert matches("…: " + site.real(follow.text("text")), str(failed.value).splitlines()[-1])


def in_site(site):
    return replace(site.admin, site="with")


def upgrade_of(site):
    """Which version of the profile the site has, which the code has, and whether the first is to be brought there."""
    told = in_site(site).api("GET", ADDON, expect=200)["upgrade_info"]
    return told["installedVersion"], told["newVersion"], told["available"]


def forget(site):
    """Delete every file of the cache, while both processes run."""
    for path in (site.home / "cache").glob("*/blobs/*/*"):
        os.unlink(path)
