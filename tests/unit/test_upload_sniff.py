"""What first bytes look like, and that nothing a browser runs gets in as something else."""

from __future__ import annotations

import codecs
import struct

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

pytest.importorskip("zope.i18nmessageid")

from collective.s3blobstorage.uploading.interfaces import UploadRefused  # noqa: E402
from collective.s3blobstorage.uploading.sniff import LOOKS_AT, settled, sniffed  # noqa: E402

SVG_NS = b'xmlns="http://www.w3.org/2000/svg"'
BMP = b"BM" + struct.pack("<IHHI", 70, 0, 0, 54) + struct.pack("<I", 40) + bytes(48)

BINARY = [
    (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "image/png"),
    (b"\xff\xd8\xff\xe0\0\x10JFIF\0", "image/jpeg"),
    (b"\xff\xd8\xff\xe1\0\x10Exif\0", "image/jpeg"),
    (b"GIF89a\1\0\1\0", "image/gif"),
    (b"RIFF\x24\0\0\0WEBPVP8 ", "image/webp"),
    (b"RIFF\x24\0\0\0WAVEfmt ", "audio/wav"),
    (b"RIFF\x24\0\0\0AVI LIST", "video/x-msvideo"),
    (BMP, "image/bmp"),
    (b"II*\0\x08\0\0\0", "image/tiff"),
    (b"MM\0*\0\0\0\x08", "image/tiff"),
    (b"\0\0\1\0\1\0\x10\x10", "image/x-icon"),
    (b"\0\0\0\x1cftypavif\0\0\0\0", "image/avif"),
    (b"\0\0\0\x18ftypheic\0\0\0\0", "image/heic"),
    (b"\0\0\0\x18ftypisom\0\0\2\0", "video/mp4"),
    (b"\0\0\0<ftypisom\0\0\2\0" + b"isom" * 10, "video/mp4"),  # 60 is "<"
    (b"\0\0\0\x14ftypqt  \0\0\2\0", "video/quicktime"),
    (b"\0\0\0\x20ftypM4A \0\0\2\0", "audio/mp4"),
    (b"\x1aE\xdf\xa3\x01\0\0\0", "video/webm"),
    (b"OggS\0\2", "application/ogg"),
    (b"fLaC\0\0\0\"", "audio/flac"),
    (b"ID3\3\0\0", "audio/mpeg"),
    (b"%PDF-1.7\n", "application/pdf"),
    (b"\r\n junk \r\n%PDF-1.4\n", "application/pdf"),
    (b"PK\3\4\x14\0", "application/zip"),
    (b"\x1f\x8b\x08\0", "application/gzip"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "application/x-ole-storage"),
    (b"#!/bin/sh\nrm -rf /", "text/x-script"),
    (b"<?php echo 1;", "application/x-php"),
]  # fmt: skip

MARKUP = [
    (b"<html>", "text/html"),
    (b"<!doctype html><title>x", "text/html"),
    (b"<!DOCTYPE HTML PUBLIC '-//W3C//DTD HTML 4.01//EN'>", "text/html"),
    (b"<script>alert(1)</script>", "text/html"),
    (b"<SCRIPT src=//x>", "text/html"),
    (b"<img src=x onerror=alert(1)>", "text/html"),
    (b"<p>hello", "text/html"),
    (b"<!-- a --><body onload=x>", "text/html"),
    (b"<!--" + b"x" * 5000, "text/html"),
    (b"<!doctype html", "text/html"),
    (b"</p><script>", "text/html"),
    (b"<svg onload=alert(1)>", "image/svg+xml"),
    (b"<svg " + SVG_NS + b"/>", "image/svg+xml"),
    (b"<svg:svg xmlns:svg='http://www.w3.org/2000/svg'/>", "image/svg+xml"),
    (b"<x:g xmlns:x='http://www.w3.org/2000/svg'/>", "image/svg+xml"),
    (b'<?xml version="1.0" encoding="UTF-8"?>\n<!-- Inkscape -->\n<svg ' + SVG_NS + b">", "image/svg+xml"),
    (b'<?xml version="1.0"?><?xml-stylesheet href="x"?><svg>', "image/svg+xml"),
    (b'<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "x" [ <!ENTITY a "b"> ]><svg>', "image/svg+xml"),
    (b"<!-- long --><!-- comments --><svg>", "image/svg+xml"),
    (b'<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml">', "application/xhtml+xml"),
    (b'<?xml version="1.0"?><rss version="2.0">', "text/xml"),
    (b'<?xml version="1.0"?>', "text/xml"),
    (b"<x xmlns='urn:x'/>", "text/xml"),
    (b"<b:script xmlns:b='http://www.w3.org/1999/xhtml'>", "application/xhtml+xml"),
]  # fmt: skip

NOTHING = [b"", b"hello", b"a < b", b"{}", b"BM is two letters", b"II. and III.", b"x,y\n1,2\n", b"\0" * 100, b"< p>",
           b"\xff\xfb\x90\x44\0\0", b"\x47\x40\x00\x10", "Grüße".encode("utf-16")]  # fmt: skip


@pytest.mark.parametrize(("data", "seen"), BINARY + MARKUP)
def test_what_it_looks_like(data, seen):
    assert sniffed(data) == seen
    assert sniffed(data + b" " * LOOKS_AT) == seen


