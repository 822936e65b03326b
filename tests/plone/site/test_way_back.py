"""``keep-in-base on``: Zopes with the old and the new configuration beside each other on one ZEO server, and back.

Editors upload at both; each serves what was uploaded at the other. Then the new ones are gone, and Plone without this
package's section serves everything.
"""

from __future__ import annotations

import secrets
import sys
import time
import uuid
from importlib import metadata

import payloads
import pytest
from fixtures_servers import s3_client
from servers.process import ServerProcess, free_port
from web_client import WebClient, json_file
from zope_instance import ZopeInstance

pytestmark = pytest.mark.skipif(
    metadata.version("Products.CMFPlone") < "6.2", reason="it is the storage's work: one release of Plone shows it"
)

ZEO = """\
<zeo>
  address 127.0.0.1:{port}
</zeo>
<filestorage main>
  path {folder}/Data.fs
  blob-dir {folder}/blobs
</filestorage>
"""
BASE = """\
    <zeoclient>
      server 127.0.0.1:{port}
      storage main
      blob-dir {home}/blobs
      shared-blob-dir off
    </zeoclient>"""
OLD = "instancehome {home}\n<zodb_db main>\n  mount-point /\n{base}\n</zodb_db>\n"
NEW = """\
  <s3blobstorage>
    bucket-name {bucket}
    s3-endpoint-url {server.endpoint_url}
    s3-region {server.region}
    s3-access-key {server.access_key}
    s3-secret-key {server.secret_key}
    owner www.example.org
    cache-dir {cache_dir}
    keep-in-base on
    <basesource>
    </basesource>
{base}
  </s3blobstorage>"""


def test_old_and_new_beside_each_other_and_back(s3_server, tmp_path):
    client, bucket, password = s3_client(s3_server), f"back-{uuid.uuid4().hex[:20]}", secrets.token_urlsafe(12)
    client.create_bucket(Bucket=bucket)
    port = free_port()
    (tmp_path / "zeo").mkdir()
    (tmp_path / "zeo.conf").write_text(ZEO.format(port=port, folder=tmp_path / "zeo"))
    command = [sys.executable, "-m", "ZEO.runzeo", "-C", str(tmp_path / "zeo.conf")]
    zeo = ServerProcess("ZEO", command, {}, tmp_path / "zeo.log")
    zeo.start()
    instances = {}
    for name in ("old", "new"):
        home, cache_dir = tmp_path / name, tmp_path / f"cache-{name}"
        home.mkdir()
        cache_dir.mkdir()
        base = BASE.format(port=port, home=home)
        new = NEW.format(bucket=bucket, server=s3_server, cache_dir=cache_dir, base=base)
        more = {"zope_conf": OLD.format(home=home, base=base)} if name == "old" else {}
        instances[name] = ZopeInstance(home, cache_dir, new, password, environment={"SITES": "with"}, **more)
    old, new = instances.values()
    try:
        old.make()
        old.start()
        new.configure()
        new.start()
        uploaded = {}
        for number in range(2):
            for name, instance in instances.items():
                editor = WebClient(instance.port, "with", ("editor", password))
                payload = payloads.pdf(f"{name}{number}.pdf")
                editor.add("files", "File", f"{name}{number}", file=as_json(payload))
                editor.add("files", "Image", f"{name}-picture{number}", image=as_json(payloads.png()))
                uploaded[f"{name}{number}"] = payload
                check(instances, password, uploaded, changed_by=name)
        for number, (name, instance) in enumerate(instances.items()):  # each changes what the other one committed
            editor = WebClient(instance.port, "with", ("editor", password))
            other = {"old": "new0", "new": "old0"}[name]
            uploaded[other] = payloads.pdf(f"changed{number}.pdf", kilobytes=35)
            editor.api("PATCH", f"files/{other}", {"file": as_json(uploaded[other])}, expect=204)
            check(instances, password, uploaded, changed_by=name)
        assert client.list_objects_v2(Bucket=bucket)["KeyCount"] > len(uploaded)
        new.stop()
        old.stop()
        stock = OLD.format(home=new.home, base=BASE.format(port=port, home=new.home / "again"))
        new.zope_conf = stock
        new.configure()
        new.start()
        check({"new": new}, password, uploaded, changed_by="new")
    finally:
        for instance in (old, new):
            instance.stop()
        zeo.stop()
        client.close()


def as_json(payload: payloads.Payload) -> dict:
    return json_file(payload.data, payload.filename, payload.content_type)


def check(instances, password, uploaded, changed_by) -> None:
    """Every file is served byte for byte by each, and every picture in a scale: at once by the one that changed.

    A ZEO server tells the other clients of a commit when it answers the one that committed, and waits for nobody: they
    may serve what was before for a moment.
    """
    for instance_name in sorted(instances, key=lambda name: name != changed_by):
        editor = WebClient(instances[instance_name].port, "with", ("editor", password))
        until = time.monotonic() + (0 if instance_name == changed_by else 10)
        for name, payload in uploaded.items():
            picture = f"{name[:3]}-picture{name[3:]}"
            while not (is_served(editor, name, payload) and has_scale(editor, picture)):
                assert time.monotonic() < until, f"{instance_name} does not serve {name}"
                time.sleep(0.05)


def is_served(editor, name, payload) -> bool:
    answer = editor.get(f"files/{name}/@@download/file")
    return answer.status == 200 and payloads.fingerprint(answer.body) == payload.fingerprint


def has_scale(editor, picture) -> bool:
    return editor.get(f"files/{picture}/@@images/image/preview").status == 200
