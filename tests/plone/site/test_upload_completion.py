"""What is uploaded straight to the bucket becomes content: over HTTP, in a Zope whose traffic with it is seen."""

from __future__ import annotations

import base64
import hashlib
import io
import itertools
import json
import math
import os
import random
import secrets
import shutil
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import payloads
import pytest
from direct_upload import begin, complete, send, send_to_store, upload
from fixtures_servers import s3_client
from payloads import Payload
from PIL import Image
from rest_examples import exchanges, form
from rings import client_side, section_of, variables_of
from servers import faults
from servers.process import ServerProcess, free_port
from servers.proxy import Proxy
from web_client import Answer, WebClient, json_file
from zope_instance import ZOPE_CONF, ZopeInstance

from collective.s3blobstorage.directupload.interfaces import Swept
from collective.s3blobstorage.directupload.sweeping import LATE, sweep
from collective.s3blobstorage.objectstore import open_store
from collective.s3blobstorage.objectstore.interfaces import IObjectStore
from collective.s3blobstorage.settings import StoreSettings

pytestmark = pytest.mark.one_release

SECTION = """\
  <s3blobstorage>
    bucket-name {bucket}
    s3-prefix plone/site
    s3-endpoint-url {endpoint}
    s3-public-endpoint-url {server.endpoint_url}
    s3-region {server.region}
    s3-access-key {server.access_key}
    s3-secret-key {server.secret_key}
    s3-addressing-style path
    create-bucket on
    owner tests
    cache-dir {home}/cache
    outage-patience 2s
    {encryption}
    {base}
  </s3blobstorage>"""
FILESTORAGE = """<filestorage>
      path {home}/var/Data.fs
    </filestorage>"""
ZEO = """<zeoclient>
      server 127.0.0.1:{port}
    </zeoclient>"""
RELSTORAGE = """<relstorage>
      <sqlite3>
        data-dir {home}/var/sqlite
      </sqlite3>
    </relstorage>"""
ZCML = """
  <browser:page name="ready" for="*" class="completion_inside.MakeReady" permission="zope2.ViewManagementScreens" />
  <browser:page name="roles" for="*" class="completion_inside.Roles" permission="zope2.ViewManagementScreens" />
  <browser:page name="constrain" for="*" class="completion_inside.Constrain" permission="zope2.ViewManagementScreens" />
  <subscriber factory="completion_inside.Policy" />
  <subscriber handler="completion_inside.created" />
  <subscriber handler="completion_inside.added" />
"""
JSON = {"Accept": "application/json", "Content-Type": "application/json"}
PREFIX = "plone/site/"
LITTLE = 200_000  # bytes between Zope and the store for a completion, heads not counted: nothing beside 20 MB


@dataclass
class Site:
    """The site with the add-on, and its bucket."""

    zope: ZopeInstance
    between: Proxy
    client: Any
    bucket: str
    store: IObjectStore

    def __post_init__(self) -> None:
        self.editor = self.as_user("editor")
        self.other = self.as_user("other")
        self.admin = self.as_user("admin")

    def as_user(self, name: str) -> WebClient:
        return WebClient(self.zope.port, "with", (name, self.zope.password))

    def folder(self) -> str:
        """A new one, of the editor."""
        return self.editor.add("files", "Folder", f"f-{uuid.uuid4().hex[:12]}")

    def inside(self, path: str, **form: str) -> None:
        """One of the views of ``completion_inside.py``."""
        answer = self.admin.get(f"{path}?{urlencode(form)}")
        assert answer.status == 200, answer.body[-2000:]

    def allow(self, allowed: bool) -> None:
        self.admin.api("PATCH", "@registry", {"collective.s3blobstorage.upload_enabled": allowed}, expect=204)

    def keys(self, under: str = "") -> dict[str, int]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=PREFIX + under)
        return {entry["Key"]: entry["Size"] for page in pages for entry in page.get("Contents", ())}

    def staged(self) -> tuple[set[str], int]:
        """What lies in the staging area, and how many multipart uploads are unfinished."""
        open_ = self.client.list_multipart_uploads(Bucket=self.bucket).get("Uploads", ())
        return set(self.keys("uploads/")), len(open_)

    def names(self, folder: str) -> list[str]:
        return [item["@id"] for item in self.admin.api("GET", folder, expect=200)["items"]]

    def file(self, told: dict[str, Any], field: str = "file") -> bytes:
        answer = self.editor.get(f"{self.editor.path_of(told['@id'])}/@@download/{field}")
        assert answer.status == 200
        return answer.body


def a_zope(home: Path, section: str, password: str, environment: dict[str, str], zcml: str = ZCML) -> ZopeInstance:
    return ZopeInstance(
        home, home / "cache", section, password=password, zcml=zcml,
        environment={"PYTHONPATH": str(Path(__file__).parent), "SITES": "with", **environment},
        zope_conf="%import relstorage\n%import ZEO\n" + ZOPE_CONF.format(home=home, storage=section),
    )  # fmt: skip


