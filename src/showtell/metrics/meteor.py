"""METEOR 1.5 (Denkowski and Lavie 2014)."""

from collections.abc import Sequence

VERSION = "1.5"


def is_installed() -> bool:
    """Whether the extra ``meteor`` is installed."""
    return False


def meteor(
    captions: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]
) -> tuple[float, list[float]]:
    raise NotImplementedError
