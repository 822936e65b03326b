"""A page of a listing, read by us and by botocore."""

from __future__ import annotations

from datetime import UTC, datetime
from xml.sax.saxutils import escape

import botocore.session
import pytest
from botocore.awsrequest import HeadersDict
from botocore.parsers import ResponseParserError, ResponseParserFactory
from hypothesis import given
from hypothesis import strategies as st

from collective.s3blobstorage.objectstore.pages import read_page

NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
SHAPE = botocore.session.Session().get_service_model("s3").operation_model("ListObjectsV2").output_shape
NEEDED = ("Key", "LastModified", "ETag", "Size")
MEMBERS = (*NEEDED, "StorageClass")


def read_by_botocore(body: bytes) -> dict:
    answer = {
        "headers": HeadersDict(),
        "status_code": 200,
        "body": body,
        "context": {"operation_name": "ListObjectsV2"},
    }
    page = ResponseParserFactory().create_parser("rest-xml").parse(answer, SHAPE)
    page["Contents"] = [{name: line[name] for name in MEMBERS if name in line} for line in page.get("Contents", ())]
    return page


# What XML 1.0 can hold; a carriage return only as a reference, since a parser turns a bare one into a line's end.
texts = st.text(
    st.characters(codec="utf-8", exclude_characters="\r\ufffe\uffff", exclude_categories=("Cc", "Cs")), min_size=1
)
moments = st.datetimes(
    datetime(1970, 1, 2),
    datetime(2200, 1, 1),
    timezones=st.sampled_from([UTC]),  # noqa: DTZ001 - hypothesis wants them so
)
forms = st.sampled_from(["%Y-%m-%dT%H:%M:%S.000Z", "%Y-%m-%dT%H:%M:%SZ", "%a, %d %b %Y %H:%M:%S GMT"])
more = st.sampled_from(
    ["", "<StorageClass>STANDARD</StorageClass>", "<Owner><ID>Key</ID><DisplayName>é</DisplayName></Owner>", "<!-- -->"]
)


@st.composite
def contents(draw) -> str:
    modified = draw(moments).strftime(draw(forms))
    written = [
        f"<Key>{draw(st.sampled_from([escape, cdata, referenced]))(draw(texts))}</Key>",
        f"<LastModified>{modified}</LastModified>",
        f"<ETag>&quot;{draw(st.text('0123456789abcdef-'))}&#34;</ETag>",
        f"<Size>{draw(st.integers(0, 2**63))}</Size>",
        draw(more),
    ]
    gap = draw(st.sampled_from(["", "\n", "  "]))
    return f"<Contents>{gap.join(written)}</Contents>"


def cdata(text: str) -> str:
    return escape(text) if "]]>" in text else f"<![CDATA[{text}]]>"


def referenced(text: str) -> str:
    return "".join(f"&#x{ord(character):x};" for character in text)


@st.composite
def pages(draw) -> bytes:
    lines = draw(st.lists(contents(), max_size=4))
    head = [
        f"<IsTruncated>{draw(st.sampled_from(['true', 'false']))}</IsTruncated>",
        draw(st.sampled_from(["", "<EncodingType>url</EncodingType>"])),
        draw(st.sampled_from(["", "<Prefix/>", "<Prefix>a/</Prefix>"])),
        draw(st.sampled_from(["", "<NextContinuationToken>a+/=&amp;</NextContinuationToken>"])),
    ]
    inside = "".join(head + lines if draw(st.booleans()) else lines + head)
    open_, close = draw(
        st.sampled_from(
            [
                ("<ListBucketResult>", "</ListBucketResult>"),
                (f'<ListBucketResult xmlns="{NAMESPACE}">', "</ListBucketResult>"),
            ]
        )
    )
    declaration = draw(st.sampled_from(["", '<?xml version="1.0" encoding="UTF-8"?>\n']))
    return f"{declaration}{open_}{inside}{close}".encode()


@given(pages())
def test_as_botocore_reads_it(body):
    ours, theirs = read_page(body), read_by_botocore(body)
    assert ours.get("Contents", []) == theirs["Contents"]
    for name in ("IsTruncated", "EncodingType", "Prefix", "NextContinuationToken"):
        assert ours.get(name) == theirs.get(name)
    assert all(line["LastModified"].utcoffset() is not None for line in ours.get("Contents", ()))


LINE = "<Key>a</Key><LastModified>2026-11-21T00:00:00Z</LastModified><ETag>e</ETag><Size>1</Size>"
GOOD = f"<ListBucketResult><IsTruncated>false</IsTruncated><Contents>{LINE}</Contents></ListBucketResult>"


@given(st.integers(0, len(GOOD) - 1))
def test_a_page_that_was_cut(length):
    assert len(read_page(GOOD.encode())["Contents"]) == 1
    with pytest.raises(ResponseParserError):
        read_page(GOOD[:length].encode())


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"<html><body>Sign in</body></html>",
        b"<html><IsTruncated>false</IsTruncated></html>",
        b"<ListBucketResult/>",
        b"<ListBucketResult><IsTruncated/></ListBucketResult>",
        b"<ListBucketResult><IsTruncated>perhaps</IsTruncated></ListBucketResult>",
        b"<ListBucketResult><Contents><IsTruncated>false</IsTruncated></Contents></ListBucketResult>",
        b'<ListBucketResult xmlns:o="other"><o:IsTruncated>false</o:IsTruncated></ListBucketResult>',
        GOOD.replace("a<", "&unknown;<").encode(),
        GOOD.replace("a<", "\x00<").encode(),
        GOOD.encode() + b"<more/>",
        GOOD.encode().replace(b"a<", b"\xff<"),
        *(GOOD.replace(f"<{name}>", "<Other>").replace(f"</{name}>", "</Other>").encode() for name in NEEDED),
        GOOD.replace("<Key>a", "<Key>").encode(),
        GOOD.replace("<Size>1", "<Size>one").encode(),
        GOOD.replace("<Size>1", "<Size>").encode(),
        GOOD.replace("2026-11-21T00:00:00Z", "yesterday").encode(),
    ],
)
def test_what_is_no_whole_listing(body):
    with pytest.raises(ResponseParserError):
        read_page(body)


def test_an_error_is_left_to_botocore():
    assert read_page(b"<Error><Code>SlowDown</Code><Message>m</Message></Error>") is None
