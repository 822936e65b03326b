"""examples/kubernetes/gc.yaml, run: its command, its configuration, its variables."""

from __future__ import annotations

import re
import subprocess
import time

import pytest
from command_line import SCRIPT, environment
from example_files import EXAMPLES
from sites import bucket_keys, commit_blobs

yaml = pytest.importorskip("yaml")


def test_the_cronjob_does_what_it_says(make_site, settings, tmp_path, postgresql):
    account, configmap, job = yaml.safe_load_all((EXAMPLES / "kubernetes" / "gc.yaml").read_text(encoding="utf-8"))
    pod = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert pod["serviceAccountName"] == account["metadata"]["name"]
    assert {volume["name"] for volume in pod["volumes"]} == {mount["name"] for mount in container["volumeMounts"]}
    [volume] = [each for each in pod["volumes"] if each["name"] == "configuration"]
    assert volume["configMap"]["name"] == configmap["metadata"]["name"]

    site = make_site("postgresql-hp", owner="production", preflight=False, gc_on_pack="off")
    db = site.db()
    commit_blobs(db, a=b"1")
    commit_blobs(db, a=b"2")
    db.pack(time.time() + 1)
    db.close()
    given = {entry["name"]: entry["value"] for entry in container["env"]}
    configured = tmp_path / "gc.conf"
    assert given["S3BLOBS_CONFIG"] == "/etc/plone/gc.conf"
    text = configmap["data"]["gc.conf"]
    secrets = yaml.safe_load((EXAMPLES / "kubernetes" / "secret.yaml").read_text())["stringData"]
    assert set(re.findall(r"\$\((\w+)\)", text)) <= given.keys() | secrets.keys()
    configured.write_text(text.replace("/tmp/blobs", str(tmp_path / "cache")))
    shell, option, command = container["command"]
    variables = {
        **given,
        "S3BLOBS_CONFIG": str(configured),
        "S3_BUCKET": settings.bucket,
        "S3_REGION": settings.region,
        "RELSTORAGE_DSN": postgresql.dsn(site._database),
        "AWS_ACCESS_KEY_ID": settings.access_key,
        "AWS_SECRET_ACCESS_KEY": settings.secret_key,
        "AWS_ENDPOINT_URL_S3": settings.endpoint_url,
        **({"AWS_CA_BUNDLE": str(settings.ca_bundle)} if settings.ca_bundle else {}),
    }
    ran = subprocess.run(
        [shell, option, command.replace("/app/bin/", f"{SCRIPT.parent}/")],
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    words = " ".join(ran.stdout.split())
    assert "in use 1 blobs" in words and "too young 1 blobs" in words and "deleted 0 blobs" in words
    assert "no plan of the last 24 h has anything to delete" in ran.stderr
    assert any(key.startswith("gc/lease/") for key in bucket_keys(settings))
    assert len(site.keys()) == 2
