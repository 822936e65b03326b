"""Uploads through plone.restapi: the bytes are in the bucket, and come back byte for byte, also after a restart with
an empty cache. On two sites: with the add-on's profile and without it."""

from __future__ import annotations

import io
import os
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import payloads
import pytest
from PIL import Image
from web_client import WebClient, json_file
from zope_instance import SITES

KINDS = ("pdf", "image", "news", "large")
PICTURES = ("image", "news")
SCALES = ("preview", "mini")


@dataclass
class Upload:
    """One content item as it was made, and what each scale was when it was read for the first time."""

    path: str
    field: str
    payload: payloads.Payload
    scales: dict[str, bytes] = field(default_factory=dict)

    @property
    def download(self) -> str:
        return f"{self.path}/@@download/{self.field}/{self.payload.filename}"


def upload_everything(editor: WebClient, large_mb: int) -> dict[str, Upload]:
    uploads = {}
    pdf = payloads.pdf()
    path = editor.add("files", "File", "pdf", file=json_file(pdf.data, pdf.filename, pdf.content_type))
    uploads["pdf"] = Upload(path, "file", pdf)
    picture = payloads.png()
    path = editor.add("files", "Image", "image", image=json_file(picture.data, picture.filename, picture.content_type))
    uploads["image"] = Upload(path, "image", picture)
    lead = payloads.png("lead.png")
    path = editor.add("files", "News Item", "news", image=json_file(lead.data, lead.filename, lead.content_type))
    uploads["news"] = Upload(path, "image", lead)
    large = payloads.noise(large_mb)
    path = editor.upload_by_tus("files", io.BytesIO(large.data), len(large.data), large.filename, large.content_type)
    uploads["large"] = Upload(path, "file", large)
    for kind in PICTURES:
        for scale in SCALES:
            answer = editor.get(f"{uploads[kind].path}/@@images/{uploads[kind].field}/{scale}")
            assert answer.status == 200
            uploads[kind].scales[scale] = answer.body
    return uploads


@pytest.fixture(scope="module")
def keys_before(zope, site_bucket) -> dict[str, int]:
    return site_bucket.keys()


@pytest.fixture(scope="module")
def everything(zope, keys_before, tier) -> dict[str, dict[str, Upload]]:
    """What was uploaded, by site and kind."""
    sizes = {"with": tier["site_file_mb"], "without": 3}
    return {
        site: upload_everything(WebClient(zope.port, site, ("editor", zope.password)), sizes[site]) for site in SITES
    }


@pytest.fixture(scope="module", params=["as uploaded", "after a restart with an empty cache"])
def phase(request, zope, everything) -> str:
    if request.param != "as uploaded":
        zope.restart_with_empty_cache()
    return request.param


@pytest.fixture(params=SITES)
def site(request) -> str:
    return request.param


@pytest.fixture
def reader(zope, site, phase) -> WebClient:
    return WebClient(zope.port, site, ("editor", zope.password))


@pytest.mark.parametrize("kind", KINDS)
def test_download_is_byte_for_byte(reader, everything, site, kind):
    upload = everything[site][kind]
    answer = reader.get(upload.download)
    assert answer.status == 200
    assert payloads.fingerprint(answer.body) == upload.payload.fingerprint
    assert answer.headers["Content-Length"] == str(len(upload.payload.data))
    assert answer.headers["Content-Type"].partition(";")[0] == upload.payload.content_type
    assert upload.payload.filename in answer.headers["Content-Disposition"]
    assert answer.headers["Content-Disposition"].startswith("attachment")


