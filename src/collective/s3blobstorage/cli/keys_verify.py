"""``s3blobs keys verify``: each key can be had, is the one that the bucket knows, and opens what it is for."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any

import click

from ..errors import ConfigurationError, RecordError, Unavailable
from ..messages import one_line
from . import output
from .interrupt import INTERRUPTED, until_interrupted
from .keys_rotate import amount, concurrency_option, failed_lines, json_option
from .parameters import SIZE, Parsed
from .request import Request, pass_request

if TYPE_CHECKING:
    from ..maintenance.verify_keys import Read
    from ..objectstore import S3ObjectStore

ALL = 0


def objects(text: str) -> int:
    """``all``, or a whole number above 0."""
    if text.strip().lower() == "all":
        return ALL
    if not text.strip().isascii() or not text.strip().isdigit() or int(text) == 0:
        raise ConfigurationError("is neither a whole number above 0 nor `all`")
    return int(text)


@click.command()
@click.option("--objects", "number", type=Parsed("number or all", objects), help="Read so many of each key at random.")
@concurrency_option
@click.option("--limit-rate", type=SIZE, help="Bytes a second that are read, as 10MB.")
@json_option
@pass_request
def verify(request: Request, number: int | None, concurrency: int, limit_rate: int | None, as_json: bool) -> int:
    """Read each key of zope.conf, and compare it with what the bucket knows of it; with --objects also read objects.

    To find some of each key at random every object is asked for its own; `all` reads the whole bucket. An object is
    compared with its size and, where the bucket has it, its SHA-256. Writes nothing. Exit status: 0; 1 where a key
    cannot be had or is another one, or an object does not open; 2 where the bucket could not be read; 130 after Ctrl-C.
    """
    from ..objectstore import open_store

    request.json = as_json
    database = request.database()
    started = time.monotonic()
    with ExitStack() as stack:
        store = stack.enter_context(closing(open_store(database.settings.store, read_only=True)))
        store.open_bucket(writable=False)
        if store.encryption.ring is None and number is None:
            raise ConfigurationError(
                "zope.conf has no key: add a section <client-side-encryption> or <sse-c> with one, or give --objects"
            )
        keys = _keys(store)
        read = None
        if number is not None and all(key["ok"] for key in keys):
            read = until_interrupted(lambda stop: _read(store, number, concurrency, limit_rate, stop), "reads")
    told: dict[str, Any] = {"database": database.name, "keys": keys}
    if read is not None:
        told |= {
            "opened": [
                {"mode": mode, "key": key, "objects": count.blobs, "bytes": count.bytes}
                for (mode, key), count in sorted(read.opened.items())
            ],
            "gone": read.gone,
            "failed": read.failures.by_kind,
            "failures": read.failures.first,
            "stopped": read.stopped,
        }
    told["seconds"] = round(time.monotonic() - started, 3)
    if as_json:
        output.print_json(told)
    else:
        _print(told, asked=number is not None)
    if read is not None and read.stopped:
        return INTERRUPTED
    return 0 if all(key["ok"] for key in keys) and (read is None or not read.failures.count) else 1


def _keys(store: S3ObjectStore) -> list[dict[str, Any]]:
    """What is right and wrong with each key of zope.conf."""
    from ..encryption import register

    ring, known = store.encryption.ring, store.unencrypted()
    found = []
    for id in ring.ids if ring is not None else ():
        told: dict[str, Any] = {"id": id, "source": ring.providers[id].source, "state": None, "ok": True, "detail": ""}
        found.append(told)
        try:
            entry = register.verify(known, ring, id)
        except (ConfigurationError, RecordError, Unavailable) as error:
            told["ok"], told["detail"] = False, one_line(error)
            continue
        told["state"] = None if entry is None else entry.state
    return found


def _read(store: S3ObjectStore, number: int, concurrency: int, limit_rate: int | None, stop: threading.Event) -> Read:
    from ..maintenance.findings import Stopped
    from ..maintenance.pace import Pace
    from ..maintenance.usage import count, is_content, listed
    from ..maintenance.verify_keys import Read, Sample, read_each

    pace = Pace(limit_rate)
    try:
        with output.counting("listing the bucket") as advance:
            listing = listed(store, stop, advance=advance)
        with listing:
            if number == ALL:
                lines = (line for line in listing if is_content(line.key))
                with output.advancing("reading", listing.found.blobs) as advanced:
                    return read_each(store, lines, stop, concurrency=concurrency, pace=pace, advance=advanced)
            sample = Sample(number)
            with output.advancing("looking", listing.found.blobs) as advanced:
                _, failures = count(store, listing, stop, concurrency=concurrency, advance=advanced, seen=sample.seen)
    except Stopped:
        return Read(stopped=True)
    with output.advancing("reading", len(sample.lines)) as advanced:
        read = read_each(store, sample.lines, stop, concurrency=concurrency, pace=pace, advance=advanced)
    read.failures.merge(failures)
    return read


def _print(told: dict[str, Any], *, asked: bool) -> None:
    lines = []
    for key in told["keys"]:
        state = "not in the bucket yet" if key["state"] is None else f"{key['state']}, the one that the bucket knows"
        lines.append((key["id"], f"{output.sign(key['ok'])} {key['detail'] or state} ({key['source']})"))
    for row in told.get("opened", ()):
        lines.append(("opened", f"{amount(row)}, {row['mode']} {row['key']}".rstrip()))
    if "opened" in told:
        lines += failed_lines(told)
    elif asked:
        lines.append(("opened", "no object was read: a key is wrong"))
    if told.get("stopped"):
        lines.append(("stopped", "before all were read"))
    output.print_lines(lines)
