"""Captions of a scene in German: gender, case and adjective endings as German grammar has them.

After ``ein`` adjectives take the mixed endings, after a bare number the strong ones. What says
where something is wants the dative. All phrasings have their subject in the nominative: with "es
gibt einen" and "ein Bild von einem" the five captions of a picture would differ in each ending, and
so share fewer n-grams than the English ones, which have the same words there.
"""

from dataclasses import dataclass
from typing import Literal

from showtell.data.scenes.world import Scene, Thing

Case = Literal["nominative", "dative"]


@dataclass(frozen=True, slots=True)
class Noun:
    """A noun: its gender, its singular, its plural, and its dative where that has an ending."""

    gender: Literal["m", "f", "n"]
    singular: str
    plural: str
    dative: str = ""


NOUNS = {
    "circle": Noun("m", "Kreis", "Kreise"),
    "square": Noun("n", "Quadrat", "Quadrate"),
    "triangle": Noun("n", "Dreieck", "Dreiecke"),
    "star": Noun("m", "Stern", "Sterne"),
    "heart": Noun("n", "Herz", "Herzen", dative="Herzen"),
    "hexagon": Noun("n", "Sechseck", "Sechsecke"),
    "ring": Noun("m", "Ring", "Ringe"),
    "cross": Noun("n", "Kreuz", "Kreuze"),
    "crescent": Noun("f", "Mondsichel", "Mondsicheln"),
    "flower": Noun("f", "Blume", "Blumen"),
}
# Stems that take endings: "rosa" and "lila" take none, so they are not used.
COLOURS = {
    "red": "rot",
    "orange": "orangefarben",
    "yellow": "gelb",
    "green": "grün",
    "blue": "blau",
    "purple": "violett",
    "pink": "rosafarben",
    "white": "weiß",
    "black": "schwarz",
}
TEXTURES = {"striped": "gestreift", "spotted": "gepunktet", "checkered": "kariert"}
NUMBERS = {2: "zwei", 3: "drei", 4: "vier", 5: "fünf"}
PLACES = {
    "white": "auf einem weißen Hintergrund",
    "black": "auf einem schwarzen Hintergrund",
    "gray": "auf einem grauen Hintergrund",
    "sky": "am bewölkten Himmel",
    "grass": "auf grünem Gras",
    "sea": "auf dem Meer",
    "night": "am Nachthimmel",
    "sunset": "vor einem Sonnenuntergang",
    "sand": "auf einem Sandstrand",
    "brick": "an einer Backsteinmauer",
    "wood": "auf einem Holzboden",
}
# All of them with the dative, as they say where and not where to.
RELATIONS = {
    "left": "links von",
    "right": "rechts von",
    "above": "über",
    "below": "unter",
    "inside": "in",
    "between": "zwischen",
}
_ARTICLES = {
    "nominative": {"m": "ein", "f": "eine", "n": "ein"},
    "dative": {"m": "einem", "f": "einer", "n": "einem"},
}
_ENDINGS = {  # of adjectives after "ein"
    "nominative": {"m": "er", "f": "e", "n": "es"},
    "dative": {"m": "en", "f": "en", "n": "en"},
}
_PLURAL_ENDINGS = {"nominative": "e", "dative": "en"}  # after a number


def phrasings(scene: Scene) -> list[str]:
    """Six captions of a scene, in the order of the English ones; two may be the same."""
    return _related(scene) if scene.relation else _of_one_kind(scene)


def phrase(
    thing: Thing, case: Case, *, count: int = 1, size: bool = False, texture: bool = False
) -> str:
    """A thing, or several, in a case: ``einem kleinen gestreiften blauen Stern``."""
    noun = NOUNS[thing.shape]
    stems = [
        *(["groß" if thing.large else "klein"] if size else []),
        *([TEXTURES[thing.texture]] if texture and thing.texture != "plain" else []),
        COLOURS[thing.colour],
    ]
    if count > 1:
        ending = _PLURAL_ENDINGS[case]
        # The dative plural ends in n.
        is_bare = case == "dative" and not noun.plural.endswith("n")
        head, name = NUMBERS[count], noun.plural + "n" * is_bare
    else:
        ending = _ENDINGS[case][noun.gender]
        head = _ARTICLES[case][noun.gender]
        name = noun.dative if case == "dative" and noun.dative else noun.singular
    return " ".join([head, *(stem + ending for stem in stems), name])


def _of_one_kind(scene: Scene) -> list[str]:
    """Of a single thing, or of a group of equal ones."""
    thing, place, count = scene.things[0], PLACES[scene.background], scene.count

    def said(*, size: bool = False, texture: bool = False) -> str:
        return phrase(thing, "nominative", count=count, size=size, texture=texture)

    verb = "ist" if count == 1 else "sind"
    return [
        f"{said(size=True, texture=True)} {place}",
        f"{said(texture=True)} {place}",
        f"hier {verb} {said(size=True, texture=True)} {place}",
        f"{said(size=True)} {place}",
        f"zu sehen {verb} {said(size=True, texture=True)}",
        f"{said(texture=True)} {verb} {place}",
    ]


def _related(scene: Scene) -> list[str]:
    first, second = scene.things
    place, is_between = PLACES[scene.background], scene.kind == "between"
    count = 2 if is_between else 1
    where = RELATIONS[scene.relation or ""]
    other = f"{where} {phrase(second, 'dative', count=count)}"
    sized = f"{where} {phrase(second, 'dative', count=count, size=not is_between)}"
    short = phrase(first, "nominative")
    return [
        f"{short} {other} {place}",
        f"{short} {other}",
        f"hier ist {short} {other} {place}",
        f"{phrase(first, 'nominative', size=not is_between)} {sized} {place}",
        f"{short} ist {other}",
        f"zu sehen ist {short} {other}",
    ]
