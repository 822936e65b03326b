"""A Plone site whose files only its own processes can read: in the bucket, in the cache, on the way to a browser."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
from fixtures_servers import s3_client
from rings import client_side, section_of, variables_of
from servers.process import ServerFailed
from test_delivery import FILES, VIEW, Sites
from web_client import json_file
from zope_instance import ZopeInstance

pytestmark = pytest.mark.one_release

SECTION = """\
  <s3blobstorage>
    bucket-name {bucket}
    s3-prefix plone
    s3-endpoint-url {server.endpoint_url}
    s3-region {server.region}
    s3-access-key {server.access_key}
    s3-secret-key {server.secret_key}
    s3-addressing-style path
    create-bucket on
    cache-dir {home}/cache
    cache-encrypt on
    x-accel-location /s3blobs
    public-url-base https://files.example.org
    cdn-url-base https://cdn.example.org
    {encryption}
    <filestorage>
      path {home}/var/Data.fs
    </filestorage>
  </s3blobstorage>"""
KEYS = client_side(active="new", old=secrets.token_bytes(32), new=secrets.token_bytes(32))
VIDEO, PICTURE, SMALL = FILES["video"], FILES["jpeg"], FILES["text"]


@pytest.fixture(scope="module")
def bucket():
    return f"encrypted-{uuid.uuid4().hex[:20]}"


@pytest.fixture(scope="module")
def instance(s3_server, bucket, tmp_path_factory) -> Iterator[ZopeInstance]:
    home = tmp_path_factory.mktemp("encrypted")
    section = SECTION.format(bucket=bucket, server=s3_server, home=home, encryption=section_of(KEYS))
    environment = {"PYTHONPATH": str(Path(__file__).parent), "NOTES": str(home / "notes"), **variables_of(KEYS)}
    zope = ZopeInstance(
        home,
        home / "cache",
        section,
        password=secrets.token_urlsafe(12),
        environment=environment,
        zcml=VIEW,
        filter="delivery_inside:noting",
    )
    zope.make()
    zope.start()
    yield zope
    zope.stop()


@pytest.fixture(scope="module")
def site(instance) -> Sites:
    site = Sites(instance, instance.port)
    admin = site.client("with", "admin")
    made = admin.get(f"@@make-ready?{urlencode({'password': instance.password})}")
    assert (made.status, made.body) == (200, b"made"), made.body[-2000:]
    for name, payload in (("video", VIDEO), ("text", SMALL)):
        admin.add("public", "File", name, file=json_file(payload.data, payload.filename, payload.content_type))
    sent = json_file(PICTURE.data, PICTURE.filename, PICTURE.content_type)
    admin.add("public", "Image", "picture", image=sent)
    return site


@pytest.mark.parametrize("mode", ["stream", "proxy", "redirect", "x-accel"])
def test_every_way_to_a_browser_goes_through_zope(site, mode):
    """No address of the store, of a CDN or of nginx's, which would lead to encrypted bytes."""
    site.set(mode=mode)
    visitor = site.client("with")
    for name, payload in (("video", VIDEO), ("text", SMALL)):
        whole = visitor.get(f"public/{name}/@@download/file")
        assert (whole.status, whole.body) == (200, payload.data)
        assert "x-accel-redirect" not in {header.lower() for header in whole.headers}
    ranged = visitor.get("public/video/@@download/file", Range="bytes=70000-149999")
    assert (ranged.status, ranged.body) == (206, VIDEO.data[70_000:150_000])
    scale = visitor.get("public/picture/@@images/image/preview")
    assert scale.status == 200 and scale.body[:3] in (b"\xff\xd8\xff", b"\x89PN")
    for policy in ("auto", "presigned"):
        told = visitor.api("GET", f"public/video/@blob-url/file?policy={policy}", expect=200)
        assert "/@@download/" in told["url"] and "localhost" in told["url"]
        assert told["mode"] == ("stream" if mode == "stream" and policy == "auto" else "proxy")
    visitor.api("GET", "public/video/@blob-url/file?policy=public", expect=409)


def test_nothing_lies_in_clear(site, instance, bucket, s3_server):
    """Neither the bytes nor their types or hashes; in the bucket and on the disk of the process, which in ``stream``
    mode would have files in clear while somebody may use their paths."""
    instance.restart_with_empty_cache()
    site.set(mode="proxy")
    assert site.client("with").get("public/video/@@download/file").body == VIDEO.data
    client = s3_client(s3_server)
    keys = [line["Key"] for line in client.list_objects_v2(Bucket=bucket)["Contents"]]
    blobs = [key for key in keys if "/blobs/" in key]
    assert len(blobs) >= 3
    pieces = [payload.data[at : at + 32] for payload in (VIDEO, PICTURE, SMALL) for at in (0, len(payload.data) // 2)]
    for key in keys:
        found = client.get_object(Bucket=bucket, Key=key)
        data, metadata = found["Body"].read(), str(found["Metadata"])
        assert not any(piece in data for piece in pieces), key
        if key in blobs:
            assert set(found["Metadata"]) <= {"oid", "tid", "size", "sha256", "sealed", "sealed-sha256"}, metadata
            assert found["ContentType"] == "application/octet-stream"
    client.close()
    files = [path for path in (instance.home / "cache").rglob("*") if path.is_file()]
    assert any(path.suffix == ".blob" for path in files)
    for path in files:
        data = path.read_bytes()
        assert not any(piece in data for piece in pieces), path


def test_no_key_is_told(site, instance):
    """In no page, log or answer of the site's."""
    admin = site.client("with", "admin")
    told = [instance.log.read_text()]
    told += [admin.get(page).body.decode("latin-1") for page in ("@@overview-controlpanel", "public/video/view")]
    told.append((instance.home / "notes").read_text() if (instance.home / "notes").exists() else "")
    for value in variables_of(KEYS).values():
        assert not any(value in text for text in told)


def test_after_a_start_with_an_empty_cache_it_is_all_there(site, instance):
    instance.restart_with_empty_cache()
    visitor = site.client("with")
    for name, payload in (("video", VIDEO), ("text", SMALL)):
        assert visitor.get(f"public/{name}/@@download/file").body == payload.data


def test_a_wrong_key_is_one_sentence_at_the_start(site, instance):
    instance.stop()
    right = dict(instance.environment)
    instance.environment["SITE_KEY_NEW"] = variables_of(client_side(active="new", new=b"w" * 32))["SITE_KEY_NEW"]
    try:
        with pytest.raises(ServerFailed) as raised:
            instance.start()
    finally:
        instance.environment.update(right)
    said = str(raised.value)
    assert "the key new" in said and "is not the one that the bucket knows" in said
    assert right["SITE_KEY_NEW"] not in said
    instance.start()
    assert site.client("with").get("public/text/@@download/file").body == SMALL.data
