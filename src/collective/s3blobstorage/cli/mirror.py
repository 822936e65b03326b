"""``s3blobs mirror``: what is still only in sources into the bucket."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from ..errors import ConfigurationError
from . import output
from .as_job import in_job, shown_until_interrupted
from .comparing import (
    amount,
    document,
    exit_status,
    in_bucket,
    looked,
    opened_store,
    print_lines,
    scope_of,
    took,
    totals,
    transfer_options,
)
from .elsewhere import Elsewhere, opening
from .request import Request, pass_request

if TYPE_CHECKING:
    from ..maintenance.migrate import Plan


@click.command()
@click.option("--verify", is_flag=True, help="Read every object of a kept revision again afterwards.")
@transfer_options
@pass_request
def mirror(
    request: Request,
    verify: bool,
    since: bytes | None,
    oid_range: tuple[bytes, bytes] | None,
    concurrency: int,
    limit_rate: int | None,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Copy into the bucket what the database needs and only the sources of its section have.

    Also beside a running site; the database and the sources are only read. Nothing in the bucket is overwritten, so it
    can be stopped or killed and run again. A run over the whole database that finds everything says so in the bucket,
    up to the last transaction it saw: then the sources can be removed from zope.conf. --limit-rate is of what comes
    from the sources. Ctrl-C ends it after the copies that are under way. Exit status: 0; 1 where a blob is missing,
    different, or could not be read; 2 where nothing could be done, or the store cannot be reached; 130 after Ctrl-C.
    """
    from ..maintenance.bringing import Wish, from_sources, note_mirrored
    from ..maintenance.comparing import Comparison
    from ..maintenance.jobs.work import mirrored
    from ..maintenance.migrate import Plan
    from ..maintenance.spool import Spool
    from ..storage.owner import refuse_other

    request.json = as_json
    if verify and dry_run:
        raise click.UsageError("--verify reads what was copied, and --dry-run copies nothing: leave out one of them.")
    scope = scope_of(since, oid_range)
    database = request.database()
    settings = database.settings
    if not settings.sources:
        raise ConfigurationError(
            "there is no source in <s3blobstorage>: add an <s3source>, a <blobdirsource> or a <basesource>"
        )
    if settings.read_only:
        raise ConfigurationError("read-only is on, and mirror writes into the bucket: set read-only off")
    names = [source.options.name for source in settings.sources]
    started = time.monotonic()
    with ExitStack() as stack:
        spool = stack.enter_context(Spool())
        store, marker = opened_store(stack, database, writable=not dry_run, concurrency=concurrency)
        refuse_other(marker, settings.owner)
        run = Comparison(looked(database), store, marker, None, scope, spool)
        planned = Plan(spool)
        wish = Wish(dry_run=dry_run, verify=verify, concurrency=concurrency, limit_rate=limit_rate)

        def work(running: Any) -> bytes | None:
            seen = from_sources(run, planned, wish, running, *opening(Elsewhere(settings.sources), database, store))
            return None if dry_run else note_mirrored(store, planned.findings, seen, names, whole=scope.whole)

        if dry_run or oid_range is not None:  # a part is no job: others copy theirs at the same time
            complete = shown_until_interrupted(work, "copies")
        else:
            options = {"dry_run": False, "verify": verify}
            complete = in_job(
                store,
                "mirror",
                options,
                work,
                "copies",
                lambda complete: mirrored(planned.findings, names, complete, dry_run=False),
            )
    told = document(
        database,
        {},
        planned.findings,
        "copied",
        scope,
        started,
        sources=names,
        dry_run=dry_run,
        **({"verified": asdict(planned.findings.verified)} if verify else {}),
        complete_up_to=None if complete is None else complete.hex(),
    )
    if as_json:
        output.print_json(told)
    else:
        _print(told, planned)
    return exit_status(planned.findings)


def _print(told: dict[str, Any], planned: Plan) -> None:
    found = told["found"]
    lines = in_bucket(told, " before")
    if told["dry_run"]:
        lines.append(("would be copied", amount(found["wanted"])))
    else:
        lines.append(("copied", took(told["copied"], told["seconds"])))
    if "verified" in told:
        lines.append(("verified", amount(told["verified"])))
    if planned.findings.stopped:
        lines.append(("stopped", f"of {amount(found['wanted'])}; run it again to go on"))
    if told["complete_up_to"] is not None:
        names = ", ".join(told["sources"])
        lines.append(("complete", f"up to 0x{told['complete_up_to']}: no source is needed any more ({names})"))
    print_lines([*lines, *totals(planned.findings)], planned.findings)
