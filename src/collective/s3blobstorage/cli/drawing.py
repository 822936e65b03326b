"""A bar chart as an SVG file of its own, for a browser or a page. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

_ROW = 24  # pixels for a bar and the gap below it
_BAR = 16
_NAMES, _BARS, _FIGURES = 300, 420, 200  # widths of the columns
_LONGEST = 44  # characters of a name that fit into its column


def bars(title: str, rows: Sequence[tuple[str, float, str]]) -> str:
    """A bar for each (name, value, figure), from above; as long as its share of the largest value. Values are ≥ 0."""
    width, height = _NAMES + _BARS + _FIGURES, (len(rows) + 2) * _ROW
    most = max((value for _, value, _ in rows), default=0.0) or 1.0
    drawn = "".join(
        _row(number, name, value / most, figure) for number, (name, value, figure) in enumerate(rows, start=1)
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
        ' font-family="sans-serif" font-size="12" role="img">'
        f"<title>{_text(title)}</title>"
        f'<rect width="{width}" height="{height}" fill="#fff"/>'
        f'<text x="8" y="{_BAR}" font-size="14" font-weight="bold">{_text(title)}</text>{drawn}</svg>\n'
    )


def _row(number: int, name: str, share: float, figure: str) -> str:
    top = number * _ROW + 4
    base, length = top + 12, max(share * _BARS, 1)
    shown = name if len(name) <= _LONGEST else f"…{name[1 - _LONGEST :]}"
    return (
        f'<text x="{_NAMES - 8}" y="{base}" text-anchor="end">{_text(shown)}</text>'
        f'<rect x="{_NAMES}" y="{top}" width="{length:g}" height="{_BAR}" fill="#0a5a8c">'
        f"<title>{_text(name)}: {_text(figure)}</title></rect>"
        f'<text x="{_NAMES + length + 6:g}" y="{base}">{_text(figure)}</text>'
    )


def _text(text: str) -> str:
    """Escaped, without what XML cannot have."""
    return escape("".join(each if each.isprintable() else "�" for each in text))
