"""What a presigned URL is to everybody but the browser that gets it: something without its signature.

Whoever has the URL has the object, until it expires. So it does not get into a log, an error page or a pickle by
accident: only ``.url`` and ``.fields`` have what counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, NoReturn


def steady_time(now: datetime, seconds: int) -> datetime:
    """When a URL for so many seconds is taken to be signed, so that all calls of half that time give the same one."""
    half = max(seconds // 2, 1)
    return datetime.fromtimestamp(int(now.timestamp()) // half * half, UTC)


@dataclass(frozen=True, slots=True, repr=False)
class Presigned:
    """One request that may be made by anybody who has this, once or often, until it expires.

    method: GET, PUT or POST. url: whole, with the signature. expires: the time, with a zone, after which the store
    refuses. headers: what a PUT must send with just these values. fields: of a POST's form, which come before its
    ``file``; ``url`` is then only where it goes.
    """

    method: str
    url: str
    expires: datetime
    headers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    fields: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def __repr__(self) -> str:
        return f"<Presigned {self.method} {self.url.partition('?')[0]} until {self.expires:%Y-%m-%dT%H:%M:%SZ}>"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format(repr(self), spec)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a presigned URL is not pickled: it would outlive its expiry in a place that nobody knows of")

    def __getstate__(self) -> Any:
        return self.__reduce__()