@pytest.mark.parametrize("kind", ["pdf", "image"])
def test_display_file_is_byte_for_byte_and_inline(reader, everything, site, kind):
    upload = everything[site][kind]
    answer = reader.get(f"{upload.path}/@@display-file/{upload.field}/{upload.payload.filename}")
    assert answer.status == 200
    assert answer.body == upload.payload.data
    assert answer.headers["Content-Type"].partition(";")[0] == upload.payload.content_type
    assert "attachment" not in answer.headers.get("Content-Disposition", "")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "asked, start, end", [("0-99", 0, 100), ("1000-40999", 1000, 41000), ("-500", -500, None), ("2000-", 2000, None)]
)
def test_range(reader, everything, site, kind, asked, start, end):
    upload = everything[site][kind]
    answer = reader.get(upload.download, Range=f"bytes={asked}")
    expected = upload.payload.data[start:end]
    first = start % len(upload.payload.data)
    assert answer.status == 206
    assert answer.body == expected
    assert answer.headers["Content-Length"] == str(len(expected))
    last = first + len(expected) - 1
    assert answer.headers["Content-Range"] == f"bytes {first}-{last}/{len(upload.payload.data)}"


@pytest.mark.parametrize("kind", KINDS)
def test_head(reader, everything, site, kind):
    upload = everything[site][kind]
    answer = reader.request("HEAD", upload.download)
    assert answer.status == 200
    assert answer.body == b""
    assert answer.headers["Content-Type"].partition(";")[0] == upload.payload.content_type


@pytest.mark.parametrize("kind", PICTURES)
@pytest.mark.parametrize("scale", SCALES)
def test_scale_is_the_same_each_time(reader, everything, site, kind, scale):
    upload = everything[site][kind]
    path = f"{upload.path}/@@images/{upload.field}/{scale}"
    first, second = reader.get(path), reader.get(path)
    assert first.status == second.status == 200
    assert first.body == second.body == upload.scales[scale]
    assert Image.open(io.BytesIO(first.body)).size[0] < 900


def test_bucket_holds_each_blob_once_and_nothing_else(everything, phase, site_bucket, keys_before):
    expected: Counter[tuple[int, str]] = Counter()
    for uploads in everything.values():
        for upload in uploads.values():
            expected[upload.payload.fingerprint] += 1
            expected.update(payloads.fingerprint(body) for body in upload.scales.values())
    assert site_bucket.fingerprints(besides=keys_before) == expected


def files_with_uploads(folder: Path, everything) -> list[Path]:
    """The files below the folder that hold some bytes of one of the uploads."""
    traces = [
        trace for uploads in everything.values() for upload in uploads.values() for trace in upload.payload.traces
    ]
    files = [Path(parent) / name for parent, _, names in os.walk(folder) for name in names]
    assert files
    return [path for path in files if any(trace in content for content in [path.read_bytes()] for trace in traces)]


def test_no_blob_bytes_on_the_local_disk_outside_the_cache(everything, phase, zope):
    """Neither in a blob directory, nor in Data.fs, nor in a temporary file that was forgotten."""
    assert files_with_uploads(zope.home, everything) == []
    assert not [path for path in zope.home.rglob("*") if path.suffix == ".blob" or path.name == ".layout"]


def test_cache_holds_complete_files_only(everything, phase, zope):
    """No staged or half a file is left once the requests are answered."""
    for site, uploads in everything.items():
        for upload in uploads.values():
            assert WebClient(zope.port, site, ("editor", zope.password)).get(upload.download).status == 200
    whole = {upload.payload.fingerprint for uploads in everything.values() for upload in uploads.values()}
    found = [payloads.fingerprint(path.read_bytes()) for path in files_with_uploads(zope.cache_dir, everything)]
    assert set(found) == whole
    assert len(found) == len(whole)


def entries(log):
    """Each with the lines of its traceback."""
    return re.split(r"\n(?=\d{4}-\d\d-\d\d )", log)


def test_log_holds_no_secret_and_no_error(everything, phase, zope, s3_server):
    log = zope.log.read_text()
    assert "Ready to handle requests" in log
    assert s3_server.secret_key not in log
    assert zope.password not in log
    bad = [entry for entry in entries(log) if any(sign in entry for sign in (" ERROR ", " CRITICAL ", "Traceback"))]
    # Zope's error log has what tests of the control panel are refused, as the POST of a foreign page. Stock Plone's
    # types name a behaviour that is there with plone.app.discussion only, which is said when a type is looked at.
    bad = [entry for entry in bad if "/@@s3blobstorage-" not in entry or "Forbidden" not in entry]
    assert not [entry for entry in bad if "Error resolving behavior plone.allowdiscussion" not in entry]
