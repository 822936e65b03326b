"""No encryption by the store: the null objects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zope.interface import implementer

from .interfaces import IEncryption, IServerSideEncryption


@implementer(IServerSideEncryption)
class NoEncryption:
    """Asks for nothing and checks nothing. What the bucket does by default stays as it is."""

    name = "none"
    needs_tls = False
    own_key = False

    def write_parameters(self) -> Mapping[str, Any]:
        return {}

    def part_parameters(self) -> Mapping[str, Any]:
        return {}

    def read_parameters(self) -> Mapping[str, Any]:
        return {}

    def copy_source_parameters(self) -> Mapping[str, Any]:
        return {}

    def written_metadata(self, key: str, metadata: Mapping[str, str]) -> Mapping[str, str]:
        return metadata

    def read_metadata(self, key: str, metadata: Mapping[str, str]) -> Mapping[str, str]:
        return metadata

    def check_echo(self, response: Mapping[str, Any]) -> None:
        return None

    def check_read(self, key: str, response: Mapping[str, Any]) -> None:
        return None


@implementer(IEncryption)
class Unencrypted:
    """What a storage without encryption sections asks for."""

    name = "none"
    server_side = NoEncryption()
    readers = (server_side,)
    ring = None
    seals = False
    required = False
