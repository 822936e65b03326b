"""Should the parts of a large blob be evicted one by one, by punching holes, or all at once?

    python benchmarks/evicting_parts.py

Replays readers of large files against a cache that holds a fifth of them, evicting the least recently used whole file
or the least recently used part, and prints which share of the parts that were read was there. No store, no disk: only
the order of evictions differs. What it does not count: by part, each read would have to note its use per part and not
per file (a write to the map where there is now one ``utime`` per minute), and a reader would have to look again after
each read whether the part was punched meanwhile.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Iterator

FILES = 200
PARTS = 60  # of 4 MB each, on average: a video of 240 MB
CACHE = FILES * PARTS // 5
READS = 20_000
SEED = 20261125

Read = tuple[int, range]  # a file, and the parts of it that are read


def popular(rng: random.Random) -> int:
    """A file: the n-th is asked for 1/n as often as the first."""
    return int(FILES ** rng.random()) - 1


def whole(rng: random.Random, parts: int) -> range:
    return range(parts)


def watched(rng: random.Random, parts: int) -> range:
    """From the start, and given up after a fifth on average."""
    return range(min(parts, 1 + int(rng.expovariate(5 / parts))))


def sought(rng: random.Random, parts: int) -> range:
    """A few parts from anywhere: somebody moves through a video, or opens an archive."""
    start = rng.randrange(parts)
    return range(start, min(parts, start + 1 + int(rng.expovariate(1 / 4))))


def reads(ranges: list) -> Iterator[Read]:
    rng = random.Random(SEED)
    sizes = [1 + int(rng.expovariate(1 / PARTS)) for _ in range(FILES)]
    for _ in range(READS):
        file = popular(rng)
        yield file, rng.choice(ranges)(rng, sizes[file])


def hits(ranges: list, *, by_part: bool) -> float:
    """The share of the parts that were there when they were read, after the first tenth of the reads."""
    kept: OrderedDict[object, set[int]] = OrderedDict()  # file, or file and part, by last use
    taken = found = asked = 0
    for turn, (file, parts) in enumerate(reads(ranges)):
        for part in parts:
            key = (file, part) if by_part else file
            there = kept.setdefault(key, set())
            kept.move_to_end(key)
            if turn >= READS // 10:
                asked += 1
                found += part in there
            if part not in there:
                there.add(part)
                taken += 1
            while taken > CACHE:
                oldest, parts_of_it = kept.popitem(last=False)
                taken -= len(parts_of_it)
                if oldest == key:
                    break  # larger than the cache
    return found / asked


def main() -> None:
    print(f"{'readers':<40} as one  by part")
    for name, ranges in (
        ("whole files", [whole]),
        ("from the start, given up", [watched]),
        ("from anywhere, a few parts", [sought]),
        ("all of these", [whole, watched, sought]),
    ):
        print(f"{name:<40} {hits(ranges, by_part=False):6.1%}  {hits(ranges, by_part=True):6.1%}")


if __name__ == "__main__":
    main()
