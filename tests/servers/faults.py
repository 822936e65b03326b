"""What can go wrong between a client and an S3 server, as values for ``Proxy.fail``.

``where`` says at which stage of one request: ``before`` (the request is not passed on), ``request`` (within its body),
``answer`` (the server has done the work, its answer does not come through), ``response`` (within the response's body),
``after`` (once the whole response came through). ``at`` counts payload bytes; a body that is shorter meets the fault at
its end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

Where = Literal["before", "request", "answer", "response", "after"]


class Cut(Exception):
    """The connection ends here, by RST or by FIN."""

    def __init__(self, *, rst: bool) -> None:
        super().__init__(rst)
        self.rst = rst


@dataclass(frozen=True)
class Fault:
    action: Literal["answer", "reset", "close", "flip", "hang", "trickle"]
    where: Where
    at: int = 0
    status: int = 0
    code: str = ""
    rate: float = 0.0
    seconds: float | None = None


def answer(status: int = 503, code: str = "SlowDown") -> Fault:
    """The proxy answers itself, with S3's XML: 503 SlowDown, 500 InternalError, 403 AccessDenied."""
    return Fault("answer", "before", status=status, code=code)


def reset(where: Where, at: int = 0) -> Fault:
    """TCP reset."""
    return Fault("reset", where, at)


def truncate(at: int) -> Fault:
    """The response's body ends after ``at`` bytes by an orderly close; its Content-Length promised more."""
    return Fault("close", "response", at)


def flip(at: int, where: Literal["request", "response"] = "response") -> Fault:
    """One byte of the body arrives as another one."""
    return Fault("flip", where, at)


def hang(where: Where = "before", at: int = 0, seconds: float | None = None) -> Fault:
    """Nothing more comes for ``seconds``, then it goes on; None: until the proxy is closed."""
    return Fault("hang", where, at, seconds=seconds)


def trickle(rate: float, where: Literal["request", "response"] = "response") -> Fault:
    """The body passes at ``rate`` bytes per second."""
    return Fault("trickle", where, rate=rate)


class Shaper:
    """Applies a fault to one body. Used by one thread.

    :param pause: waits for some seconds (None: for ever), raising Cut when the connection is over
    """

    def __init__(self, fault: Fault | None, where: Where, pause: Callable[[float | None], None]) -> None:
        self._fault = fault if fault and fault.where == where else None
        self._pause = pause
        self._position = 0

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """``data`` as it is to be passed on."""
        fault, start = self._fault, self._position
        self._position += len(data)
        if fault is None:
            yield data
        elif fault.action == "trickle":
            step = max(1, int(fault.rate / 20))
            for offset in range(0, len(data), step):
                piece = data[offset : offset + step]
                self._pause(len(piece) / fault.rate)
                yield piece
        elif fault.at >= self._position:
            yield data
        elif fault.action == "flip":
            place = fault.at - start
            self._fault = None
            yield data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :]
        else:
            if data[: fault.at - start]:
                yield data[: fault.at - start]
            self.end()
            yield data[fault.at - start :]

    def end(self) -> None:
        """The body is over, or the place of the fault is reached."""
        fault, self._fault = self._fault, None
        if fault:
            strike(fault, self._pause)


def strike(fault: Fault, pause: Callable[[float | None], None]) -> None:
    """Reset, close or hang here; raises Cut unless the fault is a hang that ends."""
    if fault.action in ("reset", "close"):
        raise Cut(rst=fault.action == "reset")
    if fault.action == "hang":
        pause(fault.seconds)
