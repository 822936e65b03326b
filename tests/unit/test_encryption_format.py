"""The format of sealed objects, against a second implementation that knows only docs/encryption.md."""

from __future__ import annotations

import ast
import base64
import hashlib
import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from rings import ring_of
from sealed_objects import SealedObject, read_whole, seal

from collective.s3blobstorage.encryption import segments
from collective.s3blobstorage.encryption.envelope import DataKey, unwrap
from collective.s3blobstorage.encryption.ring import RingKey
from collective.s3blobstorage.encryption.segments import HEADER, SEGMENT, TAG
from collective.s3blobstorage.keys import blob_key

REPOSITORY = Path(__file__).resolve().parents[2]
FOLDER = REPOSITORY / "tests" / "data" / "encryption"
SCRIPT = FOLDER / "make_vectors.py"
DOCUMENT = (REPOSITORY / "docs" / "encryption.md").read_text()

VECTORS = json.loads((FOLDER / "vectors.json").read_text())
KEY = bytes.fromhex(VECTORS["key"])
RING = ring_of(VECTORS["id"], **{VECTORS["id"]: KEY})
theirs = runpy.run_path(str(SCRIPT))
every_vector = pytest.mark.parametrize("vector", VECTORS["objects"], ids=lambda vector: f"{vector['size']}")


def stored_of(vector: dict) -> tuple[dict, bytes]:
    """What the script makes of it: metadata and object."""
    drawn = bytes.fromhex(vector["nonce"]), bytes.fromhex(vector["data_key"])
    plain = theirs["plain_text"](vector["size"])
    return theirs["seal"](KEY, VECTORS["id"], vector["object_key"], plain, drawn[1], drawn[0])


def test_the_script_has_nothing_of_ours():
    imported = set()
    for node in ast.walk(ast.parse(SCRIPT.read_text())):
        if isinstance(node, ast.Import):
            imported.update(name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module)
    assert imported == {"base64", "hashlib", "hmac", "json", "cryptography.hazmat.primitives.ciphers.aead"}


def test_the_vectors_are_what_the_script_prints():
    printed = subprocess.run([sys.executable, "-I", SCRIPT], capture_output=True, text=True, check=True).stdout
    assert printed == (FOLDER / "vectors.json").read_text()
    assert [vector["size"] for vector in VECTORS["objects"]] == [0, 1, SEGMENT, SEGMENT + 1]


@every_vector
def test_ours_opens_theirs(vector):
    metadata, stored = stored_of(vector)
    assert metadata == vector["metadata"]
    assert (len(stored), hashlib.sha256(stored).hexdigest()) == (vector["stored_size"], vector["stored_sha256"])
    assert vector.get("stored") in ((None,) if vector["size"] > 1 else (stored.hex(),))
    found = SealedObject(vector["object_key"], metadata["sealed"], metadata["sealed-sha256"], stored)
    plain = theirs["plain_text"](vector["size"])
    assert read_whole(RING, found) == (plain, hashlib.sha256(plain).digest())


@every_vector
def test_ours_writes_what_they_write(vector):
    """But for the envelope, whose nonce is drawn."""
    metadata, stored = stored_of(vector)
    plain, key = theirs["plain_text"](vector["size"]), DataKey(bytes.fromhex(vector["data_key"]))
    assert segments.sealed(key.cipher, key.commitment, plain) == stored
    assert key.hide(hashlib.sha256(plain).digest()) == metadata["sealed-sha256"]
    assert unwrap(RING, metadata["sealed"], vector["object_key"]).commitment == key.commitment
    assert RingKey(VECTORS["id"], KEY).version == VECTORS["version"]


@pytest.mark.parametrize("size", [0, 1, 1000, SEGMENT - 1, SEGMENT, SEGMENT + 1, 3 * SEGMENT + 17])
def test_they_open_ours(size):
    key, plain, object_key = os.urandom(32), os.urandom(size), blob_key(b"\0" * 7 + b"\x17", "ab" * 16)
    ring = ring_of("k", k=key)
    made = seal(ring.active, object_key, plain, hashlib.sha256(plain).digest())
    metadata = {"sealed": made.envelope, "sealed-sha256": made.hidden}
    assert theirs["unseal"](key, object_key, metadata, made.stored) == plain
    for changed in (made.stored[:-1], made.stored + b"\0", made.stored[:-1] + bytes((made.stored[-1] ^ 1,))):
        with pytest.raises(Exception):  # noqa: B017 (its own)
            theirs["unseal"](key, object_key, metadata, changed)
    rewrapped = unwrap(ring, made.envelope, object_key).wrapped(ring.active, object_key)
    assert rewrapped != made.envelope
    assert theirs["unseal"](key, object_key, {"sealed": rewrapped}, made.stored) == plain


# The document


def code() -> list[str]:
    return re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)


def test_the_document_shows_the_scripts_core():
    core = SCRIPT.read_text().partition("# docs: from here\n")[2].partition("# docs: to here")[0]
    assert code()[0].strip() == core.strip() and "def unseal(" in core


def test_the_document_reads_an_object_by_hand(tmp_path):
    """Its two pieces of code are the whole program, with the files that its commands name."""
    key, plain, object_key = os.urandom(32), os.urandom(SEGMENT + 5), blob_key(bytes(8), "cd" * 16)
    made = seal(ring_of("k", k=key).active, object_key, plain, hashlib.sha256(plain).digest())
    (tmp_path / "unseal.py").write_text("\n".join(code()))
    (tmp_path / "key").write_text(base64.b64encode(key).decode() + "\n")
    (tmp_path / "object").write_bytes(made.stored)
    answer = {"ContentLength": len(made.stored), "Metadata": {"sealed": made.envelope, "sealed-sha256": made.hidden}}
    (tmp_path / "answer.json").write_text(json.dumps(answer))
    program = [sys.executable, "-I", "unseal.py", "key", object_key, "answer.json", "object"]
    finished = subprocess.run(program, cwd=tmp_path, capture_output=True)
    assert (finished.returncode, finished.stderr) == (0, b"") and finished.stdout == plain


def test_the_document_has_the_vector_of_one_byte():
    vector = VECTORS["objects"][1]
    shown = dict(re.findall(r"^    (key|id|object|data key|nonce|sealed|sealed-sha256|stored) +(.+)$", DOCUMENT, re.M))
    assert shown == {
        "key": VECTORS["key"],
        "id": VECTORS["id"],
        "object": vector["object_key"],
        "data key": vector["data_key"],
        "nonce": vector["nonce"],
        **vector["metadata"],
        "stored": vector["stored"],
    }


def test_the_documents_numbers():
    assert "`48 + n + 16 × max(1, ⌈n / 65536⌉)`" in DOCUMENT and (HEADER, TAG, SEGMENT) == (48, 16, 65536)
    assert "`48 + 65552 × ⌊p / 65536⌋`" in DOCUMENT and segments.SEALED_SEGMENT == 65552
    for at, size, shown in re.findall(r"^\| (\d+) \| (\d+) \| `([0-9a-f ]+)`", DOCUMENT, re.M):
        header = segments.header(bytes(32))
        assert header[int(at) : int(at) + int(size)] == bytes.fromhex(shown)
    assert len(DataKey.draw().wrapped(RING.active, "x").rpartition(" ")[2]) == 80
    assert len(DataKey.draw().hide(bytes(32))) == 64
