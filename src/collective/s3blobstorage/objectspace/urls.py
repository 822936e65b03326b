"""Addresses of what everybody may read. Pure."""

from __future__ import annotations

from urllib.parse import quote, unquote


def url_of(base: str, key: str) -> str:
    """``base`` ends in a slash. All but letters, digits, ``-._~`` and the slash is percent-encoded."""
    return base + quote(key, safe="/")


def key_of(base: str, url: str) -> str | None:
    """The key of which ``url_of`` makes just that address, else None.

    Nothing is normalised. An address in another spelling, or with anything behind its path, is another one: so no user
    information, port, query, fragment or ``%2e%2e`` can make one that looks like ours and leads elsewhere.
    """
    if not isinstance(url, str) or not url.startswith(base):
        return None
    try:
        key = unquote(url[len(base) :], errors="strict")
    except UnicodeDecodeError:
        return None
    return key if url_of(base, key) == url else None
