"""A request and its answer on a connection of urllib3's.

urllib3 and ``http.client`` take most of the processor time of a small request, for what a request to S3 does not need:
checks of each header, an answer's headers parsed as those of an e-mail, redirects, retries, decoding (figures:
docs/performance.md). Connections stay those of urllib3's pool as botocore sets it up, so names, certificates and
time-outs are theirs. Here an idle one is borrowed, or a new one asked for, and given back as urllib3 gives it back. The
first one of a pool, and all behind a proxy, are made by botocore's session.
"""

from __future__ import annotations

import contextlib
import http.client
import queue
import ssl
import time
from collections.abc import Callable, Mapping
from typing import Any

import urllib3
from botocore import exceptions as boto

# As http.client limits them.
_LONGEST_LINE = 65536
_MOST_HEADERS = 100
# A head and 64 KB: a small blob that has arrived is read by one call. http.client has 8 KB.
_BUFFER = 72 * 1024

# A connection that was opened ahead is used within this time, or not at all. Servers close idle ones after a minute or
# so and tell; what forgets them in between, after minutes (AWS's NAT gateway: 350 s), does not, and who uses one then
# waits for a whole time-out.
FRESH = 60.0  # seconds

# The attribute of such a one, until it is used: when it was opened.
_OPENED = "opened_ahead"


class _Wide:
    """A socket as ``http.client`` asks for its file once, with a buffer of ours."""

    def __init__(self, sock: Any) -> None:
        self._sock = sock

    def makefile(self, mode: str) -> Any:
        return self._sock.makefile(mode, _BUFFER)


class Answer(http.client.HTTPResponse):
    """The answer's head is parsed here; its body is read, and its end found, by ``http.client``.

    ``headers``: names in lower case; of several with one name the different values, joined by
    commas (RFC 9110, 5.3 and 8.6).
    A context manager: leaving it gives the connection back where the body was read to its end, else closes it.
    Belongs to one thread.
    """

    def __init__(self, pool: Any, connection: Any, method: str) -> None:
        super().__init__(_Wide(connection.sock), method=method)  # type: ignore[arg-type]
        self._pool: Any = pool
        self._connection = connection

    def begin(self) -> None:
        """Read the head. Raises OSError and http.client.HTTPException."""
        while True:
            self.version, self.status, self.reason = self._read_status()  # type: ignore[attr-defined]
            self.headers = self.msg = self._read_head()  # type: ignore[assignment]
            if self.status >= 200:  # before it come 100 and other announcements
                break
        self.version = 10 if self.version in ("HTTP/1.0", "HTTP/0.9") else 11
        self.chunked = self.headers.get("transfer-encoding", "").lower() == "chunked"  # type: ignore[assignment]
        self.chunk_left = None  # type: ignore[assignment]
        self.will_close = self._check_close()  # type: ignore[attr-defined]
        length = self.headers.get("content-length", "")
        self.length = int(length) if length.isascii() and length.isdigit() and not self.chunked else None
        if self.status in (204, 304):
            self.length = 0
        if self.length is None and not self.chunked:
            self.will_close = True

    def _read_head(self) -> dict[str, str]:
        headers: dict[str, str] = {}
        for line in self._lines():
            name, colon, value = line.partition(":")
            if not colon:
                raise http.client.HTTPException("a header without a colon")
            name, value = name.strip().lower(), value.strip()
            before = headers.get(name, value)
            headers[name] = value if before == value else f"{before}, {value}"
        return headers

    def _lines(self) -> list[str]:
        """Of the head, up to the empty one, which is read too."""
        # Nearly always all of it has arrived, each line with CR and LF, and a call for each takes as long as all else.
        arrived = self.fp.peek()
        end = arrived.find(b"\n\r\n")
        usual = 1 < end <= _LONGEST_LINE and not arrived.startswith((b"\n", b"\r\n")) and b"\n\n" not in arrived[:end]
        if usual and arrived.count(b"\n", 0, end) < _MOST_HEADERS:
            return self.fp.read(end + 3)[:end].decode("latin-1").split("\n")
        lines: list[str] = []
        for _ in range(_MOST_HEADERS + 1):
            line = self.fp.readline(_LONGEST_LINE + 1)
            if len(line) > _LONGEST_LINE:
                raise http.client.LineTooLong("header line")
            if not line.endswith(b"\n"):  # http.client takes what came before for all: a length may have lost digits
                raise http.client.RemoteDisconnected("the head of the answer ended too early")
            if line in (b"\r\n", b"\n"):
                return lines
            lines.append(line.decode("latin-1"))
        raise http.client.HTTPException(f"more than {_MOST_HEADERS} headers")

    def whole(self) -> bytes:
        """The rest of the body, and the connection goes back. Raises what reading raises."""
        with self:
            return self.read()

    def __exit__(self, *exception: Any) -> None:
        self.release(reusable=exception[0] is None)

    def release(self, *, reusable: bool) -> None:
        """Idempotent. Never raises."""
        pool, self._pool = self._pool, None
        if pool is None:
            return
        ended = self.length == 0 if self.length is not None else bool(self.chunked) and self.isclosed()
        reusable = reusable and ended and not self.will_close
        with contextlib.suppress(OSError):
            self.close()
        give_back(pool, self._connection, reusable=reusable)


