"""Grids of settings for a sweep: ``-s optimizer.lr=1e-3,5e-4`` is an axis; several axes multiply.

This module reads a grid and names its points; ``training/sweep.py`` runs them.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from showtell.config.run import Config
from showtell.config.section import sections_in
from showtell.config.toml import is_toml, read_value, split_override
from showtell.errors import ConfigError

MAX_VALUE, MAX_NAME = 40, 200  # characters; file systems allow 255 bytes

_TOKEN = re.compile(r'"(?:\\.|[^"\\])*"|\'[^\']*\'|.', re.DOTALL)


@dataclass(frozen=True)
class Grid:
    """The ``-s`` options of a command line.

    Attributes:
        common: options with one value, as they were given.
        axes: the values of each other option, by its name, in the order given.
    """

    common: tuple[str, ...]
    axes: dict[str, tuple[Any, ...]]

    @classmethod
    def read(cls, overrides: Sequence[str]) -> "Grid":
        """Separate axes from single values.

        An axis is a value that is not TOML as a whole and has a comma outside quotes and brackets.
        The commas separate its values, each of them TOML or a string. So ``[1, 2]`` is one value,
        and so is ``"a,b"`` with its quotes.

        Raises:
            ConfigError: an axis has an empty value, or is given twice.
        """
        common: list[str] = []
        axes: dict[str, tuple[Any, ...]] = {}
        keys = [split_override(override)[0] for override in overrides]
        for key, override in zip(keys, overrides, strict=True):
            text = split_override(override)[1]
            parts = [text] if is_toml(text) else split_at_commas(text)
            if len(parts) == 1:
                common.append(override)
                continue
            if keys.count(key) > 1:
                raise ConfigError(
                    f"-s {key} is given twice, once with several values: give it once"
                )
            if not all(parts):
                raise ConfigError(
                    f"-s {override!r} has nothing before or after a comma; a value that has a "
                    f"comma in it needs quotes: -s '{key}=\"{text}\"'"
                )
            axes[key] = tuple(map(read_value, parts))
        return cls(tuple(common), axes)

    def points(self) -> list[dict[str, Any]]:
        """Every combination, as values by setting; the last axis changes fastest."""
        return [
            dict(zip(self.axes, values, strict=True)) for values in product(*self.axes.values())
        ]


def split_at_commas(text: str) -> list[str]:
    """Split at the commas outside quotes and brackets, and strip the parts."""
    parts, depth = [""], 0
    for token in _TOKEN.findall(text):
        depth += (token in "[{") - (token in "]}")
        if token == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += token
    return [part.strip() for part in parts]


def point_names(points: Sequence[dict[str, Any]]) -> list[str]:
    """A name for each point, such as ``lr=0.001+hidden_size=512``; no two are alike.

    They are names of folders. Nothing in them needs quotes in a shell, and there is no comma, which
    would turn ``-s training.init_from=SWEEP/NAME`` into an axis.
    """
    names: list[str] = []
    for point in points:
        whole = "+".join(f"{short_name(key)}={_shown(value)}" for key, value in point.items())
        name, count = whole[:MAX_NAME], 1
        while name.lower() in map(str.lower, names):  # some file systems ignore case
            count += 1
            name = f"{whole[:MAX_NAME]}-{count}"
        names.append(name)
    return names


def short_name(key: str) -> str:
    """The shortest ending of a setting's name that no other setting's name has."""
    others = [other for other in setting_names() if other != key]
    parts = key.split(".")
    for start in range(len(parts) - 1, 0, -1):
        short = ".".join(parts[start:])
        if not any(f".{other}".endswith(f".{short}") for other in others):
            return _safe(short)
    return _safe(key)


def setting_names() -> Iterator[str]:
    """The names of all settings, of every kind of decoder, such as ``optimizer.lr``."""
    for name, field in Config.model_fields.items():
        sections = list(sections_in(field.annotation))
        if not sections:
            yield name
        for section in sections:
            yield from (f"{name}.{setting}" for setting in section.model_fields)


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return _safe(value).strip("-")[-MAX_VALUE:] or "-"
    return _safe(json.dumps(value, default=str))[-MAX_VALUE:]


def _safe(text: str) -> str:
    return re.sub(r"[^\w.+-]+", "-", text, flags=re.ASCII)
