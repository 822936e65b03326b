"""``s3blobs archive``: what is old, large or not read, to a cheaper storage class or into a source."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from .. import datatypes
from ..errors import ConfigurationError, UnsafeError
from ..messages import byte_count
from . import output
from .as_job import shown_until_interrupted
from .comparing import amount, looked, opened_store, scope_of
from .configuration import Database
from .interrupt import INTERRUPTED
from .parameters import OID_RANGE, SIZE, Parsed
from .request import Request, pass_request

if TYPE_CHECKING:
    from ..maintenance.archive import Places, Plan, Report
    from ..objectstore import S3ObjectStore
    from ..overlay.settings import S3Settings

_SHOWN = 20  # failures, in the text for people

# Of who may write into the source; never those of the source's section, which only read.
ACCESS_KEY, SECRET_KEY, TOKEN = (
    "S3BLOBS_ARCHIVE_ACCESS_KEY_ID",
    "S3BLOBS_ARCHIVE_SECRET_ACCESS_KEY",
    "S3BLOBS_ARCHIVE_SESSION_TOKEN",
)

_PERIOD = Parsed("time", partial(datatypes.period, minimum=0.0, maximum=36500 * datatypes.DAY))


def _days(text: str) -> int:
    """Of ``--unread-for``: whole days, as notes are made by days."""
    from ..storage.read_notes import LONGEST

    return int(datatypes.period(text, minimum=datatypes.DAY, maximum=LONGEST * datatypes.DAY) // datatypes.DAY)


def _class(text: str) -> str:
    """As ``storage-class``, archives too."""
    return text if text in datatypes.ARCHIVES else datatypes.storage_class(text)


@click.command()
@click.option("--older-than", type=_PERIOD, help="Of revisions committed longer ago, as 1y or 90d.")
@click.option("--larger-than", type=SIZE, help="Objects of more bytes, as 10MB.")
@click.option(
    "--unread-for", type=Parsed("days", _days), help="Blobs that nobody read for so long (note-reads), as 180d."
)
@click.option("--class", "storage_class", type=Parsed("class", _class), help="Into that storage class, as STANDARD_IA.")
@click.option("--needs-restore", is_flag=True, help="Also into an archive, which nobody reads without a restore.")
@click.option("--to-source", metavar="NAME", help="Into the bucket of that <s3source>.")
@click.option("--profile", metavar="NAME", help="With --to-source: AWS's profile that may write there.")
@click.option("--oid-range", type=OID_RANGE, help="Only these oids, as 0-1fff: to split the work.")
@click.option("--concurrency", type=click.IntRange(1, 64), default=8, show_default=True, help="Objects at a time.")
@click.option("--limit-rate", type=SIZE, help="Bytes a second over all copies, as 10MB.")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")
@pass_request
def archive(
    request: Request,
    older_than: float | None,
    larger_than: int | None,
    unread_for: int | None,
    storage_class: str | None,
    needs_restore: bool,
    to_source: str | None,
    profile: str | None,
    oid_range: tuple[bytes, bytes] | None,
    concurrency: int,
    limit_rate: int | None,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Move blobs that are old, large and not read to a cheaper storage class, or into the bucket of a source.

    Runs beside the site, which reads every blob meanwhile. What is moved into a source is compared before it is deleted
    from the bucket. Stopped or killed it is run again, and goes on; one archive, gc or rotation at a time for each
    prefix. Ctrl-C ends it after the copies that are under way. Exit status: 0; 1 where a blob could not be moved; 2
    where nothing could be done, or the store cannot be reached; 130 after Ctrl-C.
    """
    from ..maintenance.archive import refuse_kept

    request.json = as_json
    if (older_than, larger_than, unread_for) == (None, None, None):
        raise click.UsageError("Say which blobs: --older-than, --larger-than, --unread-for, or several of them.")
    if (storage_class is None) == (to_source is None):
        raise click.UsageError("Say where to: --class or --to-source.")
    if storage_class in datatypes.ARCHIVES and not needs_restore:
        raise click.UsageError(
            f"Nobody can read what lies in {storage_class}: a visitor gets an error instead of the file, until it was"
            " restored, which takes minutes to days (s3blobs restore-archived). If that is wanted, give"
            " --needs-restore. GLACIER_IR is as cheap for what is seldom read, and is read at once."
        )
    database = request.database()
    settings = database.settings
    if settings.read_only and not dry_run:
        raise ConfigurationError(
            "read-only is on, and archive writes into the bucket: set read-only off, or give --dry-run"
        )
    source = None if to_source is None else _source(database, to_source)
    started = time.monotonic()
    with ExitStack() as stack:
        store, marker = opened_store(stack, database, writable=not dry_run, concurrency=concurrency)
        if settings.owner is None or marker.owner != settings.owner:
            raise UnsafeError("archive moves blobs only below a prefix with an owner. Example: owner www.example.org")
        refuse_kept(store, settings.store)
        keeps = store.keeps_versions()
        places = None if source is None or dry_run else _places(stack, store, source, profile, concurrency)
        wish = {
            "older_than": older_than,
            "larger_than": larger_than,
            "storage_class": storage_class,
            "scope": scope_of(None, oid_range),
        }

        def work(running: Any) -> tuple[dict[str, Any] | None, Report | None]:
            return _run(store, database, wish, unread_for, places, concurrency, limit_rate, dry_run, running)

        planned, report = shown_until_interrupted(work, "copies")
    told = {
        "database": database.name,
        "class": storage_class,
        "source": to_source,
        "dry_run": dry_run,
        "keeps_versions": keeps,
        **(planned or {}),
        **({} if report is None else report.as_json()),
        "stopped": planned is None or (report is not None and report.stopped),
        "seconds": round(time.monotonic() - started, 3),
    }
    if as_json:
        output.print_json(told)
    else:
        output.print_lines(_lines(told, report))
    if told["stopped"]:
        return INTERRUPTED
    return 1 if report is not None and report.failures.count else 0


