"""Layers of settings: the model of the start, a preset, a file, single settings."""

import shutil
from pathlib import Path

import pytest
from tiny_run import run
from tiny_world import attending_config, tiny_config

from showtell.config import Config
from showtell.config.toml import SIZES, merge, preset_for, read_preset
from showtell.data.records import Dataset
from showtell.errors import CheckpointError, ConfigError
from showtell.training.settings import AUTO, NONE, Layers, inherited


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, dataset: Dataset, store) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    run(folder, dataset, store, tiny_config("training.num_epochs=1"))
    return folder


@pytest.fixture
def model(trained: Path, tmp_path: Path) -> Path:
    return shutil.copytree(trained, tmp_path / "model")


@pytest.mark.parametrize("size", SIZES)
def test_every_preset_is_valid(size: str) -> None:
    Config.of(read_preset(size, has_start=False))
    start = merge(read_preset(size, has_start=True), {"training": {"init_from": "default"}})
    config = Config.of(start)
    assert config.training.average_start
    assert config.data.new_words
    assert "decoder" not in read_preset(size, has_start=True)


@pytest.mark.parametrize(
    ("number", "name"),
    [(1, "tiny"), (499, "tiny"), (500, "small"), (2_999, "small"), (6_000, "medium"),
     (29_000, "medium"), (113_287, "coco")],
)  # fmt: skip
def test_the_number_of_pictures_chooses_a_preset(number: int, name: str) -> None:
    assert preset_for(number) == name
    layers, line = Layers(preset=AUTO).chosen(number)
    assert layers.preset == name
    assert f"preset {name}" in line


def test_upper_layers_win() -> None:
    assert merge({"a": {"x": 1, "y": 2}, "seed": 1}, {"a": {"y": 3}, "seed": 2}) == {
        "a": {"x": 1, "y": 3},
        "seed": 2,
    }
    under = {"decoder": {"kind": "show_tell", "embed_size": 9}}
    assert merge(under, {"decoder": {"kind": "up_down"}}) == {"decoder": {"kind": "up_down"}}
    assert merge(under, {"decoder": {"dropout": 0.1}})["decoder"]["embed_size"] == 9


def test_a_presets_optimiser_is_for_its_own_decoder() -> None:
    own = Layers(preset="tiny").config()
    assert (own.decoder.kind, own.optimizer.lr) == ("show_tell", 2e-3)
    other = Layers(preset="tiny", overrides=["decoder.kind=transformer"]).config()
    assert (other.decoder.kind, other.optimizer.lr) == ("transformer", 1e-3)
    assert other.training.num_epochs == own.training.num_epochs


def test_what_the_start_has_is_taken_over(model: Path) -> None:
    theirs = Config.load(model / "best" / "config.toml")
    found = Layers(start=str(model), preset="tiny", overrides=["decoder.dropout=0.4"]).config()
    assert found.decoder.model_dump() == theirs.decoder.model_dump() | {"dropout": 0.4}
    assert found.decoding == theirs.decoding
    assert found.optimizer.lr == 1e-4
    assert found.encoder.views == 2
    plain = Layers(overrides=[f"training.init_from={model}"]).config()
    assert plain.decoder == theirs.decoder
    assert not plain.training.average_start
    assert plain.optimizer == Config().optimizer


def test_doubts_are_not_taken_over(tmp_path: Path, model: Path) -> None:
    """The start's detector has not learnt what the new captions say."""
    start = tmp_path / "start"
    shutil.copytree(model / "best", start)
    theirs = Config.load(start / "config.toml")
    doubting = theirs.decoding.with_changes({"doubt": 1, "beam_size": 7})
    (start / "config.toml").write_text(theirs.model_copy(update={"decoding": doubting}).to_toml())
    found = Layers(start=str(start)).config().decoding
    assert (found.doubt, found.beam_size) == (0, 7)
    assert Layers(start=str(start), overrides=["decoding.doubt=2"]).config().decoding.doubt == 2


