"""The policies of docs/addons.md, as a package: asked in a site, the one with the reader of a file in the bucket."""

from __future__ import annotations

import re
import socketserver
import struct
import sys
import threading
from pathlib import Path

import pytest
import transaction
from plone.app.testing import SITE_OWNER_NAME, login, popGlobalRegistry, pushGlobalRegistry
from plone.registry.interfaces import IRegistry
from staged_files import sent
from zope.component import getUtility
from zope.configuration import xmlconfig

from collective.s3blobstorage.interfaces import IBlobStorages
from collective.s3blobstorage.uploading.interfaces import Announced, UploadRefused
from collective.s3blobstorage.uploading.policy import check_completed, check_start

DOCUMENT = Path(__file__).parents[3] / "docs" / "addons.md"
VIRUS = b"X5O!P%@AP[4\\PZX54(P^)7CC)7}$" + b"EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
FILE = Announced("a.bin", 3_000_000, "application/octet-stream", "File")


class Clamd(socketserver.StreamRequestHandler):
    """As much of clamd as answers ``INSTREAM``: blocks with their sizes, then one of none."""

    def handle(self):
        assert self.rfile.read(10) == b"zINSTREAM\0"
        found = bytearray()
        while size := struct.unpack("!I", self.rfile.read(4))[0]:
            found += self.rfile.read(size)
        self.server.seen.append(len(found))
        self.wfile.write(b"stream: Eicar-Signature FOUND\0" if VIRUS in found else b"stream: OK\0")


@pytest.fixture
def clamd(monkeypatch):
    """The sizes of the files that it was sent."""
    with socketserver.TCPServer(("127.0.0.1", 0), Clamd) as server:
        server.seen = []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("CLAMD", f"127.0.0.1:{server.server_address[1]}")
        yield server.seen
        server.shutdown()


@pytest.fixture
def portal(functional, tmp_path, monkeypatch):
    """A site with the package, which is as its configuration has it."""
    package = tmp_path / "addon_policy"
    package.mkdir()
    for name, language in (("policies.py", "python"), ("configure.zcml", "xml")):
        [text] = re.findall(rf"^```{language} policy\n(.*?)^```$", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
        (package / name).write_text(text)
    (package / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    pushGlobalRegistry(functional["portal"])
    xmlconfig.file("configure.zcml", __import__("addon_policy"), context=functional["configurationContext"])
    login(functional["app"], SITE_OWNER_NAME)
    getUtility(IRegistry)["collective.s3blobstorage.upload_enabled"] = True
    yield functional["portal"]
    popGlobalRegistry(functional["portal"])
    for name in [name for name in sys.modules if name.startswith("addon_policy")]:
        del sys.modules[name]


def test_a_full_folder(portal, functional):
    for number in range(3):
        check_start(portal, functional["request"], FILE)
        portal.invokeFactory("File", f"file-{number}")
    with pytest.raises(UploadRefused, match="full") as refused:
        check_start(portal, functional["request"], FILE)
    assert refused.value.kind == "quota"
    check_start(portal, functional["request"], Announced("a.png", 10, "image/png", "Image"))
    transaction.abort()


@pytest.mark.parametrize("virus", [b"", VIRUS], ids=["clean", "virus"])
def test_a_scan_for_viruses(portal, functional, clamd, virus):
    """What is in the staging area goes through the reader to clamd, whole."""
    data = bytes(FILE.size - len(virus)) + virus
    area = getUtility(IBlobStorages).for_context(portal).uploads()
    upload = sent(area, data)
    with area.finish(upload).open() as reader:
        if virus:
            with pytest.raises(UploadRefused, match="virus"):
                check_completed(portal, functional["request"], FILE, reader, None)
        else:
            check_completed(portal, functional["request"], FILE, reader, None)
    area.drop(upload)
    assert clamd == [len(data)]
