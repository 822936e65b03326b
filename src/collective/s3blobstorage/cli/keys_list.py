"""``s3blobs keys list``: which keys there are, since when, and how much needs each."""

from __future__ import annotations

import threading
from contextlib import ExitStack, closing
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from ..errors import OwnerError, StoreError
from ..messages import byte_count
from . import output
from .configuration import Database
from .interrupt import INTERRUPTED, until_interrupted
from .keys_rotate import SHOWN, concurrency_option, json_option
from .request import Request, pass_request

if TYPE_CHECKING:
    from ..maintenance.usage import Failures, Usage
    from ..objectstore import S3ObjectStore


@click.command("list")
@click.option("--count", is_flag=True, help="Ask the store of each object which key it needs, and keep what was found.")
@concurrency_option
@json_option
@pass_request
def list_(request: Request, count: bool, concurrency: int, as_json: bool) -> int:
    """List the keys that the bucket or zope.conf knows: state, since when, where from, and how much needs each.

    Reads no key. The figures are those that were counted last: by a rotation, or with --count, which asks for each
    object by itself. Exit status: 0; 1 where an object could not be looked at; 2 where the bucket could not be read;
    130 after Ctrl-C.
    """
    from ..maintenance.key_states import told as told_of

    request.json = as_json
    database = request.database()
    failures = None
    with ExitStack() as stack:
        store = _opened(stack, database, writable=count and not database.settings.read_only)
        if count:
            counted = until_interrupted(lambda stop: count_all(store, concurrency, stop), "requests")
            if counted is None:
                return INTERRUPTED
            usage, failures = counted
            _keep(store, database, usage, failures)
        told = {"database": database.name, "encryption": store.encryption.name, **told_of(store)}
    if failures is not None:
        told |= {"failed": failures.by_kind, "failures": failures.first}
    if as_json:
        output.print_json(told)
    else:
        _print(told)
    return 1 if failures is not None and failures.count else 0


def _opened(stack: ExitStack, database: Database, *, writable: bool) -> S3ObjectStore:
    """The store; neither the marker nor a key is read, so that this also tells what is wrong with them."""
    from ..objectstore import open_store

    store = stack.enter_context(closing(open_store(database.settings.store, read_only=not writable)))
    store.open_bucket(writable=False)
    return store


def count_all(store: S3ObjectStore, concurrency: int, stop: threading.Event) -> tuple[Usage, Failures] | None:
    """What readers get of the prefix; None after ``stop``."""
    from ..maintenance.findings import Stopped
    from ..maintenance.usage import count, listed

    try:
        with output.counting("listing the bucket") as advance:
            listing = listed(store, stop, advance=advance)
        with listing, output.advancing("looking", listing.found.blobs) as advanced:
            return count(store, listing, stop, concurrency=concurrency, advance=advanced)
    except Stopped:
        return None


def _keep(store: S3ObjectStore, database: Database, usage: Usage, failures: Failures) -> None:
    """In the bucket, for who lists next; not where it is not the whole, or another's prefix."""
    from ..maintenance.usage import keep_figures
    from ..storage.owner import read_marker, refuse_other

    if store.read_only or failures.count:
        return
    try:
        refuse_other(read_marker(store), database.settings.owner)
        keep_figures(store.unencrypted(), usage)
    except (OwnerError, StoreError) as error:
        output.complain(f"what was counted is not kept: {error}")


def _print(told: dict[str, Any]) -> None:
    if not told["keys"]:
        output.print_lines([("encryption", f"{told['encryption']}; there is no key in zope.conf nor in the bucket")])
        return
    lines = [("encryption", told["encryption"])]
    lines += [(key["id"], described(key)) for key in told["keys"]]
    lines.append(("counted", _counted(told)))
    lines += [("not looked at", f"{count:,}: {kind}") for kind, count in sorted(told.get("failed", {}).items())]
    lines += [("", f"{failure['key']}: {failure['reason']}") for failure in told.get("failures", [])[:SHOWN]]
    output.print_lines(lines)


def described(key: dict[str, Any]) -> str:
    """One key in one line, for people; also on the status page."""
    if key["state"] is None:
        parts = ["not in the bucket yet: `s3blobs keys add` it, or start a site that writes"]
    else:
        parts = [f"{key['state']} since {_day(key['since'][key['state']])}"]
        if key["age_days"] is not None and key["state"] != "retired":
            parts.append(f"{key['age_days']:,} days old")
    parts.append(key["mode"])
    if key["objects"] is not None:
        needed = f"{key['objects']:,} objects, {byte_count(key['bytes'])}"
        more = [(key["beside"], "beside the blobs"), (key["past_versions"], "former versions")]
        parts.append(" and ".join([needed, *(f"{count:,} {what}" for count, what in more if count)]))
    if key["source"] is not None:
        parts.append(key["source"])
    elif key["state"] != "retired":
        parts.append("not in zope.conf")
    if key["writes"]:
        parts.append("active-key")
    return ", ".join(parts)


def _counted(told: dict[str, Any]) -> str:
    if told["counted"] is None:
        return "never yet: give --count, or rotate"
    moment = datetime.fromisoformat(told["counted"])
    other = [row for row in told["usage"]["content"] if not row["key"]]
    rest = [f"{row['objects']:,} {row['mode']}" for row in other]
    return f"{moment:%Y-%m-%d %H:%M} UTC" + (f"; without a key of these: {', '.join(rest)}" if rest else "")


def _day(text: str) -> str:
    return text[:10]
