"""Constraints on words where words are made of pieces, against exhaustive enumeration.

What a caption says is worked out here from its text alone, with no automaton.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tiny_decoder import LENGTH, TableDecoder, caption, features

from showtell.decoding.beam import beam_search
from showtell.decoding.constraints import Constraint, build_constraints
from showtell.decoding.hypotheses import NEVER, Hypotheses
from showtell.decoding.sampling import sample
from showtell.text.vocabulary import END, Spelling

NUM_PIECES = 5
PIECES = tuple(range(4, 4 + NUM_PIECES))
EVERYTHING = 800  # a beam so wide that it loses nothing: 5 ** 4 captions of 4 pieces and the others
VOCABULARIES = {
    "letters": (" a", " b", "a", "b", "ab"),
    "two ways to say ab": (" a", " ab", "b", "a", " b"),
    "a space of its own": (" a", "a", "b", "ab", " "),
    "words": (" a", " b", " ab", " ba", " aa"),
    "a long piece": (" aba", " b", "a", "ba", " "),
}
NAMES = ["a", "b", "ab", "ba", "aa", "bb", "aba", "abab", "a b", "ab a", "b b", "a b a", "b ab"]


def spelling(pieces: tuple[str, ...]) -> Spelling:
    texts = ("",) * 4 + tuple(piece.removeprefix(" ") for piece in pieces)
    return Spelling(texts, (False,) * 4 + tuple(piece.startswith(" ") for piece in pieces))


@dataclass(frozen=True)
class Rules:
    """What the words of a caption must be."""

    pieces: tuple[str, ...] = VOCABULARIES["letters"]
    min_length: int = 0
    max_length: int = LENGTH
    no_repeat_ngram: int | None = None
    no_repeat_around: tuple[str, ...] = ()
    forbidden: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    bad_endings: tuple[str, ...] = ()
    max_tokens: int = LENGTH

    def words(self, tokens: tuple[int, ...]) -> list[str] | None:
        """None where a word has no text."""
        text = "".join(self.pieces[token - 4] for token in tokens)
        return None if "  " in text or text.endswith(" ") else text.split()

    def allow(self, tokens: tuple[int, ...]) -> bool:
        words = self.words(tokens)
        if words is None:
            return False
        size = self.no_repeat_ngram or 99
        grams = [tuple(words[i : i + size]) for i in range(len(words) - size + 1)]
        threes = zip(words, words[1:], words[2:], strict=False)
        runs = {" ".join(words[i:j]) for j in range(len(words) + 1) for i in range(j)}
        return (
            self.min_length <= len(words) <= self.max_length
            and len(tokens) <= self.max_tokens
            and len(set(grams)) == len(grams)
            and not any(a == c and b in self.no_repeat_around for a, b, c in threes)
            and {*self.required} <= runs
            and not {*self.forbidden} & runs
            and not (words and words[-1] in self.bad_endings)
        )

    def captions(self) -> Iterator[tuple[int, ...]]:
        for length in range(LENGTH + 1):
            for tokens in itertools.product(PIECES, repeat=length):
                if self.allow(tokens):
                    yield (*tokens, END)

    def constraints(self) -> list[Constraint]:
        settings = {name: value for name, value in vars(self).items() if name != "pieces"}
        return build_constraints(spelling(self.pieces), **settings)


@st.composite
def any_rules(draw: st.DrawFn, max_required: int = 2) -> Rules:
    def named(most: int) -> tuple[str, ...]:
        return tuple(draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=most)))

    max_length = draw(st.integers(1, LENGTH))
    return Rules(
        pieces=draw(st.sampled_from(list(VOCABULARIES.values()))),
        min_length=draw(st.integers(0, max_length)),
        max_length=max_length,
        no_repeat_ngram=draw(st.sampled_from([None, None, 1, 2, 3])),
        no_repeat_around=tuple(word for word in named(2) if " " not in word),
        forbidden=named(2),
        required=named(max_required),
        bad_endings=tuple(word for word in named(3) if " " not in word),
        max_tokens=draw(st.integers(max_length, LENGTH)),
    )


def search(decoder: TableDecoder, num: int, rules: Rules, **options: object) -> Hypotheses:
    return beam_search(
        decoder,
        features(num),
        max_length=rules.max_tokens,
        constraints=rules.constraints(),
        **{"beam_size": EVERYTHING, **options},
    )


@settings(max_examples=20, deadline=None)
@given(rules=any_rules(), penalty=st.sampled_from([0.0, 0.7, 2.0]), seed=st.integers(0, 2**20))
@example(rules=Rules(), penalty=0.7, seed=0)
@example(rules=Rules(required=("ab", "b ab")), penalty=0.7, seed=0)
@example(rules=Rules(no_repeat_ngram=1, min_length=2), penalty=0.0, seed=0)
@example(rules=Rules(no_repeat_around=("a", "b"), min_length=3), penalty=0.7, seed=0)
@example(rules=Rules(VOCABULARIES["a space of its own"], forbidden=("ab",)), penalty=0.0, seed=0)
def test_a_wide_beam_is_exhaustive(rules: Rules, penalty: float, seed: int) -> None:
    decoder = TableDecoder(seed, num_pictures=1, num_words=NUM_PIECES)
    found = search(decoder, 1, rules, length_penalty=penalty)
    expected = sorted(
        (
            (sum(decoder.token_log_probs(0, tokens)) / len(tokens) ** penalty, tokens)
            for tokens in rules.captions()
        ),
        reverse=True,
    )
    assert int((found.log_probs > NEVER).sum()) == len(expected)
    said = [caption(found, 0, rank) for rank in range(len(expected))]
    assert {*said} == {tokens for _, tokens in expected}
    score_of = {tokens: score for score, tokens in expected}
    for rank, (score, _) in enumerate(expected):  # equal scores may come in any order
        assert found.scores[0, rank].item() == pytest.approx(score, abs=1e-5)
        assert score_of[said[rank]] == pytest.approx(score, abs=1e-5)


@settings(max_examples=60, deadline=None)
@given(
    rules=any_rules(max_required=3),
    seed=st.integers(0, 2**20),
    beam=st.sampled_from([(1, 1), (2, 1), (4, 2), (3, 3)]),
)
def test_a_narrow_beam_finds_an_allowed_caption(
    rules: Rules, seed: int, beam: tuple[int, int]
) -> None:
    """Wherever there is one, unless blocked repeats left no way."""
    size, groups = beam
    decoder = TableDecoder(seed, num_words=NUM_PIECES)
    found = search(decoder, 3, rules, beam_size=size, groups=groups, diversity=0.5)
    possible = {*rules.captions()}
    drawn = sample(
        decoder,
        features(3),
        num_captions=2,
        max_length=rules.max_tokens,
        constraints=rules.constraints(),
    )
    for picture in range(3):
        for one in (found, drawn):
            real = int((one.log_probs[picture] > NEVER).sum())
            assert {caption(one, picture, rank) for rank in range(real)} <= possible
            if possible and not (rules.no_repeat_ngram or rules.no_repeat_around):
                assert real > 0


@settings(max_examples=40, deadline=None)
@given(rules=any_rules(max_required=3))
def test_a_token_is_forbidden_where_no_allowed_caption_goes_on_with_it(rules: Rules) -> None:
    """And nowhere else, but for repeats."""
    rules = Rules(**{**vars(rules), "no_repeat_ngram": None, "no_repeat_around": ()})
    captions = {*rules.captions()}
    constraints = rules.constraints()
    prefixes = {tokens[:i] for tokens in captions for i in range(len(tokens))} | {()}
    for length in range(LENGTH + 1):
        rows = sorted(prefix for prefix in prefixes if len(prefix) == length)
        log_probs = torch.zeros(len(rows), 4 + NUM_PIECES)
        prefix = np.array(rows, np.int64).reshape(len(rows), length)
        for constraint in constraints:
            log_probs = constraint(log_probs, prefix, length)
        for row, prefix in zip(log_probs.tolist(), rows, strict=True):
            left = {token for token, value in enumerate(row) if value != NEVER}
            follows = {tokens[length] for tokens in captions if tokens[:length] == prefix}
            assert left == follows


def textbook(
    decoder: TableDecoder, rules: Rules, picture: int, size: int
) -> list[tuple[float, tuple[int, ...]]]:
    """Beam search of one picture, with a beam for each number of required words that have come."""
    allowed = {*rules.captions()}
    prefixes = {tokens[:i] for tokens in allowed for i in range(len(tokens) + 1)}

    def bank(tokens: tuple[int, ...]) -> int:
        words = "".join(rules.pieces[token - 4] for token in tokens if token != END).split()
        runs = {" ".join(words[i:j]) for j in range(len(words) + 1) for i in range(j)}
        return len({*rules.required} & runs)

    live: dict[int, list[tuple[float, tuple[int, ...]]]] = {0: [(0.0, ())]}
    done: list[tuple[float, tuple[int, ...]]] = []
    for _ in range(LENGTH + 1):
        banks: dict[int, list[tuple[float, tuple[int, ...]]]] = {}
        for total, tokens in itertools.chain.from_iterable(live.values()):
            log_probs = decoder.log_probs(picture, tokens).tolist()
            for token in (*PIECES, END):
                if (*tokens, token) in prefixes:
                    found = (total + log_probs[token], (*tokens, token))
                    banks.setdefault(bank(found[1]), []).append(found)
        live = {}
        for number, found in banks.items():
            top = sorted(found, reverse=True)[: 2 * size]
            done += [item for item in top[:size] if item[1][-1] == END]
            live[number] = [item for item in top if item[1][-1] != END][:size]
        if len(done) >= size:
            break
    return sorted(done, reverse=True)[:size]


@pytest.mark.parametrize("required", [(), ("ab",), ("ab", "b"), ("a b", "b")])
@pytest.mark.parametrize("name", VOCABULARIES)
def test_a_narrow_beam_is_the_textbooks(name: str, required: tuple[str, ...]) -> None:
    for seed, size in itertools.product(range(3), (1, 2, 4)):
        rules = Rules(VOCABULARIES[name], required=required)
        decoder = TableDecoder(seed, num_words=NUM_PIECES)
        found = search(decoder, 3, rules, beam_size=size)
        for picture in range(3):
            expected = [tokens for _, tokens in textbook(decoder, rules, picture, size)]
            assert [caption(found, picture, rank) for rank in range(len(expected))] == expected
