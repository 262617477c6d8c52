"""The models that come with showtell: their names and folders.

Each is a checkpoint folder beside this file, with a card for people (``MODEL_CARD.md``), made by
``showtell.publish``. ``inference/described.py`` reads what is in them.
"""

import warnings
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from showtell.errors import CheckpointError, did_you_mean

FOLDER = Path(__file__).parent
CARD = "MODEL_CARD.md"
DEFAULT = "default"
LICENCE = "Apache-2.0"  # of the weights that come with showtell; each card says what it rests on
ALIASES = {DEFAULT: "photos13k-lite2"}
RENAMED = {"flickr8k-lite2": "photos13k-lite2"}  # names of showtell 0.1.0, for one release more


def model_names() -> list[str]:
    """Every model that comes with showtell, by its own name."""
    found = {path.parent.name for path in FOLDER.glob(f"*/{CARD}")}
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


def no_model(model: str | Path, kinds: Sequence[str]) -> CheckpointError:
    """Where ``model`` is neither a folder nor a known name: one line for people.

    Args:
        kinds: the prefixes of captioners of other kinds.
    """
    names = known_names()
    others = ", ".join(f"{kind}:{'ID' if kind == 'hf' else 'MODEL'}" for kind in kinds)
    return CheckpointError(
        f"no model {str(model)!r}: give the folder that `train -o` made, or one of the names "
        f"{', '.join(names)}; to caption, also {others}."
        f"{did_you_mean(str(model), names)}"
    )
