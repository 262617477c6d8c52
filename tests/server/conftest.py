"""What the tests of the server share: one in a thread, and a model for those in processes."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tiny_server import TinyServer, running

from showtell.config import Config
from showtell.decoders.registry import build_decoder
from showtell.encoders.encoder import build_encoder
from showtell.inference.checkpoint import Checkpoint, save_checkpoint
from showtell.text.vocabulary import WordVocabulary


@pytest.fixture(scope="session")
def server() -> Iterator[TinyServer]:
    with running() as server:
        yield server


@pytest.fixture(scope="session")
def novice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that knows nothing, with a real encoder."""
    folder = tmp_path_factory.mktemp("models") / "novice"
    sizes = ["decoder.embed_size=8", "decoder.hidden_size=8", "decoding.max_length=6"]
    config = Config.load(None, ["encoder.name=lite0", *sizes])
    encoder = build_encoder("lite0")
    words = WordVocabulary({"a": 2, "dog": 1}, 1)
    torch.manual_seed(0)
    decoder = build_decoder(config.decoder, vocab_size=len(words), feature_size=encoder.pooled_size)
    metrics = {"feature_size": encoder.pooled_size, "encoder_fingerprint": encoder.fingerprint}
    save_checkpoint(folder, Checkpoint(decoder.eval(), words, config, metrics))
    return folder
