"""What is known of the models that come with showtell, read without loading any weights."""

import json
import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from showtell.errors import CheckpointError, unknown_name
from showtell.pretrained import ALIASES, known_names, model_names, shipped_folder


@dataclass(frozen=True)
class ShippedModel:
    """One model that comes with showtell.

    Attributes:
        aliases: other names of it.
        metrics: its figures on the split that the card names.
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
        raise CheckpointError(unknown_name("model", name, known_names()))
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
    )
