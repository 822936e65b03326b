"""Which part of some tests is run where not all are. Pure."""

from __future__ import annotations

import math
import zlib


def share_of(names: list[str], share: float, seed: str) -> set[str]:
    """That part of them, at least one: always the same, whatever else there is, and others with another seed."""
    chance = {name: (zlib.crc32(f"{seed} {name}".encode()), name) for name in names}
    return set(sorted(names, key=chance.__getitem__)[: math.ceil(share * len(names))])


def pass_of(config) -> str:
    """The name in tiers.toml of a pass of run.py (``server_pass.py``)."""
    return config.getoption("--encrypt") or config.getoption("--s3")
