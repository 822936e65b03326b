"""Closing the connections that no request uses."""

from __future__ import annotations

import queue
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


def _pools(client: Any) -> Iterator[Any]:
    """The queues of connections. Nothing of this is a documented interface: where it is missing none is found, and the
    idle connections stay."""
    session = getattr(getattr(client, "_endpoint", None), "http_session", None)
    managers = [getattr(session, "_manager", None), *list(getattr(session, "_proxy_managers", {}).values())]
    for manager in managers:
        pools = getattr(manager, "pools", None)
        for key in pools.keys() if pools is not None else ():
            found = getattr(pools.get(key), "pool", None)
            if found is not None:  # None: closed
                yield found