def _run(
    store: S3ObjectStore,
    database: Database,
    wish: dict[str, Any],
    unread_for: int | None,
    places: Places | None,
    concurrency: int,
    limit_rate: int | None,
    dry_run: bool,
    running: Any,
) -> tuple[dict[str, Any] | None, Report | None]:
    """What the plan found, None where it was stopped, and what was done, under gc's lease."""
    from ..maintenance.archive import Wish, to_class, to_source
    from ..maintenance.findings import Stopped
    from ..maintenance.gc.margins import Margins
    from ..maintenance.read_since import read_since
    from ..maintenance.rotate import held
    from ..objectstore.clock import Clock

    with ExitStack() as stack:
        lease = None if dry_run else stack.enter_context(held(store, Margins(), Clock()))
        try:
            unread = None if unread_for is None else read_since(store, unread_for, running.stop)
            plan = stack.enter_context(_plan(store, database, Wish(**wish, unread=unread), running))
        except Stopped:
            return None, None
        planned = plan.as_json()
        if lease is None:
            return planned, None
        options: dict[str, Any] = {"concurrency": concurrency, "limit_rate": limit_rate}
        if places is None:
            return planned, to_class(store, plan, wish["storage_class"], lease, running, **options)
        return planned, to_source(places, plan, lease, running, **options)


def _plan(store: S3ObjectStore, database: Database, wish: Any, running: Any) -> Plan:
    from ..maintenance.archive import make_plan
    from ..maintenance.kept import kept_revisions
    from ..maintenance.spool import Spool

    with Spool() as spool, looked(database)() as base:
        revisions = kept_revisions(base, wish.scope, spool)
        return make_plan(store, revisions, wish, running.stop, running.phase("listing the bucket"))


