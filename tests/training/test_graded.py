"""Graded captions: the better of two becomes more probable, in a tiny world."""

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_run import Notes, StopAt, log_of, make_run, run, same_weights, steps_of
from tiny_world import tiny_config, tiny_records

from showtell.config import Config
from showtell.core.device import choose_runtime
from showtell.data.graded import GradedCaption, write_graded
from showtell.data.records import Dataset, Record
from showtell.encoders.features import load_features
from showtell.errors import CheckpointError, ConfigError, DataError
from showtell.inference.checkpoint import load_checkpoint
from showtell.training.graded import (
    GradedCaptions,
    _finder,
    check_same_grades,
    log_probs,
    open_graded,
    preference_loss,
)
from showtell.training.loop import Run
from showtell.training.settings import Layers

RUNTIME = choose_runtime("cpu", "fp32")
GOOD, BAD = 1.0, 0.25


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory, dataset: Dataset, store) -> Path:
    folder = tmp_path_factory.mktemp("start")
    run(folder, dataset, store, tiny_config())
    return folder


def train_records() -> list[Record]:
    return [record for record in tiny_records() if record.split == "train"]


def graded_file(folder: Path, *more: GradedCaption) -> Path:
    """Of each picture its own first caption is good, and the next picture's is bad."""
    records = train_records()
    rows = []
    for one, other in pairwise(records):
        if one.captions[0] != other.captions[0]:
            rows.append(GradedCaption(one.path.name, one.captions[0], GOOD))
            rows.append(GradedCaption(one.image_id, other.captions[0], BAD))
    path = folder / "graded.csv"
    write_graded(path, [*rows, *more])
    return path


def opened(path: Path, store, start: Path, report: Notes | None = None) -> GradedCaptions:
    return open_graded(
        path,
        tiny_records(),
        store,
        vocabulary=load_checkpoint(start).vocabulary,
        init_from=str(start),
        max_length=20,
        runtime=RUNTIME,
        report=report or Notes(),
    )


def learning(
    folder: Path, dataset: Dataset, store, start: Path, file: Path, **options
) -> tuple[Run, GradedCaptions]:
    config = tiny_config(f"training.init_from={start}", f"data.graded={file}")
    config = Config.of(
        config.model_dump()
        | {"optimizer": {"lr": 0.01, "warmup_steps": 0}}
        | {"training": config.training.model_dump() | {"graded_batch_size": 12}}
    )
    made = make_run(folder, dataset, store, config, **{**options, "resume": False})
    graded = opened(file, store, start)
    return Run(
        config=config,
        data=replace(made.data, graded=graded),
        folder=folder,
        runtime=made.runtime,
        provenance=made.provenance,
        report=options.get("report", Notes()),
        start=load_checkpoint(start),
        resume=options.get("resume", False),
    ), graded


def margins(graded: GradedCaptions, folder: Path) -> torch.Tensor:
    """By how much each good caption is likelier than the bad one of its picture."""
    pictures = np.unique(graded.corpus.pictures)
    regions = graded.regions
    features = load_features(graded.store, pictures, regions=regions)
    places = np.searchsorted(pictures, graded.corpus.pictures)
    features = features._replace(picture_of=torch.from_numpy(places))
    everything = np.arange(len(graded.corpus))
    with torch.no_grad():
        decoder = load_checkpoint(folder).decoder
        found = log_probs(decoder, features, graded.corpus, everything, RUNTIME)
    good = torch.from_numpy(graded.grades == GOOD)
    return found[good] - found[~good]


def test_the_better_caption_gains_on_the_worse(
    tmp_path: Path, dataset: Dataset, store, start: Path
) -> None:
    made, graded = learning(tmp_path / "run", dataset, store, start, graded_file(tmp_path))
    made.run()
    without = make_run(tmp_path / "without", dataset, store, made.config)
    without.run()
    gained, before = margins(graded, tmp_path / "run" / "last"), margins(graded, start / "best")
    assert (gained > before).float().mean() > 0.9
    assert gained.mean() > margins(graded, tmp_path / "without" / "last").mean() + 1
    steps = steps_of(tmp_path / "run")
    assert steps[0]["graded_loss"] == pytest.approx(math.log(2), abs=0.05)  # it is the start
    assert steps[-1]["graded_loss"] < 0.6


def test_a_stopped_run_goes_on_to_the_same_weights(
    tmp_path: Path, dataset: Dataset, store, start: Path
) -> None:
    file = graded_file(tmp_path)
    whole, pieces = tmp_path / "whole", tmp_path / "pieces"
    learning(whole, dataset, store, start, file)[0].run()
    learning(pieces, dataset, store, start, file, report=StopAt(5))[0].run()
    learning(pieces, dataset, store, start, file, resume=True)[0].run()
    assert same_weights(whole / "last", pieces / "last")
    assert log_of(whole) == log_of(pieces)


def test_the_loss_is_the_equation() -> None:
    """Against the sum over pairs written out, for two pictures with two and three captions."""
    gained = torch.tensor([0.5, -1.0, 2.0, 0.0, 1.0], dtype=torch.float64)
    grades = torch.tensor([1.0, 0.4, 0.0, 1.0, 1.0], dtype=torch.float64)
    picture_of = torch.tensor([0, 0, 1, 1, 1])
    beta = 0.3

    def pair(better: int, worse: int) -> tuple[float, float]:
        z = beta * float(gained[better] - gained[worse])
        return float(grades[better] - grades[worse]), math.log1p(math.exp(-z))

    def mean(*pairs: tuple[float, float]) -> float:
        return sum(w * loss for w, loss in pairs) / sum(w for w, _ in pairs)

    expected = (mean(pair(0, 1)) + mean(pair(3, 2), pair(4, 2))) / 2
    assert float(preference_loss(gained.float(), grades.float(), picture_of, beta)) == (
        pytest.approx(expected, rel=1e-5)
    )


