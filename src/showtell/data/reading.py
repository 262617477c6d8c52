"""Reading text and JSON, and noting which files were read.

Any problem with a file becomes one line with its place (``path:line:column``). Text is UTF-8, or
UTF-16 or UTF-32 if a byte order mark says so, or in the encoding that the user named
(``reading_as``). What another text is probably in, is told in the error and never assumed.

A data set in the cache has to be read again when one of its inputs changes. So code that opens a
file or lists a folder calls ``note_input``. ``watch_inputs`` collects these, each with a stamp that
changes when the file, or the folder's list of names, changes.
"""

import ast
import codecs
import json
import os
import re
import stat
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar, copy_context
from pathlib import Path
from typing import Any

from showtell.data.encodings import guess_encoding, known_encoding
from showtell.errors import DataError

Stamp = list[int] | None  # size, time of the last change in ns, number of the file; None: not there
Inputs = dict[str, Stamp]

_watched: ContextVar[Inputs | None] = ContextVar("watched", default=None)
_encoding: ContextVar[str | None] = ContextVar("encoding")  # unset outside of reading_as


@contextmanager
def reading_as(encoding: str | None) -> Iterator[None]:
    """Within the block, texts without a byte order mark are in this encoding.

    Errors advise to name one only within such a block: other commands have no option for it.

    Args:
        encoding: As Python names it; None: UTF-8.

    Raises:
        DataError: there is no such encoding.
    """
    name = None
    if encoding is not None:
        name = known_encoding(encoding)
        if name is None:
            raise DataError(
                f"unknown --encoding {encoding!r}; expected a name such as cp1252, latin-1, "
                "cp1251, gb18030, big5, shift_jis or utf-16"
            )
    token = _encoding.set(name)
    try:
        yield
    finally:
        _encoding.reset(token)


def chosen_encoding() -> str | None:
    """The encoding that the user named, as Python calls it; None where none was named."""
    return _encoding.get(None)


@contextmanager
def watch_inputs() -> Iterator[Inputs]:
    """Collect the files and folders that are looked at inside the block, by absolute path."""
    inputs: Inputs = {}
    token = _watched.set(inputs)
    try:
        yield inputs
    finally:
        _watched.reset(token)


def note_input(path: str | os.PathLike[str]) -> None:
    """Note, before opening it, that the data set depends on this file or folder's names."""
    inputs = _watched.get()
    if inputs is not None:
        name = os.path.abspath(path)
        inputs.setdefault(name, stamp(name))


def stamp(path: str) -> Stamp:
    """The size, time and number of a file or folder as it is now; None where there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return [found.st_size, found.st_mtime_ns, found.st_ino]


def is_text(value: str) -> bool:
    """Whether a string can be written as UTF-8 (JSON escapes and odd file names may not be)."""
    if value.isascii():
        return True
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


_START_MARK = re.compile(r"\s*<(?:start|s|bos|sos)>", re.IGNORECASE)
_END_MARK = re.compile(r"<(?:end|/s|eos)>\s*$", re.IGNORECASE)


def without_marks(caption: str) -> str:
    """A caption without marks of its start and end, as in ``<start> a dog runs <end>``.

    Files of captions are often wrapped so for TensorFlow's tutorial. To a model, start and end are
    no words.
    """
    if "<" not in caption:
        return caption
    if found := _START_MARK.match(caption):
        caption = caption[found.end() :]
    if found := _END_MARK.search(caption):
        caption = caption[: found.start()]
    return caption


_QUOTED = r"""'(?:[^'\\\n]|\\.)*+'|"(?:[^"\\\n]|\\.)*+\""""
_LIST_OF_TEXTS = re.compile(rf"\[\s*(?:{_QUOTED})(?:(?:\s*,\s*|\s+)(?:{_QUOTED}))*+\s*,?\s*\]")


def listed_captions(cell: str) -> list[str] | None:
    """The captions of a cell that holds a list of them, as JSON, Python or NumPy write it.

    Tables have no lists, so pandas writes ``['A dog runs.', 'A brown dog.']``.

    Returns:
        None where the cell is a caption.
    """
    cell = cell.strip()
    if not (cell.startswith("[") and cell.endswith("]")):
        return None
    try:
        value = json.loads(cell)
        if isinstance(value, list) and value and all(isinstance(text, str) for text in value):
            return value
    except (ValueError, RecursionError):
        pass
    if _LIST_OF_TEXTS.fullmatch(cell) is None:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of an escape that Python does not know
            # One by one: NumPy writes no commas, and Python joins texts side by side.
            return [ast.literal_eval(text) for text in re.findall(_QUOTED, cell)]
    except (ValueError, SyntaxError):
        return None


_LINE_END = re.compile(r"\r\n|\r|\n")


def lines_of(text: str) -> list[str]:
    """The lines of a text file; none for what follows the last line end.

    ``str.splitlines`` also cuts at U+2028 and U+0085, which are within captions.
    """
    lines = _LINE_END.split(text)
    return lines if lines[-1] else lines[:-1]


