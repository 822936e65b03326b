"""The types of docs/addons.md that an add-on brings: its signer, its keys and its source, as packages of their own."""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import io
import os
import re
import sys
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import ZConfig
from sites import bucket_keys, commit_blobs, connected, raw_client, read_blob
from ZODB.config import getStorageSchema
from zope.interface.verify import verifyObject

from collective.s3blobstorage.encryption.interfaces import IKeyProvider, IKeySection
from collective.s3blobstorage.errors import BlobMissing, ConfigurationError, StoreError, Unavailable
from collective.s3blobstorage.overlay.interfaces import ISource, ISourceSection, ISourceSettings, Revision
from collective.s3blobstorage.settings import DeliverySettings
from collective.s3blobstorage.storage.record import BlobState

DOCUMENT = Path(__file__).parents[2] / "docs" / "addons.md"


def block(language: str, kind: str) -> str:
    [found] = re.findall(rf"^```{language} {kind}\n(.*?)^```$", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
    return found


@pytest.fixture
def package(tmp_path, monkeypatch):
    """``package(kind)``: the package that the document's blocks of that kind are."""
    made = []

    def make(kind: str):
        name = f"addon_{kind}"
        folder = tmp_path / "packages" / name
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text("" if kind == "signer" else block("python", kind))
        if kind == "signer":
            (folder / "signer.py").write_text(block("python", kind))
            (folder / "overrides.zcml").write_text(block("xml", kind))
        else:
            (folder / "component.xml").write_text(block("xml", kind))
        monkeypatch.syspath_prepend(str(folder.parent))
        made.append(name)
        return __import__(name)

    yield make
    for name in [loaded for loaded in sys.modules if loaded.partition(".")[0] in made]:
        del sys.modules[name]


def parsed(package, *sections: str):
    lines = ["%import collective.s3blobstorage", f"%import {package.__name__}", "<s3blobstorage>"]
    lines += ["bucket-name plone-blobs", "cache-dir /nonexistent", *sections, "<mappingstorage/>", "</s3blobstorage>"]
    config, _ = ZConfig.loadConfigFile(getStorageSchema(), io.StringIO("\n".join([*lines, ""])))
    return config.storage


def test_the_signer(package, monkeypatch):
    pytest.importorskip("plone.namedfile")
    from zope.component.testing import tearDown
    from zope.configuration import xmlconfig

    import collective.s3blobstorage
    from collective.s3blobstorage.delivery.cdn import cdn_signed

    signer = package("signer")
    text = '<configure xmlns="http://namespaces.zope.org/zope"><include package="zope.component" file="meta.zcml" />{}'
    context = xmlconfig.string(
        text.format(
            '<utility factory=".delivery.cloudfront.CloudFront" provides=".interfaces.IURLSigner"/></configure>'
        ),
        _context(collective.s3blobstorage),
    )
    context.package = signer
    xmlconfig.includeOverrides(context, file="overrides.zcml")
    context.execute_actions()
    try:
        delivery = DeliverySettings(cdn_url_base="https://cdn.example.org/x")
        address = type("Address", (), {"delivery": delivery, "key": "blobs/1/a"})()
        how = {"content_type": "text/html", "disposition": "attachment", "cache_control": "no-store"}
        with pytest.raises(ConfigurationError, match="CDN_KEY"):
            cdn_signed(address, 300, **how)
        monkeypatch.setenv("CDN_KEY", "secret")
        url = cdn_signed(address, 300, **how, now=datetime(2026, 11, 26, tzinfo=UTC)).url
        path, _, token = urlsplit(url)._replace(scheme="", netloc="").geturl().partition("&token=")
        assert token == hmac.new(b"secret", path.encode(), hashlib.sha256).hexdigest()
        told = parse_qs(urlsplit(url).query)
        assert told["content-type"] == ["text/html"] and told["content-disposition"] == ["attachment"]
        assert url.startswith("https://cdn.example.org/x/blobs/1/a?")
    finally:
        tearDown()


def _context(package):
    from zope.configuration.config import ConfigurationMachine
    from zope.configuration.xmlconfig import registerCommonDirectives

    machine = ConfigurationMachine()
    registerCommonDirectives(machine)
    machine.package = package
    return machine


def test_the_keys(package, make_site, settings, tmp_path, monkeypatch):
    """A blob that they encrypt, in a bucket; each way in which there is no key is one sentence."""
    (tmp_path / "credentials").mkdir()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "credentials"))
    section = ["<client-side-encryption>", "<credential-key k1>", "</credential-key>", "</client-side-encryption>"]
    factory = parsed(package("keys"), *section)
    encryption = factory.settings.store.encryption
    [inner] = factory.config.encryption[0].config.keys
    assert verifyObject(IKeySection, inner)
    provider = encryption.ring.providers["k1"]
    assert verifyObject(IKeyProvider, provider) and provider.source == "systemd credential k1"
    with pytest.raises(ConfigurationError, match="k1 cannot be read: No such file"):
        provider.material(None)
    (tmp_path / "credentials" / "k1").write_bytes(b"short")
    with pytest.raises(ConfigurationError, match="has 5 bytes"):
        provider.material(None)
    key = os.urandom(32)
    (tmp_path / "credentials" / "k1").write_bytes(key)
    site = make_site("filestorage", store=dataclasses.replace(settings, encryption=encryption))
    db = site.db()
    commit_blobs(db, a=b"in clear " * 50)
    assert read_blob(db, "a") == b"in clear " * 50
    [name] = [name for name in bucket_keys(settings) if name.startswith("blobs/")]
    client = raw_client(settings)
    assert b"in clear" not in client.get_object(Bucket=settings.bucket, Key=name)["Body"].read()
    site.close_all()
    (tmp_path / "credentials" / "k1").write_bytes(os.urandom(32))
    again = parsed(sys.modules["addon_keys"], *section).settings.store.encryption
    with pytest.raises(ConfigurationError, match="k1"):  # the bucket has another canary
        make_site("filestorage", store=dataclasses.replace(settings, encryption=again)).db()
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    with pytest.raises(ConfigurationError, match="LoadCredential="):
        parsed(sys.modules["addon_keys"], *section).settings.store.encryption.ring.providers["k1"].material(None)


