"""The shapes as masks: each drawn in black and white at several times its size, then reduced.

Corners come from ``math`` and are rounded to whole supersampled pixels, so that machines whose
sine differs in the last bit draw the same picture.
"""

import math
from collections.abc import Callable

from PIL import Image, ImageDraw

SUPERSAMPLING = 4
Points = list[tuple[int, int]]


def shape_mask(shape: str, radius: int, degrees: float) -> Image.Image:
    """A shape in a square of side ``2 * radius`` (mode L, 255 inside), turned by ``degrees``."""
    big = radius * SUPERSAMPLING
    mask = Image.new("L", (2 * big, 2 * big), 0)
    _DRAW[shape](ImageDraw.Draw(mask), big, math.radians(degrees))
    return mask.reduce(SUPERSAMPLING)


def _turned(points: list[tuple[float, float]], big: int, turn: float, scale: float = 1.0) -> Points:
    """Unit points (y down) turned about the origin and scaled into the square."""
    cos, sin = math.cos(turn), math.sin(turn)
    size = scale * (big - 1)
    return [
        (round(big + size * (x * cos - y * sin)), round(big + size * (x * sin + y * cos)))
        for x, y in points
    ]


def _regular(corners: int, start: float = -90.0) -> list[tuple[float, float]]:
    angles = [math.radians(start + 360.0 * k / corners) for k in range(corners)]
    return [(math.cos(angle), math.sin(angle)) for angle in angles]


def _disc(draw: ImageDraw.ImageDraw, x: float, y: float, radius: float, fill: int) -> None:
    box = (round(x - radius), round(y - radius), round(x + radius), round(y + radius))
    draw.ellipse(box, fill=fill)


def _circle(draw: ImageDraw.ImageDraw, big: int, turn: float) -> None:
    _disc(draw, big, big, 0.92 * big, 255)


def _ring(draw: ImageDraw.ImageDraw, big: int, turn: float) -> None:
    _disc(draw, big, big, 0.95 * big, 255)
    _disc(draw, big, big, 0.5 * big, 0)


def _square(draw: ImageDraw.ImageDraw, big: int, turn: float) -> None:
    draw.polygon(_turned([(-1, -1), (1, -1), (1, 1), (-1, 1)], big, turn, 0.76), fill=255)


def _triangle(draw: ImageDraw.ImageDraw, big: int, turn: float) -> None:
    draw.polygon(_turned(_regular(3), big, turn), fill=255)


def _hexagon(draw: ImageDraw.ImageDraw, big: int, turn: float) -> None:
    draw.polygon(_turned(_regular(6, 0.0), big, turn, 0.97), fill=255)


def _star(draw: ImageDraw.ImageDraw, big: int, turn: float) -> None:
    outer, inner = _regular(5), _regular(5, -54.0)
    points = []
    for tip, notch in zip(outer, inner, strict=True):
        points += [tip, (0.45 * notch[0], 0.45 * notch[1])]
    draw.polygon(_turned(points, big, turn), fill=255)


def _cross(draw: ImageDraw.ImageDraw, big: int, turn: float) -> None:
    for bar in ((0.3, 0.92), (0.92, 0.3)):
        x, y = bar
        draw.polygon(_turned([(-x, -y), (x, -y), (x, y), (-x, y)], big, turn), fill=255)


def _heart(draw: ImageDraw.ImageDraw, big: int, turn: float) -> None:
    # The usual heart curve, x = 16 sin^3 t, y = 13 cos t - 5 cos 2t - 2 cos 3t - cos 4t.
    points = []
    for k in range(72):
        t = 2 * math.pi * k / 72
        x = 16 * math.sin(t) ** 3
        y = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
        points.append((x / 17.5, -(y + 2.5) / 17.5))
    draw.polygon(_turned(points, big, turn), fill=255)


def _crescent(draw: ImageDraw.ImageDraw, big: int, turn: float) -> None:
    _disc(draw, big, big, 0.95 * big, 255)
    (x, y), *_ = _turned([(0.42, -0.12)], big, turn)
    _disc(draw, x, y, 0.78 * big, 0)


def _flower(draw: ImageDraw.ImageDraw, big: int, turn: float) -> None:
    for x, y in _turned(_regular(6), big, turn, 0.6):
        _disc(draw, x, y, 0.36 * big, 255)
    _disc(draw, big, big, 0.5 * big, 255)
    _disc(draw, big, big, 0.2 * big, 0)


_DRAW: dict[str, Callable[[ImageDraw.ImageDraw, int, float], None]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "heart": _heart,
    "hexagon": _hexagon,
    "ring": _ring,
    "cross": _cross,
    "crescent": _crescent,
    "flower": _flower,
}
