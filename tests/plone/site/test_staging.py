"""A staging copy of a site: production's bucket is its source, which only gives what somebody asks for.

Staging has a copy of production's Data.fs, and keys that may only read there.
"""

from __future__ import annotations

import json
import secrets
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import payloads
import pytest
from fixtures_servers import s3_client
from web_client import WebClient, json_file
from zope_instance import ZopeInstance

pytestmark = pytest.mark.skipif(
    metadata.version("Products.CMFPlone") < "6.2", reason="sources are the storage's: one release of Plone shows them"
)

SECTION = """\
  <s3blobstorage>
    bucket-name {bucket}
    s3-prefix {owner}
    s3-endpoint-url {server.endpoint_url}
    s3-region {server.region}
    s3-access-key {server.access_key}
    s3-secret-key {server.secret_key}
    owner {owner}
    cache-dir {cache_dir}
    {source}
    <filestorage>
      path {home}/var/Data.fs
    </filestorage>
  </s3blobstorage>"""

SOURCE = """\
    <s3source production>
      bucket-name {bucket}
      s3-prefix production
      s3-endpoint-url {server.endpoint_url}
      s3-region {server.region}
      s3-access-key {access_key}
      s3-secret-key {secret_key}
    </s3source>"""


@dataclass
class Copy:
    """The running copy, what production's editors had put there, and the bucket of both."""

    zope: ZopeInstance
    files: dict[str, payloads.Payload]
    client: Any
    bucket: str

    @property
    def editor(self) -> WebClient:
        return WebClient(self.zope.port, "with", ("editor", self.zope.password))

    @property
    def admin(self) -> WebClient:
        return WebClient(self.zope.port, "", ("admin", self.zope.password))

    def objects(self, prefix: str) -> dict[str, tuple[str, Any]]:
        listed = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=f"{prefix}/")
        return {line["Key"]: (line["ETag"], line["LastModified"]) for page in listed for line in page["Contents"]}

    def download(self, path: str) -> tuple[int, str] | int:
        """Size and SHA-256, or the status of the answer."""
        answer = self.editor.get(f"{path}/@@download/file")
        return payloads.fingerprint(answer.body) if answer.status == 200 else answer.status


def as_json(payload: payloads.Payload) -> dict:
    return json_file(payload.data, payload.filename, payload.content_type)


def _keys(client: Any, bucket: str) -> set[str]:
    return {line["Key"] for line in client.list_objects_v2(Bucket=bucket)["Contents"]}


