"""Reading settings: TOML files, presets by their names, and ``section.key=value``."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from showtell.errors import ConfigError, UsageError, unknown_name

PRESETS = Path(__file__).parent / "presets"


def preset_names() -> list[str]:
    """The presets that come with showtell."""
    return sorted(path.stem for path in PRESETS.glob("*.toml"))


SIZES = {"tiny": 0, "small": 500, "medium": 3_000, "coco": 30_000}
"""The presets that are chosen by size: each with the training pictures from which on it is for."""


def preset_for(num_pictures: int) -> str:
    """The preset that is for so many training pictures."""
    return max((n for n in SIZES if SIZES[n] <= num_pictures), key=lambda name: SIZES[name])


def read_preset(size: str, *, has_start: bool) -> dict[str, Any]:
    """The settings of a preset for a size.

    Args:
        size: one of ``SIZES``.
        has_start: whether the run starts from a trained model, which needs other settings.
    """
    folder = PRESETS / "from" if has_start else PRESETS
    return tomllib.loads((folder / f"{size}.toml").read_text(encoding="utf-8"))


def merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of two layers; where both have one, that of ``over`` counts.

    Where ``over`` names another kind of decoder, the decoder's settings in ``under`` are left out,
    since each kind has its own.
    """
    merged = dict(under)
    for name, value in over.items():
        below = merged.get(name)
        if not isinstance(below, Mapping) or not isinstance(value, Mapping):
            merged[name] = value
        elif "kind" in value and name == "decoder" and below.get("kind") != value["kind"]:
            merged[name] = dict(value)
        else:
            merged[name] = merge(below, value)
    return merged


def read_toml(path: Path) -> dict[str, Any]:
    """Read a file, or the preset of that name where there is no such file.

    Raises:
        ConfigError: there is neither, or it cannot be read as TOML.
    """
    if path.stem in preset_names() and path.name == str(path) and not path.exists():
        path = PRESETS / f"{path.stem}.toml"
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        advice = unknown_name("preset", path.stem, preset_names())
        if path.stem in preset_names():
            advice = f"the preset is -c {path.stem}"
        raise ConfigError(f"no settings file {path}; {advice}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from None


def apply_override(values: dict[str, Any], override: str) -> None:
    """Set ``a.b=value`` in nested ``values``; the value is read as TOML, or else is a string."""
    key, text = split_override(override)
    set_value(values, key, read_value(text))


def split_override(override: str) -> tuple[str, str]:
    """The setting's name and the text of its value."""
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise UsageError(f"-s {override!r} is not key=value; write it as in -s decoder.dropout=0.3")
    return key.strip(), text


def read_value(text: str) -> Any:
    """The TOML value that ``text`` is; ``text`` itself if it is not TOML."""
    return tomllib.loads(f"value = {text}")["value"] if is_toml(text) else text


def is_toml(text: str) -> bool:
    """Whether ``text`` is a TOML value."""
    try:
        tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return False
    return True


def set_value(values: dict[str, Any], key: str, value: Any) -> None:
    """Set ``a.b`` in nested ``values``."""
    *sections, name = key.split(".")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise ConfigError(f"-s {key}=...: {section!r} is a value, not a section")
    values[name] = value


def flatten(values: Mapping[str, Any]) -> dict[str, Any]:
    """Nested values by their dotted names: ``{"data": {"text": 1}}`` as ``{"data.text": 1}``."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}.{inner}": one for inner, one in flatten(value).items()}
        else:
            flat[name] = value
    return flat
