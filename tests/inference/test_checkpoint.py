import resource
import shutil
import signal
from pathlib import Path

import pytest
import torch
from decoder_cases import CASES, settings

from showtell.config import Config
from showtell.decoders.registry import build_decoder
from showtell.encoders.features import Features
from showtell.errors import CheckpointError
from showtell.inference.checkpoint import (
    Checkpoint,
    find_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from showtell.text.vocabulary import WordVocabulary


def make(
    seed: int = 0, kind: str = "show_tell", options: dict | None = None, region_size: int = 5
) -> Checkpoint:
    torch.manual_seed(seed)
    config = Config.load(None, settings(kind, options or {"embed_size": 8}))
    vocabulary = WordVocabulary.build({"a": 3, "dog": 2})
    sizes = {"feature_size": 5, "region_size": region_size}
    decoder = build_decoder(config.decoder, vocab_size=len(vocabulary), **sizes).eval()
    return Checkpoint(decoder, vocabulary, config, {**sizes, "seed": seed})


@pytest.mark.parametrize(("kind", "options"), CASES)
def test_save_and_load_are_bit_equal(tmp_path: Path, kind: str, options: dict) -> None:
    checkpoint = make(kind=kind, options=options, region_size=7)
    save_checkpoint(tmp_path / "model", checkpoint)
    random_state = torch.random.get_rng_state()
    loaded = load_checkpoint(tmp_path / "model")
    assert torch.equal(torch.random.get_rng_state(), random_state)
    features, tokens = Features(torch.randn(2, 5), torch.randn(2, 3, 7)), torch.tensor([[1, 4]] * 2)
    with torch.no_grad():
        assert torch.equal(checkpoint.decoder(features, tokens), loaded.decoder(features, tokens))
    assert loaded.vocabulary == checkpoint.vocabulary
    assert loaded.config == checkpoint.config
    assert loaded.metrics == checkpoint.metrics
    assert not loaded.decoder.training


def test_a_checkpoint_of_before_there_were_regions(tmp_path: Path) -> None:
    """Its metrics name no width of regions; its decoder needs none."""
    checkpoint = make()
    del checkpoint.metrics["region_size"]
    save_checkpoint(tmp_path / "model", checkpoint)
    assert load_checkpoint(tmp_path / "model").metrics == {"feature_size": 5, "seed": 0}


def test_nothing_is_pickled(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "model", make())
    assert {path.suffix for path in (tmp_path / "model").iterdir()} == {
        ".safetensors",
        ".toml",
        ".json",
    }


def test_a_new_checkpoint_takes_the_place_of_the_old(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "model", make(1))
    save_checkpoint(tmp_path / "model", make(2))
    assert load_checkpoint(tmp_path / "model").metrics["seed"] == 2
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("moment", ["before renaming", "between the two renames"])
def test_a_process_killed_while_saving_leaves_a_whole_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    save_checkpoint(tmp_path / "last", make(1))
    rename, renames = Path.rename, []

    class Killed(BaseException):
        pass

    def dies(self: Path, target: Path) -> Path:
        renames.append(target)
        if len(renames) == (1 if moment == "before renaming" else 2):
            raise Killed
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", dies)
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)  # the dead clean nothing up
    with pytest.raises(Killed):
        save_checkpoint(tmp_path / "last", make(2))
    monkeypatch.undo()
    assert load_checkpoint(tmp_path).metrics["seed"] == 1
    save_checkpoint(tmp_path / "last", make(3))
    assert load_checkpoint(tmp_path).metrics["seed"] == 3


def test_folders_of_a_persons_own_are_neither_removed_nor_read(tmp_path: Path) -> None:
    for name in ("model", "model.old"):
        save_checkpoint(tmp_path / name, make(1))
    save_checkpoint(tmp_path / "model", make(2))
    assert load_checkpoint(tmp_path / "model.old").metrics["seed"] == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "model.old"]
    shutil.rmtree(tmp_path / "model")
    with pytest.raises(CheckpointError, match="no model"):
        load_checkpoint(tmp_path / "model")


@pytest.mark.parametrize("name", ["best", "last"])
def test_a_run_that_showtell_0_1_0_was_killed_in(tmp_path: Path, name: str) -> None:
    save_checkpoint(tmp_path / f"{name}.old", make(1))
    assert load_checkpoint(tmp_path).metrics["seed"] == 1


def test_a_disk_that_takes_no_more_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    """The system itself refuses to write on, in the middle of the weights."""
    save_checkpoint(tmp_path / "last", make(1))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            save_checkpoint(tmp_path / "last", make(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert load_checkpoint(tmp_path).metrics["seed"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["last"]


def test_a_runs_folder_stands_for_its_best(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "last", make(1))
    assert find_checkpoint(tmp_path) == tmp_path / "last"
    save_checkpoint(tmp_path / "best", make(2))
    assert find_checkpoint(tmp_path) == tmp_path / "best"


def test_no_such_model(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no model .*nowhere.*train -o"):
        load_checkpoint(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize(
    "file", ["model.safetensors", "config.toml", "vocabulary.json", "metrics.json"]
)
@pytest.mark.parametrize("damage", ["cut", "gone", "garbage"])
def test_damage_is_one_clear_line(tmp_path: Path, file: str, damage: str) -> None:
    save_checkpoint(tmp_path / "model", make())
    path = tmp_path / "model" / file
    if damage == "gone":
        path.unlink()
    else:
        content = path.read_bytes()
        half = len(content) // 2
        if file == "config.toml":  # half of a TOML file may be one, unless it ends within a line
            half = content.index(b"=", half) + 1
        path.write_bytes(content[:half] if damage == "cut" else b"\x80\x04]q\x00.")
    with pytest.raises(CheckpointError) as error:
        load_checkpoint(tmp_path / "model")
    assert "\n" not in str(error.value)
    assert str(tmp_path / "model") in str(error.value)


def test_weights_of_another_shape(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "model", make())
    config = (tmp_path / "model" / "config.toml").read_text()
    (tmp_path / "model" / "config.toml").write_text(config.replace("= 8", "= 9"))
    with pytest.raises(CheckpointError, match="does not fit"):
        load_checkpoint(tmp_path / "model")
