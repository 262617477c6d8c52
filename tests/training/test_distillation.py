"""What a student learns of its teachers: the loss, the mean of several, and whole runs."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_run import StopAt, log_of, make_run, run, same_weights, steps_of
from tiny_world import attending_config, tiny_config, tiny_records, tiny_store

from showtell.config import Config
from showtell.core.device import choose_runtime
from showtell.data.records import Dataset
from showtell.decoding.ensemble import Ensemble
from showtell.distil.student import segmentation_of
from showtell.encoders.features import load_features
from showtell.encoders.store import FeatureStore
from showtell.errors import CheckpointError, ConfigError, VocabularyError
from showtell.inference.checkpoint import load_checkpoint
from showtell.text.segment import PTB
from showtell.text.vocabulary import PAD, WordVocabulary
from showtell.training.corpus import Corpus
from showtell.training.objectives.distillation import divergence
from showtell.training.teacher_table import TeacherTable
from showtell.training.teachers import (
    Teachers,
    check_words,
    open_teachers,
    teachers_vocabulary,
    why_not,
)
from showtell.training.words import choose_segmentation


class _Encoder:
    name, fingerprint = "tiny", "tiny-1"


@pytest.fixture(scope="module")
def teachers(
    tmp_path_factory: pytest.TempPathFactory, dataset: Dataset, store: FeatureStore
) -> list[Path]:
    folders = [tmp_path_factory.mktemp(name) for name in ("one", "two")]
    for seed, folder in enumerate(folders):
        run(folder, dataset, store, tiny_config("training.num_epochs=6", f"seed={seed}"))
    return folders


def of(folders: list[Path], *changes: str) -> Config:
    names = ", ".join(f'"{folder}"' for folder in folders)
    return tiny_config("objective.kind=distil", f"objective.teachers=[{names}]", *changes)


def opened(config: Config) -> Teachers:
    found = open_teachers(config, _Encoder(), choose_runtime("cpu", "fp32"))  # type: ignore[arg-type]
    assert found is not None
    return found


def test_the_divergence_is_that_of_torch_and_words_that_never_come_add_nothing() -> None:
    one, two = torch.randn(2, 30, 12).log_softmax(dim=-1)
    expected = torch.nn.functional.kl_div(two, one, log_target=True, reduction="batchmean")
    assert torch.allclose(divergence(one, two), expected)
    assert divergence(one, one) == 0
    never = one.clone()
    never[:, 3] = -math.inf
    never = never.log_softmax(dim=-1)
    finite = divergence(never, two)
    assert finite.isfinite() and finite > 0


def test_several_teachers_are_heard_as_an_ensemble_is(
    teachers: list[Path], dataset: Dataset, store: FeatureStore
) -> None:
    """The same numbers as a search over the ensemble, step by step."""
    found = opened(of(teachers))
    rows = store.rows([record.image_id for record in dataset.records[:4]])
    features = load_features(store, rows)
    tokens = torch.tensor([[1, 5, 6, 7], [1, 8, 9, PAD], [1, 4, PAD, PAD], [1, 6, 5, 4]])
    real = tokens != PAD
    num = len(found.vocabulary)
    with torch.no_grad():
        heard = found.log_probs(features, tokens, real, num_words=num + 2)
        ensemble = Ensemble([load_checkpoint(folder).decoder for folder in teachers])
        state, steps = ensemble.init_state(features), []
        for place in range(tokens.shape[1]):
            log_probs, state = ensemble.step(tokens[:, place], state)
            steps.append(log_probs)
    expected = torch.stack(steps, dim=1)[real]
    assert torch.allclose(heard[:, :num], expected, atol=1e-5)
    assert (heard[:, num:] == -math.inf).all()
    assert torch.allclose(heard.exp().sum(dim=-1), torch.ones(len(heard)), atol=1e-5)


def test_at_a_higher_temperature_each_teacher_is_less_sure(
    teachers: list[Path], dataset: Dataset, store: FeatureStore
) -> None:
    found = opened(of(teachers[:1]))
    features = load_features(store, store.rows([dataset.records[0].image_id]))
    tokens, num = torch.tensor([[1, 5, 6]]), len(found.vocabulary)
    real = tokens != PAD
    sure, unsure = (
        found.log_probs(features, tokens, real, num_words=num, temperature=t) for t in (1.0, 3.0)
    )
    assert torch.allclose(unsure, (sure / 3).log_softmax(dim=-1), atol=1e-5)


def test_a_student_comes_near_to_its_teachers_and_weight_0_is_cross_entropy(
    tmp_path: Path, teachers: list[Path], dataset: Dataset, store: FeatureStore
) -> None:
    run_of(tmp_path / "student", dataset, store, of(teachers, "training.num_epochs=6"))
    distances = [step["teacher_kl"] for step in steps_of(tmp_path / "student")]
    assert distances[-1] < 0.4 * distances[0]
    run_of(tmp_path / "none", dataset, store, of(teachers, "objective.teacher_weight=0.0"))
    # The students begin with the teachers' vocabulary, which is that of the same captions.
    run(tmp_path / "plain", dataset, store, tiny_config())
    losses = [[s["loss"] for s in steps_of(tmp_path / name)] for name in ("none", "plain")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_a_student_that_predicts_start_counts_it_in_the_cross_entropy(
    tmp_path: Path, teachers: list[Path], dataset: Dataset, store: FeatureStore
) -> None:
    start = "decoder.predict_start=true"
    run_of(tmp_path / "none", dataset, store, of(teachers, start, "objective.teacher_weight=0.0"))
    run(tmp_path / "plain", dataset, store, tiny_config(start))
    run_of(tmp_path / "without", dataset, store, of(teachers, "objective.teacher_weight=0.0"))
    steps = {name: steps_of(tmp_path / name) for name in ("none", "plain", "without")}
    for figure in ("loss", "objective", "tokens"):
        none, plain = ([step[figure] for step in steps[name]] for name in ("none", "plain"))
        assert none == pytest.approx(plain, rel=1e-4), figure
    # <start> of each of the first 8 captions, and as far as the teachers go nothing else.
    assert steps["none"][0]["tokens"] == steps["without"][0]["tokens"] + 8
    run_of(tmp_path / "student", dataset, store, of(teachers, start, "training.num_epochs=6"))
    distances = [step["teacher_kl"] for step in steps_of(tmp_path / "student")]
    assert distances[-1] < 0.4 * distances[0]


def run_of(folder: Path, dataset: Dataset, store: FeatureStore, config: Config, **more) -> None:
    make_run(folder, dataset, store, config, teachers=opened(config), **more).run()


def test_a_stopped_student_goes_on_to_the_same_weights(
    tmp_path: Path, teachers: list[Path], dataset: Dataset, store: FeatureStore
) -> None:
    whole, pieces, config = tmp_path / "whole", tmp_path / "pieces", of(teachers)
    run_of(whole, dataset, store, config)
    run_of(pieces, dataset, store, config, report=StopAt(17))
    run_of(pieces, dataset, store, config, resume=True)
    assert same_weights(whole / "last", pieces / "last")
    assert log_of(whole) == log_of(pieces)


def test_other_teachers_are_not_gone_on_with(
    tmp_path: Path, teachers: list[Path], dataset: Dataset, store: FeatureStore
) -> None:
    config, folder = of(teachers[:1], "training.num_epochs=1"), tmp_path / "run"
    run_of(folder, dataset, store, config, report=StopAt(2))
    with pytest.raises(CheckpointError, match=r"the models that .*objective\.teachers.* put them"):
        run_of(folder, dataset, store, of(teachers[1:]), resume=True)
    run_of(folder, dataset, store, config, resume=True)


def test_teachers_are_asked_once_about_each_caption_where_features_stay_the_same(
    tmp_path: Path,
    teachers: list[Path],
    dataset: Dataset,
    store: FeatureStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With a table the student learns the same, and a run that goes on the same to the bit."""
    config, asked = of(teachers, "training.num_epochs=4", "encoder.views=0"), []
    told = Teachers.log_probs

    def counted(self: Teachers, features, inputs, real, **more):
        asked.append(int(real.sum()))
        return told(self, features, inputs, real, **more)

    monkeypatch.setattr(Teachers, "log_probs", counted)
    run_of(tmp_path / "table", dataset, store, config)
    tokens = [step["tokens"] for step in steps_of(tmp_path / "table")]
    assert 4 * sum(asked) == sum(tokens) and 4 * len(asked) == len(tokens)
    run_of(tmp_path / "pieces", dataset, store, config, report=StopAt(3 * len(asked) - 2))
    run_of(tmp_path / "pieces", dataset, store, config, resume=True)
    assert same_weights(tmp_path / "table" / "last", tmp_path / "pieces" / "last")
    monkeypatch.setattr("showtell.training.teacher_table.MOST_BYTES", 0)
    asked.clear()
    run_of(tmp_path / "none", dataset, store, config)
    assert asked == tokens
    with_table, without = (
        [step["teacher_kl"] for step in steps_of(tmp_path / name)] for name in ("table", "none")
    )
    assert with_table == pytest.approx(without, rel=0.02)


