"""Rehearsal, and the average of a run with its start, in a tiny world."""

import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock, Mock

import numpy as np
import pytest
import torch
from decoder_cases import WIDTH, classes, make, vocabulary
from tiny_run import Notes, make_run, run
from tiny_world import WIDTH as TINY_WIDTH
from tiny_world import tiny_config, tiny_records, tiny_store

from showtell.cli.train import print_changes
from showtell.config import Config
from showtell.core.device import choose_runtime
from showtell.data.records import Dataset, Record
from showtell.decoding.reranking import SIGNS, Reranker
from showtell.errors import CheckpointError
from showtell.evaluation.evaluate import CaptionedSplit, Evaluation, references_of
from showtell.inference.backends.native import NativeCaptioner
from showtell.inference.caption import CALIBRATION, Calibration, Caption
from showtell.inference.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from showtell.metrics import evaluate
from showtell.text.segment import Segmentation
from showtell.text.vocabulary import WordVocabulary
from showtell.training.from_start import (
    AVERAGE_START,
    BeforeAndAfter,
    Pictures,
    _average,
    _content,
    _origin,
    _rows,
    chosen,
    finish,
    keeps_reranker,
    mean,
    with_calibration,
)
from showtell.training.loop import TrainingResult
from showtell.training.rehearsal import kept_captions, known_words, rehearsal_captions
from showtell.training.validation import is_better, t_95

CONCEPTS = {"hidden_size": 24, "num_heads": 2, "num_layers": 1, "concepts": 3}
DETECTED = {"hidden_size": 16, "num_heads": 2, "num_layers": 1, "concepts": 3, "detected": 12}


def checkpoint(options: dict, *, kind: str = "transformer") -> Checkpoint:
    return Checkpoint(make(kind, options), vocabulary(), Config(), {"feature_size": WIDTH})


@pytest.mark.parametrize("options", [CONCEPTS, DETECTED])
def test_a_model_makes_up_captions_from_its_words(tmp_path: Path, options: dict) -> None:
    config = Config.load(None, ["training.init_from=x", "training.rehearsal=150"])
    report, runtime = Notes(), choose_runtime("cpu", "fp32")
    made = rehearsal_captions(tmp_path, checkpoint(options), config, runtime, report)
    assert made
    assert len(set(made)) == len(made)
    assert all(word in vocabulary() for caption in made for word in caption.split())
    assert kept_captions(tmp_path) == made
    assert "made up by the model, to rehearse" in report.notes[0]
    again = rehearsal_captions(tmp_path, checkpoint(options), config, runtime, report)
    assert again == made


def test_how_the_model_captions_photos_is_no_matter_for_what_it_makes_up(tmp_path: Path) -> None:
    wanted = Config.load(None, ["training.init_from=x", "training.rehearsal=50"])
    runtime, start = choose_runtime("cpu", "fp32"), checkpoint(CONCEPTS)
    plain = rehearsal_captions(tmp_path, start, wanted, runtime, Notes())
    decoding = {
        "method": "diverse",
        "beam_size": 4,
        "groups": 2,
        "num_captions": 3,
        "required_words": [vocabulary().words[5]],
        "min_confidence": 1.0,
    }
    odd = replace(start, config=Config.of({"decoding": decoding}))
    assert rehearsal_captions(tmp_path, odd, wanted, runtime, Notes()) == plain


def test_a_decoder_without_words_beside_the_picture_makes_up_none(tmp_path: Path) -> None:
    config = Config.load(None, ["training.init_from=x", "training.rehearsal=150"])
    start = checkpoint({"embed_size": 16, "hidden_size": 24}, kind="show_tell")
    assert known_words(start.decoder) is None
    found = rehearsal_captions(tmp_path, start, config, choose_runtime("cpu", "fp32"), Notes())
    assert found == kept_captions(tmp_path) == []


def test_a_language_without_class_words_makes_up_none(tmp_path: Path) -> None:
    start = checkpoint(CONCEPTS)
    start.decoder.concepts.class_words.zero_()
    config = Config.load(None, ["training.init_from=x", "training.rehearsal=150"])
    assert known_words(start.decoder) is None
    runtime = choose_runtime("cpu", "fp32")
    assert rehearsal_captions(tmp_path, start, config, runtime, Notes()) == []


