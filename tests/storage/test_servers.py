"""The servers that all other tests stand on do what those tests take for granted."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import botocore.exceptions
import pytest
from fixtures_servers import s3_client
from servers.ministack import MiniStack

TESTS = Path(__file__).resolve().parents[1]


@pytest.fixture
def ministack(tmp_path):
    server = MiniStack(tmp_path / "data").start()
    yield server
    server.stop()


def code_of(caught) -> str:
    return caught.value.response["Error"]["Code"]


class TestMiniStack:
    def test_objects_and_keys_survive_sigkill(self, ministack):
        s3 = s3_client(ministack)
        s3.create_bucket(Bucket="kept")
        s3.put_object(Bucket="kept", Key="a/b", Body=b"bytes", Metadata={"sha256": "00"})
        first = ministack.pid
        ministack.kill()
        assert ministack.pid is None
        with pytest.raises(OSError):
            http.client.HTTPConnection("127.0.0.1", ministack.port, timeout=2).request("GET", "/")
        ministack.restart()
        assert ministack.pid not in (None, first)
        answer = s3.get_object(Bucket="kept", Key="a/b")
        assert answer["Body"].read() == b"bytes"
        assert answer["Metadata"] == {"sha256": "00"}
        with pytest.raises(botocore.exceptions.ClientError) as caught:
            s3_client(ministack, aws_secret_access_key="wrong").get_object(Bucket="kept", Key="a/b")
        assert code_of(caught) == "SignatureDoesNotMatch"

    def test_folder_is_taken_over_on_another_port(self, ministack):
        s3_client(ministack).create_bucket(Bucket="kept")
        ministack.stop()
        with_new_port = MiniStack(ministack.data_dir).start()
        try:
            assert with_new_port.access_key == ministack.access_key
            assert [b["Name"] for b in s3_client(with_new_port).list_buckets()["Buckets"]] == ["kept"]
        finally:
            with_new_port.stop()

    def test_credentials_are_private(self, ministack):
        assert (ministack.data_dir / "credentials.json").stat().st_mode & 0o777 == 0o600
        assert ministack.secret_key not in repr(ministack)

    def test_policy_of_a_user_is_enforced(self, ministack):
        s3_client(ministack).create_bucket(Bucket="kept")
        read_only = {
            "Version": "2012-10-17",
            "Statement": [{"Effect": "Allow", "Action": ["s3:GetObject", "s3:ListBucket"], "Resource": "*"}],
        }
        key, secret = ministack.create_user("reader", read_only)
        reader = s3_client(ministack, aws_access_key_id=key, aws_secret_access_key=secret)
        assert reader.list_objects_v2(Bucket="kept")["KeyCount"] == 0
        with pytest.raises(botocore.exceptions.ClientError) as caught:
            reader.put_object(Bucket="kept", Key="k", Body=b"")
        assert code_of(caught) == "AccessDenied"

    def test_dies_with_the_process_that_started_it(self, tmp_path):
        # The server is started by a thread that ends at once: it must live on, and die with the process.
        script = (
            "import sys, threading; from pathlib import Path; from servers.ministack import MiniStack\n"
            "server = MiniStack(Path(sys.argv[1]))\n"
            "thread = threading.Thread(target=server.start); thread.start(); thread.join()\n"
            "print(server.pid, server.port, flush=True); sys.stdin.read()\n"
        )
        owner = subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path / "data")],
            cwd=TESTS,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            pid, port = map(int, owner.stdout.readline().split())
            time.sleep(0.3)
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/_ministack/ready")
            assert connection.getresponse().status == 200
            connection.close()
        finally:
            owner.kill()
            owner.communicate()
        deadline = time.monotonic() + 5
        while _runs(pid) and time.monotonic() < deadline:
            time.sleep(0.02)
        survived = _runs(pid)
        if survived:
            os.kill(pid, signal.SIGKILL)
        assert not survived


@pytest.mark.ceph
class TestCeph:
    @pytest.fixture
    def ceph_bucket(self, ceph):
        s3_client(ceph).create_bucket(Bucket="kept")
        yield "kept"
        s3_client(ceph).delete_bucket(Bucket="kept")

    def test_http_and_https_are_one_store(self, ceph, ceph_bucket):
        plain = s3_client(ceph)
        over_tls = s3_client(ceph, ceph.tls_endpoint_url, verify=str(ceph.ca_bundle))
        over_tls.put_object(Bucket="kept", Key="k", Body=b"bytes")
        assert plain.get_object(Bucket="kept", Key="k")["Body"].read() == b"bytes"
        with pytest.raises(botocore.exceptions.SSLError):
            s3_client(ceph, ceph.tls_endpoint_url).get_object(Bucket="kept", Key="k")
        with pytest.raises(botocore.exceptions.ClientError) as caught:
            s3_client(ceph, aws_secret_access_key="wrong").get_object(Bucket="kept", Key="k")
        assert code_of(caught) == "SignatureDoesNotMatch"
        plain.delete_object(Bucket="kept", Key="k")

    def test_customer_keys_over_https_only(self, ceph, ceph_bucket):
        key = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": b"k" * 32}
        with pytest.raises(botocore.exceptions.ClientError):
            # Sent as it is: boto3 itself refuses nothing here, the gateway does.
            s3_client(ceph).put_object(Bucket="kept", Key="k", Body=b"bytes", **key)
        over_tls = s3_client(ceph, ceph.tls_endpoint_url, verify=str(ceph.ca_bundle))
        assert over_tls.put_object(Bucket="kept", Key="k", Body=b"bytes", **key)["SSECustomerAlgorithm"] == "AES256"
        with pytest.raises(botocore.exceptions.ClientError):
            over_tls.get_object(Bucket="kept", Key="k")
        assert over_tls.get_object(Bucket="kept", Key="k", **key)["Body"].read() == b"bytes"
        over_tls.delete_object(Bucket="kept", Key="k")

    def test_gateway_killed_and_restarted(self, ceph, ceph_bucket):
        s3 = s3_client(ceph)
        s3.put_object(Bucket="kept", Key="k", Body=b"bytes")
        ceph.kill()
        with pytest.raises(botocore.exceptions.EndpointConnectionError):
            s3.get_object(Bucket="kept", Key="k")
        ceph.restart()
        assert s3.get_object(Bucket="kept", Key="k")["Body"].read() == b"bytes"
        s3.delete_object(Bucket="kept", Key="k")


def _runs(pid: int) -> bool:
    """Whether the process exists and is no zombie (nobody may reap it once its parent is dead)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