def test_a_teacher_may_attend_where_its_student_does_not(tmp_path: Path) -> None:
    records = tiny_records()
    dataset = Dataset("tiny", "folder", records)
    store = tiny_store(tmp_path / "grid", records, grid_size=(9, 32))
    run(tmp_path / "teacher", dataset, store, attending_config("up_down"))
    run_of(tmp_path / "student", dataset, store, of([tmp_path / "teacher"]))
    assert load_checkpoint(tmp_path / "student").config.decoder.kind == "show_tell"
    assert all(math.isfinite(step["teacher_kl"]) for step in steps_of(tmp_path / "student"))


def test_a_table_has_no_place_for_the_end_of_a_cut_caption() -> None:
    ids, offsets = np.arange(4, 9, dtype=np.int32), np.array([0, 2, 5])
    corpus = Corpus(ids, offsets, np.array([0, 1]), np.array([True, False]))

    def compute(captions: np.ndarray) -> torch.Tensor:
        targets = corpus.tensors(captions, "cpu")[1]
        return targets[targets != PAD][:, None].expand(-1, 3).float()  # each place says its target

    table = TeacherTable(corpus, [np.arange(2)], 3, compute, "cpu")
    assert table.values.shape == (2 + 3 + 1, 3)
    for captions in ([0], [1], [1, 0]):
        batch = np.array(captions)
        assert table.log_probs(batch, 3).tolist() == compute(batch).tolist()


