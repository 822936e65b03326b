"""``s3blobs status``: what is in the bucket, and what is in the cache. Opens no database."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..cache.counters import Counters, counted_since_made
from ..cache.layout import BLOB_SUFFIX, PART_SUFFIX, Layout, StoreFolder, occupied, stores
from ..errors import RecordError, Refused, StoreError
from ..keys import is_addon_key, is_bookkeeping, is_key
from . import output
from .configuration import Database
from .keys_list import described
from .request import Request, pass_request

if TYPE_CHECKING:
    from ..objectstore.interfaces import IObjectStore

# Keys of the storage's own: see DESIGN.md section 8.
_FOREIGN = re.compile(r"blobs/[0-9a-f]{1,16}/[0-9a-f]{1,16}\.blob")  # zodb-s3blobs

_STEP = 1000  # objects between two looks at the progress: a page of a listing


@dataclass
class Count:
    """Objects or files, and their bytes."""

    objects: int = 0
    bytes: int = 0

    def add(self, size: int) -> None:
        self.objects += 1
        self.bytes += size


@dataclass
class Objects:
    """What lies under the prefix, by whose key it is. ``other`` is nothing that this package wrote."""

    blobs: Count
    zodb_s3blobs: Count
    addons: Count
    bookkeeping: Count
    other: Count

    @property
    def total(self) -> Count:
        parts = (self.blobs, self.zodb_s3blobs, self.addons, self.bookkeeping, self.other)
        return Count(sum(part.objects for part in parts), sum(part.bytes for part in parts))


@dataclass
class Uploads:
    """Multipart uploads that were begun and neither completed nor aborted."""

    count: int
    oldest: str | None  # ISO 8601, the store's time


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


def count_objects(store: IObjectStore, advance: Callable[[int], None]) -> Objects:
    """Read the whole listing, page by page; memory does not grow with it. ``advance(n)`` is called per page."""
    found = Objects(Count(), Count(), Count(), Count(), Count())
    seen = 0
    for line in store.list(page_size=_STEP):
        _kind(found, line.key).add(line.size)
        seen += 1
        if seen % _STEP == 0:
            advance(_STEP)
    advance(seen % _STEP)
    return found


def _kind(found: Objects, key: str) -> Count:
    if is_key(key):
        return found.blobs
    if _FOREIGN.fullmatch(key):
        return found.zodb_s3blobs
    if is_addon_key(key):
        return found.addons
    return found.bookkeeping if is_bookkeeping(key) else found.other


def unfinished_uploads(store: IObjectStore) -> Uploads:
    count, oldest = 0, None
    for _, _, initiated in store.list_uploads():
        count += 1
        oldest = initiated if oldest is None else min(oldest, initiated)
    return Uploads(count, _iso(oldest))


def cache_use(layout: Layout) -> CacheUse | None:
    """None where this user may not read the folder. A folder that is not there is empty. Changes nothing."""
    return _store_use(layout)


def machine_use(cache_dir: Path, bound: int) -> MachineUse:
    """What lies in all the folders that this user may read. Changes nothing."""
    found = MachineUse(str(cache_dir), bound=bound)
    for store in stores(cache_dir):
        use = _store_use(store)
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
        use.counters, since = counted_since_made(store)
    except FileNotFoundError:
        pass  # never used
    except OSError as error:
        denied.append(error)
    else:
        use.since = _iso(datetime.fromtimestamp(since, UTC))
    return None if denied else use


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")
@pass_request
def status(request: Request, as_json: bool) -> int:
    """Print how many objects and bytes the bucket and the cache hold.

    Reads the whole listing of the prefix: a request per 1,000 objects. Exit status: 0; 1 where the prefix belongs to
    another owner; 2 where it could not be read.
    """
    request.json = as_json
    database = request.database()
    document = _collect(database)
    if as_json:
        output.print_json(document)
    else:
        _print(document)
    return 1 if document["owner_differs"] else 0


def _collect(database: Database) -> dict[str, Any]:
    from ..objectstore import open_store  # here, since it imports boto3
    from ..storage.mirrored import read_mirrored
    from ..storage.opening import keys_explained
    from ..storage.owner import cache_layout, read_marker

    settings = database.settings
    with closing(open_store(settings.store, read_only=True)) as store:
        store.open_bucket(writable=False)
        with keys_explained(store):
            marker = read_marker(store)
        encryption = _encryption(store)
        with output.counting("listing") as advance:
            objects = count_objects(store, advance)
        uploads: Uploads | None
        try:
            uploads = unfinished_uploads(store)
        except Refused:
            uploads = None  # a policy of its own: s3:ListBucketMultipartUploads
        except StoreError as error:
            # Some stores have no such listing; one that is down would have failed above.
            output.complain(f"unfinished uploads could not be listed: {error}")
            uploads = None
        try:
            mirrored = read_mirrored(store)
        except Refused:
            mirrored = None  # a policy that names the marker alone
        use = cache_use(cache_layout(settings, store.identity))
        machine = machine_use(settings.cache_dir, settings.cache_size)
    layouts = None
    if marker is not None:
        layouts = ["ours", "zodb-s3blobs"] if marker.foreign_keys else ["ours"]
    owner = marker.owner if marker is not None else None
    return {
        "database": database.name,
        "base": database.base_type,
        "bucket": settings.store.bucket,
        "prefix": settings.store.prefix,
        "endpoint": settings.store.endpoint_url,
        "marker": marker is not None,
        "owner": owner,
        "configured_owner": settings.owner,
        "owner_differs": marker is not None and owner is not None and owner != settings.owner,
        "layouts": layouts,
        "sources": [source.options.name for source in settings.sources],
        "mirrored": None
        if mirrored is None
        else {"complete_up_to": mirrored.tid.hex(), "sources": list(mirrored.sources)},
        "objects": {**asdict(objects), "total": asdict(objects.total)},
        "encryption": encryption,
        "unfinished_uploads": asdict(uploads) if uploads is not None else None,
        "cache": asdict(use) if use is not None else None,
        "machine": asdict(machine),
    }


def _print(document: dict[str, Any]) -> None:
    objects, uploads = document["objects"], document["unfinished_uploads"]
    cache, machine = document["cache"], document["machine"]
    lines = [
        ("database", f"{document['database']} ({document['base']})"),
        ("bucket", f"{document['bucket']}, prefix {document['prefix'] or '(none)'}"),
        ("store", document["endpoint"] or "AWS, or what boto3's environment names"),
        ("owner", _owner(document)),
        ("layouts", ", ".join(document["layouts"] or ["not known before the first opening for writing"])),
    ]
    if document["sources"]:
        lines.append(("sources", _sources(document)))
    lines.append(("blobs", _amount(objects["blobs"])))
    if objects["zodb_s3blobs"]["objects"]:
        lines.append(("of zodb-s3blobs", _amount(objects["zodb_s3blobs"])))
    if objects["addons"]["objects"]:
        lines.append(("of add-ons", _amount(objects["addons"])))
    lines.append(("bookkeeping", _amount(objects["bookkeeping"])))
    if objects["other"]["objects"]:
        lines.append(("not of this package", _amount(objects["other"])))
    lines.append(("in all", _amount(objects["total"])))
    lines += _encryption_lines(document["encryption"])
    if uploads is None:
        lines.append(("unfinished uploads", "not shown: the credentials may not list them, or the store cannot"))
    else:
        since = f", the oldest of {uploads['oldest']}" if uploads["oldest"] else ""
        lines.append(("unfinished uploads", f"{uploads['count']}{since}"))
    if cache is None:
        lines.append(("cache", "cannot be read by this user; run the command as the site's user"))
    else:
        lines.append(("cache", f"{cache['files']:,} files, {output.byte_count(cache['bytes'])}"))
        lines.append(("cache folder", cache["folder"]))
        lines.append(("cache use", _counted(cache)))
    used = f"{output.byte_count(machine['bytes'])} of {output.byte_count(machine['bound'])}"
    databases = "1 database" if machine["databases"] == 1 else f"{machine['databases']} databases"
    lines.append(("cache-dir", f"{databases}, {used} ({machine['bytes'] / machine['bound']:.0%})"))
    if machine["databases"] > 1:
        lines.append(("cache-dir use", _counted(machine)))
    console = output.console()
    width = max(len(name) for name, _ in lines)
    for name, value in lines:
        console.print(f"{name:<{width}}  {value}", soft_wrap=True)


def _encryption(store: Any) -> dict[str, Any]:
    """Mode, and the keys as the bucket's register has them; ``error`` where that cannot be read."""
    from ..maintenance.key_states import told

    mode = {"mode": store.encryption.name, "required": store.encryption.required}
    try:
        return {**mode, **told(store), "error": None}
    except (RecordError, Refused) as error:  # damaged, or a policy without keys/
        return {**mode, "keys": [], "counted": None, "usage": None, "error": str(error)}


