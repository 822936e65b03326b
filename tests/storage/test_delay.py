"""The forwarder behind which the benchmark takes its times: all bytes pass, in order, half a round trip late."""

from __future__ import annotations

import queue
import resource
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import pytest
from run_py import REPOSITORY

sys.path.append(str(REPOSITORY))

from benchmarks.delay import ROOM  # noqa: E402
from benchmarks.scale import MB, Scale, blocks  # noqa: E402
from benchmarks.way import Way  # noqa: E402

ROUND_TRIP = 20.0  # ms
HALF = ROUND_TRIP / 2000  # seconds
LENGTH = 50 * MB


class Serving:
    """A server that does ``serve(socket)`` with each connection, and the way to it."""

    def __init__(self, serve: Callable[[socket.socket], None]):
        self._serve = serve
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.address = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                self._threads.append(threading.Thread(target=self._one, args=(sock,)))
                self._threads[-1].start()

    def _one(self, sock: socket.socket) -> None:
        with sock:
            sock.settimeout(30)
            self._serve(sock)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(30)


@contextmanager
def way_to(serve: Callable[[socket.socket], None]) -> Iterator[Callable[[], socket.socket]]:
    """``connect()``: a new connection to the server, through the forwarder."""
    serving = Serving(serve)
    opened: list[socket.socket] = []
    try:
        with Way(serving.address, ROUND_TRIP) as way:
            port = int(way.endpoint_url.rpartition(":")[2])

            def connect() -> socket.socket:
                sock = socket.create_connection(("127.0.0.1", port), timeout=30)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                opened.append(sock)
                return sock

            yield connect
            for sock in opened:
                sock.close()
    finally:
        serving.close()


def read(sock: socket.socket, length: int) -> bytes:
    """So many bytes, or what there is until the end."""
    data = bytearray()
    while len(data) < length and (piece := sock.recv(length - len(data))):
        data += piece
    return bytes(data)


def send(sock: socket.socket, number: int) -> None:
    for block in blocks(Scale(seed=number), LENGTH):
        sock.sendall(block)


def arrives(sock: socket.socket, number: int) -> bool:
    """Whether what ``send`` sends comes, and nothing else."""
    return all(read(sock, MB) == block for block in blocks(Scale(seed=number), LENGTH))


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def echo(sock: socket.socket) -> None:
    while data := sock.recv(65536):
        sock.sendall(data)


def test_50_mb_each_way_arrive_whole_and_in_order_on_connections_at_once():
    arrived: list[bool] = []

    def serve(sock):
        number = read(sock, 1)[0]
        with ThreadPoolExecutor(1) as pool:
            sending = pool.submit(send, sock, number + 100)
            arrived.append(arrives(sock, number))
            sending.result()

    def one(number):
        sock = connect()
        sock.sendall(bytes([number]))
        with ThreadPoolExecutor(1) as pool:
            sending = pool.submit(send, sock, number)
            whole = arrives(sock, number + 100)
            sending.result()
        sock.shutdown(socket.SHUT_WR)
        return whole and sock.recv(1) == b""

    with way_to(serve) as connect, ThreadPoolExecutor(3) as pool:
        assert list(pool.map(one, range(3))) == [True] * 3
    assert arrived == [True] * 3


def test_each_direction_takes_half_the_round_trip_and_never_less():
    up: list[float] = []

    def serve(sock):
        while data := read(sock, 8):
            up.append(time.monotonic() - struct.unpack("d", data)[0])
            sock.sendall(struct.pack("d", time.monotonic()))

    down = []
    with way_to(serve) as connect:
        sock = connect()
        for _ in range(40):
            sock.sendall(struct.pack("d", time.monotonic()))
            sent = struct.unpack("d", read(sock, 8))[0]
            down.append(time.monotonic() - sent)
            time.sleep(0.0013)  # else what comes next is in step with the answer before
    for delays in (up[1:], down):
        assert HALF <= min(delays) < HALF + 0.003  # the least: a busy machine makes some later


def test_a_new_connection_costs_one_round_trip_more():
    def first_answer():
        started = time.monotonic()
        sock = connect()
        sock.sendall(b"x")
        assert read(sock, 1) == b"x"
        return time.monotonic() - started

    with way_to(echo) as connect:
        assert 4 * HALF <= min(first_answer() for _ in range(10)) < 4 * HALF + 0.006


def test_the_end_of_what_one_side_sends_is_passed_on_and_the_other_side_may_still_send():
    def serve(sock):
        received = read(sock, LENGTH)
        time.sleep(2)
        sock.sendall(received)

    sent = next(blocks(Scale(), 3 * MB)) * 3
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with way_to(serve) as connect:
        sock = connect()
        sock.sendall(sent)
        sock.shutdown(socket.SHUT_WR)
        assert read(sock, LENGTH) == sent  # the end comes after it
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime < 1  # it sleeps while the server does


def test_what_the_other_side_does_not_take_is_not_read_without_limit():
    goes_on = threading.Event()
    arrived = []

    def serve(sock):
        if read(sock, 1) == b"e":
            echo(sock)
            return
        goes_on.wait(30)
        arrived.append(len(read(sock, 400 * MB)))

    with way_to(serve) as connect:
        full, free = connect(), connect()
        full.sendall(b"f")
        full.settimeout(1)
        sent, block = 1, bytes(MB)
        with pytest.raises(TimeoutError):
            while sent < 400 * MB:
                sent += full.send(block)
        assert ROOM < sent < 200 * MB  # beside ROOM there is what the kernel takes for four sockets
        free.sendall(b"e" + b"x")
        assert read(free, 1) == b"x"  # others go on
        goes_on.set()
        full.shutdown(socket.SHUT_WR)
        free.shutdown(socket.SHUT_WR)
        assert read(full, 1) == b""
    assert arrived == [sent - 1]


def test_a_reset_is_passed_on_after_what_was_sent_before_it():
    ends: queue.SimpleQueue[OSError | bytes] = queue.SimpleQueue()

    def serve(sock):
        asked = read(sock, 1)
        if asked == b"s":  # the server resets
            sock.sendall(b"last words")
            reset(sock)  # while they are under way
            return
        try:
            ends.put(sock.recv(1))
        except OSError as error:
            ends.put(error)

    with way_to(serve) as connect:
        sock = connect()
        sock.sendall(b"s")
        assert read(sock, 10) == b"last words"
        with pytest.raises(ConnectionResetError):
            sock.recv(1)
        sock = connect()
        sock.sendall(b"c")
        time.sleep(0.1)
        reset(sock)
        assert isinstance(ends.get(timeout=30), ConnectionResetError)


def test_a_server_that_refuses_connections_is_seen_as_a_reset():
    serving = Serving(echo)
    serving.close()
    with Way(serving.address, ROUND_TRIP) as way:
        for _ in range(2):  # and the forwarder goes on
            with socket.create_connection(("127.0.0.1", int(way.endpoint_url.rpartition(":")[2])), timeout=30) as sock:
                with pytest.raises(ConnectionResetError):
                    sock.recv(1)
