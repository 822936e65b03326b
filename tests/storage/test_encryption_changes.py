"""A storage whose zope.conf changes: other sections, other keys. It opens, and what was committed before is read."""

from __future__ import annotations

import base64
import io

import pytest
import transaction
import ZConfig
from servers.ceph import KMS_KEY
from ZODB.blob import Blob
from ZODB.config import getDbSchema

from collective.s3blobstorage.encryption.register import read_all
from collective.s3blobstorage.errors import ConfigurationError
from collective.s3blobstorage.objectstore import open_store

KEYS = [base64.b64encode(bytes([number]) * 32).decode() for number in range(4)]
SECTIONS = {
    "none": "<no-encryption/>",
    "sse-kms": f"<sse-kms>\nkms-key-id {KMS_KEY}\n</sse-kms>",
    "sse-c": f"<sse-c>\n<key c1>\nvalue {KEYS[0]}\n</key>\n</sse-c>",
    "client-side": f"<client-side-encryption>\n<key a1>\nvalue {KEYS[1]}\n</key>\n</client-side-encryption>",
}


@pytest.fixture
def site(settings, tls_proxy, ca, tmp_path, monkeypatch):
    """``site(section, …)``: the database of a file of configuration with these sections; an empty cache each time."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", settings.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", settings.secret_key)
    opened = []

    def make(*sections: str):
        for db in opened:
            db.close()
        opened.clear()
        lines = ["%import collective.s3blobstorage", "<zodb main>", "<s3blobstorage>", *sections]
        lines += [f"bucket-name {settings.bucket}", f"s3-endpoint-url {tls_proxy.endpoint_url}", "owner site"]
        lines += [f"s3-region {settings.region}", f"s3-ca-bundle {ca.bundle}", "s3-addressing-style path"]
        lines += [f"cache-dir {tmp_path}/cache-{len(list(tmp_path.iterdir()))}", "preflight-deadline 0"]
        lines += [f"<filestorage>\npath {tmp_path}/Data.fs\n</filestorage>", "</s3blobstorage>", "</zodb>", ""]
        config, _ = ZConfig.loadConfigFile(getDbSchema(), io.StringIO("\n".join(lines)))
        opened.append(config.database[0].open())
        return opened[0]

    yield make
    for db in opened:
        db.close()


def commit(db, name: str) -> None:
    with db.transaction() as connection:
        connection.root()[name] = Blob(f"content of {name}".encode())


def check(db, *names: str) -> None:
    connection = db.open()
    for name in names:
        with connection.root()[name].open() as file:
            assert file.read() == f"content of {name}".encode()
    transaction.abort()
    connection.close()


def states(settings) -> dict[str, tuple[str, str]]:
    store = open_store(settings)
    try:
        return {entry.id: (entry.mode, entry.state) for entry in read_all(store)}
    finally:
        store.close()


@pytest.mark.parametrize("after", SECTIONS)
@pytest.mark.parametrize("before", SECTIONS)
def test_to_another_section_and_back(site, before, after):
    if before == after:
        pytest.skip("no change")
    db = site(SECTIONS[before])
    commit(db, "one")
    db = site(SECTIONS[after], SECTIONS[before])
    check(db, "one")
    commit(db, "two")
    check(db, "one", "two")
    db = site(SECTIONS[before], SECTIONS[after])
    commit(db, "three")
    check(db, "one", "two", "three")


def test_the_bucket_knows_for_which_section_each_key_was_added(site, settings):
    site(SECTIONS["client-side"], SECTIONS["sse-c"])
    known = states(settings)
    assert known["a1"] == ("client-side", "active") and known["c1"][0] == "sse-c"
    commit(site(SECTIONS["sse-kms"], SECTIONS["sse-c"], SECTIONS["client-side"]), "one")
    assert {id: mode for id, (mode, _) in states(settings).items()} == {"a1": "client-side", "c1": "sse-c"}


def test_a_key_that_the_store_has_seen_does_not_seal(site):
    commit(site(SECTIONS["client-side"], SECTIONS["sse-c"]), "one")
    with pytest.raises(ConfigurationError, match="the key was added for sse-c and is not taken for client-side"):
        site(f"<client-side-encryption>\n<key c1>\nvalue {KEYS[0]}\n</key>\n</client-side-encryption>")
