"""Reading settings: TOML files, and ``section.key=value`` from the command line."""

import tomllib
from pathlib import Path
from typing import Any

from showtell.errors import ConfigError, UsageError


def read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"no configuration file {path}; configs/ has examples") from None
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
        raise UsageError(
            f"-s {override!r} is not key=value; write it as in -s training.num_epochs=3"
        )
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
