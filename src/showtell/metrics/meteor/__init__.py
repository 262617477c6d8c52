"""METEOR 1.5 for English (Denkowski and Lavie 2014, "Meteor Universal"), as COCO runs it.

That is with ``-l en -norm``: the normaliser, matches by exact word, Snowball stem, WordNet synonym
and paraphrase, and the parameters tuned on human rankings (section 3). The score of an image is
that of its best reference; the score of the corpus comes from the summed statistics of those
references. Written from the paper and from the answers of the original program, not from its
source.

Three shortcuts leave every score as it is. Without one of them METEOR of COCO's 5,000 test captions
takes longer by (``benchmarks/metrics.py``, one thread): a quarter without the bound that passes
over references which cannot win (``_bound``), a quarter without the normaliser's way around plain
text (``text.py``), a quarter with the garbage collector running.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path

import numpy as np

from showtell.core.memory import paused_collector
from showtell.errors import ScoringError
from showtell.metrics.meteor import tables as meteor_tables
from showtell.metrics.meteor.align import WEIGHTS, Match, Sentence, align, find_matches
from showtell.metrics.meteor.text import normalize
from showtell.metrics.meteor.words import Lexicon
from showtell.metrics.references import Captions
from showtell.metrics.statistics import Floats, Statistics

VERSION = "1.5"

_ALPHA = 0.85  # weight of recall
_BETA = 0.2  # power of the fragmentation
_GAMMA = 0.6  # the largest penalty
_DELTA = 0.75  # weight of content words

is_installed = meteor_tables.is_installed


@dataclass(frozen=True, slots=True)
class Counts:
    """What METEOR adds up over a corpus: the counts of one caption with one reference.

    Attributes:
        words: number of words of the hypothesis and of the reference; then of function words.
        matched: for each of the four modules, how many words are matched: content words of the
            hypothesis and of the reference, function words of the hypothesis and of the reference.
        chunks: groups of matched words that are in the same order in both.
    """

    words: tuple[int, int, int, int]
    matched: tuple[int, ...]
    chunks: int

    def score(self) -> float:
        """Equations 1 to 6, 0 to 1.

        In the original's order of operations, to the last bit: of two references of the same
        score the first is taken, and rounding decides what is the same.
        """
        precision = self._share(0)
        recall = self._share(1)
        matched = sum(self.matched) / 2
        if not precision or not recall:
            return 0.0
        mean = 1.0 / ((1.0 - _ALPHA) / precision + _ALPHA / recall)
        penalty: float = _GAMMA * (self.penalized_chunks() / matched) ** _BETA
        return mean * (1.0 - penalty)

    def penalized_chunks(self) -> int:
        """The chunks; 0 if the hypothesis is one chunk that matches all of its reference."""
        words = sum(self.matched[0::2]), sum(self.matched[1::2])
        return 0 if self.chunks == 1 and words == self.words[:2] else self.chunks

    def _share(self, side: int) -> float:
        """Weighted share of the hypothesis's (0) or the reference's (1) words that match."""
        function = self.words[side + 2]
        total = _DELTA * (self.words[side] - function) + (1.0 - _DELTA) * function
        matched = 0.0
        for first, delta in ((side, _DELTA), (side + 2, 1.0 - _DELTA)):
            # Not sum(), which rounds otherwise from Python 3.12 on.
            for count, weight in zip(self.matched[first::4], WEIGHTS, strict=True):
                matched += count * weight * delta
        return matched / total if total else 0.0


def statistics(captions: Captions) -> Statistics:
    """METEOR of one caption an image.

    Raises:
        MissingExtraError: the extra ``meteor`` is not installed.
        ScoringError: the tables are damaged or cannot be converted.
    """
    return statistics_of_words(captions.words, captions.references.captions)


def statistics_of_words(
    captions: Sequence[Sequence[str]],
    references: Sequence[Sequence[Sequence[str]]],
    *,
    folder: Path | None = None,
) -> Statistics:
    """METEOR of captions that are tokenised already.

    Args:
        captions: (B images) words of each caption.
        references: (B images) words of each reference.
        folder: where METEOR's converted tables lie; default: in showtell's cache.
    """
    best = best_counts(captions, references, _tables(folder))
    counts = [(*c.words, *c.matched, c.penalized_chunks()) for c in best]
    scores = [[c.score()] for c in best]
    return Statistics(("METEOR",), np.array(counts, np.float64), _of_sums, np.array(scores))


def _of_sums(sums: Floats) -> Floats:
    """``Counts.score`` of many sums (..., 21) at once, (..., 1), equal to the last bit."""
    words, matched, chunks = sums[..., :4], sums[..., 4:20], sums[..., 20]
    shares = []
    for side in (0, 1):
        function = words[..., side + 2]
        total = _DELTA * (words[..., side] - function) + (1.0 - _DELTA) * function
        weighted = np.zeros_like(total)
        for first, delta in ((side, _DELTA), (side + 2, 1.0 - _DELTA)):
            for module, weight in enumerate(WEIGHTS):
                weighted += matched[..., 4 * module + first] * weight * delta
        shares.append(np.divide(weighted, total, out=np.zeros_like(total), where=total != 0))
    precision, recall = shares
    is_matched = (precision > 0) & (recall > 0)
    precision, recall = np.where(is_matched, precision, 1.0), np.where(is_matched, recall, 1.0)
    mean = 1.0 / ((1.0 - _ALPHA) / precision + _ALPHA / recall)
    half = np.where(is_matched, matched.sum(axis=-1) / 2, 1.0)
    # The power by the C library, as in Counts.score: NumPy's own differs in the last bit.
    penalty = _GAMMA * np.vectorize(math.pow, otypes=[np.float64])(chunks / half, _BETA)
    return np.where(is_matched, mean * (1.0 - penalty), 0.0)[..., None]


def best_counts(
    captions: Sequence[Sequence[str]],
    references: Sequence[Sequence[Sequence[str]]],
    tables: meteor_tables.Tables,
) -> list[Counts]:
    """For each caption the statistics with its best reference, the first of equals."""
    texts = [" ".join(words) for words in captions]
    reference_texts = [list(dict.fromkeys(map(" ".join, each))) for each in references]
    # Each text once on each side.
    distinct = [dict.fromkeys(texts), dict.fromkeys(chain.from_iterable(reference_texts))]
    normal = [[normalize(text) for text in side] for side in distinct]
    lexicon = Lexicon(tables, *normal)
    number = [{text: place for place, text in enumerate(side)} for side in distinct]

    def sentence(text: str, side: int) -> Sentence:
        place = number[side][text]
        words = normal[side][place]
        is_function = [word in tables.function_words for word in words]
        return Sentence(words, lexicon.phrases[side][place], is_function)

    # Matches and paths are millions of small tuples, and no cycles.
    with paused_collector():
        return [
            _best(sentence(text, 0), [sentence(reference, 1) for reference in each], lexicon)
            for text, each in zip(texts, reference_texts, strict=True)
        ]


def _best(hypothesis: Sentence, references: list[Sentence], lexicon: Lexicon) -> Counts:
    """Align with the most promising reference first; pass over those that cannot win."""
    matches = find_matches(hypothesis, references, lexicon)
    bounds = [_bound(hypothesis, *pair) for pair in zip(references, matches, strict=True)]
    best: tuple[float, int, Counts] | None = None
    for number in sorted(range(len(references)), key=lambda number: -bounds[number]):
        # The margin keeps references that rounding makes equal.
        if best and bounds[number] < best[0] * (1 - 1e-9):
            break
        found = _count(hypothesis, references[number], matches[number])
        score = found.score()
        # Of equals the first reference counts.
        if best is None or (score, -number) > best[:2]:
            best = score, -number, found
    assert best is not None
    return best[2]


def _bound(hypothesis: Sentence, reference: Sentence, matches: list[Match]) -> float:
    """An upper bound of the score with these matches: every word matched, all in one chunk."""
    weights = [0.0] * len(hypothesis.words)
    reference_weights = [0.0] * len(reference.words)
    for r, m, h, n, module in matches:
        weight = WEIGHTS[module]
        for place in range(h, h + n):
            if weights[place] < weight:
                weights[place] = weight
        for place in range(r, r + m):
            if reference_weights[place] < weight:
                reference_weights[place] = weight
    precision = _most(weights, hypothesis.is_function)
    recall = _most(reference_weights, reference.is_function)
    if not precision or not recall:
        return 0.0
    mean = 1.0 / ((1.0 - _ALPHA) / precision + _ALPHA / recall)
    missed = weights.count(0.0) + reference_weights.count(0.0)
    matched = (len(weights) + len(reference_weights) - missed) / 2
    return mean * (1.0 - _GAMMA * matched**-_BETA) if missed else mean


def _most(weights: list[float], is_function: list[bool]) -> float:
    """Share of a sentence's words that match, by the weights of words and of their matches."""
    matched = total = 0.0
    for weight, function in zip(weights, is_function, strict=True):
        delta = 1.0 - _DELTA if function else _DELTA
        total += delta
        matched += weight * delta
    return matched / total if total else 0.0


