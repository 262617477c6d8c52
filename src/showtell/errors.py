"""Errors that a user can mend.

Each message says what was given, what was expected and what to do next, in one line. The
command line prints the line alone and exits with 1; a traceback comes only with ``--debug``.
Broken invariants are ``assert``s, not one of these.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class ShowtellError(Exception):
    """Root of every error that is the user's to mend."""


class ConfigError(ShowtellError):
    """A setting is unknown or has a value that cannot be."""


class DataError(ShowtellError):
    """A data set cannot be read, or holds nothing to work on."""


class ImageError(ShowtellError):
    """One picture cannot be decoded."""


class NotAPictureError(ImageError):
    """The bytes are of no kind of picture that can be read."""


class LargePictureError(ImageError):
    """A picture has more pixels than are allowed."""


class VocabularyError(ShowtellError):
    """A vocabulary file cannot be read, or does not fit the model."""


class StoreError(ShowtellError):
    """A feature store was made by something else, or is damaged."""


class CheckpointError(ShowtellError):
    """A model folder is missing, incomplete or of another make."""


class ScoringError(ShowtellError):
    """Results and references do not fit each other."""


class ProcessError(ShowtellError):
    """Another process of the same run is gone."""


class SaidElsewhereError(ProcessError):
    """Another process of the same run has failed before, and says why; this one is silent."""


class MissingExtraError(ShowtellError):
    """An optional dependency is not installed."""

    def __init__(self, extra: str, needed_for: str) -> None:
        super().__init__(f"{needed_for} needs an extra: pip install 'showtell[{extra}]'")


def unknown_name(what: str, given: str, known: Iterable[str]) -> str:
    """One line for a name that is not in a registry: the name, the nearest known one, them all."""
    choices = sorted(known)
    near = get_close_matches(given, choices, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"unknown {what} {given!r}.{hint} Known: {', '.join(choices)}."


def first_line(error: BaseException) -> str:
    """The first line of what another library's exception says; its kind where it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
