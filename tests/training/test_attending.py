"""Decoders that attend, through training, validation and evaluation."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_world import ATTENDING, WIDTH, attending_config, tiny_records, tiny_store

from showtell.core.device import choose_runtime
from showtell.core.progress import SilentReporter
from showtell.data.records import Dataset
from showtell.decoders.registry import DECODERS
from showtell.encoders.features import Features, load_features
from showtell.encoders.store import FeatureStore
from showtell.evaluation.evaluate import evaluate_captioner
from showtell.inference.backends.native import NativeCaptioner
from showtell.inference.checkpoint import load_checkpoint
from showtell.training.loop import Run
from showtell.training.objectives.losses import cross_entropy
from showtell.training.prepare import prepare
from showtell.training.validation import validation_loss

GRID = (5, WIDTH + 4)
RECORDS = tiny_records()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    return tiny_store(tmp_path_factory.mktemp("grid"), RECORDS, grid_size=GRID)


def make(folder: Path, store: FeatureStore, kind: str, *changes: str) -> Run:
    config = attending_config(kind, *changes)
    folder.mkdir(exist_ok=True)
    return Run(
        config=config,
        data=prepare(Dataset("tiny", "folder", RECORDS), config.data, store, SilentReporter()),
        folder=folder,
        runtime=choose_runtime("cpu", "fp32"),
        provenance={
            "feature_size": WIDTH,
            "region_size": GRID[1],
            "encoder_fingerprint": "tiny-1",
            "data_fingerprint": "data-1",
        },
        report=SilentReporter(),
    )


def test_every_kind_is_visited() -> None:
    assert set(ATTENDING) == {kind for kind, one in DECODERS.items() if one.needs_regions}


@pytest.mark.parametrize("kind", sorted(ATTENDING))
def test_learns_what_one_region_shows(tmp_path: Path, store: FeatureStore, kind: str) -> None:
    result = make(tmp_path / "run", store, kind, "training.num_epochs=10").run()
    assert result.metrics["CIDEr-D"] > 3
    assert load_checkpoint(tmp_path / "run").metrics["region_size"] == GRID[1]
    captioner = NativeCaptioner.load(tmp_path / "run", device="cpu", precision="fp32")
    records = [record for record in RECORDS if record.split == "test"]
    assert evaluate_captioner(captioner, records, store).scores.metrics["CIDEr-D"] > 3


@pytest.mark.parametrize("kind", sorted(ATTENDING))
def test_the_validation_loss_is_that_of_the_captions(
    tmp_path: Path, store: FeatureStore, kind: str
) -> None:
    """Sharing a picture's features changes nothing: one caption at a time gives the same."""
    run = make(tmp_path / "run", store, kind)
    run.state.decoder.eval()
    corpus, total, count = run.data.val, 0.0, 0
    for caption in range(len(corpus)):
        inputs, targets = corpus.tensors(np.array([caption]), "cpu")
        features = load_features(store, corpus.pictures[[caption]], regions=True)
        with torch.inference_mode():
            loss = cross_entropy(run.state.decoder, features, inputs, targets)
        total, count = total + loss.nll.item() * loss.num_tokens, count + loss.num_tokens
    assert validation_loss(run.captioner, run.data) == pytest.approx(total / count, rel=1e-5)


def test_a_batch_holds_each_picture_once(
    tmp_path: Path, store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, seen = make(tmp_path / "run", store, "up_down", "training.num_epochs=1"), []
    hidden_states = type(run.state.decoder).hidden_states

    def watch(decoder: object, features: Features, tokens: torch.Tensor) -> object:
        if decoder.training:
            seen.append(features)
        return hidden_states(decoder, features, tokens)

    monkeypatch.setattr(type(run.state.decoder), "hidden_states", watch)
    run.run()
    assert len(seen) == 15  # 40 pictures, 3 captions each, 8 a batch
    assert sum(len(features.picture_of) for features in seen) == 120
    # 40 pictures, and those that the 14 borders between batches split.
    assert 40 <= sum(len(features.regions) for features in seen) <= 54


@pytest.mark.parametrize("asked", ["length", "picture"])
def test_batches_as_asked(tmp_path: Path, store: FeatureStore, asked: str) -> None:
    run = make(tmp_path / "run", store, "up_down", f"training.batch_by={asked}")
    assert run.objective.by_picture == (asked == "picture")


def test_the_grid_comes_in_the_type_that_is_computed_in(store: FeatureStore) -> None:
    rows = store.rows(["p0", "p1"])
    features = load_features(store, rows, regions=True, dtype=torch.bfloat16)
    assert features.regions.dtype == torch.bfloat16
    assert features.pooled.dtype == torch.float32
    exact = torch.from_numpy(store.grid(rows)).bfloat16()
    assert torch.equal(features.regions, exact)
