"""An edge of a CDN as CloudFront's: checks the signature of an address, and fetches what it names from the bucket.

A server of its own, in threads. ``served`` has the path of each request that it answered.
"""

from __future__ import annotations

import base64
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

_OVERRIDES = {
    "response-content-type": "ResponseContentType",
    "response-content-disposition": "ResponseContentDisposition",
    "response-cache-control": "ResponseCacheControl",
}


class Edge:
    """``below``: the path under which it has the prefix ``prefix`` of the bucket."""

    def __init__(self, client: Any, bucket: str, prefix: str, key: RSAPublicKey, below: str) -> None:
        self._client, self._bucket, self._prefix, self._key, self._below = client, bucket, prefix, key, below
        self.served: list[str] = []
        edge = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                edge._answer(self)

            def log_message(self, *arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}{self._below}"

    def __enter__(self) -> Edge:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        host = request.headers["Host"]
        if not self._may(f"http://{host}{request.path}"):
            self._send(request, 403, {}, b"")
            return
        parts = urlsplit(request.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        asked = {_OVERRIDES[name]: value for name, value in query.items() if name in _OVERRIDES}
        if "Range" in request.headers:
            asked["Range"] = request.headers["Range"]
        key = self._prefix + unquote(parts.path.removeprefix(self._below))
        found = self._client.get_object(Bucket=self._bucket, Key=key, **asked)
        told = found["ResponseMetadata"]["HTTPHeaders"]
        names = ("content-type", "content-disposition", "cache-control", "content-range")
        headers = {name: told[name] for name in names if name in told}
        self.served.append(parts.path)
        self._send(request, 206 if "content-range" in headers else 200, headers, found["Body"].read())

    def _may(self, url: str) -> bool:
        unsigned, _, rest = url.replace("?Expires=", "&Expires=").partition("&Expires=")
        until, _, rest = rest.partition("&Signature=")
        text, _, pair = rest.partition("&Key-Pair-Id=")
        if not until.isdigit() or int(until) < time.time() or pair != "KTEST":
            return False
        condition = {"DateLessThan": {"AWS:EpochTime": int(until)}}
        policy = json.dumps({"Statement": [{"Resource": unsigned, "Condition": condition}]}, separators=(",", ":"))
        signature = base64.b64decode(text.translate(str.maketrans("-_~", "+=/")))
        try:
            self._key.verify(signature, policy.encode(), padding.PKCS1v15(), hashes.SHA1())
        except InvalidSignature:
            return False
        return True

    def _send(self, request: BaseHTTPRequestHandler, status: int, headers: dict[str, str], body: bytes) -> None:
        request.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(body)
