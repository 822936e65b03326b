"""The bucket's CORS rules: read, written, and what real stores make of them when a browser asks."""

from __future__ import annotations

import dataclasses
import json

import pytest
from command_line import document, keys_of, one_line, s3blobs, section
from rings import client_side
from servers.faults import answer
from sites import raw_client

from collective.s3blobstorage.directupload.area import UploadArea
from collective.s3blobstorage.directupload.cors import ID, difference
from collective.s3blobstorage.directupload.requests import asked_for, headers_of_uploads, signed_requests
from collective.s3blobstorage.errors import Refused, StoreError
from collective.s3blobstorage.objectstore import open_store
from collective.s3blobstorage.objectstore.cors import preflight
from collective.s3blobstorage.settings import UploadSettings
from collective.s3blobstorage.storage.owner import Marker

WWW, EDIT, EVIL = "https://www.example.org", "https://edit.example.org", "https://evil.example"
THEIRS = {"ID": "theirs", "AllowedOrigins": [EVIL], "AllowedMethods": ["GET"], "MaxAgeSeconds": 5}
PLAIN = ["content-disposition", "content-type", "x-amz-checksum-sha256"]


@pytest.fixture
def store(settings, bucket):
    store = open_store(settings)
    yield store
    store.close()


def answers(settings, store, origin):
    """Whether a browser would send each of the requests that the area signs."""
    area = UploadArea(store, UploadSettings())
    return [
        preflight(settings, request.url, origin, request.method, asked_for(request)).allowed
        for request in signed_requests(area)
    ]


def test_what_signed_requests_ask_for(settings, bucket):
    def asked(**more):
        return headers_of_uploads(UploadArea(open_store(dataclasses.replace(settings, **more)), UploadSettings()))

    assert asked() == PLAIN
    assert asked(storage_class="STANDARD_IA") == [*PLAIN, "x-amz-storage-class"]
    # What a browser sends is encrypted by the store where the blobs are encrypted here.
    assert asked(encryption=client_side(one=bytes(32))) == [*PLAIN, "x-amz-server-side-encryption"]


def test_rules_are_read_and_replaced(store):
    assert store.cors() == ()
    store.set_cors([THEIRS])
    assert store.cors() == (THEIRS,)
    store.set_cors([])
    store.set_cors([])
    assert store.cors() == ()
    with pytest.raises(Refused, match="read-only"):
        open_store(store.settings, read_only=True).set_cors([THEIRS])


def test_a_browser_may_send_after_the_rule_was_written_and_not_before(settings, store):
    assert answers(settings, store, WWW) == [False, False]
    store.set_cors([THEIRS])
    assert answers(settings, store, WWW) == [False, False]
    headers = headers_of_uploads(UploadArea(store, UploadSettings()))
    store.set_cors(difference(store.cors(), [WWW, EDIT], headers).wanted)
    for origin, allowed in ((WWW, True), (EDIT, True), (EVIL, False), ("http://www.example.org", False)):
        assert answers(settings, store, origin) == [allowed, allowed]
    url = signed_requests(UploadArea(store, UploadSettings()))[0].url
    assert not preflight(settings, url, WWW, "PUT", ["x-amz-acl"]).allowed
    assert not preflight(settings, url, WWW, "DELETE", []).allowed
    assert preflight(settings, url, EVIL, "GET", []).allowed  # theirs


def test_the_answer_to_the_upload_itself_shows_the_etag(settings, store):
    from botocore.awsrequest import AWSRequest
    from botocore.httpsession import URLLib3Session

    area = UploadArea(store, UploadSettings())
    store.set_cors(difference((), [WWW], headers_of_uploads(area)).wanted)
    request = area.put_request(area.begin(5, single=True), seconds=60)
    verify = str(settings.ca_bundle) if settings.ca_bundle else True
    sent = AWSRequest(method="PUT", url=request.url, data=b"12345", headers={**request.headers, "Origin": WWW})
    answered = URLLib3Session(verify=verify).send(sent.prepare())
    assert answered.status_code == 200 and answered.headers["ETag"]
    assert answered.headers["Access-Control-Allow-Origin"] in (WWW, "*")
    assert answered.headers["Access-Control-Expose-Headers"].lower() == "etag"