def test_words_are_counted_in_captions_without_spaces(tmp_path: Path) -> None:
    words = dict.fromkeys("一只狗在草地上奔跑的人和猫红色球白车走大小树山水天路", 9)
    chinese = WordVocabulary(words, 1).cut_by(Segmentation.of("characters", "zh"))
    assert len(chinese) == len(vocabulary())
    start = replace(checkpoint(DETECTED), vocabulary=chinese)
    config = Config.load(None, ["training.init_from=x", "training.rehearsal=150"])
    made = rehearsal_captions(tmp_path, start, config, choose_runtime("cpu", "fp32"), Notes())
    assert made
    assert all(len(caption) >= 4 and " " not in caption for caption in made)


def test_the_words_of_a_classifier_come_as_often_as_in_captions() -> None:
    decoder = make("transformer", CONCEPTS)
    decoder.concepts.counts[5] = 9_999
    ids, counts = known_words(decoder)
    assert 0 not in ids
    assert counts[list(ids).index(5)] == 10_000


def test_new_words_of_the_classifier_are_named() -> None:
    decoder = make("transformer", CONCEPTS)
    known = WordVocabulary({"other": 9}, 1)
    decoder.concepts.name_classes(classes(), known)
    larger = known.extended({"word3": 5}, 1)
    decoder.concepts.name_classes(classes(), larger)
    assert (decoder.concepts.class_words == len(known)).any()


def test_the_smallest_share_that_is_as_good_is_chosen() -> None:
    def same(*values: float) -> dict[float, list[np.ndarray]]:
        shares = np.linspace(0, 1, len(values))
        return {share: [np.full(50, v)] for share, v in zip(shares, values, strict=True)}

    assert chosen(same(0.5, 0.99, 1.0, 0.7)) == pytest.approx(1 / 3)
    assert chosen(same(0.5, 0.7)) == 1.0
    assert chosen(same(0.0, 0.0)) == 0.0


def test_a_share_that_is_better_by_chance_is_not_chosen() -> None:
    generator = np.random.default_rng(0)
    start = generator.gamma(1.0, size=50)
    noise = generator.normal(size=50)
    noise = (noise - noise.mean()) / noise.std()
    # A gain of 7 %, where one picture's differs from the next's by far more; then one beyond doubt.
    assert chosen({0.0: [start], 1.0: [start + 0.07 + 0.4 * noise]}) == 0.0
    assert chosen({0.0: [start], 1.0: [start + 0.07 + 0.2 * noise]}) == 1.0
    # As much is lost on what the model knew.
    old = generator.gamma(1.0, size=400)
    gain = 0.3 * start.mean()
    lost = {0.0: [start, old], 1.0: [start + gain, 0.7 * old]}
    assert chosen(lost) == 0.0


@pytest.mark.parametrize("freedom", [1, 2, 3, 7, 11, 17, 25, 40, 90, 1_000])
def test_the_quantile_of_students_t(freedom: int) -> None:
    """By its density: 0.45 of it lie between 0 and the quantile."""
    log_gammas = math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)
    points = np.linspace(0, t_95(freedom), 10_001)
    density = (1 + points**2 / freedom) ** (-(freedom + 1) / 2)
    density *= math.exp(log_gammas) / math.sqrt(freedom * math.pi)
    assert np.trapezoid(density, points) == pytest.approx(0.45, abs=2e-4)


def test_between_the_first_quantiles_more_is_asked_for() -> None:
    assert t_95(1.5) > 3.7  # of which 0.05 lie above 3.66
    assert t_95(math.inf) == 1.645


@pytest.mark.parametrize("sizes", [(2,), (3,), (5,), (10,), (4, 12)])
def test_one_in_twenty_is_better_by_chance_however_few_pictures(sizes: tuple[int, ...]) -> None:
    generator, num = np.random.default_rng(0), 4_000
    better = 0
    for _ in range(num):
        other = [np.full(size, 0.6) for size in sizes]
        one = [values + 0.05 * generator.standard_normal(len(values)) for values in other]
        better += is_better(one, other)
    assert 0.03 < better / num < 0.062


def test_nothing_is_better_by_one_picture() -> None:
    assert not is_better([np.array([0.9])], [np.array([0.1])])
    assert is_better([np.array([0.9, 0.9])], [np.array([0.1, 0.1])])


