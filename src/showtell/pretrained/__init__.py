"""The models that come with showtell: their names, folders and figures.

Each is a checkpoint folder beside this file, with a card for people (``MODEL_CARD.md``), made by
``showtell.publish``. Nothing here loads any weights.
"""

import json
import tomllib
import warnings
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from showtell.errors import CheckpointError, did_you_mean

FOLDER = Path(__file__).parent
CARD = "MODEL_CARD.md"
DEFAULT = "default"
LICENCE = "Apache-2.0"  # of the weights that come with showtell; each card says what it rests on
ALIASES = {DEFAULT: "photos13k-lite2"}
RENAMED = {"flickr8k-lite2": "photos13k-lite2"}  # names of showtell 0.1.0, for one release more


def model_names() -> list[str]:
    """Every model that comes with showtell, by its own name."""
    found = {path.parent.name for path in FOLDER.glob("*/config.toml")}
    return sorted(found.union(ALIASES.values()))


def known_names() -> list[str]:
    """What can be given in place of a model's folder: names and their aliases."""
    return [*ALIASES, *model_names()]


def list_models(pattern: str = "*") -> list[str]:
    """The names of the models that come with showtell, for ``Captioner.load`` and ``--model``.

    Args:
        pattern: only names that match it, as in ``photos*``.
    """
    return [name for name in known_names() if fnmatchcase(name, pattern)]


def shipped_folder(model: str | Path) -> Path | None:
    """The folder of the model with this name; None if ``model`` is a folder and not a name.

    A known name means that model even if the working directory has a folder of that name, so that
    a command does the same everywhere; ``./default`` and a ``Path`` mean the folder.
    """
    if not isinstance(model, str):
        return None
    if model in RENAMED:
        warnings.warn(
            f"the model {model!r} is gone: its successor {RENAMED[model]!r} is used; say "
            f"{DEFAULT!r} or {RENAMED[model]!r}",
            FutureWarning,
            stacklevel=2,
        )
        return FOLDER / RENAMED[model]
    return FOLDER / ALIASES.get(model, model) if model in known_names() else None


def no_model(model: str | Path) -> CheckpointError:
    """Where ``model`` is neither a folder nor a known name: one line for people."""
    names = known_names()
    return CheckpointError(
        f"no model {str(model)!r}: give the folder that `train -o` made, or one of the names "
        f"{', '.join(names)}.{did_you_mean(str(model), names)}"
    )


def read_card(model: str) -> str:
    """The card of a model, as Markdown.

    Args:
        model: a name, or a checkpoint's folder that has a card.

    Raises:
        CheckpointError: there is none.
    """
    folder = shipped_folder(model)
    if folder is None and not Path(model).is_dir():
        raise no_model(model)
    try:
        return ((folder or Path(model)) / CARD).read_text(encoding="utf-8")
    except OSError as error:
        raise CheckpointError(f"{model} has no {CARD}: {error.strerror}") from None


@dataclass(frozen=True)
class ShippedModel:
    """One model that comes with showtell.

    Attributes:
        aliases: other names of it.
        metrics: its figures, as torch computes it; the card also has those of its export.
        measured_on: the pictures that they are of.
        num_bytes: of its folder, without the encoder's weights, which are a package of their own.
        encoder, decoder: as in its configuration.
        data: what it was trained on.
    """

    name: str
    aliases: tuple[str, ...]
    folder: str
    encoder: str
    decoder: str
    data: str
    num_bytes: int
    metrics: dict[str, float]
    measured_on: str

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return asdict(self)


def shipped_models() -> list[ShippedModel]:
    """All of them, by name.

    Raises:
        CheckpointError: one is not whole.
    """
    return [describe_shipped(name) for name in model_names()]


def describe_shipped(name: str) -> ShippedModel:
    """One of them, by its name or an alias.

    Raises:
        CheckpointError: there is none of this name, or it is not whole.
    """
    folder = shipped_folder(name)
    if folder is None:
        raise no_model(name)
    try:
        config = tomllib.loads((folder / "config.toml").read_text(encoding="utf-8"))
        values = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        num_bytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"the model {folder} is not whole: {error}") from None
    return ShippedModel(
        name=folder.name,
        aliases=tuple(alias for alias, of in ALIASES.items() if of == folder.name),
        folder=str(folder),
        encoder=config["encoder"]["name"],
        decoder=config["decoder"]["kind"],
        data=Path(str(values.get("data", "-"))).name,
        num_bytes=num_bytes,
        metrics=values.get("metrics") or {},
        measured_on=str(values.get("measured_on", "-")),
    )
