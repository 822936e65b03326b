"""The proxy that stands between client and server in tests of faults."""

from __future__ import annotations

import hashlib
import http.client
import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from math import inf

import botocore.config
import botocore.exceptions
import pytest
from fixtures_servers import s3_client
from servers import faults

BODY = os.urandom(300_000)


@pytest.fixture
def through(s3_server, proxy):
    """A boto3 client that goes through the proxy."""
    return s3_client(s3_server, proxy.endpoint_url)


@pytest.fixture
def stored(s3, bucket):
    """The presignable key of an object with BODY, put around the proxy."""
    s3.put_object(Bucket=bucket, Key="k", Body=BODY)
    return "k"


@pytest.fixture
def raw(s3_server, proxy, bucket, stored):
    """``raw()``: a connection through the proxy and the target of a GET of the object."""
    url = s3_client(s3_server, proxy.endpoint_url).generate_presigned_url(
        "get_object", Params={"Bucket": bucket, "Key": stored}
    )
    opened = []

    def connect(timeout=5):
        opened.append(http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=timeout))
        return opened[-1], url.removeprefix(proxy.endpoint_url)

    yield connect
    for connection in opened:
        connection.close()


def read_until_error(connection, target) -> tuple[bytes, Exception | None]:
    """What arrives of a GET's body, and how it ended."""
    connection.request("GET", target)
    got = b""
    try:
        response = connection.getresponse()
        while piece := response.read1(65536):
            got += piece
        response.read()  # raises when less came than was promised
    except Exception as error:
        return got, error
    return got, None


class TestPassing:
    def test_signature_survives_and_a_wrong_secret_does_not(self, s3_server, proxy, through, bucket):
        through.put_object(Bucket=bucket, Key="k", Body=b"bytes", Metadata={"a": "b"})
        assert through.get_object(Bucket=bucket, Key="k")["Body"].read() == b"bytes"
        wrong = s3_client(s3_server, proxy.endpoint_url, aws_secret_access_key="wrong")
        with pytest.raises(botocore.exceptions.ClientError) as caught:
            wrong.get_object(Bucket=bucket, Key="k")
        assert caught.value.response["Error"]["Code"] == "SignatureDoesNotMatch"

    def test_counts_requests_and_bytes(self, proxy, through, bucket):
        through.put_object(Bucket=bucket, Key="a/k", Body=BODY)
        through.get_object(Bucket=bucket, Key="a/k", Range="bytes=0-99")["Body"].read()
        through.head_object(Bucket=bucket, Key="a/k")
        through.copy_object(Bucket=bucket, Key="b/k", CopySource={"Bucket": bucket, "Key": "a/k"})
        through.list_objects_v2(Bucket=bucket, Prefix="a/")
        through.delete_object(Bucket=bucket, Key="a/k")
        through.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "b/k"}]})
        seen = {e.operation: e for e in proxy.exchanges}
        assert list(seen) == [
            "PutObject", "GetObject", "HeadObject", "CopyObject", "ListObjectsV2", "DeleteObject", "DeleteObjects",
        ]  # fmt: skip
        assert (seen["PutObject"].bytes_up, seen["PutObject"].bytes_down) == (len(BODY), 0)
        assert (seen["GetObject"].bytes_up, seen["GetObject"].bytes_down) == (0, 100)
        assert seen["HeadObject"].bytes_down == 0
        assert seen["GetObject"].path == f"/{bucket}/a/k"
        assert seen["GetObject"].status == 206
        assert proxy.methods("a/k") == {"PUT": 1, "GET": 1, "HEAD": 1, "DELETE": 1}
        assert proxy.counts("b/k") == {"CopyObject": 1}
        assert proxy.lines[1] == f"GET /{bucket}/a/k HTTP/1.1"
        proxy.reset()
        assert not proxy.exchanges

    def test_multipart_operations_are_told_apart(self, proxy, through, bucket):
        upload = through.create_multipart_upload(Bucket=bucket, Key="m")["UploadId"]
        part = through.upload_part(Bucket=bucket, Key="m", UploadId=upload, PartNumber=1, Body=BODY)["ETag"]
        parts = {"Parts": [{"PartNumber": 1, "ETag": part}]}
        through.list_multipart_uploads(Bucket=bucket)
        through.complete_multipart_upload(Bucket=bucket, Key="m", UploadId=upload, MultipartUpload=parts)
        upload = through.create_multipart_upload(Bucket=bucket, Key="m")["UploadId"]
        source = {"Bucket": bucket, "Key": "m"}
        through.upload_part_copy(Bucket=bucket, Key="m", UploadId=upload, PartNumber=1, CopySource=source)
        through.abort_multipart_upload(Bucket=bucket, Key="m", UploadId=upload)
        assert proxy.counts() == {
            "CreateMultipartUpload": 2,
            "UploadPart": 1,
            "UploadPartCopy": 1,
            "ListMultipartUploads": 1,
            "CompleteMultipartUpload": 1,
            "AbortMultipartUpload": 1,
        }

    def test_chunked_bodies_with_trailing_checksums(self, s3_server, proxy, s3, bucket):
        # boto3's default over http: aws-chunked within HTTP chunks, after "Expect: 100-continue".
        default = s3_client(s3_server, proxy.endpoint_url, config=botocore.config.Config(signature_version="s3v4"))
        default.put_object(Bucket=bucket, Key="k", Body=open(__file__, "rb"))
        with open(__file__, "rb") as mine:
            assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == mine.read()

    def test_connections_are_kept_alive(self, proxy, raw):
        connection, target = raw()
        for _ in range(3):
            assert read_until_error(connection, target) == (BODY, None)
        assert proxy.methods() == {"GET": 3}
        assert len([t for t in threading.enumerate() if t.name == "proxy-serve"]) == 1

    def test_close_leaves_no_thread(self, proxy, through, bucket):
        proxy.round_trip(4)
        through.put_object(Bucket=bucket, Key="k", Body=BODY)
        proxy.close()
        assert not [t.name for t in threading.enumerate() if t.name.startswith("proxy-")]

    def test_tls_needs_the_authority(self, s3_server, tls_proxy, ca, bucket):
        trusting = s3_client(s3_server, tls_proxy.endpoint_url, verify=str(ca.bundle))
        trusting.put_object(Bucket=bucket, Key="k", Body=BODY)
        assert trusting.get_object(Bucket=bucket, Key="k")["Body"].read() == BODY
        with pytest.raises(botocore.exceptions.SSLError):
            s3_client(s3_server, tls_proxy.endpoint_url).get_object(Bucket=bucket, Key="k")


