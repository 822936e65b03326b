"""Plone's forms as a browser without a script sends them: read from their page, changed, and sent."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass, field
from typing import Any

from lxml import html
from payloads import Payload
from web_client import Answer, WebClient


@dataclass
class Form:
    """``values``: of all its inputs, as they are on the page; ``files``: what is chosen, by the input's name."""

    client: WebClient
    path: str
    page: Any
    values: dict[str, str]
    files: dict[str, Payload] = field(default_factory=dict)

    @classmethod
    def at(cls, client: WebClient, path: str) -> Form:
        answer = client.get(path)
        assert answer.status == 200, answer.body[-2000:]
        return cls.of(client, path, answer)

    @classmethod
    def of(cls, client: WebClient, path: str, answer: Answer) -> Form:
        page = html.fromstring(answer.body.decode())
        form = next(one for one in page.forms if one.get("id") == "form" or one.xpath(".//input[@type='file']"))
        values = {
            name: value
            for name, value in form.form_values()
            if not name.startswith("form.buttons.") and not isinstance(value, bytes)
        }
        return cls(client, path, page, values)

    def element(self, name: str) -> dict[str, Any] | None:
        """What the element of an input's uploader is told; None where it has none."""
        for one in self.page.xpath("//*[@data-s3blobs-uploader]"):
            told = json.loads(one.get("data-s3blobs-uploader"))
            if told["input"] == name:
                return told
        return None

    def choose_upload(self, name: str, token: str) -> None:
        """As the script does when all of it was sent."""
        self.values[f"{name}.action"] = "direct"
        self.values[f"{name}.upload"] = token

    def choose_file(self, name: str, payload: Payload) -> None:
        if f"{name}.action" in self.values:
            self.values[f"{name}.action"] = "replace"
        self.files[name] = payload

    def send(self, happening: str = "", button: str = "save", client: WebClient | None = None) -> Answer:
        boundary = secrets.token_hex(16)
        parts = []
        for name, value in {**self.values, f"form.buttons.{button}": "Save"}.items():
            parts.append(f'Content-Disposition: form-data; name="{name}"\r\n\r\n{value}'.encode())
        for name, payload in self.files.items():
            head = f'Content-Disposition: form-data; name="{name}"; filename="{payload.filename}"\r\n'
            parts.append(f"{head}Content-Type: {payload.content_type}\r\n\r\n".encode() + payload.data)
        lines = b"".join(b"--%s\r\n%s\r\n" % (boundary.encode(), part) for part in parts)
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        if happening:
            headers["X-Test"] = happening
        client = client or self.client
        return client.request("POST", self.path, lines + b"--%s--\r\n" % boundary.encode(), headers)

    def saved(self, happening: str = "") -> str:
        """Send it; the path of the content that it leads to."""
        answer = self.send(happening)
        assert answer.status == 302, errors_of(answer) or answer.body[-3000:]
        return self.client.path_of(answer.headers["Location"]).removesuffix("/view")

    def shown_again(self, happening: str = "") -> Form:
        answer = self.send(happening)
        assert answer.status == 200, (answer.status, answer.headers.get("Location"))
        return Form.of(self.client, self.path, answer)

    @property
    def errors(self) -> str:
        return errors_of_page(self.page)


def errors_of_page(page: Any) -> str:
    found = page.xpath("//*[contains(@class, 'invalid-feedback') or contains(@class, 'error')]")
    return " | ".join(dict.fromkeys(" ".join(one.text_content().split()) for one in found))


def errors_of(answer: Answer) -> str:
    return errors_of_page(html.fromstring(answer.body.decode()))
