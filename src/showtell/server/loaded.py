"""The models that a server answers with, by their names."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from showtell.captioner import Captioner
from showtell.errors import ConfigError


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A captioner under the name that requests ask for it by.

    Attributes:
        attends: Whether its captions can say where it looked.
    """

    name: str
    captioner: Captioner
    attends: bool


def load_models(
    models: Sequence[str], *, device: str = "auto", precision: str = "auto"
) -> dict[str, LoadedModel]:
    """Load models and have each caption a grey square, so that the first request is no slower.

    Those that were trained with the same encoder share it.

    Args:
        models: Folders or registered names; the first is the default.

    Raises:
        CheckpointError: one is not there, or damaged.
    """
    loaded: dict[str, LoadedModel] = {}
    for given in models:
        captioner = Captioner.load(given, device=device, precision=precision)
        trained_with = captioner.metrics.get("encoder_fingerprint")
        for other in loaded.values():
            if trained_with and other.captioner.encoder.fingerprint == trained_with:
                captioner.encoder = other.captioner.encoder
        name = _unique(_name(given), loaded)
        loaded[name] = LoadedModel(name, captioner, _attends(captioner))
    return loaded


def _attends(captioner: Captioner) -> bool:
    """Whether it does, found by trying; which also warms it up."""
    grey = Image.new("RGB", (64, 64), "grey")
    try:
        [caption] = captioner.caption([grey], attention=True)
    except ConfigError:
        return False
    return caption.attention is not None


def _name(given: str) -> str:
    """The folder's name; a run's, where a checkpoint of it is given."""
    path = Path(given)
    if not path.is_dir():
        return given
    path = path.resolve()
    return path.parent.name if path.name in ("best", "last") else path.name


def _unique(name: str, taken: dict[str, LoadedModel]) -> str:
    number, unique = 1, name
    while unique in taken:
        number += 1
        unique = f"{name}-{number}"
    return unique
