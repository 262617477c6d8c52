"""Small charts as SVG, drawn without matplotlib: bars, a curve on two logarithmic axes, and spots.

They take their colours from the page, so one drawing serves light and dark. Each has a description
for people who cannot see it.
"""

import math
from collections.abc import Callable, Sequence
from html import escape

WIDTH, HEIGHT = 520, 260
LEFT, RIGHT, TOP, BOTTOM = 62, 12, 12, 44
INK = 'fill="currentColor"'
MOST_TICKS = 5

Point = tuple[float, float]


def bar_chart(title: str, alt: str, bars: Sequence[tuple[str, int]], x_label: str) -> str:
    """Bars beside each other, each with its label below; a few of many labels are left out."""
    top = max((count for _, count in bars), default=1) or 1
    step = (WIDTH - LEFT - RIGHT) / max(1, len(bars))
    every = math.ceil(len(bars) / 14)
    parts = [_grid(_linear_ticks(top), lambda value: _y(value / top))]
    for number, (label, count) in enumerate(bars):
        x, y = LEFT + number * step, _y(count / top)
        parts.append(
            f'<rect x="{x + 0.08 * step:.1f}" y="{y:.1f}" width="{0.84 * step:.1f}" '
            f'height="{HEIGHT - BOTTOM - y:.1f}" style="fill:var(--accent)">'
            f"<title>{escape(label)}: {count:,}</title></rect>"
        )
        if number % every == 0:
            parts.append(_text(x + step / 2, HEIGHT - BOTTOM + 16, label))
    return _figure(title, alt, parts, x_label)


def log_curve(title: str, alt: str, points: Sequence[Point], x_label: str) -> str:
    """A line through points whose coordinates are 1 or more, on logarithmic axes."""
    most_x = max((x for x, _ in points), default=1)
    most_y = max((y for _, y in points), default=1)

    def place(x: float, y: float) -> Point:
        return _x(_log_share(x, most_x)), _y(_log_share(y, most_y))

    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in points))
    parts = [_grid(_powers(most_y), lambda value: place(1, value)[1])]
    parts += [_text(place(x, 1)[0], HEIGHT - BOTTOM + 16, f"{x:,}") for x in _powers(most_x)]
    parts.append(
        f'<polyline points="{line}" fill="none" stroke-width="2.5" style="stroke:var(--accent)"/>'
    )
    return _figure(title, alt, parts, x_label)


def spots(
    title: str, alt: str, sizes: Sequence[tuple[int, int, int]], x_label: str, y_label: str
) -> str:
    """A spot for each pair of numbers, larger where the pair is more frequent."""
    most_x = max((x for x, _, _ in sizes), default=1)
    most_y = max((y for _, y, _ in sizes), default=1)
    most = max((count for _, _, count in sizes), default=1)
    parts = [_grid(_linear_ticks(most_y), lambda value: _y(value / most_y))]
    parts += [_text(_x(x / most_x), HEIGHT - BOTTOM + 16, f"{x:,}") for x in _linear_ticks(most_x)]
    for x, y, count in sizes:
        radius = 2.5 + 9 * math.sqrt(count / most)
        parts.append(
            f'<circle cx="{_x(x / most_x):.1f}" cy="{_y(y / most_y):.1f}" r="{radius:.1f}" '
            f'style="fill:var(--accent);fill-opacity:.45;stroke:var(--accent)">'
            f"<title>{x:,} x {y:,}: {count:,}</title></circle>"
        )
    return _figure(title, alt, parts, f"{x_label} (across), {y_label} (up)")


def _x(share: float) -> float:
    return LEFT + share * (WIDTH - LEFT - RIGHT)


def _y(share: float) -> float:
    return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)


def _log_share(value: float, most: float) -> float:
    return math.log(max(1.0, value)) / math.log(most) if most > 1 else 0.5


def _powers(most: float) -> list[int]:
    return [10**power for power in range(int(math.log10(max(1, most))) + 1)]


def _linear_ticks(most: float) -> list[int]:
    """Round numbers from 0 on, no more than ``MOST_TICKS`` of them."""
    step = 1
    while most / step > MOST_TICKS:
        step = {1: 2, 2: 5, 5: 10}[int(str(step)[0])] * 10 ** (len(str(step)) - 1)
    return list(range(0, int(most) + 1, step))


def _grid(ticks: Sequence[int], place: Callable[[int], float]) -> str:
    lines = []
    for value in ticks:
        y = place(value)
        lines.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" '
            'style="stroke:var(--line)"/>'
        )
        lines.append(_text(LEFT - 7, y + 4, f"{value:,}", anchor="end"))
    return "".join(lines)


def _text(x: float, y: float, text: str, *, anchor: str = "middle") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {INK}>{escape(text)}</text>'


def _figure(title: str, alt: str, parts: Sequence[str], x_label: str) -> str:
    middle = (LEFT + WIDTH - RIGHT) / 2
    return (
        f"<figure><figcaption>{escape(title)}</figcaption>"
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(alt)}" '
        'font-size="12" style="display:block;width:100%;height:auto">'
        f"{''.join(parts)}{_text(middle, HEIGHT - 8, x_label)}</svg></figure>"
    )
