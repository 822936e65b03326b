"""A proxy of HTTP/1.1 between an S3 client and server that counts, delays, and does what networks and servers do.

It passes every byte on unchanged, the Host header included: a client signs for the proxy's address, and the server
checks the signature with the Host that it receives. Bodies are streamed. A thread per connection, one more while a
request's body is sent, one more per direction once there is a delay; ``close()`` joins them all.
"""

from __future__ import annotations

import fcntl
import queue
import select
import socket
import ssl
import struct
import termios
import threading
import time
from collections import Counter
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from urllib.parse import urlsplit

from .ca import CertificateAuthority
from .faults import Cut, Fault, Shaper, strike
from .framing import Head, Malformed, Reader
from .process import free_port

QUEUE_PIECES = 128  # under way in one direction: with pieces of 64 kB and 50 ms a limit of 160 MB/s


@dataclass
class Exchange:
    """One request as the proxy saw it; bytes are payload, without heads and chunk sizes."""

    line: str
    method: str
    path: str  # without query
    operation: str  # S3's name: GetObject, UploadPart, …
    bytes_up: int = 0
    bytes_down: int = 0
    status: int | None = None  # None: no answer (yet)


@dataclass
class Rule:
    """A fault for some requests; ``hits`` counts those it was applied to."""

    fault: Fault
    method: str | None
    target: str
    first: int
    last: float
    seen: int = 0
    hits: int = 0

    def takes(self, head: Head) -> bool:
        if self.method not in (None, head.method) or self.target not in head.target:
            return False
        self.seen += 1
        if not self.first <= self.seen <= self.last:
            return False
        self.hits += 1
        return True


