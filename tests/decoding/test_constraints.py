"""What a constraint forbids, token by token; together they are tested by test_search.py."""

import numpy as np
import pytest
import torch
from tiny_decoder import SPELLING, VOCAB, Rules

from showtell.decoding.constraints import Constraint, NoRepeat
from showtell.decoding.hypotheses import NEVER
from showtell.text.vocabulary import END


def left(constraint: Constraint, words: tuple[int, ...]) -> set[int]:
    """The words and <end> that may follow ``words``."""
    prefixes = np.array([words, words], np.int64).reshape(2, len(words))
    log_probs = constraint(torch.zeros(2, VOCAB), prefixes, len(words))
    assert torch.equal(log_probs[0], log_probs[1])
    allowed = {i for i, value in enumerate(log_probs[0].tolist()) if value != NEVER}
    return allowed - {0, 1, 3}


@pytest.mark.parametrize(
    ("required", "max_length", "bad", "words", "expected"),
    [
        ((4,), 3, (), (), {4, 5, 6, 7}),
        ((4,), 3, (), (5, 5), {4}),
        ((4,), 3, (), (4, 5), {END, 4, 5, 6, 7}),
        ((4, 5), 3, (), (6,), {4, 5}),
        ((4,), 2, (4,), (), {4}),  # a good word must have room after it
        ((4,), 3, (4,), (6,), {4}),
        ((4, 5), 3, (4,), (6,), {4}),  # the good one must come last
        ((4, 5), 3, (4, 5), (), {4, 5}),
        ((4, 5), 2, (4, 5), (), set()),
    ],
)
def test_required_words_keep_room(
    required: tuple[int, ...],
    max_length: int,
    bad: tuple[int, ...],
    words: tuple[int, ...],
    expected: set[int],
) -> None:
    rules = Rules(required=required, max_length=max_length, bad_endings=bad)
    assert left(rules.constraints()[-1], words) == expected


@pytest.mark.parametrize(
    ("size", "words", "forbidden"),
    [(1, (4, 5), {4, 5}), (2, (4, 5, 4), {5}), (2, (4, 5, 6), set()), (3, (4, 5, 6, 4, 5), {6})],
)
def test_ngrams_do_not_come_twice(size: int, words: tuple[int, ...], forbidden: set[int]) -> None:
    rule = NoRepeat(SPELLING, 10, ngram=size, around=())
    assert left(rule, words) == {END, 4, 5, 6, 7} - forbidden


@pytest.mark.parametrize(
    ("words", "forbidden"),
    [((5, 4), {5}), ((4,), set()), ((4, 4), {4}), ((5, 4, 6), set()), ((6, 7, 4, 5), set())],
)
def test_a_word_does_not_come_on_both_sides_of_another(
    words: tuple[int, ...], forbidden: set[int]
) -> None:
    rule = NoRepeat(SPELLING, 10, ngram=None, around=["w4"])
    assert left(rule, words) == {END, 4, 5, 6, 7} - forbidden
