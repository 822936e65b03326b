"""Decides which way a blob goes to a browser: from what the site says, what zope.conf allows, and the request.

Pure. Whether somebody may have the blob at all is decided before, by plone.namedfile.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from ..settings import MODES, DeliverySettings

STREAM, PROXY, REDIRECT, X_ACCEL = MODES

# Less is not worth a redirect: a clock that is off and a slow network would use it up. zope.conf's bound is no lower.
LEAST_EXPIRY = 60  # seconds


class Why(Enum):
    """What a decision is due to; ``controlpanel/reasons.py`` has a sentence for each."""

    AS_SET = "as set"  # the site's own mode
    METHOD = "method"  # neither GET nor HEAD
    SIZE = "size"
    PORTAL_TYPE = "portal type"
    MIME_TYPE = "mime type"
    LOGGED_IN = "logged in"
    NO_BUCKET = "no bucket"
    FORBIDDEN = "forbidden"  # delivery-modes does not have the site's mode
    HEAD = "head"  # a URL is signed for GET
    NO_ADDRESS = "no address"
    CANNOT_FOLLOW = "cannot follow"
    NO_NGINX = "no nginx"  # x-accel-location is not set


@dataclass(frozen=True, slots=True)
class Policy:
    """What one site's owner set. Sizes in bytes, times in seconds."""

    mode: str = STREAM
    minimum_size: int = 0
    portal_types: frozenset[str] = frozenset()  # empty: all
    mime_types: frozenset[str] = frozenset()  # as video/mp4 or video/*; empty: all
    anonymous_only: bool = False
    expiry: int = 300
    media_expiry: int = 3600

    @classmethod
    def of_records(cls, records: Mapping[str, Any]) -> Policy:
        """From what the site's records say, by the names of ``IDeliverySettings``.

        Every record may be missing, or have been set by whatever code: what cannot be used is as if it were not set,
        and an unknown mode is ``stream``.
        """

        def number(name: str, default: int) -> int:
            value = records.get(name)
            return value if type(value) is int and value >= 0 else default

        unset = cls()
        mode = records.get("delivery_mode")
        return cls(
            mode=mode if mode in MODES else STREAM,
            minimum_size=number("delivery_minimum_size", unset.minimum_size),
            portal_types=frozenset(records.get("delivery_portal_types") or ()),
            mime_types=frozenset(name.strip().lower() for name in records.get("delivery_mime_types") or ()),
            anonymous_only=bool(records.get("delivery_anonymous_only")),
            expiry=number("delivery_expiry", unset.expiry),
            media_expiry=number("delivery_media_expiry", unset.media_expiry),
        )

    def redirecting(self) -> Policy:
        """The same for whoever asks for a signed URL, and gets one whatever the site does by itself."""
        return Policy(mode=REDIRECT, expiry=self.expiry, media_expiry=self.media_expiry)

    def why_not(self, wanted: Wanted) -> Why | None:
        """Why the site's mode is not for this one, which is then streamed; None where it is."""
        if wanted.size < self.minimum_size:
            return Why.SIZE
        if self.portal_types and wanted.portal_type not in self.portal_types:
            return Why.PORTAL_TYPE
        if self.mime_types and not self.mime_types & {wanted.mime_type, f"{wanted.main_type}/*"}:
            return Why.MIME_TYPE
        return Why.LOGGED_IN if self.anonymous_only and wanted.logged_in else None

    def expiry_of(self, wanted: Wanted) -> int:
        return self.media_expiry if wanted.main_type in ("audio", "video") else self.expiry


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked for, and how.

    :param mime_type: in lower case, without parameters
    :param size: in bytes
    :param logged_in: whether the visitor has an account
    :param has_address: whether it is in the bucket for certain: else it is read through the storage, wherever it lies
    :param can_follow: whether a redirect to the store's host does no harm: see ``request.can_follow``
    """

    method: str
    mime_type: str
    size: int
    portal_type: str | None = None
    logged_in: bool = False
    has_address: bool = True
    can_follow: bool = True

    @property
    def main_type(self) -> str:
        return self.mime_type.partition("/")[0]


@dataclass(frozen=True, slots=True)
class Decision:
    """``seconds``: for how long the store's address is to be good; 0 where the browser or nginx gets none.

    ``why`` explains the mode, and is no part of what is decided.
    """

    mode: str
    seconds: int = 0
    why: Why = field(default=Why.AS_SET, compare=False)


def decide(policy: Policy, wanted: Wanted, bounds: DeliverySettings | None) -> Decision:
    """Which way.

    ``bounds`` are zope.conf's, None where the database has no bucket: its blobs are read as they ever were. What is not
    for the site's mode is streamed, and what cannot go that way is proxied; where zope.conf forbids that too, streamed.
    """
    if policy.mode == STREAM:
        return Decision(STREAM)
    unfit = Why.METHOD if wanted.method not in ("GET", "HEAD") else policy.why_not(wanted)
    if unfit is not None:
        return Decision(STREAM, why=unfit)
    if bounds is None:
        return Decision(PROXY, why=Why.NO_BUCKET)
    if policy.mode not in bounds.modes:
        return Decision(STREAM, why=Why.FORBIDDEN)
    if policy.mode == PROXY:
        return Decision(PROXY)
    indirect = _why_not_directly(policy.mode, wanted, bounds)
    if indirect is not None:
        return Decision(PROXY if PROXY in bounds.modes else STREAM, why=indirect)
    return Decision(policy.mode, _within(policy.expiry_of(wanted), int(bounds.presign_max_expiry)))


def _why_not_directly(mode: str, wanted: Wanted, bounds: DeliverySettings) -> Why | None:
    # A URL is signed for one method, and the headers of a HEAD are known here.
    if wanted.method != "GET":
        return Why.HEAD
    if not wanted.has_address:
        return Why.NO_ADDRESS
    if mode == REDIRECT:
        return None if wanted.can_follow else Why.CANNOT_FOLLOW
    return None if bounds.x_accel_location is not None else Why.NO_NGINX


def _within(seconds: int, bound: int) -> int:
    return min(max(seconds, LEAST_EXPIRY), bound)
