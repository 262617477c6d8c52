"""``prefix_lm``: GPT-2 as transformers computes it, from a folder as transformers writes it."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from decoder_cases import SMALL, VOCAB, features, make, tokens
from pretrained_lm import END_OF_TEXT, save_language_model
from torch import Tensor

from showtell.config import Config
from showtell.decoders.language_model import LanguageModel
from showtell.decoders.prefix_lm import PrefixLm
from showtell.decoders.registry import build_decoder
from showtell.errors import ConfigError, MissingExtraError, VocabularyError
from showtell.text.vocabulary import END, PAD, START, UNK

WIDTH = 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lm") / "tiny-gpt2"


@pytest.fixture(scope="module")
def original(folder: Path, torchvision_operators: Any) -> Any:
    """transformers' own model, with whose weights ``folder`` is filled."""
    return save_language_model(folder)


def decoder_of(folder: Path, *changes: str) -> PrefixLm:
    model = LanguageModel.open(str(folder))
    given = ["decoder.kind=prefix_lm", f"decoder.lm={folder}", *changes]
    given.append("data.max_caption_length=50")
    config = Config.load(None, given)
    config = config.changed("decoder", **model.sizes())
    vocab_size = len(model.vocabulary())
    torch.manual_seed(0)
    decoder = build_decoder(config.decoder, vocab_size=vocab_size, feature_size=WIDTH)
    assert isinstance(decoder, PrefixLm)
    model.fill(decoder)
    return decoder.eval()


def drawn(decoder: PrefixLm, num: int, length: int) -> Tensor:
    """Ids of words alone."""
    return torch.randint(4, 4 + len(decoder.output.weight), (num, length))


def test_without_a_prefix_it_is_transformers_gpt2(folder: Path, original: Any) -> None:
    """Logits of ``GPT2LMHeadModel`` (the installed transformers) for the same weights and ids."""
    decoder = decoder_of(folder)
    ids = drawn(decoder, 3, 20)
    with torch.no_grad():
        hidden, _ = decoder.lm(decoder.output.embed(ids))
        logits = decoder.output(hidden)[..., 4:]
        torch.testing.assert_close(logits, original(ids - 4).logits, atol=1e-5, rtol=1e-5)


def test_with_a_prefix_it_is_transformers_gpt2(folder: Path, original: Any) -> None:
    """The same with ``inputs_embeds``: the mapped picture, ``<start>``, the words."""
    decoder = decoder_of(folder)
    ids = drawn(decoder, 5, 9)
    ids[:, 0] = START
    given = torch.randn(5, WIDTH)
    with torch.no_grad():
        mapped = decoder.prefix(torch.tanh(decoder.image_embedding(given)))
        inputs = torch.cat([mapped.view(5, 10, 32), decoder.output.embed(ids)], dim=1)
        expected = original(inputs_embeds=inputs).logits[:, 10:]
        found = decoder(features(5)._replace(pooled=given), ids)[..., 4:]
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_special_words_begin_where_texts_do(folder: Path, original: Any) -> None:
    decoder = decoder_of(folder)
    vocabulary = LanguageModel.open(str(folder)).vocabulary()
    words = original.transformer.wte.weight
    end = vocabulary.pieces.index(END_OF_TEXT)
    for index in (START, END):
        assert torch.equal(decoder.output.special[index], words[end])
    for index in (PAD, UNK):
        torch.testing.assert_close(decoder.output.special[index], words.mean(dim=0))
    assert torch.equal(decoder.output.weight, words)
    assert "output.weight" in decoder.state_dict()
    sizes = [weight.numel() for weight in decoder.state_dict().values()]
    assert sum(size == words.numel() for size in sizes) == 1  # embeds and predicts, stored once


@pytest.mark.parametrize("options", SMALL["prefix_lm"])
def test_hypotheses_of_one_picture_share_its_prefix(options: dict) -> None:
    decoder, inputs = make("prefix_lm", options), tokens(6, 5)
    small = decoder.init_state(features(2))
    large = {name: part.repeat_interleave(3, dim=0) for name, part in small.items()}
    small = {n: part if n in decoder.picture_state else large[n] for n, part in small.items()}
    for position in range(5):
        expected, large = decoder.step(inputs[:, position], large)
        found, small = decoder.step(inputs[:, position], small)
        assert len(small["prefix_keys"]) == 2
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_a_language_model_that_is_left_as_it_is(folder: Path, original: Any) -> None:
    decoder = decoder_of(folder, "decoder.train_lm=false", "decoder.dropout=0").train()
    assert not decoder.lm.training
    trained = {name for name, p in decoder.named_parameters() if p.requires_grad}
    assert trained == {
        "output.special",
        "prefix.weight",
        "prefix.bias",
        *(f"image_embedding.{n}" for n in ("linear.weight", "linear.bias", "norm.weight")),
        "image_embedding.norm.bias",
    }
    before = {name: value.clone() for name, value in decoder.state_dict().items()}
    optimizer = torch.optim.Adam([p for p in decoder.parameters() if p.requires_grad], lr=0.1)
    ids = drawn(decoder, 4, 5)
    decoder(features(4)._replace(pooled=torch.randn(4, WIDTH)), ids).logsumexp(-1).sum().backward()
    optimizer.step()
    after = decoder.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert trained - {"image_embedding.linear.bias"} <= changed  # the norm takes the bias away
    assert not any(name.startswith("lm.") or name == "output.weight" for name in changed)