def test_before_and_after_are_cut_into_words_as_the_model_cuts_them(tmp_path: Path) -> None:
    """Captions in Chinese share words with people's without being equal to them."""
    people = ["一只棕色的狗在草地上跑", "一个男人在海里冲浪", "厨房里有一张桌子"]
    texts = ["一只狗在草地上跑", "一个男人在冲浪", "厨房里有两张桌子"]
    records = tuple(
        Record(f"p{n}", tmp_path / f"p{n}.png", (text,), "test") for n, text in enumerate(people)
    )
    captions = {
        record.image_id: Caption(text, tuple(text), (-0.1,) * (len(text) + 1), 0.9)
        for record, text in zip(records, texts, strict=True)
    }
    cut = Segmentation.of("characters", "zh")
    scores = evaluate(
        {name: caption.text for name, caption in captions.items()}, references_of(records, cut)
    )
    before = CaptionedSplit(records, Evaluation(captions, scores), {}, None, "tiny")
    pictures = Pictures(Dataset("tiny", "folder", records), "test", None)
    after = {record.image_id: record.captions[0] for record in records}
    rows = {row.metric: row for row in _rows(pictures, before, after, cut)}
    for name in ("CIDEr-D", "BLEU-4"):
        assert rows[name].before == pytest.approx(scores.metrics[name])
        assert 0.2 < rows[name].before < rows[name].after


@pytest.mark.parametrize("epoch", [3, 2])
def test_a_comparison_of_the_best_epoch_is_not_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epoch: int
) -> None:
    """Also where the encoder trains, so that nothing is averaged."""
    best = replace(checkpoint(CONCEPTS), metrics={"epoch": 3})
    monkeypatch.setattr("showtell.training.from_start.load_checkpoint", lambda folder: best)
    (tmp_path / "comparison.json").write_text(json.dumps({"epoch": epoch}))
    config = Config.load(None, ["training.init_from=x"])
    done = SimpleNamespace(
        folder=tmp_path,
        config=config,
        data=SimpleNamespace(store=None),
        runtime=choose_runtime("cpu", "fp32"),
    )
    result = TrainingResult(3, {}, False, 1.0)
    loads = Mock(side_effect=CheckpointError("the start is looked at"))
    monkeypatch.setattr(NativeCaptioner, "load", loads)

    def again() -> TrainingResult:
        dataset = Dataset("tiny", "folder", ())
        return finish(done, result, dataset, store=None, old=None, report=Notes())

    if epoch == 3:
        assert again() is result
    else:
        with pytest.raises(CheckpointError, match="looked at"):
            again()


def test_the_average_is_spoken_of_where_one_was_made(capsys: pytest.CaptureFixture[str]) -> None:
    print_changes(BeforeAndAfter("start", 3, 1.0, {}, ()))
    assert "the epoch was chosen on val" in capsys.readouterr().out
    print_changes(BeforeAndAfter("start", 3, 1.0, {"0": 1.2}, ()))
    assert "the epoch and the average were chosen on val" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("reranker", "calibration", "line"),
    [
        ("start", "start", "reranker: that of first; calibration of the confidence: that of first"),
        ("left out", "left out", "reranker: none (first has one); calibration of the confidence: "),
        ("own", "none", "reranker: own; calibration of the confidence: none"),
    ],
)
def test_the_table_says_which_reranker_and_calibration_the_model_has(
    capsys: pytest.CaptureFixture[str], reranker: str, calibration: str, line: str
) -> None:
    print_changes(BeforeAndAfter("first", 3, 0.0, {"0": 1.2}, (), reranker, calibration))
    assert line in capsys.readouterr().out


def test_a_model_that_chooses_as_the_start_keeps_its_calibration() -> None:
    """Also after an average; of another choice among captions it says nothing."""
    known = {"calibration": {"slope": 2.0, "offset": 1.0}}
    best = replace(checkpoint({}, kind="show_tell"), metrics={"epoch": 2})
    begun = replace(best, metrics=known)
    assert with_calibration(best, begun).metrics == {"epoch": 2, **known}
    for changed in (
        with_calibration(replace(best, reranker=MagicMock()), begun),
        with_calibration(best, replace(begun, reranker=MagicMock())),
        with_calibration(best, replace(begun, metrics={})),
    ):
        assert changed.metrics == {"epoch": 2}


@pytest.mark.parametrize(
    ("num", "loss", "noise", "keeps", "why"),
    [
        (19, 0.5, 0.0, True, "19 validation pictures, too few to say anything against it"),
        (20, 0.5, 0.0, False, "is left out: it chooses worse on 20 validation pictures (CIDEr-D "),
        (20, 0.1, 0.5, True, "20 validation pictures say nothing against it beyond chance"),
        (20, -0.1, 0.0, True, "20 validation pictures say nothing against it beyond chance"),
    ],
)
def test_the_reranker_of_the_start_is_left_out_only_where_enough_pictures_show_it(
    num: int, loss: float, noise: float, keeps: bool, why: str
) -> None:
    random = np.random.default_rng(0)
    without = random.gamma(2.0, size=num)
    differs = random.normal(size=num)
    differs = noise * (differs - differs.mean()) / differs.std()
    found, said = keeps_reranker([without], [without - loss + differs])
    assert found is keeps
    assert why in said
    assert f"{without.mean():.3f} without it, {without.mean() - loss:.3f} with it" in said


