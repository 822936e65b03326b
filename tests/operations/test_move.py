"""docs/operations.md, "Move to another provider": a second S3 server, whose user the first one does not know."""

from __future__ import annotations

import base64
import secrets

import pytest
from fixtures_servers import s3_client
from plain_site import editors_at_work, empty_bucket, put_into_place
from servers.ministack import MiniStack

SEALED = """\
<client-side-encryption>
  <key {id}>
    value $({variable})
  </key>
</client-side-encryption>
"""


@pytest.fixture(scope="module")
def other_provider(tmp_path_factory):
    server = MiniStack(tmp_path_factory.mktemp("other")).start()
    yield server
    server.stop()


def key_of(site, variable):
    site.variables[variable] = base64.b64encode(secrets.token_bytes(32)).decode()
    return SEALED.format(id=variable.lower().replace("_", "-"), variable=variable)


def reader(server, bucket):
    """Credentials that may read that bucket, and nothing else."""
    arns = [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"]
    allowed = {"Effect": "Allow", "Action": ["s3:GetObject", "s3:ListBucket"], "Resource": arns}
    return server.create_user(f"reader-{bucket}", {"Version": "2012-10-17", "Statement": [allowed]})


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])
def test_move(site, s3, s3_server, bucket, other_provider, encrypted):
    there = s3_client(other_provider)
    there.create_bucket(Bucket=f"new-{bucket}")
    old_key, new_key = (key_of(site, "OLD_KEY"), key_of(site, "NEW_KEY")) if encrypted else ("", "")
    if encrypted:
        site.add(old_key)
    site.start()
    site.upload(*(f"old-{number}" for number in range(12)))
    follow = site.follow(
        "Move to another provider",
        {"https://s3.example.com": other_provider.endpoint_url, "new-blobs": f"new-{bucket}"},
    )
    site.variables |= {"NEW_S3_ACCESS_KEY": other_provider.access_key, "NEW_S3_SECRET_KEY": other_provider.secret_key}
    conf = site.real(follow.conf())
    conf = conf.replace("    <s3source old>", f"{new_key}    <s3source old>").replace(
        "</s3source>", f"{old_key}</s3source>"
    )
    (site.home / "etc" / "zope-new.conf").write_text(conf)
    follow.run()
    site.variables |= dict(zip(("S3_ACCESS_KEY", "S3_SECRET_KEY"), reader(s3_server, bucket), strict=True))
    put_into_place(site, follow)
    site.empty_cache()
    site.start()
    kept = old_objects(s3, bucket)
    with editors_at_work(site, "during"):
        follow.run()
        follow.run()
    site.assert_files_are_right()
    assert old_objects(s3, bucket) == kept
    site.change(follow.conf().replace("</s3source>", f"{old_key}</s3source>"), "")
    site.stop()
    empty_bucket(s3, bucket)
    site.empty_cache()
    site.start()
    with editors_at_work(site, "behind"):
        site.assert_files_are_right()
    follow.run()
    follow.end()
    there.close()


def old_objects(s3, bucket):
    return {found["Key"]: found["ETag"] for found in s3.list_objects_v2(Bucket=bucket)["Contents"]}
