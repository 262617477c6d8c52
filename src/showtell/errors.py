"""Errors that a user can mend.

Each message says what was given, what was expected and what to do next, in one line. The
command line prints the line alone and exits with 1 (2 for wrong usage); a traceback comes only
with ``--debug``. Broken invariants are ``assert``s, not one of these.
"""

import json
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from urllib.parse import unquote, urlsplit


class ShowtellError(Exception):
    """Base of every error that the user can mend."""


class ConfigError(ShowtellError):
    """A setting is unknown or has an impossible value."""


class UsageError(ConfigError):
    """Options of the command line do not fit each other; it exits with 2."""


class DataError(ShowtellError):
    """A data set cannot be read, or holds nothing to work on."""


class ImageError(ShowtellError):
    """One picture cannot be decoded."""


class UnavailableError(ImageError):
    """A picture cannot be had, but may be later: its host is busy, or a disk is not there."""


class NotAPictureError(ImageError):
    """The bytes are not a picture in a format that can be read."""


class LargePictureError(ImageError):
    """A picture has more pixels than are allowed."""


class PictureTypeError(ImageError, TypeError):
    """Something was given as a picture that cannot be turned into one."""


class VocabularyError(ShowtellError):
    """A vocabulary file cannot be read, or does not fit the model."""


class StoreError(ShowtellError):
    """A feature store was made by something else, or is damaged."""


class CheckpointError(ShowtellError):
    """A model folder is missing, incomplete or made by something else."""


class ScoringError(ShowtellError):
    """Results and references do not fit each other."""


class ProcessError(ShowtellError):
    """Another process of the same run is gone."""


class SaidElsewhereError(ProcessError):
    """Another process of the same run has failed before, and says why; this one is silent."""


class ServerError(ShowtellError):
    """The server of a model cannot be used, or not any more: no picture would be captioned."""


class MissingExtraError(ShowtellError):
    """An optional dependency is not installed."""

    def __init__(self, extra: str, needed_for: str) -> None:
        super().__init__(f"{needed_for} needs an extra: {install_line(extra)}")


class MissingFormatError(NotAPictureError, MissingExtraError):
    """What reads pictures of this format is an optional dependency that is not installed."""


@contextmanager
def needs_extra(extra: str, needed_for: str) -> Iterator[None]:
    """Turn an import in the block that fails into ``MissingExtraError``."""
    try:
        yield
    except ModuleNotFoundError:
        raise MissingExtraError(extra, needed_for) from None


def install_line(extra: str) -> str:
    """The command that adds an extra to this very installation, as it can be typed.

    ``pip install 'showtell[...]'`` works where showtell came from a package index. A checkout or a
    wheel file is named by its path, with the checkout's ``constraints.txt``.
    """
    source, editable = _installed_from()
    if source is None:
        return f"pip install 'showtell[{extra}]'"
    constraints = source / "constraints.txt"
    pins = f"-c {shlex.quote(str(constraints))} " if constraints.is_file() else ""
    return f"pip install {pins}{'-e ' * editable}{shlex.quote(f'{source}[{extra}]')}"


def _installed_from() -> tuple[Path | None, bool]:
    """The checkout or wheel file that showtell was installed from, and whether it is editable.

    None: it came from a package index.
    """
    from importlib import metadata  # a third of the time that importing showtell.metrics takes

    checkout = Path(__file__).resolve().parents[2]
    try:
        text = metadata.distribution("showtell").read_text("direct_url.json") or "{}"
        direct = json.loads(text)  # PEP 610
    except (metadata.PackageNotFoundError, ValueError):
        direct = {}
    url = urlsplit(direct.get("url", ""))
    if url.scheme == "file" and Path(unquote(url.path)).exists():
        is_editable = bool(direct.get("dir_info", {}).get("editable", False))
        return Path(unquote(url.path)), is_editable
    if (checkout / "pyproject.toml").is_file():  # run from its source, without being installed
        return checkout, True
    return None, False


def unknown_name(what: str, given: str, known: Iterable[str]) -> str:
    """One line for a name that is not in a registry: the name, the nearest known one, them all."""
    choices = sorted(known)
    return f"unknown {what} {given!r}.{did_you_mean(given, choices)} Known: {', '.join(choices)}."


def did_you_mean(given: str, choices: Sequence[str]) -> str:
    """A question for the nearest choice, to put behind a sentence; empty if none is near."""
    near = get_close_matches(given, choices, n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def expect_by_name(what: str, given: object, example: str) -> None:
    """Raise ConfigError where what should be settings by their names is something else."""
    if not isinstance(given, Mapping):
        raise ConfigError(f"{what} {given!r}: expected settings by name, as {example}")


def first_line(error: BaseException) -> str:
    """The first line of what another library's exception says; its kind where it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def one_line(error: BaseException, most: int | None = None) -> str:
    """All that an exception says as one line; its kind where it says nothing.

    Args:
        most: characters; a longer text is cut, and " ..." is added.
    """
    text = " ".join(str(error).split()) or type(error).__name__
    return text if most is None or len(text) <= most else f"{text[:most]} ..."


def reason_of(error: BaseException) -> str:
    """Why a file could not be read or written, without its path: "Permission denied"."""
    return getattr(error, "strerror", None) or one_line(error)
