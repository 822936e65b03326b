"""How an object may have to be asked for: with the key that writes now, an earlier one, or none."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from collective.s3blobstorage.encryption.interfaces import IServerSideEncryption
from collective.s3blobstorage.errors import Archived, EncryptionNotHonoured, PreconditionFailed, Refused
from collective.s3blobstorage.objectstore.connection import Connection

log = logging.getLogger(__name__)

T = TypeVar("T")

# Objects of which is remembered which way fits. A site reads large ones by parts, many requests each; that of one that
# is not among them is found again by at most as many requests as there are keys.
REMEMBERED = 4096


class Emptied:
    """A target that each way begins with empty."""

    def __init__(self, target: Any) -> None:
        self._target = target
        self._used = False

    def anew(self) -> Any:
        if self._used:
            self._target.seek(0)
            self._target.truncate(0)
        self._used = True
        return self._target


class Once:
    """A callback that cannot take back what it was given: then no other way is tried."""

    def __init__(self, write: Callable[[bytes | memoryview], None]) -> None:
        self._write = write
        self._given = False

    def write(self, block: bytes | memoryview) -> None:
        self._given = True
        self._write(block)

    def check(self) -> None:
        if self._given:
            raise PreconditionFailed("The object was changed.")


class Ways:
    """The ways of one store, most likely first. From any thread.

    A key of SSE-C cannot be told from the object without it: a store answers 400 or 403 to a request with another key,
    or without one, and some ignore a key for an object in clear, which shows in the answer. So each way is tried until
    one fits.
    """

    def __init__(self, connection: Connection, encryptions: Sequence[IServerSideEncryption]) -> None:
        self.of = connection
        several = len(encryptions) > 1
        if several:
            connection = replace(
                connection,
                reader=connection.reader.expecting_refusals(),
                signed_reader=connection.signed_reader.expecting_refusals(),
            )
        self.connections = tuple(
            replace(connection, encryption=encryption, one_of_several=several) for encryption in encryptions
        )
        self._found: OrderedDict[str, Connection] = OrderedDict()
        self._lock = threading.Lock()

    def first(self, key: str, ask: Callable[[Connection], T], *, verb: str = "get") -> T:
        """What ``ask`` returns for the first way that the object can be read in. Raises what it raises, and of several
        refusals the first one: that of the way in which objects are written now.

        ``ask`` is called again also where it had bytes of the object already, and a request that went on was refused,
        since another process had replaced the object: it begins anew, or raises PreconditionFailed. ``verb``: what it
        asks by, for what is counted.
        """
        if len(self.connections) == 1:
            return ask(self.connections[0])
        refusal: Exception | None = None
        # The way of today once more at the end: a rotation of keys may have rewritten the object between the first try
        # and the last one, so that each was refused.
        for way in [*self._likely(key), self.connections[0]]:
            try:
                answer = ask(way)
            except Archived:
                raise  # no other key makes it readable
            except (Refused, EncryptionNotHonoured) as error:
                refusal = refusal or error
                continue
            self._remember(key, way)
            return answer
        assert refusal is not None
        self.of.traffic.failed(verb, "refused")  # of the single refusals, none was counted
        log.warning("%r was refused with each key of the configuration, and without one: %s", key, refusal)
        raise refusal

    def forget(self, key: str) -> None:
        """The object was rewritten, as objects are written now."""
        with self._lock:
            self._found.pop(key, None)

    def _likely(self, key: str) -> list[Connection]:
        with self._lock:
            known = self._found.get(key)
        if known is None:
            return list(self.connections)
        return [known, *(way for way in self.connections if way is not known)]

    def _remember(self, key: str, way: Connection) -> None:
        with self._lock:
            if way is self.connections[0]:
                self._found.pop(key, None)
                return
            self._found[key] = way
            self._found.move_to_end(key)
            if len(self._found) > REMEMBERED:
                self._found.popitem(last=False)
