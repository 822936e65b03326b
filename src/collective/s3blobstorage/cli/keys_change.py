"""``s3blobs keys add|activate|retire``: what the bucket's register says of a key."""

from __future__ import annotations

import threading
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any

import click

from ..errors import ConfigurationError, UnsafeError
from ..overlay.settings import S3Settings
from . import output
from .configuration import Database
from .confirming import typed
from .interrupt import INTERRUPTED, until_interrupted
from .keys_rotate import concurrency_option, json_option
from .prefix import looked_at
from .request import Request, pass_request

if TYPE_CHECKING:
    from ..encryption.register import Entry
    from ..encryption.ring import KeyRing
    from ..objectstore import S3ObjectStore


@click.command()
@click.argument("id")
@json_option
@pass_request
def add(request: Request, id: str, as_json: bool) -> int:
    """Let the bucket know the key ID of zope.conf, before anybody writes with it. A <kms-key> is made here.

    Exit status: 0; 2 where it could not be done.
    """
    from ..encryption.register import add as add_to
    from ..encryption.register import mode_of

    request.json = as_json
    database = request.database()
    _refuse_read_only(database, "add")
    with ExitStack() as stack:
        store = _opened(stack, database)
        ring = _ring(store)
        entry = add_to(store.unencrypted(), ring, id, mode_of(ring, id, store.encryption.name))
    _tell(
        entry,
        as_json,
        "when every process of the site has this key in its zope.conf and was restarted, name it as active-key, and run"
        f" s3blobs keys activate {id}",
    )
    return 0


@click.command()
@click.argument("id")
@json_option
@pass_request
def activate(request: Request, id: str, as_json: bool) -> int:
    """Say that the key ID writes from now on, as active-key of zope.conf says. The one that did so is superseded.

    Exit status: 0; 2 where it could not be done.
    """
    from ..encryption import register

    request.json = as_json
    database = request.database()
    _refuse_read_only(database, "activate")
    with ExitStack() as stack:
        store = _opened(stack, database)
        ring = _ring(store)
        name = store.encryption.name
        if id in ring.providers and register.mode_of(ring, id, name) != name:
            raise ConfigurationError(
                f"the key {id} is one of another section than the first, and new objects are written as the first one"
                f" says ({name}): move its section to the front"
            )
        if ring.active_id != id:
            raise ConfigurationError(
                f"active-key of zope.conf is {ring.active_id}: name the other one there first, in every process."
                f" Example: active-key {id}"
            )
        if register.verify(store.unencrypted(), ring, id) is None:
            raise ConfigurationError(
                f"the bucket does not know the key {id} yet: run `s3blobs keys add {id}` first, and see to it that"
                " every process has it in its zope.conf"
            )
        entry = register.activate(store.unencrypted(), id)
    _tell(entry, as_json, "restart every process of the site, then run s3blobs keys rotate")
    return 0


@click.command()
@click.argument("id")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Only count what needs it.")
@concurrency_option
@json_option
@pass_request
def retire(request: Request, id: str, yes: bool, dry_run: bool, concurrency: int, as_json: bool) -> int:
    """Say that nothing needs the key ID any more, after each object was asked, and each version that the bucket keeps.

    Refused while an object needs it, while it is the active one, or while a source of zope.conf has it. Run it when no
    process writes with it any more. Exit status: 0; 1 where the id was not typed; 2 where it is needed, or nothing
    could be done; 130 after Ctrl-C.
    """
    from ..encryption import register
    from ..maintenance.retire import refuse_needed

    request.json = as_json
    database = request.database()
    if not dry_run:
        _refuse_read_only(database, "retire")
    with ExitStack() as stack:
        store = _opened(stack, database, writable=not dry_run)
        entry = register.known(store.unencrypted(), id)
        ring = store.encryption.ring
        if entry.state == register.ACTIVE or (ring is not None and ring.active_id == id):
            raise UnsafeError(f"the key {id} is the active one: name another active-key in zope.conf first")
        lease = None if dry_run else stack.enter_context(_lease(store))
        _refuse_sources(database, entry)
        counted = until_interrupted(lambda stop: _counted(store, concurrency, stop), "requests")
        if counted is None:
            return INTERRUPTED
        usage, failures = counted
        refuse_needed(id, usage, failures)
        if lease is None:
            _tell(entry, as_json, f"nothing needs it: s3blobs keys retire {id} would do it")
            return 0
        if not yes and not typed(id, "to retire this key, which nothing needs"):
            output.complain(f"nothing was changed: {id} was not typed")
            return 1
        lease.check()
        entry = register.retire(store.unencrypted(), id)
    _tell(
        entry,
        as_json,
        "the key may leave zope.conf; keep a copy of it as long as there are backups or copies of the bucket",
    )
    return 0


