"""The control panel's forms over HTTP: a client that fills them as a browser without JavaScript would."""

from __future__ import annotations

import re
from dataclasses import dataclass
from html.parser import HTMLParser
from urllib.parse import urlencode

from web_client import Answer, WebClient

FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@dataclass(frozen=True)
class Panel:
    """The pages as one user of one site sees them."""

    client: WebClient

    def get(self, page: str, **query: str) -> Answer:
        return self.client.get(f"@@s3blobstorage-{page}" + (f"?{urlencode(query)}" if query else ""))

    def token(self, page: str) -> str:
        """The authenticator of a page that this user may see."""
        answer = self.get(page)
        assert answer.status == 200, answer.body[:500]
        return re.search(rb'name="_authenticator" value="([0-9a-f]+)"', answer.body)[1].decode()

    def post(self, page: str, fields: dict, *, token: str | None = None, **headers: str) -> Answer:
        """``token``: None takes the page's own; "" sends none, as a foreign page would."""
        token = self.token(page) if token is None else token
        sent = {**fields, **({"_authenticator": token} if token else {})}
        body = urlencode(sent, doseq=True).encode()
        return self.client.request("POST", f"@@s3blobstorage-{page}", body, {**FORM, **headers})


class _Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[str] = []

    def handle_data(self, data: str) -> None:
        self.pieces.append(data)


def text_of(answer: Answer) -> str:
    """What the page says, without its tags, on one line."""
    parser = _Text()
    parser.feed(answer.body.decode())
    return " ".join(" ".join(parser.pieces).split())
