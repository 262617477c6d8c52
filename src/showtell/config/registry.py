"""Registries: named things that other packages can add to.

Settings name things: a kind of decoder, an encoder, a format of data. Each of these has a
``Registry``. What comes with showtell is in it from the start. A program adds to it by importing a
module that registers something, and an installed package adds to it by an entry point. See
docs/extending.md.
"""

from importlib.metadata import EntryPoint, entry_points
from typing import TypeVar

from showtell.errors import ConfigError, ShowtellError, first_line, unknown_name

Item = TypeVar("Item")


class Registry(dict[str, Item]):
    """Things by name; an unknown name is looked for among the entry points of installed packages.

    ``registry[name]`` imports the package that has the name, if one does. Iterating gives what is
    registered so far and imports nothing.

    Args:
        what: the kind of thing, as error messages call it.
        group: the group of entry points. An entry point's name is the thing's name; its value is
            the module that registers the thing, or an object in that module.
        error: the exception that ``find`` raises.
    """

    def __init__(self, what: str, group: str, error: type[ShowtellError] = ConfigError) -> None:
        super().__init__()
        self.what, self.group, self.error = what, group, error

    def register(self, name: str, item: Item) -> None:
        """Add ``item``.

        Raises:
            ConfigError: something else has this name. The same class or function, defined again
                (as a notebook does), replaces the earlier one.
        """
        if name in self and _origin(self[name]) != _origin(item):
            raise ConfigError(
                f"the {self.what} {name!r} is registered already, by {_origin(self[name])[0]}; "
                "choose another name"
            )
        self[name] = item

    def __missing__(self, name: str) -> Item:
        """Import the installed package that has ``name``.

        Raises:
            KeyError: no package has it.
            ConfigError: the package cannot be imported, or does not register the name.
        """
        for point in entry_points(group=self.group, name=name):
            self._load(point)
            return dict.__getitem__(self, name)
        raise KeyError(name)

    def find(self, name: str) -> Item:
        """The thing of this name.

        Raises:
            ShowtellError: there is none; the message lists what there is, and the nearest name.
        """
        try:
            return self[name]
        except KeyError:
            raise self.error(unknown_name(self.what, name, self.names())) from None

    def names(self) -> list[str]:
        """Every name, those of installed packages included, without importing the packages."""
        return list(dict.fromkeys([*self, *(p.name for p in entry_points(group=self.group))]))

    def load_all(self) -> None:
        """Import every installed package that adds to this registry.

        Raises:
            ConfigError: as for a name.
        """
        for point in entry_points(group=self.group):
            if point.name not in self:
                self._load(point)

    def _load(self, point: EntryPoint) -> None:
        package = point.dist.name if point.dist else point.value
        try:
            point.load()
        except Exception as error:  # somebody else's program, which may fail in any way
            raise ConfigError(
                f"the {self.what} {point.name!r} of the package {package!r} cannot be imported: "
                f"{type(error).__name__}: {first_line(error)}"
            ) from error
        if point.name not in self:
            raise ConfigError(
                f"the package {package!r} announces the {self.what} {point.name!r} "
                f"({self.group}), but {point.value} does not register that name"
            )


def _origin(item: object) -> tuple[str, str]:
    """The module and the name that something was defined with."""
    named = item if hasattr(item, "__qualname__") else type(item)
    return getattr(named, "__module__", ""), getattr(named, "__qualname__", "")
