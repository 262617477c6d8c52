"""Captions without what is doubted of them: colours, clothes, postures, animals, genders.

Where a captioner is not sure, it may say something more general that is true (Deng et al. 2012,
"Hedging Your Bets: Optimizing Accuracy-Specificity Trade-offs in Large Scale Visual Recognition").
"a young girl in a red dress is standing on a beach" is "a girl is on a beach" then, or "a child",
and "a brown dog" is "a brown animal". Only English words are left out, and only where the rest
stays a sentence; a gender gets neutral words in its place (``neutral.py``).
"""

from collections.abc import Sequence
from itertools import pairwise

from showtell.text.genders import WORDS
from showtell.text.neutral import article_before, ends_noun, neutral_words
from showtell.text.neutral_words import word_set

_ADJECTIVES = word_set(
    "white black red blue brown green yellow pink orange purple gray grey tan blond blonde silver "
    "young little old older elderly small big large "
    "wooden wood brick stone metal snowy dirt grassy"
)
_CLOTHES = word_set(
    "shirt shirts jacket jackets dress dresses hat hats coat coats suit suits shorts jeans uniform "
    "uniforms sunglasses helmet helmets costume costumes top tops vest vests sweater sweaters tie "
    "bikini"
)
_OF_CLOTHES = _ADJECTIVES | word_set("striped plaid long short bathing colorful and")
_GENDERED = frozenset[str]().union(*WORDS.values())

_POSTURES = word_set(
    "standing sitting laying lying walking running playing jumping parked posing resting sleeping "
    "flying swimming grazing"
)

DETAILS = _ADJECTIVES | _CLOTHES | _POSTURES
"""Words that may be left out."""

_ANIMALS = word_set(
    "dog cat kitten horse cow bull goat pig bird bear giraffe elephant zebra monkey lion tiger "
    "rabbit"
)
KINDS: dict[str, str] = {
    **dict.fromkeys([*_ANIMALS, "puppy", "pony"], "animal"),
    **dict.fromkeys([f"{one}s" for one in _ANIMALS] + ["puppies", "ponies"], "animals"),
}
"""Words that may be said more generally, and how."""

_NO_KIND_AFTER = word_set("teddy stuffed toy hot polar corn chili")

_DETERMINERS = word_set("a an the his her their")
_BEFORE_PLACES = word_set("in on at near under by beside behind inside outside next against among")
_BEFORE_ADJECTIVES = word_set("light dark bright very")
_KEEP_ADJECTIVES = word_set(
    "photo photos photograph photographs picture pictures image images hair area areas ground "
    "surface background"
)
"""What hardly says anything without one, or is not itself what the adjective describes."""

_COMPOUNDS = frozenset(
    {
        ("dirt", "bike"),
        ("dirt", "bikes"),
        ("little", "league"),
        ("white", "water"),
        ("yellow", "lab"),
        ("black", "lab"),
        ("big", "ben"),
    }
)
"""What is something else without its first word."""

_FEWEST = 4  # words that are left of a caption without clothes


def without_doubted(words: Sequence[str], doubted: Sequence[bool]) -> list[tuple[str, int]]:
    """A caption's words without what is doubted, each with the place that it stems from.

    Args:
        words: as the tokeniser cuts them, in lower case.
        doubted: for each word; others than ``DETAILS``, ``KINDS`` and words for men and women
            stay.
    """
    words = _general(words, doubted)
    gone = _clothes(words, doubted)
    gone |= _adjectives(words, doubted, gone)
    gone |= _postures(words, doubted)
    kept = [place for place in range(len(words)) if place not in gone]
    said = [words[place] for place in kept]
    for n, (place, after) in enumerate(pairwise(kept)):
        if said[n] in ("a", "an") and (after > place + 1 or words[after] in KINDS.values()):
            said[n] = article_before(words[after])
    if any(doubted[place] and words[place] in _GENDERED for place in kept):
        return [(word, kept[n]) for word, n in neutral_words(said)]
    return list(zip(said, kept, strict=True))


