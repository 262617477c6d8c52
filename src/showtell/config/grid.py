"""Grids of settings: ``-s optimizer.lr=1e-3,5e-4`` is one axis, several make their product.

Knows how a grid is written and what its points are called, nothing of running them.
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
    """What the command line's ``-s`` ask for.

    Attributes:
        common: those that are one value, as they were given.
        axes: the values of each of the others, by its name, in the order given.
    """

    common: tuple[str, ...]
    axes: dict[str, tuple[Any, ...]]

    @classmethod
    def read(cls, overrides: Sequence[str]) -> "Grid":
        """Tell the axes from single values.

        An axis is a value that is no TOML as a whole and has a comma outside quotes and brackets;
        between such commas stand its values, each TOML or a string. So ``[1, 2]`` is one value,
        and ``"a,b"`` with its quotes, too.

        Raises:
            ConfigError: an axis has an empty value, or its setting is given twice.
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
    """What stands between the commas that are in no quotes and no brackets, without blanks."""
    parts, depth = [""], 0
    for token in _TOKEN.findall(text):
        depth += (token in "[{") - (token in "]}")
        if token == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += token
    return [part.strip() for part in parts]


def point_names(points: Sequence[dict[str, Any]]) -> list[str]:
    """A name for each point, as in ``lr=0.001+hidden_size=512``: no two alike.

    They serve as names of folders: nothing in them needs quotes in a shell, and none has a comma,
    which would make an axis of ``-s training.init_from=SWEEP/NAME``.
    """
    names: list[str] = []
    for point in points:
        whole = "+".join(f"{short_name(key)}={_shown(value)}" for key, value in point.items())
        name, count = whole[:MAX_NAME], 1
        while name.lower() in map(str.lower, names):  # some file systems see no difference
            count += 1
            name = f"{whole[:MAX_NAME]}-{count}"
        names.append(name)
    return names


def short_name(key: str) -> str:
    """The shortest end of a setting's name that is no other setting's end."""
    others = [other for other in setting_names() if other != key]
    parts = key.split(".")
    for start in range(len(parts) - 1, 0, -1):
        short = ".".join(parts[start:])
        if not any(f".{other}".endswith(f".{short}") for other in others):
            return _safe(short)
    return _safe(key)


def setting_names() -> Iterator[str]:
    """Every setting there is, of every kind of decoder, as in ``optimizer.lr``."""
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