def exchange(
    pool: Any, method: str, target: str, headers: Mapping[str, str], body: bytes, *, timeout: float | None, url: str
) -> Answer | None:
    """Send a request and read the head of its answer. None, and nothing was sent: botocore's session is to do it.

    pool: urllib3's, of the way without a proxy. headers: all there are, checked, of ASCII. timeout: seconds without a
    byte. url: for messages.

    Raises what botocore's session raises for the same: ConnectTimeoutError, ReadTimeoutError, SSLError,
    ConnectionClosedError. ValueError
    where a header is none; nothing was sent then.
    """
    lines = [f"{method} {target} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    head = ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")
    if head.count(b"\r") != len(lines) + 1 or head.count(b"\n") != len(lines) + 1:
        raise ValueError("a header with a line's end in it")  # a key that was read from a file, say
    connection = borrow(pool) or open_new(pool, url)
    if connection is None:
        return None
    answer = None
    try:
        sock = connection.sock
        if sock.gettimeout() != timeout:
            sock.settimeout(timeout)
        # A store may refuse before it has read all and close; what it said can still be read.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            sock.sendall(head + body if body else head)
        answer = Answer(pool, connection, method)
        answer.begin()
    except BaseException as error:
        if answer is not None:
            answer.release(reusable=False)
        else:
            give_back(pool, connection, reusable=False)
        if isinstance(error, (OSError, http.client.HTTPException)):  # among OSError: TimeoutError and ssl.SSLError
            raise _as_botocore(error, url) from None
        raise
    return answer


def borrow(pool: Any) -> Any:
    """An open connection of the pool, or None. From any thread."""
    idle = pool.pool  # a queue, the last one in is the first one out; None: the pool was closed
    try:
        connection = idle.get(block=False) if idle is not None else None
    except queue.Empty:
        return None
    if connection is not None:
        opened = vars(connection).pop(_OPENED, None)
        if connection.is_connected if opened is None else _is_fresh(connection, opened):
            return connection
    # A place for a connection that is still to be made, or one that is closed: the pool knows what to do.
    pool._put_conn(connection)
    return None


def _is_fresh(connection: Any, opened: float) -> bool:
    """Whether one that was opened ahead may be used; else it is closed."""
    if time.monotonic() - opened <= FRESH:
        if connection.is_connected:
            return True
        if isinstance(connection.sock, ssl.SSLSocket):
            # A TLS 1.3 server sends tickets after the handshake (RFC 8446, 4.6.1), which nobody has read yet; urllib3
            # takes a connection on which something can be read for one that the server has closed.
            try:
                connection.sock.settimeout(0)
                connection.sock.recv(1)
            except ssl.SSLWantReadError:
                return True
            except OSError:
                pass
    connection.close()
    return False


def open_new(pool: Any, url: str) -> Any:
    """A new connection, as urllib3 opens it for a request of its own. From any thread.

    None where the pool has made none yet: behind a proxy it never does. None also where the connection cannot be made:
    then botocore's session tries once more, and says why. Only a time-out is not waited for twice.
    """
    if not pool.num_connections or pool.pool is None:
        return None
    connection = None
    try:
        connection = pool._get_conn()
        _connect(pool, connection)
        return connection
    except BaseException as error:
        if connection is not None:
            give_back(pool, connection, reusable=False)
        if type(error) is urllib3.exceptions.ConnectTimeoutError:  # and not its heir NewConnectionError
            raise boto.ConnectTimeoutError(endpoint_url=url, error=error) from None
        if isinstance(error, TimeoutError):  # in the middle of the handshake
            raise boto.ReadTimeoutError(endpoint_url=url, error=error) from None
        if isinstance(error, (OSError, urllib3.exceptions.HTTPError)):
            return None
        raise


def _connect(pool: Any, connection: Any) -> None:
    connection.timeout = pool.timeout.connect_timeout
    pool._validate_conn(connection)
    if connection.sock is None:
        connection.connect()


def open_ahead(pool: Any, count: int, stopped: Callable[[], bool] = lambda: False) -> None:
    """Have so many idle connections, and no more than the pool keeps. In any thread, while others use the pool, but
    not where the pool has made none yet, as behind a proxy.

    Ends at the first one that cannot be made, or when it is ``stopped``; raises nothing for the network.
    """
    for _ in range(count):  # others may use them as fast as they are opened
        if stopped() or not pool.num_connections or sum(idle is not None for idle in _places(pool)) >= count:
            return
        connection = pool._new_conn()
        try:
            _connect(pool, connection)
        except (OSError, urllib3.exceptions.HTTPError):
            connection.close()
            return
        setattr(connection, _OPENED, time.monotonic())
        if not _keep(pool, connection):
            connection.close()
            return


def _places(pool: Any) -> list[Any]:
    """The idle connections, and None for each that is still to be made; of a pool that was closed []."""
    places = pool.pool
    return [] if places is None else list(places.queue)


def _keep(pool: Any, connection: Any) -> bool:
    """Put a connection in the place of one that is still to be made. False where there is none, or no pool any more."""
    places = pool.pool
    if places is None:
        return False
    with places.mutex:  # as ``queue`` does it; nobody is to be woken, since there are no more than before
        if None not in places.queue:
            return False
        places.queue.remove(None)
        places.queue.append(connection)
    # Whoever closed it meanwhile has emptied it, perhaps before this one came.
    return pool.pool is places


def give_back(pool: Any, connection: Any, *, reusable: bool) -> None:
    """As urllib3: what is not reusable is closed, and leaves its place to a new one."""
    if not reusable:
        connection.close()
    pool._put_conn(connection if reusable else None)


def _as_botocore(error: BaseException, url: str) -> Exception:
    if isinstance(error, TimeoutError):
        return boto.ReadTimeoutError(endpoint_url=url, error=error)
    if isinstance(error, ssl.SSLError):
        return boto.SSLError(endpoint_url=url, error=error)
    return boto.ConnectionClosedError(endpoint_url=url, error=error, request=None)