def test_naming_is_taken_over_with_the_decoder_that_it_needs(model: Path) -> None:
    decoder = {"kind": "transformer", "concepts": 5}
    theirs = Config.of({"decoder": decoder, "decoding": {"naming": 2.0, "max_length": 9}})
    (model / "best" / "config.toml").write_text(theirs.to_toml())
    assert Layers(start=str(model)).config().decoding.naming == 2.0
    alone = ["training.init_parts=encoder"]
    found = Layers(start=str(model), overrides=alone).config()
    assert (found.decoder.kind, found.decoding.naming) == ("show_tell", 0.0)
    assert found.decoding.max_length == 9
    with pytest.raises(ConfigError, match=r"decoding\.naming = 3 needs a decoder that reads"):
        Layers(start=str(model), overrides=[*alone, "decoding.naming=3"]).config()


def test_settings_without_a_start_stay() -> None:
    values = {"optimizer": {"lr": 0.1}}
    assert inherited(values) == values
    assert Layers(overrides=["seed=4"]).config() == Config(seed=4)


def test_two_starts_are_refused(model: Path) -> None:
    with pytest.raises(ConfigError, match="the same setting: give one"):
        Layers(start="default", overrides=[f"training.init_from={model}"]).config()
    with pytest.raises(ConfigError, match=r"unknown preset .smal.\. Did you mean .small."):
        Layers(preset="smal").config()
    assert Layers(preset=NONE).config() == Config()


def test_an_encoder_from_elsewhere_is_not_fetched_unasked(tmp_path: Path, model: Path) -> None:
    text = (model / "best" / "config.toml").read_text()
    name = "timm:hf-hub:somebody/model"
    (model / "best" / "config.toml").write_text(text.replace('"lite2"', f'"{name}"'))
    with pytest.raises(CheckpointError, match=f"name it: --encoder {name}"):
        Layers(start=str(model)).config()
    named = Layers(start=str(model), overrides=[f"encoder.name={name}"])
    assert named.config().encoder.name == name


def test_an_attending_decoder_is_taken_over_whole(tmp_path: Path) -> None:
    """Settings of one kind of decoder do not meet those of another."""
    config = attending_config("transformer")
    under = {"decoder": Config().decoder.model_dump()}
    assert Config.of(merge(under, {"decoder": config.decoder.model_dump()})) == Config(
        decoder=config.decoder
    )


def test_weights_outside_of_the_models_folder_are_not_read_unasked(model: Path) -> None:
    file = model / "best" / "config.toml"
    file.write_text(file.read_text().replace("[encoder]", '[encoder]\nweights = "/else/w.pt"'))
    with pytest.raises(CheckpointError, match=r"name them: -s encoder\.weights=/else/w\.pt"):
        Layers(start=str(model)).config()
    named = Layers(start=str(model), overrides=["encoder.weights=/my/w.pt"]).config()
    assert str(named.encoder.weights) == "/my/w.pt"


def test_a_decoder_for_another_encoder_keeps_its_shape_and_its_optimisers_kind(model: Path) -> None:
    """A preset has the settings of a new model, and a rate only for its own kind of decoder."""
    parts = ["training.init_parts=decoder", "encoder.name=lite0"]
    theirs = Config.of({"decoder": {"kind": "transformer", "hidden_size": 60}})
    (model / "best" / "config.toml").write_text(theirs.to_toml())
    found = Layers(start=str(model), preset="tiny", overrides=parts).config()
    assert found.decoder == theirs.decoder
    assert found.encoder.name == "lite0"
    assert found.optimizer == Config().optimizer  # the preset's is of show_tell
    assert not (found.training.average_start or found.training.rehearsal_pictures)
    assert found.data.new_words is None
    same = Config.of({"decoder": {"kind": "show_tell", "hidden_size": 64}})
    (model / "best" / "config.toml").write_text(same.to_toml())
    found = Layers(start=str(model), preset="tiny", overrides=parts).config()
    assert found.decoder == same.decoder
    assert found.optimizer != Config().optimizer
