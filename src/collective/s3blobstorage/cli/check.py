"""``s3blobs check``: is this machine ready, and does the store do what it must?"""

from __future__ import annotations

import os
import time
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table
from rich.text import Text
from ZODB.utils import z64

from ..errors import StoreError
from ..messages import one_line
from . import output
from .configuration import Database, opened_read_only
from .request import Request, pass_request

if TYPE_CHECKING:
    from ..objectstore.preflight import Finding
    from ..status.checking import Base
    from ..status.local_checks import Result

_STYLES = {True: "green", False: "bold red", None: "dim"}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")
@click.option("--no-write", is_flag=True, help="Write nothing to the bucket; what needs that is not tried.")
@click.option("--no-base", is_flag=True, help="Do not open the database for reading.")
@pass_request
def check(request: Request, as_json: bool, no_write: bool, no_base: bool) -> int:
    """Check configuration, disk, database, bucket and store, and say what to mend.

    Writes a few small objects below .s3blobs-check/ of the prefix, and deletes them; keeps what it found below
    status/, where the site's status shows it (neither with --no-write). Exit status: 0 where all is well,
    1 where something is to be mended, 2 where the configuration cannot be used at all.
    """
    from ..objectstore import open_store  # here, since these import boto3
    from ..status import checked
    from ..status.checking import findings

    request.json = as_json
    started = time.monotonic()
    database = request.database()
    found: list[Finding] = []
    settings = database.settings
    writable = not settings.read_only and not no_write
    with closing(open_store(settings.store, read_only=not writable)) as store:
        coming = findings(settings, store, _base(database, no_base), writable=writable, started=started)
        with output.working("checking") as now, closing(coming):
            for finding in coming:
                found.append(finding)
                now(f"checking: {finding.name} done")
        told = checked.document(found, time.monotonic() - started)
        if writable and any(finding.name == "write" and finding.ok for finding in found):
            with suppress(StoreError):  # a policy that has no status/: then a site's status does not show it
                checked.keep(store, told, settings.owner)
    if as_json:
        output.print_json({"database": database.name, "ok": told["ok"], "findings": told["findings"]})
    else:
        _print(found)
    return 0 if told["ok"] else 1


def _base(database: Database, no_base: bool) -> Base:
    """The database as the command opens it: for reading, beside a running site."""
    from ..status.checking import Base

    what = f"<s3blobstorage> around <{database.base_type}>, database {database.name}"
    if no_base:
        return Base(what, lambda: ((None, "not tried (--no-base)", ""), None), None)
    section = database.factory.config.base
    return Base(what, lambda: _look(database.base_type, section), lambda: opened_read_only(section))


def _look(kind: str, section: Any) -> tuple[Result, bytes | None]:
    from ..objectstore.redaction import redact

    missing = _not_there_yet(section)
    if missing is not None:
        return (None, f"{missing} is not there yet: the first start makes it", ""), None
    if kind == "mappingstorage":
        return (None, "a <mappingstorage> is in the memory of its process", ""), None
    try:
        with opened_read_only(section) as base:
            tid = base.lastTransaction()
    except Exception as error:  # of any database driver
        detail = f"<{kind}> could not be opened for reading: {type(error).__name__}: {redact(one_line(error))}"
        return (False, detail[:500], f"correct the section <{kind}> inside <s3blobstorage>, or start its server"), None
    if not isinstance(tid, bytes) or tid == z64:
        return (True, f"<{kind}> opens for reading; it has no transaction yet", ""), None
    return (True, f"<{kind}> opens for reading", ""), tid


def _not_there_yet(factory: object) -> str | None:
    """The file of a database that was never started. Opening it would make it, as this user, or fail."""
    config = getattr(factory, "config", None)
    path = getattr(config, "path", None)
    if isinstance(path, str):  # filestorage
        return None if os.path.exists(path) else path
    adapter = getattr(getattr(config, "adapter", None), "config", None)
    folder = getattr(adapter, "data_dir", None)
    if isinstance(folder, str):  # relstorage with sqlite3
        file = os.path.join(folder, "main.sqlite3")
        return None if os.path.exists(file) else file
    inner = getattr(config, "base", None)
    return _not_there_yet(inner) if inner is not None else None


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
