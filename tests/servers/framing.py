"""HTTP/1.1 messages as the proxy needs them: a head, and a body passed on in pieces as it arrives (RFC 9112)."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import parse_qs

PIECE = 64 * 1024  # bytes read at a time
HEAD_LIMIT = 64 * 1024

# What tells S3's operations apart, by method: the first whose parameters are all in the query.
OPERATIONS = {
    "GET": [
        ("uploads", "ListMultipartUploads"),
        ("uploadId", "ListParts"),
        ("list-type", "ListObjectsV2"),
        ("lifecycle", "GetBucketLifecycleConfiguration"),
    ],
    "PUT": [("partNumber", "UploadPart")],
    "POST": [
        ("uploads", "CreateMultipartUpload"),
        ("uploadId", "CompleteMultipartUpload"),
        ("delete", "DeleteObjects"),
    ],
    "DELETE": [("uploadId", "AbortMultipartUpload")],
    "HEAD": [],
}


class Malformed(ValueError):
    """Bytes that are no HTTP message."""


@dataclass(frozen=True)
class Head:
    """A request or status line with its header fields, and the very bytes they came in."""

    raw: bytes
    line: str
    fields: dict[str, str]  # names in lower case

    @classmethod
    def parse(cls, raw: bytes) -> Head:
        line, *rest = raw.decode("latin-1").rstrip("\r\n").split("\r\n")
        fields = {}
        for field in rest:
            name, colon, value = field.partition(":")
            if not colon:
                raise Malformed(f"no header field: {field[:60]!r}")
            fields[name.strip().lower()] = value.strip()
        if len(line.split(" ", 2)) < 2:
            raise Malformed(f"no first line: {line[:60]!r}")
        return cls(raw, line, fields)

    @property
    def method(self) -> str:
        return self.line.split(" ")[0]

    @property
    def target(self) -> str:
        return self.line.split(" ")[1]

    @property
    def status(self) -> int:
        return int(self.line.split(" ")[1])

    @property
    def chunked(self) -> bool:
        return "chunked" in self.fields.get("transfer-encoding", "").lower()

    @property
    def closes(self) -> bool:
        return "close" in self.fields.get("connection", "").lower() or "HTTP/1.0" in self.line

    def has_request_body(self) -> bool:
        return self.chunked or int(self.fields.get("content-length", 0)) > 0

    def operation(self) -> str:
        """S3's name of the request, as far as method, path and query tell."""
        path, _, query = self.target.partition("?")
        parameters = parse_qs(query, keep_blank_values=True)
        for parameter, operation in OPERATIONS.get(self.method, []):
            if parameter in parameters:
                return operation + ("Copy" if operation == "UploadPart" and "x-amz-copy-source" in self.fields else "")
        if "x-amz-copy-source" in self.fields:
            return "CopyObject"
        thing = "Object" if "/" in path.strip("/") else "Bucket"
        return {"PUT": "Put", "POST": "Post"}.get(self.method, self.method.capitalize()) + thing


class Reader:
    """Reads messages from a socket; only one thread at a time."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._buffer = b""

    def pending(self) -> bool:
        """Whether there are bytes that a poll of the socket would not show."""
        return bool(self._buffer) or bool(getattr(self.sock, "pending", int)())

    def head(self) -> Head | None:
        """The next head; None when the connection ended before its first byte."""
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            if len(self._buffer) > HEAD_LIMIT:
                raise Malformed("the head does not end")
            more = self.sock.recv(PIECE)
            if not more:
                if self._buffer:
                    raise ConnectionResetError("ended within a head")
                return None
            self._buffer += more
        raw, self._buffer = self._buffer[: end + 4], self._buffer[end + 4 :]
        return Head.parse(raw)

    def body(self, head: Head, *, until_end: bool = False) -> Iterator[tuple[bool, bytes]]:
        """Pairs (is payload, bytes), in order: all bytes of the body, its framing told apart from its payload.

        :param until_end: without a length the body lasts until the connection ends (a response's)
        """
        if head.chunked:
            yield from self._chunks()
        elif "content-length" in head.fields:
            yield from self._exactly(int(head.fields["content-length"]))
        elif until_end:
            while piece := self._some(PIECE):
                yield True, piece

    def _chunks(self) -> Iterator[tuple[bool, bytes]]:
        while True:
            line = self._line()
            yield False, line
            size = int(line.split(b";")[0], 16)
            if size == 0:
                break
            yield from self._exactly(size)
            yield False, self._line()
        while (line := self._line()) != b"\r\n":  # trailers
            yield False, line
        yield False, line

    def _exactly(self, size: int) -> Iterator[tuple[bool, bytes]]:
        while size:
            piece = self._some(min(size, PIECE))
            if not piece:
                raise ConnectionResetError("ended within a body")
            size -= len(piece)
            yield True, piece

    def _line(self) -> bytes:
        while (end := self._buffer.find(b"\r\n")) < 0:
            more = self.sock.recv(PIECE)
            if not more or len(self._buffer) > HEAD_LIMIT:
                raise ConnectionResetError("ended within a line")
            self._buffer += more
        line, self._buffer = self._buffer[: end + 2], self._buffer[end + 2 :]
        return line

    def _some(self, most: int) -> bytes:
        if not self._buffer:
            return self.sock.recv(most)
        piece, self._buffer = self._buffer[:most], self._buffer[most:]
        return piece
