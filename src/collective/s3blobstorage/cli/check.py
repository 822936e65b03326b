"""``s3blobs check``: is this machine ready, and does the store do what it must?"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict
from typing import TYPE_CHECKING

import click
from rich.table import Table
from rich.text import Text

from ..errors import StoreError
from . import output
from .configuration import Database
from .messages import mend as mend_of
from .messages import one_line
from .request import Request, pass_request

if TYPE_CHECKING:
    from ..objectstore.preflight import Finding

_STYLES = {True: "green", False: "bold red", None: "dim"}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")
@click.option("--no-write", is_flag=True, help="Write nothing to the bucket; what needs that is not tried.")
@click.option("--no-base", is_flag=True, help="Do not open the database for reading.")
@pass_request
def check(request: Request, as_json: bool, no_write: bool, no_base: bool) -> int:
    """Check configuration, disk, database, bucket and store, and say what to mend.

    Writes a few small objects below .s3blobs-check/ of the prefix, and deletes them. Exit status: 0 where all is well,
    1 where something is to be mended, 2 where the configuration cannot be used at all.
    """
    request.json = as_json
    started = time.monotonic()
    database = request.database()
    findings = []
    with output.working("checking") as now, closing(_findings(database, started, no_write, no_base)) as coming:
        for finding in coming:
            findings.append(finding)
            now(f"checking: {finding.name} done")
    well = all(finding.ok is not False for finding in findings)
    if as_json:
        rows = [asdict(finding) | {"seconds": round(finding.seconds, 4)} for finding in findings]
        output.print_json({"database": database.name, "ok": well, "findings": rows})
    else:
        _print(findings)
    return 0 if well else 1


def _findings(database: Database, started: float, no_write: bool, no_base: bool) -> Iterator[Finding]:
    """Every finding, in the order in which a person would look: the machine, the store, the prefix, then writing, and
    the sources at the end.

    Nothing is written, not even an object of the checks, before the owner marker said that the prefix is ours.
    """
    from ..objectstore import open_store  # here, since these import boto3
    from ..objectstore.preflight import LAST_BEFORE_WRITING, Finding, checks
    from .local_checks import LocalChecks, Result
    from .source_checks import source_checks

    def timed(name: str, asked: Callable[[], Result]) -> Finding:
        begun = time.monotonic()
        try:
            ok, detail, mend = asked()
        except StoreError as error:
            ok, detail, mend = False, one_line(error), mend_of(error)
        return Finding(name, ok, time.monotonic() - begun, detail, mend)

    settings = database.settings
    writable = not settings.read_only and not no_write
    with closing(open_store(settings.store, read_only=not writable)) as store:
        what = f"<s3blobstorage> around <{database.base_type}>, database {database.name}"
        yield Finding("configuration", True, time.monotonic() - started, what, "")
        local = LocalChecks(database, store)
        yield timed("cache-dir", local.cache_dir)
        yield timed("staging-dir", local.staging_dir)
        yield timed("cache space", local.cache_space)
        yield timed("one file system", local.one_file_system)
        yield timed("database", lambda: (None, "not tried (--no-base)", "") if no_base else local.base())
        yield timed("local clock", local.local_clock)
        yield timed("garbage", local.garbage)
        not_asked: Result = (None, "not tried: the bucket cannot be read", "")
        reached = False
        remote = checks(store, writable=writable, thorough=True, forbidden=lambda: local.not_ours)
        with closing(remote):
            for finding in remote:
                reached = reached or (finding.name == "bucket" and finding.ok is True)
                yield finding
                if finding.name == LAST_BEFORE_WRITING:
                    yield timed("owner", local.owner if reached else lambda: not_asked)
                    yield timed("keys", local.keys if reached else lambda: not_asked)
        for name, asked in source_checks(database, no_base=no_base):
            yield timed(name, asked)


def _print(findings: list[Finding]) -> None:
    table = Table(box=None, pad_edge=False, show_header=True, header_style="bold")
    table.add_column("")
    table.add_column("check", no_wrap=True)
    table.add_column("time", justify="right", no_wrap=True)
    table.add_column("what was found, and → what to change", overflow="fold")
    for finding in findings:
        style = _STYLES[finding.ok]
        found = Text(finding.detail, style="dim" if finding.ok is None else "")
        if finding.mend:
            found.append(f"\n→ {finding.mend}", style="" if finding.ok is None else "bold")
        table.add_row(Text(output.sign(finding.ok), style=style), finding.name, _took(finding.seconds), found)
    console = output.console()
    console.print(table)
    wrong = sum(finding.ok is False for finding in findings)
    skipped = sum(finding.ok is None for finding in findings)
    well = len(findings) - wrong - skipped
    console.print(f"{len(findings)} checks: {well} well, {wrong} to mend, {skipped} not tried or not applicable")


def _took(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
