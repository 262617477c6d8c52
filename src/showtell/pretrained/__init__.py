"""The models that come with showtell: their names, and where they lie.

Each is a checkpoint folder beside this file, with a card for people (``MODEL_CARD.md``).
``showtell.publish`` makes them. Knows nothing of what is in a checkpoint.
"""

from pathlib import Path

from showtell.errors import CheckpointError, unknown_name

FOLDER = Path(__file__).parent
CARD = "MODEL_CARD.md"
DEFAULT = "default"
ALIASES = {DEFAULT: "flickr8k-lite2"}


def model_names() -> list[str]:
    """Every model that comes with showtell, by its own name."""
    found = {path.parent.name for path in FOLDER.glob("*/config.toml")}
    return sorted(found.union(ALIASES.values()))


def known_names() -> list[str]:
    """What can be given in place of a model's folder: names and their aliases."""
    return [*ALIASES, *model_names()]


def shipped_folder(model: str | Path) -> Path | None:
    """Where the model of this name lies; None where it is no name but a folder.

    A string that is a known name means that model, whatever lies in the working directory, so
    that a command says the same everywhere; ``./default`` and a ``Path`` mean the folder.
    """
    if not isinstance(model, str) or model not in known_names():
        return None
    return FOLDER / ALIASES.get(model, model)


def read_card(model: str) -> str:
    """The card of a model, as Markdown.

    Args:
        model: a name, or a checkpoint's folder that has a card.

    Raises:
        CheckpointError: there is none.
    """
    folder = shipped_folder(model)
    if folder is None and not Path(model).is_dir():
        raise CheckpointError(unknown_name("model", model, known_names()))
    try:
        return ((folder or Path(model)) / CARD).read_text(encoding="utf-8")
    except OSError as error:
        raise CheckpointError(f"{model} has no {CARD}: {error.strerror}") from None
