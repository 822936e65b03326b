"""A web server before Zope, as sites have one: pages of its own, rewritten addresses, a policy, and what was sent.

A server of its own, in threads, on http://localhost:PORT. Zope is given the Host that the browser asked for, so that
the addresses it makes are the front's.
"""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from servers.process import free_port

# Those of one connection, not of a message (RFC 9110, section 7.6.1).
_HOP = frozenset(("connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "proxy-connection"))
_PIECE = 64 * 1024


class Front:
    """``pages``: answers of its own by path, each (content type, body).

    :param zope_port: where Zope listens
    :param rewrite: the path for Zope, with the query, of one that the browser asked for
    :param policy: the Content-Security-Policy of each answer; empty: none
    """

    def __init__(self, zope_port: int, rewrite: Callable[[str], str] = lambda path: path, policy: str = "") -> None:
        self._zope_port, self._rewrite, self.policy = zope_port, rewrite, policy
        self.pages: dict[str, tuple[str, bytes]] = {}
        self.port = free_port()
        self._lock = threading.Lock()
        self._bodies: list[tuple[str, str, int]] = []
        front = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _answer(self) -> None:
                front._answer(self)

            do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _answer

            def log_message(self, *arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever)

    @property
    def origin(self) -> str:
        return f"http://localhost:{self.port}"

    @property
    def bodies(self) -> list[tuple[str, str, int]]:
        """(method, path, bytes) of each body that was passed on to Zope, since the start or ``reset()``."""
        with self._lock:
            return list(self._bodies)

    def to_zope(self) -> int:
        """Bytes of all of them."""
        return sum(size for _method, _path, size in self.bodies)

    def reset(self) -> None:
        with self._lock:
            self._bodies.clear()

    def __enter__(self) -> Front:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        path = request.path.partition("?")[0]
        if request.command == "GET" and path in self.pages:
            kind, body = self.pages[path]
            self._begin(request, 200, [("Content-Type", kind), ("Content-Length", str(len(body)))])
            request.wfile.write(body)
            return
        connection = http.client.HTTPConnection("127.0.0.1", self._zope_port, timeout=300)
        try:
            self._pass_on(request, connection, path)
        except OSError:
            request.close_connection = True  # the browser went away, or Zope did
        finally:
            connection.close()

    def _pass_on(self, request: BaseHTTPRequestHandler, connection: http.client.HTTPConnection, path: str) -> None:
        length = int(request.headers.get("Content-Length") or 0)
        connection.putrequest(request.command, self._rewrite(request.path), skip_host=True, skip_accept_encoding=True)
        for name, value in request.headers.items():
            if name.lower() not in _HOP:
                connection.putheader(name, value)
        connection.endheaders()
        left = length
        while left and (piece := request.rfile.read(min(_PIECE, left))):
            connection.send(piece)
            left -= len(piece)
            # Counted as it comes: what was broken off has been sent as well.
        with self._lock:
            self._bodies.append((request.command, path, length - left))
        answer = connection.getresponse()
        headers = [(name, value) for name, value in answer.getheaders() if name.lower() not in _HOP]
        bodiless = request.command == "HEAD" or answer.status in (204, 304)
        if not bodiless and answer.getheader("Content-Length") is None:
            headers.append(("Connection", "close"))
            request.close_connection = True
        self._begin(request, answer.status, headers)
        while piece := answer.read(_PIECE):
            request.wfile.write(piece)

    def _begin(self, request: BaseHTTPRequestHandler, status: int, headers: list[tuple[str, str]]) -> None:
        request.send_response_only(status)
        for name, value in headers:
            request.send_header(name, value)
        if self.policy:
            request.send_header("Content-Security-Policy", self.policy)
        request.end_headers()
