"""Direct uploads as a browser makes them: signed requests from the site, bytes to the store, and the completion."""

from __future__ import annotations

import http.client
import json
from typing import Any
from urllib.parse import urlsplit

from payloads import Payload
from web_client import Answer, WebClient


def begin(client: WebClient, where: str, payload: Payload, **more: Any) -> dict[str, Any]:
    """The answer of the service that begins an upload: a small one in one request, where nothing else is asked for."""
    if len(payload.data) <= 16 * 1024 * 1024:
        more = {"method": "put", **more}
    asked = {
        "filename": payload.filename,
        "size": len(payload.data),
        "content-type": payload.content_type,
        **more,
    }
    return client.api("POST", f"{where}/@blob-upload", asked, expect=201)


def send_to_store(request: dict[str, Any], data: bytes) -> int:
    """By one signed request, as a browser does, which says itself how long it is; the store's status."""
    parts = urlsplit(request["url"])
    headers = {name: value for name, value in request["headers"].items() if name.lower() != "content-length"}
    connection = http.client.HTTPConnection(parts.netloc, timeout=120)
    try:
        connection.request(request["method"], f"{parts.path}?{parts.query}", data, headers)
        answer = connection.getresponse()
        answer.read()
        return answer.status
    finally:
        connection.close()


def send(client: WebClient, begun: dict[str, Any], data: bytes) -> None:
    """All of it, in one request or in parts, for whose further ones it asks."""
    if begun["method"] == "put":
        assert send_to_store(begun["request"], data) == 200
        return
    size, signed = begun["part-size"], {one["part"]: one for one in begun["requests"]}
    for number in range(1, begun["parts"] + 1):
        if number not in signed:
            told = client.api("PUT", client.path_of(begun["@id"]), {"parts": [number]}, expect=200)
            signed |= {one["part"]: one for one in told["requests"]}
        assert send_to_store(signed[number], data[(number - 1) * size : number * size]) == 200


def upload(client: WebClient, where: str, payload: Payload, **more: Any) -> dict[str, Any]:
    """Begin and send."""
    begun = begin(client, where, payload, **more)
    send(client, begun, payload.data)
    return begun


def complete(client: WebClient, begun: dict[str, Any], happening: str = "", **fields: Any) -> Answer:
    """The answer of the service that completes. ``happening``: see ``completion_inside.py``."""
    headers = {"Accept": "application/json", "Content-Type": "application/json"}
    if happening:
        headers["X-Test"] = happening
    return client.request("POST", client.path_of(begun["@id"]), json.dumps(fields).encode(), headers)
