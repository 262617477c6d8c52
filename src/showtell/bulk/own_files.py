"""Whether a file is one that showtell wrote before, and may replace; other files are a person's.

The first record tells: nothing but showtell names the model in it. A text has nothing of the kind;
each of its lines has to begin with a picture's name.
"""

import csv
import json
import re
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from showtell.bulk.formats import COLUMNS
from showtell.data.pictures import PICTURE_SUFFIXES
from showtell.errors import DataError, MissingExtraError

_SUFFIXES = "|".join(suffix[1:] for suffix in sorted(PICTURE_SUFFIXES))
_NAMED = re.compile(rf".+(\.({_SUFFIXES})|\.parquet/[^ ]+|://[^ ]+): ", re.IGNORECASE)


def refuse_others(path: Path, kind: str) -> None:
    """Raise DataError where ``path`` is there, is not empty, and is not showtell's.

    Args:
        kind: a format of ``formats.FORMATS``, ``json`` or ``failures``.
    """
    if not path.is_file() or not path.stat().st_size:
        return
    try:
        is_ours = _KINDS[kind](path)
    except (ValueError, OSError, EOFError, csv.Error, tarfile.TarError, MissingExtraError):
        is_ours = False
    if not is_ours:
        raise DataError(
            f"{path} is there and is no {kind} that showtell wrote: give another name, or "
            "--overwrite to replace it"
        )


def _is_text(path: Path) -> bool:
    with open(path, encoding="utf-8", errors="surrogateescape") as lines:
        return all(_NAMED.match(line) for line in lines)


def _is_jsonl(path: Path) -> bool:
    with open(path, "rb") as file:
        return _has(json.loads(file.readline()), "path", "caption", "model")


def _is_failures(path: Path) -> bool:
    with open(path, "rb") as file:
        return _has(json.loads(file.readline()), "path", "error")


def _is_csv(path: Path) -> bool:
    with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
        return next(csv.reader(file), None) == list(COLUMNS)


def _is_parquet(path: Path) -> bool:
    try:
        from pyarrow import ArrowException, parquet
    except ModuleNotFoundError:
        raise MissingExtraError("parquet", "a Parquet table") from None
    try:
        return list(parquet.read_schema(path).names) == list(COLUMNS)
    except ArrowException:
        return False


def _is_webdataset(path: Path) -> bool:
    with tarfile.open(path, "r:") as archive:
        caption, record = archive.next(), archive.next()
        if caption is None:  # of a run that captioned nothing
            return True
        content = archive.extractfile(record) if record and record.name.endswith(".json") else None
        return content is not None and _has(json.load(content), "path", "caption", "model")


def _is_json(path: Path) -> bool:
    return _has(json.loads(path.read_bytes()), "captions", "failures")


def _has(value: Any, *keys: str) -> bool:
    return isinstance(value, dict) and set(keys) <= value.keys()


_KINDS: dict[str, Callable[[Path], bool]] = {
    "text": _is_text,
    "jsonl": _is_jsonl,
    "csv": _is_csv,
    "parquet": _is_parquet,
    "webdataset": _is_webdataset,
    "json": _is_json,
    "failures": _is_failures,
}
