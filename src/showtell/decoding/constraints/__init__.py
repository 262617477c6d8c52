"""Constraints: which tokens may come next in a caption.

A constraint is called with the log-probabilities (N, V) of the next token, the tokens so far (N, L)
and their number L. It writes -inf where a token may not come, and leaves the other entries as they
are: they are not normalised again, so a caption keeps the probability that the model gives it.

Settings that name words are about words, whatever tokens the vocabulary has and however a caption
spells them (``words.py`` and ``repeats.py``). A token after which no allowed caption can end is
forbidden at once, so even greedy search finds a caption. Repeats are the one exception: they are
foreseen for the last token only.

``WordRules`` and ``NoRepeat`` use tables that follow from the settings alone. ``TABLES`` keeps
those used last, for the next batch.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from showtell.decoding.arrays import NEVER, Array, Ids, arrays_of
from showtell.decoding.constraints.cache import TableCache
from showtell.decoding.constraints.repeats import NoRepeat
from showtell.decoding.constraints.words import WordRules, WordSettings
from showtell.text.vocabulary import END, PAD, SPECIAL_WORDS, START, UNK, Spelling

TABLES = TableCache()


class Constraint(Protocol):
    """Forbids tokens, given those so far; ``log_probs`` are the model's arrays."""

    def __call__(self, log_probs: Array, prefixes: Ids, length: int) -> Array:
        """(N, V) log-probabilities after (N, L) tokens -> the same with -inf."""


def build_constraints(
    spelling: Spelling | None = None,
    *,
    max_tokens: int,
    min_length: int = 0,
    max_length: int | None = None,
    no_repeat_ngram: int | None = None,
    no_repeat_around: Sequence[str] = (),
    forbidden: Sequence[str] = (),
    required: Sequence[str] = (),
    bad_endings: Sequence[str] = (),
    never: Sequence[int] = (),
) -> list[Constraint]:
    """The constraints for these settings.

    ``<pad>``, ``<start>`` and ``<unk>`` are always forbidden. A phrase is one word, or
    several with a space between, each as ``spelling.spell`` gives it.

    Args:
        spelling: of the vocabulary; not needed where each id is a word and the only limits are
            lengths.
        max_tokens: the most tokens before ``<end>``.
        min_length: the fewest words; no more than ``max_length`` and ``max_tokens`` allow.
        max_length: the most words; default: ``max_tokens``.
        no_repeat_ngram: never repeat any n-gram of this length.
        no_repeat_around: words that may not stand between a word and the same word.
        forbidden: phrases that may not occur.
        required: phrases that must all occur.
        bad_endings: phrases that ``<end>`` may not follow.
        never: further ids that are always forbidden.
    """
    special = {PAD, START, UNK, *never}
    if max_length is None:
        max_length = max_tokens
    max_length = min(max_length, max_tokens)
    min_length = min(min_length, max_length)
    constraints: list[Constraint] = [Forbidden(special)]
    if no_repeat_ngram or no_repeat_around:
        assert spelling is not None
        around = tuple(no_repeat_around)
        constraints.append(_no_repeat(spelling, max_tokens, no_repeat_ngram, around))
    names_words = bool(forbidden or required or bad_endings)
    if not names_words and (spelling is None or each_id_is_a_word(spelling)):
        return [*constraints, Length(min_length, max_length)]
    assert spelling is not None
    settings = WordSettings(
        spelling,
        max_tokens=max_tokens,
        min_words=min_length,
        max_words=max_length,
        forbidden=tuple(forbidden),
        required=tuple(required),
        bad_endings=tuple(bad_endings),
    )
    rules = word_rules(settings)
    return [Forbidden(special.union(rules.never)), *constraints[1:], rules]


def each_id_is_a_word(spelling: Spelling) -> bool:
    """Whether each id but the special ones is a whole word, so that a caption has a word an id."""
    num_special = len(SPECIAL_WORDS)
    return all(spelling.starts[num_special:]) and all(spelling.texts[num_special:])


def word_rules(settings: WordSettings) -> WordRules:
    """``WordRules(settings)``, built once for as long as ``TABLES`` keeps it."""
    return TABLES.get(settings, lambda: WordRules(settings))


def _no_repeat(
    spelling: Spelling, max_tokens: int, ngram: int | None, around: tuple[str, ...]
) -> NoRepeat:
    key = NoRepeat, spelling, max_tokens, ngram, around
    return TABLES.get(key, lambda: NoRepeat(spelling, max_tokens, ngram=ngram, around=around))


class Forbidden:
    """Tokens that never come."""

    def __init__(self, ids: set[int]) -> None:
        self.ids = np.array(sorted(ids))

    def __call__(self, log_probs: Array, prefixes: Ids, length: int) -> Array:
        """-inf in their columns."""
        arrays_of(log_probs).forbid(log_probs, slice(None), self.ids)
        return log_probs


class Length:
    """The fewest and the most words, where each token is a word."""

    def __init__(self, min_length: int, max_length: int) -> None:
        self.min_length, self.max_length = min_length, max_length

    def __call__(self, log_probs: Array, prefixes: Ids, length: int) -> Array:
        """No ``<end>`` before ``min_length`` words, only ``<end>`` after ``max_length``."""
        if length < self.min_length:
            log_probs[:, END] = NEVER
        if length >= self.max_length:
            log_probs[:, :END] = NEVER
            log_probs[:, END + 1 :] = NEVER
        return log_probs
