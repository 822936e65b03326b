"""What an fsck found, kept beside its job: ``jobs/fsck/{number}.findings``, lines of JSON. Pure.

The job's own object is read by every page and every sign of life, so it has the first few findings only. Where there
are more, all up to ``KEPT`` are here. It goes with its job.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from itertools import chain, islice
from typing import Any

from ...errors import RecordError

FORMAT = 1

# Each process of a site has them in memory, so that an item says that its file is damaged: 10,000 take 20 MB. Whoever
# has lost more than that reads the file of `s3blobs fsck --ndjson`, which has all.
KEPT = 10_000
LIMIT = 64 << 20  # bytes of an object; a finding takes some 400


def packed(lines: Iterable[str]) -> tuple[bytes, int]:
    """The object of the first ``KEPT`` of them, each a finding in JSON, and how many that are."""
    kept = list(islice(lines, KEPT))
    head = json.dumps({"format": FORMAT, "findings": len(kept)})
    return "".join(f"{line}\n" for line in chain([head], kept)).encode(), len(kept)


def unpacked(data: bytes) -> list[Mapping[str, Any]]:
    """Raises RecordError where it is damaged, or of a newer format."""
    try:
        head, *lines = map(json.loads, data.splitlines())
        version, count = int(head["format"]), int(head["findings"])
    except (ValueError, KeyError, TypeError):
        raise _damaged() from None
    if version > FORMAT:
        raise RecordError("findings of an fsck were written by a newer release of collective.s3blobstorage: upgrade")
    if count != len(lines) or not all(isinstance(line, dict) for line in lines):
        raise _damaged()
    return lines


def _damaged() -> RecordError:
    return RecordError("findings of an fsck, below jobs/, are damaged: run it again")
