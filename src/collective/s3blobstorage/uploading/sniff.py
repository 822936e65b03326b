"""What the first bytes of a file look like, and whether that goes with what was said of it. Pure; unpacks nothing.

It keeps files that a browser would run, as HTML and SVG, from coming as pictures or films, and pictures from being
something else. It makes no type of its own: a file is stored under the type that was announced, or refused.

The table is ours and short: what is asked is what a browser does with the bytes. Libraries know many more types by two
or three bytes, with which text begins as well, and none of them knows markup behind a byte order mark or a comment.
"""

import codecs
import re

from zope.i18nmessageid import MessageFactory

from .interfaces import UploadRefused

_ = MessageFactory("collective.s3blobstorage")

LOOKS_AT = 4096  # bytes

HTML, XHTML, SVG, XML = "text/html", "application/xhtml+xml", "image/svg+xml", "text/xml"
_MARKUP = {HTML, XHTML, SVG, XML}

# (offset, bytes, type). Long enough that no text begins with them, but for BMP, where more is looked at.
_SIGNATURES = (
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"GIF87a", "image/gif"),
    (0, b"GIF89a", "image/gif"),
    (0, b"II*\x00", "image/tiff"),
    (0, b"MM\x00*", "image/tiff"),
    (0, b"II+\x00", "image/tiff"),  # BigTIFF
    (0, b"MM\x00+", "image/tiff"),
    (0, b"\x00\x00\x01\x00", "image/x-icon"),
    (0, b"8BPS\x00", "image/vnd.adobe.photoshop"),
    (0, b"\x00\x00\x00\x0cjP  \r\n\x87\n", "image/jp2"),
    (0, b"\x00\x00\x00\x0cJXL \r\n\x87\n", "image/jxl"),
    (0, b"\xff\x0a", "image/jxl"),
    (0, b"%PDF-", "application/pdf"),
    (0, b"\x1aE\xdf\xa3", "video/webm"),  # Matroska too
    (0, b"OggS\x00", "application/ogg"),
    (0, b"fLaC\x00", "audio/flac"),
    (0, b"ID3\x02", "audio/mpeg"),
    (0, b"ID3\x03", "audio/mpeg"),
    (0, b"ID3\x04", "audio/mpeg"),
    (0, b"FLV\x01", "video/x-flv"),
    (0, b"PK\x03\x04", "application/zip"),
    (0, b"PK\x05\x06", "application/zip"),
    (0, b"\x1f\x8b\x08", "application/gzip"),
    (4, b"1AY&SY", "application/x-bzip2"),
    (0, b"\xfd7zXZ\x00", "application/x-xz"),
    (0, b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"),
    (0, b"Rar!\x1a\x07", "application/vnd.rar"),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "application/x-ole-storage"),
    (0, b"\x7fELF", "application/x-elf"),
    (0, b"#!/", "text/x-script"),
    (0, b"#! /", "text/x-script"),
)  # fmt: skip
_RIFF = {b"WEBP": "image/webp", b"WAVE": "audio/wav", b"AVI ": "video/x-msvideo"}
# The brand of an ISO file, at offset 8; all others are films.
_BRANDS = {
    b"avif": "image/avif", b"avis": "image/avif", b"heic": "image/heic", b"heix": "image/heic", b"heim": "image/heic",
    b"heis": "image/heic", b"hevc": "image/heic", b"hevx": "image/heic", b"hevm": "image/heic", b"hevs": "image/heic",
    b"mif1": "image/heif", b"mif2": "image/heif", b"msf1": "image/heif", b"miaf": "image/heif", b"avio": "image/avif",
    b"M4A ": "audio/mp4", b"M4B ": "audio/mp4", b"qt  ": "video/quicktime", b"crx ": "image/x-canon-cr3",
}  # fmt: skip

# Other names of a type, and types whose files begin alike.
_ALSO = {
    "image/jpeg": {"image/jpg", "image/pjpeg"},
    "image/png": {"image/x-png", "image/apng", "image/vnd.mozilla.apng"},
    "image/tiff": {"image/tiff-fx", "image/tif"},
    "image/bmp": {"image/x-ms-bmp", "image/x-bmp"},
    "image/x-icon": {"image/vnd.microsoft.icon", "image/ico"},
    "image/heic": {"image/heif", "image/heic-sequence", "image/heif-sequence"},
    "image/heif": {"image/heic", "image/avif", "image/heic-sequence", "image/heif-sequence"},
    "image/avif": {"image/heif", "image/avif-sequence"},
    "image/vnd.adobe.photoshop": {"image/x-photoshop", "image/psd"},
    "image/jp2": {"image/jpx", "image/jpm"},
}
_IMAGES = {"image/webp", "image/gif", "image/jxl", *_ALSO, *(name for names in _ALSO.values() for name in names)}

