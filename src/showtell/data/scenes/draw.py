"""Painting a scene: where its things stand, their colours and textures, light and shadow."""

from collections.abc import Callable
from random import Random

from PIL import Image, ImageChops, ImageDraw

from showtell.data.scenes.backgrounds import BICUBIC, SIZE, Colour, paint_background
from showtell.data.scenes.shapes import shape_mask
from showtell.data.scenes.world import Scene, Thing

PAINTS: dict[str, Colour] = {
    "red": (214, 40, 44),
    "orange": (246, 132, 22),
    "yellow": (250, 212, 34),
    "green": (36, 152, 66),
    "blue": (30, 94, 214),
    "purple": (126, 50, 166),
    "pink": (246, 132, 180),
    "white": (250, 250, 250),
    "black": (34, 34, 38),
}
# Offsets of a group's members, in units of their spacing.
ARRANGEMENTS: dict[int, tuple[tuple[tuple[float, float], ...], ...]] = {
    2: (((-0.8, 0.0), (0.8, 0.0)), ((-0.7, -0.6), (0.7, 0.6)), ((0.7, -0.6), (-0.7, 0.6))),
    3: (((-0.9, 0.7), (0.9, 0.7), (0.0, -0.8)), ((-0.9, -0.7), (0.9, -0.7), (0.0, 0.8))),
    4: (((-0.8, -0.8), (0.8, -0.8), (-0.8, 0.8), (0.8, 0.8)),),
    5: (((-1.1, -1.1), (1.1, -1.1), (0.0, 0.0), (-1.1, 1.1), (1.1, 1.1)),),
}
CENTRE = SIZE // 2


def paint(scene: Scene, random: Random) -> Image.Image:
    """The scene as an RGB picture; the same for the same state of ``random``."""
    picture = paint_background(scene.background, random)
    for thing, x, y, radius in _place(scene, random):
        _stand(picture, thing, x, y, radius, random)
    return picture


def _place(scene: Scene, random: Random) -> list[tuple[Thing, int, int, int]]:
    """Each thing with its centre and radius in pixels, the hindmost first."""
    first, *others = scene.things
    if scene.kind == "single":
        radius = random.randint(72, 82) if first.large else random.randint(30, 36)
        room = 100 - radius
        x, y = (CENTRE + random.randint(-room, room) for _ in range(2))
        return [(first, x, y, radius)]
    if scene.kind == "group":
        radius = random.randint(36, 39) if first.large else random.randint(20, 22)
        spacing = random.randint(54, 57) if first.large else random.randint(40, 52)
        offsets = random.choice(ARRANGEMENTS[scene.count])
        placed = []
        for dx, dy in offsets:
            x = round(CENTRE + dx * spacing) + random.randint(-4, 4)
            y = round(CENTRE + dy * spacing) + random.randint(-4, 4)
            placed.append((first, x, y, radius))
        return placed
    other = others[0]
    if scene.kind == "between":
        radius, gap = random.randint(25, 27), random.randint(74, 77)
        dx, dy = random.choice(((gap, 0), (0, gap)))
        sides = [(other, CENTRE + sign * dx, CENTRE + sign * dy, radius) for sign in (-1, 1)]
        return [*sides, (first, CENTRE, CENTRE, random.randint(38, 42))]
    if scene.relation == "inside":
        x, y = (CENTRE + random.randint(-10, 10) for _ in range(2))
        return [(other, x, y, random.randint(92, 100)), (first, x, y, random.randint(26, 30))]
    return _beside(scene, first, other, random)


def _beside(
    scene: Scene, first: Thing, other: Thing, random: Random
) -> list[tuple[Thing, int, int, int]]:
    gap, drift = random.randint(50, 54), random.randint(-8, 8)
    sign = -1 if scene.relation in ("left", "above") else 1
    placed = []
    for thing, side in ((first, sign), (other, -sign)):
        radius = random.randint(50, 54) if thing.large else random.randint(26, 29)
        along, across = CENTRE + side * gap, CENTRE + side * drift
        x, y = (along, across) if scene.relation in ("left", "right") else (across, along)
        placed.append((thing, x, y, radius))
    return placed


