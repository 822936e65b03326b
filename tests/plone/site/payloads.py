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
    return Payload(filename, "application/pdf", _pdf_of(objects))


def _pdf_of(objects: list[bytes]) -> bytes:
    body = bytearray(b"%PDF-1.4\n")
    offsets = []
    for number, content in enumerate(objects, 1):
        offsets.append(len(body))
        body += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    start = len(body)
    body += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    body += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    body += b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, start)
    return bytes(body)


def png(filename: str = "photo.png", width: int = 900, height: int = 600) -> Payload:
    """A picture larger than Plone's preview scale, with noise, so that it does not compress away."""
    picture = Image.linear_gradient("L").resize((width, height))
    noise = Image.frombytes("L", (width, height), os.urandom(width * height))
    file = io.BytesIO()
    Image.merge("RGB", (picture, noise, picture.transpose(Image.Transpose.ROTATE_180))).save(file, "PNG")
    return Payload(filename, "image/png", file.getvalue())


def noise(megabytes: int, filename: str = "recording.bin") -> Payload:
    return Payload(filename, "application/octet-stream", os.urandom(megabytes * MEGABYTE + 13))


def video(filename: str = "film.webm", seconds: int = 20, megabits: float = 6.0) -> Payload:
    """A WebM (VP8) of noise, about ``megabits`` a second, with an index of its key frames, so that players can jump."""
    import av  # here, since nothing else of the tests needs it

    file = io.BytesIO()
    with av.open(file, "w", format="webm", options={"cues_to_front": "0"}) as container:
        stream = container.add_stream("libvpx", rate=10)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        stream.bit_rate = int(megabits * 1e6)
        stream.gop_size = 10  # a key frame each second
        stream.options = {"deadline": "realtime", "cpu-used": "8", "minrate": "4M", "qmax": "20"}
        noise = [Image.effect_noise((320, 240), 120).convert("RGB") for _ in range(7)]
        for number in range(seconds * 10):
            container.mux(stream.encode(av.VideoFrame.from_image(noise[number % 7])))
        container.mux(stream.encode())
    return Payload(filename, "video/webm", file.getvalue())


def written_pdf(words: str, filename: str = "words.pdf") -> Payload:
    """A PDF that shows these words, as text."""
    content = b"BT /F1 12 Tf 20 100 Td (%s) Tj ET" % words.encode()
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 200] /Contents 4 0 R"
        b" /Resources << /Font << /F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(content), content),
    ]
    return Payload(filename, "application/pdf", _pdf_of(objects))