def make_site(
    s3_server,
    home: Path,
    encryption: str = "",
    environment: dict[str, str] | None = None,
    base: str = FILESTORAGE,
    zcml: str = ZCML,
) -> Iterator[Site]:
    """``base``: the section of the storage below ours."""
    bucket = f"completion-{uuid.uuid4().hex[:20]}"
    client = s3_client(s3_server)
    with Proxy(s3_server.endpoint_url) as between:
        section = SECTION.format(
            bucket=bucket, endpoint=between.endpoint_url, server=s3_server, home=home, encryption=encryption,
            base=base.replace("{home}", str(home)),
        )  # fmt: skip
        zope = a_zope(home, section, secrets.token_urlsafe(12), environment or {}, zcml)
        settings = StoreSettings(
            bucket, "plone/site", s3_server.endpoint_url, region=s3_server.region, addressing_style="path",
            access_key=s3_server.access_key, secret_key=s3_server.secret_key,
        )  # fmt: skip
        with closing(open_store(settings)) as store:
            zope.make()
            zope.start()
            try:
                site = Site(zope, between, client, bucket, store)
                site.inside("@@ready", password=zope.password)
                site.allow(True)
                yield site
            finally:
                zope.stop()
    client.close()


@pytest.fixture(scope="module")
def site(s3_server, tmp_path_factory) -> Iterator[Site]:
    yield from make_site(s3_server, tmp_path_factory.mktemp("completion"))


@pytest.fixture
def folder(site) -> str:
    site.between.forgive()
    drop_staged(site)
    return site.folder()


def refused(answer: Answer, status: int, word: str = "") -> None:
    assert answer.status == status, answer.body[:2000]
    assert word in answer.body.decode(), answer.body[:2000]


def jpeg(orientation: int) -> Payload:
    """A picture of 600 x 400 that is to be turned before it is shown."""
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.effect_noise((600, 400), 90).convert("RGB").save(file, "JPEG", exif=exif)
    return Payload("turned.jpg", "image/jpeg", file.getvalue())


def test_a_file_in_parts_becomes_content_byte_for_byte(site, folder, tier):
    film = replace(payloads.noise(tier["direct_mb"]), filename="Der Film.bin")
    begun = begin(site.editor, folder, film, **{"@type": "File"})
    assert begun["method"] == "multipart" and begun["parts"] > 1
    send(site.editor, begun, film.data)
    blobs = site.keys("blobs/")
    site.between.reset()
    answer = complete(site.editor, begun, description="of a journey")
    assert answer.status == 201, answer.body[:2000]
    told, traffic = answer.json, site.between.exchanges
    assert sum(exchange.bytes_up + exchange.bytes_down for exchange in traffic) < LITTLE
    assert Counter(exchange.operation for exchange in traffic)["CopyObject"] == 1
    assert answer.headers["Location"] == told["@id"] and told["@id"].startswith(f"{site.editor.url}/{folder}/")
    assert (told["filename"], told["size"], told["content-type"]) == (film.filename, len(film.data), film.content_type)
    assert (told["@type"], told["field"], told["title"]) == ("File", "file", film.filename)
    assert site.file(told) == film.data
    made = site.editor.api("GET", site.editor.path_of(told["@id"]), expect=200)
    assert made["UID"] == told["UID"] and made["description"] == "of a journey" and made["id"] == "der-film.bin"
    assert [size for key, size in site.keys("blobs/").items() if key not in blobs] == [len(film.data)]
    assert site.staged() == (set(), 0)


@pytest.mark.ceph
@pytest.mark.large
def test_what_one_copy_cannot_take(request, tmp_path, tier):
    """Over 5 GiB, on Ceph: the store copies it in parts. Neither Zope nor this test ever has it whole."""
    size = tier["direct_on_ceph_mb"] * 2**20 + 12345
    if not tier["direct_on_ceph_mb"]:
        pytest.skip(f"tier {tier.name} leaves out what is over 5 GiB; tier full runs it")
    if shutil.disk_usage(tmp_path).free < 3 * size:
        pytest.skip(f"{3 * size >> 20} MB of disk are needed")
    for site in make_site(request.getfixturevalue("ceph"), tmp_path):
        folder = site.folder()
        announced = {"filename": "film.bin", "size": size, "content-type": "video/mp4", "@type": "File"}
        site.between.reset()
        begun = site.editor.api("POST", f"{folder}/@blob-upload", announced, expect=201)
        signed, each = {one["part"]: one for one in begun["requests"]}, begun["part-size"]
        for number in range(1, begun["parts"] + 1):
            if number not in signed:
                more = {"parts": list(range(number, min(number + 100, begun["parts"] + 1)))}
                told = site.editor.api("PUT", site.editor.path_of(begun["@id"]), more, expect=200)
                signed |= {one["part"]: one for one in told["requests"]}
            assert send_to_store(signed[number], some_bytes(number, signed[number]["size"])) == 200
        answer = complete(site.editor, begun)
        assert answer.status == 201, answer.body[:2000]
        assert answer.json["size"] == size
        assert sum(exchange.bytes_up + exchange.bytes_down for exchange in site.between.exchanges) < LITTLE
        assert {"UploadPartCopy"} <= {exchange.operation for exchange in site.between.exchanges}
        (key,) = site.keys("blobs/")
        found = site.client.get_object(Bucket=site.bucket, Key=key)["Body"]
        for number in range(1, begun["parts"] + 1):
            assert found.read(signed[number]["size"]) == some_bytes(number, signed[number]["size"]), number
        assert found.read() == b"" and each * (begun["parts"] - 1) < size
        assert site.staged() == (set(), 0)


def some_bytes(number: int, size: int) -> bytes:
    """The same for the same part, and others for any other one."""
    return random.Random(number).randbytes(size)


