"""Choosing among captions by a word detector: each number against its definition."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from showtell.config import DecodingConfig
from showtell.decoding.hypotheses import Hypotheses
from showtell.decoding.reranking import (
    LEAST,
    RERANKER,
    SIGNS,
    Reranker,
    signs_of,
    windows_along,
    windows_of,
)
from showtell.encoders.features import Features
from showtell.errors import CheckpointError
from showtell.text.vocabulary import END, PAD

WIDTH, VOCAB = 3, 12
DOG, CAT, GRASS = 5, 7, 9


def reranker(num_windows: int = 2, **changes: object) -> Reranker:
    random = np.random.default_rng(0)
    made = Reranker(
        words=np.array([DOG, CAT, GRASS]),
        prior=np.array([0.2, 0.1, 0.05], np.float32),
        weight=random.normal(size=(3, WIDTH)).astype(np.float16).astype(np.float32),
        bias=random.normal(size=3).astype(np.float32),
        num_windows=num_windows,
        choice=random.normal(size=len(SIGNS)),
    )
    return replace(made, **changes)


def features(num: int = 2, side: int = 4) -> Features:
    random = np.random.default_rng(1)
    regions = random.normal(size=(num, side * side, WIDTH)).astype(np.float32)
    return Features(regions.mean(axis=1), regions)


def hypotheses() -> Hypotheses:
    """Of two pictures: three captions and two, the third place of the second picture is empty."""
    tokens = np.full((2, 3, 4), PAD)
    tokens[0] = [[4, DOG, END, PAD], [4, CAT, 4, END], [6, END, PAD, PAD]]
    tokens[1, :2] = [[DOG, CAT, DOG, END], [8, GRASS, END, PAD]]
    each = np.where(tokens != PAD, -np.arange(1, 5, dtype=np.float32) / 4, np.float32(0))
    sums = np.where((tokens != PAD).any(axis=2), each.sum(axis=2), -np.inf).astype(np.float32)
    return Hypotheses(tokens, each, sums, sums)


@pytest.mark.parametrize(
    ("settings", "chooses"),
    [
        ({}, True),
        ({"method": "diverse"}, True),
        ({"method": "greedy"}, False),
        ({"method": "sample"}, False),
        ({"beam_size": 1}, False),
        ({"rerank": False}, False),
    ],
)
def test_what_a_reranker_has_a_choice_in(settings: dict[str, object], chooses: bool) -> None:
    assert DecodingConfig.model_validate(settings).chooses is chooses


def test_windows_are_the_means_of_their_regions() -> None:
    seen = features(side=5)
    assert seen.regions is not None
    grid = seen.regions.reshape(2, 5, 5, WIDTH)
    parts = windows_of(seen, 2)
    wanted = [grid[:, rows, :3].mean(axis=(1, 2)) for rows in (slice(3), slice(3, 5))]
    np.testing.assert_allclose(parts[:, 0], wanted[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(parts[:, 2], wanted[1], rtol=1e-5, atol=1e-6)
    assert parts.shape == (2, 4, WIDTH)
    np.testing.assert_array_equal(windows_of(seen, 0)[:, 0], seen.pooled)
    # No more windows than regions.
    np.testing.assert_allclose(windows_of(seen, 9), seen.regions, rtol=1e-6)
    as_torch = Features(torch.from_numpy(seen.pooled), torch.from_numpy(seen.regions))
    np.testing.assert_array_equal(windows_of(as_torch, 2), parts)


def test_a_grid_that_is_no_square_has_no_windows() -> None:
    assert [windows_along(3, num) for num in (81, 9, 4, 1)] == [3, 3, 2, 1]
    assert [windows_along(3, num) for num in (6, 80, 2)] == [0, 0, 0]


def test_a_word_is_there_if_any_window_shows_it() -> None:
    model, seen = reranker(), features()
    found = model.probabilities(seen)
    for picture in range(2):
        for word in range(3):
            none = 1.0
            for part in windows_of(seen, 2)[picture]:
                logit = float(part @ model.weight[word] + model.bias[word])
                none *= 1 - 1 / (1 + math.exp(-logit))
            assert found[picture, word] == pytest.approx(1 - none, abs=1e-5)


def test_other_pictures_of_a_batch_change_nothing() -> None:
    model, many = reranker(), features(33)
    alone = Features(many.pooled[7:8], many.regions[7:8])
    np.testing.assert_array_equal(model.probabilities(many)[7], model.probabilities(alone)[0])
    assert model.probabilities(Features(many.pooled[:0], many.regions[:0])).shape == (0, 3)


def test_the_signs_are_what_their_names_say() -> None:
    model = reranker()
    p = np.array([[0.5, 0.25, LEAST], [0.5, 0.01, 0.9]], np.float32)
    found = hypotheses()
    signs = signs_of(found, p, model)
    assert signs.shape == (2, 3, len(SIGNS))
    assert (signs[1, 2] == 0).all()
    # "4 cat 4": -0.25 - 0.5 - 0.75 - 1, end included; one detected word, though 4 is no such.
    lift = math.log(0.25 / 0.1)
    one = [-2.5 / 4, 4, -1, 1, *[math.log(0.25)] * 3, *[lift] * 3, 0.25]
    np.testing.assert_allclose(signs[0, 1], one, rtol=1e-5)
    # "dog cat dog" has each of its words once.
    logs = [math.log(0.5), math.log(0.01)]
    lifts = [math.log(0.5 / 0.2), math.log(0.01 / 0.1)]
    two = [-2.5 / 4, 4, -1, 2, sum(logs), sum(logs) / 2, min(logs)]
    two += [sum(lifts), sum(lifts) / 2, min(lifts), 0.51]
    np.testing.assert_allclose(signs[1, 0], two, rtol=1e-5)
    # No detected word at all.
    np.testing.assert_allclose(signs[0, 2], [-0.375, 2, -0.5, *[0] * 8], rtol=1e-6)


@pytest.mark.parametrize("num", [1, 2, 3])
def test_the_best_sum_of_signs_comes_first(num: int) -> None:
    model = reranker()
    found = hypotheses()
    signs = signs_of(found, model.probabilities(features()), model)
    found = found._replace(signs=signs)
    chosen = model.rerank(found, num)
    assert chosen.tokens.shape == (2, num, 4)
    for picture, count in enumerate((3, 2)):
        order = np.argsort(-(signs[picture, :count] @ model.choice), kind="stable")
        for rank, source in enumerate(order[:num]):
            np.testing.assert_array_equal(
                chosen.tokens[picture, rank], found.tokens[picture, source]
            )
            assert chosen.log_probs[picture, rank] == found.log_probs[picture, source]
    apart = model.rerank(found, num, among=2)  # the third stays behind the first two
    for picture, count in enumerate((3, 2)):
        order = np.argsort(-(signs[picture, :2] @ model.choice), kind="stable")
        for rank, source in enumerate([*order, *range(2, count)][:num]):
            np.testing.assert_array_equal(
                apart.tokens[picture, rank], found.tokens[picture, source]
            )
    if num == 3:  # an empty place is last, whatever its zeros sum to
        assert chosen.log_probs[1, 2] == -np.inf
        assert (chosen.tokens[1, 2] == PAD).all()


def test_a_reranker_is_read_as_it_was_written(tmp_path: Path) -> None:
    model, sizes = reranker(), {"feature_size": 99, "region_size": WIDTH}
    assert Reranker.read(tmp_path, VOCAB, sizes) is None
    model.save(tmp_path / RERANKER)
    again = Reranker.read(tmp_path, VOCAB, sizes)
    assert again is not None
    for name in ("words", "prior", "weight", "bias", "choice"):
        np.testing.assert_array_equal(getattr(again, name), getattr(model, name))
    assert again.num_windows == model.num_windows
    assert again.to_bytes() == model.to_bytes()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("words", np.array([DOG, CAT, VOCAB]), "words that the vocabulary does not have"),
        ("words", np.array([DOG, CAT]), "has shape"),
        ("weight", np.zeros((3, WIDTH + 1), np.float16), "weight has shape"),
        ("weight", np.full((3, WIDTH), np.inf, np.float16), "not numbers"),
        ("choice", np.full(len(SIGNS), np.nan), "not numbers"),
        ("choice", np.zeros(2), "choice has shape"),
        ("prior", np.zeros(3, np.float32), "prior is not a share"),
        ("num_windows", np.array([-1]), "num_windows = -1"),
        ("num_windows", np.array([1, 2]), ""),
        ("bias", None, "bias"),
    ],
)
def test_a_damaged_reranker_is_told_in_one_line(
    name: str, value: np.ndarray | None, message: str, tmp_path: Path
) -> None:
    reranker().save(tmp_path / RERANKER)
    parts = load_file(tmp_path / RERANKER)
    if value is None:
        del parts[name]
    else:
        parts[name] = value
    save_file(parts, tmp_path / RERANKER)
    with pytest.raises(CheckpointError, match="is damaged") as told:
        Reranker.read(tmp_path, VOCAB, {"region_size": WIDTH})
    assert message in str(told.value)
    assert "\n" not in str(told.value)


def test_a_cut_off_file_is_told(tmp_path: Path) -> None:
    reranker().save(tmp_path / RERANKER)
    path = tmp_path / RERANKER
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="is damaged"):
        Reranker.read(tmp_path, VOCAB, {"region_size": WIDTH})