def _opened(stack: ExitStack, database: Database, *, writable: bool = True) -> S3ObjectStore:
    """The store, where the prefix is ours or nobody's. Raises OwnerError.

    To be written to it is opened as the site does it, since whether a condition holds is measured then; but for the
    register, which is what will be changed.
    """
    from ..objectstore import open_store
    from ..storage.opening import keys_explained, open_without_keys
    from ..storage.owner import refuse_other

    if not writable:
        store, marker = looked_at(stack, database, writable=False)
        refuse_other(marker, database.settings.owner)
        return store
    store = stack.enter_context(closing(open_store(database.settings.store)))
    with keys_explained(store):
        open_without_keys(store, database.settings, read_only=False)
    return store


def _ring(store: S3ObjectStore) -> KeyRing:
    if store.encryption.ring is None:
        raise ConfigurationError(
            "zope.conf has no key: add a section <client-side-encryption> or <sse-c> with one. Example: <key 2026-11>"
            " file /run/secrets/blob-key-2026-11 </key>"
        )
    return store.encryption.ring


def _refuse_read_only(database: Database, verb: str) -> None:
    if database.settings.read_only:
        raise ConfigurationError(f"read-only is on, and keys {verb} writes into the bucket: set read-only off")


def _lease(store: S3ObjectStore) -> Any:
    """No gc or rotation meanwhile: one to this very key may be under way."""
    from ..maintenance.gc.margins import Margins
    from ..maintenance.rotate import held
    from ..objectstore.clock import Clock

    return held(store, Margins(), Clock())


def _refuse_sources(database: Database, entry: Entry) -> None:
    from ..maintenance.retire import refuse_source
    from ..objectstore import open_store

    with ExitStack() as stack:
        sources = []
        for source in database.settings.sources:
            if isinstance(source, S3Settings) and source.store.encryption is not None:
                # Opened, since what its bucket keeps of a key may be needed to have it.
                store = open_store(source.store, read_only=True)
                stack.callback(store.close)
                if store.encryption.ring is not None:
                    sources.append((source.options.name, store.encryption.ring))
        refuse_source(entry, sources)


def _counted(store: S3ObjectStore, concurrency: int, stop: threading.Event) -> Any:
    from ..maintenance.findings import Stopped
    from ..maintenance.retire import all_that_is_kept
    from ..maintenance.usage import count

    try:
        with output.counting("listing the bucket") as advance:
            listing = all_that_is_kept(store, stop, advance)
        with listing, output.advancing("looking", listing.found.blobs) as advanced:
            return count(store, listing, stop, concurrency=concurrency, advance=advanced)
    except Stopped:
        return None


def _tell(entry: Entry, as_json: bool, next_: str) -> None:
    if as_json:
        since = {state: moment.isoformat() for state, moment in entry.since.items()}
        output.print_json(
            {
                "id": entry.id,
                "version": entry.version,
                "mode": entry.mode,
                "state": entry.state,
                "since": since,
                "next": next_,
            }
        )
        return
    since = f"{entry.since[entry.state]:%Y-%m-%d %H:%M} UTC"
    output.print_lines([("key", entry.id), ("state", f"{entry.state} since {since}"), ("next", next_)])
