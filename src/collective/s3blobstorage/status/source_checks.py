"""What a check asks of the sources in the section: one look at each, as the site takes at its start."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from functools import partial
from typing import Any

from ..errors import ConfigurationError
from ..messages import one_line
from ..overlay.interfaces import ISourceSettings
from ..overlay.settings import BlobDirSettings, S3Settings
from .local_checks import Result

Opened = Callable[[], AbstractContextManager[Any]]


def source_checks(
    sources: Iterable[ISourceSettings], opened: Opened | None
) -> Iterator[tuple[str, Callable[[], Result]]]:
    """The name of each check and what makes it, in the order in which sources are asked. Reads only.

    ``opened``: the database, opened for reading as long as it is needed. None: it is not to be opened, so that only
    sources that are known not to need it can be tried.
    """
    for source in sources:
        yield f"source {source.options.name}", partial(_look, source, opened)


def _look(settings: ISourceSettings, opened: Opened | None) -> Result:
    alone = isinstance(settings, (S3Settings, BlobDirSettings))
    if opened is None and not alone:
        return None, "not tried (--no-base)", ""
    try:
        with (
            nullcontext() if alone or opened is None else opened() as base,
            closing(settings.open(base, None)) as source,
        ):
            trouble = source.check()
            if trouble is None:
                return True, f"can be read: {source!r}", ""
            return False, trouble.detail, trouble.mend
    except ConfigurationError as error:
        detail, _, mend = one_line(error).rpartition(": ")
        return False, detail or mend, mend if detail else "correct the section of this source"