def test_the_example_of_the_documentation(site):
    """It goes on with the upload that the document begins."""
    begins, *_, completes = (one for one in exchanges("@blob-upload") if one.method == "POST" and one.status == 201)
    site.admin.add("", "Folder", "videos")
    film = Payload(begins.body["filename"], begins.body["content-type"], bytes(begins.body["size"]))
    begun = upload(site.admin, "videos", film, **{"@type": begins.body["@type"]})
    answer = complete(site.admin, begun, **completes.body)
    assert answer.status == 201 and form(answer.json) == form(completes.answer)
    told = answer.json | {name: completes.answer[name] for name in ("@id", "UID")}
    assert told == completes.answer
    assert answer.headers["Location"] == answer.json["@id"] == f"{site.admin.url}/videos/harvest.mp4"


def test_a_small_file_in_one_request(site, folder):
    small = Payload("small.bin", "application/octet-stream", secrets.token_bytes(5000))
    begun = upload(site.editor, folder, small, method="put", **{"@type": "File"})
    assert begun["method"] == "put"
    answer = complete(site.editor, begun, id="chosen", title="A title")
    assert answer.status == 201, answer.body[:2000]
    assert answer.json["@id"] == f"{site.editor.url}/{folder}/chosen" and answer.json["title"] == "A title"
    assert site.file(answer.json) == small.data and site.staged() == (set(), 0)


def test_a_completion_that_is_repeated(site, folder):
    small = Payload("small.bin", "application/octet-stream", secrets.token_bytes(5000))
    begun = upload(site.editor, folder, small, **{"@type": "File"})
    first, second = (complete(site.editor, begun) for _ in range(2))
    assert (first.status, second.status) == (201, 200) and first.json == second.json
    assert len(site.names(folder)) == 1
    site.editor.api("DELETE", site.editor.path_of(first.json["@id"]), expect=204)
    refused(complete(site.editor, begun), 404)


def at_once(*asked: tuple[WebClient, dict[str, Any]], happening: str = "") -> list[Answer]:
    """What each client gets that completes an upload, all at the same time."""
    with ThreadPoolExecutor(len(asked)) as pool:
        return list(pool.map(lambda pair: complete(*pair, happening), asked))


def test_two_completions_at_once_make_one_content(site, folder):
    """Both have looked at the staged object when the first one goes on."""
    small = Payload("small.bin", "application/octet-stream", secrets.token_bytes(5000))
    begun, blobs = upload(site.editor, folder, small, **{"@type": "File"}), site.keys("blobs/")
    answers = at_once(*[(site.editor, begun)] * 2, happening="meet")
    assert sorted(answer.status for answer in answers) == [200, 201], [answer.body[:500] for answer in answers]
    assert answers[0].json == answers[1].json
    assert len(site.names(folder)) == 1 and site.file(answers[0].json) == small.data
    gone(site, blobs, 1)


def another_request(site: Site, port: int) -> str:
    """Where, and as whom, ``completion_inside.complete_meanwhile`` completes it."""
    user = base64.b64encode(":".join(site.editor.user).encode()).decode()
    headers = {**JSON, "Host": f"localhost:{port}", "Authorization": f"Basic {user}"}
    return json.dumps([f"127.0.0.1:{port}", headers])


@pytest.mark.parametrize("when", ["during", "afterwards"])
def test_completed_by_another_request_meanwhile(site, folder, when):
    """Which has dropped what this one looks for, or has looked at and would copy: it answers with what there is."""
    small = Payload("small.bin", "application/octet-stream", secrets.token_bytes(5000))
    begun, blobs = upload(site.editor, folder, small, **{"@type": "File"}), site.keys("blobs/")
    answer = complete(site.editor, begun, f"{when}:{another_request(site, site.zope.port)}")
    assert answer.status == 200, answer.body[:2000]
    assert len(site.names(folder)) == 1 and site.file(answer.json) == small.data
    gone(site, blobs, 1)


@pytest.mark.parametrize("when", ["during", "afterwards"])
@pytest.mark.parametrize("method", ["put", "multipart"])
def test_cancelled_by_another_request_meanwhile(site, folder, when, method):
    small = Payload("small.bin", "application/octet-stream", secrets.token_bytes(5000))
    begun, blobs = upload(site.editor, folder, small, method=method, **{"@type": "File"}), site.keys("blobs/")
    answer = complete(site.editor, begun, f"cancelled-{when}:{another_request(site, site.zope.port)}")
    refused(answer, 410)
    assert answer.json["error"]["reason"] == "ended" and site.names(folder) == []
    gone(site, blobs, 0)


def test_what_was_uploaded_goes_meanwhile(site, folder):
    """Nobody knows yet by whom: of another process behind ZEO that is seen a little later."""
    begun, blobs = upload(site.editor, folder, CLIP, **{"@type": "File"}), site.keys("blobs/")
    site.between.fail(faults.answer(404, "NoSuchKey"), method="PUT", target="blobs/")
    refused(complete(site.editor, begun), 409, "another request completes it or cancels it")
    nothing_happened(site, folder, blobs)
    assert complete(site.editor, begun).status == 201


def test_parts_that_are_not_the_announced_file(site, folder):
    """Nobody can mend them, and they are read once: the upload is over."""
    blobs, other = site.keys("blobs/"), hashlib.sha256(b"another file").hexdigest()
    begun = upload(site.editor, folder, CLIP, method="multipart", sha256=other, **{"@type": "File"})
    answer = complete(site.editor, begun)
    refused(answer, 422, "its SHA-256 differs")
    assert answer.json["error"]["reason"] == "sha256" and site.names(folder) == []
    gone(site, blobs, 0)
    site.between.reset()
    refused(complete(site.editor, begun), 410)
    assert not site.between.exchanges


