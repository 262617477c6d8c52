"""Groups of options: dataclasses that a command's function takes in the place of many parameters.

A field of a ``group`` is annotated as typer has a parameter. ``with_options`` shows typer a
signature with the fields of the groups in it, and calls the function with the groups.
"""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from enum import Enum
from functools import wraps
from typing import Any, TypeVar, dataclass_transform

from typer.models import ArgumentInfo

T = TypeVar("T")


@dataclass_transform(kw_only_default=True)
def group(kind: type[T]) -> type[T]:
    """A dataclass with a constructor alone: each start makes all of them, and methods take time."""
    return dataclass(kw_only=True, eq=False, repr=False)(kind)


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """Have typer see the options of the groups among a command's parameters, all keyword-only.

    The options of a group come, in ``--help``, where the group is in the signature. Whoever calls
    the command from Python gives any of its options by name.
    """
    signature = inspect.signature(command)
    annotations = {name: p.annotation for name, p in signature.parameters.items()}
    groups: dict[str, Any] = {n: kind for n, kind in annotations.items() if is_dataclass(kind)}

    @wraps(command)
    def run(**values: Any) -> None:
        built = {
            name: kind(**{f.name: values.pop(f.name) for f in fields(kind) if f.name in values})
            for name, kind in groups.items()
        }
        command(**values, **built)

    def expanded() -> Iterator[inspect.Parameter]:
        for name, parameter in signature.parameters.items():
            if name in groups:
                yield from map(_parameter, fields(groups[name]))
            else:
                yield parameter

    # Of what is missing, the first is named: an argument before an option.
    parameters = sorted(expanded(), key=_is_option)
    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters} | {"return": None}
    return run


def given(options: Any) -> dict[str, Any]:
    """The options of a group that were typed: those that are not as the group has them."""
    found = {}
    for field in fields(options):
        value = getattr(options, field.name)
        # A list option that was not typed comes as an empty list.
        if value not in (field.default, []):
            found[field.name] = value.value if isinstance(value, Enum) else value
    return found


def _parameter(field: "Field[Any]") -> inspect.Parameter:
    default = inspect.Parameter.empty if field.default is MISSING else field.default
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(field.name, kind, default=default, annotation=field.type)


def _is_option(parameter: inspect.Parameter) -> bool:
    metadata = getattr(parameter.annotation, "__metadata__", ())
    return not any(isinstance(about, ArgumentInfo) for about in metadata)
