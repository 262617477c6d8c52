"""Old pictures that are rehearsed beside new ones, in a tiny world."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_run import Notes, StopAt, log_of, make_run, run, same_weights, steps_of
from tiny_world import tiny_config, tiny_records, tiny_store

from showtell.config import Config
from showtell.core.device import choose_runtime
from showtell.data.records import Dataset
from showtell.data.request import DataRequest
from showtell.data.sources import load_dataset
from showtell.errors import CheckpointError, ConfigError
from showtell.inference.checkpoint import load_checkpoint
from showtell.text.vocabulary import UNK, WordVocabulary
from showtell.training.from_start import Pictures
from showtell.training.loop import Run
from showtell.training.old_pictures import (
    OldPictures,
    _corpus,
    check_old,
    check_same,
    load_old,
    old_of_run,
    old_place,
    old_to_resume,
    sample,
    wanted_of,
)
from showtell.training.teachers import Teachers

NEW = ("a new dog", "the new thing")
SETTINGS = ("optimizer.lr=0.02", "training.rehearsal_batch_size=12")


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory, dataset: Dataset, store) -> Path:
    folder = tmp_path_factory.mktemp("start")
    run(folder, dataset, store, tiny_config())
    return folder


@pytest.fixture
def new(dataset: Dataset) -> Dataset:
    """The same pictures with captions that contradict the old ones."""
    records = tuple(replace(record, captions=NEW) for record in dataset.records)
    return replace(dataset, records=records)


def rehearsing(
    folder: Path, new: Dataset, store, start: Path, *, num: int = 10, **options
) -> tuple[Run, OldPictures]:
    """A run on ``new`` that rehearses ``num`` of the tiny world's own pictures."""
    config = tiny_config(f"training.init_from={start}", f"training.rehearsal_pictures={num}")
    config = Config.of(config.model_dump() | {"optimizer": {"lr": 0.02, "warmup_steps": 0}})
    made = make_run(folder, new, store, config, **{**options, "resume": False})
    teacher = load_checkpoint(start)
    records = [record for record in tiny_records() if record.split == "train"][:num]
    old = OldPictures(
        Dataset("old", "folder", tuple(records)),
        store,
        _corpus(records, store, teacher.vocabulary, 20),
        Teachers((teacher.decoder.requires_grad_(False),), teacher.vocabulary),
    )
    resumed = options.get("resume", False)
    made = Run(
        config=config,
        data=replace(made.data, old=old),
        folder=folder,
        runtime=made.runtime,
        provenance=made.provenance,
        report=options.get("report", Notes()),
        start=teacher,
        resume=resumed,
    )
    return made, old


def test_a_step_takes_whole_pictures_and_depends_on_the_step_alone(
    tmp_path: Path, new: Dataset, store, start: Path
) -> None:
    _, old = rehearsing(tmp_path / "run", new, store, start)
    runtime = choose_runtime("cpu", "fp32")
    features, inputs, targets = old.batch(12, 7, 3, runtime)
    assert len(inputs) == len(targets) == 12  # four pictures with three captions each
    assert len(features.pooled) == 4
    assert torch.bincount(features.picture_of).tolist() == [3, 3, 3, 3]
    again = old.batch(12, 7, 3, runtime)
    assert torch.equal(again[1], inputs) and torch.equal(again[0].pooled, features.pooled)
    others = [old.batch(12, 7, step, runtime)[0].pooled for step in range(10)]
    assert len({tuple(pooled.flatten().tolist()) for pooled in others}) > 5
    assert len(old.batch(10_000, 7, 0, runtime)[1]) == len(old.corpus) == 30


def test_rehearsal_keeps_what_the_start_said(
    tmp_path: Path, new: Dataset, store, start: Path
) -> None:
    """Where new captions contradict the old ones, less is forgotten of what is rehearsed."""
    made, old = rehearsing(tmp_path / "kept", new, store, start)
    made.run()
    forgetful = make_run(tmp_path / "lost", new, store, made.config)
    forgetful.run()
    steps = steps_of(tmp_path / "kept")
    assert steps[0]["old_kl"] < 0.2  # dropout aside, it is the start itself
    assert all(step["old_kl"] > 0 for step in steps)
    runtime = choose_runtime("cpu", "fp32")
    features, inputs, targets = old.batch(10_000, 0, 0, runtime)
    distance = {}
    for folder in ("kept", "lost"):
        decoder = load_checkpoint(tmp_path / folder / "last").decoder
        with torch.no_grad():
            real = targets > 0
            wanted = old.teachers.log_probs(
                features, inputs, real, num_words=len(made.data.vocabulary)
            )
            given = decoder(features, inputs)[real].log_softmax(-1)
            distance[folder] = float((wanted.exp() * (wanted - given)).sum(-1).mean())
    assert distance["kept"] < distance["lost"] / 2


def test_a_stopped_run_goes_on_to_the_same_weights(
    tmp_path: Path, new: Dataset, store, start: Path
) -> None:
    whole, pieces = tmp_path / "whole", tmp_path / "pieces"
    rehearsing(whole, new, store, start)[0].run()
    rehearsing(pieces, new, store, start, report=StopAt(5))[0].run()
    rehearsing(pieces, new, store, start, resume=True)[0].run()
    assert same_weights(whole / "last", pieces / "last")
    assert log_of(whole) == log_of(pieces)