@pytest.fixture(scope="module")
def copy(s3_server, tmp_path_factory) -> Iterator[Copy]:
    client, bucket, password = s3_client(s3_server), f"copied-{uuid.uuid4().hex[:20]}", secrets.token_urlsafe(12)
    client.create_bucket(Bucket=bucket)
    allowed = [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/production/*"]
    statement = {"Effect": "Allow", "Action": ["s3:GetObject", "s3:ListBucket"], "Resource": allowed}
    access_key, secret_key = s3_server.create_user(
        f"reader-{bucket}", {"Version": "2012-10-17", "Statement": [statement]}
    )
    source = "missing-blob placeholder\n" + SOURCE.format(
        bucket=bucket, server=s3_server, access_key=access_key, secret_key=secret_key
    )
    instances = {}
    for owner, more in (("production", ""), ("staging", source)):
        home, cache_dir = tmp_path_factory.mktemp(owner), tmp_path_factory.mktemp(f"cache-{owner}")
        section = SECTION.format(
            bucket=bucket, owner=owner, server=s3_server, cache_dir=cache_dir, home=home, source=more.strip()
        )
        instances[owner] = ZopeInstance(home, cache_dir, section, password, environment={"SITES": "with"})
    production, staging = instances.values()
    production.make()
    production.start()
    try:
        editor = WebClient(production.port, "with", ("editor", password))
        files = {name: payloads.pdf(f"{name}.pdf") for name in ("kept", "changed", "deleted")}
        for name, payload in files.items():
            editor.add("files", "File", name, file=as_json(payload))
        editor.add("files", "Image", "picture", image=as_json(payloads.png()))
        before = _keys(client, bucket)
        editor.add("files", "File", "lost", file=as_json(payloads.pdf("lost.pdf")))
        editor.add("files", "Image", "lost-picture", image=as_json(payloads.png()))
        for key in _keys(client, bucket) - before:
            client.delete_object(Bucket=bucket, Key=key)
    finally:
        production.stop()
    staging.configure()
    shutil.copy(production.home / "var" / "Data.fs", staging.home / "var" / "Data.fs")
    staging.start()
    try:
        yield Copy(staging, files, client, bucket)
    finally:
        staging.stop()
        client.close()


def test_staging_reads_from_production_and_changes_nothing_there(copy):
    before = copy.objects("production")
    assert len(before) >= 4
    for name, payload in copy.files.items():
        assert copy.download(f"files/{name}") == payload.fingerprint
    scale = copy.editor.get("files/picture/@@images/image/preview")
    assert scale.status == 200 and scale.headers["Content-Type"].startswith("image/")
    assert copy.editor.request("HEAD", "files/kept/@@download/file").status == 200

    replacement = payloads.pdf("replaced.pdf", kilobytes=35)
    copy.editor.api("PATCH", "files/changed", {"file": as_json(replacement)}, expect=204)
    copy.editor.api("DELETE", "files/deleted", expect=204)
    added = payloads.pdf("added.pdf")
    copy.editor.add("files", "File", "added", file=as_json(added))
    packed = copy.admin.request(
        "POST", "Control_Panel/Database/main/manage_pack", b"days%3Afloat=0",
        {"Content-Type": "application/x-www-form-urlencoded"},
    )  # fmt: skip
    assert packed.status in (200, 302), packed.body

    copy.zope.restart_with_empty_cache()
    assert copy.download("files/kept") == copy.files["kept"].fingerprint
    assert copy.download("files/changed") == replacement.fingerprint
    assert copy.download("files/deleted") == 404
    assert copy.download("files/added") == added.fingerprint
    assert copy.editor.get("files/picture/@@images/image/preview").status == 200
    assert copy.objects("production") == before
    assert copy.objects("staging")


def test_what_is_nowhere_is_shown_as_such(copy):
    """``missing-blob placeholder``: a file of the same type, with its own length; a page with it is a page."""
    lost = copy.editor.get("files/lost/@@download/file")
    assert lost.status == 200 and lost.headers["Content-Type"].startswith("application/pdf")
    assert lost.body.startswith(b"%PDF") and b"not in this copy" in lost.body
    assert int(lost.headers["Content-Length"]) == len(lost.body)
    picture = copy.editor.get("files/lost-picture/@@images/image")
    assert picture.status == 200 and picture.body.startswith(b"\x89PNG")
    assert int(picture.headers["Content-Length"]) == len(picture.body)
    ranged = copy.editor.get("files/lost-picture/@@download/image", Range="bytes=700000-700100")
    assert ranged.status == 200 and ranged.body == picture.body and "Content-Range" not in ranged.headers
    head = copy.editor.request("HEAD", "files/lost-picture/@@download/image")
    assert head.status == 200 and int(head.headers["Content-Length"]) == len(picture.body)
    assert copy.editor.get("files/lost-picture/view").status == 200


def test_its_garbage_collection_judges_its_own_objects_only(copy):
    """The pack above has run a round; here is one of the command, beside the running copy."""
    before, own = copy.objects("production"), copy.objects("staging")
    assert any(key.startswith("staging/gc/lease/") for key in own)
    ran = subprocess.run(
        [Path(sys.executable).with_name("s3blobs"), "--config", copy.zope.home / "etc" / "zope.conf", "gc", "--json"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    assert told["judged"] == len([key for key in own if key.startswith("staging/blobs/")]) > 0
    assert (told["owner"], told["foreign"]["blobs"], told["condemned"]["blobs"]) == ("staging", 0, 0)
    assert copy.objects("production") == before
