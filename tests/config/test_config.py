import tomllib
from pathlib import Path

import pytest
from pydantic import ValidationError

from showtell.config import DECODER_SETTINGS, Config, DecodingConfig
from showtell.errors import ConfigError


def test_toml_in_toml_out(tmp_path: Path) -> None:
    config = Config.load(None, ["seed=7", "decoder.cell=gru", "training.patience=3"])
    (tmp_path / "c.toml").write_text(config.to_toml())
    assert Config.load(tmp_path / "c.toml") == config


def test_the_notebooks_names() -> None:
    """The original's settings keep their names: who knows the notebook finds them."""
    values = tomllib.loads(Config.load(None, ["data.vocab_file=v.json"]).to_toml())
    assert {"vocab_threshold", "vocab_file"} <= set(values["data"])
    assert {"embed_size", "hidden_size"} <= set(values["decoder"])
    assert {"batch_size", "num_epochs", "save_every", "print_every", "log_file"} <= set(
        values["training"]
    )


def test_overrides_win_over_the_file(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("seed = 1\n[training]\nnum_epochs = 2\nbatch_size = 9\n")
    config = Config.load(tmp_path / "c.toml", ["training.num_epochs=5", "encoder.name=lite0"])
    assert (config.seed, config.training.num_epochs, config.training.batch_size) == (1, 5, 9)
    assert config.encoder.name == "lite0"


def test_every_error_at_once() -> None:
    with pytest.raises(ConfigError) as error:
        Config.load(None, ["optimizer.lr=-1", "training.batch_sise=3", "decoder.dropout=1.5"])
    message = str(error.value)
    assert "\n" not in message
    for part in ("optimizer.lr = -1", "training.batch_sise: no such setting", "decoder.dropout"):
        assert part in message


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("optimizer.lrr=3", "did you mean optimizer.lr?"),
        ("decoder.hiden_size=3", "did you mean decoder.hidden_size?"),
        ("decoding.beem_size=3", "did you mean decoding.beam_size?"),
        ("lr=3", "did you mean encoder.lr or optimizer.lr?"),
        ("training.lr=3", "did you mean encoder.lr or optimizer.lr?"),
        ("num_epoch=3", "did you mean training.num_epochs?"),
        ("concepts=3", "did you mean decoder.concepts?"),
        ("traning.num_epochs=3", "did you mean training?"),
        ("sed=3", "did you mean seed?"),
    ],
)
def test_a_misspelled_setting_is_told_the_right_one(given: str, meant: str) -> None:
    name = given.partition("=")[0].removesuffix(".num_epochs")
    with pytest.raises(ConfigError) as error:
        Config.load(None, [given])
    assert str(error.value) == (
        f"wrong settings: {name}: no such setting, {meant} (docs/settings.md lists all)"
    )


def test_a_setting_like_none_has_no_hint() -> None:
    with pytest.raises(ConfigError) as error:
        Config.load(None, ["decoder.kind=up_down", "decoder.cell=gru", "data.zzz=3"])
    assert "did you mean" not in str(error.value)
    with pytest.raises(ConfigError, match=r"beam_sise: no such setting, did you mean beam_size\?"):
        DecodingConfig().with_changes({"beam_sise": 3})


@pytest.mark.parametrize("override", ["", "x", "=3", "seed.deeper=1"])
def test_overrides_that_are_none(override: str) -> None:
    with pytest.raises(ConfigError):
        Config.load(None, ["seed=1", override])


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        Config().seed = 3


