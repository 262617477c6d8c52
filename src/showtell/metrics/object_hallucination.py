"""CHAIR: how often captions name objects that are not there.

Rohrbach et al. 2018, arXiv 1809.02156, section 2.1, with the words of its authors' program
(``coco_objects.txt``):

    CHAIR-i = mentions of objects that the picture lacks / mentions of objects
    CHAIR-s = captions with one such mention or more / captions

The truth is what references mention, united, where COCO's instances are at hand, with the objects
that annotators outlined. The lower, the better; a caption that names nothing has the best CHAIR,
so read it beside the object recall: the share of true objects that captions name.
"""

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np

from showtell.core.messages import some
from showtell.errors import DataError, ScoringError
from showtell.metrics.references import Captions
from showtell.metrics.statistics import Better, Statistics

VERSION = "1"

NAMES = ("CHAIR-i", "CHAIR-s", "object-recall")
BETTER: dict[str, Better] = {"CHAIR-i": "lower", "CHAIR-s": "lower", "object-recall": "higher"}

# Plurals that no rule gives; a word that ends in -man has its plural in -men.
_IRREGULAR = {
    "person": ["people"],
    "child": ["children"],
    "grandchild": ["grandchildren"],
    "goose": ["geese"],
    "mouse": ["mice"],
    "knife": ["knives"],
    "pocketknife": ["pocketknives"],
    "calf": ["calves"],
    "thief": ["thieves"],
    "ox": ["oxen"],
    "bus": ["busses"],
    "minibus": ["minibusses"],
}
# "The seat of the toilet" is not a chair.
_SEAT, _TOILET = "seat", "toilet"


@dataclass(frozen=True)
class Mention:
    """An object in a caption: the word for it, in the singular, and the object's name."""

    word: str
    name: str


class ObjectWords:
    """Which words name which objects.

    Attributes:
        objects: the name of the object by each word or pair of words for it, in the singular.
    """

    def __init__(
        self, synonyms: Mapping[str, Iterable[str]], pairs: Mapping[str, str] | None = None
    ) -> None:
        """Prepare the words.

        Args:
            synonyms: words for each object besides its name; each has one or two words.
            pairs: pairs of words with what each is read as; "" for nothing.

        Raises:
            ScoringError: a phrase has three words or more, or a word is of two objects.
        """
        self.objects: dict[str, str] = {}
        for name, others in synonyms.items():
            for word in (name, *others):
                if (first := self.objects.setdefault(word, name)) != name:
                    raise ScoringError(
                        f"{word!r} is a word for two objects: {first!r} and {name!r}"
                    )
        read_as = {word: word for word in self.objects if " " in word} | dict(pairs or {})
        if wrong := [word for word in (*self.objects, *read_as) if len(word.split()) > 2]:
            raise ScoringError(f"words for objects have one or two words, not more: {some(wrong)}")
        self._pairs = {tuple(pair.split()): word for pair, word in read_as.items()}
        singular = {word: word for phrase in (*self.objects, *read_as) for word in phrase.split()}
        for word in list(singular):
            for plural in plurals(word):
                singular.setdefault(plural, word)
        self._singular = singular

    @classmethod
    def default(cls) -> "ObjectWords":
        """COCO's 80 objects, with the words of the authors' program."""
        return _coco_objects()

    @classmethod
    def read(cls, text: str) -> "ObjectWords":
        """From lines ``name: synonym, synonym`` and ``two words -> word``; "#" begins a comment.

        Raises:
            ScoringError: a phrase has three words or more, or a word is of two objects.
        """
        synonyms: dict[str, list[str]] = {}
        pairs: dict[str, str] = {}
        for line in text.lower().splitlines():
            line = line.partition("#")[0]
            pair, arrow, word = line.partition("->")
            name, _, others = line.partition(":")
            if arrow:
                pairs[_spaced(pair)] = _spaced(word)
            elif name.strip():
                words = [_spaced(other) for other in others.split(",") if other.strip()]
                synonyms.setdefault(_spaced(name), []).extend(words)
        return cls(synonyms, pairs)

    def mentions(self, tokens: Sequence[str]) -> list[Mention]:
        """The objects that a caption mentions, in its order; one mentioned twice is there twice.

        Args:
            tokens: the caption's words in lower case, as ``text.tokenizer`` gives them.
        """
        if self._singular.keys().isdisjoint(tokens):
            return []
        singular = [self._singular.get(token, token) for token in tokens]
        words, index = [], 0
        while index < len(singular):
            pair = self._pairs.get(tuple(singular[index : index + 2]))
            words.append(singular[index] if pair is None else pair)
            index += 1 if pair is None else 2
        if _TOILET in words:
            words = [word for word in words if word != _SEAT]
        return [Mention(word, self.objects[word]) for word in words if word in self.objects]

    def mentioned(self, tokens: Sequence[str]) -> list[str]:
        """The names of ``mentions``."""
        return [mention.name for mention in self.mentions(tokens)]


