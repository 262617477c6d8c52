"""What every section of the settings is, and the error message when settings are wrong.

The message is one line that lists every wrong setting by its name in the file, with the name that
was probably meant.
"""

from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from showtell.errors import unknown_name

REFERENCE = "docs/settings.md"


class Section(BaseModel):
    """A group of settings: frozen, and an unknown name is an error."""

    # Checks are built when a section is first made: commands read few of them.
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)

    @classmethod
    def kinds(cls) -> Iterable[type["Section"]]:
        """The sections that may stand where this one is expected."""
        return (cls,)


def describe(
    error: ValidationError,
    path: Path | None,
    model: type[BaseModel],
    *,
    reference: str = REFERENCE,
) -> str:
    """One line with everything that is wrong.

    Args:
        path: the file that the settings are from, if any.
        model: the settings' class, where the right name of a misspelled setting is looked for.
        reference: the page that lists all settings.
    """
    items = error.errors()
    # For a list with a wrong entry pydantic also reports that the list is too short.
    within = {item["loc"][:end] for item in items for end in range(len(item["loc"]))}
    listed = f" ({reference} lists all)" if reference else ""
    parts = [_problem(item, model, listed) for item in items if item["loc"] not in within]
    where = f" in {path}" if path else ""
    return f"wrong settings{where}: " + "; ".join(parts)


def _problem(item: Any, model: type[BaseModel], listed: str) -> str:
    place, sections = _walk(item["loc"], model)
    name = ".".join(place)
    if item["type"] == "extra_forbidden":
        return f"{name}: no such setting{_hint(place, sections, model)}{listed}"
    if item["type"] == "missing":
        return f"{name}: is missing"
    if item["type"] == "value_error" and isinstance(item["input"], dict):
        message = str(item["ctx"]["error"])  # about several settings; it names them
        return f"{name}: {message}" if name else message
    if item["type"] == "value_error":
        return f"{name} = {item['input']!r}: {item['ctx']['error']}"
    if item["type"] == "union_tag_invalid":
        tags = [tag.strip(" '") for tag in item["ctx"]["expected_tags"].split(",")]
        if name != "decoder":
            return f"{name}.kind: {unknown_name('kind', item['ctx']['tag'], tags)[:-1]}"
        unknown = unknown_name("decoder", item["ctx"]["tag"], tags)
        return f"{name}.kind: {unknown} If it is from another package, install that package"
    return f"{name} = {item['input']!r}: {item['msg'].lower()}"


def _walk(
    loc: Sequence[int | str], model: type[BaseModel]
) -> tuple[list[str], list[type[BaseModel]]]:
    """The setting's name in the file, and the sections (several for a union) that it may be in.

    pydantic puts the kind after a section that has kinds; the file has no such level.
    """
    place: list[str] = []
    inside, sections = [model], [model]
    for part in loc:
        if of_kind := [section for section in inside if part in _kinds(section)]:
            inside = of_kind
            continue
        place.append(str(part))
        if isinstance(part, str):
            sections = inside
            found = [s.model_fields[part].annotation for s in inside if part in s.model_fields]
            inside = [section for annotation in found for section in sections_in(annotation)]
    return place, sections


def _kinds(section: type[BaseModel]) -> tuple[Any, ...]:
    kind = section.model_fields.get("kind")
    return get_args(kind.annotation) if kind else ()


def _hint(place: Sequence[str], sections: Sequence[type[BaseModel]], model: type[BaseModel]) -> str:
    """The setting that was probably meant: the nearest in its own section, or in any section."""
    *outer, given = place
    own = {name: [".".join((*outer, name))] for one in sections for name in one.model_fields}
    for names in (own, _names_in_sections(model)):
        for near in get_close_matches(given, names, n=1, cutoff=0.7):
            if meant := [name for name in names[near] if name != ".".join(place)]:
                return f", did you mean {' or '.join(meant)}?"
    return ""


def settings_like(name: str, model: type[BaseModel]) -> list[str]:
    """The full names of the settings nearest to a bare name; empty where none is near."""
    names = _names_in_sections(model)
    return [
        full for near in get_close_matches(name, names, n=1, cutoff=0.7) for full in names[near]
    ]


def _names_in_sections(model: type[BaseModel]) -> dict[str, list[str]]:
    """The bare name of each setting in a section -> the full names that end in it.

    The first words of its description are a name as well: ``optimizer.lr``, the "learning rate,
    ...", is found by ``learning_rate``.
    """
    names: dict[str, list[str]] = {}
    for field, info in model.model_fields.items():
        for section in sections_in(info.annotation):
            for bare, inner in section.model_fields.items():
                described = (inner.description or "").partition(",")[0].replace(" ", "_")
                for name in (bare, described):
                    full = names.setdefault(name, [])
                    full += [f"{field}.{bare}"] * (f"{field}.{bare}" not in full)
    return names


def sections_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The sections in a field's type: itself, or those of a union or a tuple."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield from annotation.kinds()
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from sections_in(argument)