@pytest.mark.parametrize(
    ("fault", "error", "says"),
    [
        (answer(403, "AccessDenied"), Refused, "s3:{}BucketCORS on the bucket"),
        (answer(501, "NotImplemented"), StoreError, "does not know the requests for CORS rules"),
        (answer(405, "MethodNotAllowed"), StoreError, "does not know the requests for CORS rules"),
    ],
)
def test_stores_that_refuse_say_why(settings, bucket, proxy, fault, error, says):
    store = open_store(dataclasses.replace(settings, endpoint_url=proxy.endpoint_url))
    proxy.fail(fault, target="cors", times=9)
    for method, ask in (("Get", store.cors), ("Put", lambda: store.set_cors([THEIRS]))):
        with pytest.raises(error, match=says.format(method)) as caught:
            ask()
        assert bucket not in str(caught.value)
    store.close()


# The command


@pytest.fixture
def conf(settings, bucket, tmp_path):
    def write(*more, store=settings):
        path = tmp_path / "site.conf"
        base = f"<filestorage>\n  path {tmp_path}/Data.fs\n</filestorage>"
        path.write_text("%import collective.s3blobstorage\n" + section(store, tmp_path / "cache", base, *more))
        return path

    return write


def cors(conf, *arguments, store, **options):
    return s3blobs("--config", conf, "cors", *arguments, env=keys_of(store), **options)


def test_the_command_shows_asks_writes_and_reads_back(conf, settings, store):
    store.set_cors([THEIRS])
    path = conf(f"direct-upload-origins {WWW}")
    shown = cors(path, "--dry-run", store=settings)
    assert (shown.returncode, shown.stderr) == (0, "") and store.cors() == (THEIRS,)
    assert f"pages of {WWW} may send nothing" in shown.stdout
    assert f'+   "{WWW}"' in shown.stdout and '+  "ID": "collective.s3blobstorage",' in shown.stdout
    assert not [line for line in shown.stdout.splitlines() if line.startswith("-")]
    no = cors(path, store=settings, input="yes\n")
    assert no.returncode == 1 and store.cors() == (THEIRS,)
    assert f"nothing was changed: {settings.bucket} was not typed" in no.stderr
    done = cors(path, "--origin", f"{EDIT}/", store=settings, input=f"{settings.bucket}\n")
    assert done.returncode == 0 and "written, and read back" in done.stdout
    ours, theirs = store.cors()
    assert theirs == THEIRS and ours["ID"] == ID and ours["AllowedOrigins"] == [EDIT, WWW]
    assert (sorted(ours["AllowedMethods"]), ours["AllowedHeaders"]) == (["POST", "PUT"], PLAIN)
    assert (ours["ExposeHeaders"], ours["MaxAgeSeconds"]) == (["ETag"], 3600)
    again = cors(path, "--json", store=settings)
    told = document(again)
    assert again.returncode == 0 and (told["needed"], told["changed"], told["missing"]) == (False, False, [])
    assert "let these pages upload" in cors(path, store=settings).stdout
    assert answers(settings, store, EDIT) == [True, True]


def test_json_with_yes(conf, settings, store):
    get = {"AllowedOrigins": [WWW], "AllowedMethods": ["GET"]}
    store.set_cors([get])
    result = cors(conf(), "--origin", WWW, "--yes", "--json", store=settings)
    assert (result.returncode, result.stderr) == (0, "")
    told = document(result)
    assert told["changed"] and told["needed"] and told["refused"] is None and told["origins"] == [WWW]
    assert told["overshadowed"] == told["present"] == json.loads(json.dumps(store.cors()[1:]))
    assert told["wanted"] == json.loads(json.dumps(store.cors()))


@pytest.mark.parametrize(
    ("lines", "arguments", "says"),
    [
        ([], [], "set direct-upload-origins, or give --origin. Example: direct-upload-origins https://www.example.org"),
        (["direct-upload off"], ["--origin", WWW], "direct-upload is off"),
        (["read-only on"], ["--origin", WWW], "read-only is on"),
    ],
)
def test_what_cannot_be_done_is_one_line(conf, settings, store, lines, arguments, says):
    result = cors(conf(*lines), *arguments, store=settings)
    assert result.returncode == 2 and says in one_line(result)
    assert store.cors() == ()


@pytest.mark.parametrize("wrong", ["*", "https://*.example.org", "example.org", "https://example.org/Plone"])
def test_wrong_origins(conf, settings, store, wrong):
    result = cors(conf(), "--origin", wrong, store=settings)
    assert result.returncode == 2 and "Invalid value for '--origin'" in result.stderr


def test_another_owners_bucket_is_left_alone(conf, settings, store):
    raw_client(settings).put_object(
        Bucket=settings.bucket,
        Key=".s3blobs.json",
        Body=Marker("production", False).to_json(),
    )
    result = cors(conf("owner staging"), "--origin", WWW, "--yes", store=settings)
    assert result.returncode == 2 and "production" in one_line(result)
    assert store.cors() == ()