def printable(value: str) -> str:
    """A string on one line that any terminal and any UTF-8 file takes."""
    safe = value.encode("utf-8", "backslashreplace").decode("utf-8")
    return safe if safe.isprintable() else "".join(map(_escape, safe))


def _escape(character: str) -> str:
    return character if character.isprintable() else repr(character)[1:-1]


_MARKS = (  # UTF-32's mark begins with that of UTF-16, so it is looked for first
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def encoding_of(head: bytes) -> str:
    """The encoding of a text file, by the byte order mark that it begins with; else UTF-8.

    UTF-16 without a mark is recognised where the first two characters are ASCII, as those of a
    table's header or of JSON are (RFC 4627, section 3).
    """
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return encoding
    zeros = [byte == 0 for byte in head[:4]]
    if zeros == [False, True, False, True]:
        return "utf-16-le"
    if zeros == [True, False, True, False]:
        return "utf-16-be"
    return "utf-8"


_LATIN_1 = codecs.lookup("latin-1").name


def decode_text(raw: bytes, path: Path | str) -> str:
    """The text of a file's bytes, without its byte order mark.

    Raises:
        DataError: the bytes are not of the encoding that they seem to be of.
    """
    encoding = encoding_of(raw[:4])
    chosen = chosen_encoding()
    if chosen is not None and encoding == "utf-8":
        encoding = chosen
    if encoding == _LATIN_1:  # what is called so has Windows' quotes and dashes, as browsers know
        with suppress(UnicodeDecodeError):
            return raw.decode("cp1252")
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        name = encoding.removesuffix("-sig").upper()
        advice = _other_encoding(raw, encoding)
        raise DataError(
            f"{path}:{line}: byte {raw[error.start]:#04x} is not {name}; {advice}"
        ) from None


def _other_encoding(raw: bytes, tried: str) -> str:
    advice = "save the file as UTF-8"
    if encoding_of(raw[:4]) != "utf-8":  # a mark says that it is what it turned out not to be
        return advice
    can_be_named = _encoding in copy_context()
    guess = guess_encoding(raw)
    if guess is None or guess[0] == tried:
        return f"{advice}, or name its encoding with --encoding" if can_be_named else advice
    name, excerpt = guess
    if can_be_named:
        advice += f", or add --encoding {name}"
    return f"it looks like {name} ({printable(excerpt)!r}): {advice}"


def read_text(path: Path) -> str:
    """A text file without its byte order mark.

    Raises:
        DataError: the file is missing, is a folder or a pipe, cannot be read, or is not UTF-8
            (nor UTF-16 or UTF-32 with a byte order mark).
    """
    note_input(path)
    try:
        if not stat.S_ISREG(os.stat(path).st_mode) and not path.is_dir():
            raise DataError(f"{path} is a pipe or a device, expected a file")
        raw = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"no file {path}") from None
    except IsADirectoryError:
        raise DataError(f"{path} is a folder, expected a file") from None
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None
    return decode_text(raw, path)


PairsHook = Callable[[list[tuple[str, Any]]], Any]


def parse_json(text: str, path: Path, first_line: int = 1, hook: PairsHook | None = None) -> Any:
    """The value of a JSON text.

    Args:
        text: The text.
        path: The file that it is from.
        first_line: The line of the file on which the text begins.
        hook: Makes each object of its pairs, as ``json.loads`` takes it.

    Raises:
        DataError: naming ``path:line:column``.
    """
    try:
        return json.loads(text, object_pairs_hook=hook)
    except json.JSONDecodeError as error:
        line = first_line + error.lineno - 1
        raise DataError(f"{path}:{line}:{error.colno}: bad JSON: {error.msg}") from None
    except (ValueError, RecursionError) as error:  # a number of 5,000 digits; 1,000 brackets
        raise DataError(f"{path}:{first_line}: JSON that cannot be read: {error}") from None


def read_json(path: Path) -> Any:
    """The value of a JSON file.

    Raises:
        DataError: as ``read_text`` and ``parse_json``.
    """
    return parse_json(read_text(path), path)


def read_json_object(path: Path) -> dict[str, Any]:
    """The object of a JSON file whose top level must be one.

    Raises:
        DataError: as ``read_json``, or the top level is something else.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        raise DataError(f"{path}: expected a JSON object, found a {type(value).__name__}")
    return value


def json_list(value: dict[str, Any], key: str, path: Path) -> list[Any]:
    """The list under ``key``.

    Raises:
        DataError: it is missing or no list; the keys that are there are named.
    """
    found = value.get(key)
    if isinstance(found, list):
        return found
    keys = ", ".join(printable(name) for name in list(value)[:12]) or "none"
    raise DataError(f"{path}: expected a list {key!r} at the top level; found keys: {keys}")
