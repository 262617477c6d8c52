"""The tiny world with real pictures: a colour, and a white bar whose height is the thing.

A crop or a mirrored view shows the same. ``start_training`` trains on them with the staged encoder.
"""

from dataclasses import replace
from pathlib import Path
from unittest import mock

from PIL import Image, ImageDraw
from tiny_encoder import staged_encoder
from tiny_world import SETTINGS, THINGS, tiny_records

from showtell.core.progress import SilentReporter
from showtell.data.records import Dataset, Record
from showtell.data.request import DataRequest
from showtell.encoders.encoder import Encoder
from showtell.training.loop import TrainingResult
from showtell.training.request import TrainRequest, start_training

SIDE = 48
PAINT = {"red": (200, 30, 30), "green": (30, 180, 40), "blue": (30, 50, 210), "white": (170,) * 3}
TRAINED = ("encoder.name=staged", "encoder.lr=0.003")


def paint(folder: Path, num: int = 60) -> tuple[Record, ...]:
    """The tiny world's records with their pictures in ``folder``."""
    folder.mkdir(exist_ok=True)
    records = []
    for record in tiny_records(num):
        colour, thing = record.captions[0].split()[1:]
        picture = Image.new("RGB", (SIDE, SIDE), PAINT[colour])
        top = 6 + 8 * THINGS.index(thing)
        ImageDraw.Draw(picture).rectangle((0, top, SIDE, top + 5), fill="white")
        path = folder / f"{record.image_id}.png"
        picture.save(path)
        records.append(replace(record, path=path))
    return tuple(records)


def build_staged(name: str, *, weights: Path | None = None, squash: bool = False) -> Encoder:
    """In place of ``build_encoder``."""
    assert name == "staged", name
    return staged_encoder()


def train(
    folder: Path,
    records: tuple[Record, ...],
    *changes: str,
    resume: bool = False,
    report: SilentReporter | None = None,
    settings: tuple[str, ...] = SETTINGS,
    store: Path | None = None,
) -> TrainingResult:
    """``start_training`` with the staged encoder; features lie beside ``folder``."""
    dataset = Dataset("tiny", "folder", records)
    overrides = () if resume else (*settings, *TRAINED, *changes)
    with (
        mock.patch("showtell.data.request.load_dataset", lambda *_, **__: dataset),
        mock.patch("showtell.training.openings.build_encoder", build_staged),
    ):
        data = DataRequest("tiny", store=store or folder.with_name(f"{folder.name}-features"))
        request = TrainRequest(data, folder, overrides=overrides, resume=resume, device="cpu")
        return start_training(request, report=report or SilentReporter())


def main(folder: str, pictures: str, *changes: str) -> None:
    """Train in a process of its own, to be stopped."""
    train(Path(folder), paint(Path(pictures)), *changes)
