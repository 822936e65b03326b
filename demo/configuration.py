"""The demo's folders and its Zope configuration, written anew at each start."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from servers.ministack import MiniStack

ADMIN = "admin"
BUCKET = "plone-demo"

ZOPE_CONF = """\
# Written by `python3 run.py demo` at each start.
%import collective.s3blobstorage

instancehome {var}
<environment>
  CHAMELEON_CACHE {templates}
</environment>

<zodb_db main>
  mount-point /
  cache-size 30000
  <s3blobstorage>
    bucket-name {bucket}
    create-bucket on
    owner demo
    s3-endpoint-url {endpoint}
    s3-region {region}
    s3-access-key {access_key}
    s3-secret-key-file {secret_key_file}
    cache-dir {cache}
    cache-size 1GB
    direct-upload-origins http://localhost:{port} http://127.0.0.1:{port}
    <filestorage>
      path {data_fs}
    </filestorage>
  </s3blobstorage>
</zodb_db>
"""

SITE_ZCML = """\
<configure xmlns="http://namespaces.zope.org/zope" xmlns:five="http://namespaces.zope.org/five">
  <include package="Products.Five" />
  <five:loadProducts file="meta.zcml" />
  <five:loadProducts />
  <five:loadProductsOverrides />
  <include package="Products.CMFPlone" />
  <includeOverrides package="Products.CMFPlone" />
</configure>
"""


@dataclass(frozen=True)
class Folders:
    """Where the demo keeps what."""

    var: Path

    @property
    def lock(self) -> Path:
        return self.var / "lock"

    @property
    def password(self) -> Path:
        return self.var / "password"

    @property
    def data_fs(self) -> Path:
        return self.var / "Data.fs"

    @property
    def objects(self) -> Path:
        return self.var / "s3"

    @property
    def cache(self) -> Path:
        return self.var / "cache"

    @property
    def templates(self) -> Path:
        return self.var / "templates"

    @property
    def log(self) -> Path:
        return self.var / "log"

    @property
    def zope_conf(self) -> Path:
        return self.var / "etc" / "zope.conf"

    @property
    def secret_key(self) -> Path:
        return self.var / "etc" / "secret-key"

    @property
    def bucket(self) -> Path:
        """How ``objects.py`` reaches the bucket."""
        return self.var / "etc" / "bucket.json"


def write_configuration(folders: Folders, store: MiniStack, port: int) -> None:
    """Write ``zope.conf`` and what belongs to it for this run: the S3 server, and the site's port, may be others."""
    folders.zope_conf.parent.mkdir(exist_ok=True)
    folders.templates.mkdir(exist_ok=True)
    write_secret(folders.secret_key, store.secret_key)
    reach = {
        "bucket": BUCKET,
        "endpoint_url": store.endpoint_url,
        "region_name": store.region,
        "aws_access_key_id": store.access_key,
        "aws_secret_access_key": store.secret_key,
    }
    write_secret(folders.bucket, json.dumps(reach, indent=2))
    values = {
        "var": folders.var,
        "templates": folders.templates,
        "bucket": BUCKET,
        "endpoint": store.endpoint_url,
        "region": store.region,
        "access_key": store.access_key,
        "secret_key_file": folders.secret_key,
        "cache": folders.cache,
        "data_fs": folders.data_fs,
        "port": port,
    }
    # A dollar sign begins a reference in ZConfig; any other character of a path stands for itself.
    escaped = {name: str(value).replace("$", "$$") for name, value in values.items()}
    folders.zope_conf.write_text(ZOPE_CONF.format_map(escaped))
    (folders.zope_conf.parent / "site.zcml").write_text(SITE_ZCML)


def write_secret(path: Path, text: str) -> None:
    """Write ``path`` for its owner only."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text + "\n")
