"""Beam search against exhaustive enumeration, on decoders small enough to enumerate."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tiny_decoder import (
    EVERYTHING,
    LENGTH,
    WORDS,
    Rules,
    TableDecoder,
    caption,
    check_attention,
    enumerate_all,
    features,
)

from showtell.decoders.base import State
from showtell.decoding.beam import beam_search
from showtell.decoding.hypotheses import NEVER, Hypotheses
from showtell.encoders.features import Features
from showtell.text.vocabulary import END, PAD, START, UNK


def search(decoder: TableDecoder, num: int, rules: Rules, **options: object) -> Hypotheses:
    constraints = rules.constraints()
    return beam_search(
        decoder,
        features(num),
        max_length=rules.max_length,
        constraints=constraints,
        **{"beam_size": EVERYTHING, **options},
    )


@st.composite
def any_rules(draw: st.DrawFn) -> Rules:
    max_length = draw(st.integers(1, LENGTH))
    forbidden = draw(st.sets(st.sampled_from(WORDS), max_size=2))
    free = [word for word in WORDS if word not in forbidden]
    return Rules(
        min_length=draw(st.integers(0, max_length)),
        max_length=max_length,
        no_repeat_ngram=draw(st.sampled_from([None, None, 1, 2, 3])),
        no_repeat_around=tuple(draw(st.sets(st.sampled_from(WORDS), max_size=2))),
        forbidden=tuple(forbidden),
        required=tuple(draw(st.sets(st.sampled_from(free), max_size=min(3, max_length)))),
        bad_endings=tuple(draw(st.sets(st.sampled_from(WORDS), max_size=3))),
    )


@settings(max_examples=60, deadline=None)
@given(rules=any_rules(), penalty=st.sampled_from([0.0, 0.7, 1.0, 2.0]), seed=st.integers(0, 2**20))
@example(rules=Rules(), penalty=0.7, seed=0)
@example(rules=Rules(required=(4, 5), bad_endings=(4, 5), max_length=3), penalty=1.0, seed=0)
@example(rules=Rules(min_length=4, no_repeat_ngram=1, bad_endings=(6,)), penalty=0.0, seed=0)
@example(rules=Rules(no_repeat_ngram=3, bad_endings=(4,)), penalty=0.0, seed=246073)  # has a tie
@example(rules=Rules(no_repeat_around=(4,), no_repeat_ngram=2), penalty=0.7, seed=0)
def test_a_wide_beam_is_exhaustive(rules: Rules, penalty: float, seed: int) -> None:
    decoder = TableDecoder(seed, num_pictures=2)
    found = search(decoder, 2, rules, length_penalty=penalty)
    for picture in range(2):
        expected = enumerate_all(decoder, picture, rules, penalty)
        assert int((found.log_probs[picture] > NEVER).sum()) == len(expected)
        score_of = {tokens: score for score, tokens in expected}
        captions = [caption(found, picture, rank) for rank in range(len(expected))]
        assert sorted(captions) == sorted(score_of)
        for rank, (score, _) in enumerate(expected):
            assert found.scores[picture, rank].item() == pytest.approx(score, abs=1e-5)
            assert score_of[captions[rank]] == pytest.approx(score, abs=1e-5)  # ties in any order
        assert (found.scores[picture, len(expected) :] == NEVER).all()
        assert (found.tokens[picture, len(expected) :] == PAD).all()


@settings(max_examples=60, deadline=None)
@given(
    rules=any_rules(),
    seed=st.integers(0, 2**20),
    beam=st.sampled_from([(1, 1), (2, 1), (4, 2), (3, 3)]),
)
def test_a_narrow_beam_keeps_to_the_rules(rules: Rules, seed: int, beam: tuple[int, int]) -> None:
    """And finds a caption wherever there is one, unless blocked repeats left no way."""
    size, groups = beam
    decoder = TableDecoder(seed, num_pictures=2)
    found = search(decoder, 2, rules, beam_size=size, groups=groups, diversity=0.5)
    possible = {tokens[:-1] for tokens in rules.captions()}
    for picture in range(2):
        real = int((found.log_probs[picture] > NEVER).sum())
        for rank in range(real):
            tokens = caption(found, picture, rank)
            assert tokens[-1] == END
            assert tokens[:-1] in possible
            expected = decoder.token_log_probs(picture, tokens)
            got = found.token_log_probs[picture, rank, : len(tokens)]
            np.testing.assert_allclose(got, expected, atol=1e-6, rtol=0)
            assert found.log_probs[picture, rank] == pytest.approx(sum(expected), abs=1e-5)
        assert (found.tokens[picture, real:] == PAD).all()
        assert (found.token_log_probs[picture, real:] == 0).all()
        if possible and not rules.forbids_repeats:
            assert real > 0


@pytest.mark.parametrize("rules", [Rules(), Rules(no_repeat_ngram=1, bad_endings=(4,))])
def test_a_beam_of_one_is_greedy(rules: Rules) -> None:
    for seed in range(20):
        decoder = TableDecoder(seed)
        found = search(decoder, 3, rules, beam_size=1)
        for picture in range(3):
            words: list[int] = []
            while True:
                log_probs = decoder.log_probs(picture, words)
                banned = [PAD, START, UNK]
                if rules.no_repeat_ngram:
                    banned += words
                if words and words[-1] in rules.bad_endings:
                    banned.append(END)
                if len(words) == LENGTH - 1:
                    banned += rules.bad_endings
                log_probs[banned] = NEVER
                if len(words) == LENGTH or int(log_probs.argmax()) == END:
                    break
                words.append(int(log_probs.argmax()))
            assert caption(found, picture) == (*words, END)


@pytest.mark.parametrize(
    "options",
    [
        {"beam_size": 3},
        {"beam_size": 4, "groups": 2, "diversity": 1.0},
        {"beam_size": 3, "rules": Rules(required=(5, 6), no_repeat_ngram=2)},
        {"beam_size": 4, "groups": 2, "diversity": 1.0, "rules": Rules(required=(4,))},
    ],
)
def test_a_batch_gives_what_each_picture_gives_alone(options: dict) -> None:
    decoder = TableDecoder(1, num_pictures=9)
    options = dict(options)
    rules = options.pop("rules", Rules())
    together = search(decoder, 9, rules, length_penalty=0.7, **options)
    for picture in range(9):
        alone = beam_search(
            decoder,
            features(1, picture),
            max_length=LENGTH,
            length_penalty=0.7,
            constraints=rules.constraints(),
            **options,
        )
        for rank in range(options["beam_size"]):
            assert caption(together, picture, rank) == caption(alone, 0, rank)
        np.testing.assert_allclose(together.log_probs[picture], alone.log_probs[0], rtol=1e-6)


def textbook(
    decoder: TableDecoder, picture: int, size: int, required: tuple[int, ...] = ()
) -> list[tuple[float, tuple[int, ...]]]:
    """Beam search of one picture as one writes it first; a beam for each number of words met."""
    live: dict[int, list[tuple[float, tuple[int, ...]]]] = {0: [(0.0, ())]}
    done: list[tuple[float, tuple[int, ...]]] = []
    for length in range(LENGTH + 1):
        banks: dict[int, list[tuple[float, tuple[int, ...]]]] = {}
        for hypotheses in live.values():
            for total, words in hypotheses:
                missing = set(required) - set(words)
                log_probs = decoder.log_probs(picture, words).tolist()
                for token in (*WORDS, END):
                    if token == END:
                        is_allowed = not missing
                    else:
                        left = len(missing - {token})
                        is_allowed = length < LENGTH and left <= LENGTH - length - 1
                    if is_allowed:
                        bank = len(required) - len(missing - {token})
                        found = (total + log_probs[token], (*words, token))
                        banks.setdefault(bank, []).append(found)
        live = {}
        for bank, found in banks.items():
            top = sorted(found, reverse=True)[: 2 * size]
            done += [item for item in top[:size] if item[1][-1] == END]
            live[bank] = [item for item in top if item[1][-1] != END][:size]
        if len(done) >= size:
            break
    return sorted(done, reverse=True)[:size]


@pytest.mark.parametrize("required", [(), (5,), (6, 4)])
@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_a_narrow_beam_is_the_textbooks(size: int, required: tuple[int, ...]) -> None:
    for seed in range(8):
        decoder = TableDecoder(seed)
        found = search(decoder, 3, Rules(required=required), beam_size=size)
        for picture in range(3):
            expected = textbook(decoder, picture, size, required)
            assert [caption(found, picture, r) for r in range(len(expected))] == [
                tokens for _, tokens in expected
            ]


def test_room_is_kept_for_a_good_word_after_required_bad_endings() -> None:
    for seed in range(20):
        for required in ((4,), (4, 5)):
            rules = Rules(required=required, bad_endings=(4, 5, 6), max_length=len(required) + 1)
            found = search(TableDecoder(seed), 3, rules, beam_size=1)
            assert all(rules.allow(caption(found, picture)[:-1]) for picture in range(3))


def test_special_words_never_come_out() -> None:
    decoder = TableDecoder(2, num_pictures=20)
    found = beam_search(decoder, features(20), beam_size=4, max_length=LENGTH)
    assert not np.isin(found.tokens, [START, UNK]).any()


def test_no_pictures_give_no_captions() -> None:
    found = beam_search(TableDecoder(0), features(0), beam_size=2, max_length=LENGTH)
    assert found.tokens.shape[:2] == (0, 2)


def test_fewer_captions_are_the_first_of_more() -> None:
    decoder = TableDecoder(3)
    many = beam_search(decoder, features(3), beam_size=4, max_length=LENGTH)
    few = beam_search(decoder, features(3), beam_size=4, max_length=LENGTH, num_captions=2)
    assert np.array_equal(few.log_probs, many.log_probs[:, :2])
    assert all(caption(few, p, r) == caption(many, p, r) for p in range(3) for r in range(2))


@pytest.mark.parametrize(
    "rules",
    [
        Rules(min_length=4, no_repeat_ngram=1, forbidden=(4,)),
        Rules(required=(4, 5), max_length=1),
        Rules(required=(4,), forbidden=(4,)),
        Rules(min_length=1, bad_endings=WORDS),
    ],
)
def test_where_no_caption_is_possible_there_is_none(rules: Rules) -> None:
    assert not list(rules.captions())
    for groups in (1, 2):
        found = search(TableDecoder(0), 2, rules, beam_size=4, groups=groups, diversity=1.0)
        assert (found.log_probs == NEVER).all()
        assert found.tokens.shape == (2, 4, 0)


def test_groups_without_diversity_agree_and_repeats_are_dropped() -> None:
    decoder = TableDecoder(4)
    plain = beam_search(decoder, features(3), beam_size=2, max_length=LENGTH)
    found = beam_search(decoder, features(3), beam_size=4, groups=2, max_length=LENGTH)
    for picture in range(3):
        assert [caption(found, picture, rank) for rank in range(2)] == [
            caption(plain, picture, rank) for rank in range(2)
        ]
    assert (found.log_probs[:, 2:] == NEVER).all()


def test_much_diversity_gives_every_group_another_first_word() -> None:
    decoder = TableDecoder(5, num_pictures=6)
    rules = Rules(min_length=1)
    found = search(decoder, 6, rules, beam_size=4, groups=4, diversity=100.0)
    for picture in range(6):
        firsts = {caption(found, picture, rank)[0] for rank in range(4)}
        assert firsts == set(WORDS)
        # The first group minds nobody.
        assert found.scores[picture, 0] == found.scores[picture].max()
    plain = search(decoder, 6, rules, beam_size=1)
    said = [{caption(found, p, r) for r in range(4)} for p in range(6)]
    assert all(caption(plain, p) in said[p] for p in range(6))


def test_diverse_search_is_algorithm_1() -> None:
    """Groups of one hypothesis, by hand: each takes the best word less what others said."""
    decoder, strength = TableDecoder(6, num_pictures=8), 0.8
    rules = Rules(min_length=LENGTH)  # so that no group ends before another
    found = search(decoder, 8, rules, beam_size=3, groups=3, diversity=strength)
    for picture in range(8):
        groups: list[list[int]] = [[], [], []]
        for _ in range(LENGTH):
            said: list[int] = []
            for words in groups:
                log_probs = decoder.log_probs(picture, words)
                log_probs[[PAD, START, UNK, END]] = NEVER
                for word in said:
                    log_probs[word] -= strength
                said.append(int(log_probs.argmax()))
                words.append(said[-1])
        expected = {(*words, END) for words in groups}
        got = {caption(found, picture, rank) for rank in range(len(expected))}
        assert got == expected


@pytest.mark.parametrize("options", [{}, {"groups": 2, "diversity": 1.0}])
def test_attention_follows_its_hypothesis(options: dict) -> None:
    decoder = TableDecoder(7, attends=True)
    for rules in (Rules(), Rules(required=(5,))):
        found = search(decoder, 3, rules, beam_size=4, with_attention=True, **options)
        check_attention(decoder, found)
    assert search(decoder, 3, Rules(), beam_size=2).attention is None
    assert search(TableDecoder(7), 3, Rules(), beam_size=2, with_attention=True).attention is None


@pytest.mark.parametrize("options", [{}, {"groups": 2, "diversity": 1.0}, {"beam_size": 1}])
def test_pictures_that_are_done_leave_the_others_as_they_are(options: dict) -> None:
    """Each picture's captions are those that it has alone."""
    decoder = TableDecoder(3, num_pictures=8)
    for rules in (Rules(), Rules(required=(5,)), Rules(no_repeat_ngram=1)):
        found = search(decoder, 8, rules, **{"beam_size": 4, **options})
        for picture in range(8):
            given_one = features(8)._replace(pooled=features(8).pooled[picture : picture + 1])
            alone = beam_search(
                decoder,
                given_one,
                max_length=rules.max_length,
                constraints=rules.constraints(),
                **{"beam_size": 4, **options},
            )
            longest = alone.tokens.shape[2]
            assert np.array_equal(found.tokens[picture, :, :longest], alone.tokens[0])
            assert (found.tokens[picture, :, longest:] == PAD).all()
            np.testing.assert_allclose(found.log_probs[picture], alone.log_probs[0], rtol=1e-6)


