"""A forwarder of bytes that delays them, for rows that measure time: ``python -m benchmarks.delay UPSTREAM MS``.

It prints its address and ends with its input. MS is the round trip: what arrives in either direction is sent on half
of it later, a new connection costs one more. The tests' proxy does the same, but it reads HTTP, in threads, and what
that takes of the processors it takes from the contestants and the store.
"""

from __future__ import annotations

import ctypes
import heapq
import itertools
import math
import os
import select
import socket
import struct
import sys
import time
from collections import deque
from urllib.parse import urlsplit

KEPT = 1 << 30  # bytes; no more than this is given back
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # mallopt(3)
PIECE = 256 * 1024  # bytes that are read at once
ROOM = 8 * 1024 * 1024  # bytes under way in one direction before no more are read: at 10 ms no limit below 800 MB/s


class End:
    """One of the two sockets of a connection, and what is under way to it."""

    def __init__(self, sock: socket.socket, opened: float):
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # buffers grow by themselves further than we may ask
        self.sock = sock
        self.other: End
        self.opened = opened  # nothing comes out before this time and the delay
        self.pieces: deque[tuple[float, bytes | memoryview]] = deque()  # with the time when due; an empty one: no more
        self.size = 0  # of the pieces, in bytes
        self.lost = math.inf  # when it learns that the other one was reset
        self.reads = True  # more may come from this socket
        self.blocked = False  # it takes nothing at the moment
        self.events = 0  # what epoll watches

    @property
    def over(self) -> bool:
        return not self.reads and not self.pieces and self.lost == math.inf


class Forwarder:
    """Listens on a port of 127.0.0.1; all is done by ``run()`` in one thread. ``round_trip`` in seconds."""

    def __init__(self, upstream: str, round_trip: float):
        parts = urlsplit(upstream)
        self._upstream = parts.hostname, parts.port
        self._round_trip = round_trip
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self._listener.setblocking(False)
        self.endpoint_url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._ends: dict[int, End] = {}
        self._due: list[tuple[float, int, End]] = []  # a heap; the number keeps ends from being compared
        self._numbers = itertools.count()
        self._epoll = select.epoll()

    def run(self, until: int) -> None:
        """Forward until the file of this descriptor ends."""
        self._epoll.register(self._listener, select.EPOLLIN)
        self._epoll.register(until, select.EPOLLIN)
        while True:
            wait = max(0.0, self._due[0][0] - time.monotonic()) if self._due else None
            # Not epoll's own time-out, which is in whole milliseconds.
            ready, _, _ = select.select([self._epoll], [], [], wait)
            now = time.monotonic()
            while self._due and self._due[0][0] <= now:
                self._send(heapq.heappop(self._due)[2], now)
            for descriptor, events in self._epoll.poll(0) if ready else ():
                if descriptor == self._listener.fileno():
                    self._accept()
                elif descriptor == until:
                    if not os.read(until, 1024):
                        return
                elif end := self._ends.get(descriptor):  # else it was closed a moment ago
                    if end.reads and events & ~select.EPOLLOUT:
                        self._read(end)
                    if end.blocked and events & ~select.EPOLLIN:
                        self._send(end, time.monotonic())

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return  # the client went away already
        opened = time.monotonic() + self._round_trip
        client, server = End(sock, opened), End(socket.socket(), opened)
        client.other, server.other = server, client
        server.sock.connect_ex(self._upstream)  # whether it succeeds is seen when it is read from
        for end in (client, server):
            self._ends[end.sock.fileno()] = end
            self._watch(end)

    def _read(self, end: End) -> None:
        try:
            data = end.sock.recv(PIECE)
        except BlockingIOError:
            return
        except OSError:
            self._lose(end)
            return
        end.reads = bool(data)
        end.other.pieces.append((self._when(end.other), data))
        end.other.size += len(data)
        self._watch(end)

    def _when(self, end: End) -> float:
        """When what comes now is due at this end; it is then looked at."""
        due = max(time.monotonic(), end.opened) + self._round_trip / 2
        heapq.heappush(self._due, (due, next(self._numbers), end))
        return due

    def _send(self, end: End, now: float) -> None:
        """All that is due at this end and that it takes."""
        if end.sock.fileno() < 0:
            return  # it is closed; the heap had it still
        end.blocked = False
        while end.pieces and end.pieces[0][0] <= now and not end.blocked:
            due, data = end.pieces.popleft()
            try:
                if data:
                    sent = end.sock.send(data)
                else:
                    end.sock.shutdown(socket.SHUT_WR)
                    sent = 0
            except BlockingIOError:
                sent = 0
            except OSError:
                self._lose(end)
                return
            end.size -= sent
            if sent < len(data):
                end.pieces.appendleft((due, memoryview(data)[sent:]))
                end.blocked = True
        if end.lost <= now:
            self._close(end, reset=True)
        elif end.over and end.other.over:
            self._close(end)
        else:
            self._watch(end)
            self._watch(end.other)

    def _lose(self, end: End) -> None:
        """This one was reset: the other one is so, in its turn."""
        end.reads = end.other.reads = end.blocked = False
        end.pieces.clear()
        end.other.lost = self._when(end.other)
        self._watch(end)
        self._watch(end.other)

    def _close(self, end: End, *, reset: bool = False) -> None:
        for one in (end, end.other):
            one.reads = one.blocked = False
            self._watch(one)
            del self._ends[one.sock.fileno()]
            if reset:  # close() then sends RST instead of FIN
                one.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            one.sock.close()

    def _watch(self, end: End) -> None:
        """Have epoll tell what is of use. A socket of which nothing is wanted is not watched: it might be hung up."""
        reads = end.reads and end.other.size < ROOM
        events = (select.EPOLLIN if reads else 0) | (select.EPOLLOUT if end.blocked else 0)
        if events == end.events:
            return
        if not end.events:
            self._epoll.register(end.sock, events)
        elif not events:
            self._epoll.unregister(end.sock)
        else:
            self._epoll.modify(end.sock, events)
        end.events = events


def main(upstream: str, round_trip: float) -> None:
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc's
    for option in (M_TRIM_THRESHOLD, M_MMAP_THRESHOLD) if mallopt else ():
        mallopt(option, KEPT)  # memory that is new for each piece costs as much as all else here
    forwarder = Forwarder(upstream, round_trip / 1000)
    print(forwarder.endpoint_url, flush=True)
    forwarder.run(sys.stdin.fileno())


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
