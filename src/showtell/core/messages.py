"""How messages name and count things."""

from collections.abc import Iterable, Sequence


def some(names: Sequence[object], most: int = 5) -> str:
    """The first few of ``names``, for a one-line message."""
    return ", ".join(str(name) for name in names[:most]) + (", ..." if len(names) > most else "")


def counted(number: int, noun: str, width: int = 0) -> str:
    """``1 picture``, ``1,200 pictures``; the number in ``width`` characters at least."""
    return f"{number:>{width},} {noun}" + ("" if number == 1 else "s")


def respelled(ids: Iterable[object], others: Iterable[object]) -> str:
    """What to add to a message where ids are missing among others only by their type."""
    alike = {str(one) for one in ids} & {str(other) for other in others}
    return "; some ids are numbers in one and strings in the other" if alike else ""
