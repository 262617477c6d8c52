"""What a caption may not be: each constraint puts -inf where a token may not come next.

A constraint is called with the next tokens' log-probabilities (N, V), the tokens so far (N, L) and
their number L, and changes the log-probabilities in place. The others are left as they are, not
renormalised, so a caption keeps the probability that the model gives it.

What is asked of words holds for words, whatever the tokens of the vocabulary are and however a
caption spells them: ``word_rules.py`` and ``ngrams.py``. Where a token leaves a caption without an
allowed end, it is forbidden before it is too late; so a beam of one finds a caption, too. Only
blocked n-grams are not foreseen, but for the last token.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Protocol

import torch
from torch import Tensor

from showtell.decoding.constraints.ngrams import NoRepeatNgram
from showtell.decoding.constraints.words import WordRules
from showtell.decoding.hypotheses import NEVER
from showtell.text.vocabulary import END, PAD, SPECIAL_WORDS, START, UNK, Spelling


class Constraint(Protocol):
    """Forbids tokens, given those so far."""

    def __call__(self, log_probs: Tensor, prefixes: Tensor, length: int) -> Tensor:
        """(N, V) log-probabilities after (N, L) tokens -> the same with -inf."""


def build_constraints(
    spelling: Spelling | None = None,
    *,
    max_tokens: int,
    min_length: int = 0,
    max_length: int | None = None,
    no_repeat_ngram: int | None = None,
    forbidden: Sequence[str] = (),
    required: Sequence[str] = (),
    bad_endings: Sequence[str] = (),
) -> list[Constraint]:
    """The constraints that these settings ask for.

    ``<pad>``, ``<start>`` and ``<unk>`` never come anyway. Words, and phrases of several with a
    space between, are as ``spelling.spell`` has them.

    Args:
        spelling: of the vocabulary; not needed where each id is a word and only lengths are asked
            for.
        max_tokens: tokens at most; after so many only ``<end>`` may follow.
        min_length: words at least; before so many ``<end>`` may not come.
        max_length: words at most; default: ``max_tokens``.
        no_repeat_ngram: no so many words in a row come twice.
        forbidden: words and phrases that never come.
        required: words and phrases that must all come, each once at least.
        bad_endings: words and phrases that ``<end>`` may not follow.
    """
    special = {PAD, START, UNK}
    if max_length is None:
        max_length = max_tokens
    max_length = min(max_length, max_tokens)
    constraints: list[Constraint] = [Forbidden(special)]
    if no_repeat_ngram:
        assert spelling is not None
        constraints.append(_no_repeat_ngram(no_repeat_ngram, spelling, max_tokens))
    names_words = bool(forbidden or required or bad_endings)
    if not names_words and (spelling is None or each_id_is_a_word(spelling)):
        return [*constraints, Length(min_length, max_length)]
    assert spelling is not None
    rules = word_rules(
        spelling,
        max_tokens=max_tokens,
        min_words=min_length,
        max_words=max_length,
        forbidden=tuple(forbidden),
        required=tuple(required),
        bad_endings=tuple(bad_endings),
    )
    return [Forbidden(special.union(rules.never)), *constraints[1:], rules]


def each_id_is_a_word(spelling: Spelling) -> bool:
    """Whether every id but the special ones is a whole word, so that words count as ids."""
    num_special = len(SPECIAL_WORDS)
    return all(spelling.starts[num_special:]) and all(spelling.texts[num_special:])


# The tables of these follow from the settings alone, and batches have the same settings.
word_rules = lru_cache(maxsize=8)(WordRules)
_no_repeat_ngram = lru_cache(maxsize=8)(NoRepeatNgram)


class Forbidden:
    """Ids that never come."""

    def __init__(self, ids: set[int]) -> None:
        self.ids = torch.tensor(sorted(ids))

    def __call__(self, log_probs: Tensor, prefixes: Tensor, length: int) -> Tensor:
        """-inf in their columns."""
        self.ids = self.ids.to(log_probs.device)
        return log_probs.index_fill_(1, self.ids, NEVER)


class Length:
    """Tokens at least and at most, each of which is a word."""

    def __init__(self, min_length: int, max_length: int) -> None:
        self.min_length, self.max_length = min_length, max_length

    def __call__(self, log_probs: Tensor, prefixes: Tensor, length: int) -> Tensor:
        """No ``<end>`` before ``min_length`` words, nothing else after ``max_length``."""
        if length < self.min_length:
            log_probs[:, END] = NEVER
        if length >= self.max_length:
            end = log_probs[:, END].clone()
            log_probs.fill_(NEVER)[:, END] = end
        return log_probs
