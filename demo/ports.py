"""The port on which the demo serves its site."""

from __future__ import annotations

import errno
import socket

FIRST = 8080
LAST = 8179


class PortTaken(Exception):
    """No port for the site; the message is one sentence."""


def site_port(wanted: int | None) -> int:
    """``wanted``, or the next free port from 8080. Raises PortTaken."""
    if wanted is not None:
        if not is_free(wanted):
            raise PortTaken(f"port {wanted} is taken or not allowed; leave out --port to take the next free one")
        return wanted
    for port in range(FIRST, LAST + 1):
        if is_free(port):
            return port
    raise PortTaken(f"every port from {FIRST} to {LAST} is taken; name another one with --port")


def is_free(port: int) -> bool:
    """True when nobody listens on ``port``, on IPv6 neither.

    The site listens on 127.0.0.1 only. But ``localhost`` may mean ``::1`` first, and a browser turns to 127.0.0.1 only
    where nobody answers there: another program on ``[::1]:port`` would be taken for the site.
    """
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        try:
            with socket.socket(family) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((address, port))
        except OSError as error:
            if family == socket.AF_INET or error.errno == errno.EADDRINUSE:
                return False  # without IPv6 the socket or the address is refused for another reason
    return True
