"""Every decoder with a vocabulary of pieces: trains, stops, goes on, evaluates, captions."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_run import make_run
from tiny_world import (
    ATTENDING,
    WIDTH,
    attending_config,
    prefix_lm_config,
    tiny_config,
    tiny_records,
    tiny_store,
)

from showtell.config import Config
from showtell.core.progress import SilentReporter, StepReport
from showtell.data.records import Dataset
from showtell.decoders.registry import DECODERS
from showtell.encoders.features import load_features
from showtell.encoders.store import FeatureStore
from showtell.errors import VocabularyError
from showtell.evaluation.evaluate import evaluate_captioner
from showtell.inference.backends.native import NativeCaptioner
from showtell.inference.checkpoint import load_checkpoint
from showtell.text.subwords import SubwordVocabulary
from showtell.text.vocabulary import load_vocabulary
from showtell.training.loop import Run
from showtell.training.prepare import Given, prepare

GRID = (5, WIDTH + 4)
RECORDS = tiny_records()
PIECES = "data.subwords=40"
STEPS_PER_EPOCH = 15  # 40 training pictures, 3 captions each, 8 a batch


class Notes(SilentReporter):
    """Keeps what is noted, and stops the run after a number of steps."""

    def __init__(self, steps: int | None = None) -> None:
        self.notes: list[str] = []
        self.left = steps

    def note(self, text: str) -> None:
        self.notes.append(text)

    def step(self, report: StepReport) -> None:
        if self.left is not None:
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    return tiny_store(tmp_path_factory.mktemp("grid"), RECORDS, grid_size=GRID)


def config_of(kind: str, *changes: str) -> Config:
    if kind in ATTENDING:
        return attending_config(kind, *changes)
    return prefix_lm_config(*changes) if kind == "prefix_lm" else tiny_config(*changes)


def make(
    folder: Path, store: FeatureStore, config: Config, report: Notes, *, resume: bool = False
) -> Run:
    dataset = Dataset("tiny", "folder", RECORDS)
    return make_run(
        folder, dataset, store, config, report=report, resume=resume, region_size=GRID[1]
    )


@pytest.mark.parametrize("kind", sorted(DECODERS))
def test_learns_stops_goes_on_and_captions(tmp_path: Path, store: FeatureStore, kind: str) -> None:
    config = config_of(kind, PIECES, "training.num_epochs=5", "decoding.max_length=20")
    with pytest.raises(KeyboardInterrupt):  # in the third epoch; ``last`` is of the second
        make(tmp_path, store, config, Notes(steps=2 * STEPS_PER_EPOCH + 3)).run()
    assert load_checkpoint(tmp_path / "last").metrics["epoch"] == 2
    result = make(tmp_path, store, config, Notes(), resume=True).run()
    model = NativeCaptioner.load(tmp_path, device="cpu", precision="fp32")
    assert isinstance(model.vocabulary, SubwordVocabulary)
    records = [record for record in RECORDS if record.split == "val"]
    score = evaluate_captioner(model, records, store).scores.metrics["CIDEr-D"]
    assert score == pytest.approx(result.metrics["CIDEr-D"])
    assert result.metrics["val_perplexity"] < 15  # of 300 pieces, most of them bytes not in use
    features = load_features(store, store.rows(["p1", "p2", "p9"]), regions=True)
    captions = model.caption_features(features, attention=kind in ATTENDING)
    for caption in captions:
        assert caption.text == " ".join(caption.words)
        assert len(caption.log_probs) == len(caption.words) + 1
        mean = torch.tensor(caption.log_probs).mean().exp().item()
        assert caption.confidence == pytest.approx(mean, rel=1e-5)
        for row in caption.attention or ():
            assert sum(row) == pytest.approx(1, abs=1e-4)
        if kind in ATTENDING:
            assert len(caption.attention) == len(caption.words) + 1
    assert len(model.vocabulary.encode("a bird")) > 2  # some words have several pieces


def test_a_stopped_run_goes_on_to_the_same_weights(tmp_path: Path, store: FeatureStore) -> None:
    config = tiny_config(PIECES, "training.num_epochs=2")
    make(tmp_path / "whole", store, config, Notes()).run()
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "parts", store, config, Notes(steps=20)).run()
    make(tmp_path / "parts", store, config, Notes(), resume=True).run()
    one, two = (load_checkpoint(tmp_path / name / "last") for name in ("whole", "parts"))
    assert one.vocabulary == two.vocabulary
    weights = [part.decoder.state_dict() for part in (one, two)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_an_ensemble_refuses_another_vocabulary(tmp_path: Path, store: FeatureStore) -> None:
    for name, changes in (
        ("words", ()),
        ("pieces", (PIECES,)),
        ("fewer", ("data.subwords=39",)),
        ("again", (PIECES, "seed=1")),
    ):
        make(tmp_path / name, store, tiny_config("training.num_epochs=1", *changes), Notes()).run()
    load = {"device": "cpu", "precision": "fp32"}
    for other in ("words", "fewer"):
        with pytest.raises(VocabularyError, match="different vocabularies"):
            NativeCaptioner.load(tmp_path / "pieces", ensemble=[tmp_path / other], **load)
    model = NativeCaptioner.load(tmp_path / "pieces", ensemble=[tmp_path / "again"], **load)
    [caption] = model.caption_features(load_features(store, store.rows(["p1"])))
    assert len(caption.log_probs) == len(caption.words) + 1


def test_another_runs_pieces_serve_again(tmp_path: Path, store: FeatureStore) -> None:
    run = make(tmp_path / "one", store, tiny_config(PIECES), Notes())
    run.data.vocabulary.save(tmp_path / "v.json")
    other = tiny_config(f"data.vocab_file={tmp_path / 'v.json'}")
    assert make(tmp_path / "two", store, other, Notes()).data.vocabulary == run.data.vocabulary


def test_given_pieces_have_the_room_of_learnt_ones(tmp_path: Path, store: FeatureStore) -> None:
    """By what the vocabulary has, whether it is built, read, or a teacher's."""
    records = tuple(replace(one, captions=("xyzzy" * 10,)) for one in tiny_records())  # 50 bytes
    data, num_tokens = Dataset("tiny", "folder", records), []
    make(tmp_path / "one", store, tiny_config(PIECES), Notes()).data.vocabulary.save(
        tmp_path / "v.json"
    )
    file, pieces = tmp_path / "v.json", load_vocabulary(tmp_path / "v.json")
    for config, vocabulary in (
        (tiny_config(f"data.vocab_file={file}"), None),
        (tiny_config(), pieces),
        (tiny_config("data.max_caption_length=30"), pieces),
    ):
        given = Given(vocabulary=vocabulary)
        num_tokens.append(int(prepare(data, config.data, store, Notes(), given).train.lengths[0]))
    whole = len(pieces.encode("xyzzy" * 10))
    assert num_tokens == [whole, whole, 30] and 40 < whole <= 80


def test_what_is_cut_is_said(tmp_path: Path, store: FeatureStore) -> None:
    report = Notes()
    config = tiny_config(PIECES, "data.max_caption_length=7")
    data = make(tmp_path / "run", store, config, report).data
    assert data.train.lengths.max() == 7
    assert 0 < data.train.num_cut < len(data.train)
    said = f"{data.train.num_cut} training captions are longer than data.max_caption_length = 7"
    assert any(note.startswith(said) for note in report.notes)
    assert any(note.endswith("pieces of words") for note in report.notes)
