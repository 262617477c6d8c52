"""Packing checkpoints of random weights."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from showtell.config import Config
from showtell.decoders.registry import build_decoder
from showtell.encoders.encoder import build_encoder, trained_fingerprint
from showtell.encoders.features import Features
from showtell.encoders.packing import Storage
from showtell.errors import CheckpointError, ConfigError
from showtell.inference.backends.native import NativeCaptioner
from showtell.inference.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from showtell.inference.files import EXAMPLES, MANIFEST
from showtell.pretrained import CARD
from showtell.publish.pack import pack_checkpoint
from showtell.text.vocabulary import WordVocabulary

PLACE = "/home/someone/data/flickr8k"


def checkpoint(*changes: str) -> Checkpoint:
    torch.manual_seed(0)
    sizes = ["decoder.embed_size=16", "decoder.hidden_size=64"]
    config = Config.load(None, [*sizes, f"training.init_from={PLACE}/runs/words", *changes])
    words = WordVocabulary({"a": 4, "dog": 3, "ball": 2, "on": 1}, 1)
    decoder = build_decoder(config.decoder, vocab_size=len(words), feature_size=40)
    metrics = {
        "feature_size": 40,
        "encoder_fingerprint": "lite2, weights 1",
        "data": PLACE,
        "averaged": [f"{PLACE}/runs/words/epoch-001", f"{PLACE}/runs/words/epoch-002"],
        "versions": {"torch": "2", "platform": "mine"},
        "metrics": {"CIDEr-D": 0.5},
    }
    return Checkpoint(decoder.eval(), words, config, metrics)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize(("storage", "share"), [("fp32", 1.0), ("fp16", 0.5), ("int8", 0.25)])
def test_a_packed_model_is_small_and_says_nearly_the_same(
    tmp_path: Path, storage: str, share: float
) -> None:
    save_checkpoint(tmp_path / "model", checkpoint())
    size = pack_checkpoint(tmp_path / "model", tmp_path / "packed", storage=storage)
    assert size == sum(map(len, files(tmp_path / "packed").values()))
    whole, packed = (
        (tmp_path / name / "model.safetensors").stat().st_size for name in ("model", "packed")
    )
    assert packed < whole * share + 7000  # vectors and names
    before, after = (load_checkpoint(tmp_path / name) for name in ("model", "packed"))
    features, tokens = Features(torch.randn(2, 40)), torch.tensor([[1, 4, 5]] * 2)
    with torch.no_grad():
        difference = before.decoder(features, tokens) - after.decoder(features, tokens)
    assert difference.abs().max() < {"fp32": 1e-9, "fp16": 1e-3, "int8": 3e-2}[storage]
    assert {p.dtype for p in after.decoder.parameters()} == {torch.float32}
    assert after.metrics["weights"] == storage


def test_the_same_files_to_the_byte_and_of_a_packed_one_too(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "model", checkpoint())
    for storage in ("fp16", "int8"):
        first, second, third = (tmp_path / f"{storage}-{i}" for i in range(3))
        pack_checkpoint(tmp_path / "model", first, storage=storage)
        pack_checkpoint(tmp_path / "model", second, storage=storage)
        pack_checkpoint(tmp_path / "model", second, storage=storage, overwrite=True)
        pack_checkpoint(first, third, storage=storage)
        assert files(first) == files(second) == files(third)


def test_nothing_of_the_machine_remains(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "model", checkpoint("objective.kind=scst"))
    pack_checkpoint(tmp_path / "model", tmp_path / "packed")
    for name, content in files(tmp_path / "packed").items():
        assert b"someone" not in content, name
        assert b"mine" not in content, name
    metrics = json.loads((tmp_path / "packed" / "metrics.json").read_text())
    assert metrics["data"] == "flickr8k"
    assert metrics["averaged"] == ["words/epoch-001", "words/epoch-002"]
    assert load_checkpoint(tmp_path / "packed").config.training.init_from == "words"


def test_a_trained_encoder_keeps_a_fingerprint_that_fits(tmp_path: Path) -> None:
    own = {"network.head.weight": torch.randn(8, 4, 1, 1), "network.head.bias": torch.randn(8)}
    one = checkpoint()
    metrics = one.metrics | {
        "base_encoder_fingerprint": "lite2, weights 1",
        "encoder_fingerprint": trained_fingerprint("lite2, weights 1", own),
    }
    save_checkpoint(tmp_path / "model", replace(one, metrics=metrics, encoder=own))
    pack_checkpoint(tmp_path / "model", tmp_path / "packed", storage="int8")
    packed = load_checkpoint(tmp_path / "packed")
    assert packed.encoder is not None
    expected = trained_fingerprint("lite2, weights 1", packed.encoder)
    assert packed.metrics["encoder_fingerprint"] == expected != metrics["encoder_fingerprint"]


@pytest.mark.parametrize("storage", ["fp32", "fp16", "int8"])
def test_published_weights_from_a_file_are_packed_too(
    torchvision_operators: object, tmp_path: Path, storage: Storage
) -> None:
    """The fingerprint is that of the weights as they are read again; packed twice is the same."""
    import timm

    torch.manual_seed(0)
    mine = tmp_path / "mine.safetensors"
    save_file(timm.create_model("test_vit").state_dict(), mine)
    one = checkpoint("encoder.name=timm:test_vit", f"encoder.weights={mine}")
    encoder = build_encoder("timm:test_vit", weights=mine)
    metrics = one.metrics | {"encoder_fingerprint": encoder.fingerprint}
    model = replace(one, metrics=metrics, encoder_weights=mine)
    save_checkpoint(tmp_path / "model", model)
    pack_checkpoint(tmp_path / "model", tmp_path / "packed", storage=storage)
    pack_checkpoint(tmp_path / "packed", tmp_path / "again", storage=storage)
    assert files(tmp_path / "packed") == files(tmp_path / "again")
    packed = load_checkpoint(tmp_path / "packed")
    assert packed.encoder_weights is not None
    share = packed.encoder_weights.stat().st_size / mine.stat().st_size
    assert share < {"fp32": 1.01, "fp16": 0.53, "int8": 0.35}[storage]
    stored = load_file(packed.encoder_weights)
    assert stored["pos_embed"].dtype == (torch.float32 if storage == "fp32" else torch.float16)
    with pytest.raises(CheckpointError, match="was trained with encoder"):
        other = tmp_path / "other.safetensors"
        save_file(timm.create_model("test_vit").state_dict(), other)
        save_checkpoint(tmp_path / "swapped", replace(model, encoder_weights=other))
        pack_checkpoint(tmp_path / "swapped", tmp_path / "no", storage=storage)
        NativeCaptioner.load(tmp_path / "no").encoder  # noqa: B018  # in fp32 it shows here
    read = build_encoder("timm:test_vit", weights=packed.encoder_weights)
    assert read.fingerprint == packed.metrics["encoder_fingerprint"]
    assert (read.fingerprint == encoder.fingerprint) is (storage == "fp32")
    pixels = torch.randint(0, 256, (2, 3, 160, 160), dtype=torch.uint8)
    alike = torch.cosine_similarity(read(pixels).pooled, encoder(pixels).pooled)
    assert alike.min() > 0.999


def test_weights_that_only_another_package_can_read_stay_as_they_are(tmp_path: Path) -> None:
    mine = tmp_path / "mine.safetensors"
    save_file({"a": torch.randn(8, 4)}, mine)
    one = checkpoint("encoder.name=of_a_package", f"encoder.weights={mine}")
    metrics = {key: one.metrics[key] for key in ("feature_size", "metrics")}  # no fingerprint
    save_checkpoint(tmp_path / "model", replace(one, metrics=metrics, encoder_weights=mine))
    pack_checkpoint(tmp_path / "model", tmp_path / "packed", storage="int8")
    packed = load_checkpoint(tmp_path / "packed")
    assert packed.encoder_weights is not None
    assert torch.equal(load_file(packed.encoder_weights)["a"], load_file(mine)["a"])
    assert "encoder_fingerprint" not in packed.metrics


def test_what_cannot_be_packed_is_one_line(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "model", checkpoint())
    with pytest.raises(CheckpointError, match="is the model itself"):
        pack_checkpoint(tmp_path / "model", tmp_path / "model")
    save_checkpoint(tmp_path / "other", checkpoint())
    with pytest.raises(CheckpointError, match="already exists and is not a packed model"):
        pack_checkpoint(tmp_path / "model", tmp_path / "other", overwrite=True)
    pack_checkpoint(tmp_path / "model", tmp_path / "twice")
    with pytest.raises(CheckpointError, match=r"twice already exists: .* or add --overwrite"):
        pack_checkpoint(tmp_path / "model", tmp_path / "twice")
    pack_checkpoint(tmp_path / "model", tmp_path / "keep" / "best")
    with pytest.raises(CheckpointError, match="keep already exists and is not a packed model"):
        pack_checkpoint(tmp_path / "model", tmp_path / "keep", overwrite=True)
    with pytest.raises(
        CheckpointError, match=r"config\.toml is not a folder; give another folder with -o"
    ):
        pack_checkpoint(tmp_path / "model", tmp_path / "model" / "config.toml" / "packed")
    save_checkpoint(tmp_path / "own", checkpoint("encoder.weights=/home/someone/w.pth"))
    with pytest.raises(CheckpointError, match=r"weights that are not in its folder, .*w\.pth'"):
        pack_checkpoint(tmp_path / "own", tmp_path / "packed")
    with pytest.raises(ConfigError, match=r"no weights file /home/someone/w\.pth"):
        pack_checkpoint(tmp_path / "own", tmp_path / "packed", trust_model=True)


@pytest.mark.parametrize("name", ["notes.txt", "mine.onnx", "resume.json"])
def test_what_is_not_of_a_packed_model_is_not_deleted(tmp_path: Path, name: str) -> None:
    save_checkpoint(tmp_path / "model", checkpoint())
    pack_checkpoint(tmp_path / "model", tmp_path / "packed")
    (tmp_path / "packed" / name).write_text("mine")
    with pytest.raises(CheckpointError, match=rf"holds {name}, which showtell does not know"):
        pack_checkpoint(tmp_path / "model", tmp_path / "packed", overwrite=True)
    assert (tmp_path / "packed" / name).read_text() == "mine"
    # What the manifest of an export in place lists is showtell's own.
    manifest = tmp_path / "packed" / MANIFEST
    manifest.write_text(json.dumps({"files": {name: {}}}))
    pack_checkpoint(tmp_path / "model", tmp_path / "packed", overwrite=True)
    assert files(tmp_path / "packed").keys() == files(tmp_path / "model").keys()


def test_what_an_interrupted_export_in_place_left_is_replaced(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "model", checkpoint())
    pack_checkpoint(tmp_path / "model", tmp_path / "packed")
    for name in ("weights.bin", "encoder.onnx", "init.onnx", "told.onnx"):
        (tmp_path / "packed" / name).write_text("half")
    pack_checkpoint(tmp_path / "model", tmp_path / "packed", overwrite=True)
    assert files(tmp_path / "packed").keys() == files(tmp_path / "model").keys()


def test_a_card_goes_with_its_model_and_no_other_is_deleted(tmp_path: Path) -> None:
    model, packed = tmp_path / "model", tmp_path / "packed"
    save_checkpoint(model, checkpoint())
    pack_checkpoint(model, packed)
    (packed / CARD).write_text("by hand")
    (packed / EXAMPLES).write_bytes(b"a picture")
    pack_checkpoint(model, packed, overwrite=True)
    kept = files(packed)
    assert (kept[CARD], kept[EXAMPLES]) == (b"by hand", b"a picture")
    pack_checkpoint(packed, tmp_path / "again")
    assert files(tmp_path / "again") == kept
    (model / CARD).write_text("of the model")
    with pytest.raises(
        CheckpointError, match=r"packed/MODEL_CARD\.md is not .*model/MODEL_CARD\.md, which would"
    ):
        pack_checkpoint(model, packed, overwrite=True)
    assert files(packed) == kept


def test_a_packed_model_behind_a_link_is_replaced_where_it_lies(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "model", checkpoint())
    link, real = tmp_path / "link", tmp_path / "real"
    pack_checkpoint(tmp_path / "model", real)
    link.symlink_to(real)
    (tmp_path / ".real.showtell-old").symlink_to(real)  # as an earlier version left one
    for storage in ("fp32", "int8"):
        pack_checkpoint(tmp_path / "model", link, storage=storage, overwrite=True)
        assert load_checkpoint(real).metrics["weights"] == storage
    assert link.is_symlink() and {path.name for path in tmp_path.iterdir()} == {
        *("model", "link", "real")
    }


def test_a_packed_model_captions(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "model", checkpoint())
    pack_checkpoint(tmp_path / "model", tmp_path / "packed", storage="int8")
    captioner = NativeCaptioner.load(tmp_path / "packed", device="cpu", precision="fp32")
    assert captioner.caption_features(Features(torch.randn(1, 40)))[0].words
