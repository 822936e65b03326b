"""The sources' sections inside ``<s3blobstorage>``, to their settings. See ``overlay.interfaces``.

ZConfig makes a section object of each while it parses; its settings are made together with the storage's, and again
before the storage is opened.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import wraps
from typing import Any, TypeVar

from zope.interface import implementer

from . import source_keys as keys
from .config_store import store_values
from .config_values import required
from .errors import ConfigurationError
from .overlay.interfaces import ISourceSection, ISourceSettings, SourceOptions
from .overlay.settings import BaseSettings, BlobDirSettings, S3Settings
from .settings import StoreSettings

T = TypeVar("T")


def source_settings(sections: Sequence[Any], environ: Mapping[str, str]) -> tuple[ISourceSettings, ...]:
    """Of all sources of a storage, in order. Raises ConfigurationError where two have one name."""
    found = tuple(section.settings(environ) for section in sections)
    names = [settings.options.name for settings in found]
    for name in names:
        if names.count(name) > 1:
            raise ConfigurationError(f"two sources are called {name!r}; give each a name. {keys.name.advice}")
    return found


class _Section:
    """What the sections of all sources have. ``config`` is ZConfig's."""

    uses_base = False

    def __init__(self, config: Any) -> None:
        self.config = config

    def options(self) -> SourceOptions:
        config = self.config
        name = config.name or keys.name(config.getSectionName() or "") or config.getSectionType()
        if config.fork_tid is not None and config.fork_time is not None:
            raise ConfigurationError("fork-tid and fork-time are both given; keep one of them")
        return SourceOptions(
            name=name,
            fork_tid=config.fork_tid or config.fork_time,
            negative_cache=config.negative_cache,
            max_size=config.max_size,
            mirror=config.mirror,
            type=config.getSectionType(),
        )


def _placed(settings: Callable[[Any, Mapping[str, str]], T]) -> Callable[[Any, Mapping[str, str]], T]:
    """What is wrong in a source's section is said of that section."""

    @wraps(settings)
    def with_place(self: Any, environ: Mapping[str, str]) -> T:
        try:
            return settings(self, environ)
        except ConfigurationError as error:
            name = self.config.getSectionName()
            where = " ".join(word for word in (self.config.getSectionType(), name) if word)
            raise ConfigurationError(f"<{where}>: {error}") from None

    return with_place


@implementer(ISourceSection)
class S3SourceSection(_Section):
    """``<s3source>``"""

    @_placed
    def settings(self, environ: Mapping[str, str]) -> S3Settings:
        section = self.config
        store = StoreSettings(**store_values(section, environ), outage_patience=section.timeout)
        return S3Settings(self.options(), _within(store, section.timeout), section.layout)


def _within(store: StoreSettings, timeout: float) -> StoreSettings:
    return replace(
        store,
        download_connect_timeout=min(store.download_connect_timeout, timeout),
        download_read_timeout=min(store.download_read_timeout, timeout),
    )


@implementer(ISourceSection)
class BlobDirSourceSection(_Section):
    """``<blobdirsource>``"""

    @_placed
    def settings(self, environ: Mapping[str, str]) -> BlobDirSettings:
        return BlobDirSettings(self.options(), required(self.config.path, keys.path))


@implementer(ISourceSection)
class BaseSourceSection(_Section):
    """``<basesource>``"""

    uses_base = True

    @_placed
    def settings(self, environ: Mapping[str, str]) -> BaseSettings:
        return BaseSettings(self.options())
