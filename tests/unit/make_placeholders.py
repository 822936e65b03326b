"""Writes the files that stand for missing blobs into the package. Run by hand, with Pillow; the files are kept."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

TEXT = "This file is not in this copy of the site."
SIZE = (480, 320)


def picture() -> Image.Image:
    image = Image.new("RGB", SIZE, "#f1f3f5")
    draw = ImageDraw.Draw(image)
    draw.rectangle((4, 4, SIZE[0] - 5, SIZE[1] - 5), outline="#868e96", width=2)
    draw.text((SIZE[0] / 2, SIZE[1] / 2), TEXT, fill="#343a40", font=ImageFont.load_default(20), anchor="mm")
    return image


def pdf() -> bytes:
    """One page of A5, by the rules of ISO 32000-1; the offsets of its objects are counted here."""
    stream = f"BT /F 16 Tf 50 300 Td ({TEXT}) Tj ET".encode()
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 420 595] /Contents 4 0 R"
        b" /Resources << /Font << /F << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream),
    ]
    out, offsets = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n%s" % (len(objects) + 1, table)
    return out + b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, start)


def archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr(zipfile.ZipInfo("missing.txt", (1980, 1, 1, 0, 0, 0)), TEXT + "\n")
    return buffer.getvalue()


def image(format: str) -> bytes:
    buffer = io.BytesIO()
    drawn = picture()
    (drawn.quantize(16) if format in ("PNG", "GIF") else drawn).save(buffer, format, optimize=True)
    return buffer.getvalue()


def main() -> None:
    folder = Path(__file__).parents[2] / "src" / "collective" / "s3blobstorage" / "storage" / "placeholders"
    width, height = SIZE
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">'
        f'<rect x="4" y="4" width="{width - 8}" height="{height - 8}" fill="#f1f3f5" stroke="#868e96"/>'
        f'<text x="50%" y="50%" text-anchor="middle" font-family="sans-serif" font-size="20">{TEXT}</text></svg>\n'
    )
    page = f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>Missing</title><p>{TEXT}</p></html>\n'
    for ending, data in {
        "txt": f"{TEXT}\n".encode(),
        "html": page.encode(),
        "svg": svg.encode(),
        "pdf": pdf(),
        "zip": archive(),
        "png": image("PNG"),
        "gif": image("GIF"),
        "jpg": image("JPEG"),
        "webp": image("WEBP"),
    }.items():
        (folder / f"missing.{ending}").write_bytes(data)


if __name__ == "__main__":
    main()