def test_a_part_that_is_sent_again_while_they_are_put_together(site, folder):
    begun, blobs = upload(site.editor, folder, CLIP, method="multipart", **{"@type": "File"}), site.keys("blobs/")
    site.between.fail(faults.answer(400, "InvalidPart"), method="POST", target="uploadId=")
    answer = complete(site.editor, begun)
    refused(answer, 400, "sent again")
    assert answer.json["error"]["incomplete"] is True and set(site.keys("blobs/")) == set(blobs)
    assert complete(site.editor, begun).status == 201


def test_parts_of_a_size_that_cannot_be_are_refused_before_anything_is_begun(site, folder):
    """Uppy cuts files by itself; the store is not asked at all."""
    metadata = {"size": 5000, "@type": "File", "part-size": 1000}
    body = json.dumps({"filename": "a.bin", "type": "video/mp4", "metadata": metadata}).encode()
    site.between.reset()
    answer = site.editor.request("POST", f"{folder}/@blob-upload/companion/s3/multipart", body, JSON)
    refused(answer, 400, "part-size is not from 5242880")
    assert not site.between.exchanges


def gone(site: Site, before: dict[str, int], left: int, staged: int = 0) -> None:
    """So many objects more than before are left, and so many in the staging area. Deletions are in the background."""
    for _ in range(100):
        new = set(site.keys("blobs/")) - set(before)
        if len(new) == left:
            break
        time.sleep(0.1)
    assert len(new) == left
    objects, unfinished = site.staged()
    assert (len(objects), unfinished) == (staged, 0)


def test_a_conflict_is_done_over(site, folder):
    small = Payload("small.bin", "application/octet-stream", secrets.token_bytes(5000))
    begun, blobs = upload(site.editor, folder, small, **{"@type": "File"}), site.keys("blobs/")
    site.between.reset()
    answer = complete(site.editor, begun, f"conflict:{uuid.uuid4().hex}")
    assert answer.status == 201, answer.body[:2000]
    assert site.between.counts("blobs/")["CopyObject"] == 2
    assert site.file(answer.json) == small.data and len(site.names(folder)) == 1
    gone(site, blobs, 1)


def test_an_image_has_its_size_and_its_scales_at_once(site, folder):
    picture = payloads.png()
    begun = upload(site.editor, folder, picture, **{"@type": "Image"})
    answer = complete(site.editor, begun)
    assert answer.status == 201, answer.body[:2000]
    path = site.editor.path_of(answer.json["@id"])
    told = site.editor.api("GET", path, expect=200)["image"]
    assert (told["width"], told["height"], told["size"]) == (900, 600, len(picture.data))
    assert site.file(answer.json, "image") == picture.data
    scale = site.editor.get(f"{path}/@@images/image/preview")
    assert scale.status == 200 and Image.open(io.BytesIO(scale.body)).size == (400, 266)


def test_an_image_that_has_to_be_turned(site, folder):
    picture, blobs = jpeg(6), site.keys("blobs/")
    answer = complete(site.editor, upload(site.editor, folder, picture, **{"@type": "Image"}))
    assert answer.status == 201, answer.body[:2000]
    path = site.editor.path_of(answer.json["@id"])
    told = site.editor.api("GET", path, expect=200)["image"]
    data = site.file(answer.json, "image")
    assert (told["width"], told["height"], told["size"]) == (400, 600, len(data)) == (400, 600, answer.json["size"])
    assert Image.open(io.BytesIO(data)).size == (400, 600)
    assert Image.open(io.BytesIO(site.editor.get(f"{path}/@@images/image/thumb").body)).size == (85, 128)
    gone(site, blobs, 2)  # it, and its scale; not what was copied first


def searchable(site: Site, word: str, folder: str) -> list[str]:
    found = site.admin.api(
        "GET", f"@search?{urlencode({'SearchableText': word, 'path': f'/with/{folder}'})}", expect=200
    )
    return [item["@id"] for item in found["items"]]


def test_a_text_is_found_by_its_words_at_once(site, folder):
    word = f"w{uuid.uuid4().hex}"
    text = Payload("notes.txt", "text/plain", f"some notes about {word}".encode())
    answer = complete(site.editor, upload(site.editor, folder, text, **{"@type": "File"}))
    assert answer.status == 201 and searchable(site, word, folder) == [answer.json["@id"]]


@pytest.mark.skipif(not shutil.which("pdftotext"), reason="no pdftotext: poppler-utils is not installed")
def test_a_pdf_is_found_by_its_words_at_once(site, folder):
    word = f"w{uuid.uuid4().hex}"
    answer = complete(site.editor, upload(site.editor, folder, payloads.written_pdf(word), **{"@type": "File"}))
    assert answer.status == 201 and searchable(site, word, folder) == [answer.json["@id"]]


def test_a_subscriber_reads_the_file_before_the_commit(site, folder):
    film = payloads.noise(9)
    answer = complete(site.editor, upload(site.editor, folder, film, **{"@type": "File"}), "hash")
    assert answer.status == 201, answer.body[:2000]
    made = site.editor.api("GET", site.editor.path_of(answer.json["@id"]), expect=200)
    assert made["description"] == hashlib.sha256(film.data).hexdigest() and site.file(answer.json) == film.data


