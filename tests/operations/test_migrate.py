"""docs/operations.md, "Migrate 750 GB": the same commands on 8 MB, while an editor goes on uploading."""

from __future__ import annotations

import pytest
from plain_site import editors_at_work, plain_site, read_configuration

# What takes hours there takes seconds here, by a line that is slower in the same measure.
NAMES = {"--preserve-status 10m": "--preserve-status 6s", "--limit-rate 100MB": "--limit-rate 500KB"}


@pytest.fixture
def site(made_database, s3_server, s3, bucket, tmp_path):
    with plain_site(tmp_path / "plone", made_database, s3_server, s3, bucket) as operated:
        yield operated


def test_migrate(site, s3):
    site.start()
    site.upload(*(f"old-{number}" for number in range(40)), kilobytes=200)
    site.delete("old-0")  # undo may bring it back: it is a kept revision
    site.change_the_configuration()
    site.make_bucket(s3)
    follow = site.follow("Migrate 750 GB", NAMES)
    [plan] = follow.run()
    assert "kept revisions     40\n" in plan and "in the bucket      0 blobs" in plan
    assert "would be uploaded  40 blobs, 7.8 MB" in plan
    with editors_at_work(site, "during"):
        follow.run()  # a share of it, to know the rate
        [copied] = follow.run()
    assert 0 < int(copied.partition("uploaded        ")[2].split()[0]) < 40, "the share was not what it shall be"
    follow.run()
    follow.run()
    read_configuration(site)
    site.change(follow.conf(), "")
    site.stop()
    site.start()
    follow.run()
    with editors_at_work(site, "behind"):
        site.assert_files_are_right()
    follow.run()
    follow.end()
    assert site.blobs == []
    site.stop()
    site.empty_cache()
    with site.running():
        site.assert_files_are_right()
