"""Zope's undo, as a Manager uses it: the database's form in the control panel, read and submitted over HTTP."""

from __future__ import annotations

import re
from html import unescape
from urllib.parse import urlencode

from web_client import WebClient

DATABASE = "Control_Panel/Database/main"


def undo_latest(admin: WebClient, path: str) -> None:
    """Undo the latest transaction, which must be one of a request to ``path``.

    Raises AssertionError with Zope's own message where the undo is refused.
    """
    form = admin.get(f"{DATABASE}/manage_UndoForm")
    assert form.status == 200, form.body
    latest = unescape(re.search(rb'name="transaction_info:list"[^>]*value="([^"]+)"', form.body).group(1).decode())
    assert path in latest, f"the latest transaction is {latest!r}"
    answer = admin.request(
        "POST",
        f"{DATABASE}/manage_undo_transactions",
        urlencode({"transaction_info:list": latest}).encode(),
        {"Content-Type": "application/x-www-form-urlencoded"},
    )
    assert answer.status == 302, message(answer.body)
    assert answer.headers["Location"].endswith("/manage_UndoForm")


def message(page: bytes) -> str:
    """What an answer of the management interface says in its alert."""
    found = re.search(rb'class="alert[^>]*>(.*?)</div>', page, re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", (found.group(1) if found else page).decode())).strip()