class Undeclared(TableDecoder):
    """Every hypothesis has its own row of the picture's entry, which ``step`` hands back."""

    picture_state = frozenset()


class Copying(Undeclared):
    """The same, but ``step`` returns a copy."""

    def step(self, tokens: torch.Tensor, state: dict) -> tuple[torch.Tensor, dict]:
        log_probs, state = super().step(tokens, state)
        return log_probs, state | {"picture": state["picture"].clone()}


class Remembering(TableDecoder):
    """Likes to repeat the first word, which it keeps in a tensor that later steps hand back.

    The tensor is a hypothesis's own, so search must reorder it although it is the same object.
    """

    def init_state(self, features: Features) -> State:
        state = super().init_state(features)
        return state | {"first": torch.full_like(state["picture"], PAD)}

    def step(self, tokens: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        first = state["first"]
        if bool((first == PAD).all()) and not bool((tokens == START).all()):
            first = tokens.clone()
        log_probs, new = super().step(tokens, state)
        rows = first != PAD
        log_probs[rows, first[rows]] += 3.0
        return log_probs, new | {"first": first}

    def log_probs(self, picture: int, words: Sequence[int]) -> torch.Tensor:
        found = super().log_probs(picture, words)
        if words:
            found[words[0]] += 3.0
        return found


@pytest.mark.parametrize("kind", [Undeclared, Copying])
@pytest.mark.parametrize("options", [{}, {"groups": 2, "diversity": 1.0}])
def test_what_is_the_pictures_alone_may_be_declared_or_not(kind: type, options: dict) -> None:
    for rules in (Rules(), Rules(required=(4, 6))):
        one, two = (
            search(decoder, 6, rules, beam_size=4, **options)
            for decoder in (TableDecoder(8, num_pictures=6), kind(8, num_pictures=6))
        )
        assert np.array_equal(one.tokens, two.tokens)
        assert np.array_equal(one.log_probs, two.log_probs)


@pytest.mark.parametrize("size", [2, 3, 5])
def test_an_entry_that_step_hands_back_is_reordered(size: int) -> None:
    changed = 0
    for seed in range(8):
        decoder = Remembering(seed)
        found = search(decoder, 3, Rules(), beam_size=size)
        for picture in range(3):
            expected = textbook(decoder, picture, size)
            assert [caption(found, picture, r) for r in range(len(expected))] == [
                tokens for _, tokens in expected
            ]
            plain = textbook(TableDecoder(seed), picture, size)
            changed += [tokens for _, tokens in plain] != [tokens for _, tokens in expected]
    assert changed > 8
