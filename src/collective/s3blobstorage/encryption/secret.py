"""Bytes that show themselves nowhere."""

from __future__ import annotations

from typing import Any


class SecretBytes(bytes):
    """Key material: reports of errors print the local variables of each frame, and the log prints arguments.

    It cannot be pickled, so that no cache or message carries it along by accident.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "<secret>"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return "<secret>"

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError("key material is not pickled")
