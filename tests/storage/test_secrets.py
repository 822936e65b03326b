"""The whole storage with the root logger at DEBUG: no secret in a log, an error, a repr or a traceback.

Tracebacks are looked at with the local variables of every frame, as reports of errors (Sentry, faulthandlers of
hosters) print them. The access key's id is no secret (each request carries it in clear, and AWS's own logs show it):
botocore's DEBUG log may have it, nothing of ours may.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote, quote_plus

import boto3
import pytest
from botocore.exceptions import ClientError

HERE = Path(__file__).parent
SSE_KEY = hashlib.sha256(b"the key of these tests").digest()
OTHER_SSE_KEY = hashlib.sha256(b"another key").digest()
OTHER_SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"


def forms(secret: bytes) -> set[str]:
    """How a secret may look in a text: raw, as Python shows it, in base64, in hex, in a URL."""
    text = secret.decode("latin-1")
    encoded = base64.b64encode(secret).decode()
    urlsafe = base64.urlsafe_b64encode(secret).decode()
    shown = {text, repr(text)[1:-1], repr(secret)[2:-1], secret.hex(), secret.hex().upper(), encoded, urlsafe}
    return shown | {quote(form, safe="") for form in (encoded, urlsafe)} | {quote(secret, safe=""), quote_plus(secret)}


def temporary_keys(settings) -> tuple[str, str, str]:
    """Access key, secret key and session token from the server's STS."""
    client = boto3.client(
        "sts",
        endpoint_url=settings.endpoint_url,
        region_name=settings.region,
        aws_access_key_id=settings.access_key,
        aws_secret_access_key=settings.secret_key,
        verify=str(settings.ca_bundle) if settings.ca_bundle else None,
    )
    try:
        issued = client.get_session_token()["Credentials"]
    except ClientError as error:
        pytest.skip(f"the server issues no session token: {error}")
    return issued["AccessKeyId"], issued["SecretAccessKey"], issued["SessionToken"]


@pytest.mark.parametrize(("sse", "token"), [("", True), ("sse-c", False), ("client-side", False)])
def test_no_secret_is_told(settings, s3_server, tmp_path, sse, token):
    session_token = ""
    if token:
        access_key, secret_key, session_token = temporary_keys(settings)
    else:
        access_key, secret_key = settings.access_key, settings.secret_key
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path]),
        "TOLD_ACCESS_KEY": access_key,
        "TOLD_SECRET_KEY": secret_key,
        "WRONG_TOLD_SECRET_KEY": OTHER_SECRET,
        "TOLD_TOKEN": session_token,
    }
    if sse:
        environment["TOLD_SSE_KEY"] = base64.b64encode(SSE_KEY).decode()
        environment["WRONG_TOLD_SSE_KEY"] = base64.b64encode(OTHER_SSE_KEY).decode()
    given = {
        "bucket": settings.bucket,
        "prefix": "told",
        "region": settings.region,
        "folder": str(tmp_path),
        "upstream": getattr(s3_server, "tls_endpoint_url", None) or settings.endpoint_url,
        "upstream_ca": str(s3_server.ca_bundle) if hasattr(s3_server, "ca_bundle") else None,
        "told": str(tmp_path / "told"),
        "sse": sse,
        "token": token,
    }
    done = subprocess.run(
        [sys.executable, str(HERE / "telling.py")],
        input=json.dumps(given),
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    # Two threads may have written into the middle of each other's characters.
    told = (tmp_path / "told").read_bytes().decode(errors="backslashreplace") + done.stdout + done.stderr
    # It did fail in all these ways, and botocore did log its requests.
    assert {"Unavailable", "Refused", "ConfigurationError", "Corrupt"} <= set(json.loads(done.stdout))
    assert "Making request for OperationModel(name=PutObject)" in told
    assert "collective.s3blobstorage" in told
    assert ("x-amz-server-side-encryption-customer-key" in told.lower()) is (sse == "sse-c")
    assert ("x-amz-security-token" in told.lower()) is token
    secrets = [secret_key.encode(), OTHER_SECRET.encode(), session_token.encode(), SSE_KEY, OTHER_SSE_KEY]
    found = [
        (number, told[max(0, place - 200) : place])
        for number, secret in enumerate(secrets)
        for form in forms(secret)
        if secret and (place := told.find(form)) >= 0
    ]
    assert found == []
    assert re.findall(r"(?i)signature\W{1,5}[0-9a-f]{64}", told) == []
    ours = [line for line in told.splitlines() if re.match(r"collective|ERROR|<|S3Blob", line)]
    assert ours and not [line for line in ours if access_key in line]