def plurals(word: str) -> list[str]:
    """How people write the plural of an English noun, "mouses" and "dinghys" included."""
    forms = [f"{word}s", *_IRREGULAR.get(word, [])]
    if word.endswith("man"):
        forms.append(f"{word[:-3]}men")
    elif word.endswith(("s", "x", "z", "ch", "sh", "o")):
        forms.append(f"{word}es")
    elif word.endswith("y"):
        forms.append(f"{word[:-1]}ies")
    return forms


@cache
def _coco_objects() -> ObjectWords:
    path = resources.files("showtell.metrics").joinpath("coco_objects.txt")
    return ObjectWords.read(path.read_text("utf-8"))


def _spaced(phrase: str) -> str:
    return " ".join(phrase.split())


def statistics(captions: Captions, words: ObjectWords | None = None) -> Statistics:
    """CHAIR of one caption an image, by COCO's words; references say what is there."""
    words = words or ObjectWords.default()
    truth = objects_of_references(captions.references.captions, words)
    return chair([words.mentions(said) for said in captions.words], truth)


def chair(said: Sequence[Sequence[Mention]], truth: Sequence[Set[str]]) -> Statistics:
    """CHAIR of N captions by the objects that each mentions and those that are there.

    Args:
        said: ``ObjectWords.mentions`` of each caption.
        truth: names of the objects in each picture.

    Returns:
        "CHAIR-i", "CHAIR-s" and "object-recall"; the remarks are the words for what is not there.
    """
    pairs = list(zip(said, map(frozenset, truth), strict=True))
    invented = [[m.word for m in mentions if m.name not in objects] for mentions, objects in pairs]
    named = [len(objects & {m.name for m in mentions}) for mentions, objects in pairs]
    num_invented = np.array([len(words) for words in invented], np.float64)
    num_said = np.array([len(mentions) for mentions in said], np.float64)
    num_there = np.array([len(objects) for objects in truth], np.float64)
    found = Statistics.joined(
        [
            Statistics.ratio("CHAIR-i", num_invented, num_said),
            Statistics.mean("CHAIR-s", (num_invented > 0).astype(np.float64)),
            Statistics.ratio("object-recall", np.array(named, np.float64), num_there),
        ]
    )
    remarks = tuple(f"invents {', '.join(words)}" if words else "" for words in invented)
    return replace(found, remarks=remarks)


def objects_of_references(
    references: Sequence[Sequence[Sequence[str]]], words: ObjectWords
) -> list[frozenset[str]]:
    """The objects that the references of each image mention, by N lists of lists of words."""
    return [
        frozenset(name for tokens in captions for name in words.mentioned(tokens))
        for captions in references
    ]


def read_instances(path: Path, words: ObjectWords) -> dict[str, frozenset[str]]:
    """The objects of each image of a COCO instances file (``instances_val2014.json``).

    Raises:
        ScoringError: the file cannot be read or has another form, or ``words`` lacks a category.
    """
    from showtell.data.reading import parse_json, printable, read_text  # scoring needs no files

    try:
        value = parse_json(read_text(path), path)
    except DataError as error:
        raise ScoringError(str(error)) from None
    try:
        categories = {category["id"]: category["name"] for category in value["categories"]}
        pairs = [
            (str(annotation["image_id"]), categories[annotation["category_id"]])
            for annotation in value["annotations"]
        ]
        images = [str(image["id"]) for image in value.get("images", [])]
    except (AttributeError, KeyError, TypeError):
        raise ScoringError(
            f"{path}: expected COCO's instances, with categories (id, name) and annotations "
            "(image_id, category_id), as in instances_val2014.json"
        ) from None
    if unknown := [name for name in categories.values() if name not in words.objects]:
        raise ScoringError(
            f"{path}: no words are known for {len(unknown)} of its categories: "
            f"{some([printable(str(name)) for name in unknown])}"
        )
    found: dict[str, set[str]] = {image_id: set() for image_id in images}
    for image_id, name in pairs:
        found.setdefault(image_id, set()).add(words.objects[name])
    return {image_id: frozenset(objects) for image_id, objects in found.items()}