def test_the_source(package, make_staging, tmp_path):
    """A copy of a site reads every blob from the archive, whole and by parts, and mirrors what it read."""
    archive = tmp_path / "blobs.zip"
    addon = package("source")
    factory = parsed(addon, "<zipsource old>", f"path {archive}", "mirror on", "</zipsource>")
    [section] = factory.config.sources
    [source] = factory.settings.sources
    assert verifyObject(ISourceSection, section) and verifyObject(ISourceSettings, source)
    assert (source.options.name, source.options.type, source.options.mirror) == ("old", "zipsource", "on")
    staging = make_staging("bushy", source=lambda origin: source)
    opened = source.open(None, None)
    assert verifyObject(ISource, opened) and opened.check().mend == "correct path"
    nowhere = Revision(b"\7" * 8, b"\7" * 8, BlobState())
    with pytest.raises(Unavailable):  # not "missing": the archive is away
        opened.blob(nowhere).describe()
    with zipfile.ZipFile(archive, "w") as file:
        for (oid, tid), data in staging.origin.revisions.items():
            file.writestr(f"{oid.hex()}/{tid.hex()}", data)
    assert opened.check() is None
    for verb in (lambda blob: blob.describe(), lambda blob: blob.read(0, 1, bytearray().extend, None)):
        with pytest.raises(BlobMissing):
            verb(opened.blob(nowhere))
    db = staging.db()
    storage = db.storage
    for (oid, tid), data in staging.origin.revisions.items():
        assert storage.sources().where(oid, tid) in ("old", "bucket")
        assert Path(storage.loadBlob(oid, tid)).read_bytes() == data
    assert staging.keys()
    assert storage.sources().sources() == [{"name": "old", "type": "zipsource", "mirror": "on"}]
    with connected(db) as connection, connection.root()["large"].open() as file:
        file.seek(70_000)
        assert file.read(10) == staging.origin.revisions[_revision(connection.root()["large"])][70_000:70_010]


def _revision(blob):
    blob._p_activate()
    return blob._p_oid, blob._p_serial


def test_an_archive_that_goes_away_is_not_a_blob_that_is_gone(package, make_staging, tmp_path):
    archive = tmp_path / "none.zip"
    addon = package("source")
    [source] = parsed(addon, "<zipsource>", f"path {archive}", "</zipsource>").settings.sources
    staging = make_staging("bushy", source=lambda origin: source)
    (oid, tid), _ = next(iter(staging.origin.revisions.items()))
    with pytest.raises(StoreError) as raised:
        staging.db().storage.loadBlob(oid, tid)
    assert not isinstance(raised.value, BlobMissing)
