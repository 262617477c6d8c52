"""A run whose encoder has a weights file of the person's: its checkpoints do not need that file."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from showtell.config import Config
from showtell.decoders.registry import build_decoder
from showtell.encoders.encoder import LITE, Encoder, _packaged_weights, build_encoder
from showtell.encoders.finetune import train_from
from showtell.errors import CheckpointError
from showtell.inference.checkpoint import encoder_source, load_checkpoint
from showtell.text.vocabulary import WordVocabulary
from showtell.training.checkpoints import Checkpoints, fingerprints
from showtell.training.openings import open_encoder
from showtell.training.state import TrainingState

WORDS = WordVocabulary({"dog": 3, "cat": 2}, 1)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A copy of lite0's, as if it were a file of one's own."""
    pytest.importorskip(LITE["lite0"].package)
    file = tmp_path / "mine.pth"
    file.write_bytes(_packaged_weights("lite0", LITE["lite0"]).read_bytes())
    return file


def checkpoints(folder: Path, config: Config, encoder: Encoder) -> Checkpoints:
    provenance = {
        **fingerprints(encoder),
        "feature_size": encoder.pooled_size,
        "data_fingerprint": "data-1",
    }
    return Checkpoints(
        folder,
        vocabulary=WORDS,
        config=config,
        provenance=provenance,
        device="cpu",
        learns_from={},
    )


def test_the_weights_go_into_the_checkpoints(weights: Path, tmp_path: Path) -> None:
    small = ["decoder.embed_size=8", "decoder.hidden_size=8"]
    config = Config.load(None, ["encoder.name=lite0", f"encoder.weights={weights}", *small])
    run = tmp_path / "run"
    run.mkdir()
    torch.manual_seed(0)
    encoder = open_encoder(config, None, run)
    decoder = build_decoder(config.decoder, vocab_size=len(WORDS), feature_size=1280)
    state = TrainingState.of(decoder, config)
    own = checkpoints(run, config, encoder)
    own.save("last", state, log_offsets={"text": 0, "data": 0})
    weights.unlink()  # from here on nobody has it
    again = checkpoints(run, config, encoder)
    again.save("last", state, log_offsets={"text": 0, "data": 0})
    again.save("best", state)
    files = sorted(run.rglob("encoder-weights-*.safetensors"))
    assert {file.parent.name for file in files} == {"run", "best", "last"}
    assert all(os.path.samefile(file, files[0]) for file in files)
    start = load_checkpoint(run / "last")
    assert open_encoder(config, start, run).fingerprint == encoder.fingerprint
    (run / "best").rename(tmp_path / "handed on")
    name, file = encoder_source(load_checkpoint(tmp_path / "handed on"), trusted=False)
    assert file is not None and file.parent == tmp_path / "handed on"
    assert build_encoder(name, weights=file).fingerprint == encoder.fingerprint
    assert all(torch.isfinite(value).all() for value in load_file(file).values())


@pytest.mark.parametrize("trains", [False, True])
def test_a_run_may_see_the_whole_picture_where_its_start_saw_the_centre(
    tmp_path: Path, trains: bool
) -> None:
    small = ["decoder.embed_size=8", "decoder.hidden_size=8", "encoder.name=lite0"]
    config = Config.load(None, small)
    run = tmp_path / "run"
    run.mkdir()
    encoder = open_encoder(config, None, run)
    if trains:
        train_from(encoder, "head")
        with torch.no_grad():
            next(p for p in encoder.parameters() if p.requires_grad).add_(0.25)
    decoder = build_decoder(config.decoder, vocab_size=len(WORDS), feature_size=1280)
    state = TrainingState.of(decoder, config, encoder if trains else None)
    checkpoints(run, config, encoder).save("best", state)
    start = load_checkpoint(run / "best")
    whole = Config.load(None, [*small, "encoder.squash=true", f"training.init_from={run}"])
    again = open_encoder(whole, start, tmp_path / "other")
    assert "whole picture" in again.fingerprint and "centre" in encoder.fingerprint
    assert again.changed == encoder.changed and bool(again.changed) is trains
    for name, weight in encoder.changed_weights().items():
        assert torch.equal(again.changed_weights()[name], weight)
    image = Image.fromarray(np.eye(40, 80, dtype=np.uint8) * 255).convert("RGB")
    assert not np.array_equal(
        again.preprocessing.eval_view(image), encoder.preprocessing.eval_view(image)
    )
    other = replace(start, metrics={**start.metrics, "encoder_fingerprint": "lite0, centre"})
    with pytest.raises(CheckpointError, match=r"trained with encoder|it was changed"):
        open_encoder(whole, other, tmp_path / "other")