def test_changed_settings_are_checked() -> None:
    assert DecodingConfig().with_changes({"beam_size": 7}).beam_size == 7
    with pytest.raises(ConfigError, match="beam_size = 0"):
        DecodingConfig().with_changes({"beam_size": 0})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"min_length": 9, "max_length": 8}, "min_length = 9 is more than max_length = 8"),
        ({"required_words": ("a", "b"), "max_length": 1}, "2 required_words do not fit"),
        ({"required_words": ("dog", "a"), "forbidden_words": ("dog",)}, "dog: both in"),
        ({"method": "greedy", "num_captions": 2}, "'greedy' finds one caption"),
        ({"num_captions": 4}, "num_captions = 4 needs at least that beam_size, but it is 3"),
        ({"method": "diverse", "beam_size": 6, "groups": 4}, "not a multiple of groups = 4"),
        ({"top_k": 5}, "top_k = 5 is for method 'sample', but the method is 'beam'"),
        ({"groups": 2}, "groups = 2 is for method 'diverse'"),
        ({"method": "sample", "required_words": ("dog",)}, "for method 'beam' or 'diverse'"),
        ({"method": "greedy", "seed": 1, "temperature": 0.5}, "temperature = 0.5 is for.*; seed"),
        ({"method": "best"}, "method = 'best'"),
        ({"top_p": 0.0}, "top_p = 0.0"),
    ],
)
def test_settings_that_do_not_fit_each_other(settings: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        DecodingConfig().with_changes(settings)
    assert "\n" not in str(error.value)
    assert "value error" not in str(error.value).lower()


def test_settings_that_do_not_fit_name_their_section() -> None:
    with pytest.raises(ConfigError, match=r"wrong settings: decoding: top_k = 5 is for"):
        Config.load(None, ["decoding.top_k=5"])


@pytest.mark.parametrize(
    "decoder", [{}, {"kind": "transformer"}, {"kind": "transformer", "concepts": 8, "detected": 99}]
)
def test_nothing_is_named_without_a_classifier(decoder: dict) -> None:
    with pytest.raises(ConfigError, match=r"decoding\.naming = 2 needs.*decoder\.concepts = 5"):
        Config.of({"decoder": decoder, "decoding": {"naming": 2}})
    reads = {"kind": "transformer", "concepts": 5}
    assert Config.of({"decoder": reads, "decoding": {"naming": 2}}).decoding.naming == 2


def test_all_that_is_wrong_is_said_at_once() -> None:
    """Within sections and across them; what follows from a wrong setting is not."""
    with pytest.raises(ConfigError) as error:
        Config.load(None, ["objective.kind=scst", "data.text=a.txt"])
    assert "decoder.concepts = 5" in str(error.value)
    assert "needs a trained model" in str(error.value)
    with pytest.raises(ConfigError) as error:
        Config.load(
            None, ["objective.kind=scst", "data.text=a.txt", "decoder.kind=lstm", "optimizer.lr=-1"]
        )
    assert "unknown decoder 'lstm'" in str(error.value)
    assert "optimizer.lr = -1" in str(error.value)
    assert "needs a trained model" in str(error.value)
    assert "decoder.concepts" not in str(error.value)
    assert "\n" not in str(error.value)


def test_another_method_drops_what_was_set_for_the_former() -> None:
    sampling = DecodingConfig(method="sample", top_k=5, seed=3, num_captions=2, max_length=9)
    beam = sampling.with_changes({"method": "beam"})
    assert beam == DecodingConfig(num_captions=2, max_length=9)
    assert sampling.with_changes({"method": "greedy"}).num_captions == 1
    assert sampling.with_changes({"seed": 4}).top_k == 5


def test_decoding_settings_go_through_toml(tmp_path: Path) -> None:
    words = 'decoding.required_words=["dog", "ball"]'
    config = Config.load(None, [words, "decoding.method=diverse", "decoding.groups=3"])
    assert config.decoding.required_words == ("dog", "ball")
    (tmp_path / "c.toml").write_text(config.to_toml())
    assert Config.load(tmp_path / "c.toml") == config


def test_a_kind_alone_chooses_its_defaults() -> None:
    for kind in DECODER_SETTINGS:
        decoder = Config.load(None, [f"decoder.kind={kind}"]).decoder
        assert decoder.kind == kind
    assert len(DECODER_SETTINGS) == 5
    assert Config.load(None, ["decoder.dropout=0.1"]).decoder.kind == "show_tell"


def test_an_unknown_decoder() -> None:
    with pytest.raises(ConfigError) as error:
        Config.load(None, ["decoder.kind=updown", "seed=-1"])
    message = str(error.value)
    assert "decoder.kind: unknown decoder 'updown'. Did you mean 'up_down'?" in message
    assert "Known: attention, prefix_lm, show_tell, transformer, up_down" in message
    assert "seed = -1" in message


def test_settings_of_another_decoder() -> None:
    with pytest.raises(ConfigError, match=r"decoder\.cell: no such setting"):
        Config.load(None, ["decoder.kind=up_down", "decoder.cell=gru"])
    with pytest.raises(ConfigError, match=r"decoder.num_heads = 5: .*hidden_size = 384"):
        Config.load(None, ["decoder.kind=transformer", "decoder.num_heads=5"])


def test_pieces_have_room_for_a_caption() -> None:
    assert Config().data.longest_caption(has_pieces=False) == 40
    assert Config().data.longest_caption(has_pieces=True) == 80
    given = Config.load(None, ["data.subwords=200", "data.max_caption_length=9"])
    assert given.data.longest_caption(has_pieces=True) == 9
    room = ["decoder.kind=prefix_lm", "decoder.num_positions=60"]
    assert Config.load(None, room)
    with pytest.raises(ConfigError, match="max_caption_length = 80 and a prefix of 10 do not fit"):
        Config.load(None, [*room, "data.subwords=200"])
    with pytest.raises(ConfigError, match="max_caption_length = 80 and a prefix of 10 do not fit"):
        Config.load(None, [*room, "decoder.lm=gpt2"])
    with pytest.raises(ConfigError, match="data: subwords learns a vocabulary and vocab_file is"):
        Config.load(None, ["data.subwords=200", "data.vocab_file=v.json"])


def test_a_preset_goes_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Config.load(Path("flickr8k-up-down")).decoder.kind == "up_down"
    assert Config.load(Path("flickr8k-up-down.toml")).decoder.kind == "up_down"
    (tmp_path / "flickr8k-up-down").write_text("seed = 5", encoding="utf-8")
    assert Config.load(Path("flickr8k-up-down")).seed == 5  # a file goes before a preset
    with pytest.raises(ConfigError, match=r"no settings file flickr8k-updown\.toml.*Did you mean"):
        Config.load(Path("flickr8k-updown.toml"))
    with pytest.raises(ConfigError, match="the preset is -c flickr8k-attention"):
        Config.load(Path("configs/flickr8k-attention.toml"))


def test_a_later_setting_of_decoding_does_not_change_what_earlier_ones_stand_for() -> None:
    plain = DecodingConfig(naming=1e-5)
    later = ('"no_repeat_around":[],', '"doubt":0.0,')
    before = plain.model_dump_json()
    for part in later:
        before = before.replace(part, "")
    assert plain.identity() == before
    assert not any(part.split(":")[0] in before for part in later)
    both = DecodingConfig(no_repeat_around=("and",), doubt=1)
    assert both.identity() == both.model_dump_json()
