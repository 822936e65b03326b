"""How much lies in the cache folders of this machine, and what their processes counted. Changes nothing."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from ..cache.counters import Counters, counted_since_made, of_cache
from ..cache.layout import BLOB_SUFFIX, PART_SUFFIX, Layout, StoreFolder, occupied, stores
from .dates import iso


@dataclass
class CacheUse:
    """The files of one database in ``cache-dir``, or of all of them, counted as the bound counts them."""

    folder: str
    files: int = 0  # complete blobs
    bytes: int = 0  # all files, also of downloads and commits under way
    processes: int = 0  # folders of processes; those of dead ones stay until somebody sweeps
    counters: dict[str, int] = field(default_factory=lambda: dict.fromkeys(Counters.names, 0))
    since: str | None = None  # ISO 8601: when the folder was made, and counting began


@dataclass
class MachineUse(CacheUse):
    """All databases whose folders lie in ``cache-dir``; the bound is over all."""

    databases: int = 0
    bound: int = 0  # cache-size


def cache_use(layout: Layout) -> CacheUse | None:
    """None where this user may not read the folder. A folder that is not there is empty. Changes nothing."""
    return _store_use(layout)


def machine_use(cache_dir: Path, bound: int) -> MachineUse:
    """What lies in all the folders that this user may read. Changes nothing."""
    return _sum(cache_dir, bound, _each(cache_dir).values())


def both_uses(layout: Layout, bound: int) -> tuple[CacheUse | None, MachineUse]:
    """``cache_use`` and ``machine_use``, each folder read once."""
    each = _each(layout.root)
    return each.get(layout.folder), _sum(layout.root, bound, each.values())


def _each(cache_dir: Path) -> dict[Path, CacheUse | None]:
    return {store.folder: _store_use(store) for store in stores(cache_dir)}


def _sum(cache_dir: Path, bound: int, uses: Iterable[CacheUse | None]) -> MachineUse:
    found = MachineUse(str(cache_dir), bound=bound)
    for use in uses:
        if use is None:
            continue
        found.databases += 1
        found.files += use.files
        found.bytes += use.bytes
        found.processes += use.processes
        for name, value in use.counters.items():
            found.counters[name] = found.counters.get(name, 0) + value
        found.since = min(filter(None, (found.since, use.since)), default=None)
    return found


def _store_use(store: StoreFolder) -> CacheUse | None:
    use = CacheUse(str(store.folder))
    denied: list[OSError] = []

    def note(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            denied.append(error)

    for part in (store.blobs, store.processes):
        for folder, folders, names in os.walk(part, onerror=note):
            if Path(folder) == store.processes:
                use.processes = len(folders)
            for name in names:
                try:
                    status = os.stat(os.path.join(folder, name), follow_symlinks=False)
                except FileNotFoundError:
                    continue  # evicted meanwhile
                use.files += part == store.blobs and name.endswith(BLOB_SUFFIX)
                # Parts are in sparse files.
                use.bytes += status.st_blocks * 512 if name.endswith(PART_SUFFIX) else occupied(status)
    try:
        counted, since = counted_since_made(store)
    except FileNotFoundError:
        pass  # never used
    except OSError as error:
        denied.append(error)
    else:
        use.counters = of_cache(counted)
        use.since = iso(datetime.fromtimestamp(since, UTC))
    return None if denied else use
