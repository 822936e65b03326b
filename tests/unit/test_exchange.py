"""A request on a connection of urllib3's, against a socket that answers what each test says."""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import struct
import threading
import time

import pytest
import urllib3
from botocore import exceptions as boto
from servers.ca import CertificateAuthority
from waiting import wait_until

from collective.s3blobstorage.objectstore.exchange import FRESH, exchange, open_ahead

URL = "http://127.0.0.1/bucket/key"
OK = b"HTTP/1.1 200 OK\r\n"


class Server:
    """Answers the requests of all its connections with ``script``, one entry per request, in one thread each.

    An entry is bytes to send, or a function that is given the connection and what was read of the request. ``heads``:
    what the requests began with.
    """

    def __init__(self, *script):
        self.script = list(script)
        self.heads = []
        self.connections = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._open = []
        threading.Thread(target=self._accept, daemon=True).start()
        self.pool = urllib3.HTTPConnectionPool("127.0.0.1", self._socket.getsockname()[1], maxsize=4)
        connection = self.pool._get_conn()
        connection.connect()
        self.pool._put_conn(connection)
        self.connection = connection

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                self.connections += 1
                self._open.append(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        with contextlib.suppress(OSError), connection:
            while True:
                read = b""
                while b"\r\n\r\n" not in read:
                    block = connection.recv(65536)
                    if not block:
                        return
                    read += block
                self.heads.append(read)
                if not self.script:
                    return
                step = self.script.pop(0)
                if callable(step):
                    step(connection, read)
                    return
                connection.sendall(step)

    def ask(self, method="GET", body=b"", timeout=5.0, **headers):
        return exchange(self.pool, method, "/bucket/key", {"Host": "h", **headers}, body, timeout=timeout, url=URL)

    def idle(self):
        """How many open connections the pool has."""
        return sum(1 for connection in self.pool.pool.queue if connection is not None and connection.is_connected)

    def close(self):
        self.pool.close()
        self._socket.close()
        for connection in self._open:
            connection.close()


@pytest.fixture
def server():
    made = []

    def make(*script):
        made.append(Server(*script))
        return made[-1]

    yield make
    for one in made:
        one.close()


def reset(connection, read):
    """Close with RST."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def test_the_request_as_it_is_sent(server):
    one = server(OK + b"Content-Length: 0\r\n\r\n")
    with one.ask("PUT", b"body", **{"Content-Length": "4", "X-Amz-Meta-Oid": "1"}) as answer:
        assert answer.status == 200
    assert one.heads == [b"PUT /bucket/key HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nX-Amz-Meta-Oid: 1\r\n\r\nbody"]


@pytest.mark.parametrize("value", ["a\r\nX-Amz-Acl: public-read", "a\n", "a\r", "ä"])
def test_a_header_that_is_none_is_never_sent(server, value):
    one = server(OK + b"Content-Length: 0\r\n\r\n")
    with pytest.raises(ValueError):
        one.ask(Authorization=value)
    assert one.heads == []
    assert one.ask().whole() == b""


BODIES = {
    "a length": (OK + b"Content-Length: 3\r\n\r\nabc", b"abc"),
    "an empty body": (OK + b"Content-Length: 0\r\n\r\n", b""),
    "chunks": (OK + b"Transfer-Encoding: Chunked\r\n\r\n2\r\nab\r\n1;x=y\r\nc\r\n0\r\n\r\n", b"abc"),
    "chunks and a trailer": (OK + b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: y\r\n\r\n", b"abc"),
    "100 before": (b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 3\r\n\r\nabc", b"abc"),
    "103 before": (b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK + b"Content-Length: 3\r\n\r\nabc", b"abc"),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
    "1.0 and keep-alive": (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 3\r\n\r\nabc", b"abc"),
    "bare line feeds": (b"HTTP/1.1 200\nContent-Length: 3\n\nabc", b"abc"),
    "a body like a head": (b"HTTP/1.1 200\nContent-Length: 9\n\nabc\r\n\r\nde", b"abc\r\n\r\nde"),
    "one line feed": (OK + b"X: y\nContent-Length: 7\r\n\r\na\r\n\r\nbc", b"a\r\n\r\nbc"),
}


@pytest.mark.parametrize("answer, body", BODIES.values(), ids=BODIES)
def test_a_body_read_to_its_end_gives_the_connection_back(server, answer, body):
    one = server(answer, answer)
    for _ in range(2):
        with one.ask() as got:
            assert one.idle() == 0
            assert read_as_transfers_do(got) == body
        assert one.idle() == 1
    assert one.connections == 1


@pytest.mark.parametrize("answer, body", BODIES.values(), ids=BODIES)
def test_whole(server, answer, body):
    one = server(answer)
    assert one.ask().whole() == body
    assert one.idle() == 1


def read_as_transfers_do(answer):
    data = b""
    while block := answer.read1(262144):
        data += block
    return data


CLOSING = {
    "close": OK + b"Connection: close\r\nContent-Length: 3\r\n\r\nabc",
    "1.0": b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc",
}


@pytest.mark.parametrize("answer", CLOSING.values(), ids=CLOSING)
def test_a_connection_that_the_store_will_close_is_closed(server, answer):
    one = server(answer, OK + b"Content-Length: 0\r\n\r\n")
    with one.ask() as got:
        assert read_as_transfers_do(got) == b"abc"
    assert one.idle() == 0
    assert one.ask().whole() == b"" and one.connections == 2


def test_without_a_length_the_body_ends_with_the_connection(server):
    def step(connection, read):
        connection.sendall(OK + b"\r\nabc")

    one = server(step)
    with one.ask() as got:
        assert read_as_transfers_do(got) == b"abc"
    assert one.idle() == 0


@pytest.mark.parametrize("amount", [0, 2])
def test_a_body_left_before_its_end_closes_the_connection(server, amount):
    one = server(OK + b"Content-Length: 3\r\n\r\nabc")
    with one.ask() as got:
        got.read1(amount)
    assert one.idle() == 0
    assert one.connection.sock is None


def test_leaving_with_an_error_closes_the_connection(server):
    one = server(OK + b"Content-Length: 3\r\n\r\nabc")
    with contextlib.suppress(ZeroDivisionError), one.ask() as got:
        read_as_transfers_do(got)
        raise ZeroDivisionError
    assert one.idle() == 0


def test_headers(server):
    lines = [b'ETag:  "x" ', b"x-amz-meta-a:1", b"X-Amz-Meta-A: 2", b"X-Latin: \xfc"]
    lines += [b"Content-Length: 0", b"Content-length: 0"]
    with server(OK + b"\r\n".join(lines) + b"\r\n\r\n").ask() as got:
        assert got.headers == {
            "etag": '"x"',
            "x-amz-meta-a": "1, 2",
            "x-latin": "ü",
            "content-length": "0",
        }


def test_an_error_is_an_answer(server):
    one = server(b"HTTP/1.1 503 Slow Down\r\nContent-Length: 3\r\n\r\nxml")
    answer = one.ask()
    assert (answer.status, answer.whole()) == (503, b"xml")


def test_a_pool_that_was_closed_is_left_to_the_session(server):
    one = server(OK)
    one.pool.close()
    assert one.ask() is None
    assert one.heads == []


def test_a_connection_that_the_store_closed_meanwhile_is_not_used(server):
    answer = OK + b"Content-Length: 0\r\n\r\n"
    one = server(lambda connection, read: connection.sendall(answer), answer)
    one.ask().whole()
    while one.connection.is_connected:
        pass
    assert one.ask().whole() == b"" and one.connections == 2


BROKEN = {
    "nothing": b"",
    "half a status": b"HTTP/1.1 20",
    "no status": b"what?\r\n\r\n",
    "half a length": OK + b"Content-Length: 6",
    "a head without its end": OK + b"Content-Length: 3\r\n",
    "no colon": OK + b"Content-Length 3\r\n\r\nabc",
    "a long line": OK + b"X: " + b"x" * 70000 + b"\r\n\r\n",
    "many headers": OK + b"X: y\r\n" * 101 + b"\r\n",
}


@pytest.mark.parametrize("answer", BROKEN.values(), ids=BROKEN)
def test_a_head_that_is_none_is_a_closed_connection(server, answer):
    one = server(lambda connection, read: connection.sendall(answer))
    with pytest.raises(boto.ConnectionClosedError):
        one.ask()
    assert one.idle() == 0
    assert one.connection.sock is None


def test_a_reset(server):
    with pytest.raises(boto.ConnectionClosedError):
        server(reset).ask()


def test_silence(server):
    one = server(lambda connection, read: connection.recv(1))
    with pytest.raises(boto.ReadTimeoutError):
        one.ask(timeout=0.1)
    assert one.idle() == 0


CUT = {
    "a length": OK + b"Content-Length: 9\r\n\r\nabc",
    "chunks": OK + b"Transfer-Encoding: chunked\r\n\r\n9\r\nabc",
    "between chunks": OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
}


@pytest.mark.parametrize("answer", CUT.values(), ids=CUT)
def test_a_body_that_breaks_off(server, answer):
    one = server(lambda connection, read: connection.sendall(answer))
    with pytest.raises(http.client.IncompleteRead):
        one.ask().whole()
    assert one.idle() == 0
    one = server(lambda connection, read: connection.sendall(answer))
    data = b""
    with contextlib.suppress(http.client.IncompleteRead), one.ask() as got:
        while block := got.read1(10):  # as far as it came; then nothing, or the error
            data += block
    assert data == b"abc"
    assert one.idle() == 0


def test_a_refusal_in_the_middle_of_a_body_is_read(server):
    """A store that has read enough answers and closes, while we still send."""

    def refuse(connection, read):
        connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 3\r\nConnection: close\r\n\r\nxml")
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass

    one = server(refuse)
    answer = one.ask("PUT", b"x" * 1_000_000)
    assert (answer.status, answer.whole()) == (403, b"xml")
    assert one.idle() == 0


# Connections


def take_idle(one):
    """Nothing is idle any more; the connections stay open."""
    return [one.pool.pool.get(block=False) for _ in range(one.idle())]


def test_where_none_is_idle_a_new_one_is_opened_and_kept(server):
    answer = OK + b"Content-Length: 0\r\n\r\n"
    one = server(answer, answer)
    take_idle(one)
    assert one.ask().whole() == b"" and one.connections == 2 and one.idle() == 1
    assert one.ask().whole() == b"" and one.connections == 2


def test_the_first_connection_of_a_pool_is_left_to_the_session(server):
    one = server()
    host, port = one.pool.host, one.pool.port
    fresh = urllib3.HTTPConnectionPool(host, port)
    assert exchange(fresh, "GET", "/", {"Host": "h"}, b"", timeout=1.0, url=URL) is None
    assert one.heads == [] and fresh.num_connections == 0


def test_a_connection_that_cannot_be_made_is_left_to_the_session(server):
    one = server()
    take_idle(one)
    one._socket.shutdown(socket.SHUT_RDWR)
    one._socket.close()
    assert one.ask() is None
    assert one.pool.pool.qsize() == 3, "its place in the pool is free again"


def test_a_time_out_is_not_waited_for_twice(server, monkeypatch):
    def late(*arguments, **named):
        raise TimeoutError("timed out")

    one = server()
    take_idle(one)
    monkeypatch.setattr("urllib3.util.connection.create_connection", late)
    with pytest.raises(boto.ConnectTimeoutError):
        one.ask()


def test_a_handshake_that_nobody_answers_is_a_time_out(server):
    one = server(lambda connection, read: threading.Event().wait(5))
    pool = urllib3.HTTPSConnectionPool(one.pool.host, one.pool.port, timeout=urllib3.Timeout(connect=0.2, read=5))
    pool.num_connections = 1  # as if botocore's session had made one
    with pytest.raises(boto.ReadTimeoutError):
        exchange(pool, "GET", "/", {"Host": "h"}, b"", timeout=5.0, url=URL)


def test_a_certificate_that_nobody_signed_is_left_to_the_session(server, tmp_path):
    certificate = CertificateAuthority(tmp_path).issue("stranger")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.chain, certificate.key)
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        with contextlib.suppress(OSError), listener, context.wrap_socket(listener.accept()[0], server_side=True):
            pass

    thread = threading.Thread(target=serve)
    thread.start()
    pool = urllib3.HTTPSConnectionPool("127.0.0.1", listener.getsockname()[1], timeout=5)
    pool.num_connections = 1
    assert exchange(pool, "GET", "/", {"Host": "h"}, b"", timeout=5.0, url=URL) is None
    thread.join()


EMPTY = OK + b"Content-Length: 0\r\n\r\n"


def test_opened_ahead_they_are_used(server):
    one = server(EMPTY, EMPTY, EMPTY)
    open_ahead(one.pool, 3)
    assert one.idle() == 3
    answers = [one.ask() for _ in range(3)]  # none goes back before its body is read
    assert [answer.whole() for answer in answers] == [b""] * 3
    assert one.idle() == 3 and one.connections == 3
    open_ahead(one.pool, 3)
    assert one.idle() == 3 and one.connections == 3, "there were as many"


def test_no_more_are_opened_ahead_than_the_pool_keeps(server):
    one = server(EMPTY)
    open_ahead(one.pool, 9)
    assert one.idle() == 4 == one.pool.pool.qsize()
    busy = one.pool._get_conn()
    open_ahead(one.pool, 9)
    assert one.idle() == 3 == one.pool.pool.qsize(), "the fourth place is the busy one's"
    one.pool._put_conn(busy)
    assert one.idle() == 4


def test_those_that_are_in_use_are_not_touched(server):
    go_on = threading.Event()
    one = server(lambda connection, read: (go_on.wait(5), connection.sendall(EMPTY)), EMPTY)
    waiting = threading.Thread(target=one.ask)
    waiting.start()
    wait_until(lambda: one.heads, 5)
    open_ahead(one.pool, 2)
    assert one.ask().whole() == b""
    go_on.set()
    waiting.join()
    wait_until(lambda: one.connections >= 3, 5)  # its threads see later what the kernel has done
    assert one.connections == 3


@pytest.mark.parametrize("age, used", [(FRESH - 10, True), (FRESH + 10, False)])
def test_what_was_opened_ahead_and_not_used_for_long_is_not_used_any_more(server, age, used):
    one = server(EMPTY)
    take_idle(one)
    open_ahead(one.pool, 1)
    (ahead,) = [connection for connection in one.pool.pool.queue if connection is not None]
    ahead.opened_ahead -= age
    port = ahead.sock.getsockname()[1]
    with one.ask() as answer:
        assert (answer._connection.sock.getsockname()[1] == port) is used
        answer.read()
    assert one.idle() == 1


def test_once_used_it_is_as_any_other(server, monkeypatch):
    one = server(EMPTY, EMPTY)
    take_idle(one)
    open_ahead(one.pool, 1)
    assert one.ask().whole() == b""
    later = time.monotonic() + 2 * FRESH
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert one.ask().whole() == b""
    assert one.connections == 2


def test_nothing_is_opened_ahead_by_a_pool_that_made_none(server):
    one = server()
    fresh = urllib3.HTTPConnectionPool(one.pool.host, one.pool.port)
    open_ahead(fresh, 2)
    assert fresh.num_connections == 0


def test_a_server_that_is_gone_is_no_error(server):
    one = server()
    one._socket.shutdown(socket.SHUT_RDWR)
    one._socket.close()
    open_ahead(one.pool, 3)
    assert one.pool.pool.qsize() == 4 and one.idle() <= 1


def test_a_pool_that_is_closed_meanwhile_keeps_nothing_open(server, tmp_path):
    certificate = CertificateAuthority(tmp_path).issue("slow")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.chain, certificate.key)
    listener = socket.create_server(("127.0.0.1", 0))
    begun, closed, rest = threading.Event(), threading.Event(), []

    def serve():
        connection, _ = listener.accept()
        begun.set()
        closed.wait(5)
        with context.wrap_socket(connection, server_side=True) as sock:
            rest.append(sock.recv(1))

    thread = threading.Thread(target=serve)
    thread.start()
    pool = urllib3.HTTPSConnectionPool("127.0.0.1", listener.getsockname()[1], timeout=5, cert_reqs="CERT_NONE")
    pool.num_connections = 1
    opening = threading.Thread(target=open_ahead, args=(pool, 1))
    opening.start()
    assert begun.wait(5)
    pool.close()
    closed.set()
    opening.join()
    thread.join()
    listener.close()
    assert rest == [b""], "its end was told"


def test_a_handshake_that_nobody_answers_ends_it(server):
    one = server(lambda connection, read: threading.Event().wait(5))
    pool = urllib3.HTTPSConnectionPool(one.pool.host, one.pool.port, timeout=urllib3.Timeout(connect=0.2, read=5))
    pool.num_connections = 1
    open_ahead(pool, 4)
    assert one.connections == 2 and not any(pool.pool.queue)  # the first one is the fixture's
