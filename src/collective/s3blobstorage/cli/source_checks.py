"""What ``s3blobs check`` asks of the sources in the section: one look at each, as the site takes at its start."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from functools import partial

from ..errors import ConfigurationError
from ..overlay.interfaces import ISourceSettings
from ..overlay.settings import BlobDirSettings, S3Settings
from .configuration import Database, opened_read_only
from .local_checks import Result
from .messages import one_line


def source_checks(database: Database, *, no_base: bool) -> Iterator[tuple[str, Callable[[], Result]]]:
    """The name of each check and what makes it, in the order in which sources are asked. Reads only.

    ``no_base``: the database is not opened, so that only sources that are known not to need it can be tried.
    """
    for source in database.settings.sources:
        yield f"source {source.options.name}", partial(_look, database, source, no_base)


def _look(database: Database, settings: ISourceSettings, no_base: bool) -> Result:
    alone = isinstance(settings, (S3Settings, BlobDirSettings))
    if no_base and not alone:
        return None, "not tried (--no-base)", ""
    try:
        with (
            nullcontext() if alone else opened_read_only(database.factory.config.base) as base,
            closing(settings.open(base, None)) as source,
        ):
            trouble = source.check()
            if trouble is None:
                return True, f"can be read: {source!r}", ""
            return False, trouble.detail, trouble.mend
    except ConfigurationError as error:
        detail, _, mend = one_line(error).rpartition(": ")
        return False, detail or mend, mend if detail else "correct the section of this source"
