"""A model of the notebook's own form comes over exactly: features, logits and captions."""

import os
import pickle
from pathlib import Path

import pytest
import torch
from cli_shell import Shell
from course_files import (
    WORDS,
    DecoderRNN,
    normalised,
    picture,
    pixels,
    save_files,
    trained_models,
)
from torch import Tensor

import showtell
from showtell.course.load import import_notebook
from showtell.course.weights import read_state, understand_decoder, understand_encoder
from showtell.encoders.encoder import build_encoder
from showtell.encoders.features import Features
from showtell.errors import CheckpointError, ConfigError
from showtell.inference.checkpoint import load_checkpoint


@pytest.mark.slow
@pytest.mark.parametrize(
    ("depth", "norm", "num_layers"),
    [
        (50, False, 1),
        pytest.param(152, False, 1, marks=pytest.mark.costly),
        pytest.param(50, True, 2, marks=pytest.mark.costly),
    ],
)
def test_same_logits_and_same_caption(
    tmp_path: Path, depth: int, norm: bool, num_layers: int
) -> None:
    encoder, decoder = trained_models(depth, norm=norm, num_layers=num_layers)
    files = save_files(tmp_path / "models", encoder, decoder)
    imported = import_notebook(*files, tmp_path / "model")
    assert f"ResNet-{depth}, LSTM of {num_layers} layer" in imported.description

    image = picture()
    caption = torch.tensor([[0, 3, 4, 2, 9]])  # <start> a red <unk> .
    with torch.no_grad():
        features = encoder(normalised(pixels(image)))
        theirs = decoder(features, torch.cat([caption, caption[:, :1]], dim=1))[:, 1:]
        said = decoder.sample(features.unsqueeze(1))
    checkpoint = load_checkpoint(tmp_path / "model")
    words = checkpoint.vocabulary.words
    assert sorted(words) == sorted(("<pad>", *WORDS))
    ours_of = [words.index(word) for word in WORDS]
    network = build_encoder(checkpoint.config.encoder.name, weights=checkpoint.encoder_weights)
    with torch.no_grad():
        pooled = network(pixels(image), regions=False).pooled
        tokens = torch.tensor([[ours_of[i] for i in caption[0]]])
        ours = checkpoint.decoder(Features(pooled), tokens)
    torch.testing.assert_close(ours[..., ours_of], theirs, atol=1e-5, rtol=1e-5)
    assert float(ours.softmax(-1)[..., 0].max()) == 0  # <pad>, which the notebook lacks

    assert said[0] == 0 and said[-1] == 1 and len(said) == 10
    captioner = showtell.load(tmp_path / "model")
    assert captioner.caption(image).text == " ".join(WORDS[i] for i in said[1:-1])


def test_files_of_other_trainings_are_told(tmp_path: Path) -> None:
    states = {"a.weight": torch.zeros(3, 4)}
    with pytest.raises(CheckpointError, match=r"has no ResNet: .*a\.weight \(3, 4\)"):
        understand_encoder(states, tmp_path / "encoder-1.pkl")
    with pytest.raises(CheckpointError, match="expected one LSTM"):
        understand_decoder(states, tmp_path / "decoder-1.pkl")
    decoder = dict(DecoderRNN(4, 8, 5).state_dict())
    assert understand_decoder(decoder, tmp_path / "d.pkl").num_layers == 1
    decoder["attention.weight"] = torch.zeros(8, 8)
    with pytest.raises(CheckpointError, match=r"an embedding and a linear.*attention\.weight"):
        understand_decoder(decoder, tmp_path / "d.pkl")


class Touch:
    """Pickles as a call of os.system."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.path}",)


@pytest.mark.filterwarnings("ignore")
def test_hostile_weights_are_refused_and_not_run(tmp_path: Path) -> None:
    path = tmp_path / "encoder-1.pkl"
    torch.save({"resnet.0.weight": Touch(tmp_path / "ran")}, path)
    with pytest.raises(ConfigError, match="holds more than tensors and is not opened"):
        read_state(path)
    path.write_bytes(pickle.dumps(Touch(tmp_path / "ran")))
    with pytest.raises(ConfigError, match="encoder-1"):
        read_state(path)
    assert not (tmp_path / "ran").exists()
    torch.save({"embed.weight": torch.zeros(1).expand(2**20, 2**20)}, path)
    with pytest.raises(CheckpointError, match="claims more values than the file has"):
        read_state(path)
    torch.save({"embed.weight": torch.tensor([float("nan")])}, path)
    with pytest.raises(CheckpointError, match="not numbers"):
        read_state(path)


@pytest.mark.parametrize("names", [("embed", "lstm", "linear"), ("embedding", "rnn", "fc")])
def test_layers_have_any_name(tmp_path: Path, names: tuple[str, str, str]) -> None:
    usual = ("word_embeddings", "lstm", "hidden2vocab")
    model = DecoderRNN(8, 8, 8).state_dict()
    renamed: dict[str, Tensor] = {}
    for name, value in model.items():
        layer, _, rest = name.partition(".")
        renamed[f"module.{names[usual.index(layer)]}.{rest}"] = value
    found = understand_decoder(renamed, tmp_path / "d.pkl")
    torch.testing.assert_close(found.output, model["hidden2vocab.weight"])
    torch.testing.assert_close(found.words, model["word_embeddings.weight"])
    assert (found.cell, found.num_layers) == ("lstm", 1)


def test_the_command_says_what_is_missing_in_one_line(tmp_path: Path) -> None:
    files = [str(tmp_path / name) for name in ("encoder-1.pkl", "decoder-1.pkl", "vocab.pkl")]
    outcome = Shell(tmp_path)("import-notebook", *files, "-o", "model")
    assert outcome.returncode == 1
    assert outcome.stderr.startswith("error: no vocabulary") and outcome.stderr.count("\n") == 1