class TestDelay:
    def test_a_round_trip_is_added_once_per_request(self, proxy, raw):
        connection, target = raw()
        read_until_error(connection, target)
        proxy.round_trip(400)
        started = time.monotonic()
        assert read_until_error(connection, target) == (BODY, None)
        assert 0.4 <= time.monotonic() - started < 1  # each of the five pieces delayed in turn: 1.2 s

    def test_connections_do_not_wait_for_each_other(self, proxy, raw):
        proxy.round_trip(200)
        opened = [raw() for _ in range(10)]
        started = time.monotonic()
        with ThreadPoolExecutor(10) as pool:
            results = list(pool.map(lambda pair: read_until_error(*pair), opened))
        assert results == [(BODY, None)] * 10
        assert 0.4 <= time.monotonic() - started < 2  # one to connect, one to ask; in turn: 4 s


class TestFaults:
    @pytest.mark.parametrize("status, code", [(503, "SlowDown"), (500, "InternalError"), (403, "AccessDenied")])
    def test_answers_of_its_own(self, proxy, through, s3, bucket, status, code):
        rule = proxy.fail(faults.answer(status, code), method="PUT", target="/k", nth=2, times=1)
        through.put_object(Bucket=bucket, Key="k", Body=BODY)
        with pytest.raises(botocore.exceptions.ClientError) as caught:
            through.put_object(Bucket=bucket, Key="k", Body=b"other")
        assert caught.value.response["Error"]["Code"] == code
        assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == status
        assert hashlib.sha256(s3.get_object(Bucket=bucket, Key="k")["Body"].read()).digest() == (
            hashlib.sha256(BODY).digest()
        )
        through.put_object(Bucket=bucket, Key="k", Body=b"third")
        assert (rule.seen, rule.hits) == (3, 1)
        assert proxy.exchanges[1].status == status

    def test_reset_before(self, proxy, raw):
        proxy.fail(faults.reset("before"))
        assert isinstance(read_until_error(*raw())[1], ConnectionResetError)
        assert read_until_error(*raw()) == (BODY, None)

    def test_reset_within_the_request_body(self, proxy, through, s3, bucket):
        proxy.fail(faults.reset("request", 1000), method="PUT")
        with pytest.raises(botocore.exceptions.HTTPClientError):
            through.put_object(Bucket=bucket, Key="new", Body=BODY)
        assert proxy.exchanges[0].bytes_up == 1000
        assert "Contents" not in s3.list_objects_v2(Bucket=bucket)

    def test_answer_lost(self, proxy, through, s3, bucket):
        proxy.fail(faults.reset("answer"), method="PUT")
        with pytest.raises(botocore.exceptions.HTTPClientError):
            through.put_object(Bucket=bucket, Key="new", Body=BODY)
        assert s3.get_object(Bucket=bucket, Key="new")["Body"].read() == BODY

    @pytest.mark.parametrize("at", [0, 1, 65536, 200_000])
    def test_reset_within_the_response_body(self, proxy, raw, at):
        proxy.fail(faults.reset("response", at))
        got, error = read_until_error(*raw())
        assert isinstance(error, ConnectionResetError)
        assert got == BODY[:at]

    def test_reset_after_the_response(self, proxy, raw):
        proxy.fail(faults.reset("after"))
        connection, target = raw()
        connection.auto_open = 0
        connection.connect()
        assert read_until_error(connection, target) == (BODY, None)
        with pytest.raises((ConnectionError, http.client.NotConnected)):
            time.sleep(0.1)
            connection.request("GET", target)
            connection.getresponse()

    def test_truncated(self, proxy, raw):
        proxy.fail(faults.truncate(1234))
        connection, target = raw()
        connection.request("GET", target)
        with pytest.raises(http.client.IncompleteRead) as caught:
            connection.getresponse().read()
        assert caught.value.partial == BODY[:1234]

    def test_flipped_byte(self, proxy, raw, through, s3, bucket):
        proxy.fail(faults.flip(70_000), method="GET")
        got, error = read_until_error(*raw())
        assert error is None
        assert [i for i in range(len(BODY)) if got[i] != BODY[i]] == [70_000]
        # Presigned, since the payload's hash is not signed then: nothing but the test can see the difference.
        url = through.generate_presigned_url("put_object", Params={"Bucket": bucket, "Key": "flipped"})
        proxy.fail(faults.flip(5, "request"), method="PUT", target="flipped")
        connection, _ = raw()
        connection.request("PUT", url.removeprefix(proxy.endpoint_url), body=BODY[:10])
        assert connection.getresponse().status == 200
        stored = s3.get_object(Bucket=bucket, Key="flipped")["Body"].read()
        assert [i for i in range(10) if stored[i] != BODY[i]] == [5]

    @pytest.mark.parametrize("where", ["before", "answer", "response"])
    def test_hang(self, proxy, raw, where):
        proxy.fail(faults.hang(where, 10))
        connection, target = raw(timeout=0.4)
        assert isinstance(read_until_error(connection, target)[1], TimeoutError)

    def test_hang_ends(self, proxy, raw):
        proxy.fail(faults.hang("response", 10, seconds=0.3))
        started = time.monotonic()
        assert read_until_error(*raw()) == (BODY, None)
        assert time.monotonic() - started >= 0.3

    def test_trickle(self, proxy, raw, through, bucket):
        proxy.fail(faults.trickle(1_000_000), method="GET")
        proxy.fail(faults.trickle(1_000_000, "request"), method="PUT")
        started = time.monotonic()
        assert read_until_error(*raw()) == (BODY, None)
        assert 0.3 <= time.monotonic() - started < 3
        started = time.monotonic()
        through.put_object(Bucket=bucket, Key="slow", Body=BODY)
        assert 0.3 <= time.monotonic() - started < 3

    def test_down_and_up(self, proxy, raw):
        connection, target = raw()
        assert read_until_error(connection, target) == (BODY, None)
        proxy.down()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", proxy.port), timeout=2)
        connection.auto_open = 0
        with pytest.raises((ConnectionError, http.client.NotConnected)):
            connection.request("GET", target)
            connection.getresponse()
        proxy.up()
        assert read_until_error(*raw()) == (BODY, None)

    def test_black_hole(self, proxy, raw):
        kept, target = raw(timeout=10)
        assert read_until_error(kept, target) == (BODY, None)
        proxy.black_hole()
        with ThreadPoolExecutor(2) as pool:
            old = pool.submit(read_until_error, kept, target)
            new = pool.submit(read_until_error, *raw(timeout=0.3))
            assert isinstance(new.result()[1], TimeoutError)
            assert not old.done()
            proxy.up()  # nothing was lost: TCP would have sent it again
            assert old.result() == (BODY, None)

    def test_from_the_nth_on_until_forgiven(self, proxy, raw):
        rule = proxy.fail(faults.answer(), nth=2, times=inf)
        connection, target = raw()
        assert read_until_error(connection, target)[0] == BODY
        for _ in range(2):
            assert b"SlowDown" in read_until_error(connection, target)[0]
        proxy.forgive()
        assert read_until_error(connection, target)[0] == BODY
        assert rule.hits == 2
