"""Five captions of a scene, in English or another language.

They are paraphrases that differ in what they mention, never in the facts.

The phrasings are few on purpose: references that share their n-grams make CIDEr-D measure
whether the facts are right, not which wording was guessed.
"""

from random import Random

from showtell.data.scenes import chinese, german
from showtell.data.scenes.world import Scene, Thing

NUM_CAPTIONS = 5
NUMBERS = {2: "two", 3: "three", 4: "four", 5: "five"}
PLURALS = {"cross": "crosses"}
PLACES = {
    "white": "on a white background",
    "black": "on a black background",
    "gray": "on a gray background",
    "sky": "in a cloudy sky",
    "grass": "on green grass",
    "sea": "on the sea",
    "night": "in the night sky",
    "sunset": "in front of a sunset",
    "sand": "on a sandy beach",
    "brick": "on a brick wall",
    "wood": "on a wooden floor",
}
RELATIONS = {
    "left": "to the left of",
    "right": "to the right of",
    "above": "above",
    "below": "below",
    "inside": "inside",
    "between": "between",
}


def describe(scene: Scene, random: Random, language: str = "en") -> tuple[str, ...]:
    """Five captions, no two the same, in an order of their own for each picture.

    Args:
        random: in the same state afterwards whatever the language, so the picture is the same.
        language: one of ``LANGUAGES``.
    """
    english = english_phrasings(scene)
    distinct = [place for place, caption in enumerate(english) if caption not in english[:place]]
    random.shuffle(distinct)
    captions = LANGUAGES[language](scene)
    return tuple(captions[place] for place in distinct[:NUM_CAPTIONS])


def english_phrasings(scene: Scene) -> list[str]:
    """Six captions of a scene; two may be the same."""
    if scene.kind == "single":
        return _single(scene)
    return _group(scene) if scene.kind == "group" else _related(scene)


LANGUAGES = {
    "en": english_phrasings,
    "de": german.phrasings,
    "zh": chinese.phrasings,
}
"""The languages that captions can be in, and what gives six of a scene."""


def with_article(phrase: str) -> str:
    """``a red star``, ``an orange star``."""
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def _noun(thing: Thing, *, plural: bool = False) -> str:
    return PLURALS.get(thing.shape, f"{thing.shape}s") if plural else thing.shape


def _words(thing: Thing, *, size: str = "", texture: bool = False, plural: bool = False) -> str:
    """Size, colour, texture, noun: ``small blue striped stars``."""
    pattern = thing.texture if texture and thing.texture != "plain" else ""
    words = (size, thing.colour, pattern, _noun(thing, plural=plural))
    return " ".join(word for word in words if word)


def _size(thing: Thing) -> str:
    return "large" if thing.large else "small"


def _single(scene: Scene) -> list[str]:
    thing = scene.things[0]
    short = with_article(_words(thing, texture=True))
    full = with_article(_words(thing, size=_size(thing), texture=True))
    sized = with_article(_words(thing, size=_size(thing)))
    return _phrasings(short, full, sized, "is", PLACES[scene.background])


def _group(scene: Scene) -> list[str]:
    thing, number = scene.things[0], NUMBERS[scene.count]
    short = f"{number} {_words(thing, texture=True, plural=True)}"
    full = f"{number} {_words(thing, size=_size(thing), texture=True, plural=True)}"
    sized = f"{number} {_words(thing, size=_size(thing), plural=True)}"
    return _phrasings(short, full, sized, "are", PLACES[scene.background])


def _phrasings(short: str, full: str, sized: str, verb: str, place: str) -> list[str]:
    return [
        f"{full} {place}",
        f"{short} {place}",
        f"there {verb} {full} {place}",
        f"{sized} {place}",
        f"a picture of {full}",
        f"{short} {verb} {place}",
    ]


def _related(scene: Scene) -> list[str]:
    first, second = scene.things
    relation, place = RELATIONS[scene.relation or ""], PLACES[scene.background]
    short, full = with_article(_words(first)), with_article(_words(first, size=_size(first)))
    if scene.kind == "between":
        full = short
        other = sized_other = f"two {_words(second, plural=True)}"
    else:
        other = with_article(_words(second))
        sized_other = with_article(_words(second, size=_size(second)))
    return [
        f"{short} {relation} {other} {place}",
        f"{short} {relation} {other}",
        f"there is {short} {relation} {other} {place}",
        f"{full} {relation} {sized_other} {place}",
        f"{short} is {relation} {other}",
        f"a picture of {short} {relation} {other}",
    ]