def _general(words: Sequence[str], doubted: Sequence[bool]) -> list[str]:
    """The words, a doubted animal as an animal, if it is the only one."""
    said = list(words)
    animals = [place for place, word in enumerate(words) if word in KINDS]
    for place in animals if len(animals) == 1 else ():
        is_compound = place > 0 and words[place - 1] in _NO_KIND_AFTER
        is_last = ends_noun(words[place + 1] if place + 1 < len(words) else "")
        if doubted[place] and is_last and not is_compound:
            said[place] = KINDS[words[place]]
    return said


def _clothes(words: Sequence[str], doubted: Sequence[bool]) -> set[int]:
    """The places of what somebody wears, of which something is doubted."""
    found: set[int] = set()
    for start, word in enumerate(words):
        if word not in ("in", "wearing") or start == 0 or not _is_noun(words, start - 1):
            continue
        end = _end_of_clothes(words, start + 1)
        if end is None or (end < len(words) and words[end] in ("and", "with", "of", "that")):
            continue
        is_short = len(words) - len(found) - (end - start) < _FEWEST
        if any(doubted[start + 1 : end]) and not is_short:
            found.update(range(start, end))
    return found


def _end_of_clothes(words: Sequence[str], start: int) -> int | None:
    """Where something to wear ends that begins at ``start``; None if nothing does."""
    place = start
    if place < len(words) and words[place] in _DETERMINERS:
        place += 1
    while place < len(words) and words[place] in _OF_CLOTHES:
        place += 1
    end = place
    while end < len(words) and words[end] in _CLOTHES:  # "a top hat"
        end += 1
    return end if end > place else None


def _is_noun(words: Sequence[str], place: int) -> bool:
    """Whether a word may be somebody who wears what follows: no "is", "dressed" or "standing"."""
    return not ends_noun(words[place]) and words[place] not in DETAILS


def _adjectives(words: Sequence[str], doubted: Sequence[bool], gone: set[int]) -> set[int]:
    """The places of doubted adjectives before a noun, and of an "and" or "very" beside them."""
    found: set[int] = set()
    for place, word in enumerate(words):
        if not doubted[place] or word not in _ADJECTIVES or place in gone:
            continue
        if (noun := _noun_after(words, place)) is None or not _may_lose(words, place, noun):
            continue
        found.add(place)
        if _joins_adjectives(words, place + 1):
            found.add(place + 1)
        elif _joins_adjectives(words, place - 1) or words[max(place - 1, 0)] in _BEFORE_ADJECTIVES:
            found.add(place - 1)
    return found


def _postures(words: Sequence[str], doubted: Sequence[bool]) -> set[int]:
    """The places of doubted words for what somebody does somewhere: "is standing on a beach"."""
    return {
        place
        for place, (word, after) in enumerate(pairwise(words))
        if doubted[place]
        and word in _POSTURES
        and after in _BEFORE_PLACES
        and place > 0
        and words[place - 1] != "and"
        and words[place + 2 : place + 4] != ["the", "air"]
    }


def _joins_adjectives(words: Sequence[str], place: int) -> bool:
    """Whether there is an "and" between two adjectives, as in "black and white"."""
    return (
        0 < place < len(words) - 1
        and words[place] == "and"
        and words[place - 1] in _ADJECTIVES
        and words[place + 1] in _ADJECTIVES
    )


def _noun_after(words: Sequence[str], place: int) -> int | None:
    """The place of what an adjective describes, perhaps after others; None if that is nothing."""
    place += 1
    while place < len(words) and (words[place] in _ADJECTIVES or _joins_adjectives(words, place)):
        place += 1
    return place if place < len(words) and not ends_noun(words[place]) else None


def _may_lose(words: Sequence[str], place: int, noun: int) -> bool:
    """Whether a noun may be without an adjective: it means the same, and is told from others."""
    if place and words[place - 1] in ("year", "years", "month", "months"):
        return False
    if words[noun] in _KEEP_ADJECTIVES:
        return False
    return words.count(words[noun]) == 1 and (words[place], words[noun]) not in _COMPOUNDS
