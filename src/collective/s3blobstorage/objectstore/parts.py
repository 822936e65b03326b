"""How a file is cut for uploading: decided from its size alone.

Limits of the protocol (Amazon S3 user guide, "Multipart upload limits", and the same on Ceph, R2, B2): at most
10,000 parts, each of 5 MiB to 5 GiB but the last, objects up to 5 TiB, and 5 GiB in one PUT or one CopyObject.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

MB = 1024 * 1024
GB = 1024 * MB

MAX_PARTS = 10_000
MAX_OBJECT = 5 * 1024 * GB
MAX_COPY = 5 * GB

# Up to this size one PUT: a multipart upload costs two more round trips, which pays only when several parts travel in
# parallel. Measured on Ceph with a round trip of 20 ms: 16 MB take 0.26 s in one PUT, 0.39 s in parts; at 32 MB both
# take the same, and beyond it parts win where one connection does not fill the line.
SINGLE_PUT_LIMIT = 16 * MB

# Parts are not held in memory, so large parts cost nothing but the repetition of a failed one. 16 MB keeps a 100 MB
# file in enough parts to fill seven connections; about 200 parts per file are enough for a progress bar, and 64 MB are
# the most that a broken connection should make us send again.
SMALLEST_PART = 16 * MB
USUAL_LARGEST_PART = 64 * MB
USUAL_PARTS = 200


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a file: its number (from 1), where it starts and how long it is, in bytes."""

    number: int
    start: int
    size: int


def is_single(size: int) -> bool:
    """Whether a file of ``size`` bytes goes out in one PUT."""
    return size <= SINGLE_PUT_LIMIT


def part_size(size: int, most_parts: int = MAX_PARTS, smallest: int = SMALLEST_PART) -> int:
    """The size in bytes of each part but the last, for a file of ``size`` bytes.

    ``most_parts`` and ``smallest`` (bytes) are what the store takes, where it takes less than the protocol.

    A whole number of megabytes (some stores want all parts but the last of equal size, none wants more). Raises
    ValueError for a file over 5 TiB, which no S3 store takes.
    """
    if size > MAX_OBJECT:
        raise ValueError("objects over 5 TiB cannot be stored")
    usual = min(max(-(-size // USUAL_PARTS), SMALLEST_PART), USUAL_LARGEST_PART)
    return max(-(-usual // MB) * MB, least_part_size(size, most_parts, smallest))


def least_part_size(size: int, most_parts: int = MAX_PARTS, smallest: int = SMALLEST_PART) -> int:
    """As ``part_size``, for parts that are held in memory: as small as the store takes them. Raises as that."""
    if size > MAX_OBJECT:
        raise ValueError("objects over 5 TiB cannot be stored")
    needed = max(SMALLEST_PART, smallest, -(-size // min(most_parts, MAX_PARTS)))
    return -(-needed // MB) * MB


def parts(size: int, each: int | None = None) -> Iterator[Part]:
    """Every part of a file of ``size`` bytes, in order; ``each`` is the part size, by default ``part_size(size)``."""
    each = part_size(size) if each is None else each
    for number, start in enumerate(range(0, size, each), 1):
        yield Part(number, start, min(each, size - start))
