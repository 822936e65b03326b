"""Small charts as SVG, made on the server: no script, no style of their own, no text that a phone would shrink.

Pure. Every text is escaped. Colours come from ``static/s3blobstorage.css`` by the names of the classes, and with them
from the theme.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

HEIGHT = 100  # units; one is a hundredth
_STEP = 10  # units for a bar and the gap behind it
_GAP = 2


@dataclass(frozen=True, slots=True)
class Bar:
    """``share``: 0 to 1, None where there is nothing to show. ``label``: what a pointer that rests on it is told."""

    share: float | None
    label: str


def bars(name: str, title: str, description: str, values: Sequence[Bar]) -> str:
    """One bar for each value, from left to right, each as high as its share.

    ``name`` is part of the ids of title and description, and so to be unique on its page. A value that is None is a
    gap; a share of 0 is a line, so that both can be told apart.
    """
    width = max(len(values) * _STEP, 1)
    drawn = "".join(_bar(place, bar) for place, bar in enumerate(values) if bar.share is not None)
    lines = "".join(
        f'<line class="s3b-line" x1="0" x2="{width}" y1="{level}" y2="{level}"/>' for level in (0, HEIGHT / 2, HEIGHT)
    )
    return _svg(name, title, description, width, HEIGHT, lines + drawn)


def _bar(place: int, bar: Bar) -> str:
    height = max(_within(bar.share or 0.0) * HEIGHT, 1)
    return (
        f'<rect class="s3b-bar" x="{place * _STEP + _GAP / 2:g}" y="{HEIGHT - height:g}" width="{_STEP - _GAP}" '
        f'height="{height:g}"><title>{escape(bar.label)}</title></rect>'
    )


def meter(name: str, title: str, description: str, share: float) -> str:
    """One bar that lies, filled as far as the share says, from 0 to 1."""
    width = 100
    filled = f'<rect class="s3b-bar" x="0" y="0" width="{_within(share) * width:g}" height="{_STEP}"/>'
    ground = f'<rect class="s3b-ground" x="0" y="0" width="{width}" height="{_STEP}"/>'
    return _svg(name, title, description, width, _STEP, ground + filled)


def _svg(name: str, title: str, description: str, width: int, height: int, inside: str) -> str:
    ids = escape(f"{name}-title"), escape(f"{name}-description")
    return (
        f'<svg class="s3b-chart" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'preserveAspectRatio="none" role="img" aria-labelledby="{ids[0]} {ids[1]}">'
        f'<title id="{ids[0]}">{escape(title)}</title><desc id="{ids[1]}">{escape(description)}</desc>{inside}</svg>'
    )


def _within(share: float) -> float:
    return min(max(share, 0.0), 1.0)
