"""boto3's clients, shared by all storages of the process that reach a store in the same way.

Two of them take 25 ms and some megabytes, and each has connections of its own: a site with several databases in one
store needs no more than a site with one.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, replace
from typing import Any

import boto3

from collective.s3blobstorage.objectstore import client, idle
from collective.s3blobstorage.settings import StoreSettings


@dataclass(eq=False)
class Clients:
    """``reader`` has the ``s3-download-*`` time-outs, ``writer`` the usual ones; whoever only reads has no other."""

    session: boto3.session.Session
    reader: Any
    writer: Any
    key: tuple[Any, ...]
    users: int = 0


_shared: dict[tuple[Any, ...], Clients] = {}
# Held while clients are made: who opens the second of many databases waits for the first one's.
_lock = threading.Lock()


def _begin_child() -> None:
    try:
        for clients in _shared.values():
            for each in {clients.reader, clients.writer}:
                idle.forget(each)
    finally:
        _lock.release()


os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_begin_child)


def lend(settings: StoreSettings, *, read_only: bool) -> Clients:
    """The clients of these settings, whatever bucket, prefix and encryption they name. Give them back.

    Makes no request. Raises ConfigurationError. Any thread.
    """
    key = _key(settings, read_only)
    with _lock:
        found = _shared.get(key)
        if found is None:
            session = client.session(settings)
            reader = client.client(session, settings, reading=True)
            writer = reader if read_only else client.client(session, settings, reading=False)
            found = _shared[key] = Clients(session, reader, writer, key)
        found.users += 1
        return found


def give_back(clients: Clients) -> None:
    """Closed with their connections when the last one does so."""
    with _lock:
        clients.users -= 1
        if clients.users:
            return
        if _shared.get(clients.key) is clients:
            del _shared[clients.key]
    for each in {clients.reader, clients.writer}:
        # botocore leaves that to the garbage collector, and a closed database may be referred to for long.
        idle.close(each)
        each.close()


def _key(settings: StoreSettings, read_only: bool) -> tuple[Any, ...]:
    # A forked child must not read what its parent asked for; boto3 reads credentials and more from the environment.
    environment = tuple(sorted(item for item in os.environ.items() if item[0].startswith("AWS_")))
    return os.getpid(), replace(settings, bucket="", prefix="", encryption=None), read_only, environment
