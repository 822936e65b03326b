"""How much the benchmark does, and the bytes that it does it with. No import of what is measured."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

KB = 1024
MB = 1024 * KB


@dataclass(frozen=True)
class Scale:
    """Counts and sizes in bytes. Repetitions are processes, by a row's weight; rounds are made within a process.

    ``local_rounds`` are those of reads that make no request: they are short, and a busy machine disturbs most of them.
    For the same reason there are more processes for what takes a tenth of a second.
    """

    warm: int = 200
    cold: int = 64
    committed: int = 32
    small: int = 64 * KB
    large: int = 256 * MB
    huge: int = 1024 * MB
    tail: int = MB
    part: int = 4 * MB  # the default of part-size
    commits: int = 100
    loads: int = 3000
    threads: int = 8
    rounds: int = 3
    local_rounds: int = 20
    tiny_repetitions: int = 61
    short_repetitions: int = 31
    light_repetitions: int = 11
    heavy_repetitions: int = 7
    huge_repetitions: int = 1
    seed: int = 1

    def repetitions(self, weight: str) -> int:
        return getattr(self, f"{weight}_repetitions")


# Every code path and nothing to be measured: the large blob is just over what goes out in one PUT.
QUICK = Scale(
    warm=10, cold=8, committed=4, large=17 * MB, huge=20 * MB, commits=5, loads=20, rounds=1, local_rounds=1,
    tiny_repetitions=1, short_repetitions=1, light_repetitions=1, heavy_repetitions=1,
)  # fmt: skip


def small_blob(scale: Scale, number: int) -> bytes:
    """The bytes of one of the small blobs."""
    return random.Random(scale.seed * 1_000_003 + number).randbytes(scale.small)


def blocks(scale: Scale, size: int) -> Iterator[bytes]:
    """The bytes of a large blob: a megabyte of noise again and again, each time with its number in front."""
    noise = random.Random(scale.seed).randbytes(MB)
    for start in range(0, size, MB):
        yield (start.to_bytes(8, "big") + noise[8:])[: size - start]
