"""Wording that the metrics' error messages share."""

from collections.abc import Sequence


def some(names: Sequence[object], most: int = 5) -> str:
    """The first few of ``names``, for a one-line message."""
    return ", ".join(str(name) for name in names[:most]) + (", ..." if len(names) > most else "")
