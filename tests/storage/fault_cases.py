"""The faults and the requests of the fault matrix: which request meets which fault, as data."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event, Thread
from typing import Literal

from servers.faults import Fault, answer, flip, hang, reset, trickle, truncate
from servers.proxy import Proxy, Rule

SMALL = 1000
MEDIUM = 3_000_000  # one PUT that is streamed from the file, and waits for the store's go-ahead
LARGE = 20_000_000  # two parts: 16 MiB, and the rest
PART = 4 * 1024 * 1024  # the default of part-size, and the length of each request for five of them
XML = 40  # bytes into an answer that is XML: past its first line in none

Needs = Literal["", "sent", "received"]


@dataclass(frozen=True)
class Request:
    """One request of an operation. ``sent`` and ``received`` are the bytes of its bodies, 0 where there is none."""

    name: str
    operation: str  # a method of ``fault_matrix.Bench``
    size: int  # of the blob
    method: str
    target: str
    sent: int = 0
    received: int = 0


REQUESTS = {
    "Opening": [
        Request("HeadBucket", "opening", SMALL, "HEAD", ""),
        Request("GET of the marker", "opening", SMALL, "GET", ".s3blobs.json", received=80),
        Request("PUT of the marker", "first_opening", SMALL, "PUT", ".s3blobs.json", sent=60),
    ],
    "Committing": [
        Request("PUT of 1 kB", "commit", SMALL, "PUT", "/blobs/", sent=SMALL),
        Request("PUT of 3 MB", "commit", MEDIUM, "PUT", "/blobs/", sent=MEDIUM),
        Request("CreateMultipartUpload", "commit", LARGE, "POST", "?uploads", received=XML),
        Request("UploadPart 1", "commit", LARGE, "PUT", "partNumber=1", sent=16 * 1024 * 1024),
        Request("UploadPart 2", "commit", LARGE, "PUT", "partNumber=2", sent=LARGE - 16 * 1024 * 1024),
        Request("CompleteMultipartUpload", "commit", LARGE, "POST", "uploadId=", sent=100, received=XML),
        Request("HEAD of a restored blob", "restore", SMALL, "HEAD", "/blobs/"),
    ],
    "Aborting": [
        Request("DELETE of one object", "abort_one", SMALL, "DELETE", "/blobs/"),
        Request("DeleteObjects", "abort_two", SMALL, "POST", "?delete", sent=100, received=XML),
        Request("AbortMultipartUpload", "abort_parts", LARGE, "DELETE", "uploadId="),
    ],
    "Reading": [
        Request("GET of 1 kB", "read", SMALL, "GET", "/blobs/", received=SMALL),
        Request("GET of 3 MB", "read", MEDIUM, "GET", "/blobs/", received=MEDIUM),
        Request("GET of 20 MB by parts", "read", LARGE, "GET", "/blobs/", received=PART),
    ],
}

RATE = 2000.0  # bytes per second of a slow trickle: 1 kB takes half a second, a part hours


@dataclass(frozen=True)
class Trouble:
    """One fault, once or for ever. ``needs`` a body in that direction."""

    name: str
    action: str
    times: float = 1
    needs: Needs = ""

    def applies_to(self, request: Request) -> bool:
        return not self.needs or bool(getattr(request, self.needs))

    def fault(self, request: Request) -> Fault:
        half = (request.sent if self.needs == "sent" else request.received) // 2
        return {
            "503": answer(503, "SlowDown"),
            "500": answer(500, "InternalError"),
            "403": answer(403, "AccessDenied"),
            "reset before": reset("before"),
            "reset in request": reset("request", half),
            "reset of answer": reset("answer"),
            "reset in response": reset("response", half),
            "reset after": reset("after"),
            "truncate": truncate(half),
            "flip request": flip(half, "request"),
            "flip response": flip(half),
            "hang": hang("before"),
            "hang in response": hang("response", half),
            "refused": hang("before"),  # until the proxy is down, at once
            "black hole": hang("before"),
            "trickle request": trickle(RATE, "request"),
            "trickle response": trickle(RATE),
        }[self.action]

    @contextmanager
    def strikes(self, proxy: Proxy, request: Request) -> Iterator[Rule]:
        """Within the block the request meets the fault; afterwards all is well again."""
        rule = proxy.fail(self.fault(request), method=request.method, target=request.target, times=self.times)
        over = Event()
        outage = {"refused": proxy.down, "black hole": proxy.black_hole}.get(self.action)

        def watch() -> None:
            while not over.wait(0.002):
                if rule.hits:
                    outage()
                    return

        watcher = Thread(target=watch) if outage else None
        if watcher:
            watcher.start()
        try:
            yield rule
        finally:
            over.set()
            if watcher:
                watcher.join()
            proxy.forgive()
            if outage:
                proxy.down()
                time.sleep(0.1)  # what a black hole holds is lost with its connections, and not sent late
            proxy.up()


EVER = math.inf
TROUBLES = [
    Trouble("503 once", "503"),
    Trouble("503 for ever", "503", EVER),
    Trouble("500 once", "500"),
    Trouble("403", "403", EVER),
    Trouble("reset before the request", "reset before"),
    Trouble("reset in the request's body", "reset in request", needs="sent"),
    Trouble("reset instead of the answer", "reset of answer"),
    Trouble("reset in the response's body", "reset in response", needs="received"),
    Trouble("reset after the response", "reset after"),
    Trouble("truncated body", "truncate", needs="received"),
    Trouble("truncated body for ever", "truncate", EVER, needs="received"),
    Trouble("wrong byte sent", "flip request", needs="sent"),
    Trouble("wrong byte sent, for ever", "flip request", EVER, needs="sent"),
    Trouble("wrong byte received", "flip response", needs="received"),
    Trouble("wrong byte received, for ever", "flip response", EVER, needs="received"),
    Trouble("hang", "hang"),
    Trouble("hang for ever", "hang", EVER),
    Trouble("hang in the body for ever", "hang in response", EVER, needs="received"),
    Trouble("connections refused", "refused", EVER),
    Trouble("black hole", "black hole", EVER),
    Trouble("slow trickle, sending", "trickle request", EVER, needs="sent"),
    Trouble("slow trickle, receiving", "trickle response", EVER, needs="received"),
]

CASES = [
    (trouble, request)
    for requests in REQUESTS.values()
    for request in requests
    for trouble in TROUBLES
    if trouble.applies_to(request)
]