def _source(database: Database, name: str) -> S3Settings:
    """The settings of the source. Raises ConfigurationError where nothing can be moved there."""
    from ..overlay.settings import S3Settings

    found = [source for source in database.settings.sources if source.options.name == name]
    if not found:
        names = ", ".join(source.options.name for source in database.settings.sources) or "none"
        raise ConfigurationError(
            f"--to-source {name}: <s3blobstorage> has no such source (it has: {names}). The site has to read what is"
            f" moved there: add an <s3source {name}> and restart every process, then run archive"
        )
    source = found[0]
    if not isinstance(source, S3Settings):
        raise ConfigurationError(f"--to-source {name}: it is no <s3source>, and blobs are moved only into a bucket")
    options = source.options
    wrong = {
        "mirror off": options.mirror != "off",
        "layout ours": source.layout != "ours",
        "no fork-tid and no fork-time": options.fork_tid is not None,
        "no max-size": options.max_size is not None,
    }
    if missing := [what for what, is_wrong in wrong.items() if is_wrong]:
        raise ConfigurationError(
            f"--to-source {name}: what lies there would come back into the bucket, or not be found: <s3source {name}>"
            f" needs {', '.join(missing)}"
        )
    return source


def _places(
    stack: ExitStack, store: S3ObjectStore, source: S3Settings, profile: str | None, concurrency: int
) -> Places:
    """Both buckets, and the source as the site reads it. Raises ConfigurationError without credentials that write."""
    from ..maintenance.archive import Places
    from ..objectstore import open_store

    given = [os.environ.get(name) or None for name in (ACCESS_KEY, SECRET_KEY, TOKEN)]
    if profile is None and None in given[:2]:
        raise ConfigurationError(
            f"--to-source {source.options.name}: the keys of its section read only, so give those that may write there:"
            f" {ACCESS_KEY} and {SECRET_KEY} in the environment, or --profile NAME of AWS's configuration files"
        )
    if profile is not None:
        given = [None, None, None]
    access, secret, token = given
    written = replace(
        source.store,
        access_key=access,
        secret_key=secret,
        session_token=token,
        profile=profile,
        upload_concurrency=concurrency,
        max_pool_connections=max(source.store.max_pool_connections, concurrency + 2),
        download_deadline=7 * datatypes.DAY,
    )
    target = stack.enter_context(closing(open_store(written)))
    reader = stack.enter_context(
        closing(open_store(replace(source.store, download_deadline=7 * datatypes.DAY), read_only=True))
    )
    if target.identity == store.identity:
        raise ConfigurationError(f"--to-source {source.options.name}: it is the bucket and prefix of the site itself")
    target.open_bucket(writable=True)
    return Places(store, target, reader)


def _lines(told: dict[str, Any], report: Report | None) -> list[tuple[str, str]]:
    if "wanted" not in told:
        return [("stopped", "nothing was moved")]
    where = f"into {told['class']}" if told["class"] else f"into the source {told['source']}"
    lines = [("to move", f"{amount(told['wanted'])}, {where}")]
    named = {
        "there": "are there already",
        "young": "are younger than --older-than",
        "small": "are not larger than --larger-than",
        "read": "were read within --unread-for",
        "archived": "lie in an archive: s3blobs restore-archived first",
        "unused": "are not used by the database, and gc's",
        "other": "are under keys of zodb-s3blobs, or references, and stay",
    }
    lines += [("", f"{amount(told[what])} {said}") for what, said in named.items() if told[what]["blobs"]]
    if told["keeps_versions"] and told["wanted"]["blobs"]:
        lines.append(("versions", "the bucket keeps versions, so what was there takes its room until gc --versions"))
    if report is None:
        return lines
    moved = told["moved"]
    rate = byte_count(moved["bytes"] / max(told["seconds"], 0.001))
    lines.append(("moved", f"{amount(moved)} in {told['seconds']:,.1f} s, {rate}/s"))
    if told["gone"]["blobs"]:
        lines.append(("changed", f"{told['gone']['blobs']:,} meanwhile"))
    lines += [("failed", f"{count:,}: {kind}") for kind, count in sorted(told["failed"].items())]
    lines += [("", f"{failure['key']}: {failure['reason']}") for failure in told["failures"][:_SHOWN]]
    if told["stopped"]:
        lines.append(("stopped", "run it again to go on"))
    return lines