def test_savepoints_of_a_policy(site, folder):
    small = Payload("small.bin", "application/octet-stream", secrets.token_bytes(5000))
    answer = complete(site.editor, upload(site.editor, folder, small, **{"@type": "File"}), "savepoints")
    assert answer.status == 201 and site.file(answer.json) == small.data


def test_a_policy_reads_what_is_there(site, folder):
    film = payloads.noise(9)
    begun = upload(site.editor, folder, film, **{"@type": "File"})
    answer = complete(site.editor, begun, f"read:{hashlib.sha256(film.data).hexdigest()}")
    assert answer.status == 201, answer.body[:2000]


def test_what_a_policy_refuses_is_gone(site, folder):
    small = Payload("small.bin", "application/octet-stream", secrets.token_bytes(5000))
    begun, blobs = upload(site.editor, folder, small, **{"@type": "File"}), site.keys("blobs/")
    answer = complete(site.editor, begun, "refuse")
    refused(answer, 422, "There is a virus in it.")
    assert answer.json["error"]["reason"] == "virus"
    gone(site, blobs, 0)
    assert site.names(folder) == []
    assert complete(site.editor, begun).status in (404, 410)


def test_replaced_in_place_with_its_history(site, folder):
    """Types that keep versions keep the file of before: it is undone by reverting."""
    old, new = payloads.noise(1), payloads.noise(1, "newer.bin")
    path = site.editor.add(folder, "File", "versioned", file=json_file(old.data, old.filename, old.content_type))
    begun = upload(site.editor, path, new, field="file", replace=True)
    site.between.reset()
    answer = complete(site.editor, begun, title="A newer one")
    assert answer.status == 200, answer.body[:2000]
    assert sum(exchange.bytes_up + exchange.bytes_down for exchange in site.between.exchanges) < LITTLE
    assert answer.json["@id"] == f"{site.editor.url}/{path}" and answer.json["title"] == "A newer one"
    assert site.file(answer.json) == new.data and answer.json["filename"] == "newer.bin"
    repeated = complete(site.editor, begun)
    assert repeated.status == 200 and repeated.json == answer.json
    versions = site.editor.api("GET", f"{path}/@history", expect=200)
    numbers = [entry["version"] for entry in versions if entry["type"] == "versioning"]
    assert numbers == [1, 0]
    site.editor.api("PATCH", f"{path}/@history", {"version": 0}, expect=200)
    assert site.file(answer.json) == old.data


CLIP = Payload("clip.bin", "application/octet-stream", b"clip" * 1000)
WRONG_FIELDS = {
    "a required field": ({}, "clip.bin", "speaker"),
    "null in it": ({"speaker": None}, "clip.bin", "speaker"),
    "a wrong type": ({"speaker": 7}, "clip.bin", "speaker"),
    "an invariant": ({"speaker": "long"}, "long.bin", "a long clip of a long speaker"),
    "the file itself": ({"speaker": "x", "clip": "text"}, "clip.bin", "clip"),
    "its UID": ({"speaker": "x", "UID": "0" * 32}, "clip.bin", "UID"),
    "another type": ({"speaker": "x", "@type": "File"}, "clip.bin", "@type"),
    "an id that is none": ({"speaker": "x", "id": ["a"]}, "clip.bin", "id"),
    "an id that is reserved": ({"speaker": "x", "id": "@@x"}, "clip.bin", ""),
}


@pytest.mark.parametrize("case", WRONG_FIELDS)
def test_values_that_are_wrong(site, folder, case):
    fields, filename, word = WRONG_FIELDS[case]
    clip, blobs = replace(CLIP, filename=filename), site.keys("blobs/")
    begun = upload(site.editor, folder, clip, **{"@type": "Clip"})
    refused(complete(site.editor, begun, **{"title": "A clip", **fields}), 400, word)
    nothing_happened(site, folder, blobs)
    answer = complete(site.editor, begun, title="A clip", speaker="somebody", id="clip")
    assert answer.status == 201 and site.file(answer.json, "clip") == clip.data


def nothing_happened(site: Site, folder: str, blobs: dict[str, int]) -> None:
    """No content, no object of it in the end; what was uploaded is there for another try."""
    assert site.names(folder) == []
    gone(site, blobs, 0, staged=1)


def test_a_constraint_of_the_field(site, folder):
    blobs = site.keys("blobs/")
    gif = io.BytesIO()
    Image.new("P", (9, 9)).save(gif, "GIF")
    begun = upload(site.editor, folder, Payload("a.gif", "image/gif", gif.getvalue()), **{"@type": "Clip"})
    refused(complete(site.editor, begun, title="A clip", speaker="x"), 400, "clip")
    nothing_happened(site, folder, blobs)
    site.editor.api("DELETE", site.editor.path_of(begun["@id"]), expect=204)


def test_a_field_that_may_not_be_written_any_more(site, folder):
    """Its permission is another one than that of its content."""
    path = site.editor.add(folder, "Clip", "clip", speaker="x", clip=json_file(b"old", "old.bin", "application/x-old"))
    blobs = site.keys("blobs/")
    site.inside(f"{path}/@@roles", roles="Editor Manager")
    begun = upload(site.editor, path, CLIP, field="master", replace=True)
    site.inside(f"{path}/@@roles", roles="Editor")
    refused(complete(site.editor, begun), 403, "master")
    gone(site, blobs, 0, staged=1)
    refused(ask_to_begin(site, path, field="master", replace=True), 403, "master")
    site.inside(f"{path}/@@roles", roles="Editor Manager")
    answer = complete(site.editor, begun)
    assert answer.status == 200 and site.file(answer.json, "master") == CLIP.data


