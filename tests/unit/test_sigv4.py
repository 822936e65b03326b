"""The signature is botocore's, whatever is signed."""

from __future__ import annotations

import string

import botocore.auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from collective.s3blobstorage.objectstore.sigv4 import authorization, query_signature

TEXT = st.text(string.printable.strip() + " ", min_size=1, max_size=40).map(str.strip).filter(bool)
NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9-]{0,20}", fullmatch=True).filter(
    lambda name: name.lower() not in (*botocore.auth.SIGNED_HEADERS_BLACKLIST, "host", "x-amz-date", "authorization")
)


def by_botocore(method, path, headers, keys, region):
    request = AWSRequest(method, "http://s3.example.org" + path, dict(headers))
    request.context["timestamp"] = headers["X-Amz-Date"]
    signer = botocore.auth.S3SigV4Auth(keys, "s3", region)
    signed = signer.string_to_sign(request, signer.canonical_request(request))
    names = signer.signed_headers(signer.headers_to_sign(request))
    signature = signer.signature(signed, request)
    return f"AWS4-HMAC-SHA256 Credential={signer.scope(request)}, SignedHeaders={names}, Signature={signature}"


@given(
    st.sampled_from(["GET", "PUT"]),
    st.text("abcXYZ019-_.~/%", max_size=30),
    st.dictionaries(NAMES, TEXT, max_size=6),
    st.tuples(TEXT, TEXT),
    st.sampled_from(["eu-central-1", "us-east-1"]),
    st.sampled_from(["20261125T235959Z", "20261126T000000Z"]),
)
def test_the_same_as_botocores(method, path, others, pair, region, moment):
    by_lower = {name.lower(): (name, value) for name, value in others.items()}
    headers = dict(by_lower.values()) | {
        "Host": "s3.example.org",
        "X-Amz-Date": moment,
        "X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD",
    }
    keys = Credentials(*pair)
    expected = by_botocore(method, "/" + path, headers, keys, region)
    named = {"access_key": pair[0], "secret_key": pair[1], "region": region, "service": "s3"}
    assert authorization(method, "/" + path, headers, **named) == expected


def test_the_example_of_the_documentation():
    """Amazon S3 API reference, "Authenticating requests", GET Object with a range: its keys, date and signature."""
    headers = {
        "Host": "examplebucket.s3.amazonaws.com",
        "Range": "bytes=0-9",
        "x-amz-content-sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "x-amz-date": "20130524T000000Z",
    }
    value = authorization(
        "GET",
        "/test.txt",
        headers,
        access_key="AKIAIOSFODNN7EXAMPLE",
        secret_key="wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        region="us-east-1",
        service="s3",
    )
    assert value == (
        "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, "
        "SignedHeaders=host;range;x-amz-content-sha256;x-amz-date, "
        "Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
    )


def test_the_example_of_a_presigned_url():
    """Amazon S3 API reference, "Authenticating requests: using query parameters": its keys, date and signature."""
    query = (
        "X-Amz-Algorithm=AWS4-HMAC-SHA256"
        "&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request"
        "&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"
    )
    value = query_signature(
        "GET",
        "/test.txt",
        query,
        {"Host": "examplebucket.s3.amazonaws.com"},
        moment="20130524T000000Z",
        secret_key="wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        region="us-east-1",
        service="s3",
    )
    assert value == "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
