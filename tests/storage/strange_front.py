"""A front before a real S3 server that does what some stores do: another clock, regions, headers that are not known.

It checks no signature itself: a request goes to the server behind it byte for byte, but for headers that the store
that it plays does not know. Since botocore signs the names of those, the server behind is asked with them removed and
signed anew, by the test's own keys; a form's policy is left to that server.
"""

from __future__ import annotations

import http.client
import ssl
import threading
import time
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

# Beginnings of names in lower case.
PASSED_ON = (
    "content-type",
    "content-md5",
    "content-disposition",
    "range",
    "if-",
    "x-amz-meta",
    "x-amz-checksum",
    "x-amz-server",
    "x-amz-copy",
)


@dataclass
class Strange:
    """What is strange; times in seconds."""

    clock: float = 0.0  # by which this store is ahead
    refuses_skew: bool = False  # as Amazon does, over 15 minutes
    region: str = ""  # the only one whose signatures are taken
    ignores: tuple[str, ...] = ()  # beginnings of names of request headers, in lower case
    refuses: tuple[str, ...] = ()  # the same, answered 501
    quiet_parts: bool = False  # whether answers to UploadPart and UploadPartCopy say nothing of encryption
    seen: list[str] = field(default_factory=list)


class Front:
    """Listens on a port of 127.0.0.1 until ``close()``; over TLS with a certificate of ``ca``."""

    def __init__(self, server, ca=None) -> None:
        self.strange = Strange()
        handler = type("Handler", (_Handler,), {"strange": self.strange, "server_behind": server})
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._http.daemon_threads = True
        self.scheme = "http"
        if ca is not None:
            certificate = ca.issue("front")
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate.chain, certificate.key)
            self._http.socket = context.wrap_socket(self._http.socket, server_side=True)
            self.scheme = "https"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def endpoint_url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self._http.server_address[1]}"

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(5)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    strange: Strange
    server_behind = None

    def log_message(self, *args) -> None:
        pass

    def _handle(self) -> None:
        strange = self.strange
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        strange.seen.append(f"{self.command} {urlsplit(self.path).path}")
        names = [name.lower() for name in self.headers]
        signed_at = self.headers.get("x-amz-date", "")
        authorization = self.headers.get("authorization", "")
        if strange.refuses_skew and signed_at and abs(strange.clock) > 900:
            self._refuse(403, "RequestTimeTooSkewed", "The difference is too large.")
        elif strange.region and authorization and f"/{strange.region}/s3/" not in authorization:
            message = f"The authorization header is malformed; the region is wrong; expecting '{strange.region}'"
            self._refuse(400, "AuthorizationHeaderMalformed", message, strange.region)
        elif any(name.startswith(strange.refuses) for name in names):
            self._refuse(501, "NotImplemented", "A header you provided implies functionality that is not implemented")
        else:
            self._pass_on(body)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _handle

    def _pass_on(self, body: bytes) -> None:
        behind = self.server_behind
        kept = {}
        for name, value in self.headers.items():
            lower = name.lower()
            if lower.startswith(PASSED_ON) and not lower.startswith(self.strange.ignores):
                kept[name] = value
        path = self.path
        if "X-Amz-Signature=" in path:  # a presigned URL: what it signs is kept, how it does is not
            parts = urlsplit(path)
            query = [pair for pair in parts.query.split("&") if not pair.startswith("X-Amz-")]
            path = parts.path + ("?" + "&".join(query) if query else "")
        request = AWSRequest(self.command, behind.endpoint_url + path, headers=kept, data=body)
        S3SigV4Auth(Credentials(behind.access_key, behind.secret_key), "s3", behind.region).add_auth(request)
        target = urlsplit(behind.endpoint_url)
        if target.scheme == "https":
            trusted = ssl.create_default_context(cafile=str(behind.ca_bundle))
            connection = http.client.HTTPSConnection(target.hostname, target.port, timeout=20, context=trusted)
        else:
            connection = http.client.HTTPConnection(target.hostname, target.port, timeout=20)
        try:
            connection.request(self.command, path, body, dict(request.headers.items()))
            answer = connection.getresponse()
            data = answer.read()
            headers = {
                name: value
                for name, value in answer.getheaders()
                if name.lower() not in ("date", "connection", "transfer-encoding", "content-length", "server")
            }
            if self.strange.quiet_parts and "partNumber=" in path:
                headers = {name: value for name, value in headers.items() if not name.lower().startswith("x-amz-serv")}
            headers["Content-Length"] = answer.getheader("content-length") or str(len(data))
            if self.strange.region:
                headers["x-amz-bucket-region"] = self.strange.region
            self._answer(answer.status, headers, data)
        finally:
            connection.close()

    def _refuse(self, status: int, code: str, message: str, region: str = "") -> None:
        named = f"<Region>{region}</Region>" if region else ""
        body = f"<Error><Code>{code}</Code><Message>{message}</Message>{named}</Error>".encode()
        data = b"" if self.command == "HEAD" else body
        self._answer(status, {"Content-Type": "application/xml", "Content-Length": str(len(data))}, data)

    def _answer(self, status: int, headers: dict[str, str], data: bytes) -> None:
        self.send_response_only(status)
        self.send_header("Date", formatdate(time.time() + self.strange.clock, usegmt=True))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)