def _count(hypothesis: Sentence, reference: Sentence, matches: list[Match]) -> Counts:
    chosen, chunks = align(len(reference.words), len(hypothesis.words), matches)
    matched = [0] * 16
    for match in chosen:
        r, m, h, n, module = match
        functions = sum(hypothesis.is_function[h : h + n])
        reference_functions = sum(reference.is_function[r : r + m])
        matched[4 * module] += n - functions
        matched[4 * module + 1] += m - reference_functions
        matched[4 * module + 2] += functions
        matched[4 * module + 3] += reference_functions
    words = (
        len(hypothesis.words),
        len(reference.words),
        sum(hypothesis.is_function),
        sum(reference.is_function),
    )
    return Counts(words, tuple(matched), chunks)


def prepare(folder: Path | None = None) -> None:
    """Open METEOR's tables. The first call on a machine converts them, in about 20 seconds.

    Raises:
        MissingExtraError: the extra ``meteor`` is not installed.
        ScoringError: the tables are damaged or cannot be converted.
    """
    _tables(folder)


def prepare_aloud(tell: Callable[[str], None]) -> None:
    """Convert the tables now and tell the user, where the first scoring would do so silently.

    Errors are not raised here: ``evaluate`` reports them beside the scores.
    """
    with suppress(ScoringError):
        if is_installed() and not meteor_tables.is_converted():
            tell("converting METEOR's tables, this once: about 20 seconds")
            prepare()


@lru_cache(maxsize=2)
def _tables(folder: Path | None) -> meteor_tables.Tables:
    return meteor_tables.load(folder)
