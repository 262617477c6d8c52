"""The facts of a scene, drawn at random from the picture's name before it is painted.

A scene is one object, a group of equal ones, two in a spatial relation, or three in a row. Some
combinations are held out: no training, validation or ordinary test picture has one, and every
held-out picture has one, so that a captioner's figure on those measures composition and not
memory. ``draw.py`` paints a scene and ``words.py`` describes it.
"""

from dataclasses import dataclass
from random import Random
from typing import Literal

Relation = Literal["left", "right", "above", "below", "inside", "between"]
Kind = Literal["single", "group", "pair", "between"]

SHAPES = (
    *("circle", "square", "triangle", "star", "heart"),
    *("hexagon", "ring", "cross", "crescent", "flower"),
)
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white", "black")
TEXTURES = ("plain", "striped", "spotted", "checkered")
# Each background with the colours that would be lost on it.
BACKGROUNDS: dict[str, frozenset[str]] = {
    "white": frozenset({"white"}),
    "black": frozenset({"black"}),
    "gray": frozenset(),
    "sky": frozenset({"blue", "white"}),
    "grass": frozenset({"green"}),
    "sea": frozenset({"blue", "green"}),
    "night": frozenset({"black", "blue", "purple"}),
    "sunset": frozenset({"orange", "pink", "red"}),
    "sand": frozenset({"yellow", "orange"}),
    "brick": frozenset({"red", "orange"}),
    "wood": frozenset({"orange", "black"}),
}

HELD_OUT_COLOUR_SHAPES = frozenset(
    {
        *(("red", "star"), ("orange", "hexagon"), ("yellow", "heart"), ("green", "circle")),
        *(("blue", "flower"), ("purple", "triangle"), ("pink", "cross"), ("white", "ring")),
        *(("black", "crescent"), ("red", "square")),
    }
)
HELD_OUT_COUNT_SHAPES = frozenset(
    {(2, "heart"), (3, "ring"), (4, "triangle"), (5, "flower"), (3, "circle")}
)
HELD_OUT_RELATION_SHAPES = frozenset(
    {("left", "cross"), ("right", "hexagon"), ("above", "star"), ("below", "circle")}
)
CONTAINERS = ("circle", "square", "hexagon", "heart")
# One list of kinds that pictures take in turn keeps every split's mixture the same.
KINDS: tuple[Kind, ...] = (
    *("single", "group", "pair", "single", "group"),
    *("pair", "single", "group", "between", "pair"),
)


@dataclass(frozen=True, slots=True)
class Thing:
    """One object: what it looks like, not where it is."""

    shape: str
    colour: str
    texture: str
    large: bool


@dataclass(frozen=True, slots=True)
class Scene:
    """The facts of one picture.

    Attributes:
        kind: Which of the four layouts.
        things: The single or repeated object; in a pair the subject and what it relates to;
            in ``between`` the middle one and what stands on both sides.
        count: How many there are of a group's object, else 1.
        relation: How the first thing stands to the second, None where there is one thing.
        background: A key of ``BACKGROUNDS``.
    """

    kind: Kind
    things: tuple[Thing, ...]
    count: int
    relation: Relation | None
    background: str


def is_held_out_scene(scene: Scene) -> bool:
    """Whether a scene has a combination that training never shows."""
    first = scene.things[0]
    return (
        any((thing.colour, thing.shape) in HELD_OUT_COLOUR_SHAPES for thing in scene.things)
        or (scene.count, first.shape) in HELD_OUT_COUNT_SHAPES
        or (scene.relation, first.shape) in HELD_OUT_RELATION_SHAPES
    )


def draw_scene(random: Random, kind: Kind, *, held_out: bool) -> Scene:
    """Draw scenes of a kind until one is held out, or is not, as asked."""
    while True:
        scene = _draw(random, kind)
        if is_held_out_scene(scene) == held_out:
            return scene


def _draw(random: Random, kind: Kind) -> Scene:
    background = random.choice(tuple(BACKGROUNDS))
    lost = BACKGROUNDS[background]
    colours = tuple(colour for colour in COLOURS if colour not in lost)
    if kind in ("single", "group"):
        count = random.randint(2, 5) if kind == "group" else 1
        thing = _thing(random, colours, large=random.random() < 0.5)
        return Scene(kind, (thing,), count, None, background)
    relation: Relation = "between"
    if kind == "pair":
        relation = random.choice(("left", "right", "above", "below", "inside"))
    first, second = _two_shapes(random, CONTAINERS if relation == "inside" else SHAPES)
    first_colour, second_colour = random.sample(colours, 2)
    # The smaller one is always said to be beside the larger one. Were it now this and now that,
    # half of what a captioner could rightly say would be in none of the references.
    subject_large = kind == "between"
    things = (
        Thing(first, first_colour, "plain", subject_large),
        Thing(second, second_colour, "plain", not subject_large),
    )
    return Scene(kind, things, 1, relation, background)


def _thing(random: Random, colours: tuple[str, ...], *, large: bool) -> Thing:
    texture = random.choice(TEXTURES) if random.random() < 0.6 else "plain"
    return Thing(random.choice(SHAPES), random.choice(colours), texture, large)


def _two_shapes(random: Random, shapes_of_second: tuple[str, ...]) -> tuple[str, str]:
    first = random.choice(SHAPES)
    return first, random.choice([shape for shape in shapes_of_second if shape != first])
