"""The roofline as a picture (SVG): operations per byte against operations per second, on logarithmic scales."""

from __future__ import annotations

from collections.abc import Sequence
from math import log10

WIDTH, HEIGHT, MARGIN = 860, 520, 60
COLOURS = {"crosstile": "#c0392b", "torch": "#2c3e50", "triton": "#2980b9"}


def roofline(title: str, peak: float, bandwidth: float, points: Sequence[tuple[str, str, float, float]]) -> str:
    """``peak`` in operations and ``bandwidth`` in bytes per second; points are (who, what, operations per byte and
    operations per second)."""
    left, right = 0.1, 1e4
    low, high = peak / 1e5, peak * 2

    def at(intensity: float, speed: float) -> tuple[float, float]:
        x = MARGIN + (WIDTH - 2 * MARGIN) * (log10(intensity) - log10(left)) / (log10(right) - log10(left))
        y = HEIGHT - MARGIN - (HEIGHT - 2 * MARGIN) * (log10(max(speed, low)) - log10(low)) / (log10(high) - log10(low))
        return round(x, 1), round(y, 1)

    knee = peak / bandwidth
    roof = " ".join(f"{x},{y}" for x, y in (at(left, left * bandwidth), at(knee, peak), at(right, peak)))
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" '
        'font-size="11">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="{MARGIN}" y="24" font-size="15">{title}</text>',
        f'<polyline points="{roof}" fill="none" stroke="black" stroke-width="1.5"/>',
        f'<text x="{WIDTH - MARGIN}" y="{HEIGHT - 20}" text-anchor="end">operations per byte (0.1 to 10000)</text>',
        f'<text x="12" y="{MARGIN - 12}">operations per second (roof {peak / 1e12:.0f} T, '
        f"{bandwidth / 1e12:.2f} TB/s)</text>",
    ]
    for place, (who, colour) in enumerate(COLOURS.items()):
        lines.append(f'<text x="{MARGIN + 90 * place}" y="{HEIGHT - 20}" fill="{colour}">{who}</text>')
    for who, what, intensity, speed in points:
        x, y = at(min(max(intensity, left), right), speed)
        lines.append(
            f'<circle cx="{x}" cy="{y}" r="4" fill="{COLOURS[who]}" fill-opacity="0.7"><title>{what}</title></circle>'
        )
    return "\n".join([*lines, "</svg>", ""])
