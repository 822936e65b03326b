"""``s3blobs cors``: the bucket's rules let browsers upload from the site's pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import click

from .. import datatypes
from ..errors import ConfigurationError, UnsafeError
from . import output
from .confirming import typed
from .parameters import Parsed
from .prefix import looked_at
from .request import Request, pass_request
from .rules import changes

if TYPE_CHECKING:
    from ..directupload.interfaces import Difference
    from ..settings import StorageSettings

_ORIGIN = Parsed("URL", datatypes.origin)


@click.command()
@click.option("--origin", "more", type=_ORIGIN, multiple=True, help="Also pages of this site; may be repeated.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Only show what would be changed.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")
@pass_request
def cors(request: Request, more: tuple[str, ...], yes: bool, dry_run: bool, as_json: bool) -> int:
    """Let pages of the sites upload to the bucket: direct-upload-origins of the configuration, and each --origin.

    Reads the bucket's CORS rules, shows what they lack, and adds one rule or mends it, after the bucket's name was
    typed. Rules of others stay as they are; no rule of ours ever has a *. The credentials need s3:GetBucketCORS and
    s3:PutBucketCORS on the bucket, which a site does not need. Exit status: 0; 1 where the name was not typed, or the
    store has other rules than were written; 2 where nothing could be done.
    """
    from ..directupload.area import UploadArea
    from ..directupload.cors import difference, overshadowed, refused
    from ..directupload.requests import headers_of_uploads
    from ..storage.owner import refuse_other

    request.json = as_json
    database = request.database()
    settings = database.settings
    origins = _origins(settings, more)
    if settings.read_only and not dry_run:
        raise ConfigurationError("read-only is on, and cors changes the bucket: set read-only off, or give --dry-run")
    with ExitStack() as stack:
        # To be written also where nothing is: of a store that is read-only no upload is signed.
        store, marker = looked_at(stack, database, writable=True)
        refuse_other(marker, settings.owner)
        headers = headers_of_uploads(UploadArea(store, settings.uploads))
        found = difference(store.cors(), origins, headers)
        shadowed = overshadowed(found.present, found.wanted) if found.is_needed else []
        if not as_json:
            _show(found, shadowed, settings.store.bucket)
        changed, wrong = False, ""
        if found.is_needed and not dry_run:
            bucket = settings.store.bucket
            if not yes and not typed(bucket, "to change its CORS rules"):
                wrong = f"nothing was changed: {bucket} was not typed"
            elif store.cors() != found.present:  # whoever was asked may have let the question stand
                raise UnsafeError("the bucket's CORS rules were changed meanwhile: run s3blobs cors again")
            else:
                store.set_cors(found.wanted)
                changed = True
                wrong = _wrong(store.cors(), found, refused, origins, headers)
    if as_json:
        told = {
            "database": database.name,
            "bucket": settings.store.bucket,
            "dry_run": dry_run,
            "origins": origins,
            "present": found.present,
            "wanted": found.wanted,
            "missing": found.missing,
            "overshadowed": shadowed,
            "needed": found.is_needed,
            "changed": changed,
            "refused": wrong or None,
        }
        output.print_json(told)
    elif changed and not wrong:
        output.console().print("written, and read back as it was written")
    if wrong:
        output.complain(wrong)
        return 1
    return 0


def _origins(settings: StorageSettings, more: Sequence[str]) -> list[str]:
    if not settings.uploads.allowed:
        raise ConfigurationError("direct-upload is off, so that no page uploads to the bucket: set direct-upload on")
    origins = list(dict.fromkeys([*settings.uploads.origins, *more]))
    if not origins:
        raise ConfigurationError(
            "nobody says whose pages are to upload: set direct-upload-origins, or give --origin. Example:"
            " direct-upload-origins https://www.example.org"
        )
    return origins


def _wrong(
    now: Sequence[Mapping[str, Any]], found: Difference, refused: Any, origins: Sequence[str], headers: Sequence[str]
) -> str:
    """What is wrong with the rules as the store has them now; "" where nothing is."""
    from ..directupload.cors import others

    if missing := refused(now, origins, headers):
        return f"the rule was written, and the store answers another one: {missing[0]}"
    if others(now) != others(found.present):
        return "the rule was written, and rules of others are not what they were: look at them (--dry-run --json)"
    return ""


def _show(found: Difference, shadowed: Sequence[Mapping[str, Any]], bucket: str) -> None:
    console = output.console()
    for sentence in found.missing:
        console.print(f"{output.sign(False)}  {sentence}", soft_wrap=True)
    if not found.is_needed:
        console.print(f"{output.sign(True)}  the rules of the bucket {bucket} let these pages upload", soft_wrap=True)
        return
    for line in changes(found.present, found.wanted):
        console.print(line, soft_wrap=True)
    for rule in shadowed:
        console.print(
            f"a rule of others ({rule.get('ID') or 'without a name'}) names an origin of ours: where the store looks at"
            " the first rule of an origin alone, as Ceph does, it does not count for that any more",
            soft_wrap=True,
        )