class Proxy:
    """Listens on a port of 127.0.0.1 from ``start()`` to ``close()``. All methods may be called from any thread.

    :param upstream: URL of the server, http or https
    :param ca: issues a certificate for the proxy's own side, which is https then
    :param upstream_ca: the bundle that verifies an https server
    """

    def __init__(
        self, upstream: str, *, ca: CertificateAuthority | None = None, upstream_ca: Path | None = None
    ) -> None:
        self._upstream = urlsplit(upstream)
        self._upstream_tls = None
        if self._upstream.scheme == "https":
            self._upstream_tls = ssl.create_default_context(cafile=str(upstream_ca) if upstream_ca else None)
        self._tls: ssl.SSLContext | None = None
        if ca:
            certificate = ca.issue("proxy")
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(certificate.chain, certificate.key)
        self.port = free_port()
        self.delay_up = 0.0  # seconds, from client to server
        self.delay_down = 0.0  # seconds, from server to client
        self.passing = threading.Event()  # cleared: a black hole
        self.passing.set()
        self._lock = threading.Lock()  # guards all below
        self._exchanges: list[Exchange] = []
        self._rules: list[Rule] = []
        self._connections: set[Connection] = set()
        self._accepted = 0
        self._threads: list[threading.Thread] = []
        self._listener: socket.socket | None = None

    @property
    def endpoint_url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    def start(self) -> Proxy:
        self.up()
        return self

    def __enter__(self) -> Proxy:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """End all connections and threads."""
        self.down()
        for thread in self._threads:
            thread.join(10)
            if thread.is_alive():
                raise RuntimeError(f"{thread.name} does not end")

    # counting

    @property
    def exchanges(self) -> list[Exchange]:
        """All requests since the start or ``reset()``, in the order of their arrival."""
        with self._lock:
            return list(self._exchanges)

    @property
    def lines(self) -> list[str]:
        """Their request lines."""
        return [exchange.line for exchange in self.exchanges]

    def counts(self, path: str = "") -> Counter[str]:
        """Requests by S3 operation, of those whose path contains ``path``."""
        return Counter(exchange.operation for exchange in self.exchanges if path in exchange.path)

    def methods(self, path: str = "") -> Counter[str]:
        """Requests by HTTP method, of those whose path contains ``path``."""
        return Counter(exchange.method for exchange in self.exchanges if path in exchange.path)

    @property
    def accepted(self) -> int:
        """Connections that clients made since the start."""
        with self._lock:
            return self._accepted

    def reset(self) -> None:
        """Count requests from zero; faults stay."""
        with self._lock:
            self._exchanges.clear()

    # disturbing

    def round_trip(self, milliseconds: float) -> None:
        """Half of it is the delay of each direction; a new connection costs one more, with TLS two."""
        self.delay_up = self.delay_down = milliseconds / 2000

    def fail(
        self, fault: Fault, *, method: str | None = None, target: str = "", nth: int = 1, times: float = 1
    ) -> Rule:
        """Apply ``fault`` to the requests ``nth`` to ``nth + times - 1`` of those with this method whose target (path
        and query) contains ``target``, counted from now. ``times=math.inf``: all from the nth on. Of several rules that
        take a request the oldest is applied.
        """
        rule = Rule(fault, method, target, nth, nth + times - 1)
        with self._lock:
            self._rules.append(rule)
        return rule

    def forgive(self) -> None:
        """No faults any more; delays stay."""
        with self._lock:
            self._rules.clear()

    def down(self) -> None:
        """Refuse connections; those that are open end."""
        with self._lock:
            listener, self._listener = self._listener, None
            connections = list(self._connections)
        if listener:
            listener.shutdown(socket.SHUT_RDWR)  # wakes accept()
            listener.close()
        for connection in connections:
            connection.end()

    def black_hole(self) -> None:
        """Nothing passes in either direction, on old and new connections, until ``up()``."""
        self.passing.clear()

    def lose_connections(self) -> None:
        """Nothing passes any more on those that are open, and no end of them is told: a firewall forgot them."""
        with self._lock:
            for connection in self._connections:
                connection.lost = True

    def up(self) -> None:
        """Accept connections, and let pass what a black hole held."""
        self.passing.set()
        with self._lock:
            if self._listener is None:
                self._listener = socket.create_server(("127.0.0.1", self.port), backlog=256)
                self._run(self._accept, self._listener)

    # within

    def _run(self, target, *arguments) -> None:
        """With the lock held: start a thread that ``close()`` joins."""
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        thread = threading.Thread(target=target, args=arguments, name=f"proxy-{target.__name__}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return  # down() closed it
            with self._lock:
                if self._listener is not listener:  # down() came between: it did not see this connection
                    sock.close()
                    return
                connection = Connection(self, sock)
                self._connections.add(connection)
                self._accepted += 1
                self._run(connection.serve)

    def note(self, head: Head) -> tuple[Exchange, Fault | None]:
        """Record a request that has come; the fault that it shall meet."""
        exchange = Exchange(head.line, head.method, head.target.partition("?")[0], head.operation())
        with self._lock:
            self._exchanges.append(exchange)
            taken = [rule.fault for rule in self._rules if rule.takes(head)]
        return exchange, taken[0] if taken else None

    def forget(self, connection: Connection) -> None:
        with self._lock:
            self._connections.discard(connection)

    def wrap(self, sock: socket.socket) -> socket.socket:
        """The client's side with TLS, if so wanted."""
        return self._tls.wrap_socket(sock, server_side=True) if self._tls else sock

    @property
    def handshakes(self) -> int:
        """Round trips before the first request of a connection: TCP's, TLS 1.3's."""
        return 2 if self._tls else 1

    def connect(self) -> socket.socket:
        sock = socket.create_connection((self._upstream.hostname, self._upstream.port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._upstream_tls:
            return self._upstream_tls.wrap_socket(sock, server_hostname=self._upstream.hostname)
        return sock


class Line:
    """Sends to one socket, each piece ``delay()`` seconds after it was given; the giver does not wait."""

    def __init__(self, connection: Connection, sock: socket.socket, delay) -> None:
        self._connection = connection
        self._sock = sock
        self._delay = delay
        self._pieces: queue.Queue[tuple[float, bytes] | None] | None = None
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def send(self, data: bytes) -> None:
        delay = self._delay()
        if self._pieces is None:
            if not delay:
                self._connection.pass_gate()
                self._sock.sendall(data)
                return
            self._pieces = queue.Queue(QUEUE_PIECES)
            self._thread = threading.Thread(target=self._send_late, name="proxy-line", daemon=True)
            self._thread.start()
        if self._error:
            raise self._error
        self._pieces.put((time.monotonic() + delay, data))

    def flush(self, *, acknowledged: bool) -> None:
        """Return when all was sent or sending failed; ``acknowledged``: and the peer has it (a second at most)."""
        if self._pieces is not None:
            self._pieces.join()
        if not acknowledged:
            return
        deadline = time.monotonic() + 1
        while time.monotonic() < deadline:
            left = struct.unpack("i", fcntl.ioctl(self._sock, termios.TIOCOUTQ, b"\0" * 4))[0]
            if not left:
                return
            time.sleep(0.002)

    def stop(self) -> None:
        if self._pieces is not None:
            self._pieces.put(None)
            self._thread.join()

    def _send_late(self) -> None:
        while (due_and_data := self._pieces.get()) is not None:
            due, data = due_and_data
            try:
                if self._error is None:
                    self._connection.pause(max(0.0, due - time.monotonic()))
                    self._connection.pass_gate()
                    self._sock.sendall(data)
            except (OSError, Cut) as error:
                self._error = error  # later pieces are dropped; the next send() raises it
            finally:
                self._pieces.task_done()


class Connection:
    """One client connection and the server connection that goes with it.

    ``serve`` runs in a thread of its own, which alone closes the sockets: other threads only shut them down, so that
    no file descriptor is used after another socket got its number.
    """

    def __init__(self, proxy: Proxy, sock: socket.socket) -> None:
        self._proxy = proxy
        self._over = threading.Event()
        self.lost = False
        self._sock = sock
        self._client: Reader | None = None
        self._to_client: Line | None = None
        self._server: Reader | None = None
        self._to_server: Line | None = None
        self._upload: threading.Thread | None = None
        self._upload_failure: BaseException | None = None

    def end(self) -> None:
        """From another thread: stop as soon as possible."""
        self._over.set()
        _shut(self._sock)
        if self._server:
            _shut(self._server.sock)

    def pause(self, seconds: float | None) -> None:
        """Sleep; raises Cut when the connection is over."""
        if (seconds is None or seconds > 0) and self._over.wait(seconds):
            raise Cut(rst=True)

    def pass_gate(self) -> None:
        """Wait while the proxy is a black hole, or for ever where this connection is lost."""
        while self.lost or not self._proxy.passing.is_set():
            if self._over.wait(0.05):
                raise Cut(rst=True)

    def serve(self) -> None:
        rst = False
        try:
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.pass_gate()
            self.pause((self._proxy.delay_up + self._proxy.delay_down) * self._proxy.handshakes)
            # end() cannot reach the socket while it is being wrapped: a handshake that hangs ends alone.
            self._sock.settimeout(5)
            self._sock = self._proxy.wrap(self._sock)
            self._sock.settimeout(None)
            if self._over.is_set():
                raise Cut(rst=True)
            self._client = Reader(self._sock)
            self._to_client = Line(self, self._sock, lambda: self._proxy.delay_down)
            while self._exchange():
                pass
        except Cut as cut:
            rst = cut.rst
        except (OSError, Malformed):
            rst = True  # one side went away: so does the other
        finally:
            self._close(rst)
            self._proxy.forget(self)

    def _close(self, rst: bool) -> None:
        if self._to_client and not self._over.is_set():
            self._to_client.flush(acknowledged=rst)  # RST discards what is still under way, FIN does not
        self._over.set()
        if self._server:
            _shut(self._server.sock)
        if self._upload and self._upload.is_alive():
            _shut(self._sock, socket.SHUT_RD)  # wakes it without a FIN
            self._upload.join()
        for line in (self._to_client, self._to_server):
            if line:
                line.stop()
        if self._server:
            self._server.sock.close()
        if rst and self._sock.fileno() >= 0:  # a failed handshake has closed it
            # close() then sends RST instead of FIN
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._sock.close()

    def _exchange(self) -> bool:
        """Pass on one request and its response; whether another may follow."""
        if self._server and self._first_ready() is self._server:
            return False  # the server ended the idle connection: the client sees it too
        request = self._client.head()
        if request is None:
            return False
        exchange, fault = self._proxy.note(request)
        if fault and fault.where == "before":
            if fault.action == "answer":
                return self._answer(request, exchange, fault)
            strike(fault, self.pause)
        if self._server is None:
            self._server = Reader(self._proxy.connect())
            self._to_server = Line(self, self._server.sock, lambda: self._proxy.delay_up)
        self._to_server.send(request.raw)
        self._upload = None
        if request.has_request_body():
            self._upload = threading.Thread(
                target=self._send_body, args=(request, exchange, fault), name="proxy-upload", daemon=True
            )
            # A client that expects "100 Continue" sends at once all the same, when it has waited long enough.
            if "expect" not in request.fields or self._first_ready() is self._client:
                self._start_upload()
        try:
            return self._respond(request, exchange, fault)
        except OSError:
            if self._upload_failure:
                raise self._upload_failure from None
            raise

    def _start_upload(self) -> None:
        self._upload.start()
        if any(isinstance(sock, ssl.SSLSocket) for sock in (self._sock, self._server.sock)):
            # OpenSSL's connections are not for two threads at a time, one that reads and one that writes: the server
            # then now and then waited for a body that it never saw. So an early answer is passed on late here.
            self._upload.join()
            self._to_server.flush(acknowledged=False)

    def _respond(self, request: Head, exchange: Exchange, fault: Fault | None) -> bool:
        while True:
            response = self._server.head()
            if response is None:
                raise self._upload_failure or Cut(rst=False)
            if response.status >= 200:
                break
            self._to_client.send(response.raw)
            if self._upload and self._upload.ident is None:
                self._start_upload()
        if fault and fault.where == "answer":
            strike(fault, self.pause)
        exchange.status = response.status
        self._to_client.send(response.raw)
        shaper = Shaper(fault, "response", self.pause)
        empty = request.method == "HEAD" or response.status in (204, 304)
        if not empty:
            for payload, data in self._server.body(response, until_end=True):
                for piece in shaper.pieces(data) if payload else (data,):
                    exchange.bytes_down += len(piece) if payload else 0
                    self._to_client.send(piece)
        shaper.end()
        if self._upload and self._upload.ident is not None:
            self._upload.join()  # an early answer: the client may still be sending
        if self._upload_failure:
            raise self._upload_failure
        if fault and fault.where == "after":
            strike(fault, self.pause)
        delimited = empty or response.chunked or "content-length" in response.fields
        return delimited and not request.closes and not response.closes

    def _send_body(self, request: Head, exchange: Exchange, fault: Fault | None) -> None:
        """In a thread of its own, since a server may answer before it has the whole body."""
        shaper = Shaper(fault, "request", self.pause)
        try:
            for payload, data in self._client.body(request):
                for piece in shaper.pieces(data) if payload else (data,):
                    exchange.bytes_up += len(piece) if payload else 0
                    try:
                        self._to_server.send(piece)
                    except OSError as error:
                        self._upload_failure = error  # it may have answered first: that is still passed on
                        return
            shaper.end()
        except (OSError, Malformed, Cut) as failure:
            self._upload_failure = failure
            if isinstance(failure, Cut) and not self._over.is_set():
                self._to_server.flush(acknowledged=False)
            _shut(self._server.sock)  # wakes _respond

    def _answer(self, request: Head, exchange: Exchange, fault: Fault) -> bool:
        """Answer in place of the server, to a request whose body is read unless the client waits for a go-ahead."""
        if "expect" not in request.fields:
            for payload, data in self._client.body(request):
                exchange.bytes_up += len(data) if payload else 0
        body = (
            f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{fault.code}</Code>'
            f"<Message>Injected by the tests</Message><RequestId>0</RequestId></Error>"
        ).encode()
        head = (
            f"HTTP/1.1 {fault.status} {fault.code}\r\nDate: {formatdate(usegmt=True)}\r\n"
            f"Content-Type: application/xml\r\nContent-Length: {len(body)}\r\n\r\n"
        ).encode()
        exchange.status = fault.status
        if request.method == "HEAD":
            body = b""
        exchange.bytes_down += len(body)
        self._to_client.send(head + body)
        return not request.closes

    def _first_ready(self) -> Reader:
        """Wait for either side; the server's when both have something to read."""
        for reader in (self._server, self._client):
            if reader.pending():
                return reader
        poll = select.poll()
        for reader in (self._server, self._client):
            poll.register(reader.sock, select.POLLIN)
        ready = {descriptor for descriptor, _ in poll.poll()}
        return self._server if self._server.sock.fileno() in ready else self._client


def _shut(sock: socket.socket, how: int = socket.SHUT_RDWR) -> None:
    try:
        socket.socket.shutdown(sock, how)  # not SSLSocket's, which also takes away the TLS state of other threads
    except OSError:
        pass  # it is closed or was never connected