def _encryption_lines(told: dict[str, Any]) -> list[tuple[str, str]]:
    required = ", and nothing else is read (require-encryption)" if told["required"] else ""
    lines = [("encryption", f"{told['mode']}{required}")]
    if told["error"] is not None:
        return [*lines, ("keys", f"not shown: {told['error']}")]
    lines += [(f"key {key['id']}", described(key)) for key in told["keys"]]
    if told["keys"]:
        lines.append(("keys counted", told["counted"] or "never yet: s3blobs keys list --count"))
    return lines


def _owner(document: dict[str, Any]) -> str:
    if not document["marker"]:
        return "nobody yet: the first opening for writing says so in the bucket"
    if document["owner_differs"]:
        return (
            f"{document['owner']}, which is not the configured {document['configured_owner'] or '(none)'}: "
            "the site opens it with read-only on, or not at all; correct owner or s3-prefix"
        )
    if document["owner"] is None:
        configured = document["configured_owner"]
        return f"none, {configured} from the next opening for writing on" if configured else "none"
    return str(document["owner"])


def _sources(document: dict[str, Any]) -> str:
    names, mirrored = document["sources"], document["mirrored"]
    if mirrored is None or not set(names) <= set(mirrored["sources"]):
        return f"{', '.join(names)}; what only they have comes into the bucket with s3blobs mirror"
    return f"{', '.join(names)}; not needed any more for what was committed up to 0x{mirrored['complete_up_to']}"


def _counted(use: dict[str, Any]) -> str:
    if use["since"] is None:
        return "none yet"
    counters = use["counters"]
    reads = counters["hits"] + counters["misses"]
    share = f" ({counters['hits'] / reads:.0%})" if reads else ""
    figures = [
        f"{counters['hits']:,} hits{share}",
        f"{counters['misses']:,} misses",
        f"{counters['downloads']:,} downloads",
        f"{counters['parts']:,} parts",
        f"{output.byte_count(counters['bytes'])} written",
        f"{counters['waits']:,} waits",
        f"{counters['evictions']:,} evictions",
        f"{counters['errors']:,} errors",
    ]
    return f"{', '.join(figures)} since {use['since']}"


def _amount(count: dict[str, int]) -> str:
    return f"{count['objects']:,} objects, {output.byte_count(count['bytes'])}"


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat(timespec="seconds") if moment is not None else None