@pytest.mark.parametrize("data", NOTHING)
def test_what_nobody_can_tell(data):
    assert sniffed(data) is None


ENCODED = [(codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"),
           (codecs.BOM_UTF32_LE, "utf-32-le"), (codecs.BOM_UTF32_BE, "utf-32-be"), (b"", "utf-16-le"),
           (b"", "utf-16-be"), (b"", "utf-32-le"), (b"", "utf-32-be")]  # fmt: skip


@pytest.mark.parametrize(("mark", "encoding"), ENCODED)
@pytest.mark.parametrize("blank", ["", "\n \t"])
@pytest.mark.parametrize(("data", "seen"), MARKUP)
def test_markup_in_any_encoding_and_behind_blanks(data, seen, blank, mark, encoding):
    assert sniffed(mark + (blank + data.decode()).encode(encoding)) == seen


def test_only_the_beginning_counts():
    assert sniffed(b" " * LOOKS_AT + b"<html>") is None
    assert sniffed(b" " * (LOOKS_AT - 6) + b"<html>") == "text/html"


def refused(announced, seen):
    try:
        assert settled(announced, seen) == announced
    except UploadRefused as error:
        assert error.kind == "type" and announced in error.message.mapping.values()
        return True
    return False


FITS = [
    ("image/jpeg", "image/jpeg"), ("image/jpg", "image/jpeg"), ("image/heif", "image/heic"), ("image/bmp", "image/bmp"),
    ("image/x-ms-bmp", "image/bmp"), ("image/apng", "image/png"), ("image/x-canon-cr2", "image/tiff"),
    ("image/x-unknown", None), ("image/svg+xml", "image/svg+xml"), ("image/svg+xml", "text/xml"),
    ("image/svg+xml", None), ("video/mp4", "video/mp4"), ("video/mp4", None), ("audio/mp4", "video/mp4"),
    ("video/x-matroska", "video/webm"), ("audio/ogg", "application/ogg"), ("audio/mpeg", None), ("font/woff2", None),
    ("application/pdf", "application/pdf"), ("text/plain", "text/html"), ("text/plain", "image/svg+xml"),
    ("text/html", "text/html"), ("application/octet-stream", "text/html"), ("application/octet-stream", "image/png"),
    ("application/vnd.openxmlformats-officedocument.wordprocessingml.document", "application/zip"),
    ("application/msword", "application/x-ole-storage"), ("text/csv", None), ("text/html", None),
]  # fmt: skip
REFUSED = [
    ("image/jpeg", "image/svg+xml"), ("image/jpeg", "text/html"), ("image/jpeg", None), ("image/jpeg", "image/png"),
    ("image/png", "application/zip"), ("image/gif", "text/xml"), ("image/webp", "application/xhtml+xml"),
    ("image/x-unknown", "text/html"), ("image/x-unknown", "image/svg+xml"), ("image/x-unknown", "application/zip"),
    ("image/svg+xml", "image/png"), ("video/mp4", "text/html"), ("video/mp4", "image/svg+xml"),
    ("video/mp4", "application/zip"), ("video/mp4", "image/jpeg"), ("audio/mpeg", "text/x-script"),
    ("font/woff2", "text/html"), ("application/pdf", "text/html"), ("application/pdf", None),
]  # fmt: skip


@pytest.mark.parametrize(("announced", "seen"), FITS)
def test_goes_with_what_was_announced(announced, seen):
    assert not refused(announced, seen)


@pytest.mark.parametrize(("announced", "seen"), REFUSED)
def test_does_not_go_with_it(announced, seen):
    assert refused(announced, seen)


INERT = ["image/jpeg", "image/png", "image/gif", "image/webp", "image/avif", "image/x-whatever", "video/mp4",
         "video/x-whatever", "audio/mpeg", "font/woff2", "application/pdf"]  # fmt: skip
blanks = st.lists(st.sampled_from([b" ", b"\n", b"\t", b"\r\n", b"\x0c", b"<!-- x -->", b"<!---->"]), max_size=6).map(
    b"".join
)


@given(
    st.sampled_from(INERT),
    blanks,
    st.sampled_from([data for data, _ in MARKUP]),
    st.sampled_from(ENCODED),
    st.binary(max_size=50),
)
def test_markup_is_never_a_picture_or_a_film(announced, blank, data, encoded, rest):
    mark, encoding = encoded
    assume(mark or not blank.lstrip().startswith(b"<!"))  # without a mark such a file has to be decoded as something
    sent = mark + (blank + data).decode().encode(encoding) + rest
    assert refused(announced, sniffed(sent))


@given(st.text(max_size=30), st.binary(max_size=200))
@example("text/plain", b"<html>")
def test_the_result_is_what_was_announced_or_nothing(announced, data):
    """So it is never a type that a browser runs, unless that was announced."""
    refused(announced, sniffed(data))


@given(st.binary(max_size=400))
def test_any_bytes_have_an_answer(data):
    seen = sniffed(data)
    assert seen is None or seen.count("/") == 1
    for signature, content_type in BINARY:
        if not content_type.startswith(("text/", "application/x-php")) and not data.lstrip().startswith(b"<"):
            assert sniffed(signature + data) == content_type
