"""The preset ``notebook`` trains as the course notebook's loop does, step by step."""

import hashlib
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from course_files import DecoderRNN
from PIL import Image
from tiny_encoder import staged_encoder
from tiny_pictures import paint, train
from tiny_run import StopAt, same_weights, steps_of
from torch import nn

from showtell.config import Config
from showtell.config.toml import PRESETS
from showtell.data.records import Record
from showtell.data.sampler import drawn_batches
from showtell.decoders.registry import build_decoder
from showtell.inference.checkpoint import load_checkpoint

SMALL = (
    *("data.vocab_threshold=1", "decoder.embed_size=24", "decoder.hidden_size=32"),
    *("training.batch_size=8", "training.num_epochs=2", "encoder.num_workers=0"),
)


def preset_settings() -> tuple[str, ...]:
    """The preset as ``section.key=value``, but for the encoder's name."""
    values = tomllib.loads((PRESETS / "notebook.toml").read_text())
    settings = [f"seed={values.pop('seed')}"]
    for section, entries in values.items():
        for key, value in entries.items():
            text = str(value).lower() if isinstance(value, bool) else str(value)
            if (section, key) != ("encoder", "name"):
                settings.append(f"{section}.{key}={text}")
    return (*settings, *SMALL)


def straightforward_losses(run: Path, records: tuple[Record, ...], steps: int) -> list[float]:
    """The notebook's training cell, with our first weights and our stream of random numbers."""
    checkpoint = load_checkpoint(run)
    vocabulary, config = checkpoint.vocabulary, checkpoint.config
    encoder = staged_encoder()
    torch.manual_seed(config.seed)
    first = build_decoder(
        config.decoder, vocab_size=len(vocabulary), feature_size=encoder.pooled_size
    ).state_dict()
    embed = nn.Linear(encoder.pooled_size, 24)
    decoder = DecoderRNN(24, 32, len(vocabulary))
    with torch.no_grad():
        embed.weight.copy_(first["image_embedding.linear.weight"])
        embed.bias.copy_(first["image_embedding.linear.bias"])
        decoder.word_embeddings.weight.copy_(first["word_embedding.weight"])
        decoder.hidden2vocab.weight.copy_(first["output.weight"])
        decoder.hidden2vocab.bias.copy_(first["output.bias"])
        for name, parameter in decoder.lstm.named_parameters():
            parameter.copy_(first[f"rnn.{name}"])

    trained = [record for record in records if record.split == "train"]
    pairs = [(record, caption) for record in trained for caption in record.captions]
    captions = [[1, *vocabulary.encode(caption), 2] for _, caption in pairs]
    lengths = np.array([len(caption) - 2 for caption in captions])
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam([*decoder.parameters(), *embed.parameters()], lr=0.001)
    losses = []
    rng = np.random.default_rng((config.seed, 1))
    for step in range(steps):
        length = rng.choice(lengths)
        indices = rng.choice(np.where(lengths == length)[0], size=8)
        images = torch.stack([view(encoder, pairs[i][0], step, config.seed) for i in indices])
        batch = torch.tensor([captions[i] for i in indices])
        with torch.no_grad():
            features = encoder(images, regions=False).pooled
        decoder.zero_grad()
        embed.zero_grad()
        outputs = decoder(embed(features), batch)
        loss = criterion(outputs.view(-1, len(vocabulary)), batch.view(-1))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def view(encoder: torch.nn.Module, record: Record, step: int, seed: int) -> torch.Tensor:
    digest = hashlib.sha256(record.image_id.encode()).digest()
    rng = np.random.default_rng((seed, step, 3, int.from_bytes(digest[:8], "big")))
    image = Image.open(record.path).convert("RGB")
    return torch.from_numpy(encoder.preprocessing.random_view(image, rng).copy())


def test_the_first_losses_are_those_of_a_straightforward_loop(tmp_path: Path) -> None:
    records = paint(tmp_path / "pictures")
    train(tmp_path / "run", records, settings=preset_settings())
    steps = steps_of(tmp_path / "run")
    assert len(steps) == 2 * 15  # 120 captions by 8, the notebook's number of steps
    ours = [step["loss"] for step in steps[:12]]
    theirs = straightforward_losses(tmp_path / "run", records, 12)
    assert len(set(ours)) == 12 and theirs[-1] < theirs[0]
    assert ours == pytest.approx(theirs, abs=1e-5)
    assert {step["lr"] for step in steps} == {0.001}
    assert not (tmp_path / "run" / "last" / "encoder.safetensors").exists()
    line = (tmp_path / "run" / "training_log.txt").read_text().splitlines()[0]
    assert line.startswith("Epoch [1/2], Step [1/15], Loss: ")


def test_a_stopped_run_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    records = paint(tmp_path / "pictures")
    train(tmp_path / "whole", records, settings=preset_settings())
    train(tmp_path / "run", records, settings=preset_settings(), report=StopAt(7))
    train(tmp_path / "run", records, resume=True)
    assert same_weights(tmp_path / "whole" / "last", tmp_path / "run" / "last")


def test_drawn_batches_have_one_length_each() -> None:
    lengths = np.array([3] * 20 + [5] * 60 + [9])
    batches = [b for epoch in range(30) for b in drawn_batches(lengths, 8, seed=0, epoch=epoch)]
    assert len(batches) == 30 * 11 and {len(batch) for batch in batches} == {8}
    drawn = [set(lengths[batch]) for batch in batches]
    assert {len(found) for found in drawn} == {1}
    share = sum(found == {5} for found in drawn) / len(drawn)
    assert share == pytest.approx(60 / 81, abs=0.07)


def test_the_preset_is_valid() -> None:
    config = Config.load(Path("notebook"))
    assert config.encoder.name == "timm:resnet50.tv_in1k" and config.encoder.fresh_views
