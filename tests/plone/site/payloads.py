"""Files to upload: each one different from every other that any run ever made."""

from __future__ import annotations

import hashlib
import io
import os
from dataclasses import dataclass, field

from PIL import Image

MEGABYTE = 1024 * 1024


@dataclass(frozen=True)
class Payload:
    filename: str
    content_type: str
    data: bytes = field(repr=False)

    @property
    def fingerprint(self) -> tuple[int, str]:
        """Size and SHA-256: enough to find it among a bucket's objects."""
        return fingerprint(self.data)

    @property
    def traces(self) -> list[bytes]:
        """Some bytes out of it that occur nowhere else: random, and not touched by any encoding of a file."""
        middle = len(self.data) // 2
        return [self.data[middle : middle + 48], self.data[-1024:-976]]


def fingerprint(data: bytes) -> tuple[int, str]:
    return len(data), hashlib.sha256(data).hexdigest()


def pdf(filename: str = "report.pdf", kilobytes: int = 60) -> Payload:
    """A PDF of one page that readers open, with an attachment's worth of random bytes in it."""
    noise = os.urandom(kilobytes * 1024)
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 300 200] >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(noise), noise),
    ]
    body = bytearray(b"%PDF-1.4\n")
    offsets = []
    for number, content in enumerate(objects, 1):
        offsets.append(len(body))
        body += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    start = len(body)
    body += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    body += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    body += b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, start)
    return Payload(filename, "application/pdf", bytes(body))


def png(filename: str = "photo.png", width: int = 900, height: int = 600) -> Payload:
    """A picture larger than Plone's preview scale, with noise, so that it does not compress away."""
    picture = Image.linear_gradient("L").resize((width, height))
    noise = Image.frombytes("L", (width, height), os.urandom(width * height))
    file = io.BytesIO()
    Image.merge("RGB", (picture, noise, picture.transpose(Image.Transpose.ROTATE_180))).save(file, "PNG")
    return Payload(filename, "image/png", file.getvalue())


def noise(megabytes: int, filename: str = "recording.bin") -> Payload:
    return Payload(filename, "application/octet-stream", os.urandom(megabytes * MEGABYTE + 13))
