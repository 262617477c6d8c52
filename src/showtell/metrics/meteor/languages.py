"""METEOR 1.5 in other languages than English: matches by exact word and by Snowball stem.

That is the original program with ``-l LANGUAGE -m "exact stem"`` on words that are cut already:
with its parameters of each language (Denkowski and Lavie 2014, "Meteor Universal", section 4; the
program prints them as its "Eval ID") and, as it has them there, without function words. Its
paraphrase tables of German, French, Spanish and Russian are a download of their own and are not
used. The stemmers are those of ``snowballstemmer`` (extra ``languages``); for some words they are
newer than the original's.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import numpy as np

from showtell.core.memory import paused_collector
from showtell.errors import MissingExtraError, ScoringError
from showtell.metrics.meteor.align import Match, align
from showtell.metrics.references import Captions
from showtell.metrics.statistics import Floats, Statistics
from showtell.text.language import name_of

STEMMERS = {
    **{"ar": "arabic", "ca": "catalan", "da": "danish", "de": "german", "el": "greek"},
    **{"es": "spanish", "et": "estonian", "eu": "basque", "fi": "finnish", "fr": "french"},
    **{"ga": "irish", "hi": "hindi", "hu": "hungarian", "hy": "armenian", "id": "indonesian"},
    **{"it": "italian", "lt": "lithuanian", "ne": "nepali", "nl": "dutch", "no": "norwegian"},
    **{"pl": "polish", "pt": "portuguese", "ro": "romanian", "ru": "russian", "sr": "serbian"},
    **{"sv": "swedish", "ta": "tamil", "tr": "turkish", "yi": "yiddish", "eo": "esperanto"},
}
"""The stemmer of each language; one that the installed snowballstemmer lacks is not there."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """alpha, beta and gamma of the paper, and the weight of a match by stem."""

    recall: float = 0.75
    power: float = 1.4
    penalty: float = 0.7
    stem: float = 0.5


# The program's own for "rank"; every other language has the ones that do not depend on it.
_PARAMETERS = {
    "de": Parameters(0.95, 1.0, 0.55, 0.8),
    "es": Parameters(0.65, 1.3, 0.5, 0.8),
    "fr": Parameters(0.9, 1.4, 0.6, 0.2),
}


def why_not(language: str | None) -> MissingExtraError | ScoringError | None:
    """Why METEOR cannot be computed in a language; None where it can."""
    if language not in STEMMERS:
        name = name_of(language) if language else "this language"
        return ScoringError(f"METEOR has no stemmer for {name}")
    if find_spec("snowballstemmer") is None:
        return MissingExtraError("languages", f"METEOR in {name_of(language)}")
    import snowballstemmer

    if STEMMERS[language] not in snowballstemmer.algorithms():
        return ScoringError(
            f"METEOR needs a stemmer for {name_of(language)}, and snowballstemmer "
            f"{version('snowballstemmer')} has none; a newer one may"
        )
    return None


def version_of(language: str) -> str:
    """For signatures: the language, the modules and the stemmer's version."""
    return f"1.5-{language}-exact-stem-snowball{version('snowballstemmer')}"


def statistics_in(language: str) -> Callable[[Captions], Statistics]:
    """What computes METEOR in a language of which ``why_not`` says nothing."""
    return partial(_statistics, language)


def _statistics(language: str, captions: Captions) -> Statistics:
    return statistics_of_words(captions.words, captions.references.captions, language)


def statistics_of_words(
    captions: Sequence[Sequence[str]],
    references: Sequence[Sequence[Sequence[str]]],
    language: str,
) -> Statistics:
    """METEOR of captions that are cut into words.

    Args:
        captions: (B images) words of each caption.
        references: (B images) words of each reference.
    """
    parameters = _PARAMETERS.get(language, Parameters())
    stem = _stemmer(language)
    # Tokens may have a space inside, and the original program cuts there.
    said = [" ".join(words).split() for words in captions]
    with paused_collector():
        counts = np.array(
            [
                _best(words, [" ".join(r).split() for r in each], stem, parameters)
                for words, each in zip(said, references, strict=True)
            ],
            np.float64,
        )
    scores = _of_sums(parameters, counts)
    return Statistics(("METEOR",), counts, partial(_of_sums, parameters), scores)


@cache
def _stemmer(language: str) -> Callable[[str], str]:
    import snowballstemmer

    stemmer: Any = snowballstemmer.stemmer(STEMMERS[language])
    return cache(stemmer.stemWord)


def _best(
    said: list[str],
    references: Sequence[list[str]],
    stem: Callable[[str], str],
    parameters: Parameters,
) -> list[int]:
    """The counts with the reference of the highest score, the first of equals."""
    counts = [_count(said, reference, stem) for reference in references]
    scores = _of_sums(parameters, np.array(counts, np.float64))[:, 0]
    return counts[int(scores.argmax())]


def _count(said: list[str], reference: list[str], stem: Callable[[str], str]) -> list[int]:
    """What adds up over a corpus.

    Words of the hypothesis and of the reference, matches by word and by stem, and chunks.
    """
    chosen, chunks = align(len(reference), len(said), _matches(said, reference, stem))
    by_stem = sum(module for *_, module in chosen)
    if chunks == 1 and len(chosen) == len(said) == len(reference):
        chunks = 0  # no penalty for one chunk that is all
    return [len(said), len(reference), len(chosen) - by_stem, by_stem, chunks]


def _matches(said: list[str], reference: list[str], stem: Callable[[str], str]) -> list[Match]:
    """All pairs of the same word, then all of the same stem."""
    exact: list[Match] = []
    by_stem: list[Match] = []
    stems = [stem(word) for word in said]
    for place, word in enumerate(reference):
        own = stem(word)
        for other, (spoken, its) in enumerate(zip(said, stems, strict=True)):
            if spoken == word:
                exact.append((place, 1, other, 1, 0))
            elif its == own:
                by_stem.append((place, 1, other, 1, 1))
    return exact + by_stem


def _of_sums(parameters: Parameters, sums: Floats) -> Floats:
    """Equations 1 to 6 of sums (..., 5): (..., 1), each from 0 to 1."""
    words, exact, stems, chunks = sums[..., :2], sums[..., 2], sums[..., 3], sums[..., 4]
    matched = (exact + parameters.stem * stems)[..., None]
    shares = np.divide(matched, words, out=np.zeros_like(words), where=words != 0)
    precision, recall = shares[..., 0], shares[..., 1]
    is_matched = (precision > 0) & (recall > 0)
    precision, recall = np.where(is_matched, precision, 1.0), np.where(is_matched, recall, 1.0)
    mean = 1.0 / ((1.0 - parameters.recall) / precision + parameters.recall / recall)
    scattered = chunks / np.where(is_matched, exact + stems, 1.0)
    penalty = parameters.penalty * np.vectorize(math.pow, otypes=[np.float64])(
        scattered, parameters.power
    )
    score: Floats = np.where(is_matched, mean * (1.0 - penalty), 0.0)
    return score[..., None]
