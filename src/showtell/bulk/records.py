"""A result as a JSON record, and back: what every output format is made of.

A caption has ``path``, ``caption``, ``confidence`` and more; a failure ``path`` and ``error``.
"""

import hashlib
import json
from typing import Any

from showtell.captioner import Captioner
from showtell.captions import Caption, caption_record
from showtell.config import DecodingConfig
from showtell.data.reading import is_text
from showtell.duplicates import Look
from showtell.streaming import PictureResult

Record = dict[str, Any]


def record_of(result: PictureResult, model: str | None = None) -> Record:
    """The record of a result.

    Args:
        model: what made it, ``model_id``; left out where None.
    """
    if result.caption is None:
        return {"path": str(result.path), "error": result.error}
    record: Record = {"path": str(result.path), **caption_record(result.caption)}
    if result.look is not None:
        record["look"] = result.look.to_text()
    if result.same_as is not None:
        record["same_as"] = str(result.same_as)
    if model is not None:
        record["model"] = model
    return record


def result_of(record: Record) -> PictureResult:
    """The result that a record of a caption was made of, its attention left out.

    Raises:
        KeyError, TypeError, ValueError: it is no such record.
    """
    caption = _heard(record, tuple(_heard(other) for other in record.get("alternatives", ())))
    look = Look.from_text(record["look"]) if "look" in record else None
    return PictureResult(record["path"], caption, None, look, record.get("same_as"))


def to_line(record: Record) -> str:
    """A record as one line of JSON; names that are no text (odd bytes) come as escapes."""
    line = json.dumps(record, ensure_ascii=False)
    return (line if is_text(line) else json.dumps(record)) + "\n"


def model_id(captioner: Captioner, decoding: DecodingConfig) -> str:
    """12 digits that stand for what captions follow from, besides the picture."""
    text = captioner.fingerprint + decoding.model_dump_json()
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _heard(record: Record, alternatives: tuple[Caption, ...] = ()) -> Caption:
    return Caption(
        text=str(record["caption"]),
        words=tuple(record["words"]),
        log_probs=tuple(record["log_probs"]),
        confidence=float(record["confidence"]),
        alternatives=alternatives,
        withheld=record.get("withheld"),
    )
