"""Captioners that are not showtell's own, named by a prefix: ``hf:ID``, ``openai:MODEL``.

``CAPTIONERS`` is the table from a prefix to the class that captions. Our own classes are imported
when they are first asked for, and packages add theirs by an entry point in the group
``showtell.captioners``, whose name is the prefix and whose value is the class. A class keeps to
``Backend``: it is made of a whole ``ModelRequest`` and says which settings mean anything to it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, Self, TypeVar, cast

from showtell.errors import (
    CheckpointError,
    ConfigError,
    ShowtellError,
    expect_by_name,
    first_line,
    unknown_name,
)

if TYPE_CHECKING:
    from showtell.inference.captioner import Captioner
    from showtell.inference.loading import ModelRequest

Number = TypeVar("Number", int, float)

GROUP = "showtell.captioners"
CAPTIONERS = {
    "hf": "showtell.inference.backends.hf:HfCaptioner",
    "openai": "showtell.inference.backends.openai:OpenAICaptioner",
    "ollama": "showtell.inference.backends.ollama:OllamaCaptioner",
}
"""Module and class of each prefix that comes with showtell."""

PREFIX = r"[a-z][a-z0-9_-]+"

PROMPTS = {
    "short": "Describe this image in one short sentence.",
    "detailed": "Describe this image in detail, in one paragraph.",
    "alt": "Write alt text for this image: one plain sentence that tells somebody who cannot see "
    "it what matters. Do not begin with 'image of' or 'picture of'.",
}
"""What may be given in place of an instruction."""


class Spec(NamedTuple):
    """A model of another kind: ``kind:name``."""

    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class BackendSettings:
    """How a captioner of another kind is reached and asked; None: what suits the model.

    Each kind takes some of these (``Backend.takes``); what was given and means nothing there is
    refused.

    Attributes:
        prompt: an instruction, or the name of one in ``PROMPTS``.
        revision: branch, tag or commit on the hub.
        trust_remote_code: whether Python that comes with the weights may run.
        base_url: address of the server.
        max_side: longest side in pixels to which pictures are shrunk before they are sent.
        concurrency: pictures that are asked about at a time.
        timeout: seconds that one answer may take.
        retries: how often a question that failed for a passing reason is asked again.
    """

    prompt: str | None = None
    revision: str | None = None
    trust_remote_code: bool = False
    base_url: str | None = None
    max_side: int | None = None
    concurrency: int | None = None
    timeout: float | None = None
    retries: int | None = None

    @classmethod
    def of(cls, values: "BackendSettings | Mapping[str, Any] | None") -> "BackendSettings":
        """Settings from a dict of those that are given.

        Raises:
            ConfigError: a name that is not a setting, or a value that cannot be.
        """
        if isinstance(values, BackendSettings):
            return values
        if values is None:
            return cls()
        expect_by_name("settings", values, '{"prompt": "alt"}')
        known = [field.name for field in fields(cls)]
        for name in values:
            if name not in known:
                raise ConfigError(unknown_name("setting of a captioner", name, known))
        return cls(**values)

    @property
    def given(self) -> list[str]:
        """The names of the settings that are not left to the model."""
        return [f.name for f in fields(self) if getattr(self, f.name) != f.default]

    @property
    def instruction(self) -> str | None:
        """The text of ``prompt``, whether it is written out or named."""
        return None if self.prompt is None else PROMPTS.get(self.prompt, self.prompt)

    def with_changes(self, **changes: Any) -> Self:
        """The same settings with some changed."""
        return replace(self, **changes)


@dataclass(frozen=True, slots=True)
class Limits(Generic[Number]):
    """What a setting of a model's server may be.

    Attributes:
        option: its name on the command line, whose limits are the same.
        least, most: both may be chosen.
        usual: what it is where none is chosen.
    """

    option: str
    least: Number
    most: Number
    usual: Number

    def chosen(self, value: Number | None) -> Number:
        """The value of the setting.

        Args:
            value: what a user chose; None: nothing.

        Raises:
            ConfigError: it is beyond the limits.
        """
        if value is None:
            return self.usual
        if not self.least <= value <= self.most:
            raise ConfigError(f"{self.option} {value}: expected {self.least:g} to {self.most:g}")
        return value


MAX_SIDE = Limits("--max-side", 32, 8192, usual=768)
CONCURRENCY = Limits("--concurrency", 1, 256, usual=8)
TIMEOUT = Limits("--timeout", 0.1, 3600.0, usual=120.0)
RETRIES = Limits("--retries", 0, 100, usual=4)


class Backend(Protocol):
    """What the class behind a prefix has, besides being a ``Captioner``."""

    takes: frozenset[str]
    """The names of the settings it understands: of ``BackendSettings``, and of ``device``,
    ``precision``."""

    @classmethod
    def of(cls, request: "ModelRequest") -> "Captioner":
        """The captioner that a user asks for; ``request.model`` has the prefix."""


class CaptionerError(ShowtellError):
    """A captioner of another kind fails by its own fault, whatever picture it gets."""


def spec_of(model: str | Path) -> Spec | None:
    """The kind and the name of a model with a prefix; None for a folder or one of our own.

    ``./hf:x`` and a ``Path`` mean a folder. A prefix has two letters or more, so that drives of
    Windows are none.

    Raises:
        CheckpointError: there is no captioner of that kind, and no such folder.
        ConfigError: a package has given a captioner this prefix, which cannot be one.
    """
    if not isinstance(model, str):
        return None
    kind, colon, name = model.partition(":")
    if not colon or name.startswith("//"):
        return None
    point = _entry_point(kind)
    if point is None and not re.fullmatch(PREFIX, kind):
        return None
    if point is None and kind not in CAPTIONERS:
        if Path(model).exists():
            return None
        raise CheckpointError(
            f"model {model!r}: {unknown_name('kind of captioner', kind, kinds())}"
        )
    if not name.strip():
        raise CheckpointError(
            f"model {model!r}: expected a name after the colon, as in {kind}:NAME"
        )
    return Spec(kind, name)


def kinds() -> list[str]:
    """The known prefixes; nothing is imported for it."""
    others = [point.name for point in entry_points(group=GROUP)]
    return list(dict.fromkeys([*CAPTIONERS, *(n for n in others if re.fullmatch(PREFIX, n))]))


def _entry_point(kind: str) -> EntryPoint | None:
    """Where a package says what captions behind a prefix; None where none says so.

    Raises:
        ConfigError: it cannot be a prefix, or it is another captioner's already.
    """
    found = [point for point in entry_points(group=GROUP) if point.name == kind]
    if not found:
        return None
    packages = " and ".join(repr(_package(point)) for point in found)
    if not re.fullmatch(PREFIX, kind):
        raise ConfigError(
            f"the package {packages} names a captioner {kind!r}: a prefix has two or more small "
            "letters, digits, - and _, and begins with a letter"
        )
    if kind in CAPTIONERS:
        raise ConfigError(
            f"the package {packages} names a captioner {kind!r}, which is one of showtell's own: "
            "remove the package, or have its author choose another prefix"
        )
    if len(found) > 1:
        raise ConfigError(
            f"{packages} both name a captioner {kind!r}: remove one of these packages"
        )
    return found[0]


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist else point.value


def named(spec: str) -> str:
    """A model with a prefix for messages, with the package that its captioner is from."""
    point = _entry_point(spec.partition(":")[0])
    return spec if point is None else f"{spec} (package {_package(point)!r})"


def told(error: Exception) -> str:
    """What another program raised, in words for a message."""
    return f"{type(error).__name__}: {first_line(error)} (--debug shows where)"


def find_backend(kind: str) -> type[Backend]:
    """The class behind a prefix, imported.

    Raises:
        ConfigError: the package that has it cannot be imported, or it is no captioner.
    """
    point = _entry_point(kind)
    if point is None:
        module, _, name = CAPTIONERS[kind].partition(":")
        return cast(type[Backend], getattr(import_module(module), name))
    where = f"the captioner {kind!r} of the package {_package(point)!r}"
    try:
        found = point.load()
    except Exception as error:  # somebody else's program, which may fail in any way
        raise ConfigError(f"{where} cannot be imported: {told(error)}") from error
    captioner = import_module("showtell.inference.captioner").Captioner
    is_one = isinstance(found, type) and issubclass(found, captioner)
    lacks = [name for name in ("of", "takes") if not hasattr(found, name)]
    if not is_one or lacks:
        what = f"has no {' and no '.join(lacks)}" if is_one else "is no Captioner"
        raise ConfigError(
            f"{where}, {point.value}, {what}: its class derives from PictureCaptioner "
            "(docs/extending.md)"
        )
    return cast(type[Backend], found)


def load_backend(spec: Spec, request: "ModelRequest") -> "Captioner":
    """The captioner of a request whose model has a prefix.

    Raises:
        ConfigError: something was given that means nothing to captioners of this kind.
        ShowtellError: as the captioner has it.
    """
    backend = find_backend(spec.kind)
    if request.ensemble:
        raise ConfigError(f"{request.model}: only showtell's own models form an ensemble")
    if request.trust_model:
        raise ConfigError(
            f"{request.model}: trust_model (--trust-model) is for showtell's own models"
            + (
                "; did you mean --trust-remote-code?"
                if "trust_remote_code" in backend.takes
                else ""
            )
        )
    if request.runtime != "auto":
        raise ConfigError(f"{request.model}: runtime {request.runtime!r} is for showtell's models")
    given = list(request.settings.given)
    given += [name for name in ("device", "precision") if getattr(request, name) != "auto"]
    if needless := [name for name in given if name not in backend.takes]:
        raise ConfigError(
            f"{request.model}: {_named(needless)} {_mean(needless)} nothing to captioners of the "
            f"kind {spec.kind!r}, which take {_named(sorted(backend.takes))}"
        )
    if spec.kind in CAPTIONERS:
        return backend.of(request)
    try:
        return backend.of(request)
    except ShowtellError:
        raise
    except Exception as error:
        raise CaptionerError(
            f"{named(str(request.model))} cannot be loaded: {told(error)}"
        ) from error


def refuse_settings(request: "ModelRequest") -> None:
    """Raise ConfigError where settings for captioners of other kinds are given for our own."""
    if given := request.settings.given:
        raise ConfigError(
            f"{request.model}: {_named(given)} {_mean(given)} nothing to showtell's models, only "
            f"to {', '.join(f'{kind}:...' for kind in kinds())}"
        )


def _mean(settings: list[str]) -> str:
    return "means" if len(settings) == 1 else "mean"


def _named(settings: list[str]) -> str:
    """Settings as the command line has them."""
    return ", ".join("--" + name.replace("_", "-") for name in settings)