def test_captions_are_cut_as_the_teachers_cut_them(
    tmp_path: Path, dataset: Dataset, store: FeatureStore
) -> None:
    run(tmp_path / "spaces", dataset, store, tiny_config("data.segmentation=spaces"))
    config = of([tmp_path / "spaces"])
    known = teachers_vocabulary(config)
    assert (
        known is not None and known.words == load_checkpoint(tmp_path / "spaces").vocabulary.words
    )
    found, _ = choose_segmentation(dataset.split("train"), config.data, known)
    assert found == known.segmentation != PTB
    assert segmentation_of(config, ["a red ball"])[0] == found
    assert teachers_vocabulary(tiny_config()) is None


def test_what_cannot_teach_is_said_in_one_line(
    tmp_path: Path, teachers: list[Path], dataset: Dataset, store: FeatureStore
) -> None:
    with pytest.raises(
        ConfigError, match=r"needs a teacher: set teachers, as in -s objective\.teachers"
    ):
        tiny_config("objective.kind=distil")
    with pytest.raises(CheckpointError, match="nowhere"):
        opened(of([tmp_path / "nowhere"]))
    found, one = opened(of(teachers)), load_checkpoint(teachers[0])

    class Other(_Encoder):
        fingerprint = "other-1"

    reason = why_not(one, one.vocabulary, Other())  # type: ignore[arg-type]
    assert "was trained with encoder tiny-1" in str(reason)
    with pytest.raises(VocabularyError, match="does not begin with"):
        check_words(found, WordVocabulary({"a": 3, "dog": 2}, 1))
    run(tmp_path / "other", dataset, store, tiny_config("data.vocab_threshold=30"))
    with pytest.raises(VocabularyError, match="other has a different vocabulary from the first"):
        opened(of([*teachers, tmp_path / "other"]))