def _stand(picture: Image.Image, thing: Thing, x: int, y: int, radius: int, random: Random) -> None:
    """Paste one thing with its shadow, its darker rim and light from the upper left."""
    turn = random.uniform(-10, 10)
    mask = shape_mask(thing.shape, radius, turn)
    colour = PAINTS[thing.colour]
    corner = (x - radius, y - radius)
    _cast_shadow(picture, mask, corner, max(2, radius // 12))
    face = _textured(thing, colour, 2 * radius, random)
    light = Image.linear_gradient("L").resize(face.size).rotate(45)
    levels = light.point([255 - value * 2 // 9 for value in range(256)])
    face = ImageChops.multiply(face, Image.merge("RGB", (levels, levels, levels)))
    picture.paste(_mixed(colour, (0, 0, 0), 45), corner, mask)
    rim = max(1, radius // 22)
    inner = ImageChops.darker(
        ImageChops.darker(_moved(mask, rim, 0), _moved(mask, -rim, 0)),
        ImageChops.darker(_moved(mask, 0, rim), _moved(mask, 0, -rim)),
    )
    picture.paste(face, corner, inner)


def _cast_shadow(
    picture: Image.Image, mask: Image.Image, corner: tuple[int, int], drop: int
) -> None:
    """Darken what lies below and to the right; soft, as it is enlarged from a few pixels."""
    margin = 4 * drop
    side = mask.width + 2 * margin
    sharp = Image.new("L", (side, side), 0)
    sharp.paste(mask, (margin, margin))
    cells = side // (2 * drop)
    soft = sharp.resize((cells, cells), Image.Resampling.BOX).resize((side, side), BICUBIC)
    shadow = soft.point([value * 9 // 20 for value in range(256)])
    picture.paste((12, 12, 24), (corner[0] - margin + drop, corner[1] - margin + drop), shadow)


def _moved(mask: Image.Image, dx: int, dy: int) -> Image.Image:
    moved = Image.new("L", mask.size, 0)
    moved.paste(mask, (dx, dy))
    return moved


def _mixed(colour: Colour, with_colour: Colour, percent: int) -> Colour:
    red, green, blue = (
        (own * (100 - percent) + other * percent) // 100
        for own, other in zip(colour, with_colour, strict=True)
    )
    return red, green, blue


def _textured(thing: Thing, colour: Colour, side: int, random: Random) -> Image.Image:
    """A square of the thing's colour, with its texture in a lighter or darker one."""
    face = Image.new("RGB", (side, side), colour)
    if thing.texture == "plain":
        return face
    dark = thing.colour in ("white", "yellow", "pink")
    second = _mixed(colour, (60, 60, 70) if dark else (255, 255, 255), 50 if dark else 62)
    step = max(7, side // 9)
    pattern = Image.new("L", (2 * side, 2 * side), 0)
    _PATTERNS[thing.texture](ImageDraw.Draw(pattern), 2 * side, 2 * step)
    face.paste(second, (0, 0), pattern.reduce(2))
    return face


def _stripes(draw: ImageDraw.ImageDraw, side: int, step: int) -> None:
    for x in range(-side, side, 2 * step):
        draw.polygon([(x, side), (x + step, side), (x + side + step, 0), (x + side, 0)], fill=255)


def _spots(draw: ImageDraw.ImageDraw, side: int, step: int) -> None:
    radius = step * 2 // 5
    for row, y in enumerate(range(step // 2, side + step, step)):
        for x in range(step // 2 + (row % 2) * step // 1, side + step, 2 * step):
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)


def _checks(draw: ImageDraw.ImageDraw, side: int, step: int) -> None:
    for row, y in enumerate(range(0, side, step)):
        for x in range((row % 2) * step, side, 2 * step):
            draw.rectangle((x, y, x + step - 1, y + step - 1), fill=255)


_PATTERNS: dict[str, Callable[[ImageDraw.ImageDraw, int, int], None]] = {
    "striped": _stripes,
    "spotted": _spots,
    "checkered": _checks,
}
