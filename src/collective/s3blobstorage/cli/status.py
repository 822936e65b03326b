"""``s3blobs status``: what is in the bucket, and what is in the cache. Opens no database."""

from __future__ import annotations

from contextlib import closing, suppress
from dataclasses import asdict
from typing import Any

import click

from ..errors import RecordError, Refused, StoreError
from ..messages import byte_count
from ..status.use import cache_use, machine_use
from . import output
from .configuration import Database
from .keys_list import described
from .request import Request, pass_request


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")
@pass_request
def status(request: Request, as_json: bool) -> int:
    """Print how many objects and bytes the bucket and the cache hold.

    Reads the whole listing of the prefix, a request per 1,000 objects, and keeps the figures in the bucket, where the
    site's status shows them (not with read-only, nor in another owner's prefix). Exit status: 0; 1 where the prefix
    belongs to another owner; 2 where it could not be read.
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
    from ..objectstore import open_store  # here, since these import boto3
    from ..status import figures
    from ..storage.mirrored import read_mirrored
    from ..storage.opening import keys_explained
    from ..storage.owner import cache_layout, read_marker

    settings = database.settings
    with closing(open_store(settings.store, read_only=settings.read_only)) as store:
        store.open_bucket(writable=False)
        with keys_explained(store):
            marker = read_marker(store)
        encryption = _encryption(store)
        with output.counting("listing") as advance:
            found = figures.count(store, advance)
        objects, uploads = found.objects, found.uploads
        if marker is not None and marker.owner == settings.owner and not settings.read_only:
            with suppress(StoreError):  # these credentials may be for reading only
                figures.keep(store, found, "s3blobs status")
        try:
            mirrored = read_mirrored(store)
        except Refused:
            mirrored = None  # a policy that names the marker alone
        checked = _last_fsck(store)
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
        "fsck": checked,
        "objects": {**asdict(objects), "total": asdict(objects.total)},
        "saved": found.saved,
        "encryption": encryption,
        "direct_uploads": {**asdict(objects.direct_uploads), "unfinished": found.unfinished},
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
    if objects["shared"]["objects"] or objects["references"]["objects"]:
        sharing = f"{_amount(objects['shared'])}, which {objects['references']['objects']:,} blobs refer to"
        lines.append(("shared", f"{sharing}; that saves {byte_count(document['saved'])}"))
    if document["fsck"] is not None:
        lines.append(("last fsck", _checked(document["fsck"])))
    if objects["zodb_s3blobs"]["objects"]:
        lines.append(("of zodb-s3blobs", _amount(objects["zodb_s3blobs"])))
    if objects["addons"]["objects"]:
        lines.append(("of add-ons", _amount(objects["addons"])))
    if any(document["direct_uploads"].values()):
        lines.append(("from browsers", _direct(document["direct_uploads"])))
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
        lines.append(("cache", f"{cache['files']:,} files, {byte_count(cache['bytes'])}"))
        lines.append(("cache folder", cache["folder"]))
        lines.append(("cache use", _counted(cache)))
    used = f"{byte_count(machine['bytes'])} of {byte_count(machine['bound'])}"
    databases = "1 database" if machine["databases"] == 1 else f"{machine['databases']} databases"
    lines.append(("cache-dir", f"{databases}, {used} ({machine['bytes'] / machine['bound']:.0%})"))
    if machine["databases"] > 1:
        lines.append(("cache-dir use", _counted(machine)))
    console = output.console()
    width = max(len(name) for name, _ in lines)
    for name, value in lines:
        console.print(f"{name:<{width}}  {value}", soft_wrap=True)


def _last_fsck(store: Any) -> dict[str, Any] | None:
    """When the last one that came to its end did, and how much it found; None: there was none, or nobody may know."""
    from ..maintenance.fsck.told import RUNS, told_by
    from ..maintenance.jobs.board import Board

    try:
        board = Board(store)
        last = told_by(board.newest_first("fsck", RUNS), board.findings).last
    except Refused:
        return None
    if last is None:
        return None
    return {
        "job": last["job"],
        "ended": last["at"],
        "deep": last["deep"],
        "read": last["read"],
        "findings": last["wrong"],
        "unknown": last["unknown"],
    }


def _checked(told: dict[str, Any]) -> str:
    what = f"{told['findings']:,} blobs are wrong: `s3blobs fsck`" if told["findings"] else "nothing was wrong"
    unknown = f", of {told['unknown']:,} nobody could tell" if told["unknown"] else ""
    read = f", {told['read']:,} objects read" if told["read"] else ""
    if told["deep"]:
        read = ", every object read"
    return f"{told['ended'][:16].replace('T', ' ')} UTC{read}: {what}{unknown}"


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
        f"{byte_count(counters['bytes'])} written",
        f"{counters['waits']:,} waits",
        f"{counters['evictions']:,} evictions",
        f"{counters['errors']:,} errors",
    ]
    return f"{', '.join(figures)} since {use['since']}"


def _direct(count: dict[str, Any]) -> str:
    unfinished = count["unfinished"]
    more = "" if unfinished is None else f"; {unfinished:,} unfinished"
    return f"{_amount(count)}, not completed{more}"


def _amount(count: dict[str, int]) -> str:
    return f"{count['objects']:,} objects, {byte_count(count['bytes'])}"
