"""What a browser sent to the staging area."""

from __future__ import annotations

import http.client
from urllib.parse import urlsplit


def sent(area, data: bytes):
    """The ``Upload`` that was begun for these bytes and got them, in one request."""
    upload = area.begin(len(data), single=True)
    signed = area.put_request(upload, seconds=600)
    parts = urlsplit(signed.url)
    connection = http.client.HTTPConnection(parts.netloc)
    connection.request("PUT", f"{parts.path}?{parts.query}", data, dict(signed.headers))
    assert connection.getresponse().status == 200
    connection.close()
    return upload
