"""Intervals and tests of differences: against brute force, in simulations, and by symmetry."""

import math
import pickle
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from pytest import approx

from showtell.errors import ScoringError
from showtell.metrics import METRICS, References, Scores, evaluate
from showtell.metrics.bleu import Bleu
from showtell.metrics.bootstrap import (
    Interval,
    Resampling,
    differences,
    holm,
    intervals,
    names_of,
    resampled,
)
from showtell.metrics.meteor import Counts
from showtell.metrics.meteor import is_installed as has_meteor
from showtell.metrics.statistics import Floats, Statistics

FAST = [name for name in METRICS if name not in ("METEOR", "SPICE")]
WORDS = ["a", "dog", "cat", "man", "runs", "sits", "on", "the", "red", "grass", "with", "ball"]


def made_up(num_images: int, seed: int = 0) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Captions and three references each, of random words."""
    rng = np.random.default_rng(seed)

    def caption() -> str:
        return " ".join(rng.choice(WORDS, size=rng.integers(3, 10)))

    names = [str(number) for number in range(num_images)]
    return {n: caption() for n in names}, {n: [caption() for _ in range(3)] for n in names}


def test_figures_equal_brute_force_on_the_same_resamples() -> None:
    """Each resample is scored as a corpus of its own, in which an image may occur again."""
    captions, people = made_up(40)
    scores = evaluate(captions, people, metrics=FAST)
    resampling = Resampling(20, seed=3)
    [found] = resampled([scores.statistics], resampling)
    weights = np.concatenate(list(resampling.weights(40)))
    names = names_of(scores.statistics)
    for row, counts in zip(found, weights, strict=True):
        images = np.repeat(np.arange(40), counts.astype(int))
        again = evaluate(
            {str(place): captions[str(image)] for place, image in enumerate(images)},
            {str(place): people[str(image)] for place, image in enumerate(images)},
            metrics=FAST[:5],  # BLEU and ROUGE-L
        )
        for name, value in again.metrics.items():
            assert row[names.index(name)] == approx(value, abs=1e-9)
        # CIDEr-D with the document frequencies of all references.
        each = References(people).cider.score(
            [str(image) for image in images], [captions[str(image)] for image in images]
        )
        assert row[names.index("CIDEr-D")] == approx(each.mean(), abs=1e-9)
    assert weights.sum(axis=1).tolist() == [40] * 20


@pytest.mark.skipif(not has_meteor(), reason="METEOR needs its extra")
def test_meteor_equals_brute_force_on_the_same_resamples() -> None:
    captions, people = made_up(30)
    scores = evaluate(captions, people, metrics=["METEOR"])
    resampling = Resampling(10)
    [found] = resampled([scores.statistics], resampling)
    weights = np.concatenate(list(resampling.weights(30)))
    for row, counts in zip(found, weights, strict=True):
        images = np.repeat(np.arange(30), counts.astype(int))
        again = evaluate(
            {str(place): captions[str(image)] for place, image in enumerate(images)},
            {str(place): people[str(image)] for place, image in enumerate(images)},
            metrics=["METEOR"],
        )
        assert row[0] == approx(again.metrics["METEOR"], abs=1e-9)


@pytest.mark.skipif(not has_meteor(), reason="METEOR needs its extra")
def test_meteor_of_many_sums_is_the_formula_for_one() -> None:
    captions, people = made_up(20)
    [statistics] = evaluate(captions, people, metrics=["METEOR"]).statistics
    sums = np.cumsum(statistics.counts, axis=0)
    for row, value in zip(sums.astype(int).tolist(), statistics.combine(sums), strict=True):
        counts = Counts(tuple(row[:4]), tuple(row[4:20]), row[20])
        assert value.tolist() == [counts.score()]


def test_statistics_of_every_metric_give_its_scores() -> None:
    captions, people = made_up(25)
    scores = evaluate(captions, people)
    assert names_of(scores.statistics) == list(scores.metrics)
    for statistics in scores.statistics:
        assert statistics.figures().tolist() == [scores.metrics[n] for n in statistics.names]
        rows = statistics.combine(statistics.counts)
        np.testing.assert_allclose(rows, statistics.per_image, rtol=0, atol=1e-12)
    [only] = evaluate(captions, people, metrics=["BLEU-3"]).statistics
    assert only.figures().tolist() == [scores.metrics["BLEU-3"]]
    assert pickle.loads(pickle.dumps(only)).names == ("BLEU-3",)


def test_blocks_change_no_resample(monkeypatch: pytest.MonkeyPatch) -> None:
    resampling = Resampling(50, seed=1)
    whole = [np.concatenate(list(draw(11))) for draw in (resampling.weights, resampling.swaps)]
    monkeypatch.setattr("showtell.metrics.bootstrap._BLOCK", 40)
    blocks = [list(draw(11)) for draw in (resampling.weights, resampling.swaps)]
    assert [len(each) for each in blocks] == [17, 17]
    for one, parts in zip(whole, blocks, strict=True):
        assert np.array_equal(one, np.concatenate(parts))


def test_coverage_of_a_mean_and_of_a_ratio() -> None:
    """95 % intervals hold the true value of a mean and of a ratio of sums in 93 to 97 %."""
    trials, num_images, resampling = 2000, 150, Resampling(400)
    rng = np.random.default_rng(5)
    weights = np.concatenate(list(resampling.weights(num_images)))
    # Scores with a long tail; matches of guesses, like BLEU's, with a precision of 0.3.
    scores = rng.gamma(2.0, 0.5, size=(trials, num_images))
    guesses = rng.integers(5, 16, size=(trials, num_images))
    matches = rng.binomial(guesses, rng.beta(3, 7, size=guesses.shape))
    means = weights @ scores.T / num_images
    ratios = (weights @ matches.T) / (weights @ guesses.T)
    for figures, truth in ((means, 1.0), (ratios, 0.3)):
        low, high = np.quantile(figures, [0.025, 0.975], axis=0)
        assert 0.93 < ((low <= truth) & (truth <= high)).mean() < 0.97


def test_the_same_numbers_as_by_intervals() -> None:
    """What the simulation computes for all trials at once is what ``intervals`` gives for one."""
    rng = np.random.default_rng(0)
    guesses = rng.integers(5, 16, size=150)
    matches = rng.binomial(guesses, 0.3)
    found = intervals([Statistics.ratio("share", matches, guesses)], 400)["share"]
    weights = np.concatenate(list(Resampling(400).weights(150)))
    figures = (weights @ matches) / (weights @ guesses)
    assert found == approx(tuple(np.quantile(figures, [0.025, 0.975])), abs=1e-12)


def test_p_values_under_no_difference_are_uniform() -> None:
    """Two systems of the same quality: p < 0.05 in about one of 20 trials, with both tests."""
    rng = np.random.default_rng(7)
    trials, found = 300, []
    for trial in range(trials):
        systems = [[Statistics.mean("score", rng.gamma(2.0, 0.5, 80))] for _ in range(2)]
        [difference] = differences(systems, Resampling(200, seed=trial))
        found.append((difference["score"].p_bootstrap, difference["score"].p_randomisation))
    false = (np.array(found) < 0.05).mean(axis=0)
    assert (false > 0.02).all() and (false < 0.09).all()


def test_swapping_the_systems_flips_the_sign() -> None:
    captions, people = made_up(60)
    others, _ = made_up(60, seed=1)
    first, second = (evaluate(said, people, metrics=FAST).statistics for said in (captions, others))
    [there], [back] = differences([first, second]), differences([second, first])
    for name in FAST:
        assert back[name].value == -there[name].value
        assert back[name].interval == approx(
            (-there[name].interval.high, -there[name].interval.low), abs=1e-12
        )
        assert back[name].p_bootstrap == there[name].p_bootstrap
        assert back[name].p_randomisation == there[name].p_randomisation


def test_identical_systems_and_one_image_show_no_difference() -> None:
    captions, people = made_up(30)
    same = evaluate(captions, people).statistics
    for difference in differences([same, same])[0].values():
        assert (difference.value, *difference.interval) == (0.0, 0.0, 0.0)
        assert difference.p_bootstrap == difference.p_randomisation == difference.p == 1.0
    one, other = (
        evaluate({"1": said}, {"1": ["a dog runs"]}, metrics=["BLEU-1"]).statistics
        for said in ("a dog runs", "a cat")
    )
    [difference] = differences([one, other])
    assert difference["BLEU-1"].p_randomisation == 1.0  # swapping one image only flips the sign


def test_a_third_system_changes_nothing_for_the_second() -> None:
    _, people = made_up(40)
    systems = [evaluate(made_up(40, seed)[0], people, metrics=FAST).statistics for seed in range(3)]
    together = differences(systems)
    assert len(together) == 2
    for found, other in zip(together, systems[1:], strict=True):
        [alone] = differences([systems[0], other])
        for name in FAST:
            assert found[name].p == alone[name].p
            assert found[name].value == alone[name].value
            assert found[name].interval == approx(alone[name].interval, abs=1e-12)


@pytest.mark.slow
def test_two_published_systems_differ_and_one_split_in_two_does_not(
    coco_results: dict[str, Any],
) -> None:
    ids = list(coco_results["hdetach"].references)
    people = References(coco_results["hdetach"].references)
    scores = [evaluate(c.candidates, people, metrics=FAST) for c in coco_results.values()]
    [found] = differences([each.statistics for each in scores])
    assert all(difference.p < 0.05 and difference.value > 0 for difference in found.values())
    assert found["CIDEr-D"].p_bootstrap == approx(2 / 1001)
    assert found["CIDEr-D"].p_randomisation == approx(1 / 1001)
    # Each picture has the caption of one system or of the other, by the toss of a coin.
    heads = np.random.default_rng(0).random(len(ids)) < 0.5
    mixed = [
        {
            i: coco_results["hdetach" if h == is_head else "sg2caps"].candidates[i]
            for i, h in zip(ids, heads, strict=True)
        }
        for is_head in (True, False)
    ]
    [found] = differences([evaluate(m, people, metrics=FAST).statistics for m in mixed])
    assert all(difference.p > 0.05 for difference in found.values())
    low, high = scores[0].with_intervals().intervals["CIDEr-D"]
    assert 0.94 < low < scores[0].metrics["CIDEr-D"] < high < 1.0


def test_scores_with_intervals() -> None:
    captions, people = made_up(30)
    scores = evaluate(captions, people, metrics=FAST)
    assert scores.intervals == {} and "intervals" not in scores.to_dict()
    found = scores.with_intervals(Resampling(200, seed=4, confidence=0.9))
    assert found.signature == scores.signature + "|bs:200|seed:4|ci:90"
    assert found.metrics == scores.metrics and list(found.intervals) == FAST
    assert found.to_dict()["intervals"]["BLEU-1"] == list(found.intervals["BLEU-1"])
    assert all(low < scores.metrics[n] < high for n, (low, high) in found.intervals.items())
    low, high = found.intervals["CIDEr-D"]
    assert f"[{low:.3f}, {high:.3f}]" in found.table()
    assert found == scores.with_intervals(Resampling(200, seed=4, confidence=0.9))
    wider = scores.with_intervals(Resampling(200, seed=4, confidence=0.99)).intervals["BLEU-1"]
    assert wider.low < found.intervals["BLEU-1"].low


def test_the_order_of_the_images_changes_no_interval() -> None:
    captions, people = made_up(30)
    turned = {name: people[name] for name in reversed(people)}
    one, other = (evaluate(captions, each, metrics=FAST) for each in (people, turned))
    assert list(one.per_image) != list(other.per_image)
    for name, interval in one.with_intervals(Resampling(50)).intervals.items():
        assert other.with_intervals(Resampling(50)).intervals[name] == approx(interval, abs=1e-12)


def test_no_figure_is_a_negative_zero() -> None:
    assert str(Interval(-0.0001, 0.0001)) == "[0.000, 0.000]"
    assert str(Interval(-0.0006, math.inf)) == "[-0.001, inf]"


def test_one_caption_warns() -> None:
    scores: Scores = evaluate({"1": "a dog"}, {"1": ["a dog"]}, metrics=["BLEU-1"])
    found = scores.with_intervals()
    assert found.intervals["BLEU-1"] == approx((1.0, 1.0))
    assert "single image" in found.warnings[-1]


def test_figures_without_a_value() -> None:
    """A share of nothing has no interval; where it is missing in a resample, others decide."""
    never = Statistics.ratio("never", np.zeros(5), np.zeros(5))
    rare = Statistics.ratio("rare", np.array([1.0, 0, 0, 0, 0]), np.array([2.0, 0, 0, 0, 0]))
    found = intervals([never, rare], 100)
    assert list(found) == ["rare"] and found["rare"] == (0.5, 0.5)
    [difference] = differences([[never], [never]], Resampling(100))
    assert difference["never"].p == 1.0 and math.isnan(difference["never"].value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_resamples": 0}, "0 resamples: expected 1 or more"),
        ({"confidence": 95}, "confidence 95: expected a share"),
        ({"seed": -1}, "seed -1: expected 0 or more"),
    ],
)
def test_values_out_of_range(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ScoringError, match=message):
        intervals([Statistics.mean("score", np.ones(3))], **values)


def test_systems_that_do_not_fit() -> None:
    def mean(name: str, num: int) -> Sequence[Statistics]:
        return [Statistics.mean(name, np.ones(num))]

    with pytest.raises(ScoringError, match="different metrics"):
        differences([mean("a", 3), mean("b", 3)])
    with pytest.raises(ScoringError, match="different images"):
        differences([mean("a", 3), mean("a", 4)])


def test_holm_by_hand() -> None:
    """Sorted 0.01, 0.03, 0.04 times 3, 2, 1, each at least the one before."""
    assert holm([0.04, 0.01, 0.03]) == approx([0.06, 0.03, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_sentence_and_corpus_bleu_share_their_formula() -> None:
    captions, people = made_up(12)
    references = References(people)
    levels, lengths = references.ngrams.count([said.split() for said in captions.values()])
    each: Floats = Bleu(references.ngrams).score_counts(np.arange(12), levels, lengths)
    [statistics] = evaluate(captions, references, metrics=FAST[:4]).statistics
    assert np.array_equal(each, statistics.per_image)