def test_captions_without_a_known_word_are_left_out(tmp_path: Path) -> None:
    records = list(tiny_records(6))
    records[1] = replace(records[1], captions=("zorkmid yurt", "a red zorkmid"))
    store = tiny_store(tmp_path / "s", tiny_records(6))
    known = WordVocabulary({"red": 9, "dog": 9}, 1)
    corpus = _corpus(records[:2], store, known, 20)
    assert len(corpus) == 4  # the three of the first, a red dog, and "a red zorkmid"
    assert (corpus.ids != UNK).tolist()[-3:] == [False, True, False]
    assert corpus.pictures.tolist()[-1] == store.rows([records[1].image_id])[0]


def test_the_sample_is_of_the_training_pictures_and_of_the_seed() -> None:
    old = load_dataset("scenes:40")
    train = {record.image_id for record in old.split("train")}
    ids = [{r.image_id for r in sample(old, 10, seed).records} for seed in (0, 0, 1)]
    assert ids[0] == ids[1] != ids[2]
    assert all(len(some) == 10 and some <= train for some in ids)
    assert len(sample(old, 10_000, 0).records) == len(train)


def test_data_without_training_pictures_is_only_measured(tmp_path: Path) -> None:
    for name in ("a", "b"):
        image = load_dataset("scenes:40").records[0].path
        (tmp_path / f"{name}.png").write_bytes(image.read_bytes())
    lines = [f'{{"image": "{n}.png", "captions": ["a"], "split": "val"}}\n' for n in "ab"]
    (tmp_path / "old.jsonl").write_text("".join(lines))
    report = Notes()
    config = Config.load(None, ["training.init_from=x", "training.rehearsal_pictures=9"])
    found = wanted_of(DataRequest(str(tmp_path / "old.jsonl")), config, report)
    assert found is None
    [note] = report.notes
    assert "measured and not rehearsed: none of its pictures is marked train" in note


@pytest.mark.parametrize(
    ("marks", "measured", "choosing"),
    [
        ({"train": 40, "test": 4}, {"val": 2, "test": 4}, [2]),
        ({"train": 3, "val": 5, "test": 4}, {"val": 5, "test": 4}, [5]),
        ({"train": 40}, {"val": 2}, [2]),
        ({"test": 4}, {"test": 4}, []),
        ({"train": 1, "test": 4}, {"test": 4}, []),
    ],
)
def test_nothing_is_chosen_by_test_pictures(
    tmp_path: Path, marks: dict[str, int], measured: dict[str, int], choosing: list[int]
) -> None:
    image = load_dataset("scenes:40").records[0].path.read_bytes()
    lines = []
    for split, number in marks.items():
        for name in (f"{split}{n}.png" for n in range(number)):
            (tmp_path / name).write_bytes(image)
            lines.append(f'{{"image": "{name}", "captions": ["a dog"], "split": "{split}"}}\n')
    (tmp_path / "old.jsonl").write_text("".join(lines))
    found = Pictures.held_out(load_old(DataRequest(str(tmp_path / "old.jsonl"))), None)
    assert {one.split: len(one.dataset.records) for one in found} == measured
    assert [len(one.dataset.records) for one in found if one.chooses] == choosing


def test_where_the_old_data_lay_is_remembered(tmp_path: Path) -> None:
    (tmp_path / "old.csv").write_text("")
    for old in (
        DataRequest("scenes:40"),
        DataRequest(str(tmp_path / "old.csv"), "csv", tmp_path, tmp_path / "store", "cp1252"),
    ):
        assert old_of_run({"old_at": old_place(old)}) == old
    assert old_of_run({}) is None


def test_a_run_that_began_without_old_pictures_goes_on_without_any(tmp_path: Path) -> None:
    old, other = DataRequest("scenes:40"), DataRequest("scenes:50")
    with pytest.raises(CheckpointError, match="was begun without --old, so it rehearses no old"):
        old_to_resume(old, {}, tmp_path)
    assert old_to_resume(None, {}, tmp_path) is None
    known = {"old_at": old_place(old)}
    assert old_to_resume(None, known, tmp_path) == old
    assert old_to_resume(other, known, tmp_path) == other  # a place that has moved


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ([], "--old scenes:40 is what a model is not to forget: give the model with --from"),
        (
            ["training.init_from=x", "training.init_parts=encoder"],
            "training.init_parts = encoder takes a part of x: leave --old out",
        ),
    ],
)
def test_old_pictures_without_a_whole_model_are_refused(settings: list[str], message: str) -> None:
    config = Config.load(None, settings)
    check_old(None, config)
    with pytest.raises(ConfigError, match=message):
        check_old(DataRequest("scenes:40"), config)


def test_other_old_pictures_are_refused(tmp_path: Path, new: Dataset, store, start: Path) -> None:
    _, old = rehearsing(tmp_path / "run", new, store, start)
    known = {"rehearsed": old.provenance()}
    check_same(old.dataset, known, tmp_path)
    with pytest.raises(CheckpointError, match=r"rehearses 10 pictures of old, and what --old"):
        check_same(None, known, tmp_path)
    _, fewer = rehearsing(tmp_path / "other", new, store, start, num=9)
    with pytest.raises(CheckpointError, match="give the same data, or start a new run"):
        check_same(fewer.dataset, known, tmp_path)
