"""What stands before the verb on the command line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from ..errors import ConfigurationError
from .configuration import Database, choose, read


@dataclass
class Request:
    """The options of all verbs. ``json`` is set by a verb that was asked for it."""

    config: Path | None = None
    database_name: str | None = None
    debug: bool = False
    json: bool = False

    def database(self) -> Database:
        """The ``<s3blobstorage>`` section to work on. Raises ConfigurationError."""
        path = self.path()
        return choose(read(path), self.database_name, path)

    def path(self) -> Path:
        if self.config is None:
            raise ConfigurationError(
                "no configuration: give --config FILE before the verb, or set S3BLOBS_CONFIG. "
                "Example: s3blobs --config /srv/plone/etc/zope.conf status"
            )
        return self.config


pass_request = click.make_pass_decorator(Request)
