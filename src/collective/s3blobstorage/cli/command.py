"""``s3blobs``: the options that all verbs share, and how an error becomes one sentence and an exit status."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from pathlib import Path

import click

from ..messages import sentence
from . import output
from .adopt import adopt
from .archive import archive
from .check import check
from .cors import cors
from .dedup import dedup
from .destroy import destroy
from .export import export
from .fsck import fsck
from .gc import gc
from .interrupt import INTERRUPTED
from .jobs import jobs
from .keys import keys
from .legal_hold import legal_hold
from .lifecycle import lifecycle
from .manifest import manifest
from .migrate import migrate
from .mirror import mirror
from .report import report
from .request import Request, pass_request
from .restore_archived import restore_archived
from .status import status
from .warm import warm
from .zope_conf import zope_conf

FAILED = 2  # as click ends on a wrong option


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    envvar="S3BLOBS_CONFIG",
    show_envvar=True,
    metavar="FILE",
    help="zope.conf, zeo.conf, or a file with storages alone, as zodbconvert reads it.",
)
@click.option("--database", "database_name", metavar="NAME", help="Which one, where the file has several.")
@click.option("--debug", is_flag=True, help="Log what is done, and show the traceback of an error.")
@click.version_option(package_name="collective.s3blobstorage")
@pass_request
def s3blobs(request: Request, config: Path | None, database_name: str | None, debug: bool) -> None:
    """Looks after the blobs that collective.s3blobstorage keeps in a bucket."""
    request.config, request.database_name, request.debug = config, database_name, debug
    _log(debug)


for _verb in (
    adopt,
    archive,
    check,
    cors,
    dedup,
    destroy,
    export,
    fsck,
    gc,
    keys,
    jobs,
    legal_hold,
    lifecycle,
    manifest,
    migrate,
    mirror,
    report,
    restore_archived,
    status,
    warm,
    zope_conf,
):
    s3blobs.add_command(_verb)


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit status. Errors are printed."""
    request = Request()
    try:
        result = s3blobs.main(arguments, prog_name="s3blobs", standalone_mode=False, obj=request)
        sys.stdout.flush()
        return int(result or 0)
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except BrokenPipeError:
        # Who read us has seen enough (`| head`). Python would complain at its end, flushing what is left.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        return _failed(error, request)


def _failed(error: Exception, request: Request) -> int:
    message = sentence(error)
    if request.debug or "collective.s3blobstorage.objectstore" in sys.modules:
        # Imported only then, since it brings boto3: before, no secret of a configuration that is complete was known.
        from ..objectstore.redaction import redact

        message = redact(message)
        if request.debug:
            print(redact("".join(traceback.format_exception(error))), file=sys.stderr, end="")
    if request.json:
        output.print_json({"error": message})
    output.complain(message)
    return FAILED


def _log(debug: bool) -> None:
    """Without ``--debug`` nothing is logged: what matters is printed. With it our own log goes to standard error."""
    if debug:
        logging.basicConfig(stream=sys.stderr, format="%(levelname)s %(name)s %(message)s")
        logging.getLogger("collective.s3blobstorage").setLevel(logging.DEBUG)
    else:
        logging.getLogger().addHandler(logging.NullHandler())
