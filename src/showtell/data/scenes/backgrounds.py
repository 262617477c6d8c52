"""What a scene stands on: plain colours, sky, grass, sea, night, sunset, sand, bricks, wood.

Soft textures are small pictures, enlarged: Pillow resizes in whole numbers, so the result is the
same everywhere. Pillow's own noise generator cannot be seeded and is not used.
"""

from collections.abc import Callable, Sequence
from random import Random

from PIL import Image, ImageChops, ImageDraw

Colour = tuple[int, int, int]
BICUBIC = Image.Resampling.BICUBIC
SIZE = 256


def paint_background(name: str, random: Random) -> Image.Image:
    """An RGB picture of ``SIZE`` x ``SIZE`` pixels."""
    return _PAINT[name](random)


def _gradient(colours: Sequence[Colour]) -> Image.Image:
    """From the top colour to the bottom one."""
    column = Image.new("RGB", (1, len(colours)))
    for y, colour in enumerate(colours):
        column.putpixel((0, y), colour)
    return column.resize((SIZE, SIZE), BICUBIC)


def _noise(random: Random, width: int, height: int) -> Image.Image:
    """Soft grey blotches (mode L), one to each of ``width`` x ``height`` cells."""
    raw = Image.frombytes("L", (width, height), random.randbytes(width * height))
    return raw.resize((SIZE, SIZE), BICUBIC)


def _shaded(picture: Image.Image, noise: Image.Image, depth: int) -> Image.Image:
    """A picture darkened by up to ``depth`` grey levels where the noise is dark."""
    levels = noise.point([255 - depth + depth * value // 255 for value in range(256)])
    return ImageChops.multiply(picture, Image.merge("RGB", (levels, levels, levels)))


def _jitter(random: Random, colour: Colour, by: int = 8) -> Colour:
    red, green, blue = (min(255, max(0, part + random.randint(-by, by))) for part in colour)
    return red, green, blue


def _shade(random: Random, colour: Colour, by: int) -> Colour:
    """Lighter or darker, of the same hue."""
    step = random.randint(-by, by)
    red, green, blue = (min(255, max(0, part + step)) for part in colour)
    return red, green, blue


def _plain(colour: Colour) -> Callable[[Random], Image.Image]:
    def paint(random: Random) -> Image.Image:
        base = _jitter(random, colour, 5)
        darker = (max(0, base[0] - 12), max(0, base[1] - 12), max(0, base[2] - 12))
        return _gradient([base, base, darker])

    return paint


def _sky(random: Random) -> Image.Image:
    sky = _gradient([_jitter(random, (72, 145, 222)), (120, 183, 238), (190, 222, 248)])
    clouds = Image.blend(_noise(random, 4, 7), _noise(random, 11, 15), 0.4)
    mask = clouds.point([min(225, max(0, (value - 120) * 3)) for value in range(256)])
    sky.paste((255, 255, 255), (0, 0), mask)
    return sky


def _grass(random: Random) -> Image.Image:
    meadow = _gradient([_jitter(random, (112, 182, 72)), (84, 158, 52), (58, 128, 38)])
    return _shaded(_shaded(meadow, _noise(random, 128, 24), 90), _noise(random, 8, 8), 40)


def _sea(random: Random) -> Image.Image:
    water = _gradient([_jitter(random, (72, 160, 190)), (32, 118, 166), (14, 76, 130)])
    water = _shaded(water, _noise(random, 10, 40), 70)
    foam = _noise(random, 14, 72).point([max(0, (value - 200) * 3) for value in range(256)])
    water.paste((220, 242, 248), (0, 0), foam)
    return water


def _night(random: Random) -> Image.Image:
    sky = _gradient([(10, 12, 38), _jitter(random, (18, 24, 66)), (42, 44, 98)])
    draw = ImageDraw.Draw(sky)
    for _ in range(random.randint(50, 70)):
        x, y, light = random.randrange(SIZE), random.randrange(SIZE), random.randint(140, 255)
        size = random.choice((0, 0, 0, 1))
        draw.rectangle((x, y, x + size, y + size), fill=(light, light, min(255, light + 20)))
    return sky


def _sunset(random: Random) -> Image.Image:
    sky = _gradient(
        [(72, 52, 120), (170, 74, 120), _jitter(random, (244, 122, 84)), (255, 190, 96)]
    )
    bands = _noise(random, 3, 14).point([max(0, (value - 150) // 2) for value in range(256)])
    sky.paste((255, 226, 190), (0, 0), bands)
    return sky


def _sand(random: Random) -> Image.Image:
    beach = _gradient([_jitter(random, (236, 214, 166)), (228, 200, 146), (216, 186, 128)])
    return _shaded(_shaded(beach, _noise(random, 128, 128), 46), _noise(random, 6, 18), 34)


def _brick(random: Random) -> Image.Image:
    wall = Image.new("RGB", (SIZE, SIZE), (198, 188, 178))
    draw = ImageDraw.Draw(wall)
    base = _jitter(random, (164, 84, 66))
    for row in range(SIZE // 22 + 1):
        for column in range(-1, SIZE // 50 + 1):
            x, y = column * 50 + (row % 2) * 25, row * 22
            draw.rectangle((x + 1, y + 1, x + 47, y + 19), fill=_shade(random, base, 18))
    return _shaded(wall, _noise(random, 64, 64), 40)


def _wood(random: Random) -> Image.Image:
    floor = Image.new("RGB", (SIZE, SIZE))
    draw = ImageDraw.Draw(floor)
    base = _jitter(random, (178, 126, 76))
    for row in range(SIZE // 32):
        y = row * 32
        start = random.randrange(40, SIZE - 40)
        for left, right in ((0, start), (start, SIZE)):
            draw.rectangle((left, y, right, y + 31), fill=_shade(random, base, 20))
            draw.line((right, y, right, y + 31), fill=(96, 62, 34), width=2)
        draw.line((0, y, SIZE, y), fill=(96, 62, 34), width=2)
    return _shaded(floor, _noise(random, 6, 128), 60)


_PAINT: dict[str, Callable[[Random], Image.Image]] = {
    "white": _plain((248, 248, 246)),
    "black": _plain((30, 30, 32)),
    "gray": _plain((158, 160, 164)),
    "sky": _sky,
    "grass": _grass,
    "sea": _sea,
    "night": _night,
    "sunset": _sunset,
    "sand": _sand,
    "brick": _brick,
    "wood": _wood,
}
