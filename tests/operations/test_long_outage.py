"""docs/operations.md, "The store is away for long"."""

from __future__ import annotations

import html
import json
import re
import time
from contextlib import closing

import payloads
import pytest
from fixtures_servers import s3_client
from operated_site import OperatedSite
from servers.ministack import MiniStack
from web_client import json_file

BUCKET = "files-here"  # on a server of its own
PANEL = "The bucket does not answer. Only files that this server keeps a copy of can be shown."
ADDRESS = """\
    bucket-name plone-blobs
    s3-endpoint-url https://s3.example.org
    s3-access-key $(S3_ACCESS_KEY)
    s3-secret-key $(S3_SECRET_KEY)
"""


@pytest.fixture
def store(tmp_path):
    """The store of the page, which goes away."""
    server = MiniStack(tmp_path / "store").start()
    with closing(s3_client(server)) as client:
        client.create_bucket(Bucket=BUCKET)
    yield server
    server.stop()


def test_the_store_is_away_for_long(store, made_database, s3, s3_server, bucket, tmp_path):
    """First for a while; then for days, with a replica that lacks the last upload."""
    site = OperatedSite(tmp_path / "plone", made_database, store, BUCKET)
    follow = site.follow("The store is away for long")
    site.variables["METRICS_TOKEN"] = "of-the-monitoring"
    token = site.home / "etc" / "metrics-token"
    token.write_text("of-the-monitoring\n")
    token.chmod(0o600)
    site.add(f"metrics-token-file {token}")
    try:
        a_while(site, follow, store)
        days(site, follow, store, s3, s3_server, bucket)
    finally:
        site.stop()
    follow.end()


def a_while(site, follow, store):
    with site.running():
        site.upload("seen", "unseen")
        follow.run()
        forget(site, "unseen")
        process = site.zope.pid
        store.stop()
        assert site.status_of("seen") == 200
        waited = timed(lambda: site.status_of("unseen") == 500)
        assert 3 * timed(lambda: site.status_of("unseen") == 500) < waited
        refused = upload(site, "lost")
        assert refused.status == 500 and refused.json["message"] == "The object store could not be reached."
        assert site.editor.request("GET", "files/lost", headers={"Accept": "application/json"}).status == 404
        site.editor.add("files", "Document", "words")
        assert site.admin.get("@@s3blobstorage-ready").status == 200
        assert PANEL in shown(site.admin.get("with/@@s3blobstorage-controlpanel"))
        follow.run()
        store.restart()
        wait_until(lambda: site.status_of("unseen") == 200)
        assert site.zope.pid == process
        forget(site, "unseen")
        store.stop()

    # A machine was restarted meanwhile.
    site.add(follow.conf())
    with site.running():
        assert (site.status_of("seen"), site.status_of("unseen")) == (200, 500)
        process = site.zope.pid
        store.restart()
        wait_until(lambda: site.status_of("unseen") == 200)
        site.upload("lost")
        assert site.zope.pid == process
        site.assert_files_are_right()
        follow.run()


def days(site, follow, store, s3, s3_server, bucket):
    with closing(s3_client(store)) as client:
        copy_all(client, BUCKET, s3, bucket)
    with site.running():
        site.upload("after-the-replica")
    store.stop()
    site.names |= {"https://s3.example.net": s3_server.endpoint_url, "plone-replica": bucket}
    site.variables |= {"REPLICA_ACCESS_KEY": s3_server.access_key, "REPLICA_SECRET_KEY": s3_server.secret_key}
    site.change(ADDRESS, follow.conf())
    follow.run()
    with site.running():
        site.upload("on-the-replica")
        statuses = {name: site.status_of(name) for name in site.files}
        assert statuses.pop("after-the-replica") == 500 and set(statuses.values()) == {200}
    store.restart()
    source = follow.conf()
    site.add(source)
    with site.running():
        site.assert_files_are_right()
        follow.run()
    store.stop()
    site.change(source.strip(), "")
    site.empty_cache()
    with site.running():
        site.assert_files_are_right()


def copy_all(client, bucket, target, to):
    """What the provider's replication does: every object, with its metadata, under its key."""
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for found in page.get("Contents", ()):
            got = client.get_object(Bucket=bucket, Key=found["Key"])
            kept = {name: got[name] for name in ("Metadata", "ContentType", "ContentDisposition") if name in got}
            target.put_object(Bucket=to, Key=found["Key"], Body=got["Body"].read(), **kept)


def upload(site, name):
    payload = payloads.pdf(f"{name}.pdf")
    file = json_file(payload.data, payload.filename, payload.content_type)
    body = json.dumps({"@type": "File", "id": name, "title": name, "file": file}).encode()
    return site.editor.request(
        "POST", "files", body, {"Accept": "application/json", "Content-Type": "application/json"}
    )


def forget(site, name):
    for path in (site.home / "cache").glob("*/blobs/*/*"):
        if path.read_bytes() == site.files[name].data:
            path.unlink()


def timed(true):
    began = time.monotonic()
    assert true()
    return time.monotonic() - began


def wait_until(true, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def shown(answer):
    """The words of a page."""
    assert answer.status == 200
    text = re.sub(r"<(script|style)\b.*?</\1>|<[^>]*>", " ", answer.body.decode(), flags=re.DOTALL)
    return " ".join(html.unescape(text).split())
