"""A store that lists very many objects, without having them: ``python -m benchmarks.listed COUNT`` prints its address.
With a second argument one of so many is not the object that the database uses; 0: of none.

It answers ListObjectsV2 with pages as Amazon S3 writes them, of keys that are computed, and keeps the few small objects
that garbage collection reads and writes in memory. No signature is checked. It ends with its standard input. A page of
a thousand keys takes it some 6 ms, so that what is measured is the client.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import threading
from bisect import bisect_left, bisect_right
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

REPOSITORY = Path(__file__).resolve().parents[1]
BUCKET = "listed"
FIRST_OID = 1  # the root's is 0
DEAD_EACH = 100  # one of so many objects is not the one that the database uses
LAST_MONTH = datetime(2026, 1, 1, tzinfo=UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
_SPREAD = 0x9E3779B97F4A7C15F39CC0605CEDC835  # odd, so that no two numbers get one name
_ALL_BITS = (1 << 128) - 1
_LINE = (
    "<Contents><Key>%s</Key><LastModified>%s</LastModified><ETag>&quot;%s&quot;</ETag>"
    "<ChecksumAlgorithm>CRC32</ChecksumAlgorithm><ChecksumType>FULL_OBJECT</ChecksumType>"
    "<Size>%d</Size><StorageClass>STANDARD</StorageClass></Contents>"
)
_ROOT = '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'


def name(number: int, *, dead: bool = False) -> str:
    """Of the object of that number, as its record has it; ``dead``: of the one that the bucket has instead."""
    return f"{(2 * number + dead) * _SPREAD & _ALL_BITS:032x}"


def key(number: int, dead_each: int) -> str:
    dead = dead_each > 0 and number % dead_each == dead_each - 1
    return f"blobs/{number + FIRST_OID:016x}/{name(number, dead=dead)}"


class Keys:
    """The computed keys, as a sorted sequence that is not in memory."""

    def __init__(self, count: int, dead_each: int) -> None:
        self._count = count
        self._dead_each = dead_each

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> str:
        return key(number, self._dead_each)


class Store(BaseHTTPRequestHandler):
    """S3 of one bucket, as far as garbage collection asks for it."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # an answer leaves by one write
    keys: Keys
    small: dict[str, tuple[bytes, str]]
    lock: threading.Lock

    def log_message(self, *arguments: object) -> None:
        pass

    def _asked(self) -> tuple[str, dict[str, str]]:
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        return unquote(parts.path).removeprefix(f"/{BUCKET}").lstrip("/"), query

    def _send(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for header, value in headers.items():
            self.send_header(header, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:  # noqa: N802 - so http.server wants it
        asked, query = self._asked()
        if "list-type" in query:
            self._send(200, self._page(query).encode())
        elif "uploads" in query:
            self._send(
                200, b"<ListMultipartUploadsResult><IsTruncated>false</IsTruncated></ListMultipartUploadsResult>"
            )
        elif asked in self.small:
            body = self.small[asked][0]
            self._send(200, body, ETag=_etag(body))
        else:
            self._send(404, b"<Error><Code>NoSuchKey</Code></Error>")

    def do_HEAD(self) -> None:  # noqa: N802
        self._send(200 if self._asked()[0] in ("", *self.small) else 404)

    def do_PUT(self) -> None:  # noqa: N802
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with self.lock:
            self.small[self._asked()[0]] = body, datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
        self._send(200, ETag=_etag(body))

    def do_POST(self) -> None:  # noqa: N802
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        with self.lock:
            for part in body.split("<Key>")[1:]:
                self.small.pop(unquote(part.partition("</Key>")[0]), None)
        self._send(200, b"<DeleteResult/>")

    def _page(self, query: dict[str, str]) -> str:
        prefix = query.get("prefix", "")
        after = query.get("continuation-token") or query.get("start-after", "")
        most = int(query.get("max-keys", 1000))
        start = bisect_right(self.keys, after)
        start = max(start, bisect_left(self.keys, prefix))
        end = min(len(self.keys), start + most + 1)
        found = [
            (made, 65536, made[-32:], LAST_MONTH)
            for made in map(self.keys.__getitem__, range(start, end))
            if made.startswith(prefix)
        ]
        with self.lock:
            found += [
                (name, len(body), hashlib.md5(body).hexdigest(), modified)
                for name, (body, modified) in self.small.items()
                if name.startswith(prefix) and name > after
            ]
        found.sort()
        listed = found[:most]
        more = len(found) > most
        lines = "".join([_LINE % (escape(name), modified, etag, size) for name, size, etag, modified in listed])
        token = f"<NextContinuationToken>{escape(listed[-1][0])}</NextContinuationToken>" if more else ""
        return (
            f'<?xml version="1.0" encoding="UTF-8"?>\n{_ROOT}<Name>{BUCKET}</Name><Prefix>{escape(prefix)}</Prefix>'
            f"<KeyCount>{len(listed)}</KeyCount><MaxKeys>{most}</MaxKeys><EncodingType>url</EncodingType>"
            f"<IsTruncated>{str(more).lower()}</IsTruncated>{token}{lines}</ListBucketResult>"
        )


def _etag(body: bytes) -> str:
    return f'"{hashlib.md5(body).hexdigest()}"'


class Listed:
    """Such a store in a process of its own, from ``with`` to its end."""

    def __init__(self, count: int, dead_each: int = DEAD_EACH) -> None:
        self._command = [sys.executable, "-m", "benchmarks.listed", str(count), str(dead_each)]

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.endpoint_url = self._process.stdout.readline().strip()
        return self

    def __exit__(self, *error: object) -> None:
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


def main(count: int, dead_each: int = DEAD_EACH) -> None:
    made: dict[str, Any] = {"keys": Keys(count, dead_each), "small": {}, "lock": threading.Lock()}
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("StoreOfThisRun", (Store,), made))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    sys.stdin.read()
    server.shutdown()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
