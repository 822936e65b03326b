"""examples/vault: a section type of another package, against a server that speaks the two requests of Vault's API."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import ZConfig
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from ZODB.config import getStorageSchema
from zope.interface.verify import verifyObject

from collective.s3blobstorage.config import storage_settings
from collective.s3blobstorage.encryption.interfaces import IKeyProvider, IKeySection
from collective.s3blobstorage.encryption.register import open_ring
from collective.s3blobstorage.errors import ConfigurationError, Unavailable
from collective.s3blobstorage.objectstore import open_store

EXAMPLES = Path(__file__).parents[2] / "examples"
TOKEN = "hvs.a-token-of-these-tests"
BLOB = "blobs/0000000000000001/" + "0" * 32


class Vault(BaseHTTPRequestHandler):
    """As https://developer.hashicorp.com/vault/api-docs/secret/transit has "Generate data key" and "Decrypt data"."""

    wrapping: AESGCM
    asked: list[str]
    sealed: list[int]

    def log_message(self, *arguments) -> None:
        pass

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append(self.path)
        if self.sealed:
            self._answer(self.sealed[0], {"errors": ["Vault is sealed"]})
        elif self.headers["X-Vault-Token"] != TOKEN:
            self._answer(403, {"errors": ["permission denied"]})
        elif self.path == "/v1/transit/datakey/plaintext/plone-blobs":
            key, nonce = os.urandom(body["bits"] // 8), os.urandom(12)
            text = "vault:v1:" + base64.b64encode(nonce + self.wrapping.encrypt(nonce, key, None)).decode()
            self._answer(200, {"data": {"plaintext": base64.b64encode(key).decode(), "ciphertext": text}})
        elif self.path == "/v1/transit/decrypt/plone-blobs":
            data = base64.b64decode(body["ciphertext"].removeprefix("vault:v1:"))
            try:
                key = self.wrapping.decrypt(data[:12], data[12:], None)
            except InvalidTag:
                self._answer(400, {"errors": ["cipher: message authentication failed"]})
                return
            self._answer(200, {"data": {"plaintext": base64.b64encode(key).decode()}})
        else:
            self._answer(400, {"errors": ["encryption key not found"]})

    def _answer(self, status: int, document: dict) -> None:
        data = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def vault():
    handler = type("VaultOfThisTest", (Vault,), {"wrapping": AESGCM(os.urandom(32)), "asked": [], "sealed": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    handler.address = f"http://127.0.0.1:{server.server_port}"
    yield handler
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def parsed(monkeypatch, tmp_path):
    """The factory of a file with the section; ``lines`` are more of its keys."""
    monkeypatch.syspath_prepend(str(EXAMPLES / "vault"))
    monkeypatch.delenv("VAULT_ADDR", raising=False)
    (tmp_path / "token").write_text(TOKEN + "\n")

    def parse(*lines: str, transit_key: str = "plone-blobs"):
        section = [f"<vault-key k1>\ntransit-key {transit_key}\ntoken-file {tmp_path}/token", *lines, "</vault-key>"]
        around = ["%import collective.s3blobstorage", "%import vault_key", "<s3blobstorage>"]
        around += ["bucket-name plone-blobs", "cache-dir /nonexistent", "<client-side-encryption>", *section]
        around += ["</client-side-encryption>", "<mappingstorage/>", "</s3blobstorage>", ""]
        config, _ = ZConfig.loadConfigFile(getStorageSchema(), io.StringIO("\n".join(around)))
        return config.storage

    return parse


def provider(factory):
    return factory.settings.store.encryption.ring.providers["k1"]


def test_contract(parsed):
    factory = parsed()
    [section] = factory.config.encryption[0].config.keys
    assert verifyObject(IKeySection, section) and verifyObject(IKeyProvider, provider(factory))
    assert repr(provider(factory)) == "<VaultKey k1 Vault transit/plone-blobs>"


def test_two_processes_read_what_the_other_wrote(parsed, vault, settings, s3):
    stores = []
    for _ in range(2):
        encryption = parsed(f"address {vault.address}/").settings.store.encryption
        stores.append(open_store(dataclasses.replace(settings, encryption=encryption)))
        open_ring(stores[-1], encryption.ring, "client-side", writable=True)
    first, second = stores
    first.put_bytes(BLOB, b"what a visitor uploaded")
    assert second.get_bytes(BLOB) == b"what a visitor uploaded"
    assert b"visitor" not in s3.get_object(Bucket=settings.bucket, Key=BLOB)["Body"].read()
    ways = [path.split("/")[3] for path in vault.asked]
    assert ways.count("datakey") == 1 and ways.count("decrypt") >= 2
    for store in stores:
        store.close()


def test_the_environment_of_zope_conf_counts_at_opening(parsed, vault, monkeypatch):
    """It is set between parsing and opening."""
    factory = parsed()
    with pytest.raises(ConfigurationError, match="address is missing, and VAULT_ADDR is not set"):
        provider(factory).make()
    monkeypatch.setenv("VAULT_ADDR", vault.address)
    again = storage_settings(factory.config, os.environ).store.encryption.ring.providers["k1"]
    assert len(again.material(again.make())) == 32


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ("token", ConfigurationError, "answers 403; correct transit-key, or let the token's policy allow it"),
        ("key", ConfigurationError, "answers 400; correct transit-key"),
        ("sealed", Unavailable, "answers 503"),
        ("gone", Unavailable, "cannot be asked (URLError)"),
        ("no file", ConfigurationError, "token-file cannot be read: No such file or directory"),
    ],
)
def test_what_goes_wrong_is_one_sentence(parsed, vault, tmp_path, change, error, said):
    address = "http://127.0.0.1:1" if change == "gone" else vault.address
    found = provider(parsed(f"address {address}", transit_key="other" if change == "key" else "plone-blobs"))
    if change == "token":
        (tmp_path / "token").write_text("hvs.another")
    if change == "no file":
        (tmp_path / "token").unlink()
    if change == "sealed":
        vault.sealed.append(503)
    with pytest.raises(error) as raised:
        found.make()
    message = str(raised.value)
    assert message.startswith("<vault-key k1>: Vault transit/") and said in message
    assert "hvs." not in message and "hvs." not in repr(vars(found))


def test_what_another_vault_wrapped_is_refused(parsed, vault):
    found = provider(parsed(f"address {vault.address}"))
    kept = found.make()
    vault.wrapping = AESGCM(os.urandom(32))
    with pytest.raises(ConfigurationError, match="answers 400"):
        found.material(kept)
    with pytest.raises(ConfigurationError, match="the bucket has no such key; s3blobs keys add k1"):
        found.material(None)
