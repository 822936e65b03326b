"""HTTP as the tests need it: every header seen, nothing followed or decoded by itself."""

from __future__ import annotations

import base64
import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

TUS_CHUNK = 8 * 1024 * 1024


@dataclass(frozen=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class WebClient:
    """Requests to one Plone site, as one user or as Anonymous.

    The ``Host`` header is localhost: Plone shows no theme on 127.0.0.1.

    :param site: the id of the Plone site, or "" for the application root
    :param user: login name and password for HTTP basic authentication; None is Anonymous
    """

    port: int
    site: str
    user: tuple[str, str] | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}/{self.site}"

    def request(
        self, method: str, path: str, body: bytes | BinaryIO | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)
        target = "/" + "/".join(part for part in (self.site, path.lstrip("/")) if part)
        sent = {"Host": f"localhost:{self.port}", **(headers or {})}
        if self.user:
            sent["Authorization"] = "Basic " + base64.b64encode(":".join(self.user).encode()).decode()
        try:
            connection.request(method, target, body, sent)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Answer:
        return self.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})

    def api(self, method: str, path: str, data: Any = None, *, expect: int) -> Any:
        """A call of plone.restapi; the decoded answer, None where there is none."""
        body = None if data is None else json.dumps(data).encode()
        answer = self.request(method, path, body, {"Accept": "application/json", "Content-Type": "application/json"})
        assert answer.status == expect, (answer.status, answer.body[:2000])
        return answer.json if answer.body else None

    def add(self, folder: str, portal_type: str, name: str, **fields: Any) -> str:
        """Create content by a POST of JSON; its path in the site."""
        created = self.api("POST", folder, {"@type": portal_type, "id": name, "title": name, **fields}, expect=201)
        return self.path_of(created["@id"])

    def upload_by_tus(self, folder: str, file: BinaryIO, size: int, filename: str, content_type: str) -> str:
        """Create content by plone.restapi's resumable upload, in several chunks; its path in the site."""
        metadata = {"filename": filename, "content-type": content_type, "@type": "File"}
        pairs = [f"{name} {base64.b64encode(value.encode()).decode()}" for name, value in metadata.items()]
        accept = {"Accept": "application/json", "Tus-Resumable": "1.0.0"}
        begun = self.request(
            "POST",
            f"{folder}/@tus-upload",
            headers={**accept, "Upload-Length": str(size), "Upload-Metadata": ",".join(pairs)},
        )
        assert begun.status == 201, begun.body
        upload = self.path_of(begun.headers["Location"])
        offset = 0
        while chunk := file.read(TUS_CHUNK):
            answer = self.request(
                "PATCH",
                upload,
                chunk,
                {**accept, "Content-Type": "application/offset+octet-stream", "Upload-Offset": str(offset)},
            )
            assert answer.status == 204, answer.body
            offset += len(chunk)
            assert answer.headers["Upload-Offset"] == str(offset)
        assert offset == size
        return self.path_of(answer.headers["Location"])

    def path_of(self, url: str) -> str:
        """The part of one of the site's URLs after the site."""
        assert url.startswith(self.url + "/"), url
        return url[len(self.url) + 1 :]


def json_file(data: bytes, filename: str, content_type: str) -> dict[str, str]:
    """A file as plone.restapi takes it inside JSON."""
    encoded = base64.b64encode(data).decode()
    return {"data": encoded, "encoding": "base64", "filename": filename, "content-type": content_type}
