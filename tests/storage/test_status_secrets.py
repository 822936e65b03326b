"""Whatever secret zope.conf has: none of it is in a status, a check or a trial, while all is well and while not.

Over https, as keys that are sent want it.
"""

from __future__ import annotations

import base64
import io
import json
import math
import os
from contextlib import closing

import pytest
import ZConfig
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from servers.faults import answer
from test_secrets import forms
from ZODB.config import getStorageSchema

from collective.s3blobstorage import config_keys, encryption_keys, source_keys
from collective.s3blobstorage.storage import open_storage

CONFIGURATION = """
%import collective.s3blobstorage
<s3blobstorage>
  bucket-name {bucket}
  owner www.example.org
  s3-endpoint-url {endpoint}
  s3-region {region}
  s3-ca-bundle {bundle}
  s3-access-key {access_key}
  s3-secret-key-file {folder}/secret_key
  cdn-url-base https://cdn.example.org
  cdn-key-pair-id K2JCJMDEHXQW5F
  cdn-private-key-file {folder}/cdn
  metrics-token-file {folder}/metrics
  cache-dir {folder}/cache
  <client-side-encryption>
    active-key told
    <key told>
      value {key_told}
    </key>
    <key filed>
      file {folder}/key_filed
    </key>
    <key ran>
      command echo {key_ran}
    </key>
  </client-side-encryption>
  <s3source production>
    bucket-name {bucket}
    s3-prefix production
    s3-endpoint-url {endpoint}
    s3-region {region}
    s3-ca-bundle {bundle}
    s3-access-key ANOTHERACCESSKEY
    s3-secret-key {other_secret}
    s3-session-token {other_token}
    s3-sse-customer-key {key_sent}
  </s3source>
  <s3source replica>
    bucket-name {bucket}
    s3-endpoint-url {endpoint}
    s3-region {region}
    s3-ca-bundle {bundle}
    s3-access-key ANOTHERACCESSKEY
    s3-secret-key-file {folder}/other_secret
  </s3source>
  <filestorage>
    path {folder}/Data.fs
  </filestorage>
</s3blobstorage>
"""
FILES = {"s3-secret-key-file", "cdn-private-key-file", "metrics-token-file", "file"}


def secret_keys():
    """Names of all keys of zope.conf that are secrets, or name a file that is one."""
    sections = [config_keys.KEYS, *source_keys.KEYS.values(), *encryption_keys.KEYS.values()]
    return {key.name for keys in sections for key in keys.values() if key.show is config_keys.hidden} | FILES


def test_every_secret_that_zope_conf_can_have_is_tried():
    named = {line.split()[0] for line in CONFIGURATION.splitlines() if line.split()}
    assert secret_keys() <= named
    known = [config_keys.KEYS, *source_keys.KEYS.values(), *encryption_keys.KEYS.values()]
    files = {key.name for keys in known for key in keys.values() if "readable by the site's user" in key.allowed}
    assert files == FILES


@pytest.fixture
def secrets(settings, tmp_path):
    """By what they are; in files and the configuration as bytes that can be written there."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    told = {name: base64.b64encode(os.urandom(32)) for name in ("key_told", "key_filed", "key_ran", "key_sent")}
    told |= {"other_secret": b"wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "other_token": b"token/" + b"0Abc" * 40}
    told |= {"secret_key": settings.secret_key.encode(), "cdn": pem, "metrics": b"a-token-of-the-metrics"}
    for name, value in told.items():
        (tmp_path / name).write_bytes(value)
        (tmp_path / name).chmod(0o600)
    return told


def looked_for(secrets):
    """Also the bytes that base64 stands for, and a line of what has lines."""
    for name, value in secrets.items():
        lines = value.splitlines()[1:-1] or [value]
        yield from ((name, form) for line in lines for form in forms(line))
        if name.startswith("key_"):
            yield from ((name, form) for form in forms(base64.b64decode(value)))


def test_no_secret_is_in_a_status(settings, secrets, tls_proxy, ca, tmp_path, caplog):
    text = CONFIGURATION.format(
        bucket=settings.bucket,
        endpoint=tls_proxy.endpoint_url,
        region=settings.region,
        bundle=ca.bundle,
        access_key=settings.access_key,
        folder=tmp_path,
        **{name: value.decode() for name, value in secrets.items() if b"\n" not in value and name != "secret_key"},
    )
    parsed, _ = ZConfig.loadConfigFile(getStorageSchema(), io.StringIO(text))
    factory = parsed.storage
    told = []
    with closing(open_storage(factory.config.base.open(), factory.settings)) as storage:
        status = storage.status("main")

        def look():
            told.append({"check": status.check(), "trial": status.trial(), "counters": repr(status.counters())})
            told.append(status.document())

        look()
        for fault in (answer(403, "AccessDenied"), answer(500, "InternalError")):
            tls_proxy.fail(fault, times=math.inf)
            look()
            tls_proxy.forgive()
        tls_proxy.down()
        look()
    # What there is to tell was told, keys and sources too, and what is wrong with them.
    document = told[1]
    assert {key["id"] for key in document["encryption"]["keys"]} == {"told", "filed", "ran"}
    assert [source["name"] for source in document["sources"]] == ["production", "replica"]
    found = {finding["name"]: finding["ok"] for finding in document["check"]["findings"]}
    assert (found["metrics token"], found["write"], found["source production"]) == (True, True, False)
    text = json.dumps(told) + "".join(map(repr, told)) + caplog.text
    assert [name for name, form in looked_for(secrets) if form in text] == []
    assert "ANOTHERACCESSKEY" not in text and settings.access_key not in json.dumps(told)