def test_log_probabilities_are_those_of_the_decoder(store, start: Path, tmp_path: Path) -> None:
    graded = opened(graded_file(tmp_path), store, start)
    captions = np.array([0, 1])
    [row] = np.unique(graded.corpus.pictures[captions])
    features = load_features(store, np.array([row]), regions=graded.regions)
    features = features._replace(picture_of=torch.tensor([0, 0]))
    inputs, targets = graded.corpus.tensors(captions, "cpu")
    with torch.no_grad():
        decoder = load_checkpoint(start).decoder
        found = log_probs(decoder, features, graded.corpus, captions, RUNTIME)
        each = decoder(features, inputs).log_softmax(-1)
    wanted = each.gather(2, targets[..., None])[..., 0].masked_fill(targets == 0, 0).sum(1)
    assert torch.allclose(found, wanted, atol=1e-5)
    assert torch.allclose(graded.before[:2], wanted, atol=1e-5)


def test_what_cannot_be_learnt_from_is_left_out(store, start: Path, tmp_path: Path) -> None:
    records = train_records()
    others = [
        GradedCaption("elsewhere.jpg", "a red dog", GOOD),  # no training picture
        GradedCaption(records[0].image_id, "a zorkmid", 0.0),  # an unknown word
        GradedCaption(records[-1].image_id, "a red dog", GOOD),  # the only one of its picture
    ]
    notes = Notes()
    plain, more = (
        opened(graded_file(tmp_path), store, start),
        opened(graded_file(tmp_path, *others), store, start, notes),
    )
    assert len(plain.corpus) == len(more.corpus) > 0
    assert plain.provenance()["fingerprint"] == more.provenance()["fingerprint"]
    assert any(f"{len(plain.corpus)} of {len(plain.corpus) + 3} graded" in n for n in notes.notes)


def test_grades_that_say_nothing_are_an_error(store, start: Path, tmp_path: Path) -> None:
    path = tmp_path / "same.csv"
    rows = [GradedCaption(r.path.name, c, 0.5) for r in train_records() for c in r.captions]
    write_graded(path, rows)
    with pytest.raises(DataError, match="no picture has two that the model can say and whose"):
        opened(path, store, start)


def test_a_caption_that_is_graded_twice_has_the_mean(store, start: Path, tmp_path: Path) -> None:
    first = train_records()[0]
    once = opened(graded_file(tmp_path), store, start)
    again = GradedCaption(first.image_id, first.captions[0], 0.5)
    twice = opened(graded_file(tmp_path, again), store, start)
    assert len(once.corpus) == len(twice.corpus)
    assert sorted(set(twice.grades)) == [BAD, (GOOD + 0.5) / 2, GOOD]


def test_pictures_are_found_by_id_or_path_and_never_by_half_a_name() -> None:
    """``a/1.jpg`` is not ``b/1.jpg``, and a name that two pictures have is none's."""
    names = ["a/1.jpg", "b/1.jpg", "b/2.png", "c/COCO_val2014_000000000007.jpg"]
    records = [
        Record(str(n), Path("/data") / name, ("a",), "train") for n, name in enumerate(names)
    ]
    find = _finder(records)
    assert [find(str(number)) for number in range(4)] == [0, 1, 2, 3]  # their ids
    assert [find(name) for name in names] == [0, 1, 2, 3]
    assert find("photos/b/1.jpg") == 1
    assert find("2.png") == 2 and find("elsewhere/2.png") == 2
    assert find("1.jpg") is None and find("c/1.jpg") is None
    assert find("7") == 3 and find("000000000007.jpg") == 3
    assert find("b\\1.jpg") == 1
    assert find("nothing.jpg") is None


def test_a_resumed_run_learns_from_the_same_grades(store, start: Path, tmp_path: Path) -> None:
    graded = opened(graded_file(tmp_path), store, start)
    check_same_grades(graded, {"graded": graded.provenance()}, tmp_path)
    check_same_grades(graded, {}, tmp_path)
    records = train_records()
    more = GradedCaption(records[0].image_id, records[0].captions[1], 0.6)
    other = opened(graded_file(tmp_path, more), store, start)
    with pytest.raises(CheckpointError, match=r"data\.graded does not have the same now"):
        check_same_grades(other, {"graded": graded.provenance()}, tmp_path)


def test_nothing_is_averaged_with_the_start() -> None:
    """Whatever the preset says: averages are chosen by CIDEr-D."""
    for preset in ("none", "tiny", "small"):
        given = ["data.graded=graded.csv"]
        for overrides, averaged in ((given, False), ([], True)):
            layers = Layers(start="default", preset=preset, overrides=overrides)
            assert layers.config().training.average_start is averaged
    asked = Layers(
        start="default",
        preset="tiny",
        overrides=["data.graded=graded.csv", "training.average_start=true"],
    )
    assert asked.config().training.average_start


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ((), "set training.init_from"),
        (("training.init_from=x", "training.init_parts=encoder"), "training.init_parts = model"),
        (("training.init_from=x", "encoder.fresh_views=true"), "needs stored features"),
    ],
)
def test_settings_that_do_not_fit(settings: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Config.load(None, ["data.graded=graded.csv", *settings])
