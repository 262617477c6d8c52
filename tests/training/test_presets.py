"""Every preset of the package trains and captions, in its own shape, on a few built-in scenes."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from tiny_run import Notes

from showtell.config import Config
from showtell.config.toml import PRESETS
from showtell.data.records import Dataset
from showtell.data.request import DataRequest
from showtell.data.sources import load_dataset
from showtell.images.open import open_image
from showtell.inference.backends.native import NativeCaptioner
from showtell.training.request import TrainRequest, train_on
from showtell.training.settings import Layers

NAMES = sorted(str(path.relative_to(PRESETS).with_suffix("")) for path in PRESETS.rglob("*.toml"))
# The smallest batches and no random views; the encoder that comes with showtell.
FEW = ("training.num_epochs=1", "training.batch_size=8", "training.text_batch_size=4")
QUICK = (
    *("encoder.name=lite0", "encoder.views=0", "training.precision=fp32", "data.vocab_threshold=1"),
    *("decoding.beam_size=2", "decoding.max_length=6", *FEW),
)
OF_A_START = (
    *("encoder.views=0", "training.precision=fp32", "training.rehearsal=3", *FEW),
    *("decoding.beam_size=2", "decoding.max_length=6", "training.rehearsal_batch_size=4"),
)


@pytest.fixture(scope="module")
def scenes() -> Dataset:
    """Four scenes to train on, with two captions each, and one of each other split."""
    dataset = load_dataset("scenes:40")
    kept = [*dataset.split("train")[:4], dataset.split("val")[0], dataset.split("test")[0]]
    records = [replace(record, captions=record.captions[:2]) for record in kept]
    return replace(dataset, records=tuple(records))


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stores")


def trained(
    folder: Path, scenes: Dataset, store: Path, layers: Layers, *, old: bool = False
) -> list[str]:
    """Train on the scenes; returns what the run said."""
    request = TrainRequest(
        DataRequest("scenes:40", store=store),
        folder,
        start=layers.start,
        old=DataRequest("scenes:40", store=store) if old else None,
        device="cpu",
        proposes=False,
    )
    notes = Notes()
    train_on(scenes, request, layers.config(), report=notes)
    return notes.notes


@pytest.fixture(scope="module")
def plain(
    scenes: Dataset, stores: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """Trains a preset that needs no start, once: some are where others start."""

    @cache
    def train(name: str) -> Path:
        folder = tmp_path_factory.mktemp("run")
        trained(folder, scenes, stores / "grid", Layers(None, "none", Path(name), QUICK))
        return folder

    return train


def test_there_are_all_of_them() -> None:
    assert len(NAMES) == 15
    assert {"medium", "coco", "from/medium", "from/coco"} <= set(NAMES)


@pytest.mark.slow(3)
@pytest.mark.parametrize("name", NAMES)
def test_a_preset_trains_and_captions(
    name: str,
    tmp_path: Path,
    scenes: Dataset,
    stores: Path,
    plain: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("showtell.training.from_start.MOST_PICTURES", 2)
    folder, old = tmp_path / "run", name.startswith("from/")
    if old:
        layers = Layers("default", name.removeprefix("from/"), None, OF_A_START)
        notes = trained(folder, scenes, stores / "default", layers, old=True)
    elif name.endswith("-scst"):
        start = plain(name.removesuffix("-scst"))
        settings = (*QUICK, f"training.init_from={start}", "objective.num_samples=2")
        trained(folder, scenes, stores / "grid", Layers(None, "none", Path(name), settings))
    else:
        folder = plain(name)
    captioner = NativeCaptioner.load(folder)
    written = Config.load(folder / "config.toml")
    assert written.training.num_epochs == 1
    losses = (folder / "training_log.txt").read_text()
    assert "Step [1/" in losses and "nan" not in losses.lower()
    if old:
        assert any("training pictures of scenes:40 with" in note for note in notes)
        assert (folder / "comparison.json").is_file()
    [caption] = captioner.caption([open_image(scenes.split("test")[0].path)])
    assert all(word in captioner.vocabulary for word in caption.text.split())
