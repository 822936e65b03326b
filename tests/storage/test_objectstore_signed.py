"""The requests that do not go through boto3's client: they are the ones that it would make."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import hashlib
import io
import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import urllib3.util.connection
from botocore.config import Config
from botocore.exceptions import ClientError, EndpointConnectionError, ParamValidationError
from botocore.httpsession import URLLib3Session
from servers.faults import reset
from strange_front import Front

from collective.s3blobstorage.encryption.managed import SSEKMS, SSES3
from collective.s3blobstorage.errors import ObjectMissing
from collective.s3blobstorage.objectstore import client, idle, open_store
from collective.s3blobstorage.objectstore.signed import SignedRequests
from collective.s3blobstorage.objectstore.translate import BodyBroken
from collective.s3blobstorage.settings import StoreSettings

KEY = hashlib.sha256(b"the key of these tests").digest()
ODD_KEYS = ["plain", "with space", "plus+sign", "ümläut/ß", "per%20cent", "a=b&c", "日本", "q?uestion#hash", "~/x"]
ODD_KEYS += ["a//b", "./a", "a/../b"]


class Recorder(BaseHTTPRequestHandler):
    """Answers 200 or ``status``, and keeps what it was asked."""

    protocol_version = "HTTP/1.1"
    asked: list[tuple[str, str, dict[str, str], bytes]]
    status = [200]

    def log_message(self, *arguments):
        pass

    def _answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.asked.append((self.command, self.path, headers, body))
        self.send_response(self.status[0])
        self.send_header("Content-Length", "0")
        self.send_header("ETag", '"e"')
        self.end_headers()

    do_GET = do_PUT = _answer


@pytest.fixture
def recorder(monkeypatch):
    """All connections of urllib3 go there, whatever host they are for."""
    handler = type("RecorderOfThisTest", (Recorder,), {"asked": [], "status": [200]})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    connect = urllib3.util.connection.create_connection
    monkeypatch.setattr(
        urllib3.util.connection,
        "create_connection",
        lambda address, *arguments, **named: connect(("127.0.0.1", server.server_port), *arguments, **named),
    )
    yield handler
    server.shutdown()
    server.server_close()
    thread.join()


def requests_for(**changes) -> SignedRequests:
    values = {"bucket": "bucket", "endpoint_url": "http://s3.example.org", "region": "eu-central-1"}
    settings = StoreSettings(**{"access_key": "access", "secret_key": "secret-of-these-tests", **values, **changes})
    session = client.session(settings)
    return SignedRequests(client.client(session, settings, reading=True), session, settings.bucket)


# Differ from one request to the next, or count botocore's own attempts.
OWN = ("authorization", "x-amz-date", "amz-sdk-invocation-id", "amz-sdk-request")


def comparable(asked) -> tuple:
    method, path, headers, body = asked
    signed = headers["authorization"].split("SignedHeaders=")[1].split(",")[0]
    scope = headers["authorization"].split(",")[0]
    return method, path, {name: value for name, value in headers.items() if name not in OWN}, signed, scope, body


def by_client(asked) -> bool:
    return "amz-sdk-request" in asked[2]


def asked_three_ways(requests, recorder, verb, **parameters):
    """By the client, on the connection that it opened, and, where none is open, by its HTTP session."""
    with counted_sessions() as by_session:
        for _ in range(2):
            whole(send(requests, verb, parameters))
        assert by_session == [requests._http]
        idle.close(requests._client)
        whole(send(requests, verb, parameters))
        assert by_session == [requests._http]  # a new connection of the same pool needs no session
    first, second, third = recorder.asked[-3:]
    assert by_client(first) and not by_client(second) and not by_client(third)
    return first, second, third


def send(requests, verb: str, parameters):
    if verb == "put_object":
        return requests.put_object(**parameters, sha256=hashlib.sha256(parameters["Body"]).digest())
    return getattr(requests, verb)(**parameters)


def whole(answer) -> bytes:
    with answer.get("Body", io.BytesIO()) as body:
        return body.read()


@contextlib.contextmanager
def counted_sessions():
    """Becomes the HTTP sessions of botocore that send, one for each request."""
    seen = []
    send = URLLib3Session.send

    def counting(self, request):
        seen.append(self)
        return send(self, request)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(URLLib3Session, "send", counting)
        yield seen


WRITING = {
    "Body": b"some bytes",
    "ContentType": "application/octet-stream",
    "ContentDisposition": "attachment",
    "ContentMD5": base64.b64encode(hashlib.md5(b"some bytes").digest()).decode(),
    "Metadata": {"oid": "0001", "size": "10", "Mixed-Case": "two  spaces"},
}


def kms(*, bucket_key: bool = False, dsse: bool = False) -> SSEKMS:
    context = {"site": "intranet"}
    return SSEKMS("arn:aws:kms:eu-central-1:1:key/a-b", context, bucket_key=bucket_key, dsse=dsse, required=False)


@pytest.mark.parametrize(
    "verb, parameters",
    [
        ("get_object", {}),
        ("get_object", {"Range": "bytes=5-9", "IfMatch": "0" * 32}),
        ("get_object", {"ExpectedBucketOwner": "123456789012"}),
        ("get_object", {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": KEY}),
        ("put_object", WRITING),
        ("put_object", {**WRITING, "Body": b""}),
        ("put_object", {**WRITING, "IfNoneMatch": "*", "StorageClass": "STANDARD_IA"}),
        ("put_object", {**WRITING, "SSECustomerAlgorithm": "AES256", "SSECustomerKey": KEY}),
        ("put_object", {**WRITING, **SSES3(required=False).write_parameters()}),
        ("put_object", {**WRITING, **kms(bucket_key=True).write_parameters()}),
        ("put_object", {**WRITING, **kms(bucket_key=False).write_parameters()}),
        ("put_object", {**WRITING, **kms(dsse=True).write_parameters()}),
    ],
)
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"addressing_style": "virtual"},
        {"addressing_style": "path", "endpoint_url": "http://s3.example.org:8080/below"},
        {"endpoint_url": None, "use_ssl": False},
        {"endpoint_url": None, "use_ssl": False, "region": "us-east-1", "bucket": "with.dots"},
        {"session_token": "a-session-token-of-these-tests"},
    ],
    ids=["usual", "virtual", "path", "aws", "dots", "token"],
)
def test_the_same_request(recorder, settings, verb, parameters):
    requests = requests_for(**settings)
    named = {"Bucket": settings.get("bucket", "bucket"), "Key": "blobs/1", **parameters}
    first, second, third = asked_three_ways(requests, recorder, verb, **named)
    assert comparable(first) == comparable(second) == comparable(third)


def test_the_same_request_for_every_key(recorder):
    requests = requests_for()
    requests.get_object(Bucket="bucket", Key="first")
    for key in ODD_KEYS:
        requests.get_object(Bucket="bucket", Key=key)
        requests._by_client("get_object", {"Bucket": "bucket", "Key": key})
        ours, theirs = recorder.asked[-2:]
        assert by_client(theirs) and not by_client(ours)
        assert comparable(ours) == comparable(theirs)


def test_behind_a_proxy_every_request_goes_through_it(recorder, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example.org:3128")
    requests = requests_for()
    for _ in range(2):
        for _ in range(3):
            whole(requests.get_object(Bucket="bucket", Key="x"))
        idle.close(requests._client)
    assert [path for _, path, _, _ in recorder.asked] == ["http://s3.example.org/bucket/x"] * 6


def test_what_is_not_in_the_tables_goes_through_the_client(recorder):
    requests = requests_for()
    requests.get_object(Bucket="bucket", Key="x")
    for parameters in ({"Bucket": "bucket", "VersionId": "v"}, {"Bucket": "another"}):
        requests.get_object(Key="x", **parameters)
        assert by_client(recorder.asked[-1])
    requests.get_object(Bucket="bucket", Key="x")
    with pytest.raises(ParamValidationError):
        send(requests, "put_object", {"Bucket": "bucket", "Key": "x", "Body": b"", "Metadata": {"name": "ümläut"}})
    assert len(recorder.asked) == 4


def test_a_bucket_that_is_signed_for_in_another_way_goes_through_the_client(recorder):
    """As signature 4a of several regions does; here it is the old one, which needs no library more."""
    settings = StoreSettings(bucket="bucket", access_key="access", secret_key="secret-of-these-tests")
    session = client.session(settings)
    config = Config(signature_version="s3", region_name="us-east-1")
    requests = SignedRequests(session.client("s3", config=config, use_ssl=False), session, "bucket")
    for _ in range(2):
        requests.get_object(Bucket="bucket", Key="x")
    assert [by_client(asked) for asked in recorder.asked] == [True, True]


def test_the_body_is_signed_for_over_http(recorder):
    requests = requests_for()
    for _ in range(2):
        send(requests, "put_object", {"Bucket": "bucket", "Key": "x", **WRITING})
    assert recorder.asked[1][2]["x-amz-content-sha256"] == hashlib.sha256(b"some bytes").hexdigest()


# Against a real server, which checks the signatures


@pytest.fixture
def store(settings, proxy):
    opened = open_store(dataclasses.replace(settings, endpoint_url=proxy.endpoint_url, outage_patience=0.0))
    yield opened
    opened.close()


def counted(made) -> list[str]:
    """Becomes the operations that the client makes."""
    seen: list[str] = []
    made.meta.events.register("before-send.s3", lambda request, **_: seen.append(request.method))
    return seen


def test_one_request_goes_through_the_client(store, proxy):
    reading, writing = counted(store.connection.reader), counted(store.connection.writer)
    for number, key in enumerate(ODD_KEYS):
        data = os.urandom(100)
        store.put_bytes(key, data, metadata={"number": str(number)})
        assert store.get_bytes(key) == data
        arrived = bytearray()
        info = store.get_range(key, 10, 20, arrived.extend)
        assert arrived == data[10:30] and info.metadata["number"] == str(number)
        assert info.last_modified.tzinfo is not None
    assert reading == ["GET"] and writing == ["PUT"]
    assert proxy.counts() == {"PutObject": len(ODD_KEYS), "GetObject": 2 * len(ODD_KEYS)}


def test_an_answer_is_the_clients(settings, store):
    """The members that both have."""
    store.put_bytes("x", b"abc", metadata={"oid": "1"})
    named = {"Bucket": settings.bucket, "Key": "x"}
    requests = store.connection.signed_reader
    requests.get_object(**named)
    ours, theirs = requests.get_object(**named), store.connection.reader.get_object(**named)
    assert ours.pop("Body").read() == theirs.pop("Body").read() == b"abc"
    assert ours["ResponseMetadata"].items() <= theirs["ResponseMetadata"].items()
    for name in ("ContentLength", "ETag", "LastModified", "Metadata"):
        assert ours[name] == theirs[name]


def test_an_error_is_the_clients(settings, store):
    requests = store.connection.signed_reader
    store.put_bytes("x", b"abc")
    requests.get_object(Bucket=settings.bucket, Key="x")["Body"].read()
    for parameters in ({"Key": "nothing"}, {"Key": "x", "IfMatch": "0" * 32}, {"Key": "x", "Range": "bytes=7-9"}):
        raised = []
        for get in (requests.get_object, store.connection.reader.get_object):
            with pytest.raises(ClientError) as caught:
                get(Bucket=settings.bucket, **parameters)
            raised.append(caught.value)
        ours, theirs = (error.response for error in raised)
        assert ours["Error"]["Code"] == theirs["Error"]["Code"]
        assert ours["ResponseMetadata"]["HTTPStatusCode"] == theirs["ResponseMetadata"]["HTTPStatusCode"]
        assert raised[0].operation_name == raised[1].operation_name


def test_an_answer_that_breaks_off_within_its_error(store, proxy):
    store.put_bytes("x", b"abc")
    store.get_bytes("x")
    proxy.reset()
    proxy.fail(reset("response", 10), method="GET")
    with pytest.raises(ObjectMissing):
        store.get_bytes("nothing")
    assert proxy.counts() == {"GetObject": 2}


def test_an_error_of_which_the_end_is_missing_is_no_answer(store):
    """Whatever cut it, and whether or not the connection said so: its code may be in what is missing."""
    with pytest.raises(BodyBroken):
        store.connection.signed_reader._error("GET", 404, {}, lambda: b"<?xml vers")


def test_a_server_that_is_down(settings, store, proxy):
    store.put_bytes("x", b"abc")
    store.get_bytes("x")
    proxy.down()
    with pytest.raises(EndpointConnectionError):
        store.connection.signed_reader.get_object(Bucket=settings.bucket, Key="x")
    proxy.up()
    assert store.get_bytes("x") == b"abc"


def test_another_region_is_followed(settings, s3_server):
    """botocore asks again where the store says so and remembers it; so do the requests that it does not make."""
    front = Front(s3_server)
    try:
        front.strange.region = "eu-central-1"
        store = open_store(dataclasses.replace(settings, endpoint_url=front.endpoint_url, region="us-west-2"))
        for region in ("eu-central-1", "ap-south-1"):
            front.strange.region = region
            store.put_bytes("x", region.encode())
            assert store.get_bytes("x") == region.encode()
            front.strange.seen.clear()
            store.put_bytes("x", region.encode())
            assert store.get_bytes("x") == region.encode()
            assert len(front.strange.seen) == 2
        store.close()
    finally:
        front.close()


def test_credentials_are_asked_for_each_request(settings, tmp_path, monkeypatch):
    """Those of a role change while the process runs. Here they are as good as expired, so each request renews them."""
    program = tmp_path / "credentials.py"
    program.write_text(
        "import datetime, json\n"
        f"open({str(tmp_path / 'asked')!r}, 'a').write('x')\n"
        "soon = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=60)\n"
        f"keys = {json.dumps({'AccessKeyId': settings.access_key, 'SecretAccessKey': settings.secret_key})}\n"
        "print(json.dumps({'Version': 1, 'Expiration': soon.isoformat(), **keys}))\n"
    )
    (tmp_path / "config").write_text(f"[profile role]\ncredential_process = {sys.executable} {program}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    store = open_store(dataclasses.replace(settings, access_key=None, secret_key=None, profile="role"))
    reading = counted(store.connection.reader)
    store.put_bytes("x", b"abc")
    asked = []
    for _ in range(3):
        store.get_file("x", io.BytesIO())
        asked.append((tmp_path / "asked").stat().st_size)
    assert asked[0] < asked[1] < asked[2]
    assert reading == ["GET"]
    store.close()
