"""The example files of the demo, drawn by code: the repository carries no binary files."""

from __future__ import annotations

import io
import math
import random

from PIL import Image, ImageDraw, ImageFilter

Colour = tuple[int, int, int]


def landscape(seed: int, sky: tuple[Colour, Colour], hills: tuple[Colour, Colour], size=(1800, 1200)) -> bytes:
    """A JPEG of hills under a low sun.

    :param seed: decides the hills' shape
    :param sky: the colours at the top and at the horizon
    :param hills: the colours of the farthest and of the nearest hill
    :param size: width and height in pixels
    """
    width, height = size
    chance = random.Random(seed)
    column = Image.new("RGB", (1, height))
    for y in range(height):
        column.putpixel((0, y), blend(*sky, y / height))
    picture = column.resize(size)
    sun = Image.new("L", size, 0)
    x, y, radius = chance.uniform(0.25, 0.75) * width, 0.36 * height, 0.07 * height
    draw = ImageDraw.Draw(sun)
    draw.ellipse((x - 2 * radius, y - 2 * radius, x + 2 * radius, y + 2 * radius), fill=90)
    sun = sun.filter(ImageFilter.GaussianBlur(radius))
    ImageDraw.Draw(sun).ellipse((x - radius, y - radius, x + radius, y + radius), fill=235)
    picture.paste((255, 244, 214), mask=sun.filter(ImageFilter.GaussianBlur(2)))
    draw = ImageDraw.Draw(picture)
    ranges = 6
    for number in range(ranges):
        waves = [(chance.uniform(0.6, 1.6) * 2**octave, chance.uniform(0, 7), 0.5**octave) for octave in range(5)]
        base, swing = (0.45 + 0.09 * number) * height, 0.09 * height
        ridge = [
            (x, base - swing * sum(part * math.sin(speed * 6.3 * x / width + shift) for speed, shift, part in waves))
            for x in range(0, width + 8, 8)
        ]
        draw.polygon([(0, height), *ridge, (width, height)], fill=blend(*hills, number / (ranges - 1)))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=88)
    return buffer.getvalue()


def blend(first: Colour, second: Colour, share: float) -> Colour:
    return tuple(round(a + (b - a) * share) for a, b in zip(first, second, strict=True))


UPLOADS = (31, 44, 52, 40, 61, 75, 58, 49, 83, 96, 88, 104)  # of the report's chart
DUSK = ((58, 44, 104), (247, 166, 112)), ((178, 110, 128), (34, 24, 52))
MORNING = ((86, 156, 206), (240, 226, 196)), ((148, 184, 186), (22, 62, 58))
NIGHT = ((12, 18, 48), (76, 88, 142)), ((60, 74, 124), (8, 12, 28))


def report() -> bytes:
    """A PDF of one A4 page with headings, text and a bar chart."""
    page = ["0.03 0.35 0.53 rg 0 752 595 90 re f", text(56, 785, 26, "Blobs in the object store", "1 1 1", bold=True)]
    lines = [
        "This file was made by the demo. Its bytes are one object in the bucket, under a name",
        "that the ZODB record of the blob carries. Download it: what you get is what was stored,",
        "byte for byte, and its SHA-256 is in the record.",
    ]
    for number, line in enumerate(lines):
        page.append(text(56, 700 - 18 * number, 12, line))
    page.append(text(56, 612, 16, "Uploads per month", bold=True))
    for number, (month, uploads) in enumerate(zip("JFMAMJJASOND", UPLOADS, strict=True)):
        x = 60 + 40 * number
        page.append(f"0.03 0.49 {0.55 + uploads / 300:.2f} rg {x} 330 26 {2.4 * uploads:.0f} re f")
        page.append(text(x + 8, 312, 11, month))
        page.append(text(x + 4, 336 + 2.4 * uploads, 9, str(uploads)))
    return pdf("\n".join(page).encode("ascii"))


def text(x: float, y: float, size: int, line: str, colour: str = "0.15 0.15 0.2", bold: bool = False) -> str:
    escaped = line.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")
    return f"BT {colour} rg /F{2 if bold else 1} {size} Tf {x:.0f} {y:.0f} Td ({escaped}) Tj ET"


def pdf(content: bytes) -> bytes:
    """A PDF file with one A4 page that shows ``content`` (PDF 1.4, sections 3.4 and 5.2)."""
    bodies = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R"
        b" /Resources << /Font << /F1 5 0 R /F2 6 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(content), content),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica-Bold >>",
    ]
    file, offsets = bytearray(b"%PDF-1.4\n"), []
    for number, body in enumerate(bodies, 1):
        offsets.append(len(file))
        file += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    start = len(file)
    file += b"xref\n0 %d\n0000000000 65535 f \n" % (len(bodies) + 1)
    for offset in offsets:
        file += b"%010d 00000 n \n" % offset
    file += b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(bodies) + 1, start)
    return bytes(file)


def measurements() -> bytes:
    """A CSV file of 20000 rows, about half a megabyte."""
    chance = random.Random(3)
    rows = ["hour,temperature,wind"]
    for hour in range(20000):
        warmth = 9 + 9 * math.sin(hour / 8766 * math.tau) + 4 * math.sin(hour / 24 * math.tau)
        rows.append(f"{hour},{warmth + chance.gauss(0, 1):.2f},{abs(chance.gauss(4, 2)):.2f}")
    return "\n".join(rows).encode() + b"\n"
