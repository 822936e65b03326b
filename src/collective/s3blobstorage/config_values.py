"""Values of a complete section that only its end can judge: what is required; secrets, whose text is never shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from . import datatypes
from .config_keys import NOT_SHOWN, Key
from .errors import ConfigurationError

T = TypeVar("T")


def required(value: T | None, key: Key) -> T:
    if value is None:
        raise ConfigurationError(f"{key.name} is missing. {key.advice}")
    return value


def checked(value: datatypes.Secret, key: Key, convert: Callable[[str], T]) -> T:
    try:
        return convert(value.reveal())
    except ConfigurationError as reason:
        raise ConfigurationError(f"{key.name} {NOT_SHOWN} {reason}. {key.advice}") from None
