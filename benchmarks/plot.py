"""A picture of the table: how much of its target each figure takes. SVG by hand, so that a diff shows what changed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from benchmarks.rows import Line

WIDTH, LABEL, FIGURE = 940, 470, 90
STEP, TOP = 24, 40
LEAST, MOST = 0.01, 10.0  # shares of the target; what lies beyond is drawn at the edge
MET, MISSED = "#2f7d4f", "#b5432f"


def svg(lines: Sequence[Line]) -> str:
    """One bar per line that has a target, on a logarithmic scale; the line in the middle of it is the target."""
    drawn = [line for line in lines if line.share is not None]
    height = TOP + STEP * len(drawn) + 16
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif"'
        ' font-size="12">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
    ]
    for share in (0.01, 0.1, 1.0, 10.0):
        text = "target" if share == 1 else f"{share:g} × target"
        parts.append(_grid(_x(share), height, text, bold=share == 1))
    parts += [_bar(line, TOP + STEP * number) for number, line in enumerate(drawn)]
    return "\n".join([*parts, "</svg>", ""])


def _x(share: float) -> float:
    inside = min(max(share, LEAST), MOST)
    return LABEL + (WIDTH - LABEL - FIGURE) * math.log(inside / LEAST) / math.log(MOST / LEAST)


def _grid(x: float, height: int, text: str, *, bold: bool) -> str:
    stroke = 'stroke="#222" stroke-width="1.5"' if bold else 'stroke="#ccc"'
    return (
        f'<line x1="{x:.0f}" y1="{TOP - 8}" x2="{x:.0f}" y2="{height - 12}" {stroke}/>'
        f'<text x="{x:.0f}" y="{TOP - 14}" text-anchor="middle">{text}</text>'
    )


def _bar(line: Line, y: int) -> str:
    assert line.share is not None
    end = _x(line.share)
    against = f" / {line.other.partition(':')[0]}" if line.other else ""
    return (
        f'<text x="{LABEL - 8}" y="{y + 15}" text-anchor="end">{escape(line.title + against)}</text>'
        f'<rect x="{LABEL}" y="{y + 4}" width="{max(end - LABEL, 1):.0f}" height="{STEP - 8}"'
        f' fill="{MET if line.met else MISSED}" fill-opacity="0.8"/>'
        f'<text x="{end + 6:.0f}" y="{y + 15}">{escape(line.figure)}</text>'
    )