def ask_to_begin(site: Site, path: str, **more: Any) -> Answer:
    asked = {"filename": "m.bin", "size": 4, "content-type": "application/octet-stream", **more}
    return site.editor.request("POST", f"{path}/@blob-upload", json.dumps(asked).encode(), JSON)


def test_a_field_outside_of_blobs(site, folder):
    path = site.editor.add(folder, "Clip", "clip", speaker="x", clip=json_file(b"old", "old.bin", "application/x-old"))
    refused(ask_to_begin(site, path, field="kept", replace=True), 400, "there are: clip, master")


def test_types_that_the_folder_does_not_take_any_more(site, folder):
    blobs = site.keys("blobs/")
    begun = upload(site.editor, folder, CLIP, **{"@type": "File"})
    site.inside(f"{folder}/@@constrain", types="Image")
    refused(complete(site.editor, begun), 403, "portal-type")
    nothing_happened(site, folder, blobs)
    site.inside(f"{folder}/@@constrain")
    assert complete(site.editor, begun).status == 201


def test_whoever_may_not_add_any_more(site, folder):
    blobs = site.keys("blobs/")
    begun = upload(site.editor, folder, CLIP, **{"@type": "File"})
    site.inside("files/@@roles", roles="Reader")
    site.inside(f"{folder}/@@roles")
    answer = complete(site.editor, begun)
    site.inside("files/@@roles", roles="Contributor Editor Reader")
    refused(answer, 403)
    nothing_happened(site, folder, blobs)
    assert complete(site.editor, begun).status == 201


def test_whoever_may_not_change_it_any_more(site, folder):
    path = site.editor.add(folder, "File", "file", file=json_file(b"old", "old.bin", "application/x-old"))
    begun = upload(site.editor, path, CLIP, field="file", replace=True)
    site.inside("files/@@roles", roles="Reader")
    for place in (folder, path):
        site.inside(f"{place}/@@roles", roles="Reader")
    answer = complete(site.editor, begun)
    site.inside("files/@@roles", roles="Contributor Editor Reader")
    refused(answer, 403)
    assert site.file({"@id": f"{site.editor.url}/{path}"}) == b"old"
    assert complete(site.editor, begun).status == 200


def test_locked_by_another(site, folder):
    path = site.editor.add(folder, "Clip", "clip", speaker="x", clip=json_file(b"old", "old.bin", "application/x-old"))
    site.inside(f"{path}/@@roles", roles="Editor")
    begun = upload(site.editor, path, CLIP, field="clip", replace=True)
    site.other.api("POST", f"{path}/@lock", {}, expect=200)
    refused(complete(site.editor, begun), 403, "locked")
    assert site.file({"@id": f"{site.editor.url}/{path}"}, "clip") == b"old"
    site.other.api("DELETE", f"{path}/@lock", {}, expect=200)
    answer = complete(site.editor, begun)
    assert answer.status == 200 and site.file(answer.json, "clip") == CLIP.data


@pytest.mark.parametrize("what", ["container", "content"])
def test_removed_meanwhile(site, folder, what):
    inner = site.editor.add(folder, "Folder", "inner")
    path, more = inner, {"@type": "File"}
    if what == "content":
        path = site.editor.add(inner, "File", "file", file=json_file(b"old", "old.bin", "application/x-old"))
        more = {"field": "file", "replace": True}
    begun = upload(site.editor, path, CLIP, **more)
    site.editor.api("DELETE", path, expect=204)
    refused(complete(site.editor, begun), 404)
    drop_staged(site)


def drop_staged(site: Site) -> None:
    """What a test leaves there on purpose."""
    for key in site.staged()[0]:
        site.client.delete_object(Bucket=site.bucket, Key=key)


def test_swapped_after_it_was_checked(site, folder):
    """By the signed request, which is good for a while yet: what is attached is what was looked at, or nothing."""
    blobs = site.keys("blobs/")
    begun = upload(site.editor, folder, CLIP, **{"@type": "File"})
    refused(complete(site.editor, begun, f"swap:{json.dumps(begun['request'])}"), 409, "changed after it was checked")
    nothing_happened(site, folder, blobs)
    answer = complete(site.editor, begun)  # it is looked at anew
    assert answer.status == 201 and site.file(answer.json) == b"x" * len(CLIP.data)


@pytest.mark.parametrize("what", ["nothing", "too short", "too long", "a part is missing"])
def test_what_is_not_all_there(site, folder, what):
    """The store refuses what is of another size than was announced; what it does not have is asked for."""
    blobs = site.keys("blobs/")
    payload = payloads.noise(20) if what == "a part is missing" else CLIP
    begun = begin(site.editor, folder, payload, **{"@type": "File"})
    if what == "a part is missing":
        first = begun["requests"][0]
        assert send_to_store(first, payload.data[: begun["part-size"]]) == 200
    elif what != "nothing":
        data = CLIP.data[:-1] if what == "too short" else CLIP.data + b"x"
        assert send_to_store(begun["request"], data) in (400, 403)
    refused(complete(site.editor, begun), 400)
    assert site.names(folder) == [] and set(site.keys("blobs/")) == set(blobs) and site.staged()[0] == set()
    send(site.editor, begun, payload.data)
    answer = complete(site.editor, begun)
    assert answer.status == 201 and site.file(answer.json) == payload.data


SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'


@pytest.mark.parametrize("type_", ["Image", "File"])
def test_what_a_browser_would_run_is_no_picture(site, folder, type_):
    blobs = site.keys("blobs/")
    begun = upload(site.editor, folder, Payload("a.jpg", "image/jpeg", SVG), **{"@type": type_})
    refused(complete(site.editor, begun), 422)
    gone(site, blobs, 0)
    assert site.names(folder) == []
    assert complete(site.editor, begun).status in (404, 410)


def test_the_name_does_not_decide_about_the_type(site, folder):
    """plone.namedfile would make text/html of it, for its name."""
    page = Payload("a.html", "application/octet-stream", b"\x00\x01binary" * 50)
    answer = complete(site.editor, upload(site.editor, folder, page, **{"@type": "File"}))
    assert answer.status == 201 and answer.json["content-type"] == "application/octet-stream"


def test_direct_upload_is_switched_off_meanwhile(site, folder):
    blobs = site.keys("blobs/")
    begun = upload(site.editor, folder, CLIP, **{"@type": "File"})
    site.allow(False)
    answer = complete(site.editor, begun)
    site.allow(True)
    assert 400 <= answer.status < 500, answer.body[:2000]
    nothing_happened(site, folder, blobs)
    assert complete(site.editor, begun).status == 201


@pytest.mark.parametrize("foreign", [{"Content-Type": "text/plain"}, {"Origin": "https://evil.example.com"}])
def test_a_foreign_page_completes_nothing(site, folder, foreign):
    blobs = site.keys("blobs/")
    begun = upload(site.editor, folder, CLIP, **{"@type": "File"})
    answer = site.editor.request("POST", site.editor.path_of(begun["@id"]), b"{}", {**JSON, **foreign})
    assert answer.status in (403, 415)
    nothing_happened(site, folder, blobs)
    site.editor.api("DELETE", site.editor.path_of(begun["@id"]), expect=204)


def requests_of(site: Site, folder: str) -> int:
    """How many a completion makes, of its thread and its background."""
    begun = upload(site.editor, folder, CLIP, **{"@type": "File"})
    site.between.reset()
    assert complete(site.editor, begun).status == 201
    return len(site.between.exchanges)


def test_the_store_fails_in_any_of_the_requests(site, folder):
    """The answer is an error, nothing is attached, and completing once more makes the content. But for what is asked
    after the commit: then it is complete, and what is left in the staging area is swept."""
    done = []
    for nth in range(1, requests_of(site, folder) + 1):
        place, blobs = site.folder(), site.keys("blobs/")
        begun = upload(site.editor, place, CLIP, **{"@type": "File"})
        site.between.fail(faults.answer(403, "AccessDenied"), nth=nth, times=1)
        answer = complete(site.editor, begun)
        site.between.forgive()
        if answer.status == 201:
            done.append(nth)
            assert site.file(answer.json) == CLIP.data
            drop_staged(site)
            continue
        refused(answer, 502)
        nothing_happened(site, place, blobs)
        again = complete(site.editor, begun)
        assert again.status == 201 and site.file(again.json) == CLIP.data
    assert done and min(done) > 2  # looking, reading and copying come before


def test_the_store_is_out(site, folder):
    blobs = site.keys("blobs/")
    begun = upload(site.editor, folder, CLIP, **{"@type": "File"})
    site.between.fail(faults.answer(503), times=math.inf)
    answer = complete(site.editor, begun)
    site.between.forgive()
    refused(answer, 503)
    # After an outage the store is asked again each second.
    answers = (complete(site.editor, begun) for _ in iter(lambda: time.sleep(0.5), 0))
    answer = next(answer for answer in itertools.islice(answers, 60) if answer.status != 503)
    assert answer.status == 201 and site.file(answer.json) == CLIP.data and len(site.names(folder)) == 1
    gone(site, blobs, 1)


