"""tus and the classic add form: how often their files are copied on the way from the request into the bucket.

Each is written once by who receives it. What comes after is renaming, where the folders are on one file system.
"""

from __future__ import annotations

import io
import os
import re
import secrets
import shutil
import tempfile
import uuid
from pathlib import Path

import payloads
import pytest
from web_client import WebClient
from zope_instance import SECTION, ZopeInstance

pytestmark = pytest.mark.one_release

ELSEWHERE = Path("/dev/shm")  # noqa: S108  a file system that is not the one of the cache
BOUNDARY = "classic-form"


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    if not os.access(ELSEWHERE, os.W_OK) or ELSEWHERE.stat().st_dev == tmp_path_factory.getbasetemp().stat().st_dev:
        pytest.skip(f"{ELSEWHERE} is no second file system here")
    folder = Path(tempfile.mkdtemp(dir=ELSEWHERE))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def site(s3_server, tmp_path_factory):
    """``site(**environment)``: the same Zope, started with these folders. Gives a client and the copies it made."""
    home, cache_dir = tmp_path_factory.mktemp("tus"), tmp_path_factory.mktemp("tus-cache")
    section = SECTION.format(bucket=f"tus-{uuid.uuid4().hex[:20]}", server=s3_server, cache_dir=cache_dir, home=home)
    note = home / "copies"
    path = str(Path(__file__).parent)
    environment = {"SITES": "with", "COPIES": str(note), "PYTHONPATH": path}
    instance = ZopeInstance(
        home, cache_dir, section, password=secrets.token_urlsafe(12), environment=environment,
        filter="copies_inside:noting",
    )  # fmt: skip
    instance.make()

    def start(**folders):
        instance.stop()
        instance.environment = environment | folders
        instance.start()
        note.write_text("")
        return WebClient(instance.port, "with", ("editor", instance.password)), lambda: note.read_text().splitlines()

    yield start
    instance.stop()


def by_tus(client, payload):
    """In three requests, so that the file of the upload is appended to."""
    file = io.BytesIO(payload.data)
    return client.upload_by_tus("files", file, len(payload.data), payload.filename, payload.content_type)


def by_form(client, payload):
    """As a browser sends Plone's own form."""
    page = client.get("files/++add++File").body
    token = re.search(rb"data-token=\"([0-9a-f]+)\"", page)[1].decode()  # plone.protect puts it into the page
    fields = {"_authenticator": token, "form.widgets.title": "By form", "form.buttons.save": "Save"}
    lines = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    ]
    lines.append(
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="form.widgets.file"; filename="{payload.filename}"\r\n'
        f"Content-Type: {payload.content_type}\r\n\r\n"
    )
    body = "".join(lines).encode() + payload.data + f"\r\n--{BOUNDARY}--\r\n".encode()
    answer = client.request(
        "POST", "files/++add++File", body, {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    )
    assert answer.status == 302, answer.body[:2000]
    return client.path_of(answer.headers["Location"]).removesuffix("/view")


WAYS = {"tus": by_tus, "form": by_form}


@pytest.fixture(scope="module")
def payload(tier):
    return payloads.noise(tier["site_file_mb"], "copied.bin")


def check(client, path, payload):
    answer = client.get(f"{path}/@@download/file")
    assert payloads.fingerprint(answer.body) == payload.fingerprint


def test_on_one_file_system_nothing_is_copied(site, payload):
    client, copies = site()
    for send in WAYS.values():
        check(client, send(client, payload), payload)
    assert copies() == []


def test_a_temporary_folder_elsewhere_costs_copies(site, elsewhere, payload):
    """A tus upload goes there from its own folder and back; the file of a form is written there, and copied once."""
    client, copies = site(TMPDIR=str(elsewhere))
    made = {}
    for way, send in WAYS.items():
        before = len(copies())
        check(client, send(client, payload), payload)
        made[way] = len(copies()) - before
    assert made == {"tus": 2, "form": 1}


def test_unfinished_tus_uploads_elsewhere_cost_a_copy(site, elsewhere, payload):
    client, copies = site(TUS_TMP_FILE_DIR=str(elsewhere / "tus"))
    check(client, by_tus(client, payload), payload)
    assert len(copies()) == 1
    assert list((elsewhere / "tus").iterdir()) == []