def test_a_reranker_of_other_features_is_left_out() -> None:
    assert keeps_reranker([np.ones(5)], None) == (
        False,
        "is left out, as it looks at other features than these",
    )


CALIBRATED = Calibration(1.0, 2.0, 0.25, 500, "many", (0.5,) * len(SIGNS))


def backwards() -> Reranker:
    """One that chooses the caption which the search finds least probable."""
    return Reranker(
        words=np.array([5]),
        prior=np.array([0.1], np.float32),
        weight=np.zeros((1, TINY_WIDTH), np.float32),
        bias=np.zeros(1, np.float32),
        num_windows=0,
        choice=np.array([-1.0] + [0.0] * (len(SIGNS) - 1)),
    )


@pytest.mark.parametrize(
    ("num", "encoder", "origin", "why"),
    [
        (60, "tiny-1", "start", "is kept: 10 validation pictures, too few to say anything"),
        (300, "tiny-1", "left out", "is left out: it chooses worse on 50 validation pictures"),
        (60, "tiny-2", "left out", "is left out, as it looks at other features than these"),
    ],
)
def test_what_an_average_takes_over_of_its_start(
    tmp_path: Path, num: int, encoder: str, origin: str, why: str
) -> None:
    """Of few pictures chance says much, so they take no reranker away, and no calibration."""
    records = tiny_records(num)
    dataset, store = Dataset("tiny", "folder", records), tiny_store(tmp_path / "store", records)
    run(tmp_path / "start", dataset, store, tiny_config())
    begun = load_checkpoint(tmp_path / "start")
    known = {CALIBRATION: CALIBRATED.to_dict(), "encoder_fingerprint": encoder}
    decoding = begun.config.decoding.with_changes({"doubt": 1})
    begun = replace(
        begun,
        config=begun.config.model_copy(update={"decoding": decoding}),
        reranker=backwards(),
        metrics={**begun.metrics, **known},
    )
    save_checkpoint(tmp_path / "start" / "best", begun)
    config = tiny_config(f"training.init_from={tmp_path / 'start'}", "training.num_epochs=1")
    made = make_run(tmp_path / "run", dataset, store, config)
    made.run()
    best, report = load_checkpoint(tmp_path / "run"), Notes()
    assert best.reranker is None
    val = tuple(record for record in records if record.split == "val")
    pictures = CaptionedSplit(val, Mock(), {}, store, "tiny")
    found, [said] = _average(made, best, [pictures], report)
    kept = load_checkpoint(tmp_path / "run")
    assert _origin(_content(begun.reranker), _content(kept.reranker)) == origin
    assert _origin(CALIBRATED, Calibration.of(kept.metrics)) == origin
    # Its detector doubts what it has learnt to see: the words of the start's own weights.
    is_start = origin == "start" and not kept.metrics[AVERAGE_START]["share"]
    assert kept.config.decoding.doubt == (1 if is_start else 0)
    assert any(f"the reranker of {tmp_path / 'start'} {why}" in note for note in report.notes)
    calibrated = f"confidence is {'' if origin == 'start' else 'not '}calibrated as that of"
    assert any(calibrated in note for note in report.notes)
    # What it says of the pictures, and its figures, are those of the choice that it has.
    model = NativeCaptioner(kept, made.runtime, trust_model=True)
    again = model.caption_features(model.stored_features(store, store.rows(list(said))))
    assert [caption.text for caption in again] == list(said.values())
    assert found.metrics["metrics"] == kept.metrics["metrics"]


def test_whose_a_part_of_the_model_is() -> None:
    other = replace(CALIBRATED, slope=3.0)
    assert _origin(None, None) == "none"
    assert _origin(None, CALIBRATED) == _origin(other, CALIBRATED) == "own"
    assert _origin(CALIBRATED, None) == "left out"
    assert _origin(CALIBRATED, replace(CALIBRATED)) == "start"


def test_weights_between_two_models() -> None:
    start = {"a": torch.tensor([0.1, 3.0]), "n": torch.tensor(1)}
    end = {"a": torch.tensor([0.7, 1.0]), "n": torch.tensor(5)}
    assert torch.equal(mean(start, end, 0.0)["a"], start["a"])
    assert torch.equal(mean(start, end, 1.0)["a"], end["a"])
    torch.testing.assert_close(mean(start, end, 0.25)["a"], torch.tensor([0.25, 2.5]))
    assert mean(start, end, 0.0)["n"] == 5
