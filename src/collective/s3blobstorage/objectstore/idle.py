"""Closing the connections that no request uses."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Any


def close(client: Any) -> None:
    """Close a client's idle connections, from any thread; requests that are under way go on.

    Neither boto3 nor urllib3 has this. urllib3's ``PoolManager.clear`` would do, but it ends the pools with the
    connections, and a request that has its pool already and no connection yet fails. Here they are only taken out, as a
    request takes them: an empty pool makes new ones.
    """
    for pool in _pools(client):
        try:
            while True:
                connection = pool.get(block=False)
                if connection is not None:
                    connection.close()
        except queue.Empty:
            pass


def forget(client: Any) -> None:
    """In a child that was forked a moment ago: its parent goes on with the client's connections, and who asked on one
    of them would get the other's answers. The child's copies are closed, of which the parent notices nothing.

    Waits for no lock: what another thread held when its process forked, nobody releases in the child.
    """
    for manager in _managers(client):
        pools = getattr(manager, "pools", None)
        if pools is None:
            continue
        pools.lock = threading.RLock()
        for pool in list(pools._container.values()):
            before = pool.pool
            if before is None:  # closed
                continue
            pool.pool = type(before)(before.maxsize)
            for _ in range(before.maxsize):
                pool.pool.put(None)  # the places of connections that are still to be made, as urllib3 begins
            for connection in before.queue:
                if connection is not None:
                    connection.close()


def _pools(client: Any) -> Iterator[Any]:
    """The queues of connections."""
    for manager in _managers(client):
        pools = getattr(manager, "pools", None)
        for key in pools.keys() if pools is not None else ():
            found = getattr(pools.get(key), "pool", None)
            if found is not None:  # None: closed
                yield found


def _managers(client: Any) -> list[Any]:
    """urllib3's, one for all that is reached without a proxy. Nothing of this is a documented interface: where it is
    missing none is found, and the idle connections stay."""
    session = getattr(getattr(client, "_endpoint", None), "http_session", None)
    return [getattr(session, "_manager", None), *list(getattr(session, "_proxy_managers", {}).values())]
