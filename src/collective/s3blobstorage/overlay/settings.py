"""The settings of the sources that this package has. See ``ISourceSettings``.

``open`` imports what it needs when it is called, so that parsing a configuration does not import boto3.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zope.interface import implementer

from ..errors import ConfigurationError
from ..settings import StoreSettings
from .interfaces import ISource, ISourceSettings, SourceOptions


@implementer(ISourceSettings)
@dataclass(frozen=True, slots=True)
class S3Settings:
    """Another bucket or prefix. ``layout``: whose keys it has, ``ours`` or ``zodb-s3blobs``."""

    options: SourceOptions
    store: StoreSettings
    layout: str = "ours"

    def open(self, base: Any, clock: Any) -> ISource:
        from ..objectstore import open_store
        from .s3 import S3Source

        try:
            store = open_store(self.store, read_only=True, clock=clock)
        except ConfigurationError as error:
            raise ConfigurationError(f"<s3source {self.options.name}>: {error}") from None
        return S3Source(store, self.layout)


@implementer(ISourceSettings)
@dataclass(frozen=True, slots=True)
class BlobDirSettings:
    """A blob directory of ZODB."""

    options: SourceOptions
    path: Path

    def open(self, base: Any, clock: Any) -> ISource:
        from .blobdir import BlobDirSource

        return BlobDirSource(self.path)


@implementer(ISourceSettings)
@dataclass(frozen=True, slots=True)
class BaseSettings:
    """The base's own blobs."""

    options: SourceOptions

    def open(self, base: Any, clock: Any) -> ISource:
        from .base import BaseSource, check_keeps_blobs

        check_keeps_blobs(base)
        return BaseSource(base)
