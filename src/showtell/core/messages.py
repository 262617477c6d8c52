"""How messages name and count things."""

from collections.abc import Sequence


def some(names: Sequence[object], most: int = 5) -> str:
    """The first few of ``names``, for a one-line message."""
    return ", ".join(str(name) for name in names[:most]) + (", ..." if len(names) > most else "")


def counted(number: int, noun: str, width: int = 0) -> str:
    """``1 picture``, ``1,200 pictures``; the number in ``width`` characters at least."""
    return f"{number:>{width},} {noun}" + ("" if number == 1 else "s")