def test_random_weights_left_as_they_are_make_no_sense() -> None:
    with pytest.raises(ConfigError, match="train_lm = false leaves random weights"):
        Config.load(None, ["decoder.kind=prefix_lm", "decoder.train_lm=false"])


def test_a_language_model_brings_its_vocabulary() -> None:
    given = ["decoder.kind=prefix_lm", "decoder.lm=gpt2"]
    with pytest.raises(ConfigError, match="brings its own vocabulary"):
        Config.load(None, [*given, "data.subwords=200"])
    config = Config.load(None, given)
    assert config.decoder.lm == "gpt2"


def test_too_long_a_caption_is_one_line() -> None:
    with pytest.raises(ConfigError, match=r"prefix of 10 do not fit into .* = 20; 9 tokens would"):
        Config.load(None, ["decoder.kind=prefix_lm", "decoder.num_positions=20"])
    sizes = {"vocab_size": VOCAB, "feature_size": features(1).pooled.shape[1]}
    sizes |= {"hidden_size": 8, "num_heads": 2, "num_layers": 1}
    decoder = PrefixLm(**sizes, prefix_length=3, num_positions=8).eval()
    assert decoder(features(2), tokens(2, 5)).shape[1] == 5
    with pytest.raises(ConfigError, match=r"prefix of 3 and 5 tokens.*has 6: lower decoding"):
        decoder(features(2), tokens(2, 6))
    state = decoder.init_state(features(2))
    for _ in range(5):
        _, state = decoder.step(tokens(2, 1)[:, 0], state)
    with pytest.raises(ConfigError, match="has 6"):
        decoder.step(tokens(2, 1)[:, 0], state)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "llama"}, "'llama' model; expected a 'gpt2'"),
        ({"activation_function": "relu"}, "activation_function = 'relu'"),
        ({"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx = True"),
        ({"n_inner": 7}, "n_inner"),
        ({"n_head": None}, "lacks"),
    ],
)
def test_another_model(
    folder: Path, original: Any, tmp_path: Path, change: dict, message: str
) -> None:
    config = json.loads((folder / "config.json").read_text()) | change
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match=message):
        LanguageModel.open(str(tmp_path)).sizes()


def test_weights_that_are_pickled_or_missing(folder: Path, original: Any, tmp_path: Path) -> None:
    decoder = decoder_of(folder)
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    model = LanguageModel.open(str(tmp_path))
    with pytest.raises(ConfigError, match=r"has no model\.safetensors"):
        model.fill(decoder)
    (tmp_path / "pytorch_model.bin").write_bytes(b"cos\nsystem\n")
    with pytest.raises(ConfigError, match=r"pytorch_model\.bin is a pickle and is not opened"):
        model.fill(decoder)
    (tmp_path / "model.safetensors").write_bytes(b"not tensors")
    with pytest.raises(ConfigError, match="cannot read weights"):
        model.fill(decoder)
    with pytest.raises(ConfigError, match=r"has no tokenizer\.json; expected a folder with"):
        model.vocabulary()
    (tmp_path / "tokenizer.json").write_text('{"model": {"type": "Unigram"}}')
    with pytest.raises(VocabularyError, match="not like GPT-2's"):
        model.vocabulary()


def test_weights_of_another_size(folder: Path, original: Any) -> None:
    with pytest.raises(ConfigError, match=r"does not fit its config\.json"):
        LanguageModel.open(str(folder)).fill(make("prefix_lm", SMALL["prefix_lm"][1]))


def test_a_name_that_cannot_be_fetched_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match="is not a local folder and cannot be fetched") as caught:
        LanguageModel.open("nobody/no-such-model")
    assert str(caught.value).endswith("try again online, or give a folder")
    assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match="no such folder"):
        LanguageModel.open("./nowhere")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtraError, match=r"pip install .*\[hf\]"):
        LanguageModel.open("gpt2")
