"""Sends what the staging area signed, as a browser does: nothing but what the request names."""

from __future__ import annotations

import http.client
import ssl
from contextlib import closing
from urllib.parse import urlsplit


def send(request, data, **more) -> int:
    """The status of the answer. ``more``: headers besides those that are named; None leaves one out."""
    url = urlsplit(request.url)
    if url.scheme == "https":
        connection = http.client.HTTPSConnection(url.netloc, timeout=60, context=ssl._create_unverified_context())
    else:
        connection = http.client.HTTPConnection(url.netloc, timeout=60)
    headers = {name: value for name, value in request.headers.items() if name != "Content-Length"} | more
    headers = {name: value for name, value in headers.items() if value is not None}
    with closing(connection):
        connection.request(request.method, f"{url.path}?{url.query}", data, headers)
        response = connection.getresponse()
        response.read()
        return response.status


def send_all(area, upload, data) -> None:
    """The whole file, in one request or in parts."""
    if not upload.parts:
        assert send(area.put_request(upload, seconds=600), data) == 200
    else:
        send_parts(area, upload, data, range(1, upload.parts + 1))


def send_parts(area, upload, data, numbers) -> None:
    for number in numbers:
        start = (number - 1) * upload.part_size
        request = area.part_request(upload, number, seconds=600)
        assert send(request, data[start : start + upload.size_of(number)]) == 200