_BLANK = b"\t\n\x0b\x0c\r "
# Markup in an encoding that no mark tells. A film begins with the size of its first box: 60 is b"\0\0\0<".
_UNMARKED = (
    (re.compile(rb"(?:[\t\n\x0c\r ]\0\0\0)*<\0\0\0[^\0]"), "utf-32-le"),
    (re.compile(rb"(?:\0\0\0[\t\n\x0c\r ])*\0\0\0<\0\0\0[^\0]"), "utf-32-be"),
    (re.compile(rb"(?:[\t\n\x0c\r ]\0)*<\0[^\0]"), "utf-16-le"),
    (re.compile(rb"(?:\0[\t\n\x0c\r ])*\0<\0[^\0]"), "utf-16-be"),
)
_COMMENT = re.compile(rb"<!--.*?(?:-->|--!>|\Z)", re.DOTALL)
_INSTRUCTION = re.compile(rb"<\?.*?(?:>|\Z)", re.DOTALL)
_DOCTYPE = re.compile(rb"<!DOCTYPE\s+(?:[\w.-]+:)?([\w.-]+)[^>\[]*(?:\[.*?\]\s*)?(?:>|\Z)", re.DOTALL | re.IGNORECASE)
_ELEMENT = re.compile(rb"<(?:[\w.-]+:)?([A-Za-z][\w.-]*)([^>]*)", re.DOTALL)
_XHTML = b"http://www.w3.org/1999/xhtml"
_SVG = b"http://www.w3.org/2000/svg"
# With which a browser takes a file for HTML (WHATWG, MIME Sniffing, 7.1), and others that run something or load it.
_TAGS = set(
    b"html head body script iframe h1 h2 h3 h4 h5 h6 div font table a style title b br p link meta base object embed"
    b" applet frame frameset form img image input button video audio source textarea select svg math template details"
    b" marquee isindex plaintext xmp noscript center span ul ol li dl pre section article nav main header footer"
    .split()
)  # fmt: skip


def sniffed(beginning):
    """The type that a file looks like whose first bytes these are, up to 4 KiB; None where they do not tell.

    Markup comes before everything: bytes that a browser may run are told as such, whatever else they begin with.
    ``text/xml`` stands for any other XML.
    """
    beginning = bytes(beginning[:LOOKS_AT])
    text = _as_ascii(beginning)
    markup = _markup(text)
    if markup is not None:
        return markup
    for offset, signature, content_type in _SIGNATURES:
        if beginning.startswith(signature, offset):
            return content_type
    if beginning[:4] == b"RIFF" and beginning[8:12] in _RIFF:
        return _RIFF[beginning[8:12]]
    if beginning[4:8] == b"ftyp":
        return _BRANDS.get(beginning[8:12], "video/mp4")
    # "BM" begins words too: the sizes of a header that there is have to follow, and four bytes that are zero.
    if beginning[:2] == b"BM" and beginning[6:10] == bytes(4) and beginning[14:18] in _BITMAP_HEADERS:
        return "image/bmp"
    if b"%PDF-" in beginning[:1024]:  # readers look for it that far
        return "application/pdf"
    return None


_BITMAP_HEADERS = {size.to_bytes(4, "little") for size in (12, 40, 52, 56, 64, 108, 124)}


def settled(announced, seen):
    """The type under which it is stored: the announced one. UploadRefused of kind ``type`` where it cannot be that.

    :param announced: in lower case, without parameters
    :param seen: what ``sniffed`` said
    """
    main = announced.partition("/")[0]
    if announced == SVG:
        fits = seen is None or seen in _MARKUP
    elif announced in _IMAGES:
        fits = seen is not None and (announced == seen or announced in _ALSO.get(seen, ()))
    elif main == "image":  # one that we know nothing of, as of a camera
        fits = seen is None or (seen.startswith("image/") and seen != SVG)
    elif main in ("audio", "video"):
        fits = seen is None or seen.partition("/")[0] in ("audio", "video") or seen == "application/ogg"
    elif main == "font":
        fits = seen is None
    elif announced == "application/pdf":
        fits = seen == announced
    else:
        fits = True
    if fits:
        return announced
    raise UploadRefused(
        _("The file is said to be of the type ${announced}, and is not.", mapping={"announced": announced})
        if seen is None
        else _(
            "The file is said to be of the type ${announced}, and looks like ${seen}.",
            mapping={"announced": announced, "seen": seen},
        ),
        "type",
    )


def _as_ascii(beginning):
    """The bytes as a browser reads markup in them: what is no ASCII is one byte or another, whatever the encoding."""
    for mark, encoding in (
        (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it begins with
        (codecs.BOM_UTF32_BE, "utf-32-be"),
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
    ):
        if beginning.startswith(mark):
            return beginning[len(mark) :].decode(encoding, "replace").encode("ascii", "replace")
    for begins, encoding in _UNMARKED:
        if begins.match(beginning):
            return beginning.decode(encoding, "replace").encode("ascii", "replace")
    return beginning


def _markup(text):
    """Which markup it is; None where it is none. What comes before the first element is passed over."""
    is_xml = False
    while True:
        text = text.lstrip(_BLANK)
        if text.startswith(b"<!--"):
            found, is_markup = _COMMENT.match(text), HTML
        elif text[:5].lower() == b"<?php":
            return "application/x-php"
        elif text.startswith(b"<?"):
            found, is_markup = _INSTRUCTION.match(text), XML
            is_xml = is_xml or text[:5].lower() == b"<?xml"
        else:
            break
        text = text[found.end() :]
        if not text.lstrip(_BLANK):  # nothing else was seen of it
            return XML if is_xml else is_markup
    doctype = _DOCTYPE.match(text)
    if doctype is not None:
        kind = doctype[1].lower()
        return SVG if kind == b"svg" else HTML if kind == b"html" else XML
    element = _ELEMENT.match(text)
    if element is None:
        return XML if is_xml else HTML if text[:2] in (b"<!", b"</") else None
    name, attributes = element[1].lower(), element[2]
    if name == b"svg" or (_SVG in attributes and name not in _TAGS):
        return SVG
    if _XHTML in attributes:
        return XHTML
    if is_xml:
        return XML
    return HTML if name in _TAGS else XML
