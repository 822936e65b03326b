"""``s3blobs manifest``: what the database refers to, written down, and compared with a bucket later."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from .. import datatypes
from ..errors import ConfigurationError, RecordError
from ..messages import byte_count
from . import output
from .appearing import appear, hidden
from .as_job import shown_until_interrupted
from .comparing import SHOWN, exit_status, looked, opened_store
from .configuration import Database
from .interrupt import INTERRUPTED
from .parameters import Parsed
from .request import Request, pass_request

if TYPE_CHECKING:
    from ..maintenance.findings import Findings
    from ..maintenance.manifest import Header, Manifest, Totals
    from ..storage.owner import Marker
    from .shown import Shown

# Shorter protects nothing, and what nobody can delete for longer than a hundred years is a mistake.
_RETAIN = Parsed("time", partial(datatypes.interval, minimum=1.0, maximum=36525 * datatypes.DAY))


@click.command()
@click.option("--to", "target", type=click.Path(path_type=Path), metavar="FILE", help="Write it there; -: print it.")
@click.option("--in-bucket", is_flag=True, help="Write it below manifests/, encrypted as the blobs are.")
@click.option("--lock", type=click.Choice(["governance", "compliance"]), help="Under Object Lock; with --retain.")
@click.option("--retain", type=_RETAIN, help="How long nobody may delete it, as 90d; with --lock.")
@click.option("--ask", is_flag=True, help="Ask the store of each object for its key id, and its hash where unknown.")
@click.option(
    "--verify",
    is_flag=False,
    flag_value="latest",
    metavar="[FILE|KEY|latest]",
    help="Compare the bucket with that one, else with the newest.",
)
@click.option("--new-since", metavar="FILE|KEY", help="List the keys that a later one has, and that one has not.")
@click.option("--of", "later", metavar="FILE|KEY|latest", help="With --new-since: the later one, else the newest.")
@click.option("--list", "listing", is_flag=True, help="List the manifests of the bucket.")
@click.option("--concurrency", type=click.IntRange(1, 64), default=8, show_default=True, help="With --ask: at a time.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")
@pass_request
def manifest(
    request: Request,
    target: Path | None,
    in_bucket: bool,
    lock: str | None,
    retain: float | None,
    ask: bool,
    verify: str | None,
    new_since: str | None,
    later: str | None,
    listing: bool,
    concurrency: int,
    as_json: bool,
) -> int:
    """Write down which blobs the database refers to at its last transaction, each with its key, size, hash and content.

    With --to or --in-bucket: a line of JSON for each kept revision, the first line with owner and transaction, the last
    one with counts and a SHA-256. Beside a running site; what is committed meanwhile is not in it. --verify tells by
    one listing whether all of them are in the bucket, and opens no database; a manifest that was changed or cut is
    refused. Exit status: 0; 1 where an object is missing or has another size; 2 where nothing could be done; 130 after
    Ctrl-C.
    """
    request.json = as_json
    verbs = [target is not None or in_bucket, verify is not None, new_since is not None, listing]
    if sum(verbs) != 1:
        raise click.UsageError("Give one of --to or --in-bucket, --verify, --new-since, --list.")
    if (lock is None) != (retain is None):
        raise click.UsageError("--lock and --retain go together: --lock governance --retain 90d")
    if lock is not None and not in_bucket:
        raise click.UsageError("--lock is for a manifest in the bucket: give --in-bucket.")
    if later is not None and new_since is None:
        raise click.UsageError("--of names the later manifest of --new-since.")
    if as_json and target is not None and str(target) == "-":
        raise click.UsageError("--to - prints the manifest: leave out --json.")
    database = request.database()
    if listing:
        return _list(database, as_json)
    if verify is not None:
        return _verify(database, verify, as_json)
    if new_since is not None:
        return _added(database, new_since, later or "latest", as_json)
    return _write(database, target, in_bucket, lock, retain, ask, concurrency, as_json)


# Writing


def _write(
    database: Database,
    target: Path | None,
    in_bucket: bool,
    lock: str | None,
    retain: float | None,
    ask: bool,
    concurrency: int,
    as_json: bool,
) -> int:
    from ..maintenance import manifests
    from ..maintenance.findings import Stopped
    from ..maintenance.inventory import Inventory
    from ..maintenance.spool import Spool
    from ..storage.owner import refuse_other

    if in_bucket and database.settings.read_only:
        raise ConfigurationError("read-only is on, and --in-bucket writes into the bucket: give --to FILE")
    retention = None if lock is None or retain is None else manifests.Retention(lock, retain)
    started = time.monotonic()
    with ExitStack() as stack:
        spool = stack.enter_context(Spool())
        store, marker = opened_store(stack, database, writable=in_bucket, concurrency=concurrency)
        if in_bucket:
            refuse_other(marker, database.settings.owner)
        if retention is not None:
            manifests.refuse_without_lock(store)
        file = stack.enter_context(_file(target))

        def work(running: Shown) -> dict[str, Any] | None:
            found = Inventory(looked(database), store, marker, spool, running.stop)
            try:
                found.look(running.phase("reading the database"))
                if ask:
                    found.ask(concurrency, running.phase("asking the store", found.count))
            except Stopped:
                return None
            header = _header(database, marker, found.tid, store.now())
            totals = _written(file, header, found, running)
            told: dict[str, Any] = {"database": database.name, **header.to_json(), **totals.to_json()}
            if in_bucket:
                path = manifests.descriptor_path(file)
                size = os.fstat(file.fileno()).st_size
                sent = running.phase("uploading", 1, size)
                key, until = manifests.put(store, header, path, retention, lambda count: sent(0, count))
                told |= {"key": key, "locked_until": None if until is None else until.isoformat()}
            return told

        told = shown_until_interrupted(work, "requests")
        if told is None:
            return INTERRUPTED
        if target is not None:
            _publish(file, target)
    told |= {"file": None if target is None else str(target), "seconds": round(time.monotonic() - started, 3)}
    if as_json:
        output.print_json(told)
    elif str(target) != "-":
        _print_written(told, lock)
    return 1 if told["missing"] or told["damaged"] else 0


def _written(file: BinaryIO, header: Header, found: Any, running: Shown) -> Totals:
    from ..maintenance.manifest import write

    advance = running.phase("writing", found.count)

    def counted() -> Iterator[Any]:
        for entry in found.entries():
            yield entry
            advance(1)

    return write(file, header, counted())


def _header(database: Database, marker: Marker, tid: bytes, now: Any) -> Header:
    from ..maintenance.manifest import Header

    owner = marker.owner or database.settings.owner
    return Header(owner, database.name, tid, now.astimezone(UTC), version("collective.s3blobstorage"))


@contextmanager
def _file(target: Path | None) -> Iterator[BinaryIO]:
    """A temporary file: beside the target, so that it appears there whole, else without a name."""
    if target is None or str(target) == "-":
        with tempfile.TemporaryFile(prefix="s3blobs-manifest-") as nameless:
            yield nameless
        return
    with hidden(target, "--to") as named:
        yield named


def _publish(file: BinaryIO, target: Path) -> None:
    if str(target) == "-":
        file.seek(0)
        while block := file.read(1 << 20):
            sys.stdout.buffer.write(block)
        sys.stdout.buffer.flush()
        return
    appear(file, target)


def _print_written(told: dict[str, Any], lock: str | None) -> None:
    lines = [
        ("manifest", told["file"] or told["key"]),
        ("transaction", f"0x{told['tid']} of {told['committed'] or 'nothing'}"),
        ("blobs", f"{told['blobs']:,}, {byte_count(told['bytes'])}"),
        ("SHA-256", told["sha256"]),
    ]
    if told["file"] and told.get("key"):
        lines.insert(1, ("in the bucket", told["key"]))
    if told.get("locked_until"):
        lines.append(("locked", f"until {told['locked_until'][:16]} UTC ({lock})"))
    if told["missing"]:
        lines.append(("missing", f"{told['missing']:,} objects, marked in it"))
    if told["damaged"]:
        lines.append(("damaged", f"{told['damaged']:,} records, marked in it"))
    output.print_lines(lines)


# Comparing


def _verify(database: Database, name: str, as_json: bool) -> int:
    from ..maintenance.findings import Findings, Stopped
    from ..maintenance.findings import document as found
    from ..maintenance.manifests import opened, refuse_other
    from ..maintenance.spool import Spool
    from ..maintenance.verify_manifest import verify

    findings, started = Findings(), time.monotonic()
    with ExitStack() as stack:
        spool = stack.enter_context(Spool())
        store, marker = opened_store(stack, database, writable=False, concurrency=8)

        def work(running: Shown) -> Manifest:
            manifest = stack.enter_context(opened(store, name, running.phase("reading the manifest")))
            refuse_other(manifest, marker)
            listed = running.phase("listing the bucket")
            try:
                verify(manifest, store, marker, spool, findings, running.stop, listed)
            except Stopped:
                findings.stopped = True
            return manifest

        manifest = shown_until_interrupted(work, "requests")
        header, totals = manifest.header, manifest.totals
    told = {
        **{"database": database.name, "manifest": manifest.name, "tid": header.tid.hex()},
        **{"made": header.to_json()["made"], "sha256": totals.sha256},
        **found(findings, "written"),
        "seconds": round(time.monotonic() - started, 3),
    }
    told["new"] = told.pop("extra")["objects"]
    del told["written"], told["gone"]
    if as_json:
        output.print_json(told)
    else:
        _print_verified(told, findings)
    return exit_status(findings)


def _print_verified(told: dict[str, Any], findings: Findings) -> None:
    there, old, inline = (told["found"][what] for what in ("there", "old", "inline"))
    lines = [
        ("manifest", f"{told['manifest']}, whole: SHA-256 {told['sha256']}"),
        ("of", f"transaction 0x{told['tid']}, written {told['made'][:16]} UTC"),
        ("kept revisions", f"{told['kept_revisions']:,}"),
        ("in the bucket", f"{there['blobs'] + old['blobs']:,}, {byte_count(there['bytes'] + old['bytes'])}"),
    ]
    if inline["blobs"]:
        lines.append(("in their records", f"{inline['blobs']:,}"))
    lines.append(("new since", f"{told['new']['blobs']:,} objects, {byte_count(told['new']['bytes'])}"))
    lines += [(kind, f"{told[kind]:,} kept revisions") for kind in ("missing", "different", "damaged") if told[kind]]
    if findings.stopped:
        lines.append(("stopped", "nothing more is known"))
    lines += [(each.what, f"{each.oid} at {each.tid}: {each.detail}") for each in findings.problems[:SHOWN]]
    if len(findings.problems) > SHOWN:
        lines.append(("more", f"{sum(findings.bad.values()) - SHOWN:,} (--json lists them)"))
    output.print_lines(lines)


def _added(database: Database, earlier: str, later: str, as_json: bool) -> int:
    from ..maintenance.findings import Count
    from ..maintenance.manifest import added
    from ..maintenance.manifests import opened

    count = Count()
    with ExitStack() as stack:
        store, _ = opened_store(stack, database, writable=False, concurrency=1)
        before = stack.enter_context(opened(store, earlier))
        after = stack.enter_context(opened(store, later))
        if before.header.owner != after.header.owner or before.header.database != after.header.database:
            raise RecordError(
                f"{before.name} is of {before.header.owner} ({before.header.database}), and {after.name} of"
                f" {after.header.owner} ({after.header.database}): name two manifests of one database"
            )
        if before.header.tid > after.header.tid:
            raise RecordError(
                f"{before.name} is later than {after.name}: --new-since names the earlier one, --of the later one"
            )
        keys = added(after.entries(), before.entries(), count)
        if as_json:
            _print_json_keys(after, before, keys, count)
        else:
            for key, _ in keys:
                print(key)
    return 0


def _print_json_keys(after: Manifest, before: Manifest, keys: Iterator[tuple[str, int | None]], count: Any) -> None:
    """One document, written as it comes: there may be a million keys."""
    print("{")
    print(f' "from": "{before.header.tid.hex()}",\n "to": "{after.header.tid.hex()}",\n "objects": [', end="")
    for number, (key, size) in enumerate(keys):
        print(
            "," if number else "", f'\n  {{"key": "{key}", "size": {"null" if size is None else size}}}', sep="", end=""
        )
    print(f'\n ],\n "count": {count.blobs},\n "bytes": {count.bytes}\n}}')


def _list(database: Database, as_json: bool) -> int:
    from ..maintenance.manifests import listed

    with ExitStack() as stack:
        store, _ = opened_store(stack, database, writable=False, concurrency=1)
        found = list(listed(store))
    if as_json:
        rows = [
            {"key": each.key, "made": each.made.isoformat(), "tid": each.tid.hex(), "bytes": each.size}
            for each in found
        ]
        output.print_json({"database": database.name, "manifests": rows})
    elif not found:
        output.print_lines([("manifests", "none yet: s3blobs manifest --in-bucket")])
    else:
        output.print_lines([(each.key, f"{each.made:%Y-%m-%d %H:%M} UTC, {byte_count(each.size)}") for each in found])
    return 0