@pytest.mark.parametrize(("fault", "status"), [(faults.answer(403, "AccessDenied"), 502), (faults.answer(503), 503)])
def test_the_store_fails_in_the_commit(site, folder, fault, status):
    """Which sends the picture that was turned, behind the service's answer."""
    picture, blobs = jpeg(6), site.keys("blobs/")
    begun = upload(site.editor, folder, picture, **{"@type": "Image"})
    site.between.fail(fault, method="PUT", target="blobs/", nth=2, times=math.inf)
    answer = complete(site.editor, begun)
    site.between.forgive()
    refused(answer, status)
    assert answer.headers["Location"] is None
    assert set(answer.json) == {"error"} and set(answer.json["error"]) == {"type", "message"}
    assert answer.headers["Content-Type"].startswith("application/json")
    assert answer.headers.get_all("Cache-Control") == ["no-store"]
    assert site.names(folder) == [] and len(site.staged()[0]) == 1
    if status == 502:  # a store that is out is asked to delete nothing: what was copied is gc's
        gone(site, blobs, 0, staged=1)
    answers = (complete(site.editor, begun) for _ in iter(lambda: time.sleep(0.5), 0))
    answer = next(answer for answer in itertools.islice(answers, 60) if answer.status != 503)
    assert answer.status == 201 and len(site.names(folder)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("step", ["checked", "created", "added", "voted", "committed"])
def test_killed(site, folder, step):
    """-9, between two steps of a completion. What was uploaded is there, and completing it once more makes the content;
    after the commit it answers with what was made."""
    begun, blobs = upload(site.editor, folder, CLIP, **{"@type": "File"}), site.keys("blobs/")
    with pytest.raises(OSError):
        complete(site.editor, begun, f"kill-{step}")
    site.zope.stop()
    site.zope.start()
    assert len(site.names(folder)) == (step == "committed")
    answer = complete(site.editor, begun)
    assert answer.status == (200 if step == "committed" else 201), answer.body[:2000]
    assert site.file(answer.json) == CLIP.data and len(site.names(folder)) == 1
    # What was copied for nothing has no record that names it: gc's, when it is old enough.
    assert len(set(site.keys("blobs/")) - set(blobs)) == (2 if step in ("created", "added", "voted") else 1)
    # As the sweeper finds them in a day and an hour.
    left = Swept(objects=1, size=len(CLIP.data)) if step == "committed" else Swept()
    assert sweep(site.store, -LATE - 60.0) == left
    assert site.staged() == (set(), 0)


@pytest.mark.slow
def test_over_relstorage(s3_server, tmp_path):
    """Whose conflicts are found later, and whose transactions of other processes are seen otherwise."""
    for site in make_site(s3_server, tmp_path, base=RELSTORAGE):
        for again in (
            test_a_conflict_is_done_over,
            test_two_completions_at_once_make_one_content,
            test_an_image_that_has_to_be_turned,
            test_what_a_policy_refuses_is_gone,
        ):
            again(site, site.folder())


@pytest.mark.slow
def test_two_processes_behind_zeo(s3_server, tmp_path, tier):
    """One completes what the other one is about to; and both at the same moment."""
    if tier.name != "full":
        pytest.skip(f"tier {tier.name} starts no second Zope here; tier full does")
    port = free_port()
    conf = tmp_path / "zeo.conf"
    conf.write_text(
        f"<zeo>\n  address 127.0.0.1:{port}\n</zeo>\n<filestorage 1>\n  path {tmp_path}/Data.fs\n</filestorage>\n"
    )
    command = [sys.executable, "-m", "ZEO.runzeo", "-C", str(conf)]
    server = ServerProcess("ZEO", command, dict(os.environ), tmp_path / "zeo.log")
    server.start()
    try:
        for site in make_site(s3_server, tmp_path / "one", base=ZEO.format(port=port)):
            section = site.zope.storage.replace(f"{tmp_path}/one/", f"{tmp_path}/two/")
            beside = a_zope(tmp_path / "two", section, site.zope.password, {})
            beside.configure()
            beside.start()
            try:
                one_after_the_other_and_both(site, beside)
            finally:
                beside.stop()
    finally:
        server.stop()


def one_after_the_other_and_both(site: Site, beside: ZopeInstance) -> None:
    for when in ("during", "afterwards"):
        folder, blobs = site.folder(), site.keys("blobs/")
        begun = upload(site.editor, folder, CLIP, **{"@type": "File"})
        answer = complete(site.editor, begun, f"{when}:{another_request(site, beside.port)}")
        assert answer.status == 200, answer.body[:2000]
        assert len(site.names(folder)) == 1 and site.file(answer.json) == CLIP.data
        gone(site, blobs, 1)
    other = replace(site.editor, port=beside.port)
    for _ in range(10):
        folder, blobs = site.folder(), site.keys("blobs/")
        begun = upload(site.editor, folder, CLIP, **{"@type": "File"})
        theirs = begun | {"@id": begun["@id"].replace(site.editor.url, other.url)}
        answers = at_once((site.editor, begun), (other, theirs))
        assert sorted(answer.status for answer in answers) == [200, 201], [answer.body[:500] for answer in answers]
        assert len(site.names(folder)) == 1
        gone(site, blobs, 1)


@pytest.fixture(scope="module")
def encrypted(s3_server, tmp_path_factory) -> Iterator[Site]:
    """Whose blobs are encrypted with keys of ours, which no browser has: the staging area is not."""
    ring = client_side(active="new", new=secrets.token_bytes(32))
    home = tmp_path_factory.mktemp("encrypted-completion")
    more = f"{section_of(ring)}\n    direct-upload-staging none"
    yield from make_site(s3_server, home, more, variables_of(ring))


def test_blobs_that_are_encrypted_here(encrypted):
    folder, film = encrypted.folder(), payloads.noise(20)
    begun = upload(encrypted.editor, folder, film, **{"@type": "File"})
    answer = complete(encrypted.editor, begun)
    assert answer.status == 201, answer.body[:2000]
    assert encrypted.file(answer.json) == film.data and encrypted.staged() == (set(), 0)
    announced = {"method": "multipart", "sha256": hashlib.sha256(b"another file").hexdigest(), "@type": "File"}
    wrong = upload(encrypted.editor, folder, CLIP, **announced)
    refused(complete(encrypted.editor, wrong), 422, "its SHA-256 differs")
    refused(complete(encrypted.editor, wrong), 410)
    assert encrypted.staged() == (set(), 0) and len(encrypted.names(folder)) == 1
    picture = jpeg(6)
    answer = complete(encrypted.editor, upload(encrypted.editor, folder, picture, **{"@type": "Image"}))
    assert answer.status == 201, answer.body[:2000]
    assert Image.open(io.BytesIO(encrypted.file(answer.json, "image"))).size == (400, 600)
    for key in encrypted.keys("blobs/"):
        stored = encrypted.client.get_object(Bucket=encrypted.bucket, Key=key)["Body"].read()
        assert not any(trace in stored for trace in (*film.traces, *picture.traces))
