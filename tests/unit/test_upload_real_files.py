"""Pictures, films and music as programs write them are what they are announced as, and nothing else."""

from __future__ import annotations

import io

import pytest

pytest.importorskip("zope.i18nmessageid")
av = pytest.importorskip("av")
Image = pytest.importorskip("PIL.Image")

from PIL import features  # noqa: E402

from collective.s3blobstorage.uploading.interfaces import UploadRefused  # noqa: E402
from collective.s3blobstorage.uploading.sniff import settled, sniffed  # noqa: E402

# As browsers announce them, by the ending of the name.
PICTURES = [
    ("PNG", "image/png", {}), ("JPEG", "image/jpeg", {}), ("GIF", "image/gif", {}), ("BMP", "image/bmp", {}),
    ("BMP", "image/x-ms-bmp", {}), ("TIFF", "image/tiff", {}), ("TIFF", "image/tiff", {"big_tiff": True}),
    ("ICO", "image/x-icon", {}), ("ICO", "image/vnd.microsoft.icon", {}), ("WEBP", "image/webp", {}),
    ("WEBP", "image/webp", {"lossless": True}), ("AVIF", "image/avif", {}), ("JPEG2000", "image/jp2", {}),
    ("TGA", "image/x-tga", {}), ("PPM", "image/x-portable-pixmap", {}), ("EPS", "image/x-eps", {}),
    ("PDF", "application/pdf", {}),
]  # fmt: skip
CONTAINERS = [
    ("mp4", "mpeg4", "video/mp4"), ("mov", "mpeg4", "video/quicktime"), ("matroska", "mpeg4", "video/x-matroska"),
    ("webm", "libvpx", "video/webm"), ("avi", "mpeg4", "video/x-msvideo"), ("avi", "mpeg4", "video/avi"),
    ("mpegts", "mpeg2video", "video/mp2t"), ("flv", "flv1", "video/x-flv"), ("ogg", "libopus", "video/ogg"),
    ("wav", "pcm_s16le", "audio/wav"), ("wav", "pcm_s16le", "audio/x-wav"), ("flac", "flac", "audio/flac"),
    ("mp3", "libmp3lame", "audio/mpeg"), ("ipod", "aac", "audio/mp4"), ("ipod", "aac", "audio/x-m4a"),
    ("ogg", "libopus", "audio/ogg"), ("adts", "aac", "audio/aac"), ("aiff", "pcm_s16be", "audio/x-aiff"),
]  # fmt: skip
OTHERS = ("image/jpeg", "image/webp", "image/avif", "application/pdf", "font/woff2", "video/mp4")


def picture(kind, options):
    file = io.BytesIO()
    mode = "L" if kind == "EPS" else "RGB"
    Image.new(mode, (32, 32), 90).save(file, kind, **options)
    return file.getvalue()


def recording(container, codec):
    file = io.BytesIO()
    with av.open(file, "w", format=container) as out:
        if av.Codec(codec, "w").type == "video":
            stream = out.add_stream(codec, rate=25, width=64, height=64, pix_fmt="yuv420p")
            frames = [av.VideoFrame(64, 64, "yuv420p") for _ in range(3)]
        else:
            stream = out.add_stream(codec, rate=48000, layout="mono")
            frames = []
            for _ in range(3):
                frame = av.AudioFrame(format=stream.format.name, layout="mono", samples=1152)
                frame.sample_rate = 48000
                for plane in frame.planes:
                    plane.update(bytes(plane.buffer_size))
                frames.append(frame)
        for frame in frames:
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return file.getvalue()


@pytest.mark.parametrize(("kind", "announced", "options"), PICTURES)
def test_a_picture(kind, announced, options):
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow writes no AVIF")
    data = picture(kind, options)
    assert settled(announced, sniffed(data)) == announced
    is_nothing_else(data, announced)


@pytest.mark.parametrize(("container", "codec", "announced"), CONTAINERS)
def test_a_recording(container, codec, announced):
    try:
        data = recording(container, codec)
    except (av.codec.codec.UnknownCodecError, ValueError) as error:
        pytest.skip(f"this PyAV writes no {codec} in {container}: {error}")
    assert len(data) > 50
    assert settled(announced, sniffed(data)) == announced
    is_nothing_else(data, announced)


def is_nothing_else(data, announced):
    """Recordings pass for one another: a player looks for itself."""
    seen = sniffed(data)
    if seen is None:
        return
    for other in OTHERS:
        alike = other == announced or (other.startswith("video/") and announced.startswith(("audio/", "video/")))
        if not alike:
            with pytest.raises(UploadRefused):
                settled(other, seen)
