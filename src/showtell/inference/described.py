"""What a model says of itself, read without its weights and without torch.

The model is one that comes with showtell, by its name, or the folder of a run, a checkpoint or an
export.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from showtell.core.files import read_json
from showtell.errors import CheckpointError, VocabularyError
from showtell.inference.exported import find_export, read_export
from showtell.inference.files import (
    CONFIG,
    METRICS,
    MOST_JSON,
    RESUME_DATA,
    RESUME_TENSORS,
    VOCABULARY,
    checkpoint_folders,
)
from showtell.inference.specs import kinds
from showtell.pretrained import ALIASES, CARD, known_names, no_model, shipped_folder
from showtell.text.vocabulary import load_vocabulary

READING = (OSError, ValueError, KeyError, TypeError, AttributeError, VocabularyError)
SHOWN = ("CIDEr-D", "BLEU-4", "ROUGE-L", "val_loss")


@dataclass(frozen=True, kw_only=True)
class DescribedModel:
    """A checkpoint or an export.

    Attributes:
        name: of the folder that was given, or of the model that comes with showtell.
        aliases: other names of a model that comes with showtell.
        folder: that holds the model itself, such as ``best`` of a run.
        encoder, decoder: their names.
        trains_encoder: whether the encoder's weights were trained, too.
        vocab_size, unit: so many words, or pieces of words.
        weights: how matrices are stored.
        num_bytes: of the folder, without the state that training goes on from.
        data: what it was trained on; None where that is not known.
        num_pictures: by split.
        averaged: the checkpoints that it is the mean of.
        epoch: after which it was saved; None as for ``data``, and of a mean.
        metrics: its figures; of an export that was published, as it captions when installed.
        measured_on: the pictures that they are of; None: the validation pictures.
    """

    name: str
    aliases: list[str]
    folder: str
    encoder: str
    decoder: str
    trains_encoder: bool
    vocab_size: int
    unit: str
    weights: str
    num_bytes: int
    data: str | None
    num_pictures: dict[str, int]
    averaged: list[str]
    epoch: int | None
    metrics: dict[str, float]
    measured_on: str | None

    @property
    def card(self) -> str | None:
        """The model's card, as Markdown; None without one.

        Raises:
            OSError, UnicodeDecodeError: it cannot be read.
        """
        path = Path(self.folder) / CARD
        return path.read_text(encoding="utf-8") if path.is_file() else None

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return asdict(self)

    def lines(self) -> list[str]:
        """For people."""
        trained = " (trained further)" if self.trains_encoder else ""
        pictures = ", ".join(f"{split} {num:,}" for split, num in self.num_pictures.items())
        figures = ", ".join(f"{k} {self.metrics[k]:.3f}" for k in SHOWN if k in self.metrics)
        facts = {
            "encoder": self.encoder + trained,
            "decoder": self.decoder,
            "vocabulary": f"{self.vocab_size:,} {self.unit}",
            "size": f"{self.num_bytes / 1e6:.1f} MB, weights in {self.weights}",
            "trained on": self.data or "not known",
            "pictures": pictures,
            "mean of": ", ".join(self.averaged),
            "epoch": "" if self.epoch is None else str(self.epoch),
            "validation": figures,
        }
        return [f"{name + ':':<12}{fact}" for name, fact in facts.items() if fact]


def describe_model(model: str) -> DescribedModel:
    """A model by its name, if it comes with showtell, else by its folder.

    Raises:
        CheckpointError: there is none, or it is not whole.
    """
    folder = shipped_folder(model) or Path(model)
    if not folder.is_dir():
        raise no_model(model, kinds())
    return describe_folder(folder)


def describe_folder(folder: Path) -> DescribedModel:
    """The model of a run's, a checkpoint's or an export's folder.

    Raises:
        CheckpointError: there is none, or it is not whole.
    """
    for place in checkpoint_folders(folder):
        if (place / CONFIG).is_file() and (place / METRICS).is_file():
            try:
                return _checkpoint(folder, place)
            except READING as error:
                raise CheckpointError(f"the model {place} is incomplete: {error}") from None
    if export := find_export(folder):
        return _export(folder, export)
    raise CheckpointError(
        f"{folder} holds no model: give the folder of a run, a checkpoint or an export, or one of "
        f"the names {', '.join(known_names())}"
    )


def _checkpoint(given: Path, folder: Path) -> DescribedModel:
    config = tomllib.loads((folder / CONFIG).read_text(encoding="utf-8"))
    values = read_json(folder / METRICS, MOST_JSON)
    return _described(
        values,
        name=given.resolve().name,
        folder=folder,
        encoder=config["encoder"]["name"],
        decoder=config["decoder"]["kind"],
        weights=values.get("weights", "fp32"),
    )


def _export(given: Path, folder: Path) -> DescribedModel:
    manifest, _ = read_export(folder)
    return _described(
        manifest.metrics,
        name=given.resolve().name,
        folder=folder,
        encoder=manifest.encoder.name,
        decoder=manifest.decoder.kind,
        weights=manifest.weights,
    )


def _described(
    values: Mapping[str, Any], *, name: str, folder: Path, encoder: str, decoder: str, weights: str
) -> DescribedModel:
    vocabulary = load_vocabulary(folder / VOCABULARY)
    averaged = list(values.get("averaged") or ())
    aliases = [alias for alias in ALIASES if shipped_folder(alias) == folder]
    resume = (RESUME_TENSORS, RESUME_DATA)
    files = (path for path in folder.iterdir() if path.is_file())
    return DescribedModel(
        name=name,
        aliases=aliases,
        folder=str(folder),
        encoder=encoder,
        decoder=decoder,
        trains_encoder=values.get("base_encoder_fingerprint") is not None,
        vocab_size=len(vocabulary),
        unit=vocabulary.unit,
        weights=weights,
        num_bytes=sum(path.stat().st_size for path in files if path.name not in resume),
        data=values.get("data"),
        num_pictures={split: int(num) for split, num in (values.get("num_pictures") or {}).items()},
        averaged=averaged,
        epoch=None if averaged else values.get("epoch"),
        metrics={key: float(value) for key, value in (values.get("metrics") or {}).items()},
        measured_on=values.get("measured_on"),
    )
