"""docs/operations.md, "Credentials leaked"."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from contextlib import closing
from types import SimpleNamespace

import boto3
import pytest
from cluster import behind_zeo
from documents import Example
from fixtures_servers import s3_client
from servers.ministack import ROOT_KEY

OLD_KEY = """\
<client-side-encryption>
  active-key 2026-11
  <key 2026-11>
    file $(BLOB_KEYS)/2026-11
  </key>
</client-side-encryption>"""


@pytest.fixture
def iam(s3_server):
    """The provider's console."""
    if not hasattr(s3_server, "create_user"):
        pytest.skip("this server has no IAM")
    with closing(
        boto3.client(
            "iam",
            endpoint_url=s3_server.endpoint_url,
            region_name=s3_server.region,
            aws_access_key_id=ROOT_KEY,
            aws_secret_access_key=ROOT_KEY,
        )
    ) as client:
        yield client


def test_credentials_leaked(site, s3, s3_server, iam, bucket, tmp_path):
    """Two Zopes, a bucket that keeps versions, and somebody who has the access keys and then the key of the files."""
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    old = s3_server.create_user("plone-site")
    keys = site.home / "etc" / "keys"
    keys.mkdir(parents=True)
    site.variables |= variables("S3", *old) | variables("OLD", *old) | {"BLOB_KEYS": str(keys)}
    follow = site.follow("Credentials leaked")
    typed(site, "s3blobs keys generate --output /srv/plone/etc/keys/2026-11")
    site.add(OLD_KEY)
    with behind_zeo(site, tmp_path / "second") as second:
        site.start()
        second.start()
        site.upload("deleted", "changed", "untouched")
        second.upload("second")
        typed(site, "s3blobs manifest --to /srv/plone/var/monday.ndjson")
        with closing(s3_client(SimpleNamespace(**vars_of(s3_server, old)))) as theirs:
            access_keys(site, second, follow, iam, theirs, bucket)
        key_of_files(site, second, follow, s3, bucket)
        secrets_of_plone(site, second, follow)
    follow.end()


def access_keys(site, second, follow, iam, theirs, bucket):
    named = {row["path"]: row["key"] for row in manifest(site) if "path" in row}
    key_of = {name: named[f"/with/files/{name}"] for name in ("deleted", "changed", "untouched")}
    address = theirs.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": key_of["untouched"]})
    assert status_of(address) == 200

    # Both pairs are good while one process after the other gets the new one.
    made = iam.create_access_key(UserName="plone-site")["AccessKey"]
    new = variables("S3", made["AccessKeyId"], made["SecretAccessKey"])
    site.variables |= new
    follow.run()
    site.stop()
    second.upload("meanwhile")
    site.start()
    site.upload("with-the-new-pair")
    second.assert_files_are_right()
    second.variables |= new
    second.stop()
    second.start()

    # What somebody did with the old one before it was deleted.
    theirs.delete_object(Bucket=bucket, Key=key_of["deleted"])
    theirs.put_object(Bucket=bucket, Key=key_of["changed"], Body=bytes(len(site.files["changed"].data)))
    theirs.put_object(Bucket=bucket, Key="blobs/page.html", Body=b"<script>")
    iam.delete_access_key(UserName="plone-site", AccessKeyId=site.variables["OLD_ACCESS_KEY"])
    assert status_of(address) == 403
    follow.run()
    follow.run()
    for path in (site.home / "cache").glob("*/blobs/*/*"):
        path.unlink()
    follow.run()
    site.assert_files_are_right()
    second.upload("after-the-repair")


def key_of_files(site, second, follow, s3, bucket):
    follow.run()
    both = follow.conf().strip()
    for each in (site, second):
        each.change(OLD_KEY, both)
    follow.run()
    for each in (site, second):
        each.stop()
        each.start()
    new = follow.conf().strip()
    for each, other in ((site, second), (second, site)):  # meanwhile one writes with either
        each.change("active-key 2026-11", new)
        each.stop()
        each.start()
        site.upload(f"site-{each.port}")
        second.upload(f"second-{each.port}")
        other.assert_files_are_right()
    follow.run()
    follow.run()
    # As `gc --versions` does in a week (tests/storage/test_gc_versions.py).
    for found in s3.list_object_versions(Bucket=bucket)["Versions"]:
        if not found["IsLatest"]:
            s3.delete_object(Bucket=bucket, Key=found["Key"], VersionId=found["VersionId"])
    follow.run()
    for each in (site, second):
        each.change("  <key 2026-11>\n    file $(BLOB_KEYS)/2026-11\n  </key>\n", "")
    site.stop()
    site.empty_cache()
    site.start()
    site.assert_files_are_right()


def secrets_of_plone(site, second, follow):
    (site.home / "etc" / "new_secrets.py").write_text(follow.text("python"))
    token = login(site)
    assert knows(site, token) and knows(second, token)
    follow.run()
    assert not knows(site, token) and not knows(second, token)
    assert knows(second, login(site))
    second.upload("after-all")
    site.assert_files_are_right()


def login(site):
    name, password = site.editor.user
    return site.editor.api("POST", "@login", {"login": name, "password": password}, expect=200)["token"]


def knows(site, token):
    """Whether this token is a login."""
    headers = {"Accept": "application/json", "Authorization": f"Bearer {token}"}
    answer = type(site.editor)(site.port, "with").request("GET", "@users/editor", headers=headers)
    return answer.status == 200


def typed(site, command):
    return Example(site.real(command), "…").run(site.home, site.environment())


def manifest(site):
    return map(json.loads, (site.home / "var" / "monday.ndjson").read_text().splitlines())


def variables(of, access_key, secret_key):
    return {f"{of}_ACCESS_KEY": access_key, f"{of}_SECRET_KEY": secret_key}


def vars_of(server, pair):
    return {"endpoint_url": server.endpoint_url, "region": server.region} | dict(
        zip(("access_key", "secret_key"), pair, strict=True)
    )


def status_of(address):
    try:
        with urllib.request.urlopen(address, timeout=30) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
