"""Figures in words: numbers, sizes, times and shares as people of a language write them. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from .messages import _

# Of thousands, and before the fraction. Not zope.i18n's: its Spanish is Mexico's.
_SEPARATORS = {"de": (".", ","), "es": (".", ","), "fr": ("\N{NARROW NO-BREAK SPACE}", ",")}

_UNITS = ("bytes", "kB", "MB", "GB", "TB", "PB")


class Words:
    """``language``: as ``de`` or ``pt-br``; one that there is no translation to is written as English.

    ``now``: with a zone.
    """

    def __init__(self, language: str, now: datetime) -> None:
        self._now = now
        self._thousands, self._point = _SEPARATORS.get(language.lower().partition("-")[0], (",", "."))

    def number(self, value: float, digits: int = 0) -> str:
        """Rounded to at most so many digits behind the point."""
        whole, _point, fraction = f"{value:,.{digits}f}".partition(".")
        fraction = fraction.rstrip("0")
        return whole.replace(",", self._thousands) + (self._point + fraction if fraction else "")

    def share(self, value: float) -> str:
        """Of 0 to 1. Never 100 % for less than all, never 0 % for more than nothing."""
        percent = value * 100
        if 0 < percent < 1:
            return _no_break("<1 %")
        if 99 < percent < 100:
            return _no_break(">99 %")
        return _no_break(f"{self.number(percent)} %")

    def size(self, count: float) -> str:
        """Bytes, by thousands, as disks and providers count."""
        unit = 0
        while count >= 999.5 and unit < len(_UNITS) - 1:
            count, unit = count / 1000, unit + 1
        return _no_break(f"{self.number(count, 1 if unit and count < 99.5 else 0)} {_UNITS[unit]}")

    def seconds(self, value: float) -> str:
        """How long something took."""
        if value < 0.9995:
            return _no_break(f"{self.number(value * 1000, 1 if value < 0.01 else 0)} ms")
        if value < 99.5:
            return _no_break(f"{self.number(value, 1)} s")
        minutes = round(value / 60)
        return _no_break(f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min")

    def ago(self, moment: datetime) -> Any:
        """A message: how long ago that was. What lies ahead, by a clock that differs, is now."""
        minutes = int((self._now - moment).total_seconds() // 60)
        if minutes < 1:
            return _("just now")
        if minutes < 120:
            return _("${count} min ago", mapping={"count": self.number(minutes)})
        if minutes < 48 * 60:
            return _("${count} h ago", mapping={"count": self.number(minutes // 60)})
        return _("${count} days ago", mapping={"count": self.number(minutes // 1440)})


def moment_of(text: str | None) -> datetime | None:
    """A time of a document, which is ISO 8601; without a zone it is UTC."""
    if not text:
        return None
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _no_break(text: str) -> str:
    return text.replace(" ", "\N{NO-BREAK SPACE}")
